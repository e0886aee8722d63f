"""Metrics that look at classes: given labels, or those that the extractor's logits name.

(1) accuracy = share of labelled samples whose largest logit is their label
(2) variance = mean over classes of tr Cov(features | class): the diversity that guidance may cost
(3) entropy  = −Σ p_c·log p_c, p_c the share of samples predicted as class c; at most log(classes)
The class in (2) is the given label; for samples of which any has none, the predicted class, and
then for the real images too, so that like is compared with like.
"""

import dataclasses
import math
import warnings
from typing import ClassVar

import numpy as np

from autoguide_jax.metrics.metric import Bank, FeatureMetric


def _undefined(metric, reason):
    """Return NaN, the value of a metric that the images do not define, and say why."""
    warnings.warn(f'{metric.name} is NaN: {reason}', stacklevel=4)
    return math.nan


@dataclasses.dataclass(frozen=True)
class ClassAccuracy(FeatureMetric):
    """Share of labelled samples that the classifier takes for their label, equation (1).

    NaN, with a warning, if no sample has a label.

    Settings:
      features: the feature extractor; its logits must be of the data set's classes
    """

    name: ClassVar[str] = 'class_accuracy'

    def check(self, reference) -> None:
        super().check(reference)
        mine, theirs = self.features.num_classes, reference.num_classes
        if mine is None or (theirs is not None and mine != theirs):
            raise ValueError(
                f'{self.name}: {self.features.name!r} tells {mine} classes, the data set has '
                f"{theirs}. Use the extractor 'classifier', trained on the data set."
            )

    def value(self, state: Bank, reference) -> float:
        labelled = state.labels >= 0
        if not labelled.any():
            return _undefined(self, 'the samples carry no labels')
        return (state.predicted == state.labels)[labelled].mean()


def _class_variances(features, classes) -> dict[int, float]:
    """Return class → trace of the covariance of its features, for classes of ≥ 2 images."""
    found = {}
    for c in np.unique(classes[classes >= 0]):
        rows = features[classes == c].astype(np.float64)
        if len(rows) >= 2:
            found[int(c)] = float(rows.var(0, ddof=1).sum())
    return found


@dataclasses.dataclass(frozen=True)
class ClassVariance(FeatureMetric):
    """Mean within-class variance of the samples' features, equation (2).

    NaN, with a warning, if no class has two samples, or no class is known at all.

    Settings:
      features: the feature extractor
    """

    name: ClassVar[str] = 'class_variance'

    def value(self, state: Bank, reference) -> float:
        given = (state.labels >= 0).all()
        found = _class_variances(state.features, state.labels if given else state.predicted)
        if not found:
            return _undefined(self, 'no class is known to have two samples')
        return sum(found.values()) / len(found)


@dataclasses.dataclass(frozen=True)
class ClassVarianceRatio(FeatureMetric):
    """Mean within-class variance of the samples over that of the real images, equation (2).

    1 = as diverse as real; both means are over the classes that have two images in both sets.
    NaN, with a warning, if there is none.

    Settings:
      features: the feature extractor
    """

    name: ClassVar[str] = 'class_variance_ratio'
    needs: ClassVar[tuple[str, ...]] = ('features',)

    def value(self, state: Bank, reference) -> float:
        given = (state.labels >= 0).all() and (reference.labels >= 0).all()
        mine = _class_variances(state.features, state.labels if given else state.predicted)
        real = reference.labels if given else reference.predicted
        theirs = _class_variances(reference.features, real)
        common = mine.keys() & theirs.keys()
        below = sum(theirs[c] for c in common)
        if not below > 0:
            return _undefined(self, 'no class is known to have two samples and two real images')
        return sum(mine[c] for c in common) / below


@dataclasses.dataclass(frozen=True)
class ClassEntropy(FeatureMetric):
    """Entropy of the predicted classes in nats, equation (3): low when classes are missing.

    NaN, with a warning, if the extractor has no logits.

    Settings:
      features: the feature extractor
    """

    name: ClassVar[str] = 'class_entropy'

    def value(self, state: Bank, reference) -> float:
        if (state.predicted < 0).any():
            return _undefined(self, 'the extractor has no logits')
        share = np.bincount(state.predicted) / state.count
        share = share[share > 0]
        return max(0.0, -(share * np.log(share)).sum())
