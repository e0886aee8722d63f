"""What the report says about numbers: mean ± sd over seed blocks, intervals, and differences.

(1) sd is the sample standard deviation (n − 1 below the line) over n blocks of fresh seeds.
(2) The 95 % confidence interval of the mean is mean ± t·sd/√n, t the 0.975 quantile of Student's
    distribution with n − 1 degrees of freedom (Student 1908).
(3) A single block has no sd. Its interval is the one that the row of the score tells, over draws of
    its samples; half of it is h, t·e of a standard error e with its degrees of freedom.
(4) Two arms are compared on the blocks that both have: the differences, block by block, have an
    interval by (2). With one block it is (3) with h² = h_a² + h_b²: as if the samples of the two
    were independent, which those of the same seeds are not; it is then too wide rather than too
    narrow. The arms differ if the interval excludes 0.
    A spread of exactly 0 bounds nothing (a share at 0 or 1 does not vary): no interval.
(5) A column's best is the arm whose mean is lowest, highest or nearest to the target; an arm ties
    with it if the interval (4) of their difference holds 0.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from scipy import special


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
            'frechet_infinity',
            'Fréchet distance ∞',
            'lower',
            'distance between the feature distributions of samples and real images, extrapolated '
            'to infinitely many samples; may be negative',
            ('frechet_infinity',),
        ),
        Metric(
            'sfid',
            'Spatial Fréchet distance',
            'lower',
            'distance between the distributions of features that keep their places',
            ('sfid',),
        ),
        Metric(
            'class_frechet',
            'Fréchet distance within classes',
            'lower',
            'mean over classes of the distance between samples and real images of that class',
            ('class_frechet',),
        ),
        Metric(
            'kid',
            'Kernel distance',
            'lower',
            'kernel distance between the features of samples and real images; may be negative',
            ('kid',),
        ),
        Metric(
            'inception_score',
            'Inception score',
            'higher',
            'classes that are sure for each sample and even over all; sees no real images',
            ('inception_score',),
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
        Metric(
            'class_entropy',
            'Class entropy',
            'higher',
            'evenness of the classes that the classifier gives the samples, in nats: low where '
            'classes are missing',
            ('class_entropy',),
        ),
        Metric(
            'authenticity',
            'Authenticity',
            'higher',
            'share of samples that are no near-copies of a training image; that of held-out images '
            'is below 1',
            ('authenticity',),
        ),
    )
}
# Their names depend on the features: FID, or FD of others.
DISTANCES = tuple(key for key, metric in METRICS.items() if metric.better == 'lower')
NAMED = (*DISTANCES, 'inception_score')
UNBIASED = ('frechet_infinity', 'kid')


def column_of(name):
    """Return the Metric that a name in a row is of, None for an unknown one."""
    return next((metric for metric in METRICS.values() if name in metric.names), None)


def title_of(meta: Mapping, key: str) -> str:
    """Return what a page calls a column: where the features name it, as study.json says.

    Old files tell the title of the Fréchet distance alone, as metric_title.
    """
    titles = meta.get('titles') or {'frechet': meta.get('metric_title')}
    return (key in NAMED and titles.get(key)) or METRICS[key].title


class Stat(NamedTuple):
    """The values of one metric in one arm, one per seed block.

    errors: the standard error of each value over draws of its samples, None = not known; halves:
    half of its 95 % interval.
    """

    values: tuple[float, ...]
    errors: tuple[float | None, ...] = ()
    halves: tuple[float | None, ...] = ()

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

    @property
    def spread(self):
        """What stands behind ±: sd, or the standard error of a single value, None if not known."""
        return self.sd if self.n > 1 else (self.errors or (None,))[0]

    @property
    def half(self):
        """Half the length of the 95 % interval, by (2) or (3); None if it is not known."""
        if self.n < 2:
            return (self.halves or (None,))[0] or None
        return self.sd * student(self.n - 1) / math.sqrt(self.n) if self.sd else None

    @property
    def interval(self):
        """The 95 % interval (low, high), None if it is not known."""
        return None if self.half is None else (self.mean - self.half, self.mean + self.half)

    @property
    def excludes_zero(self):
        """Whether 0 lies outside the interval, None if that is not known."""
        if self.half is None:
            return False if self.spread == self.mean == 0 else None
        return abs(self.mean) > self.half

    def best(self, metric):
        """Return the luckiest value."""
        return min(self.values, key=metric.badness)


def student(freedom: int) -> float:
    """Return the 0.975 quantile of Student's t with so many degrees of freedom."""
    return float(special.stdtrit(freedom, 0.975))


def paired(mine: Mapping, theirs: Mapping) -> Stat | None:
    """Return the Stat of the differences mine − theirs by (4), None if they share no block.

    mine, theirs: seeds of a block → `estimate`.
    """
    both = [(mine[seeds], theirs[seeds]) for seeds in mine if seeds in theirs]
    if not both:
        return None
    joint = lambda x, y: None if None in (x, y) else math.hypot(x, y)
    errors, halves = (tuple(joint(a[i], b[i]) for a, b in both) for i in (1, 2))
    return Stat(tuple(a[0] - b[0] for a, b in both), errors, halves)


def estimate(row: Mapping, name: str, unit: float = 1.0) -> tuple[float | None, ...]:
    """Return (value, standard error, half of the 95 % interval) of a metric of a row, over unit.

    None for what the row does not tell, or not as a finite number.
    """
    low, high = (row.get('intervals') or {}).get(name) or (None, None)
    half = None if low is None else (float(high) - float(low)) / 2
    found = [(row.get(of) or {}).get(name) for of in ('metrics', 'errors')]
    return tuple(None if number(x) is None else number(number(x) / unit) for x in (*found, half))


def number(value):
    """Return value as a finite float, None for a missing one, NaN or infinity."""
    if value is None:
        return None
    value = float(value)
    return value if math.isfinite(value) else None


def marks(metric: Metric, stats: Mapping, difference: Callable) -> dict:
    """Return arm → 'best' or 'tie' by (5), for a mapping arm → Stat or None; others are absent.

    difference: (arm, other) → Stat of the differences on the blocks that they share, or None.
    """
    known = {arm: stat for arm, stat in stats.items() if stat}
    if len(known) < 2:
        return {}
    best = min(known, key=lambda arm: metric.badness(known[arm].mean))
    apart = {arm: difference(arm, best) for arm in known if arm != best}
    ties = {arm: 'tie' for arm, stat in apart.items() if stat and stat.excludes_zero is False}
    return {**ties, best: 'best'}


def decimals(stats):
    """Return how many decimals a column is shown with, at most four, or six if all are below 0.1.

    Its largest spread then has two digits if they are below 50, else one; without spreads the
    largest mean has three or more digits.
    """
    spreads = [stat.spread for stat in stats if stat and stat.spread]
    largest = max((abs(stat.mean) for stat in stats if stat), default=1.0)
    if not spreads:
        if 0 < largest < 0.1:
            return min(6, 2 - math.floor(math.log10(largest)))
        return 3 if largest < 10 else 1
    needed = math.ceil(0.7 - math.log10(max(spreads)))
    most = next((n for end, n in ((0.1, 6), (1, 4), (100, 3)) if largest < end), 1)
    return max(0, min(needed, most))
