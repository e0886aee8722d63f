"""Latents of images: mean and standard deviation of a VAE's posterior, as `encode` writes them."""

import dataclasses
import functools
import io

import numpy as np

from autoguide_jax import files, npy
from autoguide_jax.data import archive, latent_parts
from autoguide_jax.data.folder import Folder

# Enough for the header of an NPY file.
HEADER_BYTES = 512


def shape(name: str, data: bytes) -> tuple[int, int, int]:
    """Return (h, w, 2l) from the first bytes of an NPY file. Errors: ValueError 'NAME is …'."""
    file = io.BytesIO(data)
    try:
        found, _, dtype = npy.header(file)
    except ValueError as error:
        raise ValueError(f'{name} is not an NPY file: {error}') from None
    if dtype != np.float32 or len(found) != 3 or not found[0] or found[0] % 2:
        raise ValueError(
            f'{name} is {dtype} {list(found)}; latents are float32 [2l, h, w], mean before std'
        )
    return found[1], found[2], found[0]


def decode(name: str, data: bytes) -> np.ndarray:
    """Return mean and std of a file, float32 [h,w,2l]. Errors: ValueError 'NAME …'."""
    shape(name, data)
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f'{name} is cut short: {error}') from None
    if not np.isfinite(array).all():
        raise ValueError(f'{name} is damaged: it holds numbers that are not finite')
    if (array[len(array) // 2 :] < 0).any():
        raise ValueError(f'{name} holds deviations below 0: the second half of its channels')
    return np.moveaxis(array, 0, -1)


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Latents(Folder):
    """Mean and std of VAE latents, float32 [n,h,w,2l]: what `encode` wrote, or a set of EDM2.

    The latter is a folder or an uncompressed zip of NPY files, float32 [2l, h, w], with the labels
    in dataset.json or as subfolders. channels counts the l channels of a latent, of which training
    draws one from each mean and std.

    Settings:
      path: the folder (also gs://…) that `encode` wrote, or a folder or zip of NPY files
    """

    holds, dtype, suffixes = 'latents', np.float32, ('.npy',)

    @functools.cached_property
    def _store(self):
        root = files.path(self.path)
        if (root / latent_parts.MANIFEST).exists():
            manifest = files.read_json(root / latent_parts.MANIFEST)
            if manifest.get('format') == latent_parts.FORMAT:
                return latent_parts.PartStore(root, manifest)
        return archive.open_store(self.path)

    def _header(self, name):
        return shape(name, self._store.read(name, HEADER_BYTES))

    def _decode(self, name):
        return decode(name, self._store.read(name))

    def _text(self, h, w, c):
        return f'{w}x{h} of {c / 2:g} channels'

    @property
    def channels(self) -> int:
        return self._shape[2] // 2

    @property
    def _sample_shape(self):
        return self._shape
