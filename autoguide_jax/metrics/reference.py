"""Statistics of the real images that metrics compare with, and where they come from.

An npz holds mu, sigma (all `count` images, float64), features, labels, predicted classes and rows
in the data set (of at most `num_features` images, a fixed random subset), and a JSON header that
says which data set, transform and extractor they belong to. Anything that does not fit is refused.
Files of others are read by foreign_references.py: of these, what is recorded is checked.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from autoguide_jax import files
from autoguide_jax.metrics import foreign_references, neighbours
from autoguide_jax.metrics.frechet import Against

ARRAYS = ('mu', 'sigma', 'features', 'labels', 'predicted', 'rows', 'mu_s', 'sigma_s')


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of real images in one feature space.

    header: data, data_fingerprint, image_shape, count, extractor, weights_hash, transform (in
    words), num_classes, content_hash; of a foreign file what it records, and its `warning` says
    what is missing. features, labels (−1 = none), predicted (−1 = no logits) and rows (in the data
    set) have one row per image kept, None = not recorded. mu_s, sigma_s: of spatial features.
    images: the file with some of the real images, of which features can be made; rows are of it.
    """

    mu: Float[np.ndarray, ' d']
    sigma: Float[np.ndarray, 'd d']
    mu_s: Float[np.ndarray, ' s'] | None = None
    sigma_s: Float[np.ndarray, 's s'] | None = None
    features: Float[np.ndarray, 'm d'] | None = None
    labels: Int[np.ndarray, ' m'] | None = None
    predicted: Int[np.ndarray, ' m'] | None = None
    rows: Int[np.ndarray, ' m'] | None = None
    header: dict = dataclasses.field(default_factory=dict)
    source: str = 'the reference'
    warning: str | None = None
    images: Any = None
    _radii: dict = dataclasses.field(default_factory=dict, repr=False)

    @property
    def count(self) -> int | None:
        """The number of images behind mu and sigma, None = not recorded."""
        return self.header.get('count')

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """The (h, w, c) of the real images, None = not recorded."""
        shape = self.header.get('image_shape')
        return None if shape is None else tuple(shape)

    @property
    def num_classes(self) -> int | None:
        """The number of classes of the data set, None = not recorded or none."""
        return self.header.get('num_classes') or None

    @functools.cached_property
    def against(self) -> Against:
        """The Gaussian of mu and sigma, to be compared with."""
        return Against(self.mu, self.sigma)

    def radii(self, k: int) -> Float[np.ndarray, ' m']:
        """Return the squared distance of each kept image to its k-th nearest other one."""
        if k not in self._radii:
            # One pass serves the usual k of 3 and 5; a set too small for 5 can still have 3.
            most = max(k, min(5, len(self.features) - 1))
            columns = neighbours.radii(self.features, most).T
            self._radii.update(dict(enumerate(columns, 1)))
        return self._radii[k]

    def check(self, extractor) -> None:
        """Raise ValueError, naming both sides, if these are not features of this extractor."""
        if self.mu.size != extractor.dim:
            raise ValueError(
                f'{self.source} has {self.mu.size} dimensions, {extractor.name!r} has '
                f'{extractor.dim}: they are different features'
            )
        if self.warning is None and self.header:
            wanted = {'extractor': extractor.name, 'weights_hash': extractor.weights_hash}
            self._compare(wanted)

    def check_labels(self, labels: Int[np.ndarray, ' n'] | None) -> None:
        """Raise ValueError for labels that are no classes of the data set; −1 is no label."""
        if labels is None or self.num_classes is None:
            return
        for label in (np.min(labels, initial=0), np.max(labels, initial=0)):
            if not -1 <= label < self.num_classes:
                raise ValueError(
                    f'label {label} of the images is no class of {self.source}, which has 0 … '
                    f'{self.num_classes - 1}; −1 stands for no label'
                )

    def _compare(self, wanted):
        for key, value in wanted.items():
            if self.header.get(key) != value:
                raise ValueError(
                    f'{self.source}: {key} is {self.header.get(key)!r}, this run has {value!r}. '
                    'Build reference statistics for this run, or name the right file.'
                )


def content_hash(arrays: Mapping[str, np.ndarray | None]) -> str:
    """Return 12 hex digits of the arrays of a reference."""
    digest = hashlib.sha256()
    for name in ARRAYS:
        if arrays.get(name) is None:
            continue
        array = np.ascontiguousarray(arrays[name])
        digest.update(f'{name} {array.dtype} {array.shape}'.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:12]


