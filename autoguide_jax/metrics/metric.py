"""What every metric on features shares: begin, update, finish, and the bank of features."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy import special

GROUPS = 10
TURNS, ROWS = 100, 1024
# Copies, but for rounding: images whose features are nearer than this, in standard deviations.
COPY = 1e-4


class Estimate(NamedTuple):
    """A metric of a set of samples, and its standard error.

    error: the standard deviation that the value would have over other sets of as many samples,
    the reference held fixed; NaN = not known. reason: why the value or the error is NaN. parts:
    name → value of what the metric is the mean of, None = nothing that has names. freedom: degrees
    of freedom of the error, ∞ = it is as good as known.
    """

    value: float
    error: float = math.nan
    reason: str = ''
    parts: dict[str, float] | None = None
    freedom: float = math.inf

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval, value ± t errors: 1.96 for freedom ∞, 2.26 for 9."""
        reach = float(special.stdtrit(self.freedom, 0.975)) * self.error
        return self.value - reach, self.value + reach


def undefined(reason: str) -> Estimate:
    """The Estimate of what the images do not define."""
    return Estimate(math.nan, math.nan, reason)


def mean(values: np.ndarray) -> Estimate:
    """The mean of independent values [n], and its standard error s/√n, of freedom n − 1."""
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return Estimate(float(values.mean()), math.nan, 'one sample: no standard error')
    error = float(values.std(ddof=1) / math.sqrt(len(values)))
    return Estimate(float(values.mean()), error, freedom=len(values) - 1)


def jackknife(value: float, left_out: np.ndarray) -> Estimate:
    """The Estimate by the delete-a-group jackknife.

    (1) error² = (G − 1)/G · Σ_j (θ_j − mean θ)², θ_j the metric without group j of G equal ones
    (Shao & Wu 1989), of freedom G − 1. left_out: θ_j [G].
    """
    left_out = np.asarray(left_out, np.float64)
    groups = len(left_out)
    error = math.sqrt((groups - 1) / groups * np.sum((left_out - left_out.mean()) ** 2))
    return Estimate(float(value), error, freedom=groups - 1)


class Bank:
    """What a network told of all images of a set, as float32 on the host, and their given labels.

    keep: which of 'logits' and 'spatial' are kept besides the features and the predicted classes.
    """

    def __init__(self, keep: tuple[str, ...] = ()):
        self.keep, self._rows = tuple(keep), []

    def add(self, output, labels=None) -> None:
        """Take in the Output of some images, and their labels int [n], −1 = none, or None."""
        n = output.features.shape[0]
        none = np.full(n, -1, np.int32)
        logits = output.logits
        rows = {
            'features': output.features,
            'labels': none if labels is None else labels,
            'predicted': none if logits is None else np.argmax(logits, 1).astype(np.int32),
        }
        for name in self.keep:
            if (kept := getattr(output, name)) is not None:
                rows[name] = kept
        self.extend(rows)

    def extend(self, rows: dict[str, np.ndarray]) -> None:
        """Take in the arrays of other images: features [n, d], labels and predicted [n], …"""
        self._rows.append(rows)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, by name, one row per image. Errors: ValueError if there are no images."""
        if not self._rows:
            raise ValueError('no images were given to the metric')
        if len(self._rows) > 1:
            names = self._rows[0]
            self._rows = [{k: np.concatenate([rows[k] for rows in self._rows]) for k in names}]
        return self._rows[0]

    @property
    def count(self) -> int:
        return sum(len(rows['features']) for rows in self._rows)

    @property
    def features(self) -> np.ndarray:
        """float32 [n, d]."""
        return self.arrays['features']

    @property
    def labels(self) -> np.ndarray:
        """The labels given with the images, int32 [n], −1 = none."""
        return self.arrays['labels']

    @property
    def predicted(self) -> np.ndarray:
        """The classes that the extractor's logits name, int32 [n], −1 = no logits."""
        return self.arrays['predicted']

    @property
    def logits(self) -> np.ndarray | None:
        """float32 [n, k], None if there are none or they were not kept."""
        return self.arrays.get('logits')

    @property
    def spatial(self) -> np.ndarray | None:
        """float32 [n, s], None if there are none or they were not kept."""
        return self.arrays.get('spatial')

    def shuffled(self) -> np.ndarray:
        """Row numbers [n] in an order that is random but follows from the features alone.

        What divides a set into parts divides it so: the order of the images decides nothing, and
        the rounding of another device next to nothing, as it would of hashes or of shuffled ranks.
        An image's place is where it stops on a wheel that turns TURNS times or more per standard
        deviation along a random direction. Copies would stop together, and one part would have them
        all: each further copy has a wheel of its own, so that they meet as often as by chance.
        """
        features = self.features
        direction = np.random.default_rng(0).standard_normal(features.shape[1])
        parts = [features[i : i + ROWS] for i in range(0, len(features), ROWS)]
        along = np.concatenate([part.astype(np.float64) @ direction for part in parts])
        spread = along.std() or 1.0
        number = _copies(features, along, COPY * spread)
        turns, phase = np.random.default_rng(1).random((number.max(initial=0) + 1, 2)).T
        turned = (along - along.mean()) / spread * TURNS * (1 + turns[number]) + phase[number]
        return np.argsort(turned % 1, kind='stable')

    def groups(self, count: int = GROUPS) -> np.ndarray:
        """The group of each image, int [n], by `shuffled`; sizes differ by one at most."""
        group = np.empty(self.count, np.int64)
        group[self.shuffled()] = np.arange(self.count) * count // self.count
        return group

    def part(self, rows: np.ndarray) -> 'Bank':
        """The Bank of some rows, by number or as bool [n], without logits and spatial features."""
        bank = Bank()
        small = ('features', 'labels', 'predicted')
        bank.extend({name: self.arrays[name][rows] for name in small})
        return bank


