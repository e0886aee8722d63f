"""The Fréchet distance between Gaussians fitted to two sets of features.

Dowson & Landau 1982; Heusel et al. 2017 (arXiv:1706.08500).
(1) μ = Σf/n,  Σ = Σ(f − μ)(f − μ)ᵀ/(n − 1), in float64.
(2) d = ‖μ₁ − μ₂‖² + tr(Σ₁) + tr(Σ₂) − 2·tr((Σ₁Σ₂)^½)
(3) tr((Σ₁Σ₂)^½) = Σᵢ √λᵢ,  λ the eigenvalues of the symmetric Σ₂^½ Σ₁ Σ₂^½, which is similar to
    Σ₁Σ₂ and has them real and ≥ 0; negative ones are rounding and count as 0.
What one sample f changes in d, to first order (the influence function; Efron 1982):
(4) ψ(f) = 2(μ₁ − μ₂)ᵀg + gᵀ(I − T)g − tr((I − T)Σ₁),  g = f − μ₁,
    T = Σ₂^½ (Σ₂^½ Σ₁ Σ₂^½)^−½ Σ₂^½, the optimal transport from the first Gaussian to the second.
(5) standard error of d = (Σψ²/(n − 1))^½ / √n: how d varies among sets of n samples. It says
    nothing of the bias of d, which is upwards and falls with 1/n.
(6) Groups merge as n = n_a + n_b, μ = μ_a + δ·n_b/n, S = S_a + S_b + δδᵀ·n_a·n_b/n, δ = μ_b − μ_a
    (Chan et al. 1983), so that nothing cancels.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from autoguide_jax.metrics.metric import Bank, Estimate, FeatureMetric

ROWS = 1024
RANK = 1e-10


class Moments:
    """Count, mean and scatter matrix Σ(f − μ)(f − μ)ᵀ of features, in float64; an accumulator."""

    def __init__(self, count: int = 0, mean: Any = 0.0, scatter: Any = 0.0):
        self.count, self.mean, self.scatter = count, mean, scatter

    def add(self, features: Float[np.ndarray, 'n d']) -> None:
        """Take in the features of some images."""
        for start in range(0, len(features), ROWS):
            part = np.asarray(features[start : start + ROWS], np.float64)
            mean = part.mean(0)
            part = part - mean
            self.merge(Moments(len(part), mean, part.T @ part))

    def merge(self, other: 'Moments') -> None:
        """Take in the moments of other images, equation (6)."""
        if not self.count:
            self.count, self.mean, self.scatter = other.count, other.mean, other.scatter
        elif other.count:
            total, apart = self.count + other.count, other.mean - self.mean
            outer = np.outer(apart, apart) * (self.count * other.count / total)
            self.mean = self.mean + apart * (other.count / total)
            self.scatter = self.scatter + other.scatter + outer
            self.count = total

    def gaussian(self) -> tuple[Float[np.ndarray, ' d'], Float[np.ndarray, 'd d']]:
        """Return mean and covariance, equation (1). Errors: ValueError with fewer than 2 images."""
        if self.count < 2:
            raise ValueError(f'a covariance needs at least 2 images; there are {self.count}')
        return self.mean, self.scatter / (self.count - 1)


def moments(features: Float[np.ndarray, 'n d']) -> Moments:
    """Return the Moments of some features."""
    found = Moments()
    found.add(features)
    return found


def gaussian(
    mu: ArrayLike, sigma: ArrayLike, names: tuple[str, str], asymmetry: float = 1e-6
) -> tuple[Float[np.ndarray, ' d'], Float[np.ndarray, 'd d']]:
    """Return mean and covariance in float64, the latter made symmetric.

    asymmetry: by which it may be off its transpose, in parts of its largest entry. Errors:
    ValueError, by these names, for other shapes, values that are not finite, no covariance.
    """
    mu, sigma = np.asarray(mu, np.float64), np.asarray(sigma, np.float64)
    both = ' and '.join(names)
    if mu.ndim != 1 or not mu.size or sigma.shape != (mu.size, mu.size):
        raise ValueError(f'{both} must have shapes (d,) and (d, d), not {mu.shape}, {sigma.shape}')
    for name, array in zip(names, (mu, sigma)):
        if not np.isfinite(array).all():
            raise ValueError(f'{name} is not finite')
    if np.abs(sigma - sigma.T).max() > asymmetry * np.abs(sigma).max():
        raise ValueError(f'{names[1]} is not symmetric: not a covariance')
    return mu, (sigma + sigma.T) / 2


def square_root(sigma: Float[np.ndarray, 'd d']) -> Float[np.ndarray, 'd d']:
    """Return the symmetric root of a covariance; negative eigenvalues are rounding."""
    values, vectors = np.linalg.eigh(sigma)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """Return the squared Fréchet distance of two Gaussians, equations (2) and (3), in float64.

    mu [d], sigma [d, d]. Rank-deficient covariances are fine. Errors: ValueError for shapes
    that do not fit, values that are not finite, covariances that are not symmetric.
    """
    mu1, sigma1 = gaussian(mu1, sigma1, ('mu1', 'sigma1'))
    mu2, sigma2 = gaussian(mu2, sigma2, ('mu2', 'sigma2'))
    if mu1.size != mu2.size:
        raise ValueError(f'features of {mu1.size} and of {mu2.size} dimensions cannot be compared')
    return Against(mu2, sigma2).distance(mu1, sigma1)


class Against:
    """The Gaussian (μ₂, Σ₂) that others are compared with; its root is computed once."""

    def __init__(self, mu: Float[np.ndarray, ' d'], sigma: Float[np.ndarray, 'd d']):
        self.mu, self.sigma = gaussian(mu, sigma, ('mu', 'sigma'))
        self.root = square_root(self.sigma)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.mu.nbytes + self.sigma.nbytes + self.root.nbytes

    def _product(self, sigma):
        product = self.root @ sigma @ self.root
        return (product + product.T) / 2

    def _sum(self, mu, sigma, eigenvalues):
        trace = np.trace(sigma) + np.trace(self.sigma)
        trace -= 2 * np.sqrt(eigenvalues.clip(0)).sum()
        return max(0.0, float(np.sum((mu - self.mu) ** 2) + trace))

    def distance(self, mu: Float[np.ndarray, ' d'], sigma: Float[np.ndarray, 'd d']) -> float:
        """Equations (2) and (3)."""
        return self._sum(mu, sigma, np.linalg.eigvalsh(self._product(sigma)))

    def estimate(self, features: Float[np.ndarray, 'n d']) -> Estimate:
        """Return the distance of the Gaussian of some features, with its error (4), (5).

        The error is NaN for n ≤ d: the covariance is then singular, and (4) has no bound.
        """
        found = moments(features)
        mu, sigma = found.gaussian()
        if found.count <= mu.size:
            reason = f'{found.count} images for {mu.size} dimensions: no standard error'
            return Estimate(self.distance(mu, sigma), math.nan, reason)
        values, vectors = np.linalg.eigh(self._product(sigma))
        value = self._sum(mu, sigma, values)
        # gᵀTg = ‖W g‖² with W = M^−¼ Σ₂^½, M = Σ₂^½ Σ₁ Σ₂^½; zero where Σ₂ is.
        known = values > values[-1] * RANK
        power = np.where(known, np.where(known, values, 1.0) ** -0.25, 0.0)
        half = (vectors * power).T @ self.root
        constant = np.trace(sigma) - np.sum((half @ sigma) * half)
        squares = 0.0
        for start in range(0, len(features), ROWS):
            g = np.asarray(features[start : start + ROWS], np.float64) - mu
            moved = g @ half.T
            influence = 2 * g @ (mu - self.mu) + np.sum(g * g, 1) - np.sum(moved * moved, 1)
            squares += np.sum((influence - constant) ** 2)
        n = found.count
        return Estimate(value, math.sqrt(squares / (n - 1) / n))


@dataclasses.dataclass(frozen=True)
class Frechet(FeatureMetric):
    """Fréchet distance of the samples' features to the reference's; smaller is better.

    Called by the extractor's title ('FD (digit classifier)', 'FD-EffNetLite0'): it is FID for the
    features of Inception-2015 only.

    Settings:
      features: the feature extractor
    """

    name = 'frechet'
    is_distance = True

    @property
    def title(self) -> str:
        return self.features.title

    @property
    def least(self) -> int:
        """What the distance is published for, or a covariance of full rank."""
        return self.features.published or self.features.dim + 1

    def estimate(self, state: Bank, reference) -> Estimate:
        return reference.against.estimate(state.features)


@dataclasses.dataclass(frozen=True)
class SpatialFrechet(FeatureMetric):
    """sFID: Fréchet distance of features that keep places (Nash et al. 2021, arXiv:2103.03841).

    Settings:
      features: the feature extractor; one that has spatial features
    """

    name = 'sfid'
    keep = ('spatial',)
    needs = ('mu_s', 'sigma_s')
    is_distance = True

    @property
    def title(self) -> str:
        return f's{self.features.title}'

    @property
    def least(self) -> int:
        return self.features.published or (self.features.spatial_dim or 0) + 1

    def check(self, reference) -> None:
        """Also raise it for an extractor without spatial features, or with others."""
        if self.features.spatial_dim is None:
            raise ValueError(
                f'sfid: {self.features.name!r} has no spatial features. Leave it out, or use the '
                "extractor 'inception', which has them."
            )
        super().check(reference)
        if reference.mu_s.size != self.features.spatial_dim:
            raise ValueError(
                f'sfid: {reference.source} has {reference.mu_s.size} spatial features, '
                f'{self.features.name!r} has {self.features.spatial_dim}: they are different ones'
            )

    def estimate(self, state: Bank, reference) -> Estimate:
        return reference.against_spatial.estimate(state.spatial)
