"""What a sweep or search will take, before it starts: images, evaluations, reading, time."""

import dataclasses
import itertools
import sys
import time

import numpy as np

from autoguide_jax import budget, config, snapshots
from autoguide_jax.generation import calls_per_image
from autoguide_jax.refs import run_of
from autoguide_jax.search.trials import spread
from autoguide_jax.sweep.settings import Setting

HOW = (
    'thin the lists of sweep, lower score.images, or let --config.search.name=halving find the best'
)
SAMPLED = 1024  # points whose evaluations are counted where a search may visit any
TOO_FEW = 4  # batches below which nothing is measured: the sweep itself is as short


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cost of a campaign, at most.

    settings: (settings, images) evaluated; images: drawn, known: of rows that are there already;
    main, guide: evaluations of the networks; relative: FLOPs over those of main alone; networks:
    EMAs to load, readings of the snapshots of all runs, and bytes of these; rate: images per
    second on this worker, measured `how`; None = not measured.
    """

    settings: int
    images: int
    known: int
    main: int
    guide: int
    relative: float
    networks: int
    readings: int
    read_bytes: int
    exact: bool
    rate: float | None = None
    how: str = ''

    @property
    def hours(self):
        """Time of what is to be drawn; None if no rate is known."""
        return None if self.rate is None else (self.images - self.known) / self.rate / 3600

    def row(self):
        """The plan as one row of a table."""
        return dataclasses.asdict(self) | {'hours': self.hours}

    def text(self):
        """The plan in words."""
        most = '' if self.exact else 'at most '
        there = f', {self.known:,} of them there already' if self.known else ''
        guided = f', guides {self.guide:,}' if self.guide else ''
        time_ = 'not known: too few images to measure a rate'
        if self.rate is not None:
            time_ = f'{most}{duration(self.hours * 3600)} at {self.rate:.3g} images/s, {self.how}'
        return '\n'.join(
            [
                f'cost plan: {most}{self.settings:,} evaluations, {self.images:,} images{there}',
                f'  network evaluations: {most}main {self.main:,}{guided}; '
                f'{self.relative:.2f} times the FLOPs of main alone',
                f'  networks: {self.networks:,} EMAs, {self.readings:,} reading(s) of snapshots, '
                f'{self.read_bytes / 1e6:,.1f} MB',
                f'  time: {time_}',
            ]
        )

    def check(self, allowed):
        """Refuse what costs more than the Budget allows. Errors: ValueError."""
        left = self.images - self.known
        # Work is counted in images of the mean cost, which is all that the rate knows.
        stage = budget.Stage('drawing', 'draw', left, left, self.settings)
        rates = {} if self.rate is None else {'draw': self.rate}
        if text := budget.check([stage], allowed, rates, HOW):
            print(text, file=sys.stderr)


def duration(seconds):
    """Seconds as '1 h 02 min', '3 min 12 s' or '4.2 s'."""
    if seconds < 60:
        return f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours:,} h {minutes:02d} min' if hours else f'{minutes} min {rest:02d} s'


def plan(campaign):
    """The Plan of a Campaign; measures a rate by one batch if its rows tell none."""
    score, space = campaign.settings.score, campaign.grid.space
    evaluations, images = campaign.method.most(space, score.images)
    if campaign.searching:
        evaluations += score.confirm * score.repeats
        images += score.confirm * score.repeats * score.images
    else:
        evaluations, images = evaluations * score.repeats, images * score.repeats
    some = sampled(campaign)
    main, guide, relative = per_image(campaign, some)
    told = Plan(
        settings=evaluations,
        images=images,
        known=0 if campaign.searching else known_images(campaign, some),
        main=round(images * main),
        guide=round(images * guide),
        relative=relative,
        **reading(campaign.networks, some),
        exact=not campaign.searching,
    )
    rate, how = measured_rate(campaign, some[0], relative, told.images - told.known)
    return dataclasses.replace(told, rate=rate, how=how)


def sampled(campaign):
    """Settings of the whole grid, or of points all over it where a search visits a few."""
    space = campaign.grid.space
    places = space.places() if not campaign.searching else spread(space, min(SAMPLED, space.size))
    return [campaign.grid.at(space.point(place)) for place in places]


def known_images(campaign, settings):
    """Images of the grid's rows that are in the table."""
    score = campaign.settings.score
    blocks = [score.block(i) for i in range(score.repeats)]
    found = 0
    for setting, block in itertools.product(settings, blocks):
        scorer = campaign.scorer(setting.sampler)
        measurement, key = scorer.keys(setting, **block, phase='sweep')
        found += score.images * (key in scorer.rows or measurement in scorer.measured)
    return found


