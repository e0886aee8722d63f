"""Squared distances between the points of two sets, block by block: bounds on devices, and exact.

Points are centred, scaled by a power of two to norms of at most 1 and rounded to float32.
(1) d²(a, b) = s_a + s_b − 2·a·b, s = ‖·‖²
(2) |float32 of (1) − d²| ≤ ε·(s_a + s_b) + 2⁻¹⁰⁰, ε = γ(D + 32), γ(n) = nu/(1 − nu), u = 2⁻²⁴,
    for D dimensions: the product, summed in any order, is off by γ(D)·2‖a‖‖b‖ ≤ γ(D)·(s_a + s_b)
    (Higham 2002, 3.1); rounded coordinates cost 4u, norms 1u, the sums 5u, products made of
    bfloat16 parts 4u of s_a + s_b; the rest is reserve. 2⁻¹⁰⁰ is for what underflows.
What (2) does not decide is computed in float64. There, d² < 1e-12·(s_a + s_b) is 0: features of
equal images that rounding alone tells apart are equal.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int

from autoguide_jax import mesh, stop
from autoguide_jax.progress import Progress

# Rows per device and columns of a block; rows of a block in float64.
ROWS, COLUMNS, FEW = 2048, 4096, 1024
ZERO = 1e-12
UNIT, UNDERFLOW = 2.0**-24, 2.0**-100
# A pair costs as much by its difference as so many in a product of matrices.
DEARER = 32
CHUNK = 1 << 22


def relative_bound(dim: int) -> float:
    """ε of equation (2). Errors: ValueError where float32 bounds nothing."""
    terms = (dim + 32) * UNIT
    if terms > 0.5:
        raise ValueError(f'features of {dim} dimensions are too many for distances in float32')
    return terms / (1 - terms)


def _bounds(a, a_squares, b, b_squares):
    """Below and above the squared distances of a block, by equation (2)."""
    epsilon = relative_bound(a.shape[1])
    squares = a_squares[:, None] + b_squares[None]
    product = 2 * jnp.matmul(a, b.T, precision=lax.Precision.HIGHEST)
    lower = (1 - epsilon) * squares - product - UNDERFLOW
    return lower, (1 + epsilon) * squares - product + UNDERFLOW


@jax.jit
def _within(rows, columns, row_limits, column_limits, groups):
    """Sure pairs within their limits by group of columns [r, G], and the unsure ones [r, c]."""
    lower, upper = _bounds(*rows, *columns)
    inside = upper <= jnp.minimum(row_limits[0][:, None], column_limits[0])
    outside = lower > jnp.minimum(row_limits[1][:, None], column_limits[1])
    unsure = ~(inside | outside)
    counts = jnp.matmul(inside.astype(jnp.float32), groups, precision=lax.Precision.HIGHEST)
    return counts, unsure, unsure.any(1)


@jax.jit
def _smallest(best, index, rows, columns, row_numbers, column_numbers):
    """Take a block into the smallest lower bounds of each row [r, k] and their columns [r, k]."""
    lower, _ = _bounds(*rows, *columns)
    lower = jnp.where(row_numbers[:, None] == column_numbers, jnp.inf, lower)
    found, place = lax.top_k(-lower, min(best.shape[1], lower.shape[1]))
    both = jnp.concatenate([-best, found], 1)
    index = jnp.concatenate([index, column_numbers[place]], 1)
    best, place = lax.top_k(both, best.shape[1])
    return -best, jnp.take_along_axis(index, place, 1)


class Ready(NamedTuple):
    """Points as the devices take them: float32 [n, d], and their squared norms float32 [n]."""

    points: np.ndarray
    squares: np.ndarray

    def part(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Points start … start + size − 1 and their squares, filled up with zeros."""
        return tuple(_filled(x[start : start + size], size, 0) for x in self)


def _filled(x, size, value):
    if len(x) == size:
        return x
    full = np.full((size, *x.shape[1:]), value, x.dtype)
    full[: len(x)] = x
    return full


def _directed(limits):
    """float32 below and above some float64."""
    with np.errstate(over='ignore'):
        rounded = np.asarray(limits).astype(np.float32)
    return np.nextafter(rounded, np.float32(-np.inf)), np.nextafter(rounded, np.float32(np.inf))


