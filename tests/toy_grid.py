"""The exhaustive grid of the 2-D example that searches are measured by: golden/search_toy.json.

    PYTHONPATH=. python tests/toy_grid.py WORKDIR [TABLE.json]

Trains a main network and a guide of configs/toy.py (seed 0), where they are not in WORKDIR, and
draws every guide age × EMA length of guide and main × w × upper end of the interval on the same
2¹³ starts. The score is outliers + KL: the share of points below the 1 % quantile of the truth's
log p, and the divergence of the branches (autoguide_jax/metrics/points.py). The first falls with
guidance, the second rises. Scored are the first 1/8, 1/4, 1/2 and all of the points, and the eight
eighths; both terms are larger for few points, KL by about branches/2n. Unguided points, w = 1, are
drawn once for all guides. Killed, the same command goes on. Cost: 4 minutes of training and 13 of
drawing on two cores that did other work as well.
"""

import itertools
import json
import math
import pathlib
import sys
import time

import jax
import numpy as np

from autoguide_jax import config, files, pairs, provenance, train
from autoguide_jax.generation import Programs
from autoguide_jax.metrics.points import PointScores
from autoguide_jax.mixture import mixture
from autoguide_jax.progress import Progress
from autoguide_jax.samplers import Heun

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / 'tests/golden/search_toy.json'
BATCH = 4096
AXES = {
    'guide_nimg': [BATCH * 2**k for k in range(6, 11)],
    'guide_std': [0.01, 0.05, 0.12, 0.25],
    'main_std': [0.01, 0.03, 0.1],
    'weight': [1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0],
    'interval_hi': [0.01, 0.03, 0.1, 0.3],
}
AGES = [*AXES['guide_nimg'], BATCH * 2**11]
# Snapshots of every EMA length of the grid: nothing is reconstructed.
RUNS = {
    'guide': {
        'ema': {'stds': AXES['guide_std']},
        'train': {
            'total_nimg': AGES[-1],
            'snapshot_nimg': AGES[-1],
            'snapshot_at': AGES[:-1],
            'checkpoint_nimg': AGES[-3],
        },
    },
    'main': {'ema': {'stds': AXES['main_std']}, 'train': {'snapshot_at': ()}},
}
POINTS, PARTS = 2**13, 8
COUNTS = [POINTS // k for k in (8, 4, 2, 1)]
SAMPLER = {'num_steps': 16, 'sigma_max': 5.0}


def train_runs(workdir):
    """Train the two networks, or what is left of them."""
    for name, changes in RUNS.items():
        tree = config.load(f'{ROOT}/configs/toy.py:{name}')
        tree |= {part: {**tree[part], **values} for part, values in changes.items()}
        train.main(config.parse(train.Settings, tree), workdir / name)


def points():
    """All points {axis: value}, the last axis fastest."""
    return [dict(zip(AXES, values)) for values in itertools.product(*AXES.values())]


def drawn(point):
    """What of a point decides its samples; without guidance the guide does not."""
    return point if point['weight'] != 1 else {k: point[k] for k in ('main_std', 'weight')}


def pair_of(point, workdir):
    """The Pair of a point."""
    main = pairs.NetworkRef(str(workdir / 'main'), point['main_std'])
    if point['weight'] == 1:
        return pairs.Pair(main)
    guide = pairs.NetworkRef(str(workdir / 'guide'), point['guide_std'], point['guide_nimg'])
    rule = pairs.GuidanceSettings(point['weight'], (0.0, point['interval_hi']))
    return pairs.Pair(main, guide, guidance=rule)


def score_all(workdir, file):
    """Add a row {point, scores, eighths, seconds} to file for every point not done."""
    settings = {files.content_hash(drawn(point)): drawn(point) for point in points()}
    done = {files.content_hash(row['point']) for row in files.read_jsonl(file)} & set(settings)
    todo = [point for name, point in settings.items() if name not in done]
    source, sampler, networks = mixture('A'), Heun(**SAMPLER), pairs.Networks()
    at_top = jax.vmap(lambda key: source.sample(key, 1, sampler.sigma_max)[0] / sampler.sigma_max)
    # One setting fills a batch; weights and intervals are arguments of the one program.
    programs = Programs(sampler, POINTS, 'off', start=lambda keys, shape: at_top(keys))
    with Progress(len(settings), 'settings', 'toy grid', done=len(done)) as bar:
        for point in todo:
            start = time.monotonic()
            calls, rules = networks.calls(pair_of(point, workdir))
            seeds, labels = np.arange(POINTS), np.full(POINTS, -1)
            row = scores_of(programs.images(calls, rules, seeds, labels))
            row |= {'point': point, 'seconds': time.monotonic() - start}
            files.append_jsonl(file, row)
            bar.update(1)


def scores_of(samples):
    """The scores of one setting's samples [n, 2] on parts of them."""
    judge = PointScores('A', distances=False)

    def of(part):
        metrics = judge.score([(part, None)])
        return metrics['outliers_1'] + metrics['kl']

    return {
        'scores': [of(samples[:count]) for count in COUNTS],
        'eighths': [of(part) for part in np.split(samples, PARTS)],
    }


def main(workdir, target=TARGET):
    """Train and score what is left, then write the table."""
    workdir = pathlib.Path(workdir).resolve()
    train_runs(workdir)
    file = workdir / 'rows.jsonl'
    score_all(workdir, file)
    found = {files.content_hash(row['point']): row for row in files.read_jsonl(file)}
    names = [files.content_hash(drawn(point)) for point in points()]
    rows, once = [found[name] for name in names], [found[name] for name in dict.fromkeys(names)]
    short = lambda values: [float(f'{value:.5g}') for value in values]
    commit = provenance.describe().get('git_commit')
    table = {
        'axes': AXES,
        'counts': COUNTS,
        'metric': 'outliers at 1 % + branch KL',
        'scores': [short(row['scores']) for row in rows],
        'eighths': [short(row['eighths']) for row in rows],
        'images_drawn': len(once) * POINTS,
        'seconds': round(math.fsum(row['seconds'] for row in once)),
        'sampler': {'name': 'heun', **SAMPLER},
        'provenance': {'config': 'configs/toy.py', 'commit': commit},
    }
    files.write_text(target, json.dumps(table, separators=(',', ':')) + '\n')
    print(f'{target}: {len(rows)} settings, {table["images_drawn"]} points')


if __name__ == '__main__':
    main(*sys.argv[1:])
