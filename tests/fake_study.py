"""A made-up study directory: every number in it comes from a formula and a random generator.

It has the shape of a real one, so that the report can be tested and looked at without training:
    PYTHONPATH=. python tests/fake_study.py FOLDER
"""

import json
import math
import sys

import numpy as np

from autoguide_jax import files

# arm | title | description | guide | uncond | distance at best | best w | relative computation
ARMS_TABLE = """
none | No guidance | the main network alone | - | - | 9.1 | 1 | 1
cfg | Classifier-free guidance | the unconditional network as guide | - | uncond | 6.4 | 1.4 | 2
interval | CFG in an interval | CFG at middle noise levels only | - | uncond | 5.2 | 1.8 | 1.42
autoguidance | Autoguidance | a smaller guide, 1/16 of the training | guide | - | 3.4 | 2.1 | 1.27
same_ema | Same EMA for both | autoguidance with one EMA length | guide | - | 4.1 | 1.9 | 1.27
less_training | Reduced training only | a guide of the same size | guide_big | - | 3.9 | 2.2 | 2
less_capacity | Reduced capacity only | small, fully trained | guide_long | - | 6.9 | 1.6 | 1.27
uncond | Unconditional | no labels, no guidance | - | - | 16.2 | 1 | 1
uncond_auto | Unconditional + autoguidance | no labels | guide_uncond | - | 8.8 | 2.4 | 1.27
"""
_cells = [[c.strip() for c in line.split('|')] for line in ARMS_TABLE.strip().splitlines()]
ARMS = {
    name: (*texts[:2], *(None if run == '-' else run for run in texts[2:4]), *map(float, texts[4:]))
    for name, *texts in _cells
}
RUNS = {'main': 1.0, 'uncond': 1.06, 'guide': 1.3, 'guide_big': 1.22, 'guide_long': 1.12}
RUNS['guide_uncond'] = 1.36
MAIN_FLOPS = 2e8
SMALL = ('guide', 'guide_long', 'guide_uncond')
STEPS = {16: 1.5, 64: 0.96}  # sampler steps → distance relative to that of 32
SIGMAS = ('≤0.1', '0.1–0.25', '0.25–0.5', '0.5–1', '1–2.5', '2.5–10', '>10')
STDS = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2)
BLOCKS = ([10000, 1500], [20000, 1500], [30000, 1500])


def setting(arm, weight=None, ema=(0.1, 0.05)):
    _, _, guide, uncond, _, best, _ = ARMS[arm]
    main = 'uncond' if arm.startswith('uncond') else 'main'

    def place(run, std):
        return {'run': run, 'std': std, 'nimg': 2**19} if run else None

    return {
        'main': place(main, ema[0]),
        'guide': place(guide, ema[1]),
        'uncond': place(uncond, ema[1]),
        'weight': best if weight is None else weight,
        'interval': [0.2, 2.5] if arm == 'interval' else [0, 'inf'],
        'alpha': 0.0,
    }


def row(arm, phase, number, distance, rng, seeds, chosen=None):
    relative = ARMS[arm][-1] if arm in ARMS else 1.0
    quality = math.exp(-distance / 30)
    variety = 1.02 - 0.06 * (relative > 1) - 0.1 * (arm == 'cfg')

    def noise(scale):
        return rng.normal(0, scale)

    precision = min(0.99, 0.62 + 0.34 * quality + noise(0.006))
    errors = {
        'frechet': 0.022 * distance,
        'precision': math.sqrt(precision * (1 - precision) / seeds[1]),
    }
    found = {
        'key': f'{phase}-{arm}-{number}',
        'phase': phase,
        'arm': arm,
        'setting': chosen,
        'seeds': seeds,
        'metrics': {
            'frechet': distance,
            'precision': precision,
            'recall': 0.97 - 0.012 * distance - 0.08 * (arm == 'cfg') + noise(0.008),
            'density': 0.7 + 0.35 * quality + noise(0.01),
            'coverage': 0.99 - 0.011 * distance + noise(0.005),
            'accuracy': None if arm.startswith('uncond') else 0.999 - 0.004 * distance,
            'class_variance_ratio': variety + noise(0.01),
        },
        'errors': errors,
        'nfe': {'main': 63, 'guide': 0 if relative == 1 else 26 if arm == 'interval' else 63},
        'cost': {'relative': relative},
        'seconds': 9.4 * relative + noise(0.2),
        'images': seeds[1],
    }
    reach = lambda name: [found['metrics'][name] + t * errors[name] for t in (-1.96, 1.96)]
    return {**found, 'intervals': {name: reach(name) for name in errors}}


def rows_of(arm, rng):
    """Search, curve and final rows of one arm: a parabola in log w and log EMA."""
    _, _, guide, uncond, best, weight, _ = ARMS[arm]
    base = 16.2 if arm.startswith('uncond') else 9.1
    bend = (base - best) / max(math.log(weight), 0.1) ** 2

    def distance(w, ema):
        off = math.log(ema[0] / 0.1) ** 2 + 0.4 * math.log(ema[1] / 0.05) ** 2
        return (best + bend * math.log(w / weight) ** 2) * (1 + 0.5 * off) * rng.normal(1, 0.015)

    guided = guide or uncond
    for i in range(48):
        ema = tuple(rng.choice(STDS, 2)) if i < 30 else (0.1, 0.05)
        w = round(float(rng.uniform(1, 3.5)) if i < 30 else weight + rng.normal(0, 0.2), 2)
        w = w if guided else 1.0
        yield row(arm, 'search', i, distance(w, ema), rng, [0, 1500], setting(arm, w, ema))
    for i, w in enumerate(np.arange(1, 3.51, 0.25) if guided else ()):
        w = float(w)
        yield row(arm, 'curve', i, distance(w, (0.1, 0.05)), rng, [0, 1500], setting(arm, w))
    if arm == 'autoguidance':
        for i, ema in enumerate((m, g) for m in STDS for g in STDS):
            yield row(
                arm, 'heatmap', i, distance(weight, ema), rng, [0, 1500], setting(arm, None, ema)
            )
    values = [1.03 * best * rng.normal(1, 0.025) for _ in BLOCKS]
    if arm in ('none', 'cfg', 'autoguidance'):
        yield from rows_of_steps(arm, values, rng)
    for i, block in enumerate(BLOCKS):
        yield row(arm, 'final', i, values[i], rng, block, setting(arm))


