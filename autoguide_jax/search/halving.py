"""Successive halving over image counts (arXiv 1502.07943), on a landscape that is smooth.

rungs        images/η^R, …, images/η, images: each trial draws the same first seeds as those of
             its rung, so differences are of settings, not of luck, and no image is drawn twice
survivors    a rung has 1/η of the places of the one below: its best
explorers    some of a rung's places are not survivors but neighbours of its best so far, one
             round after the other: where it is smooth, the best is beside the good
the rest     what is left of the budget goes to neighbours of the best, with all images
"""

import bisect
import math
from dataclasses import dataclass

from autoguide_jax.search.trials import Scores, check_least, evaluations, first_images, spread


@dataclass(frozen=True)
class Halving:
    """Many points with few images, the best of them with more, until all images are drawn.

    Settings:
      budget: images of all trials together, in evaluations with all images; 0 = a tenth of the
        space, at least 8
      first: images of the first trials, at least; 0 = an eighth of all
      eta: of how many points one survives, and how many times more images it gets
      candidates: points of the first rung; 0 = as many as the budget allows
      explore: share of every rung for neighbours of its best
    """

    budget: int = 0
    first: int = 0
    eta: float = 2.0
    candidates: int = 0
    explore: float = 0.5

    def __post_init__(self):
        check_least(self, budget=0, first=0, candidates=0)
        if not self.eta > 1:
            raise ValueError(f'eta ({self.eta}) must be more than 1, or nothing is left out')
        if not 0 <= self.explore < 1:
            raise ValueError(f'explore ({self.explore}) must be at least 0 and below 1')

    def rungs(self, space, images):
        """[(images, survivors, explorers)] of every rung, and the images of all at most.

        Errors: ValueError for settings that contradict: first > images, candidates > budget.
        """
        counts, least = [images], first_images(self.first, images)
        while least <= (fewer := math.ceil(images / self.eta ** len(counts))) < counts[0]:
            counts.insert(0, fewer)
        budget = evaluations(self.budget, space) * images
        fits = lambda size: self.plan(size, counts)[1] <= budget
        most = bisect.bisect(range(1, space.size + 1), False, key=lambda size: not fits(size))
        if min(self.candidates, space.size) > most:
            raise ValueError(
                f'candidates ({self.candidates}): a budget of {budget} images allows at most '
                f'{most}. Lower candidates or first, or raise budget or eta'
            )
        return self.plan(min(self.candidates or most, most), counts)

    def plan(self, size, counts):
        """(rungs, images at most) of a search with so many places in the first rung."""
        rungs, images, before = [], 0, 0
        for i, count in enumerate(counts):
            places = math.ceil(size / self.eta**i)
            explorers = int(self.explore * places)
            rungs.append((count, places - explorers, explorers))
            images += places * count - (places - explorers) * before
            before = count
        return rungs, images

    def most(self, space, images):
        """(evaluations, images) at most. Errors: ValueError as `rungs`."""
        rungs, _ = self.rungs(space, images)
        fewer = sum(survivors + explorers for _, survivors, explorers in rungs[:-1])
        whole = evaluations(self.budget, space)
        return fewer + whole, whole * images

    def __call__(self, space, images, seed=0):
        """Search the space; see autoguide_jax.search. Errors: ValueError as `rungs`."""
        return self.run(space, images, seed, self.rungs(space, images)[0])

    def run(self, space, images, seed, rungs):
        """The generator of a search."""
        scores = Scores(space, images, evaluations(self.budget, space) * images)
        pool = spread(space, rungs[0][1], seed)
        for count, survivors, explorers in rungs:
            yield from scores.ask(pool[:survivors], count)
            while explorers > 0 and (new := beside(scores, scores.ordered(count), count)):
                yield from scores.ask(new[:explorers], count)
                explorers -= len(new)
            pool = scores.ordered(count)
        while new := beside(scores, scores.ordered()[:1], images):
            before = scores.spent
            yield from scores.ask(new)
            if scores.spent == before:
                break
        return scores.best()


def beside(scores, places, images):
    """What is not scored with so many images around the first of these places that has any.

    Its neighbours, or else the diagonal ones.
    """
    known, space = scores.of(images), scores.space
    for around in (space.neighbours, space.box):
        for place in places:
            new = [other for other in around(place) if other not in known]
            if new:
                return new
    return []
