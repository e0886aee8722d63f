"""Train, search, score: a comparison of guidance methods in which every arm is tuned equally.

1. Train every run. 2. For each arm search (w, EMA_m, EMA_g, interval) with the same number of
evaluations on the selection seeds. 3. Score the chosen setting of each arm on fresh seeds. Rows go
to results.jsonl and are never redone; `report` makes the page from them.
"""

import dataclasses
import sys
import time

import numpy as np

from autoguide_jax import autoencoder, config, files, latents, stop, train
from autoguide_jax.claims import decisions
from autoguide_jax.evaluator import Evaluator
from autoguide_jax.generation import Programs
from autoguide_jax.pairs import GuidanceSettings, NetworkRef, Networks, Pair
from autoguide_jax.progress import Progress
from autoguide_jax.scorer import Scorer, defined
from autoguide_jax.search import minimise, rank
from autoguide_jax.seeds import sample_labels
from autoguide_jax.study.record import Record, mean_and_spread


def main(settings, workdir):
    """Run the comparison in workdir, or what is left of it; returns the table of arms."""
    study = Study(settings, workdir, open_autoencoder(settings))
    with stop.watch():
        study.write()
        try:
            study.train()
            study.open()
            with Progress(study.images_to_score(), 'img', 'score') as bar:
                study.search(bar)
                study.final(bar)
                study.scans(bar)
            study.floor()
            study.grids()
            study.finished = True
        finally:
            study.write()
    return [summary(study, name) for name in settings.arms]


def open_autoencoder(settings):
    """The Autoencoder of a study whose runs learn latents, None for others."""
    learn = [k for k, r in settings.runs.items() if latents.table.get(r.latents.name).needs_vae]
    needs = f'runs.{learn[0]} learns latents' if learn else ''
    return autoencoder.open_where_needed(settings, needs, 'no run learns latents')


def summary(study, name):
    """One row of the printed table: mean ± sd over fresh seeds, or ± the error of one set."""
    rows = study.final_rows(name)
    found = {'arm': study.settings.arms[name].title}
    for metric in study.settings.metrics:
        known, left_out = defined(rows, metric)
        if not known:
            found[f'{metric}: none, because'] = rows[0].get('undefined', {}).get(metric)
            continue
        values = [row['metrics'][metric] for row in known]
        found[metric] = mean_and_spread(values, 3, known[0].get('errors', {}).get(metric))
        found |= left_out
        if least := known[0].get('fewer', {}).get(metric):
            found[f'{metric}: fewer images than'] = least
    return {**found, **{k: round(float(v), 3) for k, v in study.chosen[name].items()}}