def rows_of_steps(arm, values, rng):
    """The final settings with other numbers of sampler steps."""
    for count, worse in STEPS.items():
        for i, block in enumerate(BLOCKS):
            name, value = f'{count}-{i}', worse * values[i]
            found = row(arm, 'steps', name, value, rng, block, setting(arm))
            calls = {who: n and 2 * count - 1 for who, n in found['nfe'].items()}
            yield {**found, 'steps': count, 'nfe': calls}


def write_rows(file, rows):
    files.write_text(file, ''.join(json.dumps(files.plain(each)) + '\n' for each in rows))


def write_run(folder, scale, rng):
    name, rows = folder.name, []
    total = total_of(scale)
    files.write_json(folder / 'config.json', {'seed': 0, 'network': {'name': 'edm2_unet'}})
    for nimg in range(4096, total + 1, 4096):
        level = scale * (0.4 + 3 * (nimg / 4096) ** -0.6) * rng.normal(1, 0.04)
        hump = [0.3 + 0.7 * math.exp(-((i - 3) ** 2) / 6) for i in range(len(SIGMAS))]
        errors = {sigma: level * height for sigma, height in zip(SIGMAS, hump)}
        metrics = {'nimg': nimg, 'step': nimg // 128, 'loss': level - 1.2, 'error': level}
        metrics |= {'error_by_sigma': errors, 'images_per_second': 900.0, 'run': name}
        rows.append(metrics)
    write_rows(folder / 'metrics.jsonl', rows)


def write_samples(folder, rng):
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = [np.flatnonzero(digits.target == c)[r] for r in range(6) for c in range(10)]
    real, labels = digits.images[order] * 15.9375, digits.target[order].astype(np.int32)
    dirt = rng.normal(0, 1, real.shape)
    for arm, about in ARMS.items():
        dirty = np.clip(real * (1 - about[4] / 60) + dirt * about[4] * 3, 0, 255)
        shown = np.full_like(labels, -1) if arm.startswith('uncond') else labels
        arrays = {'images': dirty.astype(np.uint8)[..., None], 'labels': shown}
        files.save_npz(folder / f'{arm}.npz', arrays)


def networks():
    """What each network costs: a guide with less width 0.27 of main."""
    found = {}
    for name, scale in RUNS.items():
        flops = MAIN_FLOPS * (0.27 if name in SMALL else 1.0)
        nimg = total_of(scale)
        found[name] = {'forward_flops': flops, 'nimg': nimg, 'training_flops': 3 * flops * nimg}
    return found


def total_of(scale):
    return 2**19 if scale < 1.2 else 2**15


def training_of(arm, told):
    used = {setting(arm)['main']['run'], *ARMS[arm][2:4]} - {None}
    return sum(told[run]['training_flops'] for run in used)


def about():
    told = networks()
    names = ('title', 'description', 'guide', 'uncond')
    arms = {arm: dict(zip(names, ARMS[arm])) for arm in ARMS}
    train = 'python -m autoguide_jax train --config=configs/digits.py'
    return {
        'title': 'Synthetic study: made-up numbers to look at the report',
        'command': 'python -m autoguide_jax study --config=configs/digits.py --workdir=runs/digits',
        'created': '2025-01-01 12:00 UTC',
        'dataset': {'name': 'digits', 'num_images': 1797, 'resolution': 8, 'channels': 1},
        'sampler': {'name': 'heun', 'num_steps': 32},
        'metric_title': 'FD (digit classifier)',
        'features': {'noun': 'digit classifier', 'held_out_accuracy': 0.991},
        'networks': told,
        'arms': {
            a: {
                **arms[a],
                'main': setting(a)['main']['run'],
                'training_flops': training_of(a, told),
            }
            for a in ARMS
        },
        'search': {'budget': 48, 'images': 1500, 'seeds': [0, 1500]},
        'final': {'images': 1500, 'seed_blocks': BLOCKS},
        'provenance': {
            'git_commit': 'synthetic',
            'versions': {'python': '3.11', 'jax': '0.10.2'},
            'device': 'cpu',
        },
        'commands': [f'{train}:{run} --workdir=runs/digits/runs/{run}' for run in RUNS],
        'seconds': {'train': 312.4, 'search': 141.0, 'final': 61.2, 'curves': 33.9},
    }


def write(folder, seed=0):
    """Write a whole study directory and return its rows."""
    folder, rng = files.path(folder), np.random.default_rng(seed)
    files.write_json(folder / 'study.json', about())
    rows = [r for arm in ARMS for r in rows_of(arm, rng)]
    rows += [
        row('real', 'floor', i, 0.6 + rng.normal(0, 0.03), rng, b) for i, b in enumerate(BLOCKS)
    ]
    for each in rows:
        files.append_jsonl(folder / 'results.jsonl', each)
    for name, scale in RUNS.items():
        write_run(folder / 'runs' / name, scale, rng)
    write_samples(folder / 'samples', rng)
    return rows


if __name__ == '__main__':
    write(sys.argv[1])
