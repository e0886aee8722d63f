"""KID and the Inception score: by hand, on average, and as torch-fidelity has them."""

import importlib

import gaussians
import inception_weights
import numpy as np
import pytest
from dots import make_extractor

from autoguide_jax.metrics import kid
from autoguide_jax.metrics.inception_score import InceptionScore, divergences
from autoguide_jax.metrics.kid import KernelDistance
from autoguide_jax.metrics.reference import Reference

# torch-fidelity 0.4.0 on arrays(): kid_subsets=1 with all images, and isc_splits=1.
FIDELITY_KID, FIDELITY_SCORE = 0.0842037797356161, 2.5222960550895985


def arrays():
    """Real features [500, 32], samples [500, 32] and logits [500, 20], float32."""
    rng = np.random.default_rng(7)
    real, samples = rng.gamma(1.0, 0.5, (2, 500, 32)).astype(np.float32)
    return real, samples * np.float32(1.1) + np.float32(0.05), real @ real[:20].T


def fidelity(module):
    """Return a module of torch-fidelity, or skip the test."""
    pytest.importorskip('torch')
    inception_weights.known_to_torch()
    pytest.importorskip('torch_fidelity')
    return importlib.import_module(f'torch_fidelity.{module}')


def fidelity_kid(samples, real):
    module = fidelity('metric_kid')
    import torch

    found = module.kid_features_to_metric(
        *(torch.from_numpy(np.asarray(x, np.float64)) for x in (samples, real)),
        kid_subsets=1,
        kid_subset_size=len(real),
        verbose=False,
    )
    return found[module.KEY_METRIC_KID_MEAN]


def test_kid_is_that_of_torch_fidelity():
    real, samples, _ = arrays()
    found = kid.discrepancy(samples, real)
    assert found == pytest.approx(FIDELITY_KID, rel=1e-9)
    assert fidelity_kid(samples, real) == pytest.approx(found, rel=1e-9)


def test_kid_of_subsets_is_the_mean_of_torch_fidelity_over_all_pairs():
    fidelity('metric_kid')
    real, samples, _ = arrays()
    state = gaussians.bank(samples)
    metric = KernelDistance(make_extractor(dim=32), subset_size=50)
    found = metric.estimate(state, reference(real))
    order = np.random.default_rng(0).permutation(500)
    mine, theirs = kid.subsets(samples, state.shuffled(), 50), kid.subsets(real, order, 50)
    each = np.array([[fidelity_kid(x, y) for y in theirs] for x in mine])
    assert found.value == pytest.approx(each.mean(), rel=1e-9) and found.freedom == 9
    assert found.error == pytest.approx(each.mean(1).std(ddof=1) / np.sqrt(10), rel=1e-9)


def reference(real):
    d = real.shape[1]
    return Reference(np.zeros(d), np.eye(d), features=real)


def test_discrepancy_by_hand():
    """On the line k = (x·y + 1)³: pairs (0, 1) → 1 and (1, 2) → 27, (0, 2) → 1, (1, 1) → 8."""
    x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    assert kid.discrepancy(x, y) == pytest.approx(1 + 27 - 2 * np.mean([1, 1, 8, 27]))
    with pytest.raises(ValueError, match='2 images on either side, not 1 and 2'):
        kid.discrepancy(x[:1], y)


def test_kid_of_one_distribution_is_nothing_on_average_and_else_the_truth():
    """MMD² of N(0, 1) and N(1/2, 1) on the line, by the moments of (xy + 1)³."""
    first = lambda a, b: 1 + 3 * a[1] * b[1] + 3 * a[2] * b[2] + a[3] * b[3]
    p, q = [1, 0, 1, 0], [1, 0.5, 1.25, 1.625]
    truth = first(p, p) + first(q, q) - 2 * first(p, q)
    rng = np.random.default_rng(0)
    draws = lambda mean: rng.normal(mean, 1, (4000, 8, 1))
    for mean, expected in (0, 0), (0.5, truth):
        found = np.array([kid.discrepancy(x, y) for x, y in zip(draws(mean), draws(0))])
        assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(4000)
        assert found.std() / np.sqrt(4000) < 0.2


def test_subsets_are_disjoint_and_ten_of_few_images():
    real, samples, _ = arrays()
    extractor = make_extractor(dim=32, title='FID')
    metric = KernelDistance(extractor)
    assert (metric.least, metric.title) == (2000, 'KID')
    tenths = metric.estimate(gaussians.bank(samples), reference(real))
    same = KernelDistance(extractor, subset_size=250)
    assert tenths == same.estimate(gaussians.bank(samples), reference(real))
    assert tenths.freedom == 9
    order = np.random.default_rng(0).permutation(500)
    rows = np.arange(500)[:, None]
    parts = kid.subsets(rows, order, 60)
    assert len(parts) == 8 and len(np.unique(np.concatenate(parts))) == 480
    assert len(kid.subsets(rows, order, 2)) == kid.MOST
    few = metric.estimate(gaussians.bank(samples[:19]), reference(real))
    words = 'kid needs 20 samples and 4 real images, not 19 and 500'
    assert np.isnan(few.value) and few.reason == words
    with pytest.raises(ValueError, match=r'kid.subset_size \(1\)'):
        KernelDistance(extractor, subset_size=1)


