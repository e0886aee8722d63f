"""The Inception score: classes that are sure for each sample and even over all.

Salimans et al. 2016 (arXiv:1606.03498); it is that name's only for the logits of Inception-2015.
(1) p(y|x) = softmax(logits of x),  p(y) = mean over x of p(y|x)
(2) K(x) = Σ_y p(y|x)·log(p(y|x)/p(y)),  IS = exp(mean over x of K(x)); 1 … number of classes
(3) The score is the mean of IS over disjoint splits, 10 as published: an IS of n/10 samples, which
    is lower than that of n. Published programs cut splits in the order of the files and give the
    standard deviation among splits as ±; here the splits follow from the features alone.
(4) What a sample changes in log IS of its split is K(x) − mean K to first order: p(y) = mean p(y|x)
    is where Σ_x K is smallest, so that its own change adds nothing. Hence
    standard error² = Σ over splits of (IS·sd(K))²/n_split / splits².
"""

import dataclasses
import math
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from autoguide_jax.metrics.metric import Bank, Estimate, FeatureMetric, undefined


def divergences(logits: Float[np.ndarray, 'n k']) -> Float[np.ndarray, ' n']:
    """Return K of each sample, equation (2), in float64."""
    logits = np.asarray(logits, np.float64)
    logs = logits - logits.max(1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(1, keepdims=True))
    p = np.exp(logs)
    # A class that nobody can have (0 in float64) adds 0·log 0 = 0.
    whole = p.mean(0)
    common = np.log(whole, where=whole > 0, out=np.zeros_like(whole))
    return np.sum(p * (logs - common), 1)


@dataclasses.dataclass(frozen=True)
class InceptionScore(FeatureMetric):
    """Inception score by the extractor's logits, equations (1) to (3); larger is better.

    It sees no real images. Undefined if the extractor has no logits, or with fewer than two samples
    per split.

    Settings:
      features: the feature extractor
      splits: disjoint parts that are scored apart; the score is their mean; from Python only
    """

    splits: int = 10
    name: ClassVar[str] = 'inception_score'
    keep: ClassVar[tuple[str, ...]] = ('logits',)

    def __post_init__(self):
        if self.splits < 1:
            raise ValueError(f'inception_score.splits ({self.splits}) must be at least 1')

    @property
    def least(self) -> int:
        """What the score is published for, or two samples per split."""
        return self.features.published or 2 * self.splits

    def estimate(self, state: Bank, reference) -> Estimate:
        if state.logits is None:
            return undefined('the extractor has no logits')
        if state.count < 2 * self.splits:
            return undefined(f'{state.count} images for {self.splits} splits of two or more')
        scores, variances = [], []
        for rows in np.array_split(state.shuffled(), self.splits):
            found = divergences(state.logits[rows])
            scores.append(math.exp(found.mean()))
            variances.append(scores[-1] ** 2 * found.var(ddof=1) / len(rows))
        return Estimate(float(np.mean(scores)), math.sqrt(sum(variances)) / self.splits)
