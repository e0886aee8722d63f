"""Arrays of the study's figures, in WORKDIR/figures.npz; the report draws them.

clouds/ARM [n, 2]                       samples
density/{x, y} [g], density/truth [g, g]     log p(x; 0), rows along y
close/{x, y} [g], close/{truth, main, guide} [g, g]   log densities at pictures.sigma, each up
                                        to its own constant
close/at [a, 2], close/{score_main, score_guide} [a, 2]   scores on a coarse grid
paths/{sigma} [k], paths/{unguided, guided} [k, m, 2]     samples on their way, the same starts
"""

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax import config, files, pairs
from autoguide_jax.mixture import mixture

CLOUD, GRID, CLOSE, ARROWS, CANDIDATES = 2**14, 700, 300, 24, 2**12


def write(study):
    """Draw the arrays, unless those of the same networks are there."""
    s, p = study.settings, study.settings.pictures
    target = study.workdir / 'figures.npz'
    names = dict.fromkeys((*p.arms, p.unguided, p.guided))
    chosen = {name: study.pair(s.arms[name], p.seed) for name in names}
    mark = files.content_hash(
        [
            files.plain(vars(p)),
            [list(extent(s.classes)), CLOUD, GRID, CLOSE, ARROWS, CANDIDATES],
            config.resolved(s.sampler),
            {n: pairs.identity(pairs.settled(c)) for n, c in chosen.items()},
        ]
    )
    if target.exists():
        with files.open_npz(target) as old:
            if str(old['mark']) == mark:
                return
    arrays = {f'clouds/{name}': study.drawn(chosen[name], CLOUD) for name in p.arms}
    arrays |= density(s.classes) | close_up(study, chosen[p.guided]) | paths(study, chosen)
    files.save_npz(target, {**arrays, 'mark': np.array(mark)})


def axes(x0, x1, y0, y1, count):
    """x [g], y [g] and points [g·g, 2], rows along y."""
    x, y = np.linspace(x0, x1, count), np.linspace(y0, y1, count)
    return x, y, np.stack([np.tile(x, count), np.repeat(y, count)], axis=1)


def density(classes):
    """The truth at σ = 0 over the plane, for outlines."""
    x, y, points = axes(*extent(classes), GRID)
    truth = log_prob(classes, points, 0.0).reshape(GRID, GRID)
    return {'density/x': x, 'density/y': y, 'density/truth': truth}


def extent(classes):
    """x0, x1, y0, y1 of the plane that holds the distribution, with a margin."""
    parts = mixture(classes).components
    reach = 4 * np.sqrt(np.einsum('kii->ki', parts['Sigma'])) + 0.1
    low, high = (parts['mu'] - reach).min(axis=0), (parts['mu'] + reach).max(axis=0)
    return low[0], high[0], low[1], high[1]


def log_prob(classes, points, sigma):
    """log p(x; σ) of the truth, float32, on the device."""
    compiled = jax.jit(mixture(classes).log_prob)
    return np.asarray(compiled(jnp.asarray(points, jnp.float32), jnp.float32(sigma)))


def close_up(study, pair):
    """Densities and scores of main network and guide in the window."""
    p = study.settings.pictures
    x, y, points = axes(*p.window, CLOSE)
    at = axes(*p.window, ARROWS)[2].astype(np.float32)
    calls, _ = study.networks.calls(pair)
    found = {'close/x': x, 'close/y': y, 'close/at': at}
    truth = log_prob(study.settings.classes, points, p.sigma)
    found['close/truth'] = truth.reshape(CLOSE, CLOSE)
    for name, call in zip(('main', 'guide'), calls):
        network = call.network
        log = jax.jit(network.denoiser.log_density)
        log = log(network.variables, np.float32(points), np.float32(p.sigma))
        found[f'close/{name}'] = np.asarray(log).reshape(CLOSE, CLOSE)
        x0 = np.asarray(jax.jit(network.apply)(network.variables, at, np.float32(p.sigma)))
        found[f'close/score_{name}'] = (x0 - at) / p.sigma**2
    return found


def paths(study, chosen):
    """Paths of samples that cross the window, unguided and guided."""
    p = study.settings.pictures
    found = {
        name: study.probe.paths(chosen[arm], CANDIDATES)
        for name, arm in (('unguided', p.unguided), ('guided', p.guided))
    }
    x0, x1, y0, y1 = p.window
    end = found['unguided'][-1]
    inside = (end[:, 0] > x0) & (end[:, 0] < x1) & (end[:, 1] > y0) & (end[:, 1] < y1)
    rows = np.flatnonzero(inside)[: p.trajectories]
    arrays = {f'paths/{name}': path[:, rows] for name, path in found.items()}
    return {**arrays, 'paths/sigma': study.sampler.schedule()}
