"""Whether samples are copies of training images, by neighbours in feature space.

r(g) is the training image nearest to a sample g, δ(r) the distance of r to the nearest other
training image. Alaa et al. 2022 (arXiv:2102.08921):
(1) authenticity = share of g with ‖g − r(g)‖ ≥ δ(r(g)), ties included
(2) ratio(g) = ‖g − r(g)‖ / δ(r(g)): below 1, g is closer to r(g) than any training image is
A sample at distance 0 is a copy: its ratio is 0 and it is not authentic, even where the training
image itself is there twice, which (1) would excuse. Training images are those that the reference
keeps: one that it does not keep is not found.
"""

import dataclasses
import weakref
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from autoguide_jax.metrics import neighbours
from autoguide_jax.metrics.metric import Bank, Estimate, FeatureMetric, mean


class Nearest(NamedTuple):
    """The training image nearest to each sample.

    row: of the reference's features; distance: to it; own: from it to its nearest other one;
    ratio: equation (2), ∞ where own alone is 0.
    """

    row: Int[np.ndarray, ' n']
    distance: Float[np.ndarray, ' n']
    own: Float[np.ndarray, ' n']
    ratio: Float[np.ndarray, ' n']

    @property
    def authentic(self) -> np.ndarray:
        """Equation (1) for each sample, bool [n]."""
        closer = self.distance**2 < self.own**2 * (1 - neighbours.TIE)
        return ~closer & (self.distance > 0)

    def closest(self, count: int) -> np.ndarray:
        """The samples of smallest ratio, in its order, at most count of them."""
        return np.lexsort((self.distance, self.ratio))[:count]


def find(bank: Bank, reference) -> Nearest:
    """Return the nearest training image of each sample; found once for a bank and a reference."""
    known = _known.get(bank)
    if known is None or known[0] is not reference or known[1] != bank.count:
        row, squares = neighbours.nearest(bank.features, reference.features)
        distance, own = np.sqrt(squares), np.sqrt(reference.radii(1)[row])
        ratio = np.full(len(row), np.inf)
        np.divide(distance, own, out=ratio, where=own > 0)
        ratio[distance == 0] = 0
        known = _known[bank] = reference, bank.count, Nearest(row, distance, own, ratio)
    return known[2]


_known = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Authenticity(FeatureMetric):
    """Share of samples that are no near-copies of a training image, equation (1).

    Compare with what held-out images of the same source score, which is not 1 (0.4 to 0.8 for
    Gaussians of 2 to 64 dimensions): less than that tells of copies, and the pictures show them.

    Settings:
      features: the feature extractor
    """

    name: ClassVar[str] = 'authenticity'
    needs: ClassVar[tuple[str, ...]] = ('features',)

    def estimate(self, state: Bank, reference) -> Estimate:
        return mean(find(state, reference).authentic)
