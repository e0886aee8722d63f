"""Statistics of the real images that metrics compare with, and where they come from.

An npz holds mu, sigma (all `count` images, float64), features, labels and predicted classes (of at
most `num_features` images, a fixed random subset), and a JSON header that says which data set,
transform and extractor they belong to. Anything that does not fit is refused.
"""

import dataclasses
import hashlib
import json
import math
import re
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from autoguide_jax import files, stop
from autoguide_jax.metrics import neighbours
from autoguide_jax.metrics.frechet import Moments
from autoguide_jax.metrics.metric import Bank, choose
from autoguide_jax.progress import Progress

NUM_FEATURES = 50_000
BATCH = 1024
ARRAYS = ('mu', 'sigma', 'features', 'labels', 'predicted')
PLAIN = (
    'plain npz without a header: the data set, the number of images and the extractor are not '
    'recorded and cannot be checked; only the Fréchet distance can use it'
)


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of real images in one feature space.

    header: data, data_fingerprint, count, extractor, weights_hash, num_classes, content_hash; {}
    for a plain npz, whose `warning` says what is missing. features, labels (−1 = none) and
    predicted (−1 = no logits) have one row per image kept, None = not recorded.
    """

    mu: Float[np.ndarray, ' d']
    sigma: Float[np.ndarray, 'd d']
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

    def _compare(self, wanted):
        for key, value in wanted.items():
            if self.header.get(key) != value:
                raise ValueError(
                    f'{self.source}: {key} is {self.header.get(key)!r}, this run has {value!r}. '
                    'Build reference statistics for this run, or name the right file.'
                )


def _content_hash(arrays) -> str:
    digest = hashlib.sha256()
    for name in ARRAYS:
        array = np.ascontiguousarray(arrays[name])
        digest.update(f'{name} {array.dtype} {array.shape}'.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:12]


def _identity(dataset, extractor, count, num_features) -> dict:
    """Return what makes two references the same: header fields known before the images are seen."""
    return {
        'data': files.plain(dataset.describe()),
        'data_fingerprint': dataset.fingerprint,
        'count': dataset.num_images if count is None else count,
        'num_features': num_features,
        'extractor': extractor.name,
        'weights_hash': extractor.weights_hash,
    }


def build(
    dataset, extractor, count: int | None = None, num_features: int = NUM_FEATURES
) -> Reference:
    """Return the statistics of a data set's images in an extractor's features.

    count: of how many images, a fixed random subset, None = all; num_features: how many of these
    are kept one by one for metrics by neighbours and classes. Errors: ValueError for counts out of
    range.
    """
    identity = _identity(dataset, extractor, count, num_features)
    total = identity['count']
    if not 2 <= total <= dataset.num_images:
        raise ValueError(f'count ({total}) must be in 2…{dataset.num_images}, the data set')
    if num_features < 1:
        raise ValueError(f'num_features ({num_features}) must be at least 1')
    rows = choose(dataset.num_images, total)
    kept = np.isin(np.arange(total), choose(total, num_features))
    moments, bank = Moments(), Bank()
    with Progress(total, 'images', f'reference statistics of {dataset.name}') as progress:
        for part in np.array_split(np.arange(total), math.ceil(total / BATCH)):
            stop.check('computing reference statistics')
            features, logits = extractor(dataset.images(rows[part]))
            moments.add(features)
            keep = kept[part]
            labels = None if dataset.labels is None else np.asarray(dataset.labels)[rows[part]]
            bank.add(
                features[keep],
                None if logits is None else logits[keep],
                None if labels is None else labels[keep].astype(np.int32),
            )
            progress.update(len(part))
    mu, sigma = moments.gaussian()
    arrays = dict(zip(ARRAYS, (mu, sigma, bank.features, bank.labels, bank.predicted)))
    header = {**identity, 'num_classes': dataset.num_classes}
    header['content_hash'] = _content_hash(arrays)
    return Reference(**arrays, header=header, source=f'the reference of {dataset.name!r}')


def save(reference: Reference, p: Any) -> None:
    """Write a reference as npz with its header."""
    arrays = {name: getattr(reference, name) for name in ARRAYS}
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
            arrays = {name: archive[name] for name in ARRAYS}
            reference = Reference(**arrays, header=header, source=str(p))
            reference._compare({'content_hash': _content_hash(arrays)})
    if extractor is not None:
        reference.check(extractor)
    if reference.header:
        wanted = {'count': count, 'num_features': num_features}
        if dataset is not None:
            wanted['data_fingerprint'] = dataset.fingerprint
            wanted['count'] = dataset.num_images if count is None else count
        reference._compare({k: v for k, v in wanted.items() if v is not None})
    return reference


def open_reference(
    dataset,
    extractor,
    folder: Any = None,
    count: int | None = None,
    num_features: int = NUM_FEATURES,
) -> Reference:
    """Return the reference of a data set in an extractor's features: from the folder, or built now.

    folder: kept there for the next time; None = not kept. Errors: as `build` and `load`.
    """
    if folder is None:
        return build(dataset, extractor, count, num_features)
    identity = _identity(dataset, extractor, count, num_features)
    name = re.sub(r'\W+', '-', f'{dataset.name}-{extractor.name}')
    p = files.path(folder) / f'reference-{name}-{files.content_hash(identity)}.npz'
    if not p.exists():
        save(build(dataset, extractor, count, num_features), p)
    return load(p, dataset, extractor, identity['count'], num_features)
