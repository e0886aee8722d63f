"""What all data sets share: the labels switch, the fixed subset, the cache, identity, pickling."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int32, UInt8

from autoguide_jax import files
from autoguide_jax.data.order import permutation


class _Labels:
    """The field `labels`: set as a bool (use them or hide them), read as the array or None.

    A descriptor-typed field (see the dataclasses manual); an array also counts as 'use them', so
    that dataclasses.replace works.
    """

    def __get__(self, dataset, owner=None):
        return True if dataset is None else dataset._label_array

    def __set__(self, dataset, value):
        dataset.__dict__['labelled'] = not (value is None or value is False)


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ImageSet:
    """Images by index. Equality is identity; pickling reopens the set from its settings.

    Members give name, resolution, channels, _total(), _total_classes(), _total_labels(),
    _read(rows) → (uint8 [k,h,w,c], int32 [k]) and _identity(); what they refuse, they refuse when
    made. labels is given as a bool and read as int32 [num_images] or None.

    A set of what is no image says what it `holds`, its dtype and _sample_shape.

    Settings:
      labels: use the class labels; False hides them (num_classes 0, an unconditional set)
      max_images: use only that many images, a fixed random subset (0 = all)
    """

    labels: bool = _Labels()
    max_images: int = 0

    holds, dtype = 'images', np.uint8

    @property
    def _sample_shape(self):
        return self.resolution, self.resolution, self.channels

    def __post_init__(self):
        total = self._total()
        if not 0 <= self.max_images <= total:
            raise ValueError(
                f'max_images ({self.max_images}) must be in 0…{total}, the images in {self.name}; '
                '0 = all'
            )

    @property
    def num_images(self) -> int:
        return self.max_images or self._total()

    @property
    def num_classes(self) -> int:
        return self._total_classes() if self.labelled else 0

    @functools.cached_property
    def _subset(self):
        return permutation(0, 0, self._total())[: self.max_images] if self.max_images else None

    @functools.cached_property
    def _label_array(self):
        if not self.labelled:
            return None
        labels = self._total_labels()
        labels = np.array(labels if self._subset is None else labels[self._subset], np.int32)
        labels.setflags(write=False)
        return labels

    @functools.cached_property
    def fingerprint(self) -> str:
        """12 hex digits: the images (or their listing), the subset, and whether labels are used."""
        return files.content_hash([self._identity(), self.num_images, self.labelled])

    def examples(self, indices) -> tuple[UInt8[np.ndarray, 'k h w c'], Int32[np.ndarray, ' k']]:
        """Return images and labels, −1 where there is none, without reading other labels.

        Errors: IndexError for indices outside 0…num_images−1; ValueError for an unfit image.
        """
        indices = np.asarray(indices, np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < self.num_images:
            raise IndexError(
                f'indices must be in 0…{self.num_images - 1}, the images in {self.name}'
            )
        images, labels = self._fetch(indices)
        return images, labels if self.labelled else np.full(len(indices), -1, np.int32)

    def images(self, indices) -> UInt8[np.ndarray, 'k h w c']:
        """Return images by index. Errors: as examples."""
        return self.examples(indices)[0]

    def _fetch(self, indices):
        return self._read(indices if self._subset is None else self._subset[indices])

    def describe(self) -> dict:
        """Return what tells this set from others, without paths: the same on any machine."""
        names = 'name', 'num_images', 'resolution', 'channels', 'num_classes', 'fingerprint'
        return {name: getattr(self, name) for name in names}

    def __repr__(self):
        size = f'{self.resolution}x{self.resolution}x{self.channels}'
        return f'{type(self).__name__}({self.name}: {self.num_images} images {size})'

    def __reduce__(self):
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        settings['labels'] = self.labelled
        return functools.partial(type(self), **settings), ()


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DecodedSet(ImageSet):
    """Images that have to be decoded; a set that fits into the cache is decoded once.

    Settings:
      cache_mib: keep decoded images in memory if the whole set takes at most this many MiB
    """

    cache_mib: int = 512

    @functools.cached_property
    def _cache(self):
        """Arrays (filled, images, labels), or None for a set that is too large to keep."""
        shape = (self.num_images, *self._sample_shape)
        size = np.prod(shape, dtype=np.float64) * np.dtype(self.dtype).itemsize
        if size > self.cache_mib * 2**20:
            return None
        # Untouched pages of np.empty cost nothing, so a set that is never read takes no memory.
        count = self.num_images
        return np.zeros(count, bool), np.empty(shape, self.dtype), np.empty(count, np.int32)

    def _fetch(self, indices):
        if self._cache is None:
            return super()._fetch(indices)
        filled, images, labels = self._cache
        wanted = np.unique(indices[~filled[indices]])
        if wanted.size:
            # Two threads may fill the same row, with the same content; filled comes last.
            images[wanted], labels[wanted] = super()._fetch(wanted)
            filled[wanted] = True
        return images[indices], labels[indices]

    def _sample(self):
        """Return the bytes of up to 16 images over the whole set, for the fingerprint."""
        rows = np.unique(np.linspace(0, self._total() - 1, 16).astype(np.int64))
        return self._read(rows)[0].tobytes()
