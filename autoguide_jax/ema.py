"""Power-function EMA of the weights, and any other EMA length after training.

Karras et al., arXiv 2312.02696, Section 3 and Appendix C. Times t are images seen (nimg); an EMA is
named by sigma_rel (std), the standard deviation of its profile relative to the training time.

    (1) θ̂_γ(t) = ∫₀ᵗ p_γ,t(τ) θ(τ) dτ,   p_γ,t(τ) = (γ+1)/t · (τ/t)^γ
    (2) θ̂_γ(t) = β θ̂_γ(t−Δ) + (1−β) θ(t),   β = (1 − Δ/t)^(γ+1)          (β = 0 at the first step)
    (3) σ_rel² = (γ+1) / ((γ+2)²(γ+3))
    (4) γ³ + 7γ² + (16 − σ_rel⁻²)γ + (12 − σ_rel⁻²) = 0, the largest real root inverts (3)
    (5) ⟨p_a, p_b⟩ = (γ_a+1)(γ_b+1) r / ((γ_a+γ_b+1) max(t_a,t_b)),
        r = (t_a/t_b)^γ_b if t_a < t_b, else (t_b/t_a)^γ_a
    (6) Post-hoc: the X that minimises ‖Σ_i X_i p_i − p_out‖² solves A X = B, A_ij = ⟨p_i, p_j⟩,
        B_i = ⟨p_i, p_out⟩; each column is then divided by its sum, so that the weights add to 1.
    (7) Fit error ‖Σ_i X_i p_i − p_out‖ / ‖p_out‖; noise gain ‖X‖₂: by how much independent rounding
        errors of the snapshots are amplified. A is ill conditioned (5e8 for 256 times 2 snapshots),
        hence float64 on the host.

γ = 0 is the plain average of all of training, σ_rel = 1/√12 ≈ 0.2887: the longest EMA there is.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

MAX_STD = 1 / np.sqrt(12)


def gamma_to_std(gamma: Float[np.ndarray, '*s']) -> Float[np.ndarray, '*s']:
    """Return sigma_rel of the exponent, Eq. (3), float64. Errors: ValueError unless gamma > −1."""
    gamma = np.asarray(gamma, np.float64)
    if not np.all(gamma > -1):
        raise ValueError(f'gamma ({_first(gamma, gamma > -1)}) must be above -1')
    return np.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))


def std_to_gamma(std: Float[np.ndarray, '*s']) -> Float[np.ndarray, '*s']:
    """Return the exponent of the relative EMA length sigma_rel, Eq. (4), float64.

    Errors: ValueError unless 0 < std ≤ 1/√12.
    """
    std = np.asarray(std, np.float64)
    fine = (std > 0) & (std <= MAX_STD * (1 + 1e-9))
    if not np.all(fine):
        raise ValueError(
            f'EMA std ({_first(std, fine)}) must lie in (0, 0.2887]: relative to the training '
            'time; 0.2887 is the plain average of all of training'
        )
    return np.array([_largest_root(s) for s in std.ravel().tolist()], np.float64).reshape(std.shape)


@functools.lru_cache(maxsize=4096)
def _largest_root(std):
    s = std**-2.0
    roots = np.roots([1, 7, 16 - s, 12 - s])
    g = max(np.max(roots[np.abs(roots.imag) < 1e-6 * np.abs(roots)].real), 0.0)
    # One Newton step on the polynomial takes the eigenvalue solver's rounding away.
    return max(
        g - (((g + 7) * g + 16 - s) * g + 12 - s) / ((3 * g + 14) * g + 16 - s),
        0.0,
    )


def _first(values, fine):
    """Return the first value that is not fine, for an error message."""
    return values[~fine].ravel()[0]


def beta(std, nimg_next, nimg_delta) -> Float[np.ndarray, '*s']:
    """Return β of Eq. (2) for the step of nimg_delta images that ends at nimg_next, float64.

    Arguments broadcast. Errors: ValueError unless 0 < nimg_delta ≤ nimg_next.
    """
    nimg_next, nimg_delta = np.asarray(nimg_next, np.float64), np.asarray(nimg_delta, np.float64)
    if not (np.all(nimg_delta > 0) and np.all(nimg_delta <= nimg_next)):
        raise ValueError(
            f'beta needs 0 < nimg_delta ({nimg_delta}) <= nimg_next ({nimg_next}), the images seen '
            'at the end of the step'
        )
    with np.errstate(divide='ignore'):
        log_ratio = np.log1p(-nimg_delta / nimg_next)
    return np.exp((std_to_gamma(std) + 1) * log_ratio)


def rates(step: Int[Array, ''], stds: tuple[float, ...]) -> Float[Array, ' n_std']:
    """Return 1 − β of Eq. (2) for every tracked EMA, float32, inside jit.

    After 10⁷ steps float32 has no digits left for 1 − β once β is rounded; this has them all.

    step: 0-based number of the step about to finish, so Δ/t = 1/(step + 1); may be traced.
    stds: Python floats, static.
    """
    exponents = jnp.asarray(std_to_gamma(stds) + 1, jnp.float32)
    return -jnp.expm1(exponents * jnp.log1p(-1 / (jnp.asarray(step, jnp.float32) + 1)))


def init(params: PyTree, n_std: int) -> PyTree:
    """Return n_std copies of params, float32, along a new leading axis [n_std]."""
    return jax.tree.map(
        lambda p: jnp.broadcast_to(p.astype(jnp.float32), (n_std, *p.shape)),
        jax.tree.map(jnp.asarray, params),
    )


def update(ema: PyTree, params: PyTree, rates: Float[Array, ' n_std']) -> PyTree:
    """Return EMA + (1−β)·(θ − EMA), Eq. (2), for every EMA along the leading axis; float32.

    1 − β = 1 returns the parameters themselves, bit for bit.
    """

    def leaf(e, p):
        r, p = rates.reshape(-1, *[1] * p.ndim), p.astype(jnp.float32)
        return jnp.where(r == 1, p, e + r * (p - e))

    return jax.tree.map(leaf, ema, params)


def _inner(t_a, gamma_a, t_b, gamma_b):
    """Return ⟨p_a, p_b⟩ of Eq. (5); arguments broadcast."""
    r = np.where(
        t_a < t_b,
        np.minimum(t_a / t_b, 1) ** gamma_b,
        np.minimum(t_b / t_a, 1) ** gamma_a,
    )
    return (gamma_a + 1) * (gamma_b + 1) * r / ((gamma_a + gamma_b + 1) * np.maximum(t_a, t_b))


def _profiles(nimg, std, name):
    """Check and broadcast a list of profiles; return times relative to nothing, and exponents."""
    nimg = np.atleast_1d(np.asarray(nimg, np.float64))
    std = np.atleast_1d(np.asarray(std, np.float64))
    if nimg.ndim != 1 or std.ndim != 1 or 0 in (nimg.size, std.size):
        raise ValueError(f'{name}_nimg and {name}_std must be numbers or non-empty 1-D lists')
    if 1 not in (nimg.size, std.size) and nimg.size != std.size:
        raise ValueError(f'{name}_nimg ({nimg.size}) and {name}_std ({std.size}) differ in length')
    nimg, std = np.broadcast_arrays(nimg, std)
    if not np.all(nimg > 0):
        raise ValueError(f'{name}_nimg ({_first(nimg, nimg > 0):g}) must be above 0')
    return nimg, std, std_to_gamma(std)


def _usable(in_nimg, in_std, out_nimg):
    """Yield (columns, rows) index arrays: targets of one time, and the snapshots they may use."""
    pairs = set(zip(in_nimg.tolist(), in_std.tolist()))
    if len(pairs) != in_nimg.size:
        raise ValueError(f'snapshots given twice: {in_nimg.size} with {len(pairs)} distinct')
    for t in np.unique(out_nimg):
        rows = np.flatnonzero(in_nimg <= t)
        if rows.size == 0:
            raise ValueError(
                f'no snapshot at or before nimg {t:.0f}; the first is at {in_nimg.min():.0f}'
            )
        yield np.flatnonzero(out_nimg == t), rows


def posthoc_coefficients(in_nimg, in_std, out_nimg, out_std) -> Float[np.ndarray, 'n_in n_out']:
    """Return the weights X of the snapshots for every target EMA, Eqs. (5, 6); columns sum to 1.

    in_nimg, in_std: [n_in] snapshots, no (nimg, std) twice. out_nimg, out_std: targets, scalars or
    [n_out]. A snapshot later than a target has not seen less than it: its weight there is 0.
    Errors: ValueError for lengths that differ, std outside (0, 0.2887], repeated snapshots, no
    snapshot up to a target, or snapshots too alike to solve for.
    """
    in_nimg, in_std, in_gamma = _profiles(in_nimg, in_std, 'in')
    out_nimg, _, out_gamma = _profiles(out_nimg, out_std, 'out')
    coefficients = np.zeros((in_nimg.size, out_nimg.size))
    for columns, rows in _usable(in_nimg, in_std, out_nimg):
        t, g = in_nimg[rows, None], in_gamma[rows, None]
        gram = _inner(t, g, t.T, g.T)
        if (condition := np.linalg.cond(gram)) > 1e13:
            raise ValueError(
                f'{rows.size} snapshots are too alike to solve for (condition {condition:.1e}); '
                'leave some out, or track EMA stds that differ more'
            )
        solution = np.linalg.solve(gram, _inner(t, g, out_nimg[None, columns], out_gamma[columns]))
        coefficients[np.ix_(rows, columns)] = solution / solution.sum(0)
    return coefficients


def profile_error(
    in_nimg, in_std, out_nimg, out_std
) -> tuple[Float[np.ndarray, ' n_out'], Float[np.ndarray, ' n_out']]:
    """Return (fit error, noise gain) of every target, Eq. (7). Errors as posthoc_coefficients."""
    x = posthoc_coefficients(in_nimg, in_std, out_nimg, out_std)
    # The error is a small difference of large numbers: extended precision where there is any.
    t, _, g = (v.astype(np.longdouble) for v in _profiles(in_nimg, in_std, 'in'))
    s, _, h = (v.astype(np.longdouble) for v in _profiles(out_nimg, out_std, 'out'))
    gram = _inner(t[:, None], g[:, None], t, g)
    cross = _inner(t[:, None], g[:, None], s, h)
    norm = _inner(s, h, s, h)
    square = np.einsum('ij,ij->j', x, gram @ x) - 2 * np.einsum('ij,ij->j', x, cross) + norm
    error = np.sqrt(np.maximum(square, 0) / norm).astype(np.float64)
    return error, np.linalg.norm(x, axis=0)


def reachable(
    in_nimg, in_std, out_nimg: float, max_error: float, points: int = 100
) -> list[tuple[float, float]]:
    """Return the ranges (lowest, highest) of EMA std whose fit error stays within max_error.

    Looks at a logarithmic grid of points from 0.005 to 0.285. Errors as posthoc_coefficients.
    """
    grid = np.geomspace(0.005, 0.285, points)
    fine = np.concatenate([[False], profile_error(in_nimg, in_std, out_nimg, grid)[0] <= max_error])
    edges = np.flatnonzero(np.diff(np.append(fine, False)))
    return [(float(grid[a]), float(grid[b - 1])) for a, b in edges.reshape(-1, 2)]
