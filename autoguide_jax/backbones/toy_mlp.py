"""The 2-D example's network: a scalar log density over the plane (arXiv 2406.02507, App. C).

    (1) G(x; σ) = gain·mean(y²)/σ − ½‖x*‖²,   x* = x/√(σ² + σ_d²)
    (2) y = W₄ φ(W₃ φ(… φ(W₀ [x*, ln(σ)/4, 1]))),  φ and W magnitude-preserving (mp.py)
Its gradient is the score; denoiser.LogDensity takes it.
"""

import jax.numpy as jnp
from flax import linen as nn

from autoguide_jax.backbones import mp


class ToyMLP(nn.Module):
    """G(x; σ) [n] for x [n, channels] and sigma [n] > 0; labels are not used.

    Settings:
      channels: dimensions of the space
      width: hidden units
      layers: hidden layers
      sigma_data: standard deviation of the data
      dropout: probability that a hidden unit is dropped, where dropout keys are given
    """

    channels: int = 2
    width: int = 64
    layers: int = 4
    sigma_data: float = 0.5
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, sigma, labels=None, dropout_keys=None):
        scaled = x / jnp.sqrt(sigma**2 + self.sigma_data**2)[:, None]
        level = jnp.stack([jnp.log(sigma) / 4, jnp.ones_like(sigma)], axis=1)
        y = mp.MPConv(self.width, name='in')(jnp.concatenate([scaled, level], axis=1))
        for i in range(self.layers):
            y = mp.silu(y)
            if self.dropout and dropout_keys is not None:
                y = mp.dropout(y, self.dropout, dropout_keys, f'hidden_{i}')
            y = mp.MPConv(self.width, name=f'hidden_{i}')(y)
        gain = self.param('gain', nn.initializers.zeros, (), jnp.float32)
        return gain * jnp.mean(y * y, axis=1) / sigma - 0.5 * jnp.sum(scaled * scaled, axis=1)

    def normalize_weights(self, params):
        """Forced weight normalisation of all layers."""
        return mp.normalize_weights(params)
