"""Tensors as torch serialises them in its legacy stream, without torch.

Five pickles of protocol 2 (magic, protocol, system info, an object, the list of storage keys), then
for each key the number of elements as int64 and the raw little-endian data. A storage in the object
is the persistent id ('storage', torch.HalfStorage, key, location, number of elements, None).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from autoguide_jax.inert.machine import Machine
from autoguide_jax.inert.records import Blob, Name, Refused, is_count, require

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAX_DIMENSIONS = 8
TYPES = {
    'torch.HalfStorage': np.dtype('<f2'), 'torch.FloatStorage': np.dtype('<f4'),
    'torch.DoubleStorage': np.dtype('<f8'), 'torch.LongStorage': np.dtype('<i8'),
    'torch.IntStorage': np.dtype('<i4'),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Announced:
    """What the persistent id says of a storage."""

    dtype: np.dtype
    key: str
    count: int


def _announced(pid, length):
    good = type(pid) is tuple and len(pid) == length
    require(good, 'a persistent id that is no tensor storage')
    word, kind, key, place, count, *view = pid
    known = type(kind) is Name and kind.name in TYPES
    good = known and type(word) is str and word == 'storage' and view in ([], [None])
    good = good and type(key) is type(place) is str and is_count(count)
    require(good, 'a persistent id that is no tensor storage')
    return Announced(TYPES[kind.name], key, count)


def collector(storages: dict[str, Announced], length: int) -> Callable[[Any], Announced]:
    """Return what makes storages of persistent ids of this length, and files them by key.

    Errors: Refused for another id, and for a key that was another storage before.
    """

    def announced(pid):
        found = _announced(pid, length)
        require(storages.setdefault(found.key, found) == found, 'one key for two tensor storages')
        return found

    return announced


def elements_of(data: memoryview, storage: Announced) -> np.ndarray:
    """Return the read-only view [count] of a storage's bytes, of which there are as many."""
    return np.frombuffer(data, storage.dtype) if storage.count else np.zeros(0, storage.dtype)


def read(
    blob: Blob, world: Mapping[str, Name], label: str, budget: list[int] | None = None
) -> tuple[Any, dict[str, np.ndarray]]:
    """Return (object, key → elements) of a stream; elements [count] are read-only views.

    world: the names that may stand in it, those of TYPES among them. budget: opcodes that are left,
    shared with the pickle around it. Errors: Refused, and ValueError naming label and byte, for
    anything else than a stream of exactly the storages that its object has.
    """
    storages = {}
    machine = Machine(blob, world, label, collector(storages, 6), budget, attributes=True)
    magic, protocol, system, found, keys = (machine.load() for _ in range(5))
    good = type(magic) is type(protocol) is int and (magic, protocol) == (MAGIC, PROTOCOL)
    require(good, 'no torch stream: another magic number or protocol')
    little = type(system) is dict and system.get('little_endian') is True
    require(little, 'a torch stream that is not little-endian')
    good = type(keys) is list and all(type(key) is str for key in keys)
    require(good and sorted(keys) == sorted(storages), 'a torch stream of other keys than storages')
    elements = {key: _elements(machine, storages[key]) for key in keys}
    left = len(machine.data) - machine.at
    require(left == 0, f'a torch stream with {left} bytes after its end')
    return found, elements


def _elements(machine, storage):
    count = machine.uint(8)
    require(count == storage.count, f'a storage of {count} elements, {storage.count} announced')
    return elements_of(machine.take(count * storage.dtype.itemsize), storage)


def tensor(flat: Any, arguments: tuple) -> np.ndarray:
    """Return the read-only array of _rebuild_tensor_v2(storage, offset, size, stride, …).

    flat: the elements of the storage. Errors: Refused if the array does not lie within them, or has
    more elements than that.
    """
    require(len(arguments) in (6, 7), f'a tensor of {len(arguments)} arguments')
    require(type(flat) is np.ndarray, 'a tensor without a storage')
    offset, size, stride = arguments[1:4]
    good = type(size) is type(stride) is tuple and len(size) == len(stride) <= MAX_DIMENSIONS
    require(good, 'a tensor whose size and stride do not fit each other')
    good = all(map(is_count, (offset, *size, *stride)))
    require(good, 'a tensor with a negative or odd offset, size or stride')
    count = math.prod(size)
    end = offset + sum((n - 1) * step for n, step in zip(size, stride)) + 1 if count else offset
    # The count refuses a stride of 0, by which a small file could fill the memory.
    if max(end, count) > len(flat):
        raise Refused(f'a tensor of {count} elements that ends at {end} of {len(flat)}')
    if not count:
        return np.zeros(size, flat.dtype)
    steps = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)
