"""A made-up sweep over w, EMA lengths, guide runs and guide ages; its numbers are formulas.

PYTHONPATH=. python tests/fake_sweep.py FOLDER
"""

import itertools
import math
import sys

import numpy as np

from autoguide_jax import files

WEIGHTS, STDS, AGES = (1.0, 1.5, 2.0, 2.5), (0.05, 0.1, 0.15), (2**20, 2**22, 2**24)
BLOCKS = (0, 1000, 2000)


def score(w, main, guide, age, i):
    """The distance on the i-th set of seeds: lowest at w = 2, EMA 0.1 and 0.05, age 4 Mi."""
    off = 0.3 * (w - 2) ** 2 + 40 * (main - 0.1) ** 2
    if w > 1:
        off += 20 * (guide - 0.05) ** 2 + 0.05 * abs(math.log2(age / 2**22))
    return 1 + off + 0.01 * (i - 1) + 0.001 * i * (w == 2.5)


def row(w, main, guide, age, i, count=1000, run='runs/guide'):
    """A row of results.jsonl on count images of the i-th set of seeds."""
    net = lambda run, std, nimg: {'run': run, 'std': std, 'nimg': nimg, 'degrade': None}
    value = score(w, main, guide, age, i) + 100 / count
    guided = 63 if w > 1 else 0
    return {
        'setting': {
            'main': net('runs/main', main, 2**26),
            'guide': net(run, guide, age),
            'uncond': None,
            'weight': w,
            'interval': [0.0, 'inf'],
            'alpha': 0.0,
        },
        'seeds': [BLOCKS[i], count],
        'metrics': {'frechet': value, 'recall': 0.9 - 0.1 * w + 0.002 * i, 'count': count},
        'errors': {'frechet': 0.02},
        'intervals': {'frechet': [value - 0.05, value + 0.05]},
        'nfe': {'main': 63, 'guide': guided},
        'cost': {'relative': 1 + 0.3 * (guided > 0)},
        'seconds': 2.0,
        'images': count,
        'measurement': f'm-{w:g}-{main:g}-{guide:g}-{age}-{run.replace("/", "-")}',
        'key': f'{w:g}-{main:g}-{guide:g}-{age}-{i}-{count}-{run}',
        'phase': 'sweep',
    }


def about(rows, **changes):
    """sweep.json of these rows."""
    settings = {'metrics': ['frechet', 'recall'], 'images': 1000, 'repeats': 3, 'first_seed': 0}
    return {
        'settings': {'score': {**settings, 'examples': 12}},
        'rows': [row['key'] for row in rows],
        'titles': {'frechet': 'FD (made-up)'},
        'reference': {'count': 5000},
        'data': {'name': 'nothing'},
        'created': '2025-01-01 12:00',
    } | changes


def grid():
    """Rows of the whole grid on all sets of seeds."""
    points = itertools.product(WEIGHTS, STDS, STDS, AGES, range(len(BLOCKS)))
    return [row(*point) for point in points]


def write(folder, rows=None, examples=12, asked=None, **changes):
    """Write the workdir of a sweep and return its rows."""
    folder = files.path(folder)
    rows = grid() if rows is None else rows
    meta = about(rows, **changes)
    files.write_json(folder / 'sweep.json', {**meta, 'rows': asked or meta['rows']})
    files.write_jsonl(folder / 'results.jsonl', rows)
    labels = np.arange(examples, dtype=np.int32) % 4
    for name in {row['measurement'] for row in rows} if examples else ():
        files.save_npz(
            folder / 'examples' / f'{name}.npz',
            {'images': images(name, examples), 'labels': labels, 'seeds': np.arange(examples)},
        )
    return rows


def images(name, count):
    """The examples of a measurement: 8×8 grey noise, its own for every name."""
    rng = np.random.default_rng(list(name.encode()))
    return rng.integers(0, 256, (count, 8, 8, 1)).astype(np.uint8)


if __name__ == '__main__':
    write(sys.argv[1])
