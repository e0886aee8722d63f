"""Images without a manifest, made by anything: a folder, a zip or an npz, local or gs://.

Labels: 'labels' of a dataset.json beside the images, as [[name, label], …]; arr_1 or labels in an
npz. Subfolders are not classes here: sample folders of 1000 images would look like them.
"""

import functools
import hashlib
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from autoguide_jax import files, stop
from autoguide_jax.data import archive, picture
from autoguide_jax.sample_sets import is_set, open_npz_images, open_set

INDEX = 'dataset.json'
THREADS = 16


def open_samples(p: Any):
    """Return the images at a path: num_images, image_shape, labels, content_hash; images(rows), or
    batches(size, start) where they are read from the start.

    Errors: ValueError or FileNotFoundError for an incomplete sample set, no images, other files.
    """
    return open_set(p) if is_set(p) else open_images(p)


def open_images(p: Any):
    """Return the images at a path: num_images, image_shape, labels, content_hash; images(rows), or
    batches(size, start) where they are read from the start.

    Errors: FileNotFoundError; ValueError for no images, or labels that do not fit.
    """
    p = files.path(p)
    if not p.exists():
        raise FileNotFoundError(f'samples ({p}): there is nothing')
    if not p.is_dir() and p.suffix not in ('.zip', '.npz'):
        raise ValueError(f'samples ({p}) must be a folder, .zip or .npz of images')
    return NpzImages(p) if p.suffix == '.npz' else StoredImages(p)


class StoredImages:
    """PNG, JPEG and NPY files of a folder or zip, by name."""

    def __init__(self, p):
        self.path, self._store = p, archive.open_store(p)
        self.names = [n for n in self._store.names if n.lower().endswith(picture.SUFFIXES)]
        if not self.names:
            raise ValueError(f'samples ({p}): there are no images (.png, .jpg, .jpeg, .npy) in it')
        first = self.names[0]
        header = self._store.read(first, picture.header_limit(first))
        self.image_shape = picture.shape(first, header)
        self.num_images, self.manifest = len(self.names), {}
        self.labels = self._find_labels()

    def _find_labels(self):
        if INDEX not in self._store.names:
            return None
        try:
            index = json.loads(self._store.read(INDEX))
            if not isinstance(index, dict) or index.get('labels') is None:
                return None
            given = dict(index['labels'])
            if missing := [name for name in self.names if name not in given]:
                known = len(self.names) - len(missing)
                raise ValueError(
                    f'labels {known} of {len(self.names)} images; without a label: {missing[0]}'
                )
            labels = np.array([given[name] for name in self.names])
            if labels.ndim != 1 or labels.dtype.kind not in 'iu':
                raise ValueError(f'labels must be whole numbers, one per image, not {labels[0]!r}')
            return labels.astype(np.int32)
        except (ValueError, TypeError) as error:
            raise ValueError(f'samples ({self.path}): {INDEX}: {error}') from error

    @functools.cached_property
    def content_hash(self) -> str:
        """12 hex digits of names, contents and labels; a folder is read through for it."""
        labels = None if self.labels is None else self.labels.tolist()
        if isinstance(self._store, archive.ZipStore):
            return files.content_hash([self._store.signature(self.names), self.names, labels])
        everything = hashlib.sha256()
        for name, data in self._contents():
            everything.update(f'{name}\0{len(data)}\0'.encode() + hashlib.sha256(data).digest())
        return files.content_hash([everything.hexdigest(), labels])

    def _contents(self):
        """Yield (name, bytes) in order, some read ahead."""
        with ThreadPoolExecutor(THREADS, 'images') as pool:
            for names in _chunks(self.names, 8 * THREADS):
                stop.check('reading images')
                yield from zip(names, pool.map(self._store.read, names))

    def _decode(self, name):
        image = picture.decode(name, self._store.read(name))
        if image.shape != self.image_shape:
            raise ValueError(
                f'samples ({self.path}): {name} is {image.shape}, {self.names[0]} is '
                f'{self.image_shape} (height, width, channels); images must have one size'
            )
        return image

    def images(self, rows) -> np.ndarray:
        """Return images by their place in the names, uint8 [n, h, w, c]."""
        return np.stack([self._decode(self.names[row]) for row in rows])


class NpzImages:
    """One uint8 array [n, h, w, c] of an npz, arr_0 or images; labels are arr_1 or labels."""

    def __init__(self, p):
        self.path, self.manifest = p, {}
        with files.open_npz(p) as z:
            found = [name for name in ('arr_0', 'images') if name in z]
            if not found:
                raise ValueError(f'samples ({p}) holds {", ".join(z)}; arr_0 or images is needed')
            self._name = found[0]
            labels = [z[name] for name in ('arr_1', 'labels') if name in z]
        with open_npz_images(p, self._name) as (shape, _):
            self.num_images, self.image_shape = shape[0], tuple(shape[1:])
        self.labels = labels[0].astype(np.int32) if labels else None
        if labels and (labels[0].shape != (self.num_images,) or labels[0].dtype.kind not in 'iu'):
            raise ValueError(
                f'samples ({p}): labels must be int [{self.num_images}], not {labels[0].dtype} '
                f'{labels[0].shape}'
            )

    @functools.cached_property
    def content_hash(self) -> str:
        """12 hex digits of the checksums in the file."""
        store = archive.open_store(self.path)
        return files.content_hash([store.signature(store.names), self.image_shape])

    def batches(self, batch_size: int, start: int = 0):
        """Yield (images, labels or None) in order, from image number start on."""
        with open_npz_images(self.path, self._name) as (_, images):
            images = itertools.islice(images, start, None)
            while block := list(itertools.islice(images, batch_size)):
                end = start + len(block)
                yield np.stack(block), None if self.labels is None else self.labels[start:end]
                start = end


class RealImages:
    """Images of any kind as a data set of which reference statistics can be made.

    samples: what `open_images` returns, or a sample set. It has images(rows) where these can be
    read in any order, else batches(batch_size, start).
    """

    def __init__(self, samples, name: str = 'images'):
        self.name, self.labels = name, samples.labels
        self.num_images, self.image_shape = samples.num_images, tuple(samples.image_shape)
        self.fingerprint = samples.content_hash
        self.num_classes = 0 if self.labels is None else int(self.labels.max()) + 1
        read = 'images' if hasattr(samples, 'images') else 'batches'
        setattr(self, read, getattr(samples, read))

    def describe(self) -> dict:
        """Return what tells these images from others, without paths."""
        names = 'name', 'num_images', 'image_shape', 'num_classes', 'fingerprint'
        return {name: getattr(self, name) for name in names}


def _chunks(items, size):
    for start in range(0, len(items), size):
        yield items[start : start + size]
