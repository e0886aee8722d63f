"""Flat state dicts, name → array, as .npz or .safetensors, on a disk or in a bucket.

Names, types and values come back as they were written. Nothing in such a file is code.
"""

import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from autoguide_jax import buckets, files

SUFFIXES = ('.npz', '.safetensors')
CODES = {
    **{np.dtype(f'<{kind}{size}'): f'{letter}{8 * size}'
       for kind, letter, sizes in (('f', 'F', (2, 4, 8)), ('i', 'I', (1, 2, 4, 8)),
                                   ('u', 'U', (1, 2, 4, 8))) for size in sizes},
    np.dtype(bool): 'BOOL', np.dtype('<c8'): 'C64',
}  # fmt: skip
MAX_HEADER = 100_000_000  # bytes that the safetensors format allows
# What the libraries raise on bytes that are not theirs. MemoryError: a size that is a lie.
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, safetensors.SafetensorError, EOFError, ValueError),
    *(KeyError, TypeError, NotImplementedError, MemoryError, OverflowError, RecursionError),
)


def suffix_of(p: Any) -> str:
    """Return '.npz' or '.safetensors'. Errors: ValueError naming the file for another one."""
    suffix = os.path.splitext(os.fspath(p))[1]
    if suffix not in SUFFIXES:
        raise ValueError(f'{p}: the name must end with {" or ".join(SUFFIXES)}')
    return suffix


def read(p: Any) -> dict[str, np.ndarray]:
    """Return all arrays of a file by name, in the types of the file.

    Errors: FileNotFoundError; ValueError naming the file if it is damaged, truncated, of another
    format, or holds what is no plain array (objects).
    """
    suffix = suffix_of(p)
    try:
        if suffix == '.npz':
            return _read_npz(p)
        with buckets.on_disk(files.path(p)) as local:
            return safetensors.numpy.load_file(local)
    except BROKEN as error:
        raise ValueError(
            f'{p} is damaged, or no {suffix[1:]} file of plain arrays: {error}'
        ) from error


def _read_npz(p):
    """Read every member; what one claims to be is compared with its bytes before it is read."""
    found = {}
    with files.path(p).open('rb') as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix('.npy')
            if name == info.filename or name in found:
                raise ValueError(f'{info.filename!r} is no array, or there twice')
            with archive.open(info) as stream:
                version = np.lib.format.read_magic(stream)
                shape, _, dtype = _header(stream, version)
                if dtype.hasobject:
                    raise ValueError(f'{name!r} holds objects')
                if math.prod(shape) * dtype.itemsize != info.file_size - stream.tell():
                    raise ValueError(f'{name!r} is not as long as its shape {shape} says')
                stream.seek(0)
                found[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return found


def _header(stream, version):
    readers = {(1, 0): 'read_array_header_1_0', (2, 0): 'read_array_header_2_0'}
    if version not in readers:
        raise ValueError(f'arrays of format {version}')
    return getattr(np.lib.format, readers[version])(stream)


def write(p: Any, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays to a .npz or .safetensors file, atomically; equal arrays give equal bytes.

    metadata: texts for the header of a safetensors file, which `read_metadata` returns; npz has
    no place for them. Errors: ValueError for types that the format cannot hold.
    """
    if suffix_of(p) == '.npz':
        files.save_npz(p, arrays)
        return
    # The order that the format's own library has: the widest type first keeps all aligned.
    arrays = {name: np.asarray(arrays[name], order='C') for name in sorted(arrays)}
    arrays = dict(sorted(arrays.items(), key=lambda pair: -pair[1].itemsize))
    header, end = {'__metadata__': dict(metadata)} if metadata else {}, 0
    for name, array in arrays.items():
        if name == '__metadata__' or array.dtype.newbyteorder('<') not in CODES:
            raise ValueError(f'{p}: safetensors cannot hold {name!r} of type {array.dtype}')
        start, end = end, end + array.nbytes
        code = CODES[array.dtype.newbyteorder('<')]
        header[name] = {'dtype': code, 'shape': array.shape, 'data_offsets': [start, end]}
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    with files.writing(p) as file:
        file.write(len(text).to_bytes(8, 'little') + text)
        for array in arrays.values():
            little = array.astype(array.dtype.newbyteorder('<'), copy=False)
            file.write(little.reshape(-1).view(np.uint8))


def read_metadata(p: Any) -> dict[str, str]:
    """Return the texts in the header of a safetensors file, {} for npz. Errors: as of `read`."""
    if suffix_of(p) == '.npz':
        return {}
    with files.path(p).open('rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        try:
            if length > MAX_HEADER:
                raise ValueError(f'a header of {length} bytes')
            return dict(json.loads(file.read(length)).get('__metadata__', {}))
        except (*BROKEN, AttributeError) as error:
            raise ValueError(f'{p} is damaged, or no safetensors file: {error}') from error
