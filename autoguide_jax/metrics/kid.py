"""The kernel distance: unbiased maximum mean discrepancy of two sets of features.

Bińkowski et al. 2018 (arXiv:1801.01401); of the features of Inception-2015 it is KID.
(1) k(x, y) = (x·y/d + 1)³,  d the number of dimensions
(2) MMD²(X, Y) = mean over i ≠ j of k(xᵢ, xⱼ) + mean over i ≠ j of k(yᵢ, yⱼ)
               − 2·mean over i, j of k(xᵢ, yⱼ)
    is 0 on average for sets of one distribution, and as often negative as positive.
(3) T_a = mean over b of MMD²(X_a, Y_b),  KID = mean over a of T_a,  for disjoint subsets X_a of the
    samples, GROUPS of them or more, and Y_b of the real features that the reference keeps; at most
    MOST on either side; what does not fill a subset is left out. Subsets are drawn at random: on
    average over them KID is MMD² of the whole sets, whatever their sizes, and copies of an image
    count as there. Published code draws 100 pairs of subsets with repetition: the mean is the same
    on average, and here varies less.
(4) standard error = sd(T_a)/√count, of count − 1 degrees of freedom. The T_a are independent for a
    given reference, so that it says how KID varies among sets of samples. It holds the real
    features fixed: those of another data set of the same distribution would give another KID.
    Samples with equal numbers of every class are more even than independent ones, and have a KID
    that is too small by O(1/samples).
All in float64: one pass over |X|·|Y| + Σ|X_a|² + Σ|Y_b|² products on the host.
"""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from autoguide_jax import stop
from autoguide_jax.metrics.metric import GROUPS, Bank, Estimate, FeatureMetric, mean, undefined

MOST = 100


def kernel(x: Float[np.ndarray, 'n d'], y: Float[np.ndarray, 'm d']) -> Float[np.ndarray, 'n m']:
    """Equation (1)."""
    values = x @ y.T / x.shape[1] + 1
    # Two products: a power of floats takes far longer.
    return values * values * values


def within(x: Float[np.ndarray, 'n d']) -> float:
    """Return the mean of k over pairs of different rows, the first terms of equation (2)."""
    values = kernel(x, x)
    return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))


def discrepancy(x: Float[np.ndarray, 'n d'], y: Float[np.ndarray, 'm d']) -> float:
    """Equation (2), float64. Errors: ValueError with fewer than 2 rows on either side."""
    if min(len(x), len(y)) < 2:
        raise ValueError(f'kid needs 2 images on either side, not {len(x)} and {len(y)}')
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return within(x) + within(y) - 2 * float(kernel(x, y).mean())


def subsets(features: Float[np.ndarray, 'n d'], order: np.ndarray, size: int) -> list[np.ndarray]:
    """Return disjoint subsets of `size` rows, taken in an order of rows; at most MOST."""
    count = min(MOST, len(order) // size)
    return [features[order[i * size : (i + 1) * size]] for i in range(count)]


@dataclasses.dataclass(frozen=True)
class KernelDistance(FeatureMetric):
    """Kernel distance of the samples' features to the real ones, equation (3); smaller is better.

    Settings:
      features: the feature extractor
      subset_size: images per subset, at most a tenth of the samples and half of the real ones;
        from Python only
    """

    subset_size: int = 1000
    name: ClassVar[str] = 'kid'
    needs: ClassVar[tuple[str, ...]] = ('features',)
    is_distance: ClassVar[bool] = True

    def __post_init__(self):
        if self.subset_size < 2:
            raise ValueError(f'kid.subset_size ({self.subset_size}) must be at least 2')

    @property
    def title(self) -> str:
        return f'K{self.features.title[1:]}'

    @property
    def least(self) -> int:
        return 2 * self.subset_size

    def estimate(self, state: Bank, reference) -> Estimate:
        real = reference.features
        size = min(self.subset_size, state.count // GROUPS)
        real_size = min(self.subset_size, len(real) // 2)
        if min(size, real_size) < 2:
            return undefined(
                f'kid needs {2 * GROUPS} samples and 4 real images, not {state.count} and '
                f'{len(real)}'
            )
        # The order of the real ones is random but another: equal sets must not meet in pairs.
        shuffled = np.random.default_rng(0).permutation(len(real))
        theirs = subsets(real, shuffled, real_size)
        total, values = 0.0, []
        for real_part in theirs:
            stop.check('computing kernels')
            total += within(real_part.astype(np.float64))
        for part in subsets(state.features, state.shuffled(), size):
            part = part.astype(np.float64)
            apart = 0.0
            for real_part in theirs:
                stop.check('computing kernels')
                apart += float(kernel(part, real_part.astype(np.float64)).mean())
            values.append(within(part) + (total - 2 * apart) / len(theirs))
        return mean(np.array(values))
