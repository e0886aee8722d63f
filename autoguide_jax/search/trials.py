"""What methods of search ask and hear, and the loop that answers them."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import qmc

LEAST = 8  # evaluations of a search whose space is tiny


class Trial(NamedTuple):
    """One point, {axis: value}, that is to be scored on the first `images` seeds."""

    point: dict
    images: int

    @property
    def key(self):
        """What tells trials apart; hashable."""
        return tuple(self.point.items()), self.images


class Drawn:
    """Counts the images that trials draw, where more for one point cost the difference."""

    def __init__(self):
        self.reached = {}

    def add(self, trial):
        """Count a trial; returns how many images it draws."""
        point, images = trial.key
        new = max(0, images - self.reached.get(point, 0))
        self.reached[point] = self.reached.get(point, 0) + new
        return new

    @property
    def total(self):
        """All images so far."""
        return sum(self.reached.values())


class Found(NamedTuple):
    """What a search found.

    best: the chosen point, None if no trial with all images has a value; trials: [(Trial, value)]
    in the order asked; images: how many were drawn, where more for one point cost the difference.
    """

    best: dict | None
    trials: list
    images: int


def rank(value):
    """What values are compared by where the lowest is sought: an undefined one, None, is +inf."""
    return math.inf if value is None or math.isnan(value) else value


def drive(method, space, images, objective, seed=0):
    """Search the space with at most `images` per point; returns Found.

    objective: list of Trials → list of values, float or None. No trial is given to it twice.
    """
    run, known, drawn, values = method(space, images, seed), {}, Drawn(), None
    while True:
        try:
            trials = run.send(values)
        except StopIteration as end:
            return Found(end.value, list(known.values()), drawn.total)
        new = list({t.key: t for t in trials if t.key not in known}.values())
        for trial, value in zip(new, objective(new) if new else [], strict=True):
            known[trial.key] = trial, value
            drawn.add(trial)
        values = [known[trial.key][1] for trial in trials]


class Scores:
    """What one search has asked so far, by place; values: {images: {place: value}}.

    budget: how many images may be drawn; trials beyond it are not asked.
    """

    def __init__(self, space, images, budget=math.inf):
        self.space, self.images, self.budget = space, images, budget
        self.values, self.reached = {}, {}

    def of(self, images):
        """{place: value} of the trials with this many images."""
        return self.values.setdefault(images, {})

    def ask(self, places, images=None):
        """Yield the Trials of the first of these places that are new; remember their values."""
        images = images or self.images
        new, left = [], self.budget - self.spent
        for place in dict.fromkeys(places):
            cost = max(0, images - self.reached.get(place, 0))
            if place not in self.of(images) and cost <= left:
                new.append(place)
                left -= cost
        if new:
            values = yield [Trial(self.space.point(place), images) for place in new]
            self.of(images).update(zip(new, values, strict=True))
            self.reached |= {p: max(images, self.reached.get(p, 0)) for p in new}

    @property
    def spent(self):
        """How many images were drawn."""
        return sum(self.reached.values())

    def ordered(self, images=None):
        """The places with this many images, best first, undefined ones last, else as asked."""
        known = self.of(images or self.images)
        return sorted(known, key=lambda place: rank(known[place]))

    def best(self):
        """The best point with all images; None if none has a value."""
        places = self.ordered()[:1]
        known = [p for p in places if rank(self.of(self.images)[p]) < math.inf]
        return self.space.point(known[0]) if known else None


def evaluations(budget, space):
    """How many full evaluations a method may spend; 0: a tenth of what the whole space takes."""
    return min(budget or max(LEAST, space.distinct // 10), space.size)


def first_images(first, images, share=8):
    """Images of the cheapest trials, 0: 1/share of all. Errors: ValueError for more than all."""
    if first > images:
        raise ValueError(
            f'first ({first}) is more than the images of a whole evaluation ({images}). Lower it'
        )
    return first or math.ceil(images / share)


def check_least(method, **least):
    """Errors: ValueError for a setting of a method that is below the least that it can be."""
    for name, value in least.items():
        if not getattr(method, name) >= value:
            raise ValueError(f'{name} ({getattr(method, name)}) must be at least {value}')


def spread(space, count, seed=0):
    """`count` different places, evenly spread: a scrambled Sobol sequence, then what it missed."""
    if count >= space.size:
        return list(space.places())
    found, sobol = {}, qmc.Sobol(len(space.axes), seed=seed)
    for _ in range(16):
        for unit in sobol.random(512):
            if len(found) == count:
                return list(found)
            found[space.nearest(unit)] = None
    missed = [place for place in space.places() if place not in found]
    order = np.random.default_rng(seed).permutation(len(missed))
    return [*found, *(missed[i] for i in order)][:count]
