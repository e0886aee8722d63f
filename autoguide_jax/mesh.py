"""The device mesh, [copies, shards]: images are split over both axes, a copy of the state over one.

With one shard every device holds parameters, optimiser state and EMAs whole; with as many shards as
devices there is one copy in all (FSDP). In between, copies stand beside each other, as on several
slices or where the tensors do not divide by all devices. Results are the same but for rounding.
"""

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

COPIES, SHARDS = 'copies', 'shards'
# Smaller tensors stay whole: to fetch them takes longer than their memory is worth.
SMALLEST_SPLIT = 2**12


def make(batch_size, name='train.batch_size', shards=1):
    """The mesh over all devices for batches of batch_size images.

    shards: devices that share one copy of the state; 0 = all of them. On CPU, where devices are
    only threads, the largest number of devices that divides the batch is used.
    Errors: ValueError on other platforms if the devices do not divide the batch; if shards do not
    divide the devices.
    """
    devices = jax.devices()
    if devices[0].platform == 'cpu' and jax.process_count() == 1:
        devices = dividing(batch_size).devices.ravel()
    if batch_size % len(devices):
        raise ValueError(f'{name} ({batch_size}) must be a multiple of {len(devices)} devices')
    return over(devices, shards)


def dividing(count):
    """The mesh over the largest number of this process's devices that divides count."""
    devices = jax.local_devices()
    return over(devices[: max(n for n in range(1, len(devices) + 1) if count % n == 0)])


def over(devices, shards=1):
    """The mesh over these devices, shards next to each other."""
    shards = shards or len(devices)
    if len(devices) % shards:
        fits = [n for n in range(1, len(devices) + 1) if len(devices) % n == 0]
        raise ValueError(
            f'mesh.shards ({shards}) must divide the {len(devices)} devices in use; possible: '
            f'{", ".join(map(str, fits))}'
        )
    shape = len(devices) // shards, shards
    kinds = (AxisType.Auto,) * 2
    return jax.make_mesh(shape, (COPIES, SHARDS), axis_types=kinds, devices=devices)


def replicated(mesh):
    """Sharding of a tensor that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def by_sample(mesh, axis=0):
    """Sharding of a batch: the axis of its samples split over the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, (COPIES, SHARDS)))


def place(mesh, tree):
    """Shardings for a tree of parameters, optimiser state or EMAs over the shards of the mesh.

    Each tensor is split along its largest dimension that the shards divide; small ones, and those
    that have no such dimension, stay whole.
    """
    shards = mesh.shape[SHARDS]
    return jax.tree.map(lambda leaf: NamedSharding(mesh, split(leaf.shape, shards)), tree)


def split(shape, shards):
    """The PartitionSpec of a tensor of this shape."""
    fits = [axis for axis, n in enumerate(shape) if n % shards == 0]
    if shards == 1 or not fits or np.prod(shape) < SMALLEST_SPLIT:
        return PartitionSpec()
    return PartitionSpec(*[None] * max(fits, key=lambda axis: shape[axis]), SHARDS)


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
