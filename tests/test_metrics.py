"""Truths about the metrics together: perfect scores, dropped modes, invariances, refusals."""

import math

import jax
import numpy as np
import pytest
from dots import Dots, every_metric, make_extractor, pixel_features, score_set

from autoguide_jax import metrics
from autoguide_jax.frozen import Output
from autoguide_jax.metrics import building, reference
from autoguide_jax.metrics import features as extractors
from autoguide_jax.metrics.metric import Bank, Estimate, jackknife, mean


@pytest.fixture(scope='module')
def pixels():
    return make_extractor()


@pytest.fixture(scope='module')
def real(pixels):
    return building.build(Dots(), pixels)


def test_the_real_images_score_perfectly(pixels, real):
    got = score_set(Dots(), pixels, real)
    assert got['precision'] == got['recall'] == got['coverage'] == 1
    assert got['density'] == pytest.approx(1, abs=0.05)
    assert got['frechet'] == pytest.approx(0, abs=1e-6)
    assert got['class_accuracy'] == 1
    assert got['class_variance_ratio'] == pytest.approx(1, rel=1e-12)
    assert got['class_entropy'] == pytest.approx(math.log(3), rel=1e-12)
    # Three classes of noise with σ = 12/16 in four pixels (truncated to whole values: + 1/12).
    assert got['class_variance'] == pytest.approx(4 * (144 + 1 / 12) / 256, rel=0.15)


def test_a_dropped_class_lowers_diversity_and_not_fidelity(pixels, real):
    full, dropped = Dots(seed=1), Dots(seed=1)
    keep = dropped.labels != 2
    dropped._images, dropped.labels = dropped._images[keep], dropped.labels[keep]
    dropped.num_images = int(keep.sum())
    a, b = score_set(full, pixels, real), score_set(dropped, pixels, real)
    for name in ('recall', 'coverage'):
        assert b[name] < a[name] * 0.75
    assert abs(b['precision'] - a['precision']) < 0.05
    assert b['class_accuracy'] == 1 and b['class_entropy'] == pytest.approx(math.log(2))
    assert b['frechet'] > 5 * a['frechet']


def test_copies_of_few_images_are_precise_and_cover_little(pixels, real):
    few = Dots()
    few._images = few._images[np.arange(240) % 12]
    got = score_set(few, pixels, real)
    assert got['precision'] == 1
    assert got['coverage'] < 0.5 and got['recall'] < 0.5


def test_samples_closer_to_their_centres_have_less_variance(pixels, real):
    tight = Dots(seed=2)
    centres = np.stack([tight._images[tight.labels == c].mean(0) for c in range(3)])
    pulled = centres[tight.labels] + (tight._images - centres[tight.labels]) / 2
    tight._images = np.round(pulled).astype(np.uint8)
    got = score_set(tight, pixels, real)
    assert got['class_variance_ratio'] == pytest.approx(1 / 4, rel=0.2)
    assert got['class_variance'] == pytest.approx(0.25 * 4 * 144 / 256, rel=0.2)


def test_the_split_into_batches_changes_nothing(pixels, real):
    samples = Dots(seed=3)
    images, labels = samples._images, samples.labels
    whole = metrics.score(every_metric(pixels), [(images, labels)], real)
    flat = lambda found: [number for estimate in found for number in estimate[:2]]
    cuts = [1, 50, 51, 130, 130]
    parts = list(zip(np.split(images, cuts), np.split(labels, cuts)))
    other = every_metric(make_extractor(batch_size=7))
    for batches in (parts, parts[::-1]):
        split = metrics.score(other, batches, real)
        assert flat(split) == pytest.approx(flat(whole), rel=1e-9, nan_ok=True)


def test_a_metric_alone_gives_what_score_gives(pixels, real):
    samples = Dots(seed=4)
    together = score_set(samples, pixels, real)
    for metric in every_metric(pixels):
        state = metric.begin()
        for rows in np.array_split(np.arange(240), 3):
            state = metric.update(state, samples._images[rows], samples.labels[rows])
        alone = metric.finish(state, real)
        assert alone == pytest.approx(together[metric.name], rel=1e-9, nan_ok=True)


def test_unlabelled_samples_have_no_accuracy_and_the_predicted_class(pixels, real):
    samples = Dots(seed=6)
    labelled = score_set(samples, pixels, real)
    samples.labels = None
    got = score_set(samples, pixels, real)
    (estimate,) = metrics.score(
        [metrics.table.get('class_accuracy')(pixels)], [(samples._images, None)], real
    )
    assert math.isnan(estimate.value) and estimate.reason == 'the samples carry no labels'
    assert math.isnan(got['class_accuracy'])
    # The classes are far apart, so that the predicted class is the true one.
    assert got['class_variance'] == pytest.approx(labelled['class_variance'], rel=1e-12)
    assert got['class_variance_ratio'] == pytest.approx(labelled['class_variance_ratio'], rel=1e-12)


def test_wrong_labels_are_inaccurate(pixels, real):
    samples = Dots(seed=7)
    samples.labels = np.where(np.arange(240) < 60, (samples.labels + 1) % 3, samples.labels)
    assert score_set(samples, pixels, real)['class_accuracy'] == pytest.approx(0.75)
    samples.labels[:60] = -1
    assert score_set(samples, pixels, real)['class_accuracy'] == 1


def test_several_metrics_cost_one_forward_pass(real):
    calls = []

    def apply(images):
        calls.append(len(images))
        return pixel_features(images)

    counting = make_extractor(apply=apply, batch_size=240)
    score_set(Dots(seed=8), counting, real)
    assert calls == [240 * jax.local_device_count()]


