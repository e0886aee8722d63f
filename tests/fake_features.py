"""Extractors that stand for Inception and DINOv2 where only their names and files are at issue."""

import jax
import numpy as np

from autoguide_jax.frozen import Output
from autoguide_jax.metrics import features
from autoguide_jax.metrics.features import Extractor

DIMENSIONS = {'inception': 6, 'dinov2': 5}


def project(name, images):
    """Random projections of the pixels, each image by itself; logits and spatial are some."""
    flat = np.asarray(images, np.float64).reshape(len(images), -1) / 64
    matrix = np.random.default_rng(len(name)).normal(size=(flat.shape[1], DIMENSIONS[name]))
    found = np.stack([(row[:, None] * matrix).sum(0) for row in flat]).astype(np.float32)
    return Output(found, found[:, :3], found[:, :2])


def _open(name, weights, batch_size):
    if not weights:
        raise ValueError(f'features.weights must be the weights of {name}')
    # As real ones do: processes that do not look for devices together wait for ever.
    jax.local_devices()
    return Extractor(
        name=name,
        noun=name,
        title=f'FD ({name})',
        dim=DIMENSIONS[name],
        num_classes=3,
        weights_hash=f'hash-{weights}',
        apply=lambda images: project(name, images),
        batch_size=batch_size,
        spatial_dim=2,
        facts={'transform': 'pixels / 64'},
    )


def open_inception(dataset=None, folder=None, /, weights: str = '', batch_size: int = 4):
    """Fake.

    Settings:
      weights: any text
      batch_size: images per call
    """
    return _open('inception', weights, batch_size)


def open_dinov2(dataset=None, folder=None, /, weights: str = '', batch_size: int = 4):
    """Fake.

    Settings:
      weights: any text
      batch_size: images per call
    """
    return _open('dinov2', weights, batch_size)


OPENERS = {name: f'fake_features:open_{name}' for name in DIMENSIONS}


def install():
    """Put them into the table."""
    features.table.table.update(OPENERS)
