"""Flat state dicts, name → array, as .npz or .safetensors, on a disk or in a bucket.

Names, types and values come back as they were written. Nothing in such a file is code.
"""

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from autoguide_jax import buckets, files, npy

SUFFIXES = ('.npz', '.safetensors')
CODES = {
    **{np.dtype(f'<{kind}{size}'): f'{letter}{8 * size}'
       for kind, letter, sizes in (('f', 'F', (2, 4, 8)), ('i', 'I', (1, 2, 4, 8)),
                                   ('u', 'U', (1, 2, 4, 8))) for size in sizes},
    np.dtype(bool): 'BOOL', np.dtype('<c8'): 'C64',
}  # fmt: skip
MAX_HEADER = 100_000_000  # bytes that the safetensors format allows
METADATA = '__metadata__'  # where a file has its texts: JSON, in npz as an array of bytes
# What an npz may unpack to, in bytes of the file and above: weights hardly compress.
MAX_RATIO, MAX_MORE = 16, 64 * 2**20
# What the libraries raise on bytes that are not theirs. MemoryError: a size that is a lie;
# RuntimeError: what is encrypted.
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, safetensors.SafetensorError, EOFError, ValueError),
    *(KeyError, TypeError, NotImplementedError, MemoryError, OverflowError, RuntimeError),
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
    with _naming(p, suffix):
        if suffix == '.npz':
            with files.path(p).open('rb') as file:
                return _npz_arrays(file)
        with buckets.on_disk(files.path(p)) as local:
            return safetensors.numpy.load_file(local)


def parse(data: bytes, suffix: str, label: Any) -> dict[str, np.ndarray]:
    """Return all arrays of the bytes of a file, as `read`; label: what errors call it."""
    with _naming(label, suffix):
        if suffix == '.npz':
            return _npz_arrays(io.BytesIO(data))
        return safetensors.numpy.load(data)


@contextlib.contextmanager
def _naming(label, suffix):
    try:
        yield
    except BROKEN as error:
        raise ValueError(
            f'{label} is damaged, or no {suffix[1:]} file of plain arrays: {error}'
        ) from error


def _npz_arrays(file):
    found = _read_npz(file)
    found.pop(METADATA, None)
    return found


def _read_npz(file, only=None):
    """Read the members, or one; what all claim to be is checked before the first is read."""
    with zipfile.ZipFile(file) as archive:
        limit = MAX_RATIO * file.seek(0, os.SEEK_END) + MAX_MORE
        if (total := sum(info.file_size for info in archive.infolist())) > limit:
            raise ValueError(f'it would unpack to {total} bytes, more than {limit}')
        members = {}
        for info in archive.infolist():
            name = info.filename.removesuffix('.npy')
            if name == info.filename or name in members:
                raise ValueError(f'{info.filename!r} is no array, or there twice')
            members[name] = info
            with archive.open(info) as stream:
                npy.check_claims(stream, name, info.file_size)
        found = {}
        for name in members if only is None else members.keys() & {only}:
            with archive.open(members[name]) as stream:
                found[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return found


def write(p: Any, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays to a .npz or .safetensors file, atomically; equal arrays give equal bytes.

    metadata: texts that `read_metadata` returns; npz has them as an array of bytes, __metadata__.
    Errors: ValueError for types that the format cannot hold, or an array of that name.
    """
    if METADATA in arrays:
        raise ValueError(f'{p}: {METADATA!r} is where the metadata is, and no name of an array')
    if suffix_of(p) == '.npz':
        text = json.dumps(dict(metadata or {})).encode()
        header = {METADATA: np.frombuffer(text, np.uint8)} if metadata else {}
        files.save_npz(p, {**header, **arrays})
        return
    # The order that the format's own library has: the widest type first keeps all aligned.
    arrays = {name: np.asarray(arrays[name], order='C') for name in sorted(arrays)}
    arrays = dict(sorted(arrays.items(), key=lambda pair: -pair[1].itemsize))
    header, end = {METADATA: dict(metadata)} if metadata else {}, 0
    for name, array in arrays.items():
        if array.dtype.newbyteorder('<') not in CODES:
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
    """Return the texts that were written with a file, {} for none. Errors: as of `read`."""
    suffix = suffix_of(p)
    try:
        texts = _npz_texts(p) if suffix == '.npz' else _safetensors_texts(p)
        if not isinstance(texts, dict) or not all(isinstance(t, str) for t in texts.values()):
            raise ValueError('metadata that are no texts')
        return texts
    except (*BROKEN, AttributeError) as error:
        raise ValueError(f'{p} is damaged, or no {suffix[1:]} file: {error}') from error


def _npz_texts(p):
    with files.path(p).open('rb') as file:
        found = _read_npz(file, METADATA)
    return json.loads(found[METADATA].tobytes()) if found else {}


def _safetensors_texts(p):
    with files.path(p).open('rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        if length > MAX_HEADER:
            raise ValueError(f'a header of {length} bytes')
        return json.loads(file.read(length)).get(METADATA, {})