def test_bad_input_is_refused_before_the_first_batch(pixels, real):
    def never():
        raise AssertionError('a batch was read')
        yield

    precision, accuracy = metrics.table.get('precision'), metrics.table.get('class_accuracy')
    other = make_extractor(weights_hash='other')
    no_logits = make_extractor(num_classes=None)
    plain = reference.Reference(mu=real.mu, sigma=real.sigma, source='plain.npz')
    for members, truth, words in [
        (
            [precision(pixels), accuracy(pixels), precision(pixels, k=5)],
            real,
            'asked for once: precision is there twice',
        ),
        ([precision(other)], real, "weights_hash is 'none', this run has 'other'"),
        ([accuracy(no_logits)], real, "Use the extractor 'classifier'"),
        ([precision(pixels)], plain, 'precision needs the features.*plain.npz'),
        ([precision(make_extractor(dim=9))], real, '4 dimensions, .* has 9'),
    ]:
        with pytest.raises(ValueError, match=words):
            metrics.score(members, never(), truth)


def test_a_part_of_a_bank_has_what_the_jackknife_reads():
    bank = Bank(('logits', 'spatial'))
    bank.add(pixel_features(Dots()._images), Dots().labels)
    part = bank.part(np.arange(240) < 100)
    assert part.arrays.keys() == {'features', 'labels', 'predicted'} and part.count == 100


def test_few_groups_have_wider_intervals():
    """Quantiles of Student's t: scipy.stats.t.ppf(0.975, …)."""
    assert Estimate(1.0, 0.5).interval == pytest.approx((1 - 0.98, 1 + 0.98), abs=1e-4)
    known = jackknife(1.0, np.arange(10.0))
    assert known.freedom == 9
    assert known.interval[1] - 1 == pytest.approx(2.262157 * known.error, rel=1e-6)
    two = mean(np.array([0.0, 1.0]))
    assert two.freedom == 1 and two.interval[1] == pytest.approx(0.5 + 12.7062 * 0.5, rel=1e-5)


@pytest.mark.parametrize('size', [0, -3])
def test_a_batch_of_nothing_is_refused(size):
    with pytest.raises(ValueError, match=rf'features\.batch_size \({size}\) must be at least 1'):
        make_extractor(batch_size=size)


def test_bad_images_and_labels_are_refused(pixels, real):
    metric = metrics.table.get('frechet')(pixels)
    with pytest.raises(ValueError, match='uint8 .* not float32'):
        metric.update(metric.begin(), np.zeros((2, 2, 2, 1), np.float32))
    with pytest.raises(ValueError, match=r'labels must be int \[2\], not int64 \(3,\)'):
        metric.update(metric.begin(), np.zeros((2, 2, 2, 1), np.uint8), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match='no images to score'):
        metrics.score([metric], [], real)
    with pytest.raises(ValueError, match='at least 2 images; there are 1'):
        metrics.score([metric], [(np.zeros((1, 2, 2, 1), np.uint8), None)], real)
    with pytest.raises(ValueError, match=r'recall.k \(0\)'):
        metrics.table.get('recall')(pixels, k=0)


def test_distances_are_named_for_their_features(pixels):
    titles = [metrics.table.get(name)(pixels).title for name in ('frechet', 'class_variance')]
    assert titles == ['FD (pixels)', 'class variance (pixels)']
    assert not any('FID' in title for title in titles)


def test_the_last_block_is_padded_and_cut(pixels):
    shapes = []

    def apply(images):
        shapes.append(images.shape)
        return pixel_features(images)

    images = Dots()._images[:23]
    found = make_extractor(apply=apply, batch_size=10)(images)
    block = 10 * jax.local_device_count()
    assert set(shapes) == {(block, 2, 2, 1)} and len(shapes) == -(-23 // block)
    for got, wanted in zip(found, pixel_features(images)):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ('ahead', 'order'),
    [(extractors.AHEAD, 'rsrsrsfrsfff'), (1, 'rsrsfrsfrsff'), (0, 'rsfrsfrsfrsf')],
)
def test_the_next_blocks_are_read_while_devices_work(ahead, order, monkeypatch):
    """Each of four blocks is read and sent; `ahead` more are, before its features are fetched."""
    events = []

    class Unfinished:
        """What a device returns at once, and has computed when it is asked for."""

        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            events.append('f')
            return np.asarray(self.array, dtype)

    def apply(images):
        events.append('s')
        return Output(Unfinished(pixel_features(images).features))

    def read():
        for i in range(0, len(images), extractor.block):
            events.append('r')
            yield images[i : i + extractor.block], None

    extractor = make_extractor(apply=apply, batch_size=3)
    images = np.resize(Dots()._images, (4 * extractor.block, 2, 2, 1))
    monkeypatch.setattr(extractors, 'AHEAD', ahead)
    found = [outputs[0].features for outputs, _ in extractors.stream([extractor], read())]
    assert ''.join(events) == order
    np.testing.assert_array_equal(np.concatenate(found), pixel_features(images).features)


def test_features_that_are_not_finite_are_refused():
    broken = make_extractor(
        apply=lambda images: Output(pixel_features(images).features / 0), num_classes=None
    )
    with np.errstate(all='ignore'), pytest.raises(ValueError, match='not finite'):
        broken(Dots()._images)


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'frechet'"):
        metrics.table.get('frechett')
    with pytest.raises(ValueError, match="Did you mean 'classifier'"):
        extractors.open_extractor('clasifier')
