"""Guiding a denoiser with worse versions of itself (arXiv 2406.02507).

    (1) D_w(x; σ) = D_0 + w·(D_m − D_0)                              one guide     [Eq. 3]
    (2) D = D_m + Σ_i (w_i(σ) − 1)·(D_m − D_i)                       any number    [Eq. 6]
        w_i(σ) = w_i for σ in (lo_i, hi_i], else 1                   2404.07724, Eq. 5
    (3) a total w split by α:  w_c = α(w−1) + 1,  w_u = (1−α)(w−1) + 1             [App. B.2]

(1) is (2) with one guide. What D_0 is makes the method: a smaller, less trained network with the
same labels is autoguidance; an unconditional network, or null labels, is classifier-free guidance.
A guide is evaluated only on steps inside its interval, and never where its weight is 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Guidance:
    """One guide with weight w inside the noise levels interval = (lo, hi]; w = 1 is off.

    Guidance(weight, interval)(main, guide) → denoise, all three (x, sigma) → x0.
    Guidance.combine([...])(main, guides) → denoise with several guides, Eq. (2).
    Weight and interval are traced: changing them does not recompile.
    """

    weight: float = 1.0
    interval: tuple[float, float] = (0.0, float('inf'))

    def __call__(self, main: Callable, guide: Callable, together: Callable | None = None):
        return Combined((self,))(main, (guide,), together)

    @staticmethod
    def combine(parts):
        """Several Guidance, one per guide, in the order of the guides given later."""
        return Combined(tuple(parts))

    def excess(self, sigma):
        """w(σ) − 1, float32, shape of sigma; 0 where the guide does not act."""
        sigma = jnp.asarray(sigma, jnp.float32)
        lo, hi = self.interval
        inside = (sigma > lo) & (sigma <= hi)
        return jnp.where(inside, jnp.asarray(self.weight, jnp.float32) - 1.0, 0.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Combined:
    """Several guides at once, Eq. (2)."""

    parts: tuple[Guidance, ...]

    def __call__(self, main: Callable, guides, together: Callable | None = None):
        """(main, guides) → denoise.

        together: optional (x, sigma) → (D_m, [D_i]) that evaluates all networks in one call; used
        on steps where any guide acts. Errors: ValueError if guides and weights differ in number.
        """
        guides = tuple(guides)
        if len(guides) != len(self.parts):
            raise ValueError(f'{len(self.parts)} guidance weights for {len(guides)} guides')

        def denoise(x, sigma):
            excess = [part.excess(sigma) for part in self.parts]
            if together is not None:
                return stacked(main, together, excess, x, sigma)
            x0 = main(x, sigma)
            push = jnp.zeros_like(x0)
            for e, guide in zip(excess, guides):
                push = push + pull_away(guide, e, x0, x, sigma)
            return x0 + push

        return denoise


def pull_away(guide, excess, x0, x, sigma):
    """(w(σ) − 1)·(D_m − D_i), without calling the guide where that is 0 for every sample."""
    return jax.lax.cond(
        jnp.any(excess != 0),
        lambda: per_sample(excess, x) * (x0 - guide(x, sigma)),
        lambda: jnp.zeros_like(x0),
    )


def stacked(main, together, excess, x, sigma):
    """Eq. (2) with all networks in one call where any guide acts, the main one alone elsewhere."""

    def guided():
        x0, others = together(x, sigma)
        return x0 + sum(per_sample(e, x) * (x0 - other) for e, other in zip(excess, others))

    acts = sum(jnp.any(e != 0).astype(jnp.int32) for e in excess) > 0
    return jax.lax.cond(acts, guided, lambda: main(x, sigma))


def per_sample(value, x):
    """[] or [n] → broadcastable against x [n, …]."""
    return value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim else value


def split_total(weight, alpha):
    """A fixed total weight split into (w_c for the guide, w_u for the unconditional), Eq. (3)."""
    return alpha * (weight - 1) + 1, (1 - alpha) * (weight - 1) + 1
