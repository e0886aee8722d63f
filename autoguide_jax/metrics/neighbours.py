"""Euclidean neighbours of large sets: found by float32 on the devices, decided as in float64.

(1) A ball is decided by float32 where its bound allows; the few other pairs in float64.
(2) The nearest are among the candidates of smallest lower bounds, measured anew in float64, if the
    farthest that the answer needs is not beyond the lower bound of all others; else more are taken.
(3) A distance within a relative 1e-6 of a radius is a tie, so that rounding decides nothing:
    closed balls (≤) contain ties, open balls (<) do not.
Where float32 decides little, as among many copies, the cost is that of float64 on the host.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from autoguide_jax import stop
from autoguide_jax.metrics.distances import Between

TIE = 1e-6
SPARE = 8
# Unsettled points looked at together, each with its distances to all others.
TOGETHER = 256


def _count(between, row_limits, column_limits, closed):
    """Pairs of each row [n] within both limits, by group of columns [n, g]."""
    counts = np.zeros((len(between.a), column_limits.shape[1]), np.int64)
    for i, sure, unsure in between.within(row_limits, column_limits):
        counts[i : i + len(sure)] += sure
        for rows, columns in unsure:
            squares = between.exact(rows, columns)
            for group, limits in enumerate(column_limits.T):
                limit = np.minimum(row_limits[rows], limits[columns])
                inside = squares <= limit if closed else squares < limit
                counts[:, group] += np.bincount(rows[inside], minlength=len(counts))
    return counts


def count_balls(
    points: Float[np.ndarray, 'n d'],
    centres: Float[np.ndarray, 'm d'],
    squared_radii: Float[np.ndarray, 'm ...'],
    closed: bool,
) -> Int[np.ndarray, 'n ...']:
    """Return for each point the number of balls around centres that contain it.

    squared_radii: [m], or [m, g] for g sets of balls; −∞ = not in the set.
    """
    limits = squared_radii * (1 + TIE if closed else 1 - TIE)
    between = Between(points, centres, 'looking for points in balls')
    counts = _count(between, np.full(len(points), np.inf), limits.reshape(len(centres), -1), closed)
    return counts.reshape(len(points), *squared_radii.shape[1:])


def hit_balls(
    points: Float[np.ndarray, 'n d'],
    centres: Float[np.ndarray, 'm d'],
    squared_radii: Float[np.ndarray, ' m'],
    groups: Int[np.ndarray, ' n'] | None = None,
) -> Int[np.ndarray, 'm g']:
    """Return for each centre how many points of each group 0 … g − 1 its open ball contains.

    groups: None = all are in group 0.
    """
    groups = np.zeros(len(points), np.int64) if groups is None else groups
    member = np.where(groups[:, None] == np.arange(groups.max() + 1), np.inf, -np.inf)
    between = Between(centres, points, 'looking for balls that hold points')
    return _count(between, squared_radii * (1 - TIE), member, closed=False)


def _settle(between: Between, least: int, pick: Callable) -> list[np.ndarray]:
    """Return pick's arrays, one row per point, of candidates that (2) proves enough.

    pick: (points [r], index [r, c], squared distances [r, c] ascending) → (arrays [r, …], the
    largest squared distance [r] they rest on).
    """
    width = min(least + SPARE, between.others)
    parts = []
    for i, index, limit in between.smallest(width):
        rows = i + np.arange(len(index))
        squares = between.exact(np.repeat(rows, width), index.ravel()).reshape(index.shape)
        found, last = pick(rows, *_sorted(index, squares))
        open_rows = np.flatnonzero(last > limit)
        for start in range(0, len(open_rows), TOGETHER):
            stop.check(between.doing)
            some = open_rows[start : start + TOGETHER]
            for array, right in zip(found, _all(between, rows[some], width, pick)):
                array[some] = right
        parts.append(found)
    return [np.concatenate(column) for column in zip(*parts)]


def _all(between, rows, width, pick):
    """pick's arrays of some points, whose distances to all others are measured in float64."""
    squares = between.exact_rows(rows)
    result, left = None, np.arange(len(rows))
    while len(left):
        width = min(8 * width, between.others)
        index = np.argpartition(squares[left], width - 1, 1)[:, :width]
        index, near = _sorted(index, np.take_along_axis(squares[left], index, 1))
        found, last = pick(rows[left], index, near)
        result = found if result is None else result
        for array, right in zip(result, found):
            array[left] = right
        left = left[last > near[:, -1]] if width < between.others else left[:0]
    return result


def _sorted(index, squares):
    """Sorted by distance, then by index."""
    order = np.lexsort((index, squares), axis=1)
    return np.take_along_axis(index, order, 1), np.take_along_axis(squares, order, 1)


def _check(k, left, what=''):
    if not 1 <= k < left:
        raise ValueError(
            f'k ({k}) must be at least 1 and less than the number of images{what} ({left})'
        )


def radii(x: Float[np.ndarray, 'n d'], k: int) -> Float[np.ndarray, 'n k']:
    """Return the squared distances of each point to its 1st … k-th nearest other point.

    Errors: ValueError unless 1 ≤ k < n.
    """
    _check(k, len(x))
    pick = lambda _, index, squares: ([squares[:, :k].copy()], squares[:, k - 1])
    (found,) = _settle(Between(x, x, 'looking for neighbours'), k, pick)
    return found


def radii_without(
    x: Float[np.ndarray, 'n d'], k: int, groups: Int[np.ndarray, ' n']
) -> Float[np.ndarray, 'n g+1']:
    """Return the squared distance of each point to its k-th nearest other one, in all and in parts.

    Column 0: among all; column 1 + j: among those not in group j of 0 … g − 1, −∞ for points in it.
    Errors: ValueError unless 1 ≤ k < n without the largest group.
    """
    count = groups.max() + 1
    _check(k, len(x) - np.bincount(groups).max(), ' outside a group')

    def pick(rows, index, squares):
        columns = [squares[:, k - 1]]
        for j in range(count):
            others = np.where(groups[index] == j, np.inf, squares)
            found = np.partition(others, k - 1, 1)[:, k - 1]
            columns.append(np.where(groups[rows] == j, -np.inf, found))
        found = np.stack(columns, 1)
        return [found], found.max(1)

    (found,) = _settle(Between(x, x, 'looking for neighbours'), k, pick)
    return found


def nearest(
    points: Float[np.ndarray, 'n d'], others: Float[np.ndarray, 'm d']
) -> tuple[Int[np.ndarray, ' n'], Float[np.ndarray, ' n']]:
    """Return which other point is nearest to each point, and the squared distance.

    Of several at the same distance it is one of them. Errors: ValueError for no other points.
    """
    if not len(others):
        raise ValueError('there are no points to be near to')
    pick = lambda _, index, squares: ([index[:, 0].copy(), squares[:, 0].copy()], squares[:, 0])
    return tuple(_settle(Between(points, others, 'looking for the nearest'), 1, pick))
