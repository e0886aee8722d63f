"""A tiny data set and a transparent extractor, for the tests of the metrics."""

import numpy as np

from autoguide_jax import metrics
from autoguide_jax.frozen import Output
from autoguide_jax.metrics.features import Extractor


class Dots:
    """A labelled data set of 2×2 images that are points around one corner per class."""

    name, num_classes = 'dots', 3

    def __init__(self, n=240, seed=0, fingerprint='dots-0', labels=True):
        rng = np.random.default_rng(seed)
        classes = np.arange(n) % 3
        centres = 60 + 120 * np.eye(3, 4)[classes]
        pixels = np.clip(centres + rng.normal(0, 12, (n, 4)), 0, 255)
        self._images = pixels.astype(np.uint8).reshape(n, 2, 2, 1)
        self.labels = classes.astype(np.int32) if labels else None
        self.num_images, self.fingerprint = n, fingerprint

    def images(self, indices):
        return self._images[indices]

    def describe(self):
        return {'name': self.name, 'num_images': self.num_images}


def pixel_features(images):
    """The pixels in units of 16; logits: the first three of them; spatial: the first two."""
    flat = np.asarray(images, np.float32).reshape(len(images), -1) / 16
    return Output(flat, flat[:, :3], flat[:, :2])


def make_extractor(**changes):
    settings = {
        'name': 'pixels',
        'noun': 'pixels',
        'title': 'FD (pixels)',
        'dim': 4,
        'num_classes': 3,
        'weights_hash': 'none',
        'apply': pixel_features,
        'batch_size': 50,
        'spatial_dim': 2,
    }
    return Extractor(**{**settings, **changes})


def every_metric(extractor):
    return [metrics.table.get(name)(extractor) for name in metrics.table.names()]


def score_set(dataset, extractor, real):
    batches = [(dataset.images(np.arange(dataset.num_images)), dataset.labels)]
    return values(every_metric(extractor), batches, real)


def values(of, batches, real):
    """Metric → value."""
    found = metrics.score(of, batches, real)
    return {metric.name: estimate.value for metric, estimate in zip(of, found)}
