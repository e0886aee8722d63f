"""Errors of main network and guide against the exact denoiser, as fields over the plane.

    (1) e_m = D_m − D*,  e_0 = D_0 − D*,  D*(x; σ) = x + σ²∇log p(x; σ)
    (2) r = ‖e_0‖/‖e_m‖,   cosine = ⟨e_m, e_0⟩/(‖e_m‖‖e_0‖),   over points x of one noise level
    (3) the weight that leaves the least error: w* = 1 − ⟨e_m, e_m − e_0⟩/‖e_m − e_0‖²
With aligned errors (cosine 1) w* = r/(r − 1). A guide helps at all, w* > 1, where r·cosine > 1.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax.mixture import mixture

SIGMAS = np.geomspace(0.002, 5.0, 18)
LEVELS = SIGMAS.astype(np.float32)


def exact(classes):
    """D* of Eq. (1): (x [n, 2], sigma []) → [n, 2]."""
    score = mixture(classes).score
    return lambda x, sigma: x + sigma**2 * score(x, jnp.broadcast_to(sigma, x.shape[:1]))


def compare(e_m, e_0):
    """{rms of e_m, r, cosine, w*} of error fields [n, 2], Eq. (2, 3); None where undefined."""
    e_m, e_0 = np.asarray(e_m, np.float64), np.asarray(e_0, np.float64)
    mm, oo, mo = np.sum(e_m * e_m), np.sum(e_0 * e_0), np.sum(e_m * e_0)
    ratio = lambda a, b: float(a / b) if b > 0 else None
    return {
        'rms': float(np.sqrt(mm / max(e_m.size, 1))),
        'r': ratio(np.sqrt(oo), np.sqrt(mm)),
        'cosine': ratio(mo, np.sqrt(mm * oo)),
        'weight': ratio(oo - mo, mm - 2 * mo + oo),
    }


def by_level(denoise):
    """A denoiser (x [n, 2], sigma []) of one noise level → (x [k, n, 2], sigma [k]) of k levels."""
    return lambda x, sigma: jax.lax.map(lambda level: denoise(*level), (x, sigma))


@functools.cache
def data(classes, points):
    """Points of p(x; σ) at the levels SIGMAS, float32 [k, n, 2]."""
    source, keys = mixture(classes), jax.random.split(jax.random.key(0), len(SIGMAS))
    draw = jax.jit(lambda: jax.lax.map(lambda a: source.sample(a[0], points, a[1]), (keys, LEVELS)))
    return draw()


def table(e_m, e_0, sigmas, chosen=slice(None)):
    """`compare` level by level, on the chosen points; lists by name, rms relative to σ."""
    rows = [compare(m[chosen], o[chosen]) for m, o in zip(np.asarray(e_m), np.asarray(e_0))]
    found = {name: [row[name] for row in rows] for name in rows[0]}
    found['rms'] = [rms / float(sigma) for rms, sigma in zip(found['rms'], sigmas)]
    return {'sigma': [float(s) for s in sigmas], **found}
