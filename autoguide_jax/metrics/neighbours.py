"""Exact Euclidean neighbours of large sets, in float64, block by block.

(1) d²(a, b) = ‖a‖² + ‖b‖² − 2·a·b on centred points. One block of distances is in memory at a time.
(2) A distance within a relative 1e-6 of a radius is a tie, so that rounding decides nothing:
    closed balls (≤) contain ties, open balls (<) do not.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from autoguide_jax import stop

ROWS, COLUMNS = 1024, 4096
TIE = 1e-6
ZERO = 1e-12


def _rows(x, start, centre, size):
    block = x[start : start + size].astype(np.float64) - centre
    return block, np.einsum('nd,nd->n', block, block)


def _blocks(a, b, centre) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (row, column, squared distances) of the blocks of a × b, row by row."""
    for i in range(0, len(a), ROWS):
        stop.check('measuring distances')
        left, left_squares = _rows(a, i, centre, ROWS)
        for j in range(0, len(b), COLUMNS):
            right, right_squares = _rows(b, j, centre, COLUMNS)
            scale = left_squares[:, None] + right_squares[None]
            squares = scale - 2 * (left @ right.T)
            # Equal points come out at 0, not at the rounding error of their norms.
            squares[squares < ZERO * scale] = 0
            yield i, j, squares


def radii(x: Float[np.ndarray, 'n d'], k: int) -> Float[np.ndarray, 'n k']:
    """Return the squared distances of each point to its 1st … k-th nearest other point.

    Errors: ValueError unless 1 ≤ k < n.
    """
    if not 1 <= k < len(x):
        raise ValueError(
            f'k ({k}) must be at least 1 and less than the number of images ({len(x)})'
        )
    best = np.full((len(x), k), np.inf)
    for i, j, squares in _blocks(x, x, x.mean(0, dtype=np.float64)):
        rows = np.arange(max(i, j), min(i + squares.shape[0], j + squares.shape[1]))
        squares[rows - i, rows - j] = np.inf
        both = np.concatenate([best[i : i + ROWS], squares], 1)
        best[i : i + ROWS] = np.partition(both, k - 1, 1)[:, :k]
    return np.sort(best, 1)


def count_balls(
    points: Float[np.ndarray, 'n d'],
    centres: Float[np.ndarray, 'm d'],
    squared_radii: Float[np.ndarray, ' m'],
    closed: bool,
) -> Int[np.ndarray, ' n']:
    """Return for each point the number of balls around centres that contain it."""
    limits = squared_radii * (1 + TIE if closed else 1 - TIE)
    counts = np.zeros(len(points), np.int64)
    for i, j, squares in _blocks(points, centres, centres.mean(0, dtype=np.float64)):
        limit = limits[j : j + COLUMNS]
        inside = squares <= limit if closed else squares < limit
        counts[i : i + ROWS] += inside.sum(1)
    return counts


def hit_balls(
    points: Float[np.ndarray, 'n d'],
    centres: Float[np.ndarray, 'm d'],
    squared_radii: Float[np.ndarray, ' m'],
) -> Bool[np.ndarray, ' m']:
    """Return for each centre whether its open ball contains any of the points."""
    limits = squared_radii * (1 - TIE)
    hit = np.zeros(len(centres), bool)
    for i, _, squares in _blocks(centres, points, centres.mean(0, dtype=np.float64)):
        hit[i : i + ROWS] |= (squares < limits[i : i + ROWS, None]).any(1)
    return hit
