"""What is drawn around the chosen settings: curves, equal compute, pictures.

Each takes the Study once its settings are chosen, and does what is not there yet.
"""

import numpy as np

from autoguide_jax import files, stop
from autoguide_jax.generation import Programs
from autoguide_jax.progress import Progress
from autoguide_jax.scorer import Scorer
from autoguide_jax.study.samplers import sampler_of, steps_of, with_steps
from autoguide_jax.study.tuning import axes


def curves(study, bar):
    """Score against w, and the map of EMA lengths, on the selection seeds."""
    s, extra = study.settings.search, study.settings.extra
    points = []
    for name, arm in study.settings.arms.items():
        if 'weight' in axes(arm):
            for weight in extra.weights:
                points.append(('curve', name, {**study.chosen[name], 'weight': weight}))
    if extra.heatmap_arm:
        for a in extra.heatmap_stds:
            for b in extra.heatmap_stds:
                point = {**study.chosen[extra.heatmap_arm], 'main_std': a, 'guide_std': b}
                points.append(('heatmap', extra.heatmap_arm, point))
    with study.clock('scans'):
        for phase, name, point in points:
            pair = study.pair(study.settings.arms[name], **point)
            study.scorer.score(pair, s.first_seed, s.images, phase=phase, arm=name)
            bar.update(s.images)


def steps(study, bar):
    """Score the chosen settings with other numbers of sampler steps, on the seeds that count.

    With the sampler's own number they are the final rows already.
    """
    s, part = study.settings, study.settings.sampler
    for count in s.extra.steps:
        if count == steps_of(part):
            continue
        scorer = scorer_with(study, count)
        with study.clock('steps'):
            for name in s.extra.steps_arms or s.arms:
                pair = study.pair(s.arms[name], **study.chosen[name])
                for i in range(s.final.repeats):
                    first = s.final.first_seed + i * s.final.images
                    told = {'phase': 'steps', 'arm': name, 'steps': count}
                    scorer.score(pair, first, s.final.images, **told)
                    bar.update(s.final.images)
        study.scorer.used |= scorer.used
        study.scorer.refresh()


def scorer_with(study, count):
    """A Scorer into the same table that takes another number of steps."""
    s, old = study.settings, study.programs
    sampler = sampler_of(s.sampler, count)
    programs = Programs(
        sampler, s.batch_size, s.stack, settle=old.settle, autoencoder=old.autoencoder
    )
    study.others.append(programs)
    networks, evaluator, file = study.scorer.networks, study.evaluator, study.scorer.file
    return Scorer(networks, programs, evaluator, file, with_steps(s.sampler, count), s.classes)


def grids(study):
    """The first images of the final seeds, same seeds and labels in every arm."""
    with study.clock('grids'):
        for name, arm in study.settings.arms.items():
            pair = study.pair(arm, **study.chosen[name])
            keep(study, study.programs, pair, study.settings.extra.grid, name)


def slider(study):
    """The same images at every weight of the curves: samples/ARM@W.npz, W as in '1.25'.

    Those of weights that are no longer asked for are removed: they may be of another setting.
    """
    s = study.settings
    if not s.extra.slider:
        return
    programs = study.programs.smaller(s.extra.slider)
    study.others.append(programs)
    guided = [name for name, arm in s.arms.items() if 'weight' in axes(arm)]
    asked = [(name, weight) for name in guided for weight in s.extra.weights]
    with study.clock('slider'), Progress(len(asked), 'settings', 'slider', delay=10.0) as bar:
        for name, weight in asked:
            pair = study.pair(s.arms[name], **{**study.chosen[name], 'weight': weight})
            keep(study, programs, pair, s.extra.slider, slide(name, weight))
            bar.update(1)
    wanted = {f'{slide(name, weight)}.npz' for name, weight in asked}
    folder = study.workdir / 'samples'
    for name in files.names(folder, '.npz'):
        if '@' in name and name not in wanted:
            (folder / name).unlink(missing_ok=True)


def slide(arm, weight):
    """Name of the sample file of an arm at a weight, without its ending."""
    return f'{arm}@{weight:g}'


def keep(study, programs, pair, count, name):
    """Store the images of the first final seeds as samples/NAME.npz, if these are not there.

    Arrays: images uint8 [count, h, w, c], labels int32 [count] (−1 = none), seeds [count], and
    measurement, what decides the images.
    """
    stop.check('drawing samples', saved=f'finished files in {study.workdir / "samples"}')
    target, first = study.workdir / 'samples' / f'{name}.npz', study.settings.final.first_seed
    mark = study.scorer.keys(pair, first, count)[0]
    if target.exists():
        with files.open_npz(target) as old:
            if 'measurement' in old and str(old['measurement']) == mark:
                return
    calls, rules = study.scorer.networks.calls(pair)
    seeds, labels = study.scorer.told(calls, first, count)
    images = programs.all_images(calls, rules, seeds, labels)
    arrays = {'images': images, 'labels': labels, 'seeds': np.array(seeds)}
    files.save_npz(target, {**arrays, 'measurement': np.array(mark)})
