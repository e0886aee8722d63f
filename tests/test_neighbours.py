"""Truths about neighbours: float32 on the devices answers as float64 does, whatever the data."""

import numpy as np
import pytest
from dots import make_extractor

from autoguide_jax import metrics
from autoguide_jax.metrics import distances, neighbours
from autoguide_jax.metrics.metric import Bank
from autoguide_jax.metrics.reference import Reference

N, M, D = 90, 110, 12


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks each way, the last ones not full; candidates that are seldom enough."""
    monkeypatch.setattr(neighbours, 'SPARE', 0)
    monkeypatch.setattr(distances, 'ROWS', 16)
    monkeypatch.setattr(distances, 'COLUMNS', 32)


def gauss(rng, n):
    return rng.normal(3, 1, (n, D))


def heavy(rng, n):
    """A few points so far out that a mean would be nowhere near the others."""
    return rng.standard_t(1.1, (n, D)) * np.exp(3 * rng.normal(size=(n, 1)))


def whole(rng, n):
    """Whole numbers: most distances are those of many others, exactly."""
    return rng.integers(0, 2, (n, D))


def copies(rng, n):
    """Each point about 30 times, more than there are candidates."""
    return np.random.default_rng(9).normal(0, 1, (4, D))[rng.integers(0, 4, n)]


def near(rng, n):
    """Points 1000 spreads away from 0, where features of the same kind often are."""
    return 1000 + rng.normal(0, 1, (n, D))


def clumps(rng, n):
    """Four clumps so far apart that float32 sees no distances within one."""
    return 300 * np.eye(4, D)[np.arange(n) % 4] + rng.normal(0, 0.3, (n, D))


def far(rng, n):
    """Beyond what the squares of float32 hold."""
    return rng.normal(0, 1e25, (n, D))


def same(rng, n):
    return np.ones((n, D))


KINDS = (gauss, heavy, whole, copies, clumps, near, far, same)


def pair(kind):
    rng = np.random.default_rng(0)
    a, b = kind(rng, N).astype(np.float32), kind(rng, M).astype(np.float32)
    a[:5] = b[:5]
    return a, b


def squares(a, b):
    """All squared distances by their definition; ∞ from a set's points to themselves."""
    found = ((a[:, None].astype(np.float64) - b[None]) ** 2).sum(-1)
    if a is b:
        np.fill_diagonal(found, np.inf)
    return found


@pytest.mark.parametrize('kind', KINDS)
def test_radii_and_nearest_are_those_of_the_definition(kind):
    a, b = pair(kind)
    expected = np.sort(squares(b, b), 1)
    np.testing.assert_allclose(neighbours.radii(b, 4), expected[:, :4], rtol=1e-9)
    row, found = neighbours.nearest(a, b)
    direct = squares(a, b)
    np.testing.assert_allclose(found, direct.min(1), rtol=1e-9)
    np.testing.assert_allclose(direct[np.arange(N), row], direct.min(1), rtol=1e-9)
    assert (found[:5] == 0).all()


@pytest.mark.parametrize('kind', KINDS)
def test_balls_hold_what_the_definition_says(kind):
    a, b = pair(kind)
    radii = np.sort(squares(b, b), 1)[:, 2]
    direct = squares(a, b)
    closed, opened = direct <= radii * (1 + neighbours.TIE), direct < radii * (1 - neighbours.TIE)
    count = lambda is_closed: neighbours.count_balls(a, b, radii, is_closed)
    np.testing.assert_array_equal(count(True), closed.sum(1))
    np.testing.assert_array_equal(count(False), opened.sum(1))
    group = np.arange(N) % 3
    expected = np.stack([opened[group == j].sum(0) for j in range(3)], 1)
    np.testing.assert_array_equal(neighbours.hit_balls(a, b, radii, group), expected)
    np.testing.assert_array_equal(neighbours.hit_balls(a, b, radii), expected.sum(1)[:, None])


