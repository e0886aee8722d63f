"""Statistics of the real images that metrics compare with, and where they come from.

An npz holds mu, sigma (all `count` images, float64), features, labels and predicted classes (of at
most `num_features` images, a fixed random subset), and a JSON header that says which data set,
transform and extractor they belong to. Anything that does not fit is refused.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from autoguide_jax import files
from autoguide_jax.metrics import neighbours
from autoguide_jax.metrics.frechet import Against

ARRAYS = ('mu', 'sigma', 'features', 'labels', 'predicted', 'mu_s', 'sigma_s')
PLAIN = (
    'plain npz without a header: the data set, the number of images and the extractor are not '
    'recorded and cannot be checked; only the Fréchet distance can use it'
)


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of real images in one feature space.

    header: data, data_fingerprint, count, extractor, weights_hash, num_classes, content_hash; {}
    for a plain npz, whose `warning` says what is missing. features, labels (−1 = none) and
    predicted (−1 = no logits) have one row per image kept, None = not recorded. mu_s, sigma_s: of
    spatial features.
    """

    mu: Float[np.ndarray, ' d']
    sigma: Float[np.ndarray, 'd d']
    mu_s: Float[np.ndarray, ' s'] | None = None
    sigma_s: Float[np.ndarray, 's s'] | None = None
    features: Float[np.ndarray, 'm d'] | None = None
    labels: Int[np.ndarray, ' m'] | None = None
    predicted: Int[np.ndarray, ' m'] | None = None
    header: dict = dataclasses.field(default_factory=dict)
    source: str = 'the reference'
    warning: str | None = None
    _radii: dict = dataclasses.field(default_factory=dict, repr=False)

    @property
    def count(self) -> int | None:
        """The number of images behind mu and sigma, None = not recorded."""
        return self.header.get('count')

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
        if self.header:
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

    A plain npz with mu and sigma alone, as published ones are, gives a reference for the Fréchet
    distance only, with a `warning`. Errors: ValueError, naming both sides, for another data set,
    count, extractor, or weights, and for a damaged file.
    """
    with files.open_npz(p) as archive:
        if 'mu' not in archive or 'sigma' not in archive:
            raise ValueError(f'{p} holds no mu and sigma: not reference statistics')
        if 'header' not in archive:
            mu, sigma = (np.asarray(archive[name], np.float64) for name in ('mu', 'sigma'))
            reference = Reference(mu=mu, sigma=sigma, source=str(p), warning=PLAIN)
        else:
            header = json.loads(str(archive['header']))
            arrays = {name: archive[name] for name in ARRAYS if name in archive}
            reference = Reference(**arrays, header=header, source=str(p))
            reference._compare({'content_hash': content_hash(arrays)})
    if extractor is not None:
        reference.check(extractor)
    if reference.header:
        wanted = {'count': count, 'num_features': num_features}
        if dataset is not None:
            wanted['data_fingerprint'] = dataset.fingerprint
            wanted['count'] = dataset.num_images if count is None else count
        reference._compare({k: v for k, v in wanted.items() if v is not None})
    return reference
