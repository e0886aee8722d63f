"""Half of the budget explores the whole space, half a box around the best so far that shrinks."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from autoguide_jax.search.trials import Scores, check_least, evaluations, spread

GROWTHS = 16  # then the box is far larger than the space


@dataclass(frozen=True)
class Sobol:
    """Scrambled Sobol points, then a shrinking box of them around the best, all with all images.

    Settings:
      budget: evaluations; 0 = a tenth of the space, at least 8
    """

    budget: int = 0

    def __post_init__(self):
        check_least(self, budget=0)

    def most(self, space, images):
        """(evaluations, images) at most."""
        budget = evaluations(self.budget, space)
        return budget, budget * images

    def __call__(self, space, images, seed=0):
        """Search the space; see autoguide_jax.search."""
        scores, budget = Scores(space, images), evaluations(self.budget, space)
        explore = budget if budget == space.size else math.ceil(budget / 2)
        yield from scores.ask(spread(space, explore, seed))
        draws = qmc.Sobol(len(space.axes), seed=seed + 1)
        for i in range(budget - explore):
            width = max(0.05, 0.25 * 0.9**i)
            yield from scores.ask([inside(space, scores, draws, width)])
        return scores.best()


def inside(space, scores, draws, width):
    """A place that is new, in a box around the best that grows; where all miss, the first one left.

    width: half of it, as a share of the cube; along each axis it reaches beyond one step.
    """
    centre = scores.ordered()[0]
    for _ in range(GROWTHS):
        for unit in 2 * draws.random(64) - 1:
            steps = [1 / max(1, n - 1) for n in space.shape]
            place = space.nearest(space.unit(centre) + unit * np.maximum(width, steps))
            if place not in scores.reached:
                return place
        width *= 1.5
    return next(place for place in space.places() if place not in scores.reached)