def _size(count, most):
    """The size of blocks: a power of two, so that few programs are compiled."""
    return min(most, max(8, 1 << (count - 1).bit_length()))


class Between:
    """Distances between the points of a [n, d] and of b [m, d]; b may be a itself.

    Pairs (i, i) of a set with itself are no pairs. doing: what progress is called.
    """

    def __init__(self, a: Float[np.ndarray, 'n d'], b: Float[np.ndarray, 'm d'], doing: str):
        self.a, self.b, self.doing = a, b, doing
        # Few outliers would pull a mean away from all the others, whose bounds then were wide.
        self.centre = np.median(b[:: max(1, len(b) // FEW)], 0).astype(np.float64)
        self.a_squares = self._squares(a)
        self.b_squares = self.a_squares if a is b else self._squares(b)
        most = max(self.a_squares.max(initial=0), self.b_squares.max(initial=0))
        # ½ ≤ the largest norm · 2^−exponent < 1.
        self.exponent = int(np.frexp(np.sqrt(most))[1])
        self._rows = self._ready(a, self.a_squares)
        self._columns = self._rows if a is b else self._ready(b, self.b_squares)
        self._devices = mesh.over(jax.local_devices())
        count = len(jax.local_devices())
        self._height = _size(-(-len(a) // count), ROWS) * count
        self._width = _size(len(b), COLUMNS)

    def _squares(self, x):
        parts = (self._centred(x, i) for i in range(0, len(x), FEW))
        return np.concatenate([np.einsum('nd,nd->n', part, part) for part in parts])

    def _centred(self, x, start):
        return x[start : start + FEW].astype(np.float64) - self.centre

    def _ready(self, x, squares):
        points = np.empty(x.shape, np.float32)
        for i in range(0, len(x), FEW):
            points[i : i + FEW] = np.ldexp(self._centred(x, i), -self.exponent)
        return Ready(points, np.ldexp(squares, -2 * self.exponent).astype(np.float32))

    def _blocks(self, width) -> Iterator[tuple[int, tuple, list]]:
        """Yield (first row, its points on the devices, first columns) of every row of blocks."""
        share = mesh.by_sample(self._devices)
        with Progress(len(self.a), 'points', self.doing, delay=10) as progress:
            for i in range(0, len(self.a), self._height):
                stop.check(self.doing)
                rows = jax.device_put(self._rows.part(i, self._height), share)
                yield i, rows, range(0, len(self.b), width)
                progress.update(min(self._height, len(self.a) - i))

    def _put(self, x, start, size, value, sharding):
        return jax.device_put(_filled(x[start : start + size], size, value), sharding)

    def within(
        self, row_limits: Float[np.ndarray, ' n'], column_limits: Float[np.ndarray, 'm g']
    ) -> Iterator[tuple[int, np.ndarray, Iterator]]:
        """Yield (first row, sure counts [r, g], unsure pairs) of some rows and all columns or part.

        A pair (i, j) is in group g if d² is at most the smaller of row_limits[i] and
        column_limits[j, g]; −∞ = never. Sure pairs are in all groups of their column, or in none.
        The others come as arrays of row and column numbers, some at a time.
        """
        scale = -2 * self.exponent
        member = column_limits > -np.inf
        least = np.where(member, column_limits, np.inf).min(1)
        least[~member.any(1)] = -np.inf
        rows = _directed(np.ldexp(row_limits, scale))
        low, _ = _directed(np.ldexp(least, scale))
        _, high = _directed(np.ldexp(column_limits.max(1), scale))
        member = member.astype(np.float32)
        split, whole = mesh.by_sample(self._devices), mesh.replicated(self._devices)
        for i, points, starts in self._blocks(self._width):
            limits = [self._put(x, i, self._height, -np.inf, split) for x in rows]
            sent = None
            # One block ahead, so that devices need not wait for the host.
            for j in [*starts, None]:
                last = sent
                if j is not None:
                    columns = jax.device_put(self._columns.part(j, self._width), whole)
                    theirs = [self._put(x, j, self._width, -np.inf, whole) for x in (low, high)]
                    groups = self._put(member, j, self._width, 0, whole)
                    sent = j, _within(points, columns, limits, theirs, groups)
                if last is not None:
                    counts, unsure, some = last[1]
                    counts = np.asarray(counts)[: len(self.a) - i].astype(np.int64)
                    yield i, counts, _pairs(unsure, some, i, last[0])

    def smallest(self, count: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (first row, columns [r, count], limit [r]) of the candidates for the nearest.

        No other column of a row is closer than its limit, squared, ≥ 0.
        """
        whole, split = mesh.replicated(self._devices), mesh.by_sample(self._devices)
        column_numbers = np.arange(len(self.b), dtype=np.int32)
        own = np.arange(len(self.a), dtype=np.int32) if self.a is self.b else -2
        own = np.broadcast_to(np.asarray(own, np.int32), len(self.a))
        for i, points, starts in self._blocks(self._width):
            shape = self._height, count
            best = jax.device_put(np.full(shape, np.inf, np.float32), split)
            index = jax.device_put(np.zeros(shape, np.int32), split)
            numbers = self._put(own, i, self._height, -2, split)
            for j in starts:
                columns, squares = self._columns.part(j, self._width)
                squares[len(self.b) - j :] = np.inf
                theirs = jax.device_put((columns, squares), whole)
                places = self._put(column_numbers, j, self._width, -1, whole)
                before = best
                best, index = _smallest(best, index, points, theirs, numbers, places)
                # Blocks wait on the devices by ones, however many there are.
                jax.block_until_ready(before)
            n = min(self._height, len(self.a) - i)
            limit = np.ldexp(np.asarray(best)[:n, -1].astype(np.float64), 2 * self.exponent)
            # All are candidates: nothing else is anywhere.
            limit = np.full(n, np.inf) if count >= self.others else limit.clip(0)
            yield i, np.asarray(index)[:n], limit

    @property
    def others(self) -> int:
        """The points that a point has a distance to."""
        return len(self.b) - (self.a is self.b)

    def exact(self, rows: Int[np.ndarray, ' p'], columns: Int[np.ndarray, ' p']) -> np.ndarray:
        """Return the squared distances of some pairs, float64 [p]."""
        lines, place = np.unique(rows, return_inverse=True)
        first, last = columns.min(initial=len(self.b)), columns.max(initial=-1) + 1
        if len(rows) * DEARER < len(lines) * (last - first):
            return self._by_difference(rows, columns)
        found = np.empty(len(rows))
        for start in range(0, len(lines), FEW):
            some = (place >= start) & (place < start + FEW)
            block = self._by_product(lines[start : start + FEW], first, last)
            found[some] = block[place[some] - start, columns[some] - first]
        return found

    def exact_rows(self, rows: Int[np.ndarray, ' r']) -> Float[np.ndarray, 'r m']:
        """Return the squared distances of some rows to all columns, float64; ∞ to itself."""
        squares = self._by_product(rows, 0, len(self.b))
        if self.a is self.b:
            squares[np.arange(len(rows)), rows] = np.inf
        return squares

    def _by_difference(self, rows, columns):
        step = max(1, CHUNK // self.a.shape[1])
        found = np.empty(len(rows))
        for start in range(0, len(rows), step):
            i, j = rows[start : start + step], columns[start : start + step]
            away = self.a[i].astype(np.float64) - self.b[j]
            found[start : start + step] = np.einsum('pd,pd->p', away, away)
        found[found < ZERO * (self.a_squares[rows] + self.b_squares[columns])] = 0
        return found

    def _by_product(self, rows, first, last):
        left = self.a[rows].astype(np.float64) - self.centre
        found = np.empty((len(rows), last - first))
        for start in range(first, last, COLUMNS):
            part = slice(start, min(start + COLUMNS, last))
            right = self.b[part].astype(np.float64) - self.centre
            scale = self.a_squares[rows][:, None] + self.b_squares[part]
            squares = scale - 2 * (left @ right.T)
            squares[squares < ZERO * scale] = 0
            found[:, start - first : part.stop - first] = squares
        return found


def _pairs(unsure, some, i, j):
    """Row and column numbers of unsure pairs, FEW rows at a time."""
    lines = np.flatnonzero(np.asarray(some))
    if len(lines):
        unsure = np.asarray(unsure)
        for start in range(0, len(lines), FEW):
            part = lines[start : start + FEW]
            rows, columns = np.nonzero(unsure[part])
            yield i + part[rows], j + columns
