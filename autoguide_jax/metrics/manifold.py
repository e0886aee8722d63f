"""Fidelity and diversity by neighbours in feature space.

B_k(x; X) is the ball around x that reaches to its k-th nearest other point of the set X; real
images r ∈ R, generated g ∈ G. Kynkäänniemi et al. 2019 (arXiv:1904.06991), k = 3, closed balls:
(1) precision = share of g in any B_k(r; R)
(2) recall    = share of r in any B_k(g; G)
Naeem et al. 2020 (arXiv:2002.09797), k = 5, open balls:
(3) density   = mean over g of #{r : g ∈ B_k(r; R)} / k   (1 for real images; may exceed 1)
(4) coverage  = share of r with any g in B_k(r; R)
Each is a pass over |R|·|G| distances; recall adds one over |G|². Standard errors: (1) and (3) are
means over samples; (2) and (4) by the jackknife of GROUPS groups of samples, in the same pass. It
errs on the wide side (Efron & Stein 1981): 1.0 to 1.6 times the spread of simulated sets, more
where next to everything is covered, and the error next to nothing.
"""

import dataclasses
import math
from typing import ClassVar

from autoguide_jax.metrics import neighbours
from autoguide_jax.metrics.metric import (
    GROUPS,
    Bank,
    Estimate,
    FeatureMetric,
    jackknife,
    mean,
    undefined,
)


def _too_few(value, count, least):
    """The Estimate of a value that has no error."""
    return Estimate(
        float(value), math.nan, f'{count} samples, fewer than {least}: no standard error'
    )


@dataclasses.dataclass(frozen=True)
class Precision(FeatureMetric):
    """Share of samples on the real manifold, equation (1): fidelity; 1 is best.

    Settings:
      features: the feature extractor
      k: which nearest neighbour sets the radius of a ball; from Python only
    """

    k: int = 3
    name: ClassVar[str] = 'precision'
    needs: ClassVar[tuple[str, ...]] = ('features',)

    def __post_init__(self):
        if self.k < 1:
            raise ValueError(f'{self.name}.k ({self.k}) must be at least 1')

    def estimate(self, state: Bank, reference) -> Estimate:
        radii = reference.radii(self.k)
        counts = neighbours.count_balls(state.features, reference.features, radii, closed=True)
        return mean(counts > 0)


@dataclasses.dataclass(frozen=True)
class Recall(Precision):
    """Share of real images on the manifold of the samples, equation (2): diversity; 1 is best.

    Settings:
      features: the feature extractor
      k: which nearest neighbour sets the radius of a ball; from Python only
    """

    name: ClassVar[str] = 'recall'

    def estimate(self, state: Bank, reference) -> Estimate:
        if state.count <= self.k:
            return undefined(f'{state.count} images have no neighbour number {self.k}')
        x, real = state.features, reference.features
        # Without a group, k others must be left.
        least = 2 * max(GROUPS, self.k + 1)
        if len(x) < least:
            radii = neighbours.radii(x, self.k)[:, -1]
            covered = neighbours.count_balls(real, x, radii, closed=True) > 0
            return _too_few(covered.mean(), len(x), least)
        radii = neighbours.radii_without(x, self.k, state.groups())
        covered = (neighbours.count_balls(real, x, radii, closed=True) > 0).mean(0)
        return jackknife(covered[0], covered[1:])


@dataclasses.dataclass(frozen=True)
class Density(Precision):
    """How many real neighbourhoods a sample lies in, over k, equation (3): fidelity.

    Settings:
      features: the feature extractor
      k: which nearest neighbour sets the radius of a ball; from Python only
    """

    k: int = 5
    name: ClassVar[str] = 'density'

    def estimate(self, state: Bank, reference) -> Estimate:
        radii = reference.radii(self.k)
        counts = neighbours.count_balls(state.features, reference.features, radii, closed=False)
        return mean(counts / self.k)


@dataclasses.dataclass(frozen=True)
class Coverage(Precision):
    """Share of real neighbourhoods that hold a sample, equation (4): diversity; 1 is best.

    Settings:
      features: the feature extractor
      k: which nearest neighbour sets the radius of a ball; from Python only
    """

    k: int = 5
    name: ClassVar[str] = 'coverage'

    def estimate(self, state: Bank, reference) -> Estimate:
        radii = reference.radii(self.k)
        if state.count < 2 * GROUPS:
            hits = neighbours.hit_balls(state.features, reference.features, radii)
            return _too_few((hits > 0).mean(), state.count, 2 * GROUPS)
        hits = neighbours.hit_balls(state.features, reference.features, radii, state.groups())
        total = hits.sum(1)
        without = (total[:, None] > hits).mean(0)
        return jackknife((total > 0).mean(), without)
