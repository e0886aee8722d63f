"""How good a guide may be, and its weight, from the errors of two networks against a third.

At x = x0 + σε, the same for all three; means E are over images and noise, per element:
    (1) e_m = D_m − D_ref,  e_i = D_i − D_ref,  L = E|D − x0|²,  δ = E|D_m − D_i|²
    (2) r = √(E|e_i|² / E|e_m|²),  cosine = E⟨e_m, e_i⟩ / √(E|e_m|² E|e_i|²)
    (3) r̂ = √((L_i − L_ref)/(L_m − L_ref)): size without alignment. Where D_ref = E[x0|x] it is r
    (4) e_w = e_m + (w − 1)(e_m − e_i),  E|e_w|² is a parabola in w: least at
        w_ls = 1 + (E⟨e_m, e_i⟩ − E|e_m|²)/δ
    (5) w_data = ½ + (L_i − L_m)/(2δ) is w_ls of D_ref = E[x0|x], which it does not need to know
    (6) aligned errors, e_i = r·e_m:  w = r/(r − 1) leaves none
    (7) removable = 1 − min_{w ≥ 1} E|e_w|²/E|e_m|² = ((E⟨e_m, e_i⟩ − E|e_m|²)⁺)² / (δ E|e_m|²)
    (8) score = mean_σ cosine − ½|ln(w − 1)|, w of (6) for r = exp(mean_σ ln r): 1 for a guide that
        is twice as wrong in the same direction, w = 2. arXiv 2406.02507, Table 1: w = 1.7 … 2.9
One w for all noise levels: the moments of (4, 5, 7) are summed with λ(σ) = (σ² + σ_d²)/(σσ_d)² over
the steps of the sampler, the weight of the training loss (arXiv 2206.00364, Table 1).
Standard errors: the jackknife over images, √((n − 1)/n Σ (θ_{−i} − mean θ_{−i})²).

(8) and not (7) ranks, because it did so better where the truth is known (docs/guide_finder.png):
guidance mends the few samples that stray, and mean squares over the data say little of them.
What has no value is NaN.
"""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """Means over images, per element, by noise level: arrays [k], or [n, k] of n images.

    mm, mi, ii: E|e_m|², E⟨e_m, e_i⟩, E|e_i|²; loss: L_m; guide, reference: L_i − L_m, L_ref − L_m.
    """

    mm: np.ndarray
    mi: np.ndarray
    ii: np.ndarray
    loss: np.ndarray
    guide: np.ndarray
    reference: np.ndarray

    @property
    def apart(self):
        """δ of Eq. (1)."""
        return np.maximum(self.mm - 2 * self.mi + self.ii, 0)


def where(condition, value):
    """The value where the condition holds, NaN elsewhere, without a warning."""
    with np.errstate(all='ignore'):
        return np.where(condition, value(), np.nan)


def ratio(m):
    """r of Eq. (2)."""
    return where((m.mm > 0) & (m.ii > 0), lambda: np.sqrt(m.ii / m.mm))


def cosine(m):
    """Eq. (2)."""
    return where((m.mm > 0) & (m.ii > 0), lambda: m.mi / np.sqrt(m.mm * m.ii))


def excess_ratio(m):
    """r̂ of Eq. (3); NaN where an excess loss is not above 0."""
    main, guide = -m.reference, m.guide - m.reference
    return where((main > 0) & (guide > 0), lambda: np.sqrt(guide / main))


def aligned_weight(r):
    """w of Eq. (6); NaN unless r > 1."""
    r = np.asarray(r, np.float64)
    return where(r > 1, lambda: r / (r - 1))


def least_squares_weight(m):
    """w_ls of Eq. (4)."""
    return where(m.apart > 0, lambda: 1 + (m.mi - m.mm) / m.apart)


def data_weight(m):
    """w_data of Eq. (5)."""
    return where(m.apart > 0, lambda: 0.5 + m.guide / (2 * m.apart))


def removable(m):
    """Eq. (7): the share of main's mean square error that the best w ≥ 1 removes."""
    gain = np.maximum(m.mi - m.mm, 0) ** 2
    return where((m.apart > 0) & (m.mm > 0), lambda: gain / (m.apart * m.mm))


def pooled(m, weights):
    """Moments summed over noise levels with weights [k]."""
    return Moments(*(np.sum(value * weights, axis=-1) for value in m))


def loss_weight(sigmas, sigma_data):
    """λ(σ)."""
    return (sigmas**2 + sigma_data**2) / (sigmas * sigma_data) ** 2


def overall_ratio(m):
    """The geometric mean of r over the noise levels."""
    return np.exp(np.mean(np.log(ratio(m)), axis=-1))


def score(m):
    """Eq. (8); NaN for a guide that is no worse than main."""
    r = overall_ratio(m)
    return np.mean(cosine(m), axis=-1) - where(r > 1, lambda: np.abs(np.log(r - 1)) / 2)


def mean(m):
    """The Moments [k] of those of n images [n, k]."""
    return Moments(*(np.mean(value, axis=0) for value in m))


def jackknife(statistic, m):
    """(value, standard error) of a statistic of Moments, from those of n ≥ 2 images [n, k]."""
    n = len(m.mm)
    value = statistic(mean(m))
    without = statistic(Moments(*((np.sum(v, axis=0) - v) / (n - 1) for v in m)))
    spread = np.sum((without - np.mean(without, axis=0)) ** 2, axis=0)
    return value, np.sqrt((n - 1) / n * spread)
