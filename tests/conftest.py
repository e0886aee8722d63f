"""Two CPU devices, and one cache of compiled programs for all workers."""

import os
import pathlib
import tempfile

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
CACHE = pathlib.Path(tempfile.gettempdir()) / 'autoguide_jax_test_cache'
os.environ.setdefault('AUTOGUIDE_JAX_CACHE', str(CACHE))
# Most of what tests compile takes less than the second from which on programs are kept.
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.02')
# XLA ends the process where a device waits 40 s for another one, as it may on a busy machine.
patience = '--xla_cpu_collective_call_terminate_timeout_seconds=600'
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {patience}'.strip()

import jax  # noqa: E402

jax.config.update('jax_compilation_cache_dir', os.environ['AUTOGUIDE_JAX_CACHE'])
jax.config.update('jax_num_cpu_devices', 2)

# Begun first: at the end one worker would be alone with them.
LONGEST = {
    'test_soak.py', 'test_hosts.py', 'test_resume.py', 'test_gcs_train.py', 'test_disks.py',
    'test_toy_study.py', 'test_train_step.py', 'test_study.py',
}  # fmt: skip


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)
