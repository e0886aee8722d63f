"""Points of the 2-D example, drawn and not stored: point i is a function of i alone."""

import dataclasses
import functools

import numpy as np

from autoguide_jax import files
from autoguide_jax.data.order import ENDLESS
from autoguide_jax.mixture import CLASSES, Mixture, mixture
from autoguide_jax.registry import suggest

__all__ = ['Mixture', 'Toy', 'mixture']


def draw(classes, first, count):
    """Points first … first+count−1 of a class set, float32 [count, 2].

    Point i takes the four words that Philox4x64-10 makes of the counter i: one picks the Gaussian,
    two make a pair of normals (Box and Muller).
    """
    source = np.random.Philox(key=np.array([CLASSES.index(classes), 0], np.uint64))
    words = source.advance(int(first)).random_raw(4 * int(count)).reshape(-1, 4)
    pick, radius, angle, _ = ((words >> 11) * 2.0**-53).T
    parts, roots = _table(classes)
    chosen = np.minimum(np.searchsorted(parts['sum'], pick, side='right'), len(roots) - 1)
    radius = np.sqrt(-2 * np.log1p(-radius))
    normal = np.stack([radius * np.cos(2 * np.pi * angle), radius * np.sin(2 * np.pi * angle)], -1)
    points = parts['mu'][chosen] + np.einsum('nij,nj->ni', roots[chosen], normal)
    return points.astype(np.float32)


@functools.cache
def _table(classes):
    parts = mixture(classes).components
    return {**parts, 'sum': np.cumsum(parts['phi'])}, np.linalg.cholesky(parts['Sigma'])


@dataclasses.dataclass(frozen=True)
class Toy:
    """The mixture of class A, B or both (arXiv 2406.02507, App. C), without labels.

    Settings:
      classes: which mixture: A, B or AB
      max_images: train on that many fixed points only (0 = never the same point twice)
    """

    classes: str = 'A'
    max_images: int = 0

    name, resolution, channels, num_classes, labels = 'toy', None, 2, 0, None
    holds = 'points'

    def __post_init__(self):
        if self.classes not in CLASSES:
            raise ValueError(
                f'classes ({self.classes!r}): no such class.{suggest(self.classes, CLASSES)}'
            )
        if not 0 <= self.max_images <= 2**24:
            raise ValueError(f'max_images ({self.max_images}) must be in 0…2**24; 0 = endless')

    @property
    def num_images(self):
        return self.max_images or ENDLESS

    @property
    def fingerprint(self):
        """12 hex digits: the mixture and the number of points."""
        parts = mixture(self.classes).components
        return files.content_hash([self.max_images, *(parts[k].tolist() for k in ('phi', 'mu'))])

    @property
    def score(self):
        """∇log p(x; σ): what loss.name=score_matching asks a data set for."""
        return mixture(self.classes).score

    @functools.cached_property
    def _stored(self):
        return draw(self.classes, 0, self.max_images)

    def examples(self, indices):
        """Points float32 [k, 2] by index, and labels, all −1."""
        return self.images(indices), np.full(len(indices), -1, np.int32)

    def images(self, indices):
        """Points float32 [k, 2] by index. Errors: IndexError outside 0…num_images−1."""
        indices = np.asarray(indices, np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < self.num_images:
            raise IndexError(f'indices must be in 0…{self.num_images - 1}')
        if self.max_images:
            return self._stored[indices]
        runs = np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1)
        return np.concatenate([draw(self.classes, run[0], len(run)) for run in runs if len(run)])

    def describe(self):
        """What tells this set from others."""
        facts = {
            name: getattr(self, name) for name in ('name', 'classes', 'channels', 'num_classes')
        }
        return {
            **facts,
            'num_images': self.max_images or 'endless',
            'fingerprint': self.fingerprint,
        }
