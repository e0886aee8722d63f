"""Successive halving over image counts (arXiv 1502.07943), on a landscape that is smooth.

rungs        images/η^R, …, images/η, images: each trial draws the same first seeds as those of
             its rung, so differences are of settings, not of luck, and no image is drawn twice
survivors    a rung has 1/η of the places of the one below: its best
explorers    some of a rung's places are not survivors but neighbours of its best so far, one
             round after the other: where it is smooth, the best is beside the good
"""

import math
from dataclasses import dataclass

from autoguide_jax.search.trials import Scores, check_budget, evaluations, rank, spread


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
        check_budget(self.budget)
        if not self.eta > 1:
            raise ValueError(f'eta ({self.eta}) must be more than 1, or nothing is left out')
        if not 0 <= self.explore < 1:
            raise ValueError(f'explore ({self.explore}) must be at least 0 and below 1')
        if self.first < 0 or self.candidates < 0:
            raise ValueError(
                f'first ({self.first}) and candidates ({self.candidates}) must be at least 0'
            )

    def counts(self, images):
        """Images of every rung, ascending. Errors: ValueError for first > images."""
        if self.first > images:
            raise ValueError(
                f'first ({self.first}) is more than the images of a whole evaluation ({images})'
            )
        least, found = self.first or math.ceil(images / 8), [images]
        while (fewer := math.ceil(images / self.eta ** len(found))) >= least and fewer < found[0]:
            found.insert(0, fewer)
        return found

    def rungs(self, space, images):
        """[(images, survivors, explorers)] of every rung, and the most that they draw together."""
        counts, budget = self.counts(images), evaluations(self.budget, space) * images
        sizes = [self.candidates] if self.candidates else range(min(space.size, 10**6), 0, -1)
        best = None
        low, high = 1, space.size
        if self.candidates:
            low = high = min(self.candidates, space.size)
        while low < high:
            middle = (low + high + 1) // 2
            if self.plan(middle, counts)[1] <= budget:
                low = middle
            else:
                high = middle - 1
        return self.plan(low, counts)

    def plan(self, size, counts):
        rungs, images = [], 0
        before = 0
        for i, count in enumerate(counts):
            n = max(1, math.ceil(size / self.eta**i))
            new = int(self.explore * n)
            rungs.append((count, n - new, new))
            images += (n - new) * (count - before) + new * count
            before = count
        return rungs, images

    def most(self, space, images):
        """(evaluations, images) at most."""
        rungs, total = self.rungs(space, images)
        return sum(a + b for _, a, b in rungs), total

    def __call__(self, space, images, seed=0):
        """Search the space; see autoguide_jax.search."""
        scores = Scores(space, images)
        rungs, _ = self.rungs(space, images)
        pool = spread(space, rungs[0][1], seed)
        for count, survivors, explorers in rungs:
            yield from scores.ask(pool[:survivors], count)
            while explorers > 0:
                new = beside_the_best(scores, count)[:explorers]
                if not new:
                    break
                yield from scores.ask(new, count)
                explorers -= len(new)
            pool = scores.ordered(count)
        limit = evaluations(self.budget, space) * images
        while FINISH:
            best = scores.ordered(images)[:1]
            new = [
                p
                for p in (space.box(best[0]) if BOX else space.neighbours(best[0]))
                if p not in scores.values[images]
            ]
            new = new[:4]
            while new and scores.spent + sum(map(scores.cost, new)) > limit:
                new.pop()
            if not new:
                break
            yield from scores.ask(new)
        return scores.best()


FINISH = True
BOX = False


def beside_the_best(scores, count):
    """Neighbours, not of this rung yet, of the best place of a rung that has any."""
    known = scores.values[count]
    for place in scores.ordered(count):
        new = [p for p in scores.space.neighbours(place) if p not in known]
        if new:
            return new
    return []
