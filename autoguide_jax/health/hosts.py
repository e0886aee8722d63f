"""What hosts can only find out together. Each step has a limit of time, so no hang is silent.

Hosts exchange words through JAX's coordination service, which needs no device: they can still
compare what they are when a device, or the network between devices, hangs.
"""

import socket
import time

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax import mesh, processes, stop
from autoguide_jax.health.environment import likely_causes
from autoguide_jax.health.finding import Finding, fault, fine, fold, warning
from autoguide_jax.processes import count, index

SECONDS = 120  # for what devices of all hosts do together
WAIT = 300  # for a host that still does, or gives up, what another one has done
ROUNDS = 5  # of the comparison of clocks
LATE, FAR = 1.0, 60.0  # seconds between clocks: rows out of order; signed requests refused


def gather(value, seconds=WAIT):
    """processes.gather, whose error names likely causes."""
    try:
        return processes.gather(value, seconds)
    except stop.Hung as error:
        raise stop.Hung(f'{error}. {likely_causes()}') from error


def table(found):
    """The rows of the Findings of all hosts; every process has to call it."""
    everything = gather([socket.gethostname(), found])
    names = [name for name, _ in everything]
    return fold([[Finding(*values) for values in own] for _, own in everything], names)


def check_devices():
    """The devices of all hosts, seen from this one."""
    first, local = jax.devices()[0], jax.local_device_count()
    here = f', {local} of them here' if count() > 1 else ''
    return fine('devices', f'{jax.device_count()} × {first.device_kind}{here}', same=True)


def check_sum(seconds=SECONDS):
    """Whether a sum over all devices, 1 + 2 + … + n, is right.

    Errors: stop.Hung if it takes longer than this.
    """
    n, every = jax.device_count(), mesh.over(jax.devices())
    numbers, split = np.arange(1, n + 1, dtype=np.float32), mesh.by_sample(every)

    def add():
        here = jax.make_array_from_callback((n,), split, lambda place: numbers[place])
        return float(jax.jit(jnp.sum, out_shardings=mesh.replicated(every))(here))

    late = f'no sum over {n} devices within {seconds} s'
    found, expected = stop.limited(add, seconds, late, 'adding over all devices'), n * (n + 1) / 2
    text = f'sum over {n} devices is {found:g}'
    if found == expected:
        return fine('collective', text)
    return fault('collective', f'{text}, not {expected:g}', 'exchange the faulty host or chip')


def check_clock():
    """How far this host's clock is from that of process 0, both read as they leave a barrier."""
    if count() == 1:
        return fine('clock', time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime()))
    times = []
    for _ in range(ROUNDS):
        gather(None)
        times.append(time.time())
    away = np.array(gather(times))
    away = away[index()] - away[0]
    # How unevenly hosts leave the barrier, from round to round, is how exact the reading is.
    return judge_clock(float(np.median(away)), float(np.ptp(away)))


def judge_clock(offset, spread):
    """The Finding for a clock that is `offset` seconds off, read to ± spread."""
    text = f'{{}} s from process 0 (read to ± {spread:.1g} s)'
    mend = 'sudo timedatectl set-ntp true (or restart chrony)'
    if abs(offset) > FAR:
        return fault('clock', text, mend, amount=round(offset, 3))
    if abs(offset) > LATE + spread:
        return warning('clock', text, mend, amount=round(offset, 3))
    return fine('clock', '{} s from process 0', amount=round(offset, 4))
