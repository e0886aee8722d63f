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
from autoguide_jax.metrics.frechet import Against, moments
from autoguide_jax.metrics.metric import Bank, Estimate, FeatureMetric, undefined


@dataclasses.dataclass(frozen=True)
class ClassFrechet(FeatureMetric):
    """Mean over classes of the Fréchet distance within each, equation (2); smaller is better.

    The distance of each class is in the Estimate's parts. Undefined unless all samples and real
    images are labelled, and if a class has too few on either side: to leave it out would reward a
    model that never draws it.

    Settings:
      features: the feature extractor
      least_per_class: images that a class must have on either side; 0 = dimensions + 1, a
        covariance of full rank. With fewer there is a value, far too large, and no standard error.
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

    def estimate(self, state: Bank, reference) -> Estimate:
        for labels, whose in (state.labels, 'the samples'), (reference.labels, 'the real images'):
            if (labels < 0).any():
                return undefined(f'{whose} are not all labelled')
        classes = np.unique(reference.labels)
        counts = {c: (np.sum(state.labels == c), np.sum(reference.labels == c)) for c in classes}
        rare = min(classes, key=lambda c: min(counts[c]))
        if min(counts[rare]) < self.least:
            mine, theirs = counts[rare]
            return undefined(
                f'class {rare} has {mine} samples and {theirs} real images of the {self.least} '
                'that its distance asks for'
            )
        found = {}
        for c in classes:
            stop.check('computing distances of classes')
            real = Against(*moments(reference.features[reference.labels == c]).gaussian())
            found[str(c)] = real.estimate(state.features[state.labels == c])
        value = float(np.mean([d.value for d in found.values()]))
        error = math.sqrt(sum(d.error**2 for d in found.values())) / len(found)
        reason = next((d.reason for d in found.values() if d.reason), '')
        return Estimate(value, error, reason, {c: d.value for c, d in found.items()})
