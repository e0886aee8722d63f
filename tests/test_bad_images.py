"""What cannot be scored is refused with a reason, or has an answer that is written down."""

import math

import numpy as np
import pytest
from dots import Dots, every_metric, make_extractor, pixel_features
from image_sets import encoded, pixels, store

from autoguide_jax import metrics
from autoguide_jax.foreign_images import open_images
from autoguide_jax.frozen import Output, efficientnet_lite0
from autoguide_jax.metrics import building, scoring
from autoguide_jax.metrics.frechet import moments
from autoguide_jax.metrics.reading import Reader
from autoguide_jax.metrics.reference import Reference


@pytest.fixture(scope='module')
def real():
    return building.build(Dots(), make_extractor())


@pytest.mark.parametrize('name', Output._fields)
def test_outputs_that_are_not_finite_are_refused(name):
    def apply(images):
        found = pixel_features(images)
        return found._replace(**{name: np.where(images[:, :1, 0, 0] > 80, np.nan, 1)})

    with pytest.raises(ValueError, match=f'pixels: the {name} are not finite'):
        make_extractor(apply=apply)(Dots()._images)


def test_a_constant_feature_adds_the_square_of_its_difference(real):
    images = Dots(seed=1)._images
    frechet = metrics.table.get('frechet')
    plain = frechet(make_extractor()).estimate(bank(images), real)
    constant = lambda x, c: np.concatenate([x, np.full((len(x), 1), c, np.float32)], 1)
    truth = Reference(*moments(constant(real.features, 1)).gaussian())
    apply = lambda images: Output(constant(pixel_features(images).features, 4))
    found = frechet(make_extractor(dim=5)).estimate(bank(images, apply), truth)
    assert found.value == pytest.approx(plain.value + 9, rel=1e-9)
    assert found.error == pytest.approx(plain.error, rel=1e-6)


def bank(images, apply=pixel_features, labels=None):
    found = metrics.table.get('frechet')(make_extractor(apply=apply)).begin()
    found.keep = ('logits', 'spatial')
    found.add(apply(images), labels)
    return found


def test_all_images_alike_have_a_distance(real):
    """A covariance of rank 0: the distance to the mean, and all of the real spread."""
    images = np.full((50, 2, 2, 1), 96, np.uint8)
    found = metrics.table.get('frechet')(make_extractor()).estimate(bank(images), real)
    expected = np.sum((real.mu - 6) ** 2) + np.trace(real.sigma)
    assert found.value == pytest.approx(expected, rel=1e-9) and math.isfinite(found.error)


def test_fewer_images_than_dimensions_have_a_distance_and_no_error(real):
    found = metrics.table.get('frechet')(make_extractor()).estimate(bank(Dots()._images[:4]), real)
    assert found.value > 0 and math.isnan(found.error)
    assert found.reason == '4 images for 4 dimensions: no standard error'


@pytest.mark.parametrize('name', metrics.table.names())
def test_one_image_has_no_error_anywhere(name, real):
    """Distances between covariances are refused; others may have a value, and say what lacks."""
    metric = metrics.table.get(name)(make_extractor())
    state = bank(Dots()._images[:1], labels=np.array([0], np.int32))
    if name in ('frechet', 'sfid'):
        with pytest.raises(ValueError, match='at least 2 images; there are 1'):
            metric.estimate(state, real)
        return
    found = metric.estimate(state, real)
    assert math.isnan(found.error)
    assert found.reason


def test_images_of_mixed_sizes_are_refused(tmp_path):
    small, large = np.zeros((30, 2, 2, 1), np.uint8), np.zeros((30, 4, 4, 1), np.uint8)
    members = [metrics.table.get('frechet')(make_extractor())]
    with pytest.raises(ValueError, match=r'\(2, 2, 1\) and of \(4, 4, 1\): .* one size'):
        scoring.banks(members, [(small, None), (large, None)])
    contents = {f'{i}.png': encoded(pixels(i, size=8 + 8 * (i == 2)), 'png') for i in range(4)}
    samples = open_images(store(tmp_path, contents))
    with pytest.raises(ValueError, match=r'2.png is \(16, 16, 3\), 0.png is \(8, 8, 3\)'):
        list(Reader(samples).read(np.arange(4)))


def damaged(kind):
    """A PNG that is cut short, has other pixels than its checksum says, or a torn header."""
    data = encoded(pixels(0, size=16), 'png')
    return {'cut': data[:300], 'bit': data[:60] + b'\0' + data[61:], 'head': data[:26]}[kind]


@pytest.mark.parametrize('kind', ['cut', 'bit', 'head'])
@pytest.mark.parametrize('zipped', [False, True])
def test_a_damaged_picture_is_named(tmp_path, kind, zipped):
    contents = {f'a/{i}.png': encoded(pixels(i, size=16), 'png') for i in range(4)}
    samples = open_images(store(tmp_path / 'set', contents | {'a/2.png': damaged(kind)}, zipped))
    with pytest.raises(ValueError, match=r'a/2.png cannot be read as an image'):
        list(Reader(samples).read(np.arange(4)))


def test_grey_is_colour_to_a_network_of_colours_and_transparency_is_not():
    """Grey images are three equal channels: see test_frozen. Before any device work."""
    with pytest.raises(ValueError, match='takes 1 or 3 channels, not 4'):
        efficientnet_lite0.apply({}, np.zeros((1, 32, 32, 4), np.uint8))


@pytest.mark.parametrize('label', [3, -2])
def test_labels_that_are_no_classes_are_refused(label, real):
    samples = Dots(seed=1)
    samples.labels[17] = label
    batches = [(samples._images, samples.labels)]
    words = f"label {label} of the images is no class of the reference of 'dots', which has 0 … 2"
    with pytest.raises(ValueError, match=words):
        metrics.score(every_metric(make_extractor()), batches, real)
    metric = metrics.table.get('class_accuracy')(make_extractor())
    with pytest.raises(ValueError, match=words):
        metric.finish(metric.update(metric.begin(), *batches[0]), real)