def save(reference: Reference, p: Any) -> None:
    """Write a reference as npz with its header."""
    arrays = {name: getattr(reference, name) for name in ARRAYS}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    header = np.array(json.dumps(files.plain(reference.header)))
    files.save_npz(p, {'header': header, **arrays})


def load(
    p: Any,
    dataset=None,
    extractor=None,
    count: int | None = None,
    num_features: int | None = None,
) -> Reference:
    """Return the reference in an npz, checked against what is given.

    A foreign file gives what it has for this extractor, with a `warning`. Errors: ValueError,
    naming both sides, for another data set, count, extractor, or weights, and for a damaged file.
    """
    reference = _load_own(p) or _load_foreign(p, extractor)
    if extractor is not None:
        reference.check(extractor)
    if reference.warning is None:
        wanted = {'count': count, 'num_features': num_features}
        if dataset is not None:
            wanted['data_fingerprint'] = dataset.fingerprint
            wanted['count'] = dataset.num_images if count is None else count
        reference._compare({k: v for k, v in wanted.items() if v is not None})
    return reference


def _load_own(p):
    """The reference in an npz with a header, None if it is another file."""
    if (header := read_header(p)) is None:
        return None
    with files.open_npz(p) as archive:
        arrays = {name: archive[name] for name in ARRAYS if name in archive}
    if 'mu' not in arrays or 'sigma' not in arrays:
        raise ValueError(f'{p} holds no mu and sigma: not reference statistics')
    reference = Reference(**arrays, header=header, source=str(p))
    reference._compare({'content_hash': content_hash(arrays)})
    return reference


def read_header(p: Any) -> dict | None:
    """Return the header of a reference, None for a foreign file. Errors: FileNotFoundError."""
    with files.path(p).open('rb') as file:
        if file.read(2) != b'PK':
            return None
    with files.open_npz(p) as archive:
        if 'header' not in archive:
            return None
        try:
            header = json.loads(str(archive['header']))
        except ValueError as error:
            raise ValueError(f'{p}: its header is no JSON: {error}') from error
    if not isinstance(header, dict):
        raise ValueError(f'{p}: its header is no header of reference statistics')
    return header


def _load_foreign(p, extractor):
    foreign = foreign_references.read(p)
    name, arrays = foreign.of(extractor and extractor.name)
    header = {'count': foreign.count, 'extractor': name or None}
    header['content_hash'] = content_hash(arrays)
    return Reference(
        **arrays, header=header, source=str(p), warning=foreign.warning, images=foreign.images
    )


def paths(given: Any) -> tuple[str, ...]:
    """The files of a setting: 'A', 'A,B', a path, or a sequence of paths."""
    if isinstance(given, str | os.PathLike):
        given = os.fspath(given).split(',') if os.fspath(given) else ()
    found = tuple(os.fspath(p).strip() for p in given)
    if not all(found):
        raise ValueError(f'reference ({",".join(found)}): a name between commas is empty')
    return found


def fitting(paths: Sequence[Any], extractor, dataset=None) -> Reference:
    """Return the reference of an extractor in one of several files.

    Errors: ValueError if none fits, with the reasons, or several do; of one file as `load`.
    """
    if len(paths) == 1:
        return load(paths[0], dataset, extractor)
    found, reasons = [], []
    for p in paths:
        try:
            found.append(load(p, dataset, extractor))
        except ValueError as error:
            reasons.append(str(error))
    if not found:
        raise ValueError(f'reference: no file is of {extractor.name!r}: {"; ".join(reasons)}')
    if len(found) > 1:
        both = ' and '.join(r.source for r in found)
        raise ValueError(f'reference: {both} are both of {extractor.name!r}; leave one of them out')
    return found[0]


def features_of(p: Any) -> dict:
    """Return the extractor whose features a file has, as settings: {'name': …, …}.

    Of several the first. Errors: ValueError if the file does not say.
    """
    if header := read_header(p):
        return header.get('features') or {'name': header['extractor']}
    foreign = foreign_references.read(p)
    name = foreign.extractors[0]
    if not name:
        size = next(iter(foreign.spaces.values()))['mu'].size
        raise ValueError(
            f'reference ({p}) has {size} dimensions, and does not say of which features: set '
            'features.name'
        )
    return {'name': name}
