"""Read a legacy (pre-zip) torch checkpoint of plain tensors, executing nothing of what it names.

Layout: five pickles (magic, protocol, system info, the object, the list of storage keys), then per
key an int64 count and the raw little-endian data. The unpickler below is a closed world: it knows
ordered dicts, typed storages and strided tensors, and refuses every other name.
"""

import collections
import math
import pickle
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from autoguide_jax import files

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {
    'FloatStorage': np.dtype('<f4'),
    'HalfStorage': np.dtype('<f2'),
    'DoubleStorage': np.dtype('<f8'),
    'LongStorage': np.dtype('<i8'),
    'IntStorage': np.dtype('<i4'),
}

# What the unpickler raises on bytes that are no pickle, or another one than expected.
BROKEN = (
    *(pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError, TypeError),
    *(IndexError, OverflowError, MemoryError),
)


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple
    stride: tuple


def _tensor(storage, offset, shape, stride, *_):
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


class _Unpickler(pickle.Unpickler):
    """Resolves the few names that a state dict of tensors holds."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ('collections', 'OrderedDict'):
            return collections.OrderedDict
        if module == 'torch' and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            return _tensor
        raise pickle.UnpicklingError(f'{module}.{name} has no place in a file of weights')

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != 'storage':
            raise pickle.UnpicklingError(f'not a tensor storage: {pid!r}')
        _, dtype, key, _, count = pid[:5]
        if not isinstance(dtype, np.dtype) or not isinstance(count, int):
            raise pickle.UnpicklingError(f'not a tensor storage: {pid!r}')
        return _Storage(key, dtype, count)


def _array(tensor: _Tensor, data: dict[str, np.ndarray]) -> np.ndarray:
    """Cut a strided tensor out of its storage, never outside of it."""
    storage, offset, shape, stride = tensor
    flat = data[storage.key]
    end = offset + sum((size - 1) * step for size, step in zip(shape, stride)) + 1
    # The count refuses a stride of 0, which would make a small file fill the memory.
    inside = len(shape) == len(stride) and min((offset, *shape, *stride, 0)) >= 0
    inside = inside and end <= flat.size and math.prod(shape) <= flat.size
    if not inside or flat.dtype != storage.dtype:
        raise pickle.UnpicklingError(f'tensor {tensor} does not lie in its storage')
    steps = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps).copy()


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    if (_Unpickler(file).load(), _Unpickler(file).load()) != (MAGIC, PROTOCOL):
        raise pickle.UnpicklingError('not a legacy torch checkpoint')
    _Unpickler(file).load()
    state, keys = _Unpickler(file).load(), _Unpickler(file).load()
    tensors = {k: v for k, v in state.items() if isinstance(v, _Tensor)}
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    data = {}
    position = file.tell()
    size = file.seek(0, 2)
    file.seek(position)
    for key in keys:
        count = int.from_bytes(file.read(8), 'little')
        if key not in storages or storages[key].count != count:
            raise pickle.UnpicklingError(f'storage {key!r} of {count} elements is not announced')
        dtype = storages[key].dtype
        if count * dtype.itemsize > size - file.tell():
            raise pickle.UnpicklingError(f'storage {key!r} is cut short')
        data[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    return {name: _array(tensor, data) for name, tensor in tensors.items()}


def read_state_dict(p: Any) -> dict[str, np.ndarray]:
    """Return name → array of a legacy torch checkpoint.

    Errors: ValueError naming the file for anything that is not one, or that names foreign code.
    """
    with files.path(p).open('rb') as file:
        try:
            return _read(file)
        except BROKEN as error:
            raise ValueError(f'{p} is not a plain torch checkpoint: {error}') from error
