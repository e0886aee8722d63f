"""Log densities without weights, for the 2-D example: the truth, and knowing nothing.

As main network the truth shows what the sampler alone does. As guide, `Flat` has D_0(x; σ) = x, so
D_w = x + w·(D_m − x): every score times w, which is the paper's naive truncation.
"""

import jax.numpy as jnp
from flax import linen as nn

from autoguide_jax.mixture import CLASSES, mixture
from autoguide_jax.registry import suggest


class Exact(nn.Module):
    """log p(x; σ) [n] of the mixture for x [n, 2] and sigma [n] > 0.

    Settings:
      classes: which mixture: A, B or AB
      channels: dimensions of the space
    """

    classes: str = 'A'
    channels: int = 2

    def __post_init__(self):
        if self.classes not in CLASSES:
            raise ValueError(
                f'classes ({self.classes!r}): no such class.{suggest(self.classes, CLASSES)}'
            )
        super().__post_init__()

    def __call__(self, x, sigma, labels=None, dropout_keys=None):
        return mixture(self.classes).log_prob(x, sigma)

    def normalize_weights(self, params):
        """There are none."""
        return params


class Flat(nn.Module):
    """The same density everywhere: score 0.

    Settings:
      channels: dimensions of the space
    """

    channels: int = 2

    def __call__(self, x, sigma, labels=None, dropout_keys=None):
        return 0 * jnp.sum(x, axis=1)

    def normalize_weights(self, params):
        """There are none."""
        return params