def test_the_score_is_that_of_torch_fidelity():
    *_, logits = arrays()
    found = InceptionScore(make_extractor(), splits=1).estimate(with_logits(logits), None)
    # The last bits of these logits, a product in float32, are those of the machine.
    assert found.value == pytest.approx(FIDELITY_SCORE, rel=1e-6)
    module = fidelity('metric_isc')
    import torch

    theirs = module.isc_features_to_metric(torch.from_numpy(logits), splits=1)
    assert theirs[module.KEY_METRIC_ISC_MEAN] == pytest.approx(found.value, rel=1e-12)


def test_copies_count_as_in_the_whole_set():
    """Each image ten times: neither all copies in one subset, nor each in another one."""
    rng = np.random.default_rng(3)
    real, once = rng.normal(size=(4000, 32)), rng.normal(size=(400, 32))
    samples = np.repeat(once, 10, axis=0)
    metric = KernelDistance(make_extractor(dim=32), subset_size=200)
    found = metric.estimate(gaussians.bank(samples.astype(np.float32)), reference(real))
    # Of 20 draws 0.017 on average; with each copy in another subset 0.001, all in one 0.33.
    assert found.value == pytest.approx(kid.discrepancy(samples, real), abs=0.007)
    # Copies that rounding tells apart are copies.
    nearly = (samples * (1 + 1e-6 * rng.normal(size=samples.shape))).astype(np.float32)
    other = metric.estimate(gaussians.bank(nearly), reference(real))
    assert other.value == pytest.approx(found.value, abs=0.2 * found.error)
    logits = 4 * rng.normal(size=(400, 20)).astype(np.float32)
    score = InceptionScore(make_extractor()).estimate(with_logits(np.repeat(logits, 10, 0)), None)
    whole = InceptionScore(make_extractor(), splits=1)
    assert score.value == pytest.approx(
        whole.estimate(with_logits(np.repeat(logits, 10, 0)), None).value, rel=0.02
    )


def test_the_rounding_of_another_device_moves_few_images_to_another_part():
    """Parts by rank, dealt out or shuffled, would all be others, and KID by half its error."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(20_000, 16))
    both = x, x * (1 + 1e-6 * rng.normal(size=x.shape))
    one, other = (gaussians.bank(y.astype(np.float32)).groups(20) for y in both)
    assert 0 < np.mean(one != other) < 0.02


@pytest.mark.parametrize('n', [100, 1000])
def test_the_interval_of_kid_covers_the_truth(n):
    """In 400 draws, ± 1.2 %; 1.96 errors of ten subsets cover 88 % of the time."""
    rng = np.random.default_rng(4)
    real = reference(rng.normal(size=(1000, 4)))
    metric = KernelDistance(make_extractor(dim=4), subset_size=50)
    draw = lambda n: (0.3 + rng.normal(size=(n, 4))).astype(np.float32)
    found = [metric.estimate(gaussians.bank(draw(n)), real) for _ in range(400)]
    truth = np.mean([metric.estimate(gaussians.bank(draw(2000)), real).value for _ in range(40)])
    low, high = np.transpose([estimate.interval for estimate in found])
    assert 0.9 < np.mean((low <= truth) & (truth <= high)) < 0.985


def with_logits(logits):
    found = gaussians.Bank(('logits',))
    found.add(gaussians.Output(logits, logits), None)
    return found


def test_the_score_of_sure_classes_is_their_number():
    sure = 200 * np.eye(4, dtype=np.float32)[np.arange(400) % 4]
    sure += np.random.default_rng(0).normal(size=(400, 1)).astype(np.float32)
    found = InceptionScore(make_extractor(), splits=1).estimate(with_logits(sure), None)
    assert found.value == pytest.approx(4, rel=1e-12) and found.error == pytest.approx(0, abs=1e-9)
    equal = np.random.default_rng(1).normal(size=(400, 1)).astype(np.float32) + np.zeros(4)
    found = InceptionScore(make_extractor()).estimate(with_logits(equal), None)
    assert found.value == pytest.approx(1, rel=1e-12)
    # A class that no sample can have, in float64, is left out rather than 0·log 0.
    np.testing.assert_allclose(divergences(np.array([[0.0, 0, -1e9]] * 3)), 0, atol=1e-15)


def test_the_error_of_the_score_is_its_spread():
    """Of 400 sets, known to 4 %; the score is about 6, so that its factor in the error is seen."""
    rng, metric = np.random.default_rng(2), InceptionScore(make_extractor(), splits=2)
    draws = 6 * rng.normal(size=(400, 200, 10)).astype(np.float32)
    found = np.array([metric.estimate(with_logits(x), None)[:2] for x in draws])
    assert found[:, 0].mean() > 4
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(ddof=1), rel=0.12)


def test_the_score_needs_logits_and_samples_for_every_split():
    *_, logits = arrays()
    metric = InceptionScore(make_extractor())
    assert metric.least == 20
    assert InceptionScore(make_extractor(published=50_000)).least == 50_000
    none = gaussians.Bank(('logits',))
    none.add(gaussians.Output(logits), None)
    assert metric.estimate(none, None).reason == 'the extractor has no logits'
    few = metric.estimate(with_logits(logits[:19]), None)
    assert np.isnan(few.value) and few.reason == '19 images for 10 splits of two or more'
    with pytest.raises(ValueError, match=r'inception_score.splits \(0\)'):
        InceptionScore(make_extractor(), splits=0)
