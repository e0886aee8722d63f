"""Line searches along one axis after the other, coarse to fine, as a person tunes; a local grid.

The first sweep looks at values spread over the whole axis; every line then goes to the better side
and halves its step, down to that of the axis (the paper's local grid, arXiv 2406.02507: w 0.05, EMA
length 0.005). Sweeps repeat until none improves. What is found so is the best of one valley, and
weight and interval make several (much guidance at few noise levels, little at many): so the search
begins anew elsewhere, `restarts` times. All of that with fewer images, on the same seeds, and
at most half of the budget; then as many places as there were starts are scored with all images,
where these led to and the next best, and at last the box around the best.
"""

from dataclasses import dataclass, field

from autoguide_jax.search.trials import Scores, check_least, evaluations, first_images, rank, spread

LINES = 0.5  # share of the budget for lines, where they are searched with fewer images,
FEWER = 4  # which are all of them over this


@dataclass(frozen=True)
class Coordinate:
    """Line searches along the axes in turn, with fewer images; then around the best with all.

    Settings:
      budget: images of all trials together, in evaluations with all images; 0 = a tenth of the
        space, at least 8
      first: images of the line searches; 0 = a quarter of all
      order: names of the axes in the order of their turns; empty = that of the space
      start: value of an axis where the search starts, by name; the middle of an axis without one
      spread: steps that the first look along an axis divides it into
      local_grid: whether all neighbours of the best, diagonal ones too, are tried in the end
      restarts: how often it begins anew, at places spread over the space, while budget is left
    """

    budget: int = 0
    first: int = 0
    order: tuple[str, ...] = ()
    start: dict[str, float | str] = field(default_factory=dict)
    spread: int = 3
    local_grid: bool = True
    restarts: int = 3

    def __post_init__(self):
        check_least(self, budget=0, first=0, spread=1, restarts=0)
        if len(set(self.order)) < len(self.order):
            raise ValueError(f'order ({", ".join(self.order)}): give every axis once')

    def most(self, space, images):
        """(evaluations, images) at most.

        Errors: ValueError for axes or values not in the space, or first > images.
        """
        self.begin(space)
        whole, few = evaluations(self.budget, space), first_images(self.first, images, FEWER)
        fewer = 0 if few == images else int(self.lines(whole, few, images) // few)
        return fewer + whole, whole * images

    def lines(self, whole, few, images):
        """Images for lines: with fewer images, what leaves enough to score their best with all."""
        if few == images:
            return whole * images
        kept = (1 - LINES) * whole
        return (whole - max(1, kept if self.local_grid else min(kept, self.restarts + 1))) * images

    def begin(self, space):
        """(place of the start, numbers of the axes in their order), of this space."""
        for setting in ('order', 'start'):
            unknown = [name for name in getattr(self, setting) if name not in space.axes]
            if unknown:
                known = ', '.join(space.axes)
                raise ValueError(f'{setting} ({unknown[0]}) is not an axis; known: {known}')
        names = list(space.axes)
        order = [*self.order, *(name for name in names if name not in self.order)]
        place = space.place({**space.point(space.middle()), **self.start}, 'start')
        return place, [names.index(name) for name in order]

    def __call__(self, space, images, seed=0):
        """Search the space; see autoguide_jax.search. Errors: ValueError as `most`."""
        return self.run(space, images, *self.begin(space))

    def run(self, space, images, place, axes):
        """The generator of a search."""
        most, few = evaluations(self.budget, space), first_images(self.first, images, FEWER)
        scores = Scores(space, images, self.lines(most, few, images))
        wide, ends = [max(1, round((n - 1) / self.spread)) for n in space.shape], []
        for start in (place, *spread(space, self.restarts)):
            yield from scores.ask([start], few)
            for axis in axes:
                start = yield from line(scores, start, axis, wide[axis], few, whole=True)
            ends.append((yield from descend(scores, start, axes, few, wide)))
        scores.budget = most * images
        known = scores.ordered(few)
        whole = dict.fromkeys([*(p for p in known if p in ends), *known, place])
        yield from scores.ask(list(whole)[: self.restarts + 1])
        while self.local_grid and scores.spent < scores.budget:
            best = scores.ordered()[0]
            yield from scores.ask([*space.neighbours(best), *space.box(best)])
            if scores.ordered()[0] == best:
                break
            yield from descend(scores, scores.ordered()[0], axes, images)
        return scores.best()


def descend(scores, place, axes, images, steps=()):
    """Sweep along the axes, with half the steps each time, until none improves by a step of 1.

    Returns the place where that ends.
    """
    moved, steps = True, steps or [1] * len(axes)
    while moved and scores.spent < scores.budget:
        before, steps = place, [(step + 1) // 2 for step in steps]
        for axis in axes:
            place = yield from line(scores, place, axis, steps[axis], images)
        moved = place != before or max(steps) > 1
    return place


def line(scores, place, axis, step, images, whole=False):
    """The best place on a line along one axis: first the whole line, or one step to each side."""
    space, count = scores.space, scores.space.shape[axis]
    at = lambda i: (*place[:axis], i, *place[axis + 1 :])
    value = lambda i: rank(scores.of(images).get(at(i)))
    best = place[axis]
    if not space.numeric[axis]:
        yield from scores.ask([at(i) for i in space.beside(axis, best)], images)
        return at(min(range(count), key=lambda i: (value(i), i != best)))
    look = range(best % step, count, step) if whole else (best - step, best + step)
    while True:
        look = [i for i in look if 0 <= i < count]
        yield from scores.ask([at(i) for i in look], images)
        better = min([best, *look], key=value)
        if better == best:
            if step == 1:
                return at(best)
            step = (step + 1) // 2
        best, look = better, (better - step, better + step)
