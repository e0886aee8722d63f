"""Train, draw and measure the 2-D example (arXiv 2406.02507, App. C and Sec. 4).

1. Train every run, all seeds side by side. 2. Score every arm on every seed. 3. Corrupt main
networks and guide them by worse corruptions. 4. Try every guide by run, age and EMA length, with
the alignment of its errors. 5. Outliers against branch KL over weights and intervals. 6. Arrays of
the figures. Scores go to results.jsonl, error fields to fields.jsonl; neither is done twice.
"""

import dataclasses
import functools

import jax
import numpy as np

from autoguide_jax import config, files, pairs, snapshots, stop, train
from autoguide_jax.generation import Programs
from autoguide_jax.metrics.points import PointScores, Shift
from autoguide_jax.mixture import mixture
from autoguide_jax.pairs import Networks
from autoguide_jax.progress import Progress
from autoguide_jax.scorer import Scorer
from autoguide_jax.study.record import Record, mean_and_spread
from autoguide_jax.study.toy import pictures
from autoguide_jax.study.toy.probe import FIRST_SEED, Probe, name_of
from autoguide_jax.study.toy.settings import ANALYTIC


def main(settings, workdir):
    """Run the study in workdir, or what is left of it; returns the table of arms."""
    study = ToyStudy(settings, workdir)
    with stop.watch():
        study.write()
        try:
            study.train()
            plan = [*study.arms(), *study.degradation(), *study.guides(), *study.trade_off()]
            with Progress(sum(cost for _, cost, _ in plan), 'pt', 'draw and score') as bar:
                for phase, cost, task in plan:
                    stop.check('the study', saved=f'finished rows in {study.workdir}')
                    with study.clock(phase):
                        task()
                    bar.update(cost)
            with study.clock('pictures'):
                pictures.write(study)
            study.finished = True
        finally:
            study.write()
    return [study.summary(name) for name in settings.arms]


