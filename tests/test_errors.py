"""The standard errors that metrics state, against how their values vary among sets of samples."""

import gaussians
import numpy as np
import pytest

from autoguide_jax import metrics

# A count of points on a manifold that the samples themselves span: no error is known for it.
WITHOUT = {'coverage', 'recall'}


@pytest.fixture(scope='module')
def spread():
    return gaussians.spread(repeats=80, n=300, real=600)


@pytest.mark.parametrize('name', [n for n in metrics.table.names() if n not in WITHOUT])
def test_the_stated_error_is_the_spread_of_the_values(spread, name):
    """A spread of 80 values is known to 8 %."""
    seen, stated = spread[name]
    assert stated == pytest.approx(seen, rel=0.3)


def test_metrics_without_an_error_say_so(spread):
    assert {name for name, (_, stated) in spread.items() if np.isnan(stated)} <= WITHOUT


def test_rounding_moves_few_images_between_parts():
    features, classes = gaussians.draw(np.random.default_rng(0), 4000)
    noise = np.random.default_rng(1).normal(size=features.shape)
    rounded = (features * (1 + 1e-6 * noise)).astype(np.float32)
    assert np.any(rounded != features, axis=1).mean() > 0.9
    a, b = (gaussians.bank(f, classes).groups(40) for f in (features, rounded))
    assert (a == b).mean() > 0.99


def test_parts_are_random_and_do_not_depend_on_the_order():
    features, _ = gaussians.draw(np.random.default_rng(0), 4000)
    group = gaussians.bank(features).groups(10)
    assert (np.bincount(group) == 400).all()
    order = np.random.default_rng(1).permutation(4000)
    np.testing.assert_array_equal(gaussians.bank(features[order]).groups(10), group[order])
    # Means of random parts are off by 1/√400 standard deviations.
    z = (features - features.mean(0)) / features.std(0) * 20
    means = np.array([z[group == i].mean(0) for i in range(10)])
    assert 0.6 < np.sqrt((means**2).mean() * 400) / 20 < 1.4


def test_images_of_a_narrow_class_go_to_all_parts():
    features, classes = gaussians.draw(np.random.default_rng(0), 4000, scale=0.1)
    group = gaussians.bank(features).groups(10)
    shares = np.array([np.bincount(classes[group == i], minlength=3) / 400 for i in range(10)])
    np.testing.assert_allclose(shares, [gaussians.SHARES] * 10, atol=0.1)
