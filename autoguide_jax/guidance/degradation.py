"""Ways to make a trained network worse on purpose (arXiv 2406.02507, Sec. 4).

    (1) dropout      D'(x; σ) = E_mask D(x; σ, mask)
    (2) input noise  D'(x; σ) = E_ε D(x + √(ρ² − 1)·σε; ρσ),   ε ~ N(0, I), ρ = 1 + amount
    (3) quantised    D' has every weight rounded to 2^bits − 1 levels between ± its layer's largest

For studies: the paper found that such versions of the main network do not work as its guides. The
expectations are over a fixed set of masks or offsets, the same for every sample and noise level, so
that D' is a network like any other and two strengths of one kind err in the same direction.

A member is a frozen dataclass called with (network, variables, labels) → denoise, where network has
Linen's apply and clone; evaluations(shape of a sample) is how often D' asks it.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

# Gauss-Hermite: the mean of a polynomial of degree 5 in each normal coordinate is exact.
NODES, WEIGHTS = np.sqrt(3) * np.array([-1.0, 0.0, 1.0]), np.array([1, 4, 1]) / 6
MAX_OFFSETS = 27


@dataclass(frozen=True)
class Dropout:
    """Eq. (1) over `draws` masks that drop every unit equally often.

    Settings:
      rate: share of the hidden units that a mask drops
      draws: masks
      seed: of the masks
    """

    rate: float = 0.05
    draws: int = 20
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.rate < 1 or self.draws < 1:
            raise ValueError(f'rate ({self.rate}) must be in (0, 1) and draws ({self.draws}) ≥ 1')

    def evaluations(self, shape):
        """Evaluations of the network for one of D'."""
        return self.draws

    def __call__(self, network, variables, labels):
        network = network.clone(backbone=network.backbone.clone(dropout=self.rate))
        turns = jnp.arange(self.draws) / self.draws

        def denoise(x, sigma):
            keys = jnp.broadcast_to(jax.random.key(self.seed), x.shape[:1])
            one = lambda turn: network.apply(variables, x, sigma, labels, (keys, turn))
            return jnp.mean(jax.lax.map(one, turns), axis=0)

        return denoise


@dataclass(frozen=True)
class InputNoise:
    """Eq. (2): the input gets noisier, and the network is told so. By quadrature, in the plane.

    Settings:
      amount: how much the noise level rises, 0.1 = by 10 %
    """

    amount: float = 0.1

    def __post_init__(self):
        if self.amount <= 0:
            raise ValueError(f'amount ({self.amount}) must be > 0')

    def evaluations(self, shape):
        """Evaluations of the network for one of D', for samples [*shape]."""
        return len(quadrature(int(np.prod(shape)))[1])

    def __call__(self, network, variables, labels):
        rho = 1 + self.amount
        spread = np.sqrt(rho**2 - 1)

        def denoise(x, sigma):
            offsets, weights = quadrature(int(np.prod(x.shape[1:])))
            offsets = jnp.asarray(offsets, x.dtype).reshape(-1, 1, *x.shape[1:])
            s = jnp.reshape(sigma, (-1, *[1] * (x.ndim - 1)))
            one = lambda e: network.apply(variables, x + spread * s * e, rho * sigma, labels)
            found = jax.lax.map(one, offsets)
            return jnp.tensordot(jnp.asarray(weights, x.dtype), found, 1, precision='highest')

        return denoise


def quadrature(dimensions):
    """Nodes [k, d] and weights [k] of the mean over d unit normals, k = 3^d."""
    if 3**dimensions > MAX_OFFSETS:
        raise ValueError(
            f'input noise by quadrature takes 3^{dimensions} offsets in {dimensions} dimensions; '
            'it is made for the 2-D example'
        )
    grid = lambda a: np.meshgrid(*[a] * dimensions, indexing='ij')
    nodes = np.stack([g.ravel() for g in grid(NODES)], axis=1)
    return nodes, np.prod([g.ravel() for g in grid(WEIGHTS)], axis=0)


@dataclass(frozen=True)
class Quantised:
    """Eq. (3).

    Settings:
      bits: of each weight
    """

    bits: int = 4

    def __post_init__(self):
        if not 2 <= self.bits <= 16:
            raise ValueError(f'bits ({self.bits}) must be in 2…16')

    def evaluations(self, shape):
        """Evaluations of the network for one of D'."""
        return 1

    def __call__(self, network, variables, labels):
        levels = 2 ** (self.bits - 1) - 1

        def rounded(w):
            step = jnp.max(jnp.abs(w)) / levels
            return jnp.where(step > 0, jnp.round(w / jnp.where(step > 0, step, 1)) * step, w)

        params = jax.tree.map(rounded, variables['params'])
        return lambda x, sigma: network.apply({**variables, 'params': params}, x, sigma, labels)
