"""Truths about the Fréchet distance: closed forms, golden arrays."""

import math
import pathlib

import numpy as np
import pytest

from autoguide_jax import metrics
from autoguide_jax.metrics import frechet

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
        ({'mu1': np.zeros(3)}, r'mu1 and sigma1 must .* not \(3,\), \(2, 2\)'),
        ({'sigma2': np.full((2, 2), np.nan)}, 'sigma2 is not finite'),
        ({'sigma1': np.array([[1.0, 5.0], [0.0, 1.0]])}, 'sigma1 is not symmetric'),
        ({'mu2': np.zeros(3), 'sigma2': np.eye(3)}, 'features of 2 and of 3 dimensions'),
    ],
)
def test_frechet_refuses_what_are_no_moments(change, words):
    good = {'mu1': np.zeros(2), 'sigma1': np.eye(2), 'mu2': np.zeros(2), 'sigma2': np.eye(2)}
    with pytest.raises(ValueError, match=words):
        metrics.frechet_distance(**{**good, **change})
