"""The paper's 2-D example (arXiv 2406.02507, Fig. 1 and 2, App. C), with exact scores and metrics.

    python -m autoguide_jax study --config=configs/toy.py         --workdir=runs/toy     all of it
    python -m autoguide_jax study --config=configs/toy.py:quick   --workdir=runs/toy1    one seed
    python -m autoguide_jax train --config=configs/toy.py:main    --workdir=runs/toy-main

Runs: main (4 layers × 64, 4096 iterations of 4096 points), guide (32 wide; the paper's guide is its
state after 512 iterations), narrow (16 wide), cfg_guide (32 wide, 512 iterations, both classes),
few_points (main on 1024 points only, by denoising score matching). Ages of guides: 2^6 … 2^12
iterations. `quick` has one seed, fewer points and weights, guides of up to 2^9 iterations, and no
few_points.
Cost: study 54 minutes on 2 cores that ran tests as well (31 of them training); quick 3:48.
Expected, five seeds: outliers at 1 % 0.117 ± 0.012 unguided (coverage 0.98, branch KL 0.020), 0.092
± 0.011 with autoguidance at w = 2 (0.88, 0.144), 0.105 ± 0.017 with CFG at w = 2 (0.58, 0.55);
input noise 10 % guided by 20 % recovers the network at w = 2.0, dropout 5 % by 10 % at 1.7 ± 0.1.
"""

from ml_collections import ConfigDict

BATCH = 4096
STD = 0.01
AGES = tuple(BATCH * 2**k for k in range(6, 13))
PAPER = 512 * BATCH