class ToyStudy(Record):
    """One study of the 2-D example in its folder."""

    def __init__(self, settings, workdir):
        super().__init__(settings, workdir)
        self.known, self.used = {}, []
        self.probe = Probe(self)
        self.sampler = config.build(settings.sampler)
        source, top = mixture(settings.classes), self.sampler.sigma_max
        at_top = jax.vmap(lambda key: source.sample(key, 1, top)[0] / top)
        self.start = lambda keys, shape: at_top(keys)
        self.networks = Networks()
        self.programs = {}

    def train(self):
        """Train every run that is not finished; write those that need no training."""
        for name in self.settings.runs:
            stop.check('training', saved=f'finished runs in {self.workdir}')
            with self.clock(f'train {name}'):
                train.main(self.settings.training(name), self.workdir / 'runs' / name)
        for name in ANALYTIC:
            folder = self.analytic(name)
            if not snapshots.list_snapshots(folder):
                network = {'name': f'toy_{name}', 'channels': 2}
                network |= {'classes': self.settings.classes} if name == 'exact' else {}
                tree = {'denoiser': {'name': 'log_density'}, 'latents': {'name': 'points'}}
                files.write_json(folder / 'config.json', {'network': network, **tree})
                snapshots.save(folder, 1, (0.01,), {}, {})

    def pair(self, arm, seed, **guidance):
        """The Pair of an arm for one training seed, with run names replaced by directories."""
        refs = {role: self.place(getattr(arm, role), seed) for role in ('main', 'guide', 'uncond')}
        rule = dataclasses.replace(arm.guidance, **guidance)
        return pairs.Pair(**refs, guidance=rule)

    def analytic(self, name):
        """The run directory of a network without weights."""
        return self.workdir / 'runs' / f'{name}-{self.settings.classes}'

    def place(self, ref, seed):
        """A NetworkRef by run name → by run directory."""
        if not ref.run:
            return ref
        if ref.run in ANALYTIC:
            return dataclasses.replace(ref, run=str(self.analytic(ref.run)), std=0.01, nimg=0)
        folder = self.workdir / 'runs' / ref.run
        own = self.settings.runs[ref.run].seed + seed
        return dataclasses.replace(ref, run=str(folder / f'seed-{own}'))

    def score(self, pair, points, evaluator, **tags):
        """The row of a pair, drawn and scored once."""
        programs = self.programs_of(points)
        table = self.workdir / 'results.jsonl'
        key = files.content_hash([evaluator.identity, programs.batch_size])
        if key not in self.known:
            sampler = self.settings.sampler
            self.known[key] = Scorer(self.networks, programs, evaluator, table, sampler)
        scorer = self.known[key]
        row = scorer.score(pair, FIRST_SEED, points, **tags)
        self.used.append(row['key'])
        return row

    def programs_of(self, points):
        """The compiled samplers for this many points at most."""
        size = min(self.settings.batch_size, points)
        if size not in self.programs:
            self.programs[size] = Programs(self.sampler, size, 'off', start=self.start)
        return self.programs[size]

    def arms(self):
        """Tasks: every arm on every seed, all metrics."""
        s = self.settings
        scores = PointScores(s.classes)
        for seed in s.seeds:
            for name, arm in s.arms.items():
                tags = {'phase': 'arms', 'arm': name, 'seed': seed}
                task = lambda a=arm, t=tags: self.score(
                    self.pair(a, t['seed']), s.points, scores, **t
                )
                yield 'arms', s.points, task

    def degradation(self):
        """Tasks: corrupted pairs and controls over the guidance weight, and their error fields."""
        s = self.settings.degradation
        for seed in self.settings.seeds:
            for name, arm in s.pairs.items():
                task = lambda n=name, a=arm, k=seed: self.degraded(n, a, k)
                yield 'degradation', s.points * len(s.weights), task

    def degraded(self, name, arm, seed):
        """The rows of one corrupted pair, and its error field against the network as it was."""
        s = self.settings.degradation
        whole = self.place(dataclasses.replace(arm.main, degrade=None), seed)
        target = functools.cache(lambda: self.drawn(pairs.Pair(main=whole), s.points))
        source = name_of(whole)
        evaluator = Shift(self.settings.classes, source=source, target=target)
        for weight in s.weights:
            tags = {'phase': 'degradation', 'arm': name, 'seed': seed, 'weight': weight}
            self.score(self.pair(arm, seed, weight=weight), s.points, evaluator, **tags)
        corrupted = arm.main.degrade is not None
        tags = {'phase': 'degradation', 'arm': name, 'seed': seed}
        whole = whole if corrupted else None
        self.used.append(self.probe.field(self.pair(arm, seed, weight=2.0), whole, tags))

    def guides(self):
        """Tasks: every guide by run, age and EMA length over the weight, and its error fields."""
        s = self.settings.guides
        for seed in self.settings.seeds:
            for run in s.runs:
                for nimg in s.nimg:
                    for std in s.stds:
                        last = self.settings.runs[run].train.total_nimg
                        if nimg > last or (run == s.main and nimg == last):
                            continue  # not trained that long, or main itself
                        task = lambda args=(run, nimg, std, seed): self.guide(*args)
                        yield 'guides', s.points * len(s.weights), task

    def guide(self, run, nimg, std, seed):
        """The rows of one guide, and its error fields."""
        s = self.settings.guides
        ref = pairs.NetworkRef
        rule = pairs.GuidanceSettings(2.0, s.interval)
        arm = pairs.Pair(ref(s.main, s.main_std), ref(run, std, nimg), guidance=rule)
        tags = {'phase': 'guides', 'arm': run, 'seed': seed, 'nimg': nimg, 'std': std}
        scores = PointScores(self.settings.classes, distances=False)
        for weight in s.weights:
            pair = self.pair(arm, seed, weight=weight)
            self.score(pair, s.points, scores, **tags, weight=weight)
        self.used.append(self.probe.field(self.pair(arm, seed), None, tags))

    def trade_off(self):
        """Tasks: outliers and branch KL of every family over weights and intervals."""
        s = self.settings.trade_off
        scores = PointScores(self.settings.classes, distances=False)
        points = [(1.0, (0.0, float('inf')))]
        points += [(w, interval) for w in s.weights for interval in s.pairs()]
        for seed in self.settings.seeds:
            for name, arm in s.families.items():
                for weight, interval in points:
                    tags = {'phase': 'trade_off', 'arm': name, 'seed': seed, 'weight': weight}
                    pair = self.pair(arm, seed, weight=weight, interval=interval)
                    task = lambda p=pair, t=tags: self.score(p, s.points, scores, **t)
                    yield 'trade_off', s.points, task

    def drawn(self, pair, points):
        """Samples [points, 2] of a pair."""
        seeds = np.arange(FIRST_SEED, FIRST_SEED + points)
        calls, rules = self.networks.calls(pair)
        return self.programs_of(points).all_images(calls, rules, seeds, np.full(points, -1))

    def summary(self, name):
        """One row of the printed table: mean ± sd over the training seeds."""
        used = set(self.used)
        rows = [r for r in files.read_jsonl(self.workdir / 'results.jsonl') if r['key'] in used]
        rows = [r['metrics'] for r in rows if r['phase'] == 'arms' and r['arm'] == name]
        found = {'arm': self.settings.arms[name].title or name}
        for metric in rows[0]:
            found[metric] = mean_and_spread([row[metric] for row in rows], 4)
        return found

    def describe(self):
        """study.json: what the report needs besides the rows."""
        s = self.settings
        arms = {n: {'title': a.title or n, 'description': a.description} for n, a in s.arms.items()}
        rows = {'rows': self.used} if self.finished else {}
        return {**super().describe(), 'kind': s.kind, 'arms': arms, 'seeds': list(s.seeds), **rows}
