"""The device mesh: images are split over its one axis, parameters are replicated.

Sharding parameters too (FSDP) will be another answer of `place`; nothing else has to know.
"""

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

AXIS = 'data'


def make(batch_size, name='train.batch_size'):
    """One-axis mesh over all devices for batches of batch_size images.

    On CPU, where devices are only threads, the largest number that divides the batch is used.
    Errors: ValueError on other platforms if the devices do not divide the batch.
    """
    devices = jax.devices()
    if devices[0].platform == 'cpu' and jax.process_count() == 1:
        return dividing(batch_size)
    if batch_size % len(devices):
        raise ValueError(f'{name} ({batch_size}) must be a multiple of {len(devices)} devices')
    return over(devices)


def dividing(count):
    """One-axis mesh over the largest number of this process's devices that divides count."""
    devices = jax.local_devices()
    return over(devices[: max(n for n in range(1, len(devices) + 1) if count % n == 0)])


def over(devices):
    """One-axis mesh over these devices."""
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh):
    """Sharding of a tensor that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def by_sample(mesh, axis=0):
    """Sharding of a batch: the axis of its samples split over the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))


def place(mesh, tree, params='replicate'):
    """Shardings for a tree of parameters, optimiser state or EMAs: the seam for FSDP."""
    if params != 'replicate':
        raise ValueError(f'mesh.params ({params}): only replicate exists so far')
    return jax.tree.map(lambda _: replicated(mesh), tree)


def put_batch(mesh, batch, axis=0):
    """This process's part of a batch → global arrays split by sample."""
    sharding = by_sample(mesh, axis)
    put = jax.make_array_from_process_local_data
    return jax.tree.map(lambda x: put(sharding, np.asarray(x)), batch)


def any_process(flag):
    """Whether the flag is set on any process; every process must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def one_process(verb):
    """Refuse to run on several processes what only one can do so far."""
    if jax.process_count() > 1:
        raise ValueError(
            f'{verb} runs on one process so far; this is one of {jax.process_count()}. Start it on '
            'one host; training runs on all'
        )


def is_main_process():
    """True on the one process that writes files."""
    return jax.process_index() == 0
