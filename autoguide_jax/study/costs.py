"""What a study costs: the training that each arm uses, and all that will be drawn and scored.

(1) A training step takes 3 × the FLOPs of the forward pass per image: backwards there are two
    products for each one forwards. The forward pass is counted by XLA, before optimisation. (XLA
    counts 2.8 × for the whole step of the digits: the first layer has no gradient of its input.)
(2) An arm pays for every run that it uses, up to the latest moment that it takes from it: a guide
    that is an early snapshot of its own main network costs nothing more. A run that several arms
    share counts in each of them.
"""

import functools
from typing import NamedTuple

from autoguide_jax import budget, config, files, generation, run_settings
from autoguide_jax.study.samplers import sampler_of, steps_of

FORWARD_AND_BACK = 3
HOW = 'search.budget, search.images, final.images, final.repeats and extra decide'


def trained(arm, runs):
    """Run → images seen of it that an arm pays for, by (2).

    arm: ArmSettings; runs: name → training Settings.
    """
    found = {}
    for run, nimg in ((arm.main, 0), (arm.guide, arm.guide_nimg), (arm.uncond, 0)):
        if run:
            found[run] = max(found.get(run, 0), nimg or runs[run].train.total_nimg)
    return found


class Costs:
    """FLOPs of every network of a study; workdir: where its runs are, or will be.

    known: what `describe` said of the same settings, None = to be counted.
    """

    def __init__(self, settings, workdir, known=None):
        self.settings, self.workdir, self.known = settings, workdir, known or {}
        self.datasets, self.counted = {}, {}

    @functools.cached_property
    def forward(self):
        """Run → FLOPs of one evaluation of one sample."""
        names = self.settings.runs
        told = {name: about['forward_flops'] for name, about in self.known.items()}
        return {name: told.get(name) or self._forward(name) for name in names}

    def _forward(self, name):
        run, file = self.settings.runs[name], self.workdir / 'runs' / name / 'config.json'
        tree = files.read_json(file) if file.exists() else self._resolve(run)
        key = files.content_hash([tree['network'], tree.get('denoiser')])
        if key not in self.counted:
            self.counted[key] = generation.forward_flops(tree)
        return self.counted[key]

    def _resolve(self, run):
        key = files.content_hash(config.resolved(run.data))
        if key not in self.datasets:
            self.datasets[key] = run_settings.open_data(run)
        return run_settings.resolve(run, self.datasets[key])

    def training(self, arm):
        """FLOPs of all training that an arm pays for, by (1) and (2)."""
        seen = trained(arm, self.settings.runs)
        return sum(FORWARD_AND_BACK * nimg * self.forward[run] for run, nimg in seen.items())

    def describe(self):
        """What study.json says: run → FLOPs of one evaluation, images seen, FLOPs of training."""
        found = {}
        for name, run in self.settings.runs.items():
            nimg, flops = run.train.total_nimg, self.forward[name]
            training = FORWARD_AND_BACK * nimg * flops
            found[name] = {'forward_flops': flops, 'nimg': nimg, 'training_flops': training}
        return found

    def stages(self):
        """[budget.Stage]: every training, then what is drawn; guides act everywhere, at most."""
        found = [
            budget.Stage(f'train {name}', 'train', about['nimg'], about['training_flops'])
            for name, about in self.describe().items()
        ]
        merged = {}
        for ask in asked(self.settings):
            arm, before = self.settings.arms[ask.arm], merged.get(ask.stage, (0, 0.0, 0, 0))
            steps = len(sampler_of(self.settings.sampler, ask.steps).sigmas())
            runs = [run for run in (arm.main, arm.guide or arm.uncond) if run]
            flops = ask.images * steps * sum(self.forward[run] for run in runs)
            more = ask.images, flops, ask.evaluations, ask.images * steps * len(runs)
            merged[ask.stage] = tuple(a + b for a, b in zip(before, more))
        return found + [budget.Stage(name, 'draw', *numbers) for name, numbers in merged.items()]

    def rates(self):
        """FLOPs per second as runs and rows in workdir tell them: {} as long as there are none."""
        found, speeds = {}, []
        for name in self.settings.runs:
            log = files.read_jsonl(self.workdir / 'runs' / name / 'metrics.jsonl')
            if told := [row['images_per_second'] for row in log if row.get('images_per_second')]:
                speed = FORWARD_AND_BACK * self.forward[name] * sum(told) / len(told)
                found[f'train {name}'] = speed
                speeds.append(speed)
        if speeds:
            found['train'] = sum(speeds) / len(speeds)
        flops = seconds = 0.0
        for row in files.read_jsonl(self.workdir / 'results.jsonl'):
            if row.get('arm') in self.settings.arms and row.get('nfe') and row.get('seconds'):
                flops += row['images'] * self.per_image(row)
                seconds += row['seconds']
        return {**found, **({'draw': flops / seconds} if seconds else {})}

    def per_image(self, row):
        """FLOPs of one image of a row of results."""
        arm, nfe = self.settings.arms[row['arm']], row['nfe']
        guide = arm.guide or arm.uncond
        return nfe['main'] * self.forward[arm.main] + nfe['guide'] * self.forward.get(guide, 0.0)

    def check(self):
        """Refuse what the budget does not allow; returns what cannot be told yet."""
        return budget.check(self.stages(), self.settings.budget, self.rates(), HOW)


class Ask(NamedTuple):
    """Images that a stage draws for an arm; steps: of the sampler, 0 = the study's own."""

    stage: str
    arm: str
    evaluations: int
    images: int
    steps: int = 0


def asked(settings):
    """Every Ask of a study: images at most, as settings that two stages share are drawn once."""
    search, final, extra = settings.search, settings.final, settings.extra
    found = []
    for name, arm in settings.arms.items():
        found.append(Ask('search', name, *search.most(arm)))
        found.append(Ask('final', name, final.repeats, final.repeats * final.images))
        if arm.guide or arm.uncond:
            count = len(extra.weights)
            found.append(Ask('weights', name, count, count * search.images))
            found.append(Ask('slider', name, 0, count * extra.slider))
        if name == extra.heatmap_arm:
            count = len(extra.heatmap_stds) ** 2
            found.append(Ask('EMA map', name, count, count * search.images))
        more = [n for n in extra.steps if n != steps_of(settings.sampler)]
        if name in (extra.steps_arms or settings.arms):
            each = final.repeats * final.images
            found += [Ask('steps', name, final.repeats, each, n) for n in more]
        found.append(Ask('grid', name, 0, extra.grid))
    return [ask for ask in found if ask.images]
