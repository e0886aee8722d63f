"""FD∞: the Fréchet distance without the bias of a finite set of samples.

Chong & Forsyth 2020 (arXiv:1911.07023); d is the distance of frechet.py.
(1) E d_n = d_∞ + a/n + O(1/n²): the covariance of n samples is uncertain, and d grows with that.
(2) For p = 1 … P the set is cut into p disjoint parts of m_p = ⌊n/p⌋ samples, at random; d̄_p is the
    mean of d over the parts, each against the whole reference.
(3) FD∞ = the intercept of the least-squares line through (1/m_p, d̄_p) = Σ_p w_p·d̄_p,  Σ_p w_p = 1.
(4) To first order d of a part is d_∞ + mean of ψ over the part, with ψ of frechet.py (4). Disjoint
    equal parts make d̄_p = d_∞ + mean of ψ over the whole set, whatever p, and Σ w_p = 1 leaves
    FD∞ − d_∞ the same. So its standard error is that of d itself, frechet.py (5), and what the line
    adds is of second order. In simulations (tests/gaussians.py) it is right to 10 % for
    n ≥ 20·dim, and up to half too large at n = 10·dim, as that of d itself is there.
The paper draws its 15 smaller sets with replacement; disjoint ones use every sample equally and
have (4). Only the bias of the samples is taken out; that of a small reference remains.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from autoguide_jax import stop
from autoguide_jax.metrics.frechet import moments
from autoguide_jax.metrics.metric import Bank, Estimate, FeatureMetric, undefined


def intercept(x: np.ndarray, y: np.ndarray) -> float:
    """Return the value at 0 of the least-squares line through points [n]; n ≥ 2."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    apart = x - x.mean()
    return float(y.mean() - x.mean() * (apart @ y) / (apart @ apart))


@dataclasses.dataclass(frozen=True)
class FrechetInfinity(FeatureMetric):
    """Fréchet distance extrapolated to infinitely many samples, equation (3); smaller is better.

    May be negative, as an unbiased number must that estimates 0. No part is smaller than twice the
    dimension, below which (1) does not hold: with fewer samples there are fewer parts, and with
    less than two parts it is undefined.

    Settings:
      features: the feature extractor
      parts: P, into how many parts the set is cut at most; from Python only
    """

    parts: int = 5
    name: ClassVar[str] = 'frechet_infinity'
    is_distance: ClassVar[bool] = True

    def __post_init__(self):
        if self.parts < 2:
            raise ValueError(f'frechet_infinity.parts ({self.parts}) must be at least 2: a line')

    @property
    def title(self) -> str:
        return f'{self.features.title} ∞'

    @property
    def least(self) -> int:
        """What the distance is published for, and all of the parts."""
        return max(self.features.published or 0, self.parts * 2 * self.features.dim)

    def estimate(self, state: Bank, reference) -> Estimate:
        features, order = state.features, state.shuffled()
        n, dim = features.shape
        most = min(self.parts, n // (2 * dim))
        if most < 2:
            return undefined(f'{n} images make no two parts of 2·{dim}, twice the dimension')
        # The whole set: its distance is the first point, and its error that of the line.
        whole = reference.against.estimate(features)
        sizes, distances = [n], [whole.value]
        for parts in range(2, most + 1):
            size, found = n // parts, []
            for i in range(parts):
                stop.check('computing distances of parts')
                part = moments(features[order[i * size : (i + 1) * size]])
                found.append(reference.against.distance(*part.gaussian()))
            sizes.append(size)
            distances.append(np.mean(found))
        return Estimate(intercept(1 / np.array(sizes), distances), whole.error, whole.reason)
