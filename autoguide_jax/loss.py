"""Training losses: EDM2's (arXiv 2312.02696, Eq. 15 and 21; 2206.00364, Table 1), exact scores.

(1) ln σ ~ N(P_mean, P_std²)
(2) λ(σ) = (σ² + σ_d²) / (σ σ_d)²
(3) L = Σ_pixels [ λ/e^u · (D(x0 + σε; σ) − x0)² + u ],  mean over the batch
(4) where the truth is known (arXiv 2406.02507, App. C), x = x0 + σε ~ p(x; σ):
    L = σ²·mean_coordinates (s(x; σ) − ∇log p(x; σ))²,   s = (D(x; σ) − x)/σ²
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from autoguide_jax.registry import Registry

table = Registry(
    'loss',
    {
        'edm2': 'autoguide_jax.loss:EDM2Loss',
        'score_matching': 'autoguide_jax.loss:ScoreMatching',
    },
)


@dataclass(frozen=True)
class EDM2Loss:
    """Denoising loss weighted by the learned uncertainty u(σ).

    Settings:
      p_mean: mean of ln σ in training
      p_std: standard deviation of ln σ in training
      sigma_data: standard deviation of the data in model space
    """

    p_mean: float = -0.4
    p_std: float = 1.0
    sigma_data: float = 0.5

    def __post_init__(self):
        if self.p_std <= 0 or self.sigma_data <= 0:
            raise ValueError(f'p_std ({self.p_std}) and sigma_data ({self.sigma_data}) must be > 0')

    def __call__(self, denoise_with_logvar, x0, keys):
        """Per-sample loss [n], unweighted loss per element [n] and sigma [n].

        denoise_with_logvar: (x, sigma [n]) → (D, u [n]); x0 [n, …] in model space; keys [n], one
        per sample, so the noise of a sample does not depend on how the batch is split.
        """
        normal, noise = draw(keys, x0.shape[1:])
        return self.at(denoise_with_logvar, x0, jnp.exp(normal * self.p_std + self.p_mean), noise)

    def at(self, denoise_with_logvar, x0, sigma, noise):
        """Eq. (3) at given sigma [n] and unit noise, shape of x0."""
        s = sigma.reshape(-1, *[1] * (x0.ndim - 1))
        denoised, logvar = denoise_with_logvar(x0 + s * noise, sigma)
        u = logvar.reshape(s.shape)
        weight = (s**2 + self.sigma_data**2) / (s * self.sigma_data) ** 2
        error = weight * jnp.square(denoised - x0)
        pixels = tuple(range(1, x0.ndim))
        return jnp.sum(error / jnp.exp(u) + u, pixels), jnp.mean(error, pixels), sigma


@dataclass(frozen=True)
class ScoreMatching:
    """Exact score matching, Eq. (4), for data sets that know their score.

    Settings:
      p_mean: mean of ln σ in training
      p_std: standard deviation of ln σ in training
      score: ∇log p(x; σ), (x [n, …], sigma [n]) → [n, …]; the data set gives it
    """

    score: Callable
    p_mean: float = -2.3
    p_std: float = 1.5

    def __post_init__(self):
        if self.p_std <= 0:
            raise ValueError(f'p_std ({self.p_std}) must be > 0')

    def __call__(self, denoise_with_logvar, x0, keys):
        """Per-sample loss [n], the same as error per element [n], and sigma [n]; keys [n]."""
        normal, noise = draw(keys, x0.shape[1:])
        sigma = jnp.exp(normal * self.p_std + self.p_mean)
        x = x0 + sigma.reshape(-1, *[1] * (x0.ndim - 1)) * noise
        each = self.at(denoise_with_logvar, x, sigma)
        return each, each, sigma

    def at(self, denoise_with_logvar, x, sigma):
        """Eq. (4) [n] at given noisy points x [n, …] and sigma [n]."""
        s = sigma.reshape(-1, *[1] * (x.ndim - 1))
        denoised, _ = denoise_with_logvar(x, sigma)
        error = (denoised - x) / s - s * self.score(x, sigma)
        return jnp.mean(jnp.square(error), tuple(range(1, x.ndim)))


def draw(keys, shape):
    """One normal [n] for ln σ and unit noise [n, *shape], each from its own sample's key."""

    def one(key):
        level, noise = jax.random.split(key)
        return jax.random.normal(level), jax.random.normal(noise, shape)

    return jax.vmap(one)(keys)
