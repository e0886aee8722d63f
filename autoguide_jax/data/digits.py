"""The 8×8 grey digits that come inside scikit-learn: real data with nothing to download."""

import dataclasses
import functools
import hashlib

import numpy as np

from autoguide_jax.data.dataset import ImageSet


@functools.cache
def _load():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    # 17 grey levels, 0…16, spread over 0…255.
    pixels = np.rint(images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    return pixels, labels.astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Digits(ImageSet):
    """1797 handwritten digits, 8×8, one channel, 10 classes (UCI 'optdigits', test part)."""

    name = 'digits'
    resolution = 8
    channels = 1

    def _total(self):
        return len(_load()[0])

    def _total_classes(self):
        return 10

    def _total_labels(self):
        return _load()[1]

    def _read(self, rows):
        pixels, labels = _load()
        return pixels[rows], labels[rows]

    def _identity(self):
        pixels, labels = _load()
        return hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
