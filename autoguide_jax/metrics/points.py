"""Scores of points of the 2-D example against its exact distribution, class by class of failure.

log p in float64 at σ = 0; N points against a reference draw of 2²⁰:
    outliers_0.1, outliers_1   share with log p below the 0.1 % and 1 % quantile of the reference
    far          share with log p < −20          clipped   mean of max(log p, −20)
    coverage     φ of the branches that get at least half of their expected count; empty: those of 0
    kl           Σ P ln(P/Q) over branches, P = (ref + ½)/(2²⁰ + b/2), Q = (count + ½)/(N + b/2)
    sliced_w1    mean over 256 directions of the 1-D Wasserstein distance to 2¹⁶ reference points
    energy       2E|X−Y| − E|X−X'| − E|Y−Y'| on the first 2¹⁴ points of both
A point belongs to the branch of its most responsible Gaussian. Points that are not finite, or
beyond 10⁶, are outliers (log p = −∞) of no branch, and left out of the two distances.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax.mixture import mixture

REFERENCE, SLICED, ENERGY, DIRECTIONS = 2**20, 2**16, 2**14, 256
FAR, LOST = -20.0, 1e6
METRICS = ('outliers_0.1', 'outliers_1', 'far', 'clipped', 'coverage', 'kl', 'empty')
METRICS += ('sliced_w1', 'energy')


@dataclass(frozen=True)
class PointScores:
    """All of the above at once, in the form that Scorer asks for.

    classes: the mixture that the points should come from; distances: whether sliced_w1 and energy,
    which take most of the time, are wanted.
    """

    classes: str = 'A'
    distances: bool = True

    @property
    def identity(self):
        """What decides the numbers."""
        return {'points': [self.classes, self.distances], 'reference': REFERENCE}

    @property
    def reference(self):
        """thresholds [2] of log p, counts [b] by branch, and what the distances need."""
        return reference(self.classes)

    def log_prob(self, points):
        """log p(x; 0) float64 [n]."""
        return judge(self.classes, np.asarray(points, np.float64))[0]

    def measure(self, batches):
        """What a row of results says of (points [n, 2], labels) pairs: {'metrics': score}."""
        return {'metrics': self.score(batches)}

    def score(self, batches):
        """{metric: value} of (points [n, 2], labels) pairs; see the head of the file."""
        points = np.concatenate([points for points, _ in batches]).astype(np.float64)
        count, points = len(points), points[np.all(np.abs(points) < LOST, axis=1)]
        if not len(points):
            raise ValueError(f'all {count} points are lost: none is within {LOST:g} of the origin')
        thresholds, expected, slices, near, near_near = self.reference
        log_p, branch = judge(self.classes, points)
        counts = np.bincount(branch, minlength=len(expected))
        log_p = np.append(log_p, np.full(count - len(points), -np.inf))
        values = {
            'outliers_0.1': np.mean(log_p < thresholds[0]),
            'outliers_1': np.mean(log_p < thresholds[1]),
            'far': np.mean(log_p < FAR),
            'clipped': np.mean(np.maximum(log_p, FAR)),
            **coverage(counts, expected, mixture(self.classes).phi),
        }
        if self.distances:
            first = points[:ENERGY]
            energy = 2 * mean_distance(first, near) - mean_distance(first, first) - near_near
            values |= {'sliced_w1': sliced_w1(points, slices), 'energy': energy}
        return {name: float(value) for name, value in values.items()}


@dataclass(frozen=True, eq=False)
class Shift(PointScores):
    """PointScores, and how far samples are from those of another network at the same starts.

    source: hash of that network's identity; target: () → its samples [n, 2], asked when
    they are needed.
    """

    distances: bool = False
    source: str = ''
    target: Callable | None = None

    @property
    def identity(self):
        """What decides the numbers."""
        return {**super().identity, 'from': self.source}

    def score(self, batches):
        """Scores, with shift: the median distance to the target sample of the same start."""
        points = np.concatenate([points for points, _ in batches])
        away = np.linalg.norm(points - self.target()[: len(points)], axis=1)
        return {**super().score([(points, None)]), 'shift': float(np.median(away))}


@functools.cache
def reference(classes):
    """What points of a class set are scored against, from the reference draw."""
    points = reference_draw(classes, REFERENCE)
    log_p, branch = judge(classes, points)
    counts = np.bincount(branch, minlength=len(mixture(classes).phi))
    thresholds, near = np.quantile(log_p, [0.001, 0.01]), points[:ENERGY]
    return thresholds, counts, sorted_slices(points[:SLICED]), near, mean_distance(near, near)


def reference_draw(classes, count):
    """count points of the mixture at σ = 0, float64, from NumPy's default_rng(100)."""
    parts, random = mixture(classes).components, np.random.default_rng(100)
    chosen = random.choice(len(parts['phi']), count, p=parts['phi'])
    roots = np.linalg.cholesky(parts['Sigma'])[chosen]
    normal = random.standard_normal((count, 2))
    return parts['mu'][chosen] + np.einsum('nij,nj->ni', roots, normal)


def judge(classes, points, chunk=2**14):
    """log p(x; 0) float64 [n] and the branch int [n] of points [n, 2], by the processor."""
    found = []
    chunk = min(chunk, 1 << (len(points) - 1).bit_length())
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend='cpu')[0]):
        for i in range(0, len(points), chunk):
            part = points[i : i + chunk]
            full = np.resize(part, (chunk, 2))
            values = _judge(classes, jnp.asarray(full, jnp.float64))
            found.append([np.asarray(v)[: len(part)] for v in values])
    return tuple(np.concatenate(column) for column in zip(*found))


@functools.partial(jax.jit, static_argnums=0)
def _judge(classes, points):
    return mixture(classes).log_prob(points, 0.0), mixture(classes).branch(points)


def coverage(counts, expected, phi):
    """coverage, kl and empty of branch counts [b] against those of the reference [b]."""
    mass = phi / phi.sum()
    half = 0.5 * len(counts)
    p = (expected + 0.5) / (expected.sum() + half)
    q = (counts + 0.5) / (counts.sum() + half)
    return {
        'coverage': mass[counts >= 0.5 * counts.sum() * mass].sum(),
        'kl': np.sum(p * np.log(p / q)),
        'empty': np.sum(counts == 0),
    }


def sorted_slices(points):
    """Projections [256, n] on directions π(i + ½)/256, sorted, float32."""
    angle = np.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
    turned = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ points.T
    return np.sort(turned.astype(np.float32), axis=1)


def sliced_w1(points, slices):
    """Mean 1-D Wasserstein distance of points [n, 2] to sorted reference slices [256, m]."""
    own = sorted_slices(points)
    places = (np.arange(slices.shape[1]) + 0.5) / slices.shape[1] * own.shape[1]
    matched = own[:, places.astype(int)]
    return np.mean(np.abs(matched - slices), dtype=np.float64)


def mean_distance(a, b, chunk=2**11):
    """E|X − Y| over all pairs of a [n, 2] and b [m, 2]."""
    b = jnp.asarray(b, jnp.float32).T
    parts = (jnp.asarray(a[i : i + chunk], jnp.float32) for i in range(0, len(a), chunk))
    sums = [_row_sums(part, b) for part in parts]
    return float(np.sum([np.sum(np.asarray(s, np.float64)) for s in sums])) / (len(a) * b.shape[1])


@jax.jit
def _row_sums(a, b):
    x, y = a[:, :1] - b[0], a[:, 1:] - b[1]
    return jnp.sum(jnp.sqrt(x * x + y * y), axis=1)