def _copies(features, along, near):
    """Number the copies of each image, int [n], 0 = the first: along tells where to look."""
    order = np.argsort(along, kind='stable')
    same = np.zeros(len(order), bool)
    candidates = 1 + np.flatnonzero(np.diff(along[order]) <= near)
    for start in range(0, len(candidates), ROWS):
        at = candidates[start : start + ROWS]
        apart = features[order[at]].astype(np.float64) - features[order[at - 1]]
        same[at] = np.sum(apart * apart, 1) <= near**2
    places = np.arange(len(order))
    number = np.empty(len(order), np.int64)
    number[order] = places - np.maximum.accumulate(np.where(same, 0, places))
    return number


def jackknife_of(value: Callable[[Bank], float], bank: Bank, reason: str) -> Estimate:
    """The Estimate of a metric value(bank), computed anew without each of GROUPS groups.

    value sees features, labels and predicted classes: see Bank.part. reason: why it may be NaN.
    """
    whole = value(bank)
    if math.isnan(whole):
        return undefined(reason)
    group = bank.groups()
    if bank.count < 2 * GROUPS:
        return Estimate(whole, math.nan, f'fewer than {2 * GROUPS} samples: no standard error')
    return jackknife(whole, [value(bank.part(group != j)) for j in range(GROUPS)])


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

    name: in the table; keep: what of the extractor's Output it needs besides features and classes;
    needs: fields of the reference that it cannot do without; is_distance: smaller is better.
    """

    features: Any

    name: ClassVar[str] = ''
    keep: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    # Raised where a change moves numbers: rows of before are then not taken for new ones.
    revision: ClassVar[int] = 2

    @property
    def title(self) -> str:
        """How a report calls the number."""
        return f'{self.name.replace("_", " ")} ({self.features.noun})'

    @property
    def least(self) -> int:
        """Images below which the number is not what its name says."""
        return 2

    def relaxed(self) -> 'FeatureMetric':
        """Return the metric for fewer images than it asks for, where that is allowed."""
        return self

    def check(self, reference) -> None:
        """Raise ValueError if the reference is of other features or lacks what the metric needs."""
        reference.check(self.features)
        for part in self.needs:
            if getattr(reference, part) is None:
                raise ValueError(
                    f'{self.name} needs the {part} of the real images; {reference.source} holds '
                    'none. Build the reference from the data set.'
                )

    def begin(self) -> Bank:
        """Return an empty state."""
        return Bank(self.keep)

    def update(self, state: Bank, images, labels=None) -> Bank:
        """Take a batch of images, uint8 [n, h, w, c], into the state; return the state.

        labels: int [n], −1 = none, or None.
        """
        images = check_images(images)
        labels = check_labels(labels, len(images))
        if len(images):
            state.add(self.features(images), labels)
        return state

    def finish(self, state: Bank, reference) -> float:
        """Return the metric of the images seen against reference statistics."""
        self.check(reference)
        reference.check_labels(state.labels)
        return float(self.estimate(state, reference).value)

    def estimate(self, state: Bank, reference) -> Estimate:
        """Return the metric with its standard error."""
        raise NotImplementedError
