"""Fidelity and diversity by neighbours in feature space.

B_k(x; X) is the ball around x that reaches to its k-th nearest other point of the set X; real
images r ∈ R, generated g ∈ G. Kynkäänniemi et al. 2019 (arXiv:1904.06991), k = 3, closed balls:
(1) precision = share of g in any B_k(r; R)
(2) recall    = share of r in any B_k(g; G)
Naeem et al. 2020 (arXiv:2002.09797), k = 5, open balls:
(3) density   = mean over g of #{r : g ∈ B_k(r; R)} / k   (1 for real images; may exceed 1)
(4) coverage  = share of r with any g in B_k(r; R)
Each is a pass over |R|·|G| distances on the host; recall adds one over |G|².
"""

import dataclasses
from typing import ClassVar

from autoguide_jax.metrics import neighbours
from autoguide_jax.metrics.metric import Bank, Estimate, FeatureMetric, mean, undefined


@dataclasses.dataclass(frozen=True)
class Precision(FeatureMetric):
    """Share of samples on the real manifold, equation (1): fidelity; 1 is best.

    Settings:
      features: the feature extractor
      k: which nearest neighbour sets the radius of a ball
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
      k: which nearest neighbour sets the radius of a ball
    """

    name: ClassVar[str] = 'recall'

    def estimate(self, state: Bank, reference) -> Estimate:
        if state.count <= self.k:
            return undefined(f'{state.count} images have no neighbour number {self.k}')
        radii = neighbours.radii(state.features, self.k)[:, -1]
        counts = neighbours.count_balls(reference.features, state.features, radii, closed=True)
        return Estimate((counts > 0).mean())


@dataclasses.dataclass(frozen=True)
class Density(Precision):
    """How many real neighbourhoods a sample lies in, over k, equation (3): fidelity.

    Settings:
      features: the feature extractor
      k: which nearest neighbour sets the radius of a ball
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
      k: which nearest neighbour sets the radius of a ball
    """

    k: int = 5
    name: ClassVar[str] = 'coverage'

    def estimate(self, state: Bank, reference) -> Estimate:
        radii = reference.radii(self.k)
        return Estimate(neighbours.hit_balls(state.features, reference.features, radii).mean())
