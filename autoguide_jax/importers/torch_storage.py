"""Tensor storages as torch serialises them inside pickles: its legacy stream, without torch.

Five pickles of protocol 2 (magic, protocol, system info, the object, the list of storage keys), the
number of elements as int64, the raw little-endian data. The object is the persistent id
('storage', torch.HalfStorage, key, location, number of elements, None).
"""

import dataclasses
import math
from typing import Any

import numpy as np

from autoguide_jax.importers.inert import Blob, Name, Refused, is_count, require
from autoguide_jax.importers.machine import Machine

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAX_DIMENSIONS = 8
TYPES = {'torch.HalfStorage': np.dtype('<f2'), 'torch.FloatStorage': np.dtype('<f4')}
WORLD = {name: Name(name) for name in TYPES}


@dataclasses.dataclass(frozen=True)
class Storage:
    """Elements of one type: a read-only view [count] of the file."""

    elements: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Announced:
    """What the persistent id says of a storage."""

    dtype: np.dtype
    key: str
    count: int


def _announced(pid):
    require(type(pid) is tuple and len(pid) == 6, 'a persistent id that is no tensor storage')
    word, kind, key, place, count, view = pid
    known = type(kind) is Name and kind.name in TYPES
    good = known and type(word) is str and word == 'storage' and view is None
    good = good and type(key) is type(place) is str and is_count(count)
    require(good, 'a persistent id that is no tensor storage')
    return _Announced(TYPES[kind.name], key, count)


def read(blob: Any, label: str, budget: list[int]) -> Storage:
    """Return the storage of a legacy stream.

    budget: opcodes that are left, shared with the pickle around it. Errors: Refused, and
    ValueError naming file and byte, for anything else than one storage of exactly the size it says.
    """
    require(type(blob) is Blob, 'a tensor storage that is not of bytes')
    machine = Machine(blob, WORLD, label, _announced, budget)
    magic, protocol, system, found, keys = (machine.load() for _ in range(5))
    good = type(magic) is type(protocol) is int and (magic, protocol) == (MAGIC, PROTOCOL)
    require(good, 'no torch storage: another magic number or protocol')
    little = type(system) is dict and system.get('little_endian') is True
    require(little, 'a torch storage that is not little-endian')
    require(type(found) is _Announced, 'a torch stream without a storage')
    good = type(keys) is list and len(keys) == 1 and type(keys[0]) is str and keys[0] == found.key
    require(good, f'a torch stream whose keys are not those of its storage {found.key[:80]!r}')
    count = machine.uint(8)
    require(count == found.count, f'a storage of {count} elements, {found.count} announced')
    left, size = len(blob.view) - machine.at, count * found.dtype.itemsize
    require(size == left, f'a storage of {size} bytes in {left} bytes')
    data = machine.take(size)
    return Storage(np.frombuffer(data, found.dtype) if count else np.zeros(0, found.dtype))


def tensor(arguments: tuple) -> np.ndarray:
    """Return the read-only array of _rebuild_tensor_v2(storage, offset, size, stride, …).

    Errors: Refused if it does not lie within its storage, or has more elements than that.
    """
    require(len(arguments) in (6, 7), f'a tensor of {len(arguments)} arguments')
    storage, offset, size, stride = arguments[:4]
    require(type(storage) is Storage, 'a tensor without a storage')
    good = type(size) is type(stride) is tuple and len(size) == len(stride) <= MAX_DIMENSIONS
    require(good, 'a tensor whose size and stride do not fit each other')
    good = all(map(is_count, (offset, *size, *stride)))
    require(good, 'a tensor with a negative or odd offset, size or stride')
    flat, count = storage.elements, math.prod(size)
    end = offset + sum((n - 1) * step for n, step in zip(size, stride)) + 1 if count else offset
    # The count refuses a stride of 0, by which a small file could fill the memory.
    if max(end, count) > len(flat):
        raise Refused(f'a tensor of {count} elements that ends at {end} of {len(flat)}')
    if not count:
        return np.zeros(size, flat.dtype)
    steps = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)
