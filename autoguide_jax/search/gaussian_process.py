"""Bayesian optimisation: a Gaussian process of the log of the values, and expected improvement.

    (1) log y(u) ~ GP(mean, s²·Matérn_5/2(|u − u'| / ℓ) + noise²), one length ℓ per axis of the
        unit cube, all fitted by marginal likelihood              (Rasmussen & Williams 2006, ch. 5)
    (2) EI(u) = (m − μ)·Φ(z) + s·φ(z), z = (m − μ)/s, m: the lowest mean at a point that was scored
                                               (Jones et al. 1998; with noise: Picheny et al. 2013)

Values that are undefined, or not positive, are taken for as bad as the worst.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np

from autoguide_jax.search.trials import Scores, check_budget, evaluations, spread

CANDIDATES = 4096


@dataclass(frozen=True)
class GaussianProcess:
    """Expected improvement under a Gaussian process, all with all images.

    Settings:
      budget: evaluations; 0 = a tenth of the space, at least 8
      initial: Sobol points before the first fit; 0 = a third of the budget
      batch: points that are chosen from one fit, for hosts to share
    """

    budget: int = 0
    initial: int = 0
    batch: int = 1

    def __post_init__(self):
        check_budget(self.budget)
        if self.initial < 0 or self.batch < 1:
            raise ValueError(
                f'initial ({self.initial}) must be at least 0, batch ({self.batch}) at least 1'
            )
        if 0 < self.budget < self.initial:
            raise ValueError(
                f'initial ({self.initial}) is more than budget ({self.budget}). Lower it'
            )

    def most(self, space, images):
        """(evaluations, images) at most."""
        budget = evaluations(self.budget, space)
        return budget, budget * images

    def __call__(self, space, images, seed=0):
        """Search the space; see autoguide_jax.search."""
        scores, budget = Scores(space, images), evaluations(self.budget, space)
        initial = min(budget, self.initial or math.ceil(budget / 3))
        yield from scores.ask(spread(space, initial, seed))
        while len(scores.reached) < budget:
            count = min(self.batch, budget - len(scores.reached))
            yield from scores.ask(promising(space, scores, count, seed))
        return scores.best()


def promising(space, scores, count, seed):
    """The `count` new places of the highest expected improvement."""
    from scipy.stats import norm

    known = scores.values[scores.images]
    model = fit(space, known)
    new = candidates(space, scores, seed)
    mean, spread_ = model.predict(units(space, new), return_std=True)
    best = model.predict(units(space, known)).min()
    z = (best - mean) / np.maximum(spread_, 1e-9)
    gain = (best - mean) * norm.cdf(z) + spread_ * norm.pdf(z)
    return [new[i] for i in np.argsort(-gain, kind='stable')[:count]]


def units(space, places):
    i = np.array(list(places))
    return np.stack([u[i[:, axis]] for axis, u in enumerate(space.units)], 1)


def candidates(space, scores, seed):
    pool = spread(space, CANDIDATES, seed)
    if space.size > CANDIDATES:
        near = [p for best in scores.ordered()[:5] for p in space.box(best)]
        pool = list(dict.fromkeys([*near, *pool]))
    return [place for place in pool if place not in scores.reached]


def fit(space, known):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    positive = [v for v in known.values() if v is not None and v > 0]
    worst = max(positive, default=1.0)
    y = np.log([v if v is not None and v > 0 else worst for v in known.values()])
    d = len(space.axes)
    kernel = kernels.ConstantKernel(1.0, (0.05, 100)) * kernels.Matern(
        [0.5] * d, (0.1, 10.0), nu=2.5
    )
    kernel += kernels.WhiteKernel(1e-3, (1e-6, 0.3))
    model = GaussianProcessRegressor(kernel, normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)
        return model.fit(units(space, known), y)
