"""What a sweep or search will take, before it starts: images, evaluations, reading, time."""

import dataclasses
import itertools
import math
import sys
import time
from typing import NamedTuple

from autoguide_jax import budget, config, processes, snapshots
from autoguide_jax.generation import forward_flops
from autoguide_jax.metrics import minimised
from autoguide_jax.progress import duration
from autoguide_jax.refs import described, run_of
from autoguide_jax.search import drive
from autoguide_jax.search.trials import spread
from autoguide_jax.sweep.group_scorer import per_image

HOW = 'thin the lists of sweep, lower score.images'
GRID_HOW = f'{HOW}, or let --config.search.name=halving find the best'
SEARCH_HOW = f'{HOW}, search.budget or score.confirm'
SAMPLED = 1024  # points whose evaluations are counted where a search may visit any
TOO_FEW = 16  # batches below which none is drawn just to measure a rate


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cost of a campaign, at most.

    settings: (setting, images) evaluated; images: drawn, known: of rows that are there already;
    main, guide: evaluations of the networks; relative: FLOPs over those of main alone; networks:
    EMAs to load, readings of the snapshots of all runs, and bytes of these, which are more where
    not all EMAs fit in memory together; flops: of what is left to draw; rate: FLOPs per second on
    this worker, measured `how`; None = not measured.
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
    fits: bool
    flops: float
    exact: bool
    rate: float | None = None
    how: str = ''

    @property
    def left(self):
        """Images that are to be drawn."""
        return self.images - self.known

    @property
    def stage(self):
        """What is left, as budget.py has it."""
        return budget.Stage('drawing', 'draw', self.left, self.flops, self.settings)

    @property
    def rates(self):
        """The rate, as budget.py has it."""
        return {} if self.rate is None else {'draw': self.rate}

    @property
    def seconds(self):
        """Time of what is left; None if no rate is known."""
        return budget.seconds(self.stage, self.rates)

    def row(self):
        """The plan as one row of a table."""
        hours = None if self.seconds is None else self.seconds / 3600
        return dataclasses.asdict(self) | {'hours': hours}

    def text(self):
        """The plan in words."""
        most = '' if self.exact else 'at most '
        there = f', {self.known:,} of them there already' if self.known else ''
        again = '' if self.fits else ', at least: not all fit in memory'
        guided = f', guides {self.guide:,}' if self.guide else ''
        time_ = 'not known: too few images to measure a rate'
        if seconds := self.seconds:
            speed = self.left / seconds
            time_ = f'{most}{duration(math.ceil(seconds))} at {speed:.3g} images/s, {self.how}'
        elif not self.left:
            time_ = 'none: all is there'
        return '\n'.join(
            [
                f'cost plan: {most}{self.settings:,} evaluation(s), {self.images:,} images{there}',
                f'  network evaluations: {most}main {self.main:,}{guided}; '
                f'{self.relative:.2f} times the FLOPs of main alone',
                f'  networks: {self.networks:,} EMA(s), {self.readings:,} reading(s) of snapshots, '
                f'{self.read_bytes / 1e6:,.1f} MB{again}',
                f'  time: {time_}',
            ]
        )

    def check(self, allowed):
        """Refuse what costs more than the Budget allows. Errors: ValueError."""
        how = GRID_HOW if self.exact else SEARCH_HOW
        if text := budget.check([self.stage], allowed, self.rates, how):
            print(text, file=sys.stderr)


class Cost(NamedTuple):
    """What an image of a setting takes: evaluations of main and of all guides, FLOPs of both."""

    main: int
    guide: int
    flops: float
    flops_of_main: float


def settle(campaign):
    """The Plan of a Campaign, printed. Errors: ValueError for one that the budget does not allow.

    Nothing is drawn for one that has too many images. Connected processes have one rate.
    """
    told, allowed = plan(campaign), campaign.settings.budget
    if not 0 < allowed.images < told.left:
        measured = measured_rate(campaign, told) if processes.is_main() else None
        rate, how = processes.gather(measured)[0]
        told = dataclasses.replace(told, rate=rate, how=how)
    if processes.is_main():
        print(told.text(), file=sys.stderr, flush=True)
    told.check(allowed)
    return told


def plan(campaign):
    """The Plan of a Campaign, its rate not measured."""
    found = plan_search(campaign) if campaign.searching else plan_grid(campaign)
    return Plan(**found, **reading(campaign), exact=not campaign.searching)


def plan_grid(campaign):
    """What scoring the whole grid takes, exactly: settings that differ in name alone are one."""
    score = campaign.settings.score
    blocks, todo = [score.block(i) for i in range(score.repeats)], {}
    for (_, setting), block in itertools.product(campaign.grid.points(), blocks):
        scorer = campaign.scorer(setting.sampler)
        todo[scorer.keys(setting, **block)[0]] = setting, scorer
    costs = {key: cost(campaign, setting) for key, (setting, _) in todo.items()}
    left = [key for key, (_, scorer) in todo.items() if key not in scorer.measured]
    every = list(costs.values())
    return {
        'settings': len(todo),
        'images': score.images * len(todo),
        'known': score.images * (len(todo) - len(left)),
        'main': score.images * sum(c.main for c in every),
        'guide': score.images * sum(c.guide for c in every),
        'relative': sum(c.flops for c in every) / sum(c.flops_of_main for c in every),
        'flops': score.images * sum(costs[key].flops for key in left),
    }