@pytest.mark.parametrize('kind', KINDS)
def test_leaving_out_a_group_is_measuring_the_others(kind):
    a, b = pair(kind)
    group = np.random.default_rng(1).integers(0, 4, M)
    if kind is clumps:
        # Two of each clump are not of its group: without it, what is nearest is in other clumps.
        group = (np.arange(M) + (np.arange(M) < 8)) % 4
    radii = neighbours.radii_without(b, 3, group)
    assert (radii[np.arange(M), 1 + group] == -np.inf).all()
    counts = neighbours.count_balls(a, b, radii, closed=True)
    for column, left in enumerate([group >= 0, *(group != j for j in range(4))]):
        others = b[left]
        expected = np.sort(squares(others, others), 1)[:, 2]
        np.testing.assert_allclose(radii[left, column], expected, rtol=1e-9)
        inside = squares(a, others) <= expected * (1 + neighbours.TIE)
        np.testing.assert_array_equal(counts[:, column], inside.sum(1))


def test_most_pairs_are_decided_on_the_devices(monkeypatch):
    asked = []
    monkeypatch.setattr(neighbours, 'SPARE', 8)
    exact = distances.Between.exact
    monkeypatch.setattr(
        distances.Between, 'exact', lambda *args: asked.append(len(args[1])) or exact(*args)
    )
    monkeypatch.setattr(distances.Between, 'exact_rows', None)
    a, b = (np.random.default_rng(i).normal(3, 1, (400, 64)).astype(np.float32) for i in range(2))
    radii = neighbours.radii(b, 3)[:, -1]
    assert sum(asked) == 400 * 11
    asked.clear()
    neighbours.count_balls(a, b, radii * 1.5, closed=True)
    assert sum(asked) < 50


def test_the_bound_holds_and_is_not_idle():
    """Where float32 is off by more than a thousandth of its bound, it is still within it."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(5, 3, (64, 256)).astype(np.float32) for _ in range(2))
    as_given = [
        (x, np.einsum('nd,nd->n', x, x, dtype=np.float64).astype(np.float32)) for x in (a, b)
    ]
    lower, upper = map(np.asarray, distances._bounds(*as_given[0], *as_given[1]))
    direct = squares(a, b)
    assert (lower <= direct).all() and (direct <= upper).all()
    middle = (lower.astype(np.float64) + upper) / 2
    assert np.abs(middle - direct).max() > (upper - lower).max() / 2000


def test_points_on_the_sphere_are_in_the_closed_ball_only():
    x = np.array([[0.1], [0.4], [0.7], [1.0]])
    radii = neighbours.radii(x, 1)[:, -1]
    np.testing.assert_array_equal(neighbours.count_balls(x, x, radii, closed=True), [2, 3, 3, 2])
    np.testing.assert_array_equal(neighbours.count_balls(x, x, radii, closed=False), [1, 1, 1, 1])


def test_what_has_no_answer_is_refused():
    with pytest.raises(ValueError, match=r'k \(3\) .* number of images \(3\)'):
        neighbours.radii(np.zeros((3, 2)), 3)
    with pytest.raises(ValueError, match=r'k \(2\) .* outside a group \(2\)'):
        neighbours.radii_without(np.zeros((4, 2)), 2, np.array([0, 0, 1, 1]))
    with pytest.raises(ValueError, match='no points to be near to'):
        neighbours.nearest(np.zeros((4, 2)), np.zeros((0, 2)))
    with pytest.raises(ValueError, match='too many for distances in float32'):
        distances.relative_bound(1 << 24)


@pytest.mark.parametrize('name', ['recall', 'coverage'])
def test_few_samples_have_a_value_and_no_error(name):
    rng = np.random.default_rng(0)
    real = Reference(np.zeros(4), np.eye(4), features=rng.normal(size=(50, 4)).astype(np.float32))
    bank = Bank()
    bank.extend({'features': rng.normal(size=(15, 4)).astype(np.float32)})
    found = metrics.table.get(name)(make_extractor()).estimate(bank, real)
    assert 0 < found.value <= 1 and np.isnan(found.error)
    assert found.reason == '15 samples, fewer than 20: no standard error'