def per_image(campaign, settings):
    """Evaluations of main and of guides per image, and FLOPs over main's: means over settings.

    For a search, which may visit any of them, the largest.
    """
    summary = np.max if campaign.searching else np.mean
    found = []
    for setting in settings:
        scorer = campaign.scorer(setting.sampler)
        counts = calls_per_image(scorer.programs.sampler, [r for _, _, r in setting.rules()])
        costs = [flops(campaign, scorer, ref, setting.models) for ref in setting.refs().values()]
        guides = sum(n * cost for n, cost in zip(counts['guides'], costs[1:]))
        found.append(
            (counts['main'], sum(counts['guides']), 1 + guides / (counts['main'] * costs[0]))
        )
    return [float(x) for x in summary(np.array(found), axis=0)]


def flops(campaign, scorer, ref, models):
    """FLOPs of one evaluation of a network's architecture, its harm included."""
    key = run_of(ref, models), repr(ref.degrade)
    if key not in campaign.flops:
        call, *_ = campaign.networks.calls(Setting(main=ref, models=models))[0]
        campaign.flops[key] = scorer.programs.cost(call)
    return campaign.flops[key]


def reading(networks, settings):
    """What loading the networks of some settings takes: EMAs, readings, bytes."""
    wanted = dict.fromkeys(
        networks.key(ref, role, s.models) for s in settings for role, ref in s.refs().items()
    )
    runs = {}
    for run, std, nimg in wanted:
        runs.setdefault(run, []).append((std, nimg))
    plans = [snapshots.reading_plan(run, t, networks.max_bytes) for run, t in runs.items()]
    return {
        'networks': len(wanted),
        'readings': sum(p.readings for p in plans),
        'read_bytes': sum(p.read_bytes for p in plans),
    }


def measured_rate(campaign, setting, relative, left):
    """(images per second at the mean cost of this campaign, how that is known), or (None, '')."""
    scorer = campaign.scorer(setting.sampler)
    own = [row for row in scorer.rows.values() if row.get('drawn') and row.get('seconds')]
    own = [row for row in own if row['setting'].get('sampler') == config.resolved(setting.sampler)]
    if own:
        work = sum(row['drawn'] * row['cost']['relative'] for row in own)
        return work / sum(row['seconds'] for row in own) / relative, 'by the rows that are there'
    size = scorer.programs.batch_size
    if left < TOO_FEW * size:
        return None, ''
    calls, rules = campaign.networks.calls(setting)
    seeds, labels = scorer.told(calls, campaign.settings.score.first_seed, size)
    spent = []
    for _ in range(2):  # the first compiles
        start = time.monotonic()
        campaign.evaluator.banks(scorer.mixed_batches(calls, [rules], seeds, labels))
        spent.append(time.monotonic() - start)
    counts = calls_per_image(scorer.programs.sampler, rules)
    costs = [scorer.programs.cost(call) for call in calls]
    guides = sum(n * cost for n, cost in zip(counts['guides'], costs[1:]))
    own_relative = 1 + guides / (counts['main'] * costs[0])
    return size * own_relative / spent[-1] / relative, 'measured with one batch on this worker'
