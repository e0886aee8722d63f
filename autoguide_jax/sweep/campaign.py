"""Score the points of a grid, all of them or those that a search asks for.

Networks, weights and intervals are arguments of one compiled sampler: 50 settings compile once.

    WORKDIR/sweep.json      what is swept, how it is searched, what was found, the keys of its rows
    WORKDIR/results.jsonl   a row per setting, set of seeds and number of images
    WORKDIR/examples/       the first images of each setting, MEASUREMENT.npz as its first row says
"""

import contextlib
import math
import shlex
import sys
import time

from autoguide_jax import config, files, health, processes, provenance, stop
from autoguide_jax.claims import Claims, decisions, pause
from autoguide_jax.evaluator import Evaluator
from autoguide_jax.generation import Programs
from autoguide_jax.metrics import minimised
from autoguide_jax.pairs import Networks, open_autoencoder
from autoguide_jax.progress import Progress
from autoguide_jax.scorer import table
from autoguide_jax.search import drive, rank
from autoguide_jax.sweep import cost
from autoguide_jax.sweep.grid import Grid, located
from autoguide_jax.sweep.group_scorer import GroupScorer, alike
from autoguide_jax.sweep.settings import SearchSettings


def main(settings, workdir):
    """Score the grid, or search it, into workdir/results.jsonl; returns the table, best first.

    Several processes, and several machines or slices that are given one workdir, share the settings
    among them, one group at a time.
    """
    workdir, grid = files.path(workdir), Grid(settings)
    method = config.build(settings.search)
    networks = Networks()
    networks.check(*grid.each_network())
    vae = open_autoencoder(next(grid.each_network()))
    with stop.watch(), contextlib.ExitStack() as stack:
        health.quick(workdir, config.resolved(settings))
        claims = None
        if settings.score.shared or processes.count() > 1 or files.is_remote(workdir):
            claims = stack.enter_context(Claims(workdir / 'claims'))
        campaign = Campaign(settings, workdir, grid, method, networks, claims, vae)
        plan = cost.settle(campaign)
        if settings.budget.plan_only:
            return [plan.row()]
        return campaign.run()


