"""A folder or a zip of images, with classes from dataset.json or from subfolders."""

import contextlib
import dataclasses
import functools
import hashlib
import json

import numpy as np

from autoguide_jax.data import archive, picture
from autoguide_jax.data.dataset import DecodedSet

INDEX = 'dataset.json'
# Up to here all headers are looked at when a local set is opened (about a second).
CHECKED = 20_000
UNLABELLED = 'Give a dataset.json with labels or class subfolders, or set data.labels=False.'


def _index_labels(text, names):
    """Return name → label of dataset.json, checked against the images; None if it has none."""
    try:
        entries = json.loads(text).get('labels')
        if entries is None:
            return None
        given = {str(name).replace('\\', '/'): label for name, label in entries}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{INDEX} must be {{"labels": [[name, label], …]}} or have "labels": null: {error}'
        ) from None
    if missing := [name for name in names if name not in given]:
        raise ValueError(
            f'{INDEX} labels only {len(names) - len(missing)} of {len(names)} images; without a '
            f'label: {missing[0]}. {UNLABELLED}'
        )
    if len(given) > len(names):
        absent = next(iter(given.keys() - set(names)))
        raise ValueError(f'{INDEX} names {absent}, which is not there; copy the images completely')
    return [given[name] for name in names]


def _check_classes(labels, names):
    for label, name in zip(labels, names):
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise ValueError(f'{INDEX}: {name} has label {label!r}; labels are whole numbers 0…k-1')
    present = set(labels)
    if len(present) <= max(present):
        absent = next(k for k in range(len(present) + 1) if k not in present)
        raise ValueError(
            f'{INDEX}: labels must be 0…k-1, but none is {absent} and the largest is '
            f'{max(present)}; renumber them'
        )


def find_labels(store, names):
    """Return int32 labels of the images of a store: from dataset.json, else from subfolders.

    Errors: ValueError for none, for some images only, and for labels that are not 0…k−1.
    """
    if INDEX in store.names:
        labels = _index_labels(store.read(INDEX), names)
        if labels is None:
            raise ValueError(f'{INDEX} has no labels. {UNLABELLED}')
        _check_classes(labels, names)
        return np.array(labels, np.int32)
    top = [name.partition('/')[0] if '/' in name else '' for name in names]
    classes = sorted(set(top))
    if classes == ['']:
        raise ValueError(f'the images have no labels. {UNLABELLED}')
    if classes[0] == '':
        loose = [name for name in names if '/' not in name]
        raise ValueError(
            f'{len(loose)} of {len(names)} images lie outside the class subfolders, such as '
            f'{loose[0]}. {UNLABELLED}'
        )
    number = dict(zip(classes, range(len(classes))))
    return np.array([number[name] for name in top], np.int32)


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Folder(DecodedSet):
    """PNG, JPEG or NPY (uint8 [c,h,w]) images of one size, square, all grey or all RGB.

    Labels come from dataset.json {"labels": [[name, label], …]}, as in the data set zips of EDM2
    and StyleGAN, or else from the first-level subfolders, sorted by name, as classes 0…k−1. Images
    are sorted by name and read on demand. Sizes are checked on opening for local sets of up to
    20000 images, and in any case when an image is read.

    Settings:
      path: a folder (also gs://…) or a zip of images
    """

    path: str

    suffixes = picture.SUFFIXES

    def __post_init__(self):
        # A path that is not there, no images, wrong sizes, no labels: each refused here.
        with self._naming_path():
            _ = self._shape
            _ = self.labelled and self._all_labels
        super().__post_init__()

    @contextlib.contextmanager
    def _naming_path(self):
        """Begin what a look at the files refuses with the setting and its value."""
        try:
            yield
        except ValueError as error:
            text = str(error)
            where = '' if text.startswith('path (') else f'path ({self.path}): '
            raise ValueError(where + text) from None

    @functools.cached_property
    def _store(self):
        return archive.open_store(self.path)

    @functools.cached_property
    def _names(self):
        names = [n for n in self._store.names if n.lower().endswith(self.suffixes)]
        if not names:
            raise ValueError(f'there are no {self.holds} ({", ".join(self.suffixes)}) in it')
        return names

    @functools.cached_property
    def _shape(self):
        """(h, w, c) of the first image, and of all that are checked on opening."""
        first = self._header(self._names[0])
        if first[0] != first[1]:
            raise ValueError(
                f'{self._names[0]} is {first[1]}x{first[0]} (width x height); {self.holds} must '
                'be square'
            )
        if self._store.local and len(self._names) <= CHECKED:
            for name in self._names[1:]:
                self._expect(name, self._header(name), first)
        return first

    def _header(self, name):
        return picture.shape(name, self._store.read(name, picture.header_limit(name)))

    def _decode(self, name):
        return picture.decode(name, self._store.read(name))

    def _expect(self, name, found, expected):
        if tuple(found) != tuple(expected):
            texts = [self._text(*shape) for shape in (found, expected)]
            raise ValueError(
                f'{name} is {texts[0]}, but {self._names[0]} is {texts[1]}; {self.holds} must have '
                'one size and one number of channels'
            )

    def _text(self, h, w, c):
        return f'{w}x{h} {"grey" if c == 1 else "RGB"}'

    @functools.cached_property
    def _all_labels(self):
        return find_labels(self._store, self._names)

    @property
    def name(self) -> str:
        stem = str(self.path).rstrip('/').rsplit('/', 1)[-1]
        return stem.removesuffix('.zip')

    @property
    def resolution(self) -> int:
        return self._shape[0]

    @property
    def channels(self) -> int:
        return self._shape[2]

    def _total(self):
        return len(self._names)

    def _total_classes(self):
        return int(self._all_labels.max()) + 1

    def _total_labels(self):
        return self._all_labels

    def _read(self, rows):
        images = np.empty((len(rows), *self._shape), self.dtype)
        with self._naming_path():
            for image, row in zip(images, rows):
                name = self._names[row]
                pixels = self._decode(name)
                self._expect(name, pixels.shape, self._shape)
                image[:] = pixels
        labels = self._all_labels[rows] if self.labelled else np.full(len(rows), -1, np.int32)
        return images, labels

    def _identity(self):
        digest = hashlib.sha256(self._store.signature(self._names).encode() + self._sample())
        if self.labelled:
            digest.update(self._all_labels.tobytes())
        return digest.hexdigest()
