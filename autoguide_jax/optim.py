"""Adam with the EDM2 learning rate (arXiv 2312.02696, Eq. 67 and appendix B).

(1) lr(n) = α_ref / √max(n / (t_ref·batch), 1) · min(n / n_rampup, 1)
    n = images seen before the step: the first step of a run with a ramp-up has lr 0.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import optax


@dataclass(frozen=True)
class Adam:
    """EDM2's optimiser: constant, then inverse square root decay, after a linear ramp-up.

    Settings:
      lr: peak learning rate α_ref
      ref_batches: t_ref, batches after which the rate decays; 0 = constant
      rampup_nimg: images over which the rate rises linearly from 0
      beta1: decay of the gradient average
      beta2: decay of the squared-gradient average
      eps: added to the root of the squared-gradient average
    """

    lr: float = 0.01
    ref_batches: float = 70000.0
    rampup_nimg: int = 10_000_000
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8

    def __post_init__(self):
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.eps >= 0):
            raise ValueError(
                f'beta1 ({self.beta1}) and beta2 ({self.beta2}) must be in [0, 1), eps '
                f'({self.eps}) must be ≥ 0'
            )
        if self.lr <= 0 or self.ref_batches < 0 or self.rampup_nimg < 0:
            raise ValueError(
                f'lr ({self.lr}) must be > 0, ref_batches ({self.ref_batches}) and rampup_nimg '
                f'({self.rampup_nimg}) must be ≥ 0'
            )

    def learning_rate(self, step, batch_size):
        """Eq. (1) for 0-based step: a Python int or a traced integer; float32."""
        if self.ref_batches:
            lr = self.lr / jnp.sqrt(jnp.maximum(step / self.ref_batches, 1.0))
        else:
            lr = self.lr
        if self.rampup_nimg:
            lr = lr * jnp.minimum(step * (batch_size / self.rampup_nimg), 1.0)
        return lr

    def build(self, batch_size):
        """The optax transformation for a fixed batch size (images)."""
        return optax.adam(
            lambda step: self.learning_rate(step, batch_size), self.beta1, self.beta2, self.eps
        )
