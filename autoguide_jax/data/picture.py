"""PNG, JPEG and NPY files as uint8 [h,w,c]: what shape a file has, and its pixels."""

import io
import struct

import numpy as np

from autoguide_jax import npy

SUFFIXES = ('.png', '.jpg', '.jpeg', '.npy')
# Enough for the headers of PNG and NPY; those of JPEG may stand anywhere.
HEADER_BYTES = 512

_PNG_KINDS = {0: 'grey', 2: 'RGB', 3: 'palette', 4: 'grey with alpha', 6: 'RGB with alpha'}
_MODES = {'L': 1, 'RGB': 3}


def header_limit(name: str) -> int:
    """Return how many bytes of a file shape() needs, −1 for all."""
    return HEADER_BYTES if name.lower().endswith(('.png', '.npy')) else -1


def _png_shape(data):
    if data[:8] != b'\x89PNG\r\n\x1a\n' or data[12:16] != b'IHDR' or len(data) < 26:
        raise ValueError('is not a PNG file')
    width, height, depth, kind = struct.unpack('>IIBB', data[16:26])
    if depth != 8 or kind not in (0, 2):
        what = f'{depth}-bit {_PNG_KINDS.get(kind, "unknown")}'
        raise ValueError(f'is a {what} PNG; convert it to 8-bit grey or RGB')
    return height, width, 1 if kind == 0 else 3


def _npy_shape(data):
    file = io.BytesIO(data)
    try:
        shape, _, dtype = npy.header(file)
    except ValueError as error:
        raise ValueError(f'is not an NPY file: {error}') from None
    if dtype != np.uint8 or len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f'is {dtype} {list(shape)}; an NPY image is uint8 [c, h, w] with 1 or 3 '
            'channels (latents are read by data.name=latents)'
        )
    return shape[1], shape[2], shape[0]


def _open(data):
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError) as error:
        # Pillow's words for the bytes it was given are an address in memory.
        said = 'unknown format' if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f'cannot be read as an image: {said}') from None


def _pil_shape(data):
    with _open(data) as image:
        if image.mode not in _MODES:
            raise ValueError(f'has colour mode {image.mode}; convert it to grey or RGB')
        return image.height, image.width, _MODES[image.mode]


def shape(name: str, data: bytes) -> tuple[int, int, int]:
    """Return (h, w, c) from the first header_limit(name) bytes of a file.

    Errors: ValueError 'NAME is …' for what is neither 8-bit grey nor RGB.
    """
    kind = name.lower().rsplit('.', 1)[-1]
    try:
        return {'png': _png_shape, 'npy': _npy_shape}.get(kind, _pil_shape)(data)
    except ValueError as error:
        raise ValueError(f'{name} {error}') from None


def _npy_pixels(data):
    try:
        return np.moveaxis(np.load(io.BytesIO(data), allow_pickle=False), 0, -1)
    except (ValueError, EOFError) as error:
        raise ValueError(f'is cut short: {error}') from None


def _pil_pixels(data, size):
    with _open(data) as image:
        try:
            return np.asarray(image).reshape(size)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f'cannot be read as an image: {error}') from None


def decode(name: str, data: bytes) -> np.ndarray:
    """Return the pixels of a file, uint8 [h,w,c]. Errors: ValueError 'NAME …' as shape."""
    size = shape(name, data)
    try:
        return _npy_pixels(data) if name.lower().endswith('.npy') else _pil_pixels(data, size)
    except ValueError as error:
        raise ValueError(f'{name} {error}') from None
