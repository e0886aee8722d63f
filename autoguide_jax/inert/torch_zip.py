"""Tensors as torch has serialised them since 1.6, in a zip file, without torch.

The entries are stored, not deflated: ROOT/data.pkl is one pickle of protocol 2, ROOT/data/KEY the
raw elements of a storage, ROOT/version a number, ROOT/byteorder 'little' (absent before torch 2.1:
little as well). A storage in the pickle is the persistent id ('storage', torch.HalfStorage, key,
location, number of elements). Other entries do not matter.

Source: https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from autoguide_jax.inert import torch_stream
from autoguide_jax.inert.machine import Machine
from autoguide_jax.inert.records import Blob, Name, require

PICKLE = '/data.pkl'
# Of an entry, before its data: signature, …, crc, sizes, lengths of its name and of what follows.
LOCAL = struct.Struct('<4s22x2H')
MAGIC = b'PK\x03\x04'
ENCRYPTED = 1
# The little texts: version and byteorder.
MAX_TEXT = 64
# What zipfile raises on bytes that are no archive.
BROKEN = (
    zipfile.BadZipFile,
    struct.error,
    NotImplementedError,
    EOFError,
    OverflowError,
    ValueError,
)


def names(data: bytes) -> list[str]:
    """Return the names of a zip file's entries. Errors: Refused if it is none."""
    return [info.filename for info in _entries(data)]


def read(data: bytes, world: Mapping[str, Name], label: str) -> tuple[Any, dict[str, np.ndarray]]:
    """Return (object, key → elements) of a file; elements [count] are read-only views of the data.

    world: the names that may stand in it, those of torch_stream.TYPES among them. Errors: Refused,
    and ValueError naming label and byte, for anything else than a zip of stored and undamaged
    entries with exactly the storages that its object has.
    """
    found = _entries(data)
    entries = {info.filename: info for info in found}
    require(len(entries) == len(found), 'a zip with two entries of one name')
    pickles = [name for name in entries if name.endswith(PICKLE)]
    require(len(pickles) == 1, f'a zip with {len(pickles)} entries …{PICKLE} instead of one')
    root = pickles[0].removesuffix(PICKLE)
    view = memoryview(data)
    _check_texts(view, entries, root)
    blob = _content(view, entries[pickles[0]])
    storages = {}
    machine = Machine(blob, world, label, torch_stream.collector(storages, 5), attributes=True)
    state = machine.load()
    left = len(machine.data) - machine.at
    require(left == 0, f'a pickle with {left} bytes after its end')
    prefix = f'{root}/data/'
    keys = {name.removeprefix(prefix) for name in entries if name.startswith(prefix)}
    require(keys == storages.keys(), 'a zip of other data than the storages of its pickle')
    elements = {key: _elements(view, entries[prefix + key], storages[key]) for key in storages}
    return state, elements


def _entries(data):
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.infolist()
    except BROKEN as error:
        # A ValueError may be of any text; that it is no archive is the point.
        require(False, f'no whole zip file: {error}')


def _check_texts(view, entries, root):
    def text(name):
        info = entries[name]
        require(info.file_size <= MAX_TEXT, f'{name!r} of {info.file_size} bytes')
        return bytes(_content(view, info).view)

    require(f'{root}/version' in entries, f'a zip without {root}/version')
    version = text(f'{root}/version')
    require(version.strip().isdigit(), f'a torch zip of version {version!r}')
    order = text(f'{root}/byteorder') if f'{root}/byteorder' in entries else b'little'
    require(order == b'little', f'a torch zip of byte order {order!r}; only little is read')


def _content(view, info):
    """The bytes of a stored entry, where they lie in the file."""
    name = info.filename
    require(not info.flag_bits & ENCRYPTED, f'{name!r} is encrypted')
    stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
    require(stored, f'{name!r} is compressed; torch stores its entries')
    at = info.header_offset
    require(0 <= at <= len(view) - LOCAL.size, f'{name!r} begins after the end: truncated')
    magic, *lengths = LOCAL.unpack_from(view, at)
    require(magic == MAGIC, f'{name!r} is not where the directory says')
    start = at + LOCAL.size + sum(lengths)
    left = len(view) - start
    require(info.file_size <= left, f'{name!r} of {info.file_size} bytes, {left} are left')
    content = view[start : start + info.file_size]
    require(zlib.crc32(content) == info.CRC, f'{name!r} is damaged: another CRC-32')
    return Blob(content, start)


def _elements(view, info, storage):
    size = storage.count * storage.dtype.itemsize
    require(info.file_size == size, f'a storage of {info.file_size} bytes, {size} announced')
    return torch_stream.elements_of(_content(view, info).view, storage)