def run(width, iterations, classes='A', **more):
    total = iterations * BATCH
    return {
        'data': {'name': 'toy', 'classes': classes},
        'latents': {'name': 'points'},
        'network': {'name': 'toy_mlp', 'width': width},
        'denoiser': {'name': 'log_density'},
        'loss': {'name': 'score_matching'},
        'optim': {'lr': 0.01, 'ref_batches': 512.0, 'rampup_nimg': 0},
        'ema': {'stds': (STD, 0.15)},
        'train': {
            'total_nimg': total,
            'batch_size': BATCH,
            'snapshot_nimg': total,
            'snapshot_at': tuple(age for age in AGES if age < total),
            'checkpoint_nimg': max(total // 4, BATCH),
            'log_nimg': 32 * BATCH,
        },
        **more,
    }


def runs(age=4096):
    """age: iterations of the guides."""
    few = run(64, 4096, loss={'name': 'edm2', 'p_mean': -2.3, 'p_std': 1.5})
    few['data']['max_images'] = 1024
    return {
        'main': run(64, 4096),
        'guide': run(32, age),
        'narrow': run(16, age),
        'cfg_guide': run(32, 512, 'AB'),
        'few_points': few,
    }


def network(run, nimg=0, std=STD, **degrade):
    found = {'run': run, 'std': std, 'nimg': nimg}
    return {**found, 'degrade': degrade} if degrade else found


MAIN, GUIDE, CFG = network('main'), network('guide', PAPER), network('cfg_guide')
OWN_PAST = network('main', PAPER, 0.15)


def arm(title, description='', main=MAIN, weight=1.0, interval=(0.0, float('inf')), **guides):
    rule = {'weight': weight, 'interval': interval}
    return {'title': title, 'description': description, 'main': main, 'guidance': rule, **guides}


def arms():
    found = {
        'exact': arm('Exact score', 'The sampler with the true score.', network('exact')),
        'none': arm('No guidance', 'The main network alone.'),
        'guide_alone': arm('Guide alone', '32 wide, 512 iterations.', GUIDE),
        'truncation': arm(
            'Naive truncation, score × 1.4',
            'Guided by a network that knows nothing (score 0).',
            weight=1.4,
            guide=network('flat'),
        ),
    }
    for w in (2, 3, 4):
        found[f'autoguidance_{w}'] = arm(f'Autoguidance, w = {w}', weight=float(w), guide=GUIDE)
    for w in (2, 4):
        found[f'cfg_{w}'] = arm(f'CFG, w = {w}', weight=float(w), uncond=CFG)
    # w(σ) − 1 = 3 in (0.003, 0.013] and 0.2 in (0.013, 0.3]: Eq. 6 with one network in both roles.
    found['recipe'] = arm(
        'Own past, w(σ) = 4, then 1.2',
        'Guided by the main network after 512 iterations, w = 4 in (0.003, 0.013], 1.2 to 0.3.',
        weight=4.2,
        interval=(0.003, 0.013),
        guide=OWN_PAST,
        uncond=OWN_PAST,
    )
    found['recipe']['guidance'] |= {'alpha': 3 / 3.2, 'uncond_interval': (0.013, 0.3)}
    return found


def harmed(**degrade):
    return network('main', **degrade)


def degradations():
    dropout = [harmed(name='dropout', rate=rate) for rate in (0.05, 0.10)]
    noise = [harmed(name='input_noise', amount=amount) for amount in (0.1, 0.2)]
    found = {
        'dropout': ('Dropout 5 % by 10 %', dropout[0], dropout[1]),
        'noise': ('Input noise 10 % by 20 %', noise[0], noise[1]),
        'dropout_by_noise': ('Dropout 5 % by input noise 20 %', dropout[0], noise[1]),
        'noise_by_dropout': ('Input noise 10 % by dropout 10 %', noise[0], dropout[1]),
        'own_dropout': ('Control: main by its own dropout 10 %', MAIN, dropout[1]),
        'quantised': (
            'Control: main by itself in 4 bits', MAIN, harmed(name='quantised', bits=4)
        ),
        'few_points': ('Control: main by few points', MAIN, network('few_points')),
    }  # fmt: skip
    return {
        name: arm(title, main=main, guide=guide) for name, (title, main, guide) in found.items()
    }


def study(seeds, age, ages, points, **counts):
    """counts: points of the parts."""
    families = {
        'autoguidance': arm('Autoguidance', weight=2.0, guide=GUIDE),
        'own_past': arm('Guided by its own past', weight=2.0, guide=OWN_PAST),
        'cfg': arm('CFG', weight=2.0, uncond=CFG),
    }
    return {
        'kind': 'toy',
        'title': 'Autoguidance where the truth is known',
        'seeds': seeds,
        'runs': runs(age),
        'arms': arms(),
        'order': tuple(arms()),
        'points': points,
        'sampler': {'name': 'heun', 'num_steps': 32, 'sigma_max': 5.0},
        'degradation': {'pairs': degradations(), 'points': counts['degradation']},
        'guides': {
            'runs': ('narrow', 'guide', 'main'),
            'nimg': ages,
            'weights': (1.25, 1.5, 2.0, 3.0),
            'points': counts['guides'],
        },
        'trade_off': {
            'families': families,
            'weights': (1.25, 1.5, 2.0, 3.0, 4.0),
            'intervals': (0.0, float('inf'), 0.0, 0.3, 0.0, 0.03, 0.003, 0.02),
            'points': counts['trade_off'],
        },
        'pictures': {'arms': ('exact', 'none', 'cfg_4', 'truncation', 'autoguidance_3')},
    }


def quick():
    """One seed, fewer points and weights, few batch sizes (each is compiled), short guides."""
    counts = {'degradation': 2**9, 'guides': 2**12, 'trade_off': 2**12}
    found = study((0,), 512, AGES[:4], 2**14, **counts) | {'batch_size': 2**12}
    found['degradation']['weights'] = (1.0, 1.5, 2.0, 2.5)
    found['guides']['weights'] = (1.5, 2.0, 3.0)
    # The control that trains as long as main.
    found['runs'].pop('few_points')
    found['degradation']['pairs'].pop('few_points')
    return found


def get_config(arg='study'):
    if arg == 'study':
        counts = {'degradation': 2**11, 'guides': 2**13, 'trade_off': 2**14}
        return ConfigDict(study((0, 1, 2, 3, 4), 4096, AGES, 2**16, **counts))
    if arg == 'quick':
        return ConfigDict(quick())
    if arg not in runs():
        raise ValueError(f'configs/toy.py:{arg}: known are study, quick, {", ".join(runs())}')
    return ConfigDict(runs()[arg])
