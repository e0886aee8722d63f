"""Exhaustive tables {axes, counts, scores}: every point of a grid scored at every image count.

axes: {name: [values]}; counts: ascending; scores[point][count], points in the order of
Space.points, null where the metric was undefined; eighths[point][8], where there are any: the
scores of eight disjoint sets of seeds, the same sets for all points.

    PYTHONPATH=. python tests/search_tables.py [TABLE.json …]

prints what every method of search finds for a tenth of the images, ten seeds each, a Gaussian
process three (it takes most of the time), and how much less differences of settings vary if both
are drawn from the same seeds. Default: all stored tables.
"""

import itertools
import json
import math
import pathlib
import sys

import numpy as np

from autoguide_jax import search
from autoguide_jax.search import Drawn, Space, drive

STORED = sorted((pathlib.Path(__file__).parent / 'golden').glob('search_*.json'))
SEEDS = {'halving': 10, 'coordinate': 10, 'gaussian_process': 3, 'sobol': 10}
RANDOM = 'random pairs'


class Table:
    """Replays searches on an exhaustive table; asked images are rounded up to its counts."""

    def __init__(self, axes, counts, scores, eighths=()):
        self.space = Space({name: tuple(values) for name, values in axes.items()})
        self.counts = list(counts)
        if [len(row) for row in scores] != [len(self.counts)] * self.space.size:
            raise ValueError(f'scores: {self.space.size} rows of {len(self.counts)} values')
        # The file's order of a numeric axis may not be ascending; points are looked up by value.
        keys = list(itertools.product(*axes.values()))
        self.scores = dict(zip(keys, scores))
        self.eighths = {key: row for key, row in zip(keys, eighths) if None not in row}

    @classmethod
    def read(cls, file):
        """The table of a JSON file."""
        tree = json.loads(pathlib.Path(file).read_text())
        return cls(tree['axes'], tree['counts'], tree['scores'], tree.get('eighths', ()))

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
        """(regret, share of the grid's images, Found); regret: score of the chosen / best − 1.

        The share is the largest that it can be: w = 1 counts once in the grid, in the search as
        often as it is asked for with another guide.
        """
        found, drawn = drive(method, self.space, self.images, self.objective, seed), Drawn()
        for trial, _ in found.trials:
            drawn.add(trial._replace(images=self.count(trial.images)))
        chosen = self.value(found.best, self.images) if found.best else math.inf
        return chosen / self.best - 1, drawn.total / (self.images * self.space.distinct), found

    def searches(self, name, seeds):
        """(regrets, shares), float64 [seeds] each, of a method with a tenth of the images.

        A coordinate search has no chance in it; each of its seeds is a random place to start from.
        """
        found = []
        for seed in seeds:
            place = np.random.default_rng(seed).integers(self.space.shape)
            start = {'start': self.space.point(place)} if name == 'coordinate' else {}
            found.append(self.search(search.table.get(name)(**start), seed)[:2])
        return np.array(found).T

    def paired(self, pairs):
        """Variance of differences of points on the same seeds, over that on different ones, [n].

        pairs: of points {axis: value}. Those that were drawn once for both are left out.
        """
        ratios = []
        for pair in pairs:
            keys = [tuple(point.values()) for point in pair]
            if all(key in self.eighths for key in keys):
                a, b = (np.array(self.eighths[key]) for key in keys)
                if (a != b).any():
                    ratios.append(np.var(a - b) / (np.var(a) + np.var(b)))
        return np.array(ratios)

    def pairs(self, count=2000):
        """{axis: pairs of points one step from each other on it}, and of random ones."""
        space, random = self.space, np.random.default_rng(0)
        at = lambda places: tuple(map(space.point, places))
        found = {name: [] for name in space.axes}
        for place in space.places():
            for other in space.neighbours(place):
                if other > place:
                    axis = next(i for i, (a, b) in enumerate(zip(place, other)) if a != b)
                    found[list(space.axes)[axis]].append(at((place, other)))
        places = random.integers(space.shape, size=(count, 2, len(space.shape)))
        return found | {RANDOM: [at(map(tuple, pair)) for pair in places]}


def tell(file):
    """Print the Markdown tables of one file."""
    table, percent = Table.read(file), lambda share: f'{100 * share:.2f} %'
    metric = json.loads(pathlib.Path(file).read_text()).get('metric', '')
    size, name = table.space.size, pathlib.Path(file).stem
    print(f'\n{name}: {size} settings, {table.images} images each, {metric}')
    print('\n| method | seeds | mean regret | worst | within 2 % | images |\n' + '|---' * 6 + '|')
    for name, seeds in SEEDS.items():
        regrets, shares = table.searches(name, range(seeds))
        row = [regrets.mean(), regrets.max(), (regrets <= 0.02).mean(), shares.max()]
        print('|', ' | '.join([name, str(seeds), *map(percent, row)]), '|', flush=True)
    if table.eighths:
        print('\n| settings differ in | pairs | variance, same / different seeds |\n|---|---|---|')
        for name, pairs in table.pairs().items():
            ratios = table.paired(pairs)
            if len(ratios):
                print(f'| {name} | {len(ratios)} | {np.median(ratios):.3f} |')


if __name__ == '__main__':
    for chosen in sys.argv[1:] or STORED:
        tell(chosen)
