"""The processes of one program, one on each host: how they connect, agree, and hear of a stop.

Training is one program on all devices: its processes meet in every step. Sampling and sweeping are
not: each process works alone on its own devices and its own share. Where processes have to agree,
they exchange words through JAX's coordination service, which asks no device.
"""

import contextlib
import functools
import itertools
import json
import os
import time

import jax
import numpy as np

from autoguide_jax import stop

STOP = 'autoguide_jax/stop'
WEEK = 7 * 24 * 3600
LEAVE_SECONDS = 10
_rounds = itertools.count()


def connect(text):
    """Join the other hosts, before JAX looks for devices: 'auto' or 'ADDRESS:PORT,INDEX,COUNT'.

    auto: what the TPU pod or the Slurm job says. Errors: ValueError for any other text, and where
    there is no pod; stop.Passing if the others do not come.
    """
    given = {} if text == 'auto' else _by_hand(text)
    # It would take SIGTERM for itself; stop.py passes signals on.
    jax.config.update('jax_enable_preemption_service', False)
    try:
        join = lambda: jax.distributed.initialize(**given)
        stop.interruptible(join, 'waiting for the other hosts')
    except ValueError as error:
        raise ValueError(_no_pod(error)) from error
    except RuntimeError as error:
        raise stop.Passing(
            f'--hosts ({text}): the hosts did not find each other: {str(error).splitlines()[0]}. '
            'Was the command started on every host? Is the port open (JAX_COORDINATOR_PORT sets '
            'another)?'
        ) from error
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


def _no_pod(error):
    if 'must be defined' in str(error) or 'should be defined' in str(error):
        return (
            '--hosts (auto): this is no TPU pod and no Slurm job. Leave it out on one machine, or '
            'give ADDRESS:PORT,INDEX,COUNT'
        )
    return f'--hosts: {error}'


def count():
    """Number of connected processes."""
    return service().num_processes if service().client else 1


def index():
    """Which of them this is."""
    return service().process_id


def is_main():
    """True on the one process that writes what all of them share."""
    return index() == 0


def share(n, size):
    """Which of n items are this process's, if they go round in groups of size: bool [n]."""
    return np.arange(n) // size % count() == index()


def gather(value=None, seconds=WEEK):
    """A JSON-able value of every process, as a list in the order of processes, on all of them.

    Errors: stop.Hung that names the processes that do not answer within this time, or are lost.
    """
    if count() == 1:
        return [value]
    key, end = f'autoguide_jax/round/{next(_rounds)}', time.monotonic() + seconds
    service().client.key_value_set(f'{key}/{index()}', json.dumps(value))
    answers, silent = [], []
    for process in range(count()):
        left = int(1e3 * max(end - time.monotonic(), 0.1))
        ask = functools.partial(service().client.blocking_key_value_get, f'{key}/{process}', left)
        try:
            answers.append(stop.interruptible(ask, 'waiting for the other hosts'))
        except RuntimeError:
            silent.append(process)
    if silent:
        names = ', '.join(map(str, silent))
        raise stop.Hung(f'no answer from process {names} of {count()} within {seconds:g} s')
    return [json.loads(answer) for answer in answers]


@contextlib.contextmanager
def main_first(name):
    """Run the body on the first process, then on the others, who find what it wrote.

    Errors: ValueError on the others if it failed on the first.
    """
    if not is_main() and (failed := gather()[0]):
        raise ValueError(f'{name} failed on process 0: {failed}')
    try:
        yield
    except BaseException as error:
        if is_main():
            gather(f'{type(error).__name__}: {error}')
        raise
    if is_main():
        gather()


def find_devices(seconds=300):
    """jax.devices(), which all processes must look for together, before one waits for another.

    Errors: stop.Hung if it takes longer than this.
    """
    late = f'no devices found within {seconds} s: was the command started on every host?'
    return stop.limited(jax.devices, seconds, late, 'looking for devices')


def leave():
    """Let the others end too before this process does: they all need the first."""
    if count() == 1:
        return
    with contextlib.suppress(Exception):
        service().client.wait_at_barrier('leave', LEAVE_SECONDS * 1000)
    if is_main():
        time.sleep(1)


def service():
    """What connects the processes: .client (None for a single one), .num_processes, .process_id.

    JAX gives it no public name; Orbax reaches for it in the same way.
    """
    from jax._src import distributed

    return distributed.global_state


def _tell_stop():
    service().client.key_value_set(STOP, f'process {index()}, {os.getpid()}', True)


def _stop_heard():
    try:
        return f'a stop of {service().client.key_value_try_get(STOP)}'
    except RuntimeError:  # NOT_FOUND
        return None
