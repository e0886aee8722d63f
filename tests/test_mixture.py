"""The 2-D mixture: golden arrays, calculus, and both arithmetics."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoguide_jax.data.toy import mixture

GOLDEN = pathlib.Path(__file__).parent / 'golden'
EVAL = dict(np.load(GOLDEN / 'toy_mixture_eval_logspace.npz'))


@pytest.mark.parametrize('classes', ['A', 'B', 'AB'])
def test_components_are_the_golden_ones(classes):
    ours = mixture(classes).components
    with np.load(GOLDEN / 'toy_mixture.npz') as theirs:
        for name in ('phi', 'mu', 'Sigma', 'depth', 'branch'):
            np.testing.assert_allclose(
                ours[name], theirs[f'{classes}/{name}'], rtol=1e-9, atol=1e-12
            )


@pytest.mark.parametrize('classes', ['A', 'B', 'AB'])
@pytest.mark.parametrize('level', range(5))
def test_log_density_and_score_are_the_golden_ones(classes, level):
    x, sigma = EVAL['x'], EVAL['sigma'][level]
    found = mixture(classes)
    np.testing.assert_allclose(found.log_prob(x, sigma), EVAL[f'{classes}/logp'][level], rtol=1e-9)
    score = EVAL[f'{classes}/score'][level]
    np.testing.assert_allclose(found.score(x, sigma), score, rtol=1e-9, atol=1e-9)
    # float32 keeps what float32 can: 1e-4 of the largest coordinate of each score.
    x32 = jnp.asarray(x, jnp.float32)
    largest = 1 + np.abs(score).max(axis=1, keepdims=True)
    assert np.max(np.abs(found.score(x32, jnp.float32(sigma)) - score) / largest) < 2e-4
    log = found.log_prob(x32, jnp.float32(sigma))
    np.testing.assert_allclose(log, EVAL[f'{classes}/logp'][level], rtol=5e-5, atol=5e-5)


def test_sigma_may_differ_from_point_to_point():
    x, sigma = EVAL['x'][:5], EVAL['sigma']
    found = mixture('A')
    one = [found.score(x[i], sigma[i]) for i in range(5)]
    np.testing.assert_allclose(found.score(x, sigma), one, rtol=1e-12)


@pytest.mark.parametrize('sigma', [0.05, 0.5])
def test_the_density_integrates_to_one(sigma):
    side = np.linspace(-6, 6, 2401)
    step = side[1] - side[0]
    x = np.stack(np.meshgrid(side[::2], side[::2]), axis=-1)[..., :2]
    inside = np.abs(x).max(axis=-1) < 1.4 + 6 * sigma
    parts = np.array_split(x[inside], 64)  # all at once would take ten gigabytes
    mass = sum(np.exp(mixture('AB').log_prob(part, sigma)).sum() for part in parts)
    mass *= (2 * step) ** 2
    assert mass == pytest.approx(1, abs=1e-4)


def test_the_density_integrates_to_one_without_noise():
    """By importance sampling from the same mixture, only wider."""
    found, random = mixture('A'), np.random.default_rng(0)
    wide = 0.02
    parts = found.components
    chosen = random.choice(len(parts['phi']), 2**16, p=parts['phi'])
    roots = np.linalg.cholesky(parts['Sigma'] + wide**2 * np.eye(2))[chosen]
    x = parts['mu'][chosen] + np.einsum('nij,nj->ni', roots, random.standard_normal((2**16, 2)))
    ratio = np.exp(found.log_prob(x, 0.0) - found.log_prob(x, wide))
    assert ratio.mean() == pytest.approx(1, abs=5 * ratio.std() / 2**8)
    assert ratio.std() / 2**8 < 0.02


@pytest.mark.parametrize('sigma', [0.0, 0.01, 0.3])
def test_the_score_is_the_gradient_of_the_log_density(sigma):
    found, x, h = mixture('AB'), mixture('AB').sample(jax.random.key(0), 64, sigma), 1e-5
    x = np.asarray(x, np.float64)
    for axis in range(2):
        e = h * np.eye(2)[axis]
        slope = (found.log_prob(x + e, sigma) - found.log_prob(x - e, sigma)) / (2 * h)
        np.testing.assert_allclose(found.score(x, sigma)[:, axis], slope, rtol=1e-4, atol=1e-2)


def test_far_away_nothing_underflows():
    far = np.array([[30.0, -40.0], [1e3, 1e3]])
    found = mixture('A')
    assert np.all(found.log_prob(far, 0.0) < -1e6)
    assert np.all(np.isfinite(found.score(far, 0.0)))
    assert np.all(np.isfinite(found.score(jnp.asarray(far, jnp.float32), 0.0)))


def test_samples_have_the_density_that_is_claimed():
    """E log p under samples is minus the entropy, whoever draws them."""
    found, n = mixture('A'), 2**14
    ours = found.log_prob(np.asarray(found.sample(jax.random.key(1), n, 0.1), np.float64), 0.1)
    parts, random = found.components, np.random.default_rng(3)
    chosen = random.choice(len(parts['phi']), n, p=parts['phi'])
    roots = np.linalg.cholesky(parts['Sigma'] + 0.01 * np.eye(2))[chosen]
    x = parts['mu'][chosen] + np.einsum('nij,nj->ni', roots, random.standard_normal((n, 2)))
    theirs = found.log_prob(x, 0.1)
    assert ours.mean() == pytest.approx(theirs.mean(), abs=5 * theirs.std() * np.sqrt(2 / n))


def test_branches_are_those_of_the_components():
    found = mixture('A')
    parts = found.components
    np.testing.assert_array_equal(found.branch(parts['mu'])[::8], parts['branch'][::8])
    log = [
        np.log(phi)
        - 0.5 * np.einsum('i,ij,j', d, np.linalg.inv(s), d)
        - 0.5 * np.log(np.linalg.det(s))
        for phi, s, d in zip(parts['phi'], parts['Sigma'], EVAL['x'][3] - parts['mu'])
    ]
    assert found.branch(EVAL['x'][3]) == parts['branch'][np.argmax(log)]


@pytest.mark.parametrize('classes', ['C', '', 'BA', 'a'])
def test_an_unknown_class_set_is_refused(classes):
    with pytest.raises(ValueError, match='no such class'):
        mixture(classes)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match='sigma.*must be ≥ 0'):
        mixture('A').score(np.zeros((3, 2)), -0.1)
    with pytest.raises(ValueError, match='points of the plane'):
        mixture('A').log_prob(np.zeros((3, 3)), 0.1)
