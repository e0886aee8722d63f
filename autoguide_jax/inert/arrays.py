"""NumPy arrays as pickles of protocol 2 to 5 have them: read-only views of the file.

Protocol 2 has bytes as text in latin-1, which is encoded; protocol 5 has a buffer. Types are
little-endian numbers; objects, fields and big-endian numbers are refused.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from autoguide_jax.inert.records import Blob, Name, Record, Refused, described, is_count, require

MAX_DIMENSIONS = 8
DTYPES = {f'{kind}{size}' for kind, sizes in {'f': (2, 4, 8), 'i': (1, 2, 4, 8), 'u': (1,)}.items()
          for size in sizes} | {'b1'}  # fmt: skip
ARRAY, DTYPE = Name('numpy.ndarray'), 'numpy.dtype'
CORES = ('numpy.core', 'numpy._core')


@dataclasses.dataclass
class DType(Record):
    """A numpy dtype: its code, as 'f4'."""

    code: str = ''

    def build(self, state: Any) -> None:
        """Check that it is what the code says, little-endian. Errors: Refused."""
        good = type(state) is tuple and len(state) >= 2 and type(state[1]) is str
        require(good and state[1] in ('<', '|', '='), f'numpy dtype {self.code} of another order')
        rest = [item for item in state[2:5] if item is not None]
        require(not rest, f'numpy dtype {self.code} with fields')
        super().build(state)


@dataclasses.dataclass
class Array(Record):
    """A numpy array: value is a read-only view of the file once it is built."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Take (version, shape, dtype, whether Fortran order, bytes). Errors: Refused."""
        require(type(state) is tuple and len(state) == 5, 'a numpy array of another layout')
        super().build(None)
        self.value = _view(state[4], state[2], state[1], 'F' if state[3] is True else 'C')


def _view(data, dtype, shape, order):
    good = type(shape) is tuple and type(dtype) is DType and type(data) is Blob
    good = good and len(shape) <= MAX_DIMENSIONS
    require(good and all(map(is_count, shape)), 'a numpy array of another layout')
    dtype = np.dtype('<' + dtype.code)
    size = math.prod(shape) * dtype.itemsize
    require(size == len(data.view), f'a numpy array of {size} bytes in {len(data.view)} bytes')
    flat = np.frombuffer(data.view, dtype) if size else np.zeros(0, dtype)
    flat.flags.writeable = False
    return flat.reshape(shape, order=order)


def _array(arguments):
    require(len(arguments) == 3 and arguments[0] is ARRAY, 'a numpy array of another kind')
    return Array()


def _from_buffer(arguments):
    good = len(arguments) == 4 and arguments[3] in ('C', 'F')
    require(good, 'a numpy array of another layout')
    return Array(built=True, value=_view(*arguments))


def _scalar(arguments):
    require(len(arguments) == 2, 'a numpy number of another layout')
    return _view(arguments[1], arguments[0], (), 'C').item()


def _dtype(arguments):
    code = arguments[0] if arguments else None
    require(type(code) is str and code in DTYPES, f'a numpy dtype that is {described(code)}')
    return DType(code=code)


def world() -> dict[str, Name]:
    """The names of arrays, as all protocols but 2 have them, and the records that they make."""
    names = [ARRAY, Name(DTYPE, call=_dtype)]
    names += [Name(f'{core}.multiarray._reconstruct', call=_array) for core in CORES]
    return {name.name: name for name in names}


def wide_world(size: int) -> dict[str, Name]:
    """The world with arrays of buffers, numbers, and bytes as text, at most `size` of them."""
    left = [size]

    def encoded(arguments):
        good = len(arguments) == 2 and type(arguments[0]) is str and arguments[1] == 'latin1'
        require(good, 'bytes of another encoding')
        # The same text may be encoded again and again: a small file could fill the memory.
        left[0] -= len(arguments[0])
        require(left[0] >= 0, 'bytes that are together larger than the file')
        try:
            return Blob(memoryview(arguments[0].encode('latin1')), 0)
        except UnicodeEncodeError:
            raise Refused('bytes that are not latin1') from None

    names = [Name('_codecs.encode', call=encoded)]
    names += [Name(f'{core}.numeric._frombuffer', call=_from_buffer) for core in CORES]
    names += [Name(f'{core}.multiarray.scalar', call=_scalar) for core in CORES]
    return {**world(), **{name.name: name for name in names}}
