"""The Fréchet distance extrapolated over n, within classes, and its moments in parts."""

import dataclasses

import gaussians
import numpy as np
import pytest
from dots import make_extractor

from autoguide_jax.frozen import Output
from autoguide_jax.metrics import building
from autoguide_jax.metrics import reference as references
from autoguide_jax.metrics.class_frechet import ClassFrechet
from autoguide_jax.metrics.frechet import Against, Frechet, Moments, SpatialFrechet
from autoguide_jax.metrics.frechet_infinity import FrechetInfinity, intercept
from autoguide_jax.metrics.reference import Reference

DIM = 32


@pytest.fixture(scope='module')
def offset():
    """Features [50000, 128], float32, far from 0 for their spread; their moments in two passes."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(128, 128)).astype(np.float32)
    features = rng.normal(size=(50_000, 128)).astype(np.float32) @ mix / 100 + np.float32(1000)
    exact = features.astype(np.float64)
    mean = exact.mean(0)
    exact -= mean
    return features, mean + exact.mean(0), exact.T @ exact / 49_999


def assert_moments(found, offset):
    """Within 1e-9, each covariance relative to the two standard deviations."""
    mean, sigma = found.gaussian()
    spread = np.sqrt(np.diag(offset[2]))
    assert found.count == 50_000
    assert np.max(np.abs(mean - offset[1]) / spread) < 1e-9
    assert np.max(np.abs(sigma - offset[2]) / np.outer(spread, spread)) < 1e-9


def test_moments_are_those_of_two_passes_however_they_come(offset):
    features = offset[0]
    rng = np.random.default_rng(1)
    cuts = np.sort(rng.integers(0, 50_000, 60))
    for parts in [features], np.split(features, cuts)[::-1]:
        found = Moments()
        for part in parts:
            found.add(part)
        assert_moments(found, offset)
    apart = []
    for rows in np.array_split(rng.permutation(50_000), 8):
        apart.append(Moments())
        apart[-1].add(features[rows])
    found = Moments()
    for i in rng.permutation(8):
        found.merge(apart[i])
    assert_moments(found, offset)


class Rows:
    """A data set whose images are the numbers of rows."""

    name, labels, num_classes, fingerprint, num_images = 'rows', None, 0, 'rows', 50_000

    def images(self, rows):
        return np.asarray(rows, '<u4').view(np.uint8).reshape(-1, 2, 2, 1)

    def describe(self):
        return {'name': self.name}


def test_moments_that_were_saved_in_parts_are_those_of_two_passes(offset, tmp_path, monkeypatch):
    """Pooled and spatial features, by way of the files that a reference is built from."""

    def apply(images):
        found = offset[0][images.reshape(-1, 4).copy().view('<u4')[:, 0]]
        return Output(found, None, found)

    monkeypatch.setattr(building, 'SMALLEST', 7001)
    extractor = make_extractor(apply=apply, dim=128, num_classes=None, batch_size=999)
    found = building.build(Rows(), extractor, num_features=10, folder=tmp_path / 'blocks')
    assert len(list(tmp_path.glob('blocks/*'))) == 8
    for pair in (found.mu, found.sigma), (found.mu_s, found.sigma_s):
        scatter = pair[1] * (found.count - 1)
        assert_moments(Moments(found.count, pair[0], scatter), offset)


def test_sums_of_squares_would_not_do(offset):
    """The tolerance can fail: the textbook formula loses six more digits to the offset."""
    exact = offset[0].astype(np.float64)
    mean = exact.mean(0)
    sigma = (exact.T @ exact / 50_000 - np.outer(mean, mean)) * (50_000 / 49_999)
    spread = np.sqrt(np.diag(offset[2]))
    assert np.max(np.abs(sigma - offset[2]) / np.outer(spread, spread)) > 1e-9


def gaussian(n, seed, scale=1.15):
    rng = np.random.default_rng(seed)
    return (0.05 + scale * rng.normal(size=(n, DIM))).astype(np.float32)


def truth(scale=1.15):
    """Of gaussian() from N(0, 1): the distance of the Gaussians themselves."""
    return DIM * (0.05**2 + (scale - 1) ** 2)


def test_extrapolation_is_far_nearer_to_the_truth_than_the_distance():
    """Sets of 20·DIM samples: FD is 67 % too large on average, FD∞ 4 % too small."""
    real, extractor = Reference(np.zeros(DIM), np.eye(DIM)), make_extractor(dim=DIM)
    sets = [gaussians.bank(gaussian(640, seed)) for seed in range(20)]
    plain = np.mean([Frechet(extractor).estimate(s, real).value for s in sets])
    found = [FrechetInfinity(extractor).estimate(s, real) for s in sets]
    values = np.array([e.value for e in found])
    assert plain - truth() > 0.5 * truth()
    assert abs(values.mean() - truth()) < (plain - truth()) / 6
    errors = [Frechet(extractor).estimate(s, real).error for s in sets]
    assert [e.error for e in found] == errors


def test_copies_count_as_in_the_whole_set():
    """Ten copies of 640 samples are, for d, 640 samples: what is taken off is their own bias."""
    real, extractor = Reference(np.zeros(DIM), np.eye(DIM)), make_extractor(dim=DIM)
    metric, wide = FrechetInfinity(extractor), []
    for seed in range(4):
        copies = np.repeat(gaussian(640, seed), 10, axis=0)
        whole = Frechet(extractor).estimate(gaussians.bank(copies), real)
        found = metric.estimate(gaussians.bank(copies), real)
        wide.append((found.value - whole.value) / whole.value)
    # Parts of random rows have most of the 640; slices of copies had a fifth, and it fell by 60 %.
    assert np.abs(wide).max() < 0.2


def test_the_line_is_that_of_least_squares():
    x, y = np.array([1.0, 2, 4, 5]), np.array([2.0, 3, 7, 6])
    assert intercept(x, y) == pytest.approx(np.polynomial.Polynomial.fit(x, y, 1)(0), rel=1e-12)


def test_parts_that_would_be_too_small_are_not_made():
    """Parts have at least 2·DIM samples, and there are two or none."""
    real = Reference(np.zeros(DIM), np.eye(DIM))
    metric = FrechetInfinity(make_extractor(dim=DIM))
    assert metric.least == 5 * 2 * DIM and metric.title == 'FD (pixels) ∞'
    published = FrechetInfinity(make_extractor(dim=2048, published=50_000, title='FID'))
    assert (published.least, published.title) == (50_000, 'FID ∞')
    samples = gaussian(5 * 2 * DIM - 1, 0)
    four = dataclasses.replace(metric, parts=4)
    reduced = metric.estimate(gaussians.bank(samples), real)
    assert reduced == four.estimate(gaussians.bank(samples), real)
    few = metric.estimate(gaussians.bank(samples[: 4 * DIM - 1]), real)
    assert np.isnan(few.value) and '127 images make no two parts of 2·32' in few.reason
    with pytest.raises(ValueError, match=r'frechet_infinity.parts \(1\)'):
        dataclasses.replace(metric, parts=1)


def draw(n, seed, shift=0.0):
    return gaussians.draw(np.random.default_rng(seed), n, shift)


def test_the_distance_within_classes_is_the_mean_of_each():
    features, classes = draw(600, 0, 0.5)
    real = gaussians.reference(*draw(900, 1))
    metric = ClassFrechet(make_extractor())
    found = metric.estimate(gaussians.bank(features, classes), real)
    for c in range(3):
        mine = gaussians.bank(features[classes == c])
        theirs = gaussians.reference(real.features[real.labels == c], real.labels[real.labels == c])
        alone = Frechet(make_extractor()).estimate(mine, theirs)
        assert found.parts[str(c)] == pytest.approx(alone.value, rel=1e-12)
    assert found.value == pytest.approx(np.mean(list(found.parts.values())), rel=1e-12)
    # Classes that are swapped look the same together, and are far off one by one.
    swapped = metric.estimate(gaussians.bank(features, (classes + 1) % 3), real)
    assert swapped.value > 10 * found.value
    assert metric.title == 'FD (pixels) within classes'


def test_a_class_of_too_few_images_is_no_class_to_leave_out():
    features, classes = draw(600, 0)
    real = gaussians.reference(*draw(900, 1))
    metric = ClassFrechet(make_extractor())
    kept = (classes != 2) | (np.cumsum(classes == 2) <= 4)
    samples = gaussians.bank(features[kept], classes[kept])
    found = metric.estimate(samples, real)
    assert np.isnan(found.value) and found.parts is None
    assert found.reason == 'class 2 has 4 samples of the 5 that its distance asks for'
    allowed = ClassFrechet(make_extractor(), least_per_class=2).estimate(samples, real)
    assert allowed.value > 0 and np.isnan(allowed.error)
    assert allowed.reason == '4 images for 4 dimensions: no standard error'
    with pytest.raises(ValueError, match=r'least_per_class \(1\)'):
        ClassFrechet(make_extractor(), least_per_class=1)


def test_a_reference_with_too_few_of_a_class_is_refused_at_once():
    features, classes = draw(600, 0)
    real = gaussians.reference(*draw(900, 1))
    kept = (real.labels != 1) | (np.cumsum(real.labels == 1) <= 4)
    few = dataclasses.replace(real, features=real.features[kept], labels=real.labels[kept])
    metric = ClassFrechet(make_extractor())
    metric.check(real)
    with pytest.raises(ValueError, match='keeps 4 real images of class 1, of the 5 that'):
        metric.check(few)
    relaxed = metric.relaxed()
    relaxed.check(few)
    assert relaxed.estimate(gaussians.bank(features, classes), few).value > 0
    plain = Frechet(make_extractor())
    assert plain.relaxed() is plain
    with pytest.raises(ValueError, match='900 of the real images .* are not labelled'):
        metric.check(dataclasses.replace(real, labels=np.full(900, -1)))


def test_gaussians_of_the_real_images_are_made_once(monkeypatch):
    features, classes = draw(600, 0)
    real, made = gaussians.reference(*draw(900, 1)), []
    initial = Against.__init__
    monkeypatch.setattr(Against, '__init__', lambda *a: (made.append(1), initial(*a))[1])
    samples = gaussians.bank(features, classes)
    for metric, count in (SpatialFrechet(make_extractor()), 1), (ClassFrechet(make_extractor()), 3):
        made.clear()
        assert metric.estimate(samples, real) == metric.estimate(samples, real)
        assert len(made) == count
    # Too large to keep: they are made again, and are the same.
    monkeypatch.setattr(references, 'KEPT', 0)
    made.clear()
    fresh = dataclasses.replace(real)
    assert metric.estimate(samples, fresh) == metric.estimate(samples, fresh)
    assert len(made) == 6


def test_spatial_features_are_checked_before_anything_is_computed():
    real = gaussians.reference(*draw(900, 1))
    assert SpatialFrechet(make_extractor()).least == 3
    assert SpatialFrechet(make_extractor(published=50_000)).least == 50_000
    with pytest.raises(ValueError, match="sfid: 'pixels' has no spatial .*extractor 'inception'"):
        SpatialFrechet(make_extractor(spatial_dim=None)).check(dataclasses.replace(real, mu_s=None))
    with pytest.raises(ValueError, match="has 2 spatial features, 'pixels' has 2023"):
        SpatialFrechet(make_extractor(spatial_dim=2023)).check(real)
    with pytest.raises(ValueError, match='sfid needs the mu_s of the real images'):
        SpatialFrechet(make_extractor()).check(dataclasses.replace(real, mu_s=None))


def test_within_classes_needs_labels_on_both_sides():
    features, classes = draw(600, 0)
    real = gaussians.reference(*draw(900, 1))
    metric = ClassFrechet(make_extractor())
    classes[7] = -1
    for samples in gaussians.bank(features), gaussians.bank(features, classes):
        found = metric.estimate(samples, real)
        assert np.isnan(found.value) and found.reason == 'the samples are not all labelled'
    real.labels[7] = -1
    with pytest.raises(ValueError, match='1 of the real images .* are not labelled'):
        metric.check(real)
