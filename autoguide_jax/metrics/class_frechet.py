"""The Fréchet distance within each class: whether samples of a class look like that class.

(1) d_c = the distance of frechet.py between the samples and the real images labelled c
(2) d̄ = mean of d_c over all classes that the real images have, each with the same weight
(3) standard error = (Σ_c e_c²)^½ / classes, e_c that of d_c: given their labels, the samples of
    different classes are independent. It holds the numbers of samples per class fixed.
Real images of a class are those that the reference keeps one by one, 50,000 of all classes. d_c is
biased upwards by the number of images on both sides: compare equal numbers only.
"""

import dataclasses
import math
from typing import ClassVar

import numpy as np

from autoguide_jax import stop
from autoguide_jax.metrics.metric import Bank, Estimate, FeatureMetric, undefined


@dataclasses.dataclass(frozen=True)
class ClassFrechet(FeatureMetric):
    """Mean over classes of the Fréchet distance within each, equation (2); smaller is better.

    The distance of each class is in the Estimate's parts. Undefined unless all samples are
    labelled, and if a class has too few: to leave it out would reward a model that never draws it.
    `check` refuses a reference with unlabelled images, or too few of a class.

    Settings:
      features: the feature extractor
      least_per_class: images that a class must have on either side; 0 = dimensions + 1, a
        covariance of full rank. With fewer there is a value, far too large, and no standard error.
        From Python only; `relaxed` sets it to 2.
    """

    least_per_class: int = 0
    name: ClassVar[str] = 'class_frechet'
    needs: ClassVar[tuple[str, ...]] = ('features', 'labels')
    is_distance: ClassVar[bool] = True

    def __post_init__(self):
        if self.least_per_class != 0 and self.least_per_class < 2:
            raise ValueError(
                f'class_frechet.least_per_class ({self.least_per_class}) must be 0, which stands '
                'for dimensions + 1, or at least 2'
            )

    @property
    def title(self) -> str:
        return f'{self.features.title} within classes'

    @property
    def least(self) -> int:
        """Of one class; `estimate` sees to the others."""
        return self.least_per_class or self.features.dim + 1

    def relaxed(self) -> 'ClassFrechet':
        return dataclasses.replace(self, least_per_class=2)

    def check(self, reference) -> None:
        """Also raise it for a reference with unlabelled images, or too few of a class."""
        super().check(reference)
        counts = reference.class_counts
        if -1 in counts:
            raise ValueError(
                f'{self.name}: {counts[-1]} of the real images that {reference.source} keeps are '
                'not labelled. Leave it out, or build the reference from a data set with labels.'
            )
        rare = min(counts, key=counts.get)
        if counts[rare] < self.least:
            raise ValueError(
                f'{self.name}: {reference.source} keeps {counts[rare]} real images of class '
                f'{rare}, of the {self.least} that its distance asks for. Leave it out, keep more '
                'images (num_features), or allow fewer (allow_fewer): the value is then too large.'
            )

    def estimate(self, state: Bank, reference) -> Estimate:
        if (state.labels < 0).any():
            return undefined('the samples are not all labelled')
        counts = {c: int(np.sum(state.labels == c)) for c in reference.class_counts}
        rare = min(counts, key=counts.get)
        if counts[rare] < self.least:
            return undefined(
                f'class {rare} has {counts[rare]} samples of the {self.least} that its distance '
                'asks for'
            )
        found = {}
        for c in counts:
            stop.check('computing distances of classes')
            mine = state.features[state.labels == c]
            found[str(c)] = reference.against_class(c).estimate(mine)
        value = float(np.mean([d.value for d in found.values()]))
        error = math.sqrt(sum(d.error**2 for d in found.values())) / len(found)
        reason = next((d.reason for d in found.values() if d.reason), '')
        return Estimate(value, error, reason, {c: d.value for c, d in found.items()})
