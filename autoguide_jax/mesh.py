"""The device mesh, [copies, shards]: images are split over both axes, a copy of the state over one.

With one shard every device holds parameters, optimiser state and EMAs whole; with as many shards as
devices there is one copy in all (FSDP). In between, copies stand beside each other, as where the
tensors do not divide by all devices; slices, between which the network is slow, always hold a copy
each. Results are the same but for rounding.
"""

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

COPIES, SHARDS = 'copies', 'shards'
# Smaller tensors stay whole: to fetch them takes longer than their memory is worth.
SMALLEST_SPLIT = 2**12


def make(batch_size, name='train.batch_size', shards=1):
    """The mesh over all devices of all processes for batches of batch_size images.

    shards: devices that share one copy of the state; 0 = all of a slice. On CPU, where devices are
    only threads, the largest number of devices that divides the batch is used.
    Errors: ValueError on other platforms if the devices do not divide the batch; if shards do not
    divide the devices.
    """
    devices = jax.devices()
    if devices[0].platform == 'cpu' and jax.process_count() == 1:
        devices = _dividing(batch_size)
    if batch_size % len(devices):
        raise ValueError(f'{name} ({batch_size}) must be a multiple of {len(devices)} devices')
    return over(devices, shards)


def own(batch_size, name='sample.batch_size'):
    """The mesh over the devices of this process alone, for batches of batch_size images.

    Errors: ValueError if they do not divide the batch; on CPU fewer are used.
    """
    devices = jax.local_devices()
    if devices[0].platform == 'cpu':
        devices = _dividing(batch_size)
    if batch_size % len(devices):
        raise ValueError(
            f'{name} ({batch_size}) must be a multiple of the {len(devices)} devices of a host'
        )
    return over(devices)


def dividing(count):
    """The mesh over the largest number of this process's devices that divides count."""
    return over(_dividing(count))


def _dividing(count):
    devices = jax.local_devices()
    return devices[: max(n for n in range(1, len(devices) + 1) if count % n == 0)]


def over(devices, shards=1):
    """The mesh over these devices: shards next to each other, never on two slices.

    Errors: ValueError if shards do not divide the devices of a slice.
    """
    kinds = (AxisType.Auto,) * 2
    return Mesh(grid(devices, shards), (COPIES, SHARDS), axis_types=kinds)


def grid(devices, shards=1):
    """The devices as an array [copies, shards]."""
    slices = {}
    for device in devices:
        slices.setdefault(getattr(device, 'slice_index', 0), []).append(device)
    per_slice = min(map(len, slices.values()))
    shards = shards or per_slice
    if per_slice % shards or len(devices) != per_slice * len(slices):
        fits = [n for n in range(1, per_slice + 1) if per_slice % n == 0]
        what = f'{per_slice} devices of a slice' if len(slices) > 1 else f'{per_slice} devices'
        raise ValueError(
            f'mesh.shards ({shards}) must divide the {what} in use; possible: '
            f'{", ".join(map(str, fits))}'
        )
    shape = per_slice // shards, shards
    arrange = lambda of: mesh_utils.create_device_mesh(shape, of, allow_split_physical_axes=True)
    return np.concatenate([arrange(slices[i]) for i in sorted(slices)])


def replicated(mesh):
    """Sharding of a tensor that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def by_sample(mesh, axis=0):
    """Sharding of a batch: the axis of its samples split over the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, (COPIES, SHARDS)))


def each_own(mesh, fn):
    """fn(whole, batch) → batch, for every device on its own samples alone.

    For loops over samples: left to the compiler, they would move each one to all devices.
    """
    own = PartitionSpec((COPIES, SHARDS))
    return jax.shard_map(
        fn, mesh=mesh, in_specs=(PartitionSpec(), own), out_specs=own, check_vma=False
    )


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


def rows(mesh, batch_size):
    """Which images of a global batch this process's devices work on, int64 [n], in their order."""
    parts = by_sample(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.concatenate([np.arange(batch_size)[index] for index in parts])


def put_batch(mesh, batch, axis=0):
    """This process's rows of a batch → global arrays split by sample."""
    sharding = by_sample(mesh, axis)
    own = len(sharding.addressable_devices) / len(sharding.device_set)

    def put(x):
        x = np.asarray(x)
        shape = x.shape[:axis] + (round(x.shape[axis] / own),) + x.shape[axis + 1 :]
        places = sharding.addressable_devices_indices_map(shape)
        parts = np.split(x, len(places), axis)
        arrays = [jax.device_put(part, device) for part, device in zip(parts, places)]
        return jax.make_array_from_single_device_arrays(shape, sharding, arrays)

    return jax.tree.map(put, batch)
