"""What every metric on features shares: begin, update, finish, and the bank of features."""

import dataclasses
from typing import Any, ClassVar

import numpy as np


class Bank:
    """All features of a set, with given labels and predicted classes (−1 = none).

    Metrics whose `state` is Bank share one in `score`; standing alone, each has references to the
    same arrays, because the extractor remembers the last batch.
    """

    def __init__(self):
        self._rows = []

    def add(self, features, logits=None, labels=None) -> None:
        """Take in the features of some images, their logits if any and their labels if any."""
        n = features.shape[0]
        none = np.full(n, -1, np.int32)
        predicted = none if logits is None else np.argmax(logits, 1).astype(np.int32)
        self._rows.append((features, none if labels is None else labels, predicted))

    @property
    def count(self) -> int:
        return sum(len(row[0]) for row in self._rows)

    def _joined(self, column):
        if len(self._rows) > 1:
            self._rows = [tuple(np.concatenate(parts) for parts in zip(*self._rows))]
        if not self._rows:
            raise ValueError('no images were given to the metric')
        return self._rows[0][column]

    @property
    def features(self) -> np.ndarray:
        """float32 [n, d]."""
        return self._joined(0)

    @property
    def labels(self) -> np.ndarray:
        """The labels given with the images, int32 [n], −1 = none."""
        return self._joined(1)

    @property
    def predicted(self) -> np.ndarray:
        """The classes that the extractor's logits name, int32 [n], −1 = no logits."""
        return self._joined(2)


def choose(total: int, count: int) -> np.ndarray:
    """Return count of total row numbers, ascending: a fixed random subset, all if count allows.

    Random, not evenly spaced: data sets may repeat their classes with a period.
    """
    if count >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(0).permutation(total)[:count])


def check_images(images: Any) -> np.ndarray:
    """Return images as a numpy array. Errors: ValueError unless uint8 [n, h, w, c]."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f'images must be uint8 [n, h, w, c], not {images.dtype} {images.shape}')
    return images


def check_labels(labels: Any, count: int) -> np.ndarray | None:
    """Return labels as int32 [count], or None. Errors: ValueError for another shape or floats."""
    if labels is None:
        return None
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in 'iu':
        raise ValueError(f'labels must be int [{count}], not {labels.dtype} {labels.shape}')
    return labels.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class FeatureMetric:
    """A metric on features: begin() / update(state, images, labels) / finish(state, reference).

    The result depends on the set of images alone: not on their split into batches, nor on their
    order or the number of devices, beyond float rounding.
    """

    features: Any

    state: ClassVar[type] = Bank
    name: ClassVar[str] = ''
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def title(self) -> str:
        """How a report calls the number."""
        return f'{self.name.replace("_", " ")} ({self.features.noun})'

    def check(self, reference) -> None:
        """Raise ValueError if the reference is of other features or lacks what the metric needs."""
        reference.check(self.features)
        for part in self.needs:
            if getattr(reference, part) is None:
                raise ValueError(
                    f'{self.name} needs the {part} of the real images; {reference.source} holds '
                    'none. Build the reference from the data set.'
                )

    def begin(self):
        """Return an empty state."""
        return self.state()

    def update(self, state, images, labels=None):
        """Take a batch of images, uint8 [n, h, w, c], into the state; return the state.

        labels: int [n], −1 = none, or None.
        """
        images = check_images(images)
        labels = check_labels(labels, len(images))
        if len(images):
            features, logits = self.features(images)
            state.add(features, logits, labels)
        return state

    def finish(self, state, reference) -> float:
        """Return the metric of the images seen against reference statistics."""
        self.check(reference)
        return float(self.value(state, reference))

    def value(self, state, reference) -> float:
        raise NotImplementedError
