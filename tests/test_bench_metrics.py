"""bench metrics: its rows are of the work that they name."""

import time

import pytest
from dots import Dots, make_extractor, pixel_features

from autoguide_jax import config, metrics
from autoguide_jax.bench import metrics as bench_metrics


@pytest.fixture
def slow(monkeypatch):
    """A data set that takes 2 ms per image to read, and a detector that takes 10 ms per block."""

    class Slow(Dots):
        def images(self, indices):
            time.sleep(2e-3 * len(indices))
            return super().images(indices)

    def apply(images):
        time.sleep(0.01)
        return pixel_features(images)

    monkeypatch.setattr(config, 'build', lambda part: Slow())
    opened = make_extractor(apply=apply, batch_size=64)
    monkeypatch.setattr(metrics, 'open_extractor', lambda *args, **settings: opened)
    return opened


def test_time_outside_the_detector_is_found(slow):
    settings = bench_metrics.Settings(images=128, repeats=1, metrics=('frechet',))
    reading, detector, scoring, frechet = bench_metrics.main(settings)
    assert [row['what'] for row in (reading, scoring, frechet)] == [
        'reading alone',
        'scoring',
        'frechet, at the end',
    ]
    # Reading costs 2 ms per image on each of 8 threads, the detector 10 ms per block of 64: what
    # takes the time is the reading, by the clock of the rows themselves.
    assert detector['ms_per_image'] >= 10 / slow.block
    assert scoring['outside_share'] > 0.2
    assert reading['ms_per_image'] >= 2 / 8


@pytest.mark.parametrize(
    'change, words',
    [
        ({'images': 3}, r'images \(3\) must be ≥ 64'),
        ({'repeats': 0}, r'repeats \(0\) ≥ 1'),
        ({'metrics': ('fid',)}, "unknown name 'fid'"),
    ],
)
def test_bad_settings_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        config.parse(bench_metrics.Settings, change)
