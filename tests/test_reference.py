"""Truths about reference statistics: counts, caching, and what is refused."""

import dataclasses

import numpy as np
import pytest
from dots import Dots, make_extractor, pixel_features

from autoguide_jax import files, metrics
from autoguide_jax.metrics import building, reference


@pytest.fixture(scope='module')
def pixels():
    return make_extractor()


@pytest.fixture(scope='module')
def real(pixels):
    return building.build(Dots(), pixels)


def test_reference_counts_every_image_and_keeps_some(pixels):
    dots = Dots()
    whole = building.build(dots, pixels)
    part = building.build(dots, pixels, num_features=100)
    values = pixel_features(dots._images).features.astype(np.float64)
    np.testing.assert_allclose(whole.mu, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(whole.sigma, np.cov(values.T), rtol=1e-9)
    np.testing.assert_array_equal(part.mu, whole.mu)
    assert (whole.count, part.count, len(part.features)) == (240, 240, 100)
    assert np.bincount(part.labels).min() >= 25
    half = building.build(dots, pixels, count=120)
    assert half.count == len(half.features) == 120
    np.testing.assert_allclose(half.mu, half.features.mean(0, dtype=np.float64), rtol=1e-12)


def test_reference_is_kept_and_read_back(tmp_path, pixels):
    built = metrics.open_reference(Dots(), pixels, tmp_path)
    calls = []
    never = make_extractor(apply=calls.append)
    again = metrics.open_reference(Dots(), never, tmp_path)
    assert not calls
    for name in reference.ARRAYS:
        if getattr(built, name) is not None:
            np.testing.assert_array_equal(getattr(again, name), getattr(built, name))
    assert again.header == built.header and again.warning is None
    metrics.open_reference(Dots(fingerprint='dots-1'), pixels, tmp_path)
    assert len(files.names(tmp_path, '.npz')) == 2


def test_reference_of_anything_else_is_refused(tmp_path, pixels):
    p = tmp_path / 'real.npz'
    told = make_extractor(facts={'transform': 'pixels / 16'})
    reference.save(building.build(Dots(), told), p)
    dots = Dots()
    # The second does not say, as older files do not.
    for extractor in told, pixels:
        assert reference.load(p, dots, extractor, 240).count == 240
    for settings, words in [
        ({'dataset': Dots(fingerprint='dots-9')}, "fingerprint is 'dots-0', this run has 'dots-9'"),
        ({'dataset': dots, 'count': 100}, 'count is 240, this run has 100'),
        (
            {'extractor': make_extractor(weights_hash='x')},
            "weights_hash is 'none', this run has 'x'",
        ),
        (
            {'extractor': make_extractor(facts={'transform': 'pixels / 9'})},
            "transform is 'pixels / 16', this run has 'pixels / 9'",
        ),
        ({'extractor': make_extractor(name='other')}, "extractor is 'pixels', .* 'other'"),
        ({'extractor': make_extractor(dim=5)}, 'has 4 dimensions'),
    ]:
        with pytest.raises(ValueError, match=words):
            reference.load(p, **settings)


def test_a_reference_that_does_not_say_its_transform_is_read(tmp_path, pixels):
    built = building.build(Dots(), pixels)
    old = {k: v for k, v in built.header.items() if k != 'transform'}
    reference.save(dataclasses.replace(built, header=old), tmp_path / 'old.npz')
    told = make_extractor(facts={'transform': 'pixels / 16'})
    assert reference.load(tmp_path / 'old.npz', Dots(), told).count == 240


def test_a_damaged_reference_is_refused(tmp_path, pixels):
    good = building.build(Dots(), pixels)
    reference.save(dataclasses.replace(good, mu=good.mu + 1e-9), tmp_path / 'bad.npz')
    with pytest.raises(ValueError, match='content_hash'):
        reference.load(tmp_path / 'bad.npz')


def test_a_published_npz_serves_the_frechet_distance_with_a_warning(tmp_path, pixels, real):
    np.savez(tmp_path / 'published.npz', mu=real.mu, sigma=real.sigma)
    plain = reference.load(tmp_path / 'published.npz', Dots(), pixels)
    assert 'not recorded' in plain.warning
    samples = Dots(seed=9)
    batches = [(samples._images, None)]
    fd = [metrics.table.get('frechet')(pixels)]
    assert metrics.score(fd, batches, plain) == metrics.score(fd, batches, real)
    np.savez(tmp_path / 'nothing.npz', mean=real.mu)
    with pytest.raises(ValueError, match='no mu and sigma'):
        reference.load(tmp_path / 'nothing.npz')
