"""The Fréchet distance between Gaussians fitted to two sets of features.

Dowson & Landau 1982; Heusel et al. 2017 (arXiv:1706.08500).
(1) μ = Σf/n,  Σ = (Σffᵀ − n·μμᵀ)/(n − 1), in float64.
(2) d = ‖μ₁ − μ₂‖² + tr(Σ₁) + tr(Σ₂) − 2·tr((Σ₁Σ₂)^½)
(3) tr((Σ₁Σ₂)^½) = Σᵢ √λᵢ,  λ the eigenvalues of the symmetric Σ₁^½ Σ₂ Σ₁^½, which is similar to
    Σ₁Σ₂ and has them real and ≥ 0; negative ones are rounding and count as 0.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from autoguide_jax.metrics.metric import FeatureMetric


class Moments:
    """Count, sum and sum of outer products of features, in float64; an accumulator."""

    def __init__(self):
        self.count = 0
        self.sum = None
        self.outer = None

    def add(self, features: Float[np.ndarray, 'n d'], logits=None, labels=None) -> None:
        """Take in the features of some images; logits and labels play no part."""
        features = np.asarray(features, np.float64)
        if self.count == 0:
            self.sum = np.zeros(features.shape[1])
            self.outer = np.zeros((features.shape[1], features.shape[1]))
        self.count += features.shape[0]
        self.sum += features.sum(0)
        self.outer += features.T @ features

    def gaussian(self) -> tuple[Float[np.ndarray, ' d'], Float[np.ndarray, 'd d']]:
        """Return mean and covariance, equation (1). Errors: ValueError with fewer than 2 images."""
        if self.count < 2:
            raise ValueError(f'a covariance needs at least 2 images; there are {self.count}')
        mu = self.sum / self.count
        return mu, (self.outer - self.count * np.outer(mu, mu)) / (self.count - 1)


def _gaussian(mu, sigma, which):
    mu, sigma = np.asarray(mu, np.float64), np.asarray(sigma, np.float64)
    if mu.ndim != 1 or sigma.shape != (mu.size, mu.size):
        raise ValueError(
            f'mu{which} {mu.shape} and sigma{which} {sigma.shape} must have shapes (d,) and (d, d)'
        )
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise ValueError(f'mu{which} or sigma{which} is not finite')
    if np.abs(sigma - sigma.T).max(initial=0) > 1e-6 * np.abs(sigma).max(initial=0):
        raise ValueError(f'sigma{which} is not symmetric: not a covariance')
    return mu, (sigma + sigma.T) / 2


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """Return the squared Fréchet distance of two Gaussians, equations (2) and (3), in float64.

    mu [d], sigma [d, d]. Rank-deficient covariances are fine. Errors: ValueError for shapes
    that do not fit, values that are not finite, covariances that are not symmetric.
    """
    mu1, sigma1 = _gaussian(mu1, sigma1, 1)
    mu2, sigma2 = _gaussian(mu2, sigma2, 2)
    if mu1.size != mu2.size:
        raise ValueError(f'features of {mu1.size} and of {mu2.size} dimensions cannot be compared')
    values, vectors = np.linalg.eigh(sigma1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root @ sigma2 @ root
    eigenvalues = np.linalg.eigvalsh((product + product.T) / 2).clip(0)
    trace = np.trace(sigma1) + np.trace(sigma2) - 2 * np.sqrt(eigenvalues).sum()
    return max(0.0, float(np.sum((mu1 - mu2) ** 2) + trace))


@dataclasses.dataclass(frozen=True)
class Frechet(FeatureMetric):
    """Fréchet distance of the samples' features to the reference's; smaller is better.

    Called by the extractor's title ('FD (digit classifier)', 'FD-EffNetLite0'): it is not FID.

    Settings:
      features: the feature extractor
    """

    state = Moments
    name = 'frechet'
    is_distance = True

    @property
    def title(self) -> str:
        return self.features.title

    def value(self, state: Moments, reference) -> float:
        return frechet_distance(*state.gaussian(), reference.mu, reference.sigma)
