"""The headers of NPY arrays, in a file of their own or as members of an npz."""

import math
from typing import BinaryIO

import numpy as np


def header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return (shape, whether in Fortran order, dtype) from the start of an NPY stream.

    Errors: ValueError for anything else, and for other versions than 1.0 and 2.0.
    """
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f'NPY version {version}; 1.0 and 2.0 are known')


def check_claims(stream: BinaryIO, name: str, size: int) -> None:
    """Raise ValueError for an array of objects, or not of the size that its header claims.

    size: bytes of the stream, which is at its start; name: what errors call it.
    """
    shape, _, dtype = header(stream)
    if dtype.hasobject:
        raise ValueError(f'{name!r} holds objects')
    if math.prod(shape) * dtype.itemsize != size - stream.tell():
        raise ValueError(f'{name!r} is not as long as its shape {shape} says')
