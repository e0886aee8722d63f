"""The distribution of the 2-D example: two tree fractals of Gaussians (arXiv 2406.02507, App. C).

Classes A and B are trees of 127 branches with 8 Gaussians each; AB is all of them, A with 0.48 of
the weight. All Gaussians of a branch b have one weight φ_b and one covariance Σ_b, and stand in a
row:
    (1) p(x) = Σ_b φ_b Σ_j N(x; m_b + j·h_b, Σ_b),        j = −7/2, −5/2, …, 7/2
    (2) p(x; σ) = p ∗ N(0, σ²I): the same with Σ_b + σ²I = U diag(A, B) Uᵀ, A = α + σ², B = β + σ²
    (3) (p, q) = Uᵀ(x − m_b), (k, l) = Uᵀh_b: the exponent of Gaussian j is −(C₀ − 2jC₁ + j²C₂)/2,
        C₀ = p²/A + q²/B,  C₁ = pk/A + ql/B,  C₂ = k²/A + l²/B
    (4) ∇log p(x; σ) = −Σ_b w_b U [(S₀p − S₁k)/A, (S₀q − S₁l)/B] / Σ_b w_b S₀,  w_b = φ_b/√(AB),
        S₀ = Σ_j e_j,  S₁ = Σ_j j·e_j,  e_j = exp(exponent − the largest exponent of all)
By (3) one point costs 127 quadratic forms instead of 1016, by (4) nothing under- or overflows.

Every function takes NumPy arrays, in float64, or JAX arrays, in their own precision.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from autoguide_jax.registry import suggest

CLASSES = ('A', 'B', 'AB')
SEED, DEPTH, ROW = 2, 7, 8
ORIGIN, SCALE = np.array([0.0030, 0.0325]), np.array([1.3136, 1.3844])
J = np.arange(ROW) - (ROW - 1) / 2
Array = np.ndarray | jax.Array


@dataclass(frozen=True, eq=False)
class Mixture:
    """One class set. classes: 'A', 'B' or 'AB'; per branch [b]: phi (of each of its Gaussians),
    mean m [b, 2] of the row, step h [b, 2], covariance [b, 2, 2], depth; all float64 on the host.
    """

    classes: str
    phi: np.ndarray
    mean: np.ndarray
    step: np.ndarray
    covariance: np.ndarray
    depth: np.ndarray

    @functools.cached_property
    def components(self) -> dict[str, np.ndarray]:
        """phi [k], mu [k, 2], Sigma [k, 2, 2], depth [k], branch [k] of every Gaussian."""
        rows = lambda a: np.repeat(a, ROW, axis=0)
        mu = self.mean[:, None] + J[:, None] * self.step[:, None]
        branch = np.repeat(np.arange(len(self.phi)), ROW)
        return {
            'phi': rows(self.phi),
            'mu': mu.reshape(-1, 2),
            'Sigma': rows(self.covariance),
            'depth': rows(self.depth),
            'branch': branch,
        }

    @functools.cached_property
    def _axes(self):
        """α, β [b]; U [2, 2b], first all u, then all v; (p, q) of the means; k, l: Eq. (2, 3)."""
        values, vectors = np.linalg.eigh(self.covariance)
        turned = lambda v: np.einsum('bij,bi->jb', vectors, v)
        axes = vectors.transpose(1, 2, 0).reshape(2, -1)
        return *values.T, axes, turned(self.mean).ravel(), *turned(self.step)

    def _forms(self, x, sigma):
        """Eq. (3) at x [n, 2]: (A, B), (p, q), (k, l), (C₀, C₁, C₂), the largest exponent."""
        xp = jnp if isinstance(x, jax.Array) else np
        alpha, beta, axes, means, k, l = (xp.asarray(a, x.dtype) for a in self._axes)
        square = (sigma * sigma)[..., None]
        a, b = alpha + square, beta + square
        # Not a matrix product: on accelerators that would round x.
        turned = x[:, :1] * axes[0] + x[:, 1:] * axes[1] - means
        p, q = turned[:, : len(k)], turned[:, len(k) :]
        c0, c1 = p * p / a + q * q / b, p * k / a + q * l / b
        c2 = k * k / a + l * l / b
        nearest = xp.clip(xp.round(c1 / c2 - 0.5) + 0.5, J[0], J[-1])
        top = -0.5 * (c0 - 2 * nearest * c1 + nearest * nearest * c2)
        return (a, b), (p, q), (k, l), (c0, c1, c2), xp.max(top, axis=1, keepdims=True)

    def _sums(self, x, sigma):
        """w·S₀, w·S₁ [n, b] of Eq. (4), and what `_forms` gives."""
        xp = jnp if isinstance(x, jax.Array) else np
        forms = self._forms(x, sigma)
        (a, b), _, _, (c0, c1, c2), top = forms
        s0 = s1 = 0
        for j in J.tolist():
            e = xp.exp(-0.5 * (c0 - 2 * j * c1 + j * j * c2) - top)
            s0, s1 = s0 + e, s1 + j * e
        w = xp.asarray(self.phi, x.dtype) / xp.sqrt(a * b)
        return w * s0, w * s1, forms

    def log_prob(self, x: Float[Array, '*n 2'], sigma) -> Float[Array, '*n']:
        """log p(x; σ) for points x [..., 2] and sigma [] or [...] ≥ 0; Eq. (2)."""
        x, sigma, shape = self._flat(x, sigma)
        xp = jnp if isinstance(x, jax.Array) else np
        s0, _, forms = self._sums(x, sigma)
        log = xp.log(xp.sum(s0, axis=1)) + forms[-1][:, 0] - np.log(2 * np.pi)
        return log.reshape(shape)

    def score(self, x: Float[Array, '*n 2'], sigma) -> Float[Array, '*n 2']:
        """∇ₓ log p(x; σ) for points x [..., 2] and sigma [] or [...] ≥ 0; Eq. (4)."""
        x, sigma, shape = self._flat(x, sigma)
        xp = jnp if isinstance(x, jax.Array) else np
        s0, s1, ((a, b), (p, q), (k, l), *_) = self._sums(x, sigma)
        axes = xp.asarray(self._axes[2], x.dtype)
        pull = xp.concatenate([(s0 * p - s1 * k) / a, (s0 * q - s1 * l) / b], axis=1)
        total = xp.sum(s0, axis=1, keepdims=True)
        return -(xp.stack([xp.sum(pull * u, axis=1) for u in axes], 1) / total).reshape(*shape, 2)

    def branch(self, x: Float[Array, '*n 2'], sigma=0.0):
        """Index into phi of the branch that the most responsible Gaussian belongs to, [...]."""
        x, sigma, shape = self._flat(x, sigma)
        xp = jnp if isinstance(x, jax.Array) else np
        (a, b), _, _, (c0, c1, c2), _ = self._forms(x, sigma)
        nearest = xp.clip(xp.round(c1 / c2 - 0.5) + 0.5, J[0], J[-1])
        log = -0.5 * (c0 - 2 * nearest * c1 + nearest * nearest * c2 + xp.log(a * b))
        return xp.argmax(log + xp.log(xp.asarray(self.phi, x.dtype)), axis=1).reshape(shape)

    def sample(self, key, n: int, sigma=0.0) -> Float[jax.Array, 'n 2']:
        """n points of p(x; σ), float32; sigma [] or [n]. key: a JAX key."""
        pick, inside, outside = jax.random.split(key, 3)
        k = self.components
        chosen = jax.random.choice(pick, len(k['phi']), (n,), p=jnp.asarray(k['phi'], jnp.float32))
        roots = jnp.asarray(np.linalg.cholesky(k['Sigma']), jnp.float32)[chosen]
        # Sums, not a matrix product: accelerators would round its factors.
        spread = jnp.sum(roots * jax.random.normal(inside, (n, 1, 2)), axis=-1)
        check_sigma(sigma)
        noise = jnp.reshape(jnp.asarray(sigma, jnp.float32), (-1, 1))
        x = jnp.asarray(k['mu'], jnp.float32)[chosen] + spread
        return x + noise * jax.random.normal(outside, (n, 2))

    def _flat(self, x, sigma):
        """x [n, 2], sigma [] or [n] in its precision, and the shape [...] of the answer."""
        if not isinstance(x, jax.Array):
            x, sigma = np.asarray(x, np.float64), np.asarray(sigma, np.float64)
        check_sigma(sigma)
        if x.shape[-1:] != (2,):
            raise ValueError(f'x {list(x.shape)} must hold points of the plane: [..., 2]')
        shape, xp = x.shape[:-1], jnp if isinstance(x, jax.Array) else np
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(np.float32)
        sigma = xp.asarray(sigma, x.dtype)
        sigma = xp.broadcast_to(sigma, shape).reshape(-1) if sigma.ndim else sigma
        return x.reshape(-1, 2), sigma, shape


def check_sigma(sigma):
    """Refuse noise levels below 0, where they are known yet."""
    if not isinstance(sigma, jax.core.Tracer) and np.any(np.asarray(sigma) < 0):
        raise ValueError(f'sigma ({np.min(sigma):g}) must be ≥ 0')


@functools.cache
def mixture(classes: str) -> Mixture:
    """The Mixture of class 'A', 'B' or of both, 'AB'. Errors: ValueError for another name."""
    if classes not in CLASSES:
        raise ValueError(f'classes ({classes!r}): no such class.{suggest(classes, CLASSES)}')
    random = np.random.RandomState(SEED)
    trees = {name: grow(random, turn * np.pi) for name, turn in (('A', 0.25), ('B', 1.25))}
    chosen = [np.concatenate(column) for column in zip(*(zip(*trees[c]) for c in classes))]
    phi, mean, step, covariance, depth = (c.reshape(-1, *s) for c, s in zip(chosen, SHAPES))
    return Mixture(classes, phi / (ROW * phi.sum()), mean, step, covariance, depth)


SHAPES = ((), (2,), (2,), (2, 2), ())


def grow(random, angle, origin=ORIGIN * SCALE, depth=0):
    """Branches (phi, mean, step, covariance, depth) of the tree from here on, depth first.

    Length δ = 0.292·0.8^d·(1 + 0.2 N), thickness 0.2·0.8^d/δ; children turn by ±0.7^d·(1 + 0.2 N).
    The turns of the children that the last branches do not have are drawn too.
    """
    length = 0.292 * 0.8**depth * (1 + 0.2 * random.randn())
    thickness = 0.2 * 0.8**depth / length
    size = SCALE * length * 0.06
    along, across = (
        np.array([np.cos(angle), np.sin(angle)]),
        np.array([-np.sin(angle), np.cos(angle)]),
    )
    shape = np.outer(along, along) + thickness**2 * np.outer(across, across)
    covariance = shape * np.outer(size, size)
    end = origin + length * SCALE * along
    places = np.linspace(0.07, 0.93, ROW)
    mean = origin + (end - origin) * places.mean()
    step = (end - origin) * (places[1] - places[0])
    found = [(length * 0.5**depth, mean, step, covariance, depth)]
    for sign in (1, -1):
        turn = sign * 0.7**depth * (1 + 0.2 * random.randn())
        if depth + 1 < DEPTH:
            found += grow(random, angle + turn, end, depth + 1)
    return found