def plan_search(campaign):
    """What a search takes at most, in one go, where what its images tell fits in memory."""
    score, space = campaign.settings.score, campaign.grid.space
    evaluations, images = campaign.method.most(space, score.images)
    confirmed = score.repeats * min(score.confirm, space.size)
    images += confirmed * score.images
    known = known_of_search(campaign)
    costs = [cost(campaign, setting) for setting in sampled(campaign.grid)]
    return {
        'settings': evaluations + confirmed,
        'images': images,
        'known': known,
        'main': images * max(c.main for c in costs),
        'guide': images * max(c.guide for c in costs),
        'relative': max(c.flops / c.flops_of_main for c in costs),
        'flops': (images - known) * max(c.flops for c in costs),
    }


def sampled(grid):
    """Settings of points all over a grid, and of its corners, where the largest cost is."""
    space = grid.space
    corners = itertools.product(*({0, n - 1} for n in space.shape))
    places = [*spread(space, min(SAMPLED, space.size)), *itertools.islice(corners, SAMPLED)]
    return [grid.at(space.point(place)) for place in dict.fromkeys(places)]


class Unfinished(Exception):
    """A search asks for what is not there yet."""


def known_of_search(campaign):
    """Images that a search will not draw again: those of rows over all images.

    What fewer images told is not on disk, so that they may be drawn once more.
    """
    score, known = campaign.settings.score, {}
    if not campaign.scorer(campaign.grid.base.sampler).measured:
        return 0
    metric = minimised(score.metrics)

    def rows(settings, block):
        found = [campaign.known(setting, block) for setting in settings]
        known.update((row['measurement'], row['seeds'][1]) for row in found if row)
        return found

    def answers(trials):
        found = [rows([campaign.grid.at(p)], score.block(0, n))[0] for p, n in trials]
        if None in found:
            raise Unfinished
        return [row['metrics'][metric] for row in found]

    try:
        best = campaign.chosen(drive(campaign.method, campaign.grid.space, score.images, answers))
        for i in range(score.repeats):
            rows(best, score.block(1 + i))
    except Unfinished:
        pass
    return sum(count for count in known.values() if count == score.images)


def cost(campaign, setting):
    """The Cost of an image of a setting."""
    refs, models = setting.refs().values(), setting.models
    each = [flops(campaign, ref, models) for ref in refs]
    sampler = campaign.scorer(setting.sampler).programs.sampler
    calls = per_image(sampler, tuple(rule for _, _, rule in setting.rules()))
    of_main = calls['main'] * each[0]
    guides = sum(n * one for n, one in zip(calls['guides'], each[1:]))
    return Cost(calls['main'], sum(calls['guides']), of_main + guides, of_main)


def flops(campaign, ref, models):
    """FLOPs of one evaluation of a network's architecture, its harm included."""
    key = run_of(ref, models), repr(ref.degrade)
    if key not in campaign.flops:
        tree = described(key[0]).config
        shape = snapshots.sample_shape(tree)
        times = config.build(ref.degrade).evaluations(shape) if ref.degrade else 1
        campaign.flops[key] = times * forward_flops(tree)
    return campaign.flops[key]


def reading(campaign):
    """What loading the networks of a grid takes: EMAs, readings, bytes."""
    networks = campaign.networks
    named = [(s.models, n) for s in campaign.grid.each_network() for n in s.refs().items()]
    once = {(m, ref.run, ref.std, ref.nimg): (ref, role, m) for m, (role, ref) in named}
    wanted = dict.fromkeys(networks.key(*told) for told in once.values())
    runs = {}
    for run, std, nimg in wanted:
        runs.setdefault(run, []).append((std, nimg))
    plans = [snapshots.reading_plan(run, targets) for run, targets in runs.items()]
    return {
        'networks': len(wanted),
        'readings': sum(p.readings for p in plans),
        'read_bytes': sum(p.read_bytes for p in plans),
        'fits': len(networks.fitting(wanted, networks.max_bytes)) == len(wanted),
    }


def measured_rate(campaign, told):
    """(FLOPs per second, how that is known), or (None, '')."""
    setting = next(campaign.grid.each_network())
    scorer, one = campaign.scorer(setting.sampler), flops(campaign, setting.main, setting.models)
    run = setting.main.run
    own = [row for row in scorer.rows.values() if row.get('drawn') and row.get('seconds')]
    own = [row for row in own if row['setting']['main']['run'] == run]
    if own:
        work = sum(row['drawn'] * row['nfe']['main'] * row['cost']['relative'] for row in own)
        return one * work / sum(row['seconds'] for row in own), 'by the rows that are there'
    size = scorer.programs.batch_size
    if told.left < (1 if campaign.settings.budget.hours else TOO_FEW * size):
        return None, ''
    calls, rules = campaign.networks.calls(setting)
    seeds, labels = scorer.told(calls, campaign.settings.score.first_seed, size)
    for _ in range(2):  # the first compiles
        start = time.monotonic()
        campaign.evaluator.banks(scorer.mixed_batches(calls, [rules], seeds, labels))
        spent = time.monotonic() - start
    work = size * cost(campaign, setting).flops
    return work / spent, 'measured with one batch on this worker'
