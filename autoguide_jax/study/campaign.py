"""Train, search, score: a comparison of guidance methods in which every arm is tuned equally.

1. Train every run. 2. For each arm search (w, EMA_m, EMA_g, interval) with the same number of
evaluations on the selection seeds. 3. Score the chosen setting of each arm on fresh seeds. 4. Scan
around it (scans.py). Rows go to results.jsonl and are never redone; `report` makes the page.
"""

import dataclasses
import sys
import time

from autoguide_jax import autoencoder, budget, config, files, latents, stop, tables, train
from autoguide_jax.claims import decisions
from autoguide_jax.data.order import in_turns, permutation
from autoguide_jax.evaluator import Evaluator
from autoguide_jax.generation import Programs
from autoguide_jax.pairs import GuidanceSettings, NetworkRef, Networks, Pair
from autoguide_jax.progress import Progress
from autoguide_jax.scorer import Scorer, defined
from autoguide_jax.search import Drawn, drive
from autoguide_jax.study import reach, scans
from autoguide_jax.study.costs import Costs, asked, trained
from autoguide_jax.study.record import Record, mean_and_spread
from autoguide_jax.study.tuning import axes

PLAN = 'At most: as if guides always acted, and nothing were there yet.'


def main(settings, workdir):
    """Run the comparison in workdir, or what is left of it; returns the table of arms."""
    study = Study(settings, workdir, open_autoencoder(settings))
    with stop.watch():
        study.plan()
        study.write()
        try:
            study.train()
            study.open()
            with Progress(study.images_to_score(), 'img', 'score') as bar:
                study.search(bar)
                study.within_budget()
                study.final(bar)
                scans.curves(study, bar)
                scans.steps(study, bar)
            study.floor()
            scans.grids(study)
            scans.slider(study)
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
    rows = list(study.final_rows(name))
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


def real_images(dataset, repeat, count, classes):
    """Which images a repeat of the floor scores, all different; balanced if the samples are."""
    order = permutation(repeat, 0, dataset.num_images)
    if classes == 'balanced' and dataset.labels is not None:
        order = in_turns(order, dataset.labels)
    return order[:count]


class Study(Record):
    """One study in its folder; vae: the autoencoder.Autoencoder where its runs learn latents."""

    def __init__(self, settings, workdir, vae=None):
        super().__init__(settings, workdir)
        self.chosen, self.vae = {}, vae
        known = self.old.get('networks') if 'rows' in self.old else None
        self.costs, self.others = Costs(settings, self.workdir, known), []

    def plan(self):
        """Say what the study will cost at most, and refuse it if that is beyond the budget."""
        if 'rows' in self.old:
            return  # it is finished
        reach.check(self.settings)
        stages, rates = self.costs.stages(), self.costs.rates()
        print(tables.render(budget.rows(stages, rates)), file=sys.stderr)
        print(PLAN, file=sys.stderr)
        if unknown := self.costs.check():
            print(f'{unknown}; they are checked as they become known', file=sys.stderr)

    def within_budget(self):
        """Refuse to go on if what was measured by now says that the budget does not suffice."""
        if 'rows' not in self.old:
            self.costs.check()

    def train(self):
        """Train every run that is not finished."""
        for name, run in self.settings.runs.items():
            stop.check('training', saved=f'finished runs in {self.workdir}')
            self.within_budget()
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

    def search(self, bar):
        """Find the setting of every arm; same budget, same seeds for all."""
        s = self.settings.search
        for name, arm in self.settings.arms.items():
            drawn = Drawn()

            def objective(trials, name=name, drawn=drawn):
                values = []
                for trial in trials:
                    values.append(self.value(name, trial))
                    bar.update(drawn.add(trial))
                return values

            with self.clock('search'):
                found = drive(s.build(), s.space(arm), s.images, objective)
            bar.update(s.most(arm)[1] - found.images)  # a search may end earlier
            self.chosen[name] = found.best or found.trials[0][0].point
            if found.best is None:
                first = self.settings.metrics[0]
                text = f'search of {name}: {first} has no value anywhere, the first point is taken'
                print(text, file=sys.stderr)

    def value(self, name, trial):
        """What a Trial of an arm scores; those of fewer images are rows of the phase 'screen'."""
        s = self.settings.search
        pair = self.pair(self.settings.arms[name], **trial.point)
        phase = 'search' if trial.images == s.images else 'screen'
        row = self.scorer.score(pair, s.first_seed, trial.images, phase=phase, arm=name)
        return row['metrics'][self.settings.metrics[0]]

    def final(self, bar):
        """Score the chosen settings on fresh seeds, one row per repeat."""
        for name in self.settings.arms:
            with self.clock('final'):
                for _ in self.final_rows(name):
                    bar.update(self.settings.final.images)

    def floor(self):
        """Real images scored like samples: what the metrics say of the truth at this count."""
        dataset = self.evaluator.dataset
        count = self.floor_images
        for i in range(self.settings.final.repeats):
            chosen = real_images(dataset, i, count, self.settings.classes)
            drawn = files.content_hash(chosen.tolist())
            key = files.content_hash({'floor': drawn, 'evaluator': self.evaluator.identity})
            self.scorer.used[key] = None
            if key in self.scorer.rows:
                continue
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
        """Yield the rows of an arm's chosen setting on fresh seeds; draws what is not there."""
        s, pair = self.settings.final, self.pair(self.settings.arms[name], **self.chosen[name])
        for i in range(s.repeats):
            first = s.first_seed + i * s.images
            yield self.scorer.score(pair, first, s.images, phase='final', arm=name)

    def describe(self):
        """study.json: what the report needs besides the rows."""
        s = self.settings
        arms = {name: dataclasses.asdict(arm) for name, arm in s.arms.items()}
        for name, arm in arms.items():
            arm['trained'] = trained(s.arms[name], s.runs)
            arm['training_flops'] = self.costs.training(s.arms[name])
            before = self.old.get('arms', {}).get(name, {}).get('chosen')
            arm['chosen'] = self.chosen.get(name, before)
            arm['searched'] = axes(s.arms[name])
        final = [
            [s.final.first_seed + i * s.final.images, s.final.images]
            for i in range(s.final.repeats)
        ]
        record = {
            **super().describe(),
            'sampler': config.to_dict(s.sampler),
            'arms': arms,
            'runs': list(s.runs),
            'networks': self.costs.describe(),
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
            compiled = sum(programs.count for programs in [self.programs, *self.others])
            record['compilations'] = self.old.get('compilations', 0) + compiled
            if self.finished:
                record['rows'] = list(self.scorer.used)
        return record

    def images_to_score(self):
        """Number of images that search, scans and final scores ask for."""
        return sum(ask.images for ask in asked(self.settings) if ask.evaluations)
