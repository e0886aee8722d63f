"""The processes of one program, one on each host: how they connect, agree, and hear of a stop.

Training is one program on all devices: its processes meet in every step. Sampling and sweeping are
not: each process works alone on its own devices and its own share, and they meet at barriers only,
which are kept by the first process and need no device.
"""

import contextlib
import os
import time
import uuid

import jax
import numpy as np
from jax.experimental import multihost_utils

from autoguide_jax import files, stop

STOP = 'autoguide_jax/stop'
WEEK = 7 * 24 * 3600
LEAVE_SECONDS = 10
_counts = {}


def connect(text):
    """Join the other hosts, before JAX looks for devices: 'auto' or 'ADDRESS:PORT,INDEX,COUNT'.

    auto: what the TPU pod or the Slurm job says. Errors: ValueError for any other text, where there
    is no pod, and if the others do not come.
    """
    given = {} if text == 'auto' else _by_hand(text)
    try:
        jax.distributed.initialize(**given)
    except (ValueError, RuntimeError) as error:
        raise ValueError(_explained(text, error)) from error
    if count() > 1:
        stop.share(tell=_tell_stop, heard=_stop_heard)


def _by_hand(text):
    parts = text.split(',')
    numbers = [int(part) for part in parts[1:] if part.isdigit()]
    if len(parts) != 3 or len(numbers) != 2 or not 0 <= numbers[0] < numbers[1]:
        raise ValueError(
            f"--hosts ({text!r}) must be 'auto' or ADDRESS:PORT,INDEX,COUNT: where process 0 runs, "
            'which one this is (from 0), how many there are'
        )
    return {'coordinator_address': parts[0], 'process_id': numbers[0], 'num_processes': numbers[1]}


def _explained(text, error):
    if 'should be defined' in str(error) or 'must be defined' in str(error):
        return (
            '--hosts (auto): this is no TPU pod and no Slurm job. Leave it out on one machine, or '
            'give ADDRESS:PORT,INDEX,COUNT'
        )
    return (
        f'--hosts ({text}): the hosts did not find each other: {str(error).splitlines()[0]}. Was '
        'the command started on every host? Is the port open (JAX_COORDINATOR_PORT sets another)?'
    )


def count():
    """Number of processes."""
    return jax.process_count()


def is_main():
    """True on the one process that writes what all of them share."""
    return jax.process_index() == 0


def share(n, size):
    """Which of n items are this process's, if they go round in groups of size: bool [n]."""
    return np.arange(n) // size % count() == jax.process_index()


def barrier(name, seconds=WEEK):
    """Wait until every process is here. Raises stop.Stopped at a signal, or if one is lost."""
    if count() == 1:
        return
    _counts[name] = _counts.get(name, 0) + 1
    key, doing = f'{name}-{_counts[name]}', f'waiting for the other hosts ({name})'
    try:
        stop.interruptible(lambda: _client().wait_at_barrier(key, int(seconds * 1000)), doing)
    except RuntimeError as error:
        stop.end(f'{doing}, of which one is lost: {str(error).splitlines()[0]}')


@contextlib.contextmanager
def main_first(name):
    """Run the body on the first process, then on the others: what it wrote, they find."""
    if not is_main():
        barrier(name)
    try:
        yield
    finally:
        if is_main():
            barrier(name)


def any_of(flag):
    """Whether the flag is set on any process; every process must ask."""
    if count() == 1:
        return bool(flag)
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def check_shared(folder):
    """Refuse a folder that is not the same one for every process."""
    if count() == 1:
        return
    folder, key = files.path(folder), 'autoguide_jax/shared'
    mark = folder / f'.hosts-{uuid.uuid4().hex[:12]}'
    if is_main():
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(mark, 'one folder for all hosts\n')
        _client().key_value_set(f'{key}-{_counts.get(key, 0)}', mark.name)
    name = _client().blocking_key_value_get(f'{key}-{_counts.get(key, 0)}', 300_000)
    missing = not _appears(folder / name)
    _counts[key] = _counts.get(key, 0) + 1
    missing = any_of(missing)
    if is_main():
        mark.unlink(missing_ok=True)
    if missing:
        raise ValueError(
            f'workdir ({folder}) is not the same folder on all {count()} hosts: give one in a '
            'bucket (gs://…) or on a shared disk'
        )


def _appears(path):
    for _ in range(20):  # shared disks tell of a new file late
        if path.exists():
            return True
        time.sleep(0.5)
    return False


def leave():
    """Let the others end too before this process does: they all need the first."""
    # Asks no device: one may hang.
    if _client() is None or service().num_processes == 1:
        return
    with contextlib.suppress(Exception):
        _client().wait_at_barrier('leave', LEAVE_SECONDS * 1000)
    if service().process_id == 0:
        time.sleep(1)


def service():
    """What connects the processes: .client (None for a single one), .num_processes, .process_id.

    JAX gives it no public name; Orbax reaches for it in the same way.
    """
    from jax._src import distributed

    return distributed.global_state


def _client():
    return service().client


def _tell_stop():
    _client().key_value_set(STOP, f'process {jax.process_index()}, {os.getpid()}', True)


def _stop_heard():
    try:
        return f'a stop of {_client().key_value_try_get(STOP)}'
    except RuntimeError:  # NOT_FOUND
        return None