class Campaign:
    """A sweep or search in its folder; opening it makes features and reference."""

    def __init__(self, settings, workdir, grid, method, networks, claims=None, vae=None):
        self.settings, self.workdir, self.grid, self.method = settings, workdir, grid, method
        self.networks, self.claims, self.vae = networks, claims, vae
        self.scorers, self.flops = {}, {}
        self.keys, self.shown, self.found, self.best = {}, [], None, {}
        images = settings.score.images
        try:
            self.fewest = min(trial.images for trial in next(method(grid.space, images)))
        except ValueError as error:
            raise ValueError(f'config.search.{error}') from None
        self.evaluator = self.open_evaluator()

    @property
    def searching(self):
        """Whether the best of the points are looked for, to be scored again."""
        return isinstance(self.settings, SearchSettings) or self.settings.search.name != 'grid'

    def open_evaluator(self):
        """The Evaluator; one worker prepares features and reference, the others read them."""
        s, score = self.settings, self.settings.score
        facts = [config.resolved(part) for part in (s.data, s.features)]
        prepare = lambda: Evaluator(
            config.build(s.data),
            s.features,
            score.metrics,
            self.workdir,
            allow_fewer=score.allow_fewer,
            count=score.images,
        )
        name = f'evaluator-{files.content_hash([facts, score.metrics])}'
        evaluator = self.claims.once(name, prepare) if self.claims else prepare()
        evaluator.check_defined(minimised(score.metrics))
        return evaluator

    def scorer(self, sampler):
        """The GroupScorer of a sampler; all of them write one table."""
        key = files.content_hash(config.resolved(sampler))
        if key not in self.scorers:
            score, settle = self.settings.score, decisions(self.workdir)
            built = config.build(sampler)
            programs = Programs(
                built, score.batch_size, score.stack, settle=settle, autoencoder=self.vae
            )
            self.scorers[key] = GroupScorer(
                self.networks,
                programs,
                self.evaluator,
                self.workdir / 'results.jsonl',
                sampler,
                score.classes,
                self.claims and self.claims.worker,
                # Small sets would leave batches half empty.
                mixed=2 * self.fewest <= score.batch_size,
                keep=score.images if self.fewest < score.images else 0,
            )
        return self.scorers[key]

    def run(self):
        """Score all that is asked for; returns the table, best first, of what is to be quoted."""
        with Progress(self.total(), 'settings', f'sweep {self.workdir.name}') as self.bar:
            rows = self.search() if self.searching else self.all_points()
            self.bar.total = self.bar.done  # a search may need less than all that it may ask for
        self.keep_examples()
        for scorer in self.scorers.values():
            scorer.merge()
        self.record()
        processes.gather()
        drawn, compiled = (
            sum(count(scorer) for scorer in self.scorers.values())
            for count in (lambda s: s.drawn, lambda s: s.programs.count)
        )
        settings = len({files.content_hash(row['setting']) for row in rows})
        print(f'{settings} settings, {drawn} images drawn, {compiled} compilation(s)')
        metric = minimised(self.settings.score.metrics)
        return sorted(table(rows), key=lambda row: rank(row[metric]))

    def total(self):
        """Scores at most: what the progress bar counts."""
        score = self.settings.score
        most = self.method.most(self.grid.space, score.images)[0]
        confirmed = score.repeats * min(score.confirm, self.grid.space.size)
        return most + confirmed if self.searching else most * score.repeats

    def all_points(self):
        """The rows of the whole grid, on every set of seeds."""
        settings = self.shown = [setting for _, setting in self.grid.points()]
        self.prepare(settings)
        blocks = [self.settings.score.block(i) for i in range(self.settings.score.repeats)]
        self.note_keys(settings, blocks, 'sweep')
        return list(self.rows(settings, blocks, 'sweep'))

    def search(self):
        """Search, then score the best settings on fresh seeds; the rows of those."""
        score, space = self.settings.score, self.grid.space
        self.found = drive(self.method, space, score.images, self.values)
        self.shown = self.chosen(self.found)
        again = score.confirm and self.found.best is not None
        phase, first, sets = ('confirm', 1, score.repeats) if again else ('search', 0, 1)
        blocks = [score.block(first + i) for i in range(sets)]
        self.note_keys(self.shown, blocks, phase)
        return list(self.rows(self.shown, blocks, phase))

    def chosen(self, found):
        """The best settings of a search, best first, those without a value only if none has one.

        As many as are scored again, at least one; settings that differ in name alone are one.
        """
        score, best = self.settings.score, {}
        full = [(t, rank(v)) for t, v in found.trials if t.images == score.images]
        known = [item for item in full if item[1] < math.inf] or full
        for trial, _ in sorted(known, key=lambda item: item[1]):
            setting = self.grid.at(trial.point)
            measurement, _ = self.scorer(setting.sampler).keys(setting, **score.block(0))
            best.setdefault(measurement, setting)
        return list(best.values())[: max(1, score.confirm)]

    def known(self, setting, block):
        """The row of a setting on a set of seeds, whoever asked for it; None without one."""
        scorer = self.scorer(setting.sampler)
        return scorer.measured.get(scorer.keys(setting, **block)[0])

    def values(self, trials):
        """The minimised metric of some Trials, on the first seeds."""
        metric, counts = minimised(self.settings.score.metrics), {}
        for trial in trials:
            counts.setdefault(trial.images, []).append(trial)
        found = {}
        for count, some in counts.items():
            settings = [self.grid.at(trial.point) for trial in some]
            blocks = [self.settings.score.block(0, count)]
            self.prepare(settings)
            self.note_keys(settings, blocks, 'search')
            list(self.rows(settings, blocks, 'search'))
            for trial, setting in zip(some, settings):
                found[trial.key] = self.known(setting, blocks[0])['metrics'][metric]
        return [found[trial.key] for trial in trials]

    def prepare(self, settings):
        """Have the networks of some settings read together, each snapshot once for all of them."""
        self.networks.prepare([ref for setting in settings for ref in located(setting)])

    def note_keys(self, settings, blocks, phase):
        """Remember which rows are asked for, and record them."""
        for setting in settings:
            scorer = self.scorer(setting.sampler)
            for block in blocks:
                self.keys[scorer.keys(setting, **block, phase=phase)[1]] = None
        self.record()

    def rows(self, settings, blocks, phase):
        """Yield the rows of settings on sets of seeds; other workers may score some of them."""
        metric = minimised(self.settings.score.metrics)
        for group_rows in self.shared(self.pieces(settings, blocks, phase)):
            for row in group_rows:
                yield row
                count, value = row['seeds'][1], rank(row['metrics'][metric])
                self.best[count] = min(value, self.best.get(count, value))
                self.bar.update(1)
                # Scores over fewer images are larger: they are not comparable.
                self.bar.note(best=self.best[max(self.best)], images=max(self.best))

    def pieces(self, settings, blocks, phase):
        """[(scorer, group of settings, arguments of its score_group)], what one worker does."""
        by_scorer, score = {}, self.settings.score
        for setting in settings:
            scorer = self.scorer(setting.sampler)
            by_scorer.setdefault(id(scorer), (scorer, []))[1].append(setting)
        for scorer, mine in by_scorer.values():
            for block in blocks:
                size = max(1, score.batch_size // block['count']) if scorer.mixed else 1
                for group in alike(mine, scorer.programs.sampler, size):
                    yield scorer, group, {**block, 'phase': phase}

    def shared(self, pieces):
        """Yield the rows of every piece; with claims, another worker may score it."""
        if self.claims is None:
            yield from (scorer.score_group(group, **block) for scorer, group, block in pieces)
            return
        todo = [(*piece, keys_of(*piece)) for piece in pieces]
        while todo:
            left = []
            for scorer, group, block, keys in todo:
                known = keys <= scorer.rows.keys()
                name = files.content_hash(sorted(keys)) if len(keys) > 1 else next(iter(keys))
                with contextlib.nullcontext() if known else self.claims.taking(name) as mine:
                    if mine:
                        scorer.refresh()  # another worker may have finished it since
                    if mine or known:
                        yield scorer.score_group(group, **block)
                    else:
                        left.append((scorer, group, block, keys))
            if len(left) == len(todo):
                pause('waiting for settings that other workers score')
            todo = left
            for scorer in {id(piece[0]): piece[0] for piece in todo}.values():
                scorer.refresh()

    def keep_examples(self):
        """Keep the first images of the settings of the table in examples/, those not there yet.

        With claims one worker draws them; the others wait for it.
        """
        score = self.settings.score
        if not score.examples:
            return
        todo = [(setting, self.scorer(setting.sampler)) for setting in self.shown]
        names = [scorer.keys(s, **score.block(0))[0] for s, scorer in todo]

        def draw():
            small = {id(scorer): scorer.programs.smaller(score.examples) for _, scorer in todo}
            with Progress(len(todo), 'settings', 'examples') as bar:
                for (setting, scorer), name in zip(todo, names):
                    stop.check('drawing examples', saved=f'finished rows in {scorer.file}')
                    first, programs = score.first_seed, small[id(scorer)]
                    scorer.keep(setting, first, score.examples, f'examples/{name}.npz', programs)
                    bar.update(1)

        share = self.claims and self.claims.once
        name = f'examples-{files.content_hash([names, score.examples])}'
        share(name, draw) if share else draw()

    def record(self):
        """sweep.json: what a reader of the rows must know of the whole."""
        if not processes.is_main():
            return
        found = self.found
        facts = {
            'commands': [f'python -m autoguide_jax {shlex.join(sys.argv[1:])}'],
            'created': time.strftime('%Y-%m-%d %H:%M:%S'),
            'settings': config.resolved(self.settings),
            'axes': self.grid.axes,
            'provenance': provenance.describe(),
            'rows': list(self.keys),
            **({'found': {'point': found.best, 'images': found.images}} if found else {}),
            **self.evaluator.describe(),
        }
        files.write_json(self.workdir / 'sweep.json', files.plain(facts))


def keys_of(scorer, group, block):
    """The keys of the rows of a piece."""
    return {scorer.keys(setting, **block)[1] for setting in group}
