"""Bayesian optimisation: a Gaussian process of the log of the values, and expected improvement.

    (1) log y(u, f) ~ GP(m, s²·Matérn_5/2(u, f) + noise²), one length per axis of the unit cube and
        one for f = log2(all images / images) / 3: values of few images differ by their noise and by
        a bias that neighbours share. Fitted by marginal likelihood (Rasmussen & Williams 2006, 5)
    (2) EI(u) = (b − μ)·Φ(z) + s·φ(z), z = (b − μ)/s at f = 0, b: the lowest μ where all images
        were scored                            (Jones et al. 1998; with noise: Picheny et al. 2013)

A value that is undefined is taken for the worst; with few images it says nothing. Distances that
may be negative (KID, FD∞) are raised before their log, so that the lowest is median − lowest.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from autoguide_jax.search.trials import Scores, check_least, evaluations, first_images, spread

CANDIDATES = 4096  # of a space that is larger: so many, and the surroundings of the best
INITIAL = 80  # a fit costs the cube of the number of values
PROMOTED = 2
GROWTH = 1.1  # the kernel is fitted anew when there are so many times more values


@dataclass(frozen=True)
class GaussianProcess:
    """Expected improvement under a Gaussian process that begins with trials of few images.

    Settings:
      budget: images of all trials together, in evaluations with all images; 0 = a tenth of the
        space, at least 8
      first: images of the initial trials; 0 = an eighth of all
      initial: Sobol points before the first fit; 0 = what a third of the budget draws, at most 80
      batch: points that are chosen from one fit, for hosts to share
      least_gain: expected relative improvement below which the search ends early; 0 = it spends
        its budget. A model that few images misled expects none too soon
    """

    budget: int = 0
    first: int = 0
    initial: int = 0
    batch: int = 1
    least_gain: float = 0.0

    def __post_init__(self):
        check_least(self, budget=0, first=0, initial=0, batch=1, least_gain=0)

    def plan(self, space, images):
        """(initial points, their images, budget in images) of a search.

        Errors: ValueError for a budget that the initial points alone exceed.
        """
        first, budget = first_images(self.first, images), evaluations(self.budget, space) * images
        most = 1 + (budget - images) // first  # beside one evaluation with all images
        if min(self.initial, space.size) > most:
            raise ValueError(
                f'initial ({self.initial}): a budget of {budget} images allows at most {most} '
                f'points of {first} images. Lower initial or first, or raise budget'
            )
        initial = self.initial or min(most, INITIAL, math.ceil(budget / 3 / first))
        return min(space.size, initial), first, budget

    def most(self, space, images):
        """(evaluations, images) at most. Errors: ValueError for settings that contradict."""
        initial, first, budget = self.plan(space, images)
        return (initial if first < images else 0) + budget // images, budget

    def __call__(self, space, images, seed=0):
        """Search the space; see autoguide_jax.search. Errors: ValueError as `most`."""
        return self.run(space, images, seed, *self.plan(space, images))

    def run(self, space, images, seed, initial, first, budget):
        """The generator of a search."""
        scores, kernel, fitted = Scores(space, images, budget), None, 0
        yield from scores.ask(spread(space, initial, seed), first)
        yield from scores.ask(scores.ordered(first)[:PROMOTED])
        while scores.budget - scores.spent >= images and len(scores.of(images)) < space.size:
            values = sum(map(len, scores.values.values()))
            anew = values >= GROWTH * fitted
            new, gain, kernel = promising(space, scores, seed, kernel, anew)
            fitted = values if anew else fitted
            if gain < self.least_gain:
                break
            yield from scores.ask(new[: self.batch])
        return scores.best()


def promising(space, scores, seed, kernel, anew):
    """(new places by expected improvement, the largest one, the fitted kernel); Eq. (2)."""
    model = fit(space, scores, kernel, anew)
    done = scores.of(scores.images)
    new = [place for place in candidates(space, scores, seed) if place not in done]
    mean, deviation = model.predict(positions(space, new), return_std=True)
    best = model.predict(positions(space, done)).min()
    z = (best - mean) / np.maximum(deviation, 1e-9)
    gain = (best - mean) * norm.cdf(z) + deviation * norm.pdf(z)
    order = np.argsort(-gain, kind='stable')
    return [new[i] for i in order], gain[order[0]], model.kernel_


def candidates(space, scores, seed):
    """All places, or of a large space some and the surroundings of the best."""
    if space.size <= CANDIDATES:
        return list(space.places())
    near = [place for best in scores.ordered()[:5] for place in space.box(best)]
    return list(dict.fromkeys([*near, *spread(space, CANDIDATES, seed)]))


def positions(space, places, fidelity=0.0):
    """(u, f) of places, float64 [places, axes + 1]."""
    index = np.array(list(places))
    columns = [units[index[:, axis]] for axis, units in enumerate(space.units)]
    return np.stack([*columns, np.full(len(index), fidelity)], axis=1)


def fit(space, scores, kernel=None, anew=True):
    """The model of Eq. (1), its kernel fitted anew from that of the last fit, or that as it is."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    usable = lambda value: value is not None and math.isfinite(value)
    told = [v for known in scores.values.values() for v in known.values() if usable(v)] or [1.0]
    worst, lowest = max(told), min(told)
    raised = 0.0 if lowest > 0 else (np.median(told) - lowest or 1.0) - lowest
    where, values = [], []
    for images, known in scores.values.items():
        kept = [p for p, value in known.items() if images == scores.images or usable(value)]
        if kept:
            where.append(positions(space, kept, math.log2(scores.images / images) / 3))
            values += [known[p] if usable(known[p]) else worst for p in kept]
    if kernel is None:
        bounds = [(0.1, 10.0)] * len(space.axes) + [(0.5, 100.0)]
        matern = kernels.Matern([0.5] * len(bounds), bounds, nu=2.5)
        kernel = kernels.ConstantKernel(1.0, (0.05, 100.0)) * matern
        kernel += kernels.WhiteKernel(1e-3, (1e-6, 0.3))
    optimizer = 'fmin_l_bfgs_b' if anew else None
    model = GaussianProcessRegressor(kernel, normalize_y=True, optimizer=optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)  # a length at its bound
        return model.fit(np.concatenate(where), np.log(np.add(values, raised)))
