"""A guidance weight by noise level, w(σ), through knots (σ_k, s_k).

    (1) w(σ) = 1 + (w − 1)·s(σ) for σ in (lo, hi], else 1            as 2404.07724, Eq. 5, if s = 1
    (2) s(σ) = s_k + (s_k+1 − s_k)·ln(σ/σ_k) / ln(σ_k+1/σ_k)         σ_k ≤ σ < σ_k+1
        s(σ) = s_1 below the first knot, s_n above the last

w is the weight where s = 1; w = 1 is off everywhere, and several guides share (w − 1)·s(σ) out as
they share w − 1. Two knots almost at one place make a step: intervals of 2404.07724 with weights of
their own. Knots in ln σ are our choice: samplers take steps about even in it.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from autoguide_jax.guidance.autoguidance import Guidance


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Schedule(Guidance):
    """One guide whose excess w − 1 is scaled by s(σ), Eqs. (1, 2); otherwise as Guidance.

    sigmas: knots, noise levels, ascending, > 0. scales: s at each. All numbers are traced: another
    number of knots is the only change that compiles anew.
    """

    sigmas: tuple[float, ...] = (1.0,)
    scales: tuple[float, ...] = (1.0,)

    def excess(self, sigma):
        """w(σ) − 1, float32, shape of sigma; exactly 0 wherever the guide does not act."""
        return super().excess(sigma) * self.scale(sigma)

    def scale(self, sigma):
        """s(σ), Eq. (2), float32, shape of sigma."""
        sigma, sigmas, scales = (
            jnp.asarray(v, jnp.float32) for v in (sigma, self.sigmas, self.scales)
        )
        # Noise levels are compared, not their logarithms: a knot is hit exactly, compiled or not.
        last = len(self.sigmas) - 1
        k = jnp.clip(jnp.searchsorted(sigmas, sigma, side='right') - 1, 0, last)
        after = jnp.minimum(k + 1, last)
        low, high = sigmas[k], sigmas[after]
        way = jnp.where(high > low, jnp.log(high / low), 1.0)
        share = jnp.clip(jnp.log(sigma / low) / way, 0.0, 1.0)
        return scales[k] + share * (scales[after] - scales[k])