class Study(Record):
    """One study in its folder; vae: the autoencoder.Autoencoder where its runs learn latents."""

    def __init__(self, settings, workdir, vae=None):
        super().__init__(settings, workdir)
        self.chosen, self.vae = {}, vae

    def train(self):
        """Train every run that is not finished."""
        for name, run in self.settings.runs.items():
            stop.check('training', saved=f'finished runs in {self.workdir}')
            with self.clock(f'train {name}'):
                train.main(run, self.workdir / 'runs' / name)

    def open(self):
        """Extractor, reference and sampler; the classifier is trained here, once."""
        s = self.settings
        with self.clock('features'):
            self.evaluator = Evaluator(
                config.build(s.data),
                s.features,
                s.metrics,
                self.workdir / 'features',
                allow_fewer=s.allow_fewer,
                count=s.final.images,
            )
        self.evaluator.check_defined(s.metrics[0])
        self.note_fewer()
        self.sampler = config.build(s.sampler)
        settle = decisions(self.workdir)
        self.programs = Programs(
            self.sampler, s.batch_size, s.stack, settle=settle, autoencoder=self.vae
        )
        table = self.workdir / 'results.jsonl'
        self.scorer = Scorer(Networks(), self.programs, self.evaluator, table, s.sampler, s.classes)

    def note_fewer(self):
        """Say which metrics the search and the floor have too few images for.

        A search compares scores of equal numbers; only the final ones are quoted by their names.
        """
        counts = {'search.images': self.settings.search.images, 'the floor': self.floor_images}
        for name, count in counts.items():
            for metric, least in self.evaluator.fewer(count).items():
                print(f'{name}: {metric} asks for {least} images, has {count}', file=sys.stderr)

    @property
    def floor_images(self):
        """How many real images are scored: as many as samples, as far as there are so many."""
        return min(self.settings.final.images, self.evaluator.dataset.num_images)

    def pair(self, arm, main_std, guide_std=None, weight=1.0, lo=0.0, hi=float('inf')):
        """The Pair of an arm at one point of its search space."""
        run = lambda name: str(self.workdir / 'runs' / name) if name else ''
        guide_std = main_std if guide_std is None else guide_std
        return Pair(
            main=NetworkRef(run(arm.main), main_std),
            guide=NetworkRef(run(arm.guide), guide_std, arm.guide_nimg),
            uncond=NetworkRef(run(arm.uncond), guide_std),
            guidance=GuidanceSettings(weight, (lo, hi)),
        )

    def axes(self, arm):
        """Names of what is searched for an arm."""
        names = ['main_std']
        if arm.guide or arm.uncond:
            names += [] if arm.same_std else ['guide_std']
            names += ['weight']
        return names + (['lo', 'hi'] if arm.search_interval else [])

    def search(self, bar):
        """Find the setting of every arm; same budget, same seeds for all."""
        s = self.settings.search
        for name, arm in self.settings.arms.items():
            trace = []

            def objective(point, name=name, arm=arm, trace=trace):
                pair = self.pair(arm, **point)
                row = self.scorer.score(pair, s.first_seed, s.images, phase='search', arm=name)
                trace.append((row['metrics'][self.settings.metrics[0]], point))
                bar.update(s.images)
                return trace[-1][0]

            with self.clock('search'):
                minimise(objective, self.axes(arm), s)
            bar.update((s.budget - len(trace)) * s.images)  # fewer points than budget: one axis
            best, self.chosen[name] = min(trace, key=lambda item: rank(item[0]))
            if best is None:
                first = self.settings.metrics[0]
                text = f'search of {name}: {first} has no value anywhere, the first point is taken'
                print(text, file=sys.stderr)

    def final(self, bar):
        """Score the chosen settings on fresh seeds, one row per repeat."""
        s = self.settings.final
        for name, arm in self.settings.arms.items():
            pair = self.pair(arm, **self.chosen[name])
            with self.clock('final'):
                for i in range(s.repeats):
                    first = s.first_seed + i * s.images
                    self.scorer.score(pair, first, s.images, phase='final', arm=name)
                    bar.update(s.images)

    def scans(self, bar):
        """Score against w, and the map of EMA lengths, around the chosen settings."""
        s, extra = self.settings.search, self.settings.extra
        points = []
        for name, arm in self.settings.arms.items():
            if 'weight' in self.axes(arm):
                for weight in extra.weights:
                    points.append(('curve', name, {**self.chosen[name], 'weight': weight}))
        if extra.heatmap_arm:
            for a in extra.heatmap_stds:
                for b in extra.heatmap_stds:
                    point = {**self.chosen[extra.heatmap_arm], 'main_std': a, 'guide_std': b}
                    points.append(('heatmap', extra.heatmap_arm, point))
        with self.clock('scans'):
            for phase, name, point in points:
                pair = self.pair(self.settings.arms[name], **point)
                self.scorer.score(pair, s.first_seed, s.images, phase=phase, arm=name)
                bar.update(s.images)

    def grids(self):
        """The first images of the final seeds, same seeds and labels in every arm."""
        count, first = self.settings.extra.grid, self.settings.final.first_seed
        with self.clock('grids'):
            for name, arm in self.settings.arms.items():
                target = self.workdir / 'samples' / f'{name}.npz'
                mark = [count, *(row['key'] for row in self.final_rows(name))]
                mark = files.content_hash(mark)
                if target.exists():
                    with files.open_npz(target) as old:
                        if str(old['final_rows']) == mark:
                            continue
                calls, rules = self.scorer.networks.calls(self.pair(arm, **self.chosen[name]))
                classes = calls[0].network.config['network'].get('label_dim', 0)
                seeds = np.arange(first, first + count)
                labels = sample_labels(seeds, classes, self.settings.classes)
                images = self.programs.all_images(calls, rules, seeds, labels)
                arrays = {'images': images, 'labels': labels, 'seeds': seeds}
                files.save_npz(target, {**arrays, 'final_rows': np.array(mark)})

    def floor(self):
        """Real images scored like samples: what the metrics say of the truth at this count."""
        s = self.settings.final
        dataset = self.evaluator.dataset
        count = self.floor_images
        for i in range(s.repeats):
            key = files.content_hash(
                {'floor': i, 'count': count, 'evaluator': self.evaluator.identity}
            )
            self.scorer.used[key] = None
            if key in self.scorer.rows:
                continue
            chosen = np.random.default_rng(i).permutation(dataset.num_images)[:count]
            start = time.monotonic()
            batch = (
                dataset.images(chosen),
                None if dataset.labels is None else dataset.labels[chosen],
            )
            row = {
                'key': key,
                'measurement': key,
                'phase': 'floor',
                'arm': 'real',
                **self.evaluator.measure([batch]),
                'images': count,
                'seconds': time.monotonic() - start,
            }
            files.append_jsonl(self.scorer.file, row)
            self.scorer.rows[key] = row

    def final_rows(self, name):
        """The rows of an arm's chosen setting on fresh seeds."""
        s, pair = self.settings.final, self.pair(self.settings.arms[name], **self.chosen[name])
        score = lambda i: self.scorer.score(
            pair, s.first_seed + i * s.images, s.images, phase='final', arm=name
        )
        return [score(i) for i in range(s.repeats)]

    def describe(self):
        """study.json: what the report needs besides the rows."""
        s = self.settings
        arms = {name: dataclasses.asdict(arm) for name, arm in s.arms.items()}
        for name, arm in arms.items():
            before = self.old.get('arms', {}).get(name, {}).get('chosen')
            arm['chosen'] = self.chosen.get(name, before)
            arm['searched'] = self.axes(s.arms[name])
        final = [
            [s.final.first_seed + i * s.final.images, s.final.images]
            for i in range(s.final.repeats)
        ]
        record = {
            **super().describe(),
            'sampler': config.to_dict(s.sampler),
            'arms': arms,
            'runs': list(s.runs),
            'search': {
                'budget': s.search.budget,
                'images': s.search.images,
                'seeds': [s.search.first_seed, s.search.images],
            },
            'final': {'images': s.final.images, 'seed_blocks': final},
            'metrics': list(s.metrics),
        }
        if hasattr(self, 'scorer'):
            record.update(self.evaluator.describe())
            record['compilations'] = self.old.get('compilations', 0) + self.programs.count
            if self.finished:
                record['rows'] = list(self.scorer.used)
        return record

    def images_to_score(self):
        """Number of images that search, scans and final scores ask for."""
        s, arms = self.settings, self.settings.arms
        guided = sum('weight' in self.axes(arm) for arm in arms.values())
        scans = guided * len(s.extra.weights)
        scans += len(s.extra.heatmap_stds) ** 2 if s.extra.heatmap_arm else 0
        searched = len(arms) * s.search.budget * s.search.images
        return searched + scans * s.search.images + len(arms) * s.final.repeats * s.final.images
