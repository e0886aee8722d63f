"""Two CPU devices, and one cache of compiled programs for all workers."""

import os
import pathlib
import tempfile

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
CACHE = pathlib.Path(tempfile.gettempdir()) / 'autoguide_jax_test_cache'
os.environ.setdefault('AUTOGUIDE_JAX_CACHE', str(CACHE))

import jax  # noqa: E402

jax.config.update('jax_compilation_cache_dir', os.environ['AUTOGUIDE_JAX_CACHE'])
jax.config.update('jax_persistent_cache_min_compile_time_secs', 1.0)
jax.config.update('jax_num_cpu_devices', 2)
