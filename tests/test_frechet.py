"""Truths about the Fréchet distance and about neighbours: closed forms, golden arrays."""

import math
import pathlib

import numpy as np
import pytest

from autoguide_jax import metrics
from autoguide_jax.metrics import frechet, neighbours

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'frechet.npz'


@pytest.mark.parametrize('case', ['n2000_d64', 'n2000_d64_same', 'n40_d64_rankdef'])
def test_frechet_matches_the_published_implementation(case):
    with np.load(GOLDEN) as golden:
        moments = [golden[f'{case}/{part}'] for part in ('mu1', 'sigma1', 'mu2', 'sigma2')]
        expected = float(golden[f'{case}/fd_peer'])
    assert metrics.frechet_distance(*moments) == pytest.approx(expected, rel=1e-8)


def test_moments_match_the_published_implementation():
    with np.load(GOLDEN) as golden:
        case = {k.split('/')[1]: golden[k] for k in golden if k.startswith('n40_d64_rankdef/')}
    moments = frechet.Moments()
    for part in np.array_split(case['feat1'], [1, 8, 9]):
        moments.add(part)
    mu, sigma = moments.gaussian()
    np.testing.assert_allclose(mu, case['mu1'], rtol=1e-12)
    np.testing.assert_allclose(sigma, case['sigma1'], rtol=1e-9, atol=1e-12)


def test_frechet_of_two_gaussians_in_the_plane():
    """tr √(AB) = √(tr AB + 2·√det AB) for 2×2 matrices, here ones that do not commute."""
    a, b = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    root = math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a @ b)))
    expected = 9 + 16 + np.trace(a) + np.trace(b) - 2 * root
    found = metrics.frechet_distance(np.array([1.0, 2.0]), a, np.array([4.0, -2.0]), b)
    assert found == pytest.approx(expected, rel=1e-12)


def test_frechet_between_a_line_and_another_is_the_sum_of_traces():
    """Rank 1 each and orthogonal: the mixed term is 0."""
    zero = np.zeros(2)
    assert metrics.frechet_distance(
        zero, np.diag([4.0, 0]), zero, np.diag([0, 9.0])
    ) == pytest.approx(13)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'mu1': np.zeros(3)}, r'mu1 \(3,\) and sigma1 \(2, 2\)'),
        ({'sigma2': np.full((2, 2), np.nan)}, 'sigma2 is not finite'),
        ({'sigma1': np.array([[1.0, 5.0], [0.0, 1.0]])}, 'sigma1 is not symmetric'),
        ({'mu2': np.zeros(3), 'sigma2': np.eye(3)}, 'features of 2 and of 3 dimensions'),
    ],
)
def test_frechet_refuses_what_are_no_moments(change, words):
    good = {'mu1': np.zeros(2), 'sigma1': np.eye(2), 'mu2': np.zeros(2), 'sigma2': np.eye(2)}
    with pytest.raises(ValueError, match=words):
        metrics.frechet_distance(**{**good, **change})


def test_neighbours_in_blocks_are_those_of_the_full_matrix(monkeypatch):
    monkeypatch.setattr(neighbours, 'ROWS', 7)
    monkeypatch.setattr(neighbours, 'COLUMNS', 5)
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 1, (23, 4)), rng.normal(3, 1, (18, 4))
    squares = ((a[:, None] - a[None]) ** 2).sum(-1)
    radii = neighbours.radii(a, 3)
    np.testing.assert_allclose(radii, np.sort(squares, 1)[:, 1:4], rtol=1e-9)
    cross = ((b[:, None] - a[None]) ** 2).sum(-1)
    inside = cross <= radii[:, -1]
    assert 0 < inside.sum() < inside.size
    for closed in (True, False):
        counts = neighbours.count_balls(b, a, radii[:, -1], closed)
        np.testing.assert_array_equal(counts, inside.sum(1))
    np.testing.assert_array_equal(neighbours.hit_balls(b, a, radii[:, -1]), inside.any(0))


def test_points_on_the_sphere_are_in_the_closed_ball_only():
    x = np.array([[0.1], [0.4], [0.7], [1.0]])
    radii = neighbours.radii(x, 1)[:, -1]
    np.testing.assert_array_equal(neighbours.count_balls(x, x, radii, closed=True), [2, 3, 3, 2])
    np.testing.assert_array_equal(neighbours.count_balls(x, x, radii, closed=False), [1, 1, 1, 1])


def test_k_must_leave_a_neighbour():
    with pytest.raises(ValueError, match=r'k \(3\) .* number of images \(3\)'):
        neighbours.radii(np.zeros((3, 2)), 3)
