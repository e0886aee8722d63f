"""Denoisers D(x; σ, c) around backbones: preconditioning, or the gradient of a log density.

(1) D(x; σ, c) = c_skip·x + c_out·F(c_in·x; c_noise, c)      arXiv 2206.00364, Eq. 7
(2) c_skip = σ_d²/(σ²+σ_d²)   c_out = σσ_d/√(σ²+σ_d²)   c_in = 1/√(σ²+σ_d²)   [Table 1]
(3) c_noise = ln(σ) / 4
(4) u(σ) = linear(fourier_128(c_noise)), one log-variance per sample, training only  [Eq. 21]
(5) D(x; σ) = x + σ²·∇ₓ G(x; σ), where the backbone gives a log density G            [Eq. 3]
"""

import jax.numpy as jnp
from flax import linen as nn

from autoguide_jax.backbones import mp
from autoguide_jax.registry import Registry

table = Registry(
    'denoiser',
    {
        'edm': 'autoguide_jax.denoiser:Denoiser',
        'log_density': 'autoguide_jax.denoiser:LogDensity',
    },
)


class Denoiser(nn.Module):
    """D(x; σ, c) around a backbone; F may run in half precision, D is float32.

    Denoiser(backbone).init(key, x, sigma, labels) → {'params': …, 'buffers': …}
    Denoiser(backbone).apply(variables, x, sigma, labels) → x0 float32, shape of x.
    x [n, …] noisy sample in model space; sigma [] or [n], > 0; labels int32 [n], −1 = none (also
    float [n, label_dim] for soft labels, or None for no label at all).

    Settings:
      backbone: the network F
      sigma_data: standard deviation of the data in model space (paper: 0.5)
      logvar_channels: Fourier features of the uncertainty head
    """

    backbone: nn.Module
    sigma_data: float = 0.5
    logvar_channels: int = 128

    @nn.compact
    def __call__(self, x, sigma, labels=None, dropout_keys=None, return_logvar=False):
        x = x.astype(jnp.float32)
        sigma = jnp.broadcast_to(jnp.asarray(sigma, jnp.float32), x.shape[:1])
        s = sigma.reshape(-1, *[1] * (x.ndim - 1))
        total = jnp.sqrt(s**2 + self.sigma_data**2)
        c_skip, c_out, c_in = self.sigma_data**2 / total**2, s * self.sigma_data / total, 1 / total
        c_noise = jnp.log(sigma) / 4
        x0 = c_skip * x + c_out * self.backbone(c_in * x, c_noise, labels, dropout_keys)
        fourier = mp.MPFourier(self.logvar_channels, name='logvar_fourier')
        logvar = mp.MPConv(1, name='logvar_linear')(fourier(c_noise))[:, 0]
        return (x0, logvar) if return_logvar else x0

    def apply_with_logvar(self, variables, x, sigma, labels=None, dropout_keys=None):
        """D and u(σ): (x0 float32, shape of x; logvar float32 [n]); Eq. (4)."""
        return self.apply(variables, x, sigma, labels, dropout_keys, True)

    def normalize_weights(self, params):
        """Forced weight normalisation of backbone and uncertainty head, before a training step."""
        head = mp.normalize_weights({'logvar_linear': params['logvar_linear']})
        return {**params, **head, 'backbone': self.backbone.normalize_weights(params['backbone'])}


def with_ready_weights(denoiser, variables, shape):
    """Variables that also hold the weights that layers multiply with, normalised and rounded.

    For a program that evaluates one network many times; shape: that of one sample. The output of
    this evaluation is not used, so XLA leaves it out.
    """
    x, sigma = jnp.zeros((1, *shape)), jnp.ones(())
    made = denoiser.apply(variables, x, sigma, jnp.zeros(1, jnp.int32), mutable=['ready'])[1]
    return {**variables, **made}


class LogDensity(nn.Module):
    """D(x; σ) = x + σ²∇G(x; σ) around a backbone that gives G [n], Eq. (5); float32.

    Called like Denoiser. It has no uncertainty head: u(σ) = 0.

    Settings:
      backbone: the log density G(x [n, …], sigma [n]) → [n]
      sigma_data: standard deviation of the data in model space
    """

    backbone: nn.Module
    sigma_data: float = 0.5

    @nn.compact
    def __call__(self, x, sigma, labels=None, dropout_keys=None, return_logvar=False):
        x = x.astype(jnp.float32)
        sigma = jnp.broadcast_to(jnp.asarray(sigma, jnp.float32), x.shape[:1])
        density = lambda backbone, x: backbone(x, sigma, labels, dropout_keys)
        value, back = nn.vjp(density, self.backbone, x, vjp_variables='params')
        if value.shape != x.shape[:1]:
            raise ValueError(
                f'denoiser.name (log_density) needs a network that gives one log density per '
                f'sample; {type(self.backbone).__name__} gives {list(value.shape)}'
            )
        score = back(jnp.ones_like(value))[1]
        x0 = x + sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2 * score
        return (x0, jnp.zeros_like(sigma)) if return_logvar else x0

    def apply_with_logvar(self, variables, x, sigma, labels=None, dropout_keys=None):
        """D and u(σ) = 0: (x0 float32, shape of x; [n])."""
        return self.apply(variables, x, sigma, labels, dropout_keys, True)

    def log_density(self, variables, x, sigma):
        """G(x; σ) float32 [n] for x [n, …] and sigma [] or [n], up to a constant of σ."""
        sigma = jnp.broadcast_to(jnp.asarray(sigma, jnp.float32), x.shape[:1])
        inner = {kind: tree.get('backbone', {}) for kind, tree in variables.items()}
        return self.backbone.apply(inner, x.astype(jnp.float32), sigma)

    def normalize_weights(self, params):
        """Forced weight normalisation of the backbone, before a training step."""
        return {**params, 'backbone': self.backbone.normalize_weights(params['backbone'])}
