"""What the report says about numbers: mean ± sd over seed blocks, and when two means differ.

(1) sd is the sample standard deviation (n − 1 below the line) over blocks of fresh seeds.
(2) Two arms differ beyond the error bars if |mean_a − mean_b| > sd_a + sd_b: the bars do not touch.
(3) A column's best is the arm whose mean is lowest, highest or nearest to the target; an arm that
    does not differ from it by (2) ties with it. With a single block nothing can be told apart.
"""

import math
from typing import NamedTuple


class Metric(NamedTuple):
    """One column: better is 'lower', 'higher' or the number that real data would have."""

    key: str
    title: str
    better: str | float
    meaning: str
    names: tuple[str, ...]

    def badness(self, value):
        """Return a number that is lower for better values."""
        signs = {'lower': 1, 'higher': -1}
        if self.better in signs:
            return signs[self.better] * value
        return abs(value - self.better)

    def arrow(self):
        """Return how to read the column, in a few characters."""
        return {'lower': '↓', 'higher': '↑'}.get(self.better, f'→{self.better}')


METRICS = {
    metric.key: metric
    for metric in (
        Metric(
            'frechet',
            'Fréchet distance',
            'lower',
            'distance between the feature distributions of samples and real images',
            ('frechet',),
        ),
        Metric(
            'precision',
            'Precision',
            'higher',
            'share of samples that lie among real images: quality',
            ('precision',),
        ),
        Metric(
            'recall',
            'Recall',
            'higher',
            'share of real images that lie among samples: variation',
            ('recall',),
        ),
        Metric(
            'density',
            'Density',
            1,
            'how crowded with real images the places of the samples are; above 1 = samples '
            'gather where real images are thickest',
            ('density',),
        ),
        Metric(
            'coverage',
            'Coverage',
            'higher',
            'share of real images with a sample nearby: variation',
            ('coverage',),
        ),
        Metric(
            'accuracy',
            'Class accuracy',
            'higher',
            'share of samples that the classifier gives the class they were asked for',
            ('accuracy', 'class_accuracy'),
        ),
        Metric(
            'class_variance',
            'Class variance',
            1,
            'variance within a class, relative to real images; below 1 = less varied',
            ('class_variance_ratio', 'class_variance'),
        ),
    )
}


class Stat(NamedTuple):
    """The values of one metric in one arm, one per seed block."""

    values: tuple[float, ...]

    @property
    def n(self):
        return len(self.values)

    @property
    def mean(self):
        return math.fsum(self.values) / self.n

    @property
    def sd(self):
        """Standard deviation by (1), None for a single value."""
        if self.n < 2:
            return None
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.values) / (self.n - 1))

    def best(self, metric):
        """Return the luckiest value."""
        return min(self.values, key=metric.badness)


def number(value):
    """Return value as a finite float, None for a missing one, NaN or infinity."""
    if value is None:
        return None
    value = float(value)
    return value if math.isfinite(value) else None


def differ(a, b):
    """True or False by (2); None if a spread is unknown."""
    if a.sd is None or b.sd is None:
        return None
    return abs(a.mean - b.mean) > a.sd + b.sd


def marks(metric, stats):
    """Return arm → 'best' or 'tie' by (3), for a mapping arm → Stat or None; others are absent."""
    known = {arm: stat for arm, stat in stats.items() if stat}
    if len(known) < 2:
        return {}
    best = min(known, key=lambda arm: metric.badness(known[arm].mean))
    ties = {arm: 'tie' for arm in known if differ(known[arm], known[best]) is False}
    return {**ties, best: 'best'}


def decimals(stats):
    """Return how many decimals a column is shown with, at most four.

    Its largest spread then has two digits if they are below 50, else one.
    """
    spreads = [stat.sd for stat in stats if stat and stat.sd]
    largest = max((abs(stat.mean) for stat in stats if stat), default=1.0)
    if not spreads:
        return 3 if largest < 10 else 1
    needed = math.ceil(0.7 - math.log10(max(spreads)))
    return max(0, min(needed, 4 if largest < 1 else 3 if largest < 100 else 1))
