"""Exhaustive tables {axes, counts, scores}: every point of a grid scored at every image count.

axes: {name: [values]}; counts: ascending; scores[point][count], points in the order of
Space.points, null where the metric was undefined.
"""

import json
import math
import pathlib

from autoguide_jax.search import Drawn, Space, drive


class Table:
    """Replays searches on an exhaustive table; asked images are rounded up to its counts."""

    def __init__(self, axes, counts, scores):
        self.space = Space({name: tuple(values) for name, values in axes.items()})
        self.counts = list(counts)
        if [len(row) for row in scores] != [len(self.counts)] * self.space.size:
            raise ValueError(f'scores: {self.space.size} rows of {len(self.counts)} values')
        # The file's order of a numeric axis may not be ascending; points are looked up by value.
        keys = Space({name: tuple(range(len(values))) for name, values in axes.items()}).places()
        axes = [list(values) for values in axes.values()]
        at = lambda index: tuple(values[i] for values, i in zip(axes, index))
        self.scores = dict(zip(map(at, keys), scores))

    @classmethod
    def read(cls, file):
        """The table of a JSON file."""
        tree = json.loads(pathlib.Path(file).read_text())
        return cls(tree['axes'], tree['counts'], tree['scores'])

    @property
    def images(self):
        """Images of a whole evaluation."""
        return self.counts[-1]

    def count(self, images):
        """The least count of the table that is not less."""
        return next(count for count in self.counts if count >= images)

    def value(self, point, images):
        """The stored score of a point."""
        return self.scores[tuple(point.values())][self.counts.index(self.count(images))]

    def objective(self, trials):
        """What `drive` asks."""
        return [self.value(trial.point, trial.images) for trial in trials]

    @property
    def best(self):
        """The lowest score with all images."""
        return min(row[-1] for row in self.scores.values() if row[-1] is not None)

    def search(self, method, seed=0):
        """(regret, share of the grid's images, Found); regret: score of the chosen / best − 1."""
        found, drawn = drive(method, self.space, self.images, self.objective, seed), Drawn()
        for trial, _ in found.trials:
            drawn.add(trial._replace(images=self.count(trial.images)))
        chosen = self.value(found.best, self.images) if found.best else math.inf
        return chosen / self.best - 1, drawn.total / (self.images * self.space.size), found
