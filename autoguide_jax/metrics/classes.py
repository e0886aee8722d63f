"""Metrics that look at classes: given labels, or those that the extractor's logits name.

(1) accuracy = share of labelled samples whose largest logit is their label
(2) variance = mean over classes of tr Cov(features | class): the diversity that guidance may cost
(3) entropy  = −Σ p_c·log p_c, p_c the share of samples predicted as class c; at most log(classes)
The class in (2) is the given label; for samples of which any has none, the predicted class, and
then for the real images too, so that like is compared with like.
Predicted is the class of the largest logit as the extractor gives it: of Inception-2015 without
the bias of its last layer, as the Inception score is defined. There (3), and (2) without labels,
are of classes of ImageNet but for that bias, on both sides.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from autoguide_jax.metrics.metric import (
    Bank,
    Estimate,
    FeatureMetric,
    jackknife_of,
    mean,
    undefined,
)


@dataclasses.dataclass(frozen=True)
class ClassAccuracy(FeatureMetric):
    """Share of labelled samples that the classifier takes for their label, equation (1).

    Undefined if no sample has a label.

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

    def estimate(self, state: Bank, reference) -> Estimate:
        labelled = state.labels >= 0
        if not labelled.any():
            return undefined('the samples carry no labels')
        return mean((state.predicted == state.labels)[labelled])


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

    Undefined if no class has two samples, or no class is known at all.

    Settings:
      features: the feature extractor
    """

    name: ClassVar[str] = 'class_variance'

    def estimate(self, state: Bank, reference) -> Estimate:
        given = (state.labels >= 0).all()

        def value(bank):
            found = _class_variances(bank.features, bank.labels if given else bank.predicted)
            return sum(found.values()) / len(found) if found else np.nan

        return jackknife_of(value, state, 'no class is known to have two samples')


@dataclasses.dataclass(frozen=True)
class ClassVarianceRatio(FeatureMetric):
    """Mean within-class variance of the samples over that of the real images, equation (2).

    1 = as diverse as real; both means are over the classes that have two images in both sets.
    Undefined if there is none.

    Settings:
      features: the feature extractor
    """

    name: ClassVar[str] = 'class_variance_ratio'
    needs: ClassVar[tuple[str, ...]] = ('features',)

    def estimate(self, state: Bank, reference) -> Estimate:
        given = (state.labels >= 0).all() and (reference.labels >= 0).all()
        real = reference.labels if given else reference.predicted
        theirs = _class_variances(reference.features, real)

        def value(bank):
            mine = _class_variances(bank.features, bank.labels if given else bank.predicted)
            common = mine.keys() & theirs.keys()
            below = sum(theirs[c] for c in common)
            return sum(mine[c] for c in common) / below if below > 0 else np.nan

        reason = 'no class is known to have two samples and two real images'
        return jackknife_of(value, state, reason)


@dataclasses.dataclass(frozen=True)
class ClassEntropy(FeatureMetric):
    """Entropy of the predicted classes in nats, equation (3): low when classes are missing.

    Undefined if the extractor has no logits.

    Settings:
      features: the feature extractor
    """

    name: ClassVar[str] = 'class_entropy'

    def estimate(self, state: Bank, reference) -> Estimate:
        if (state.predicted < 0).any():
            return undefined('the extractor has no logits')
        counts = np.bincount(state.predicted)
        surprise = -np.log(counts / state.count, where=counts > 0, out=np.zeros(len(counts)))
        # The entropy is the mean of −log p_c over the samples, and its influence that less H.
        return mean(surprise[state.predicted])
