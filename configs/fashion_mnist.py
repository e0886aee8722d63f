"""Fashion-MNIST: Table 1 of the autoguidance paper on 60,000 real images, padded to 32×32.

    apt-get download dataset-fashion-mnist
    prepare fashion_mnist --source=. --data_dir=data/tfds
    python -m autoguide_jax study --config=configs/fashion_mnist.py         --workdir=runs/fashion
    python -m autoguide_jax study --config=configs/fashion_mnist.py:reduced --workdir=runs/fashion_r
    python -m autoguide_jax train --config=configs/fashion_mnist.py:big --workdir=runs/fashion/big

`reduced` is for two cores without an accelerator: a quarter of the width, one block per level
instead of two, float32, 1/128 of the training, 12 Heun steps instead of 18, a classifier trained
for 1,000 steps, 8 evaluations of 200 images per search instead of 24 of 2,000, and 3 × 600 images
per score instead of 3 × 5,000. Its networks are far from converged: read it for the order of
methods under a small budget, not for what autoguidance does for a good model.
Runs: main; narrow (half as wide, as long: its snapshots are the guides); uncond (narrow, without
labels: the guide of CFG, as in EDM2); big (1.5 times as wide, twice as long: the reference of
`guides`, no part of the study). Single runs: :main, :narrow, :uncond, :big, :reduced-main, …
Arms: no guidance, CFG, CFG in an interval, autoguidance by narrow after 1/8 of the training, and
the paper's ablations. Training counts: a guide that is read at T/8 costs T/8.
Cost: see `study`'s plan, printed first: 153 PFLOP, an hour of a GPU that sustains 42 TFLOP/s on
such networks (not measured); reduced: 181 TFLOP, 57 minutes of two cores that had other work too.
"""

from ml_collections import ConfigDict

SIZES = {
    # width of main; images of main; batch; blocks per level
    'full': {'channels': 64, 'total': 2**22, 'batch': 256, 'blocks': 2, 'dtype': 'bfloat16'},
    'reduced': {'channels': 16, 'total': 2**15, 'batch': 64, 'blocks': 1, 'dtype': 'float32'},
}
# name → (width, length of training) over main's, labels
RUNS = {
    'main': (1.0, 1, True),
    'narrow': (0.5, 1, True),
    'uncond': (0.5, 1, False),
    'big': (1.5, 2, True),
}


def data(**settings):
    where = {'dataset': 'fashion_mnist', 'data_dir': 'data/tfds', 'pad': 2}
    return {'name': 'tfds', **where, **settings}


def run(name, channels, total, batch, blocks, dtype):
    wider, longer, labels = RUNS[name]
    width, length = int(channels * wider), total * longer
    return {
        'data': data(labels=labels),
        'network': {
            'name': 'edm2_unet',
            'model_channels': width,
            'channel_mult': (1, 2, 2),
            'num_blocks': blocks,
            'attn_resolutions': (8,),
            'channels_per_head': min(width, 64),
            'dtype': dtype,
        },
        'optim': {'lr': 0.015, 'ref_batches': 1000.0, 'rampup_nimg': 32 * batch},
        'ema': {'stds': (0.05, 0.10)},
        'train': {
            'total_nimg': length,
            'batch_size': batch,
            'snapshot_nimg': total // 32,
            'checkpoint_nimg': total // 8,
            'log_nimg': total // 64,
        },
    }


def arms(total):
    autoguided = {'main': 'main', 'guide': 'narrow', 'guide_nimg': total // 8}
    return {
        'none': {
            'title': 'No guidance',
            'description': 'The main network alone.',
            'main': 'main',
        },
        'cfg': {
            'title': 'CFG',
            'description': 'CFG by an unconditional network of half the width.',
            'main': 'main',
            'uncond': 'uncond',
        },
        'cfg_interval': {
            'title': 'CFG in an interval',
            'description': 'The same, active between two noise levels only.',
            'main': 'main',
            'uncond': 'uncond',
            'search_interval': True,
        },
        'autoguidance': {
            'title': 'Autoguidance',
            'description': 'Guide of half the width with 1/8 of the training.',
            **autoguided,
        },
        'same_ema': {
            'title': '… same EMA for both',
            'description': 'Autoguidance with one EMA length for main network and guide.',
            **autoguided,
            'same_std': True,
        },
        'training_only': {
            'title': '… reduced training only',
            'description': 'The guide is the main network itself after 1/8 of its training.',
            'main': 'main',
            'guide': 'main',
            'guide_nimg': total // 8,
        },
        'capacity_only': {
            'title': '… reduced capacity only',
            'description': 'The guide has half the width and all of the training.',
            'main': 'main',
            'guide': 'narrow',
        },
    }


def study(size):
    settings, full = SIZES[size], size == 'full'
    named = '' if full else ', reduced for two cores'
    methods = arms(settings['total'])
    return {
        'title': f'Fashion-MNIST at 32×32: Table 1{named}',
        'runs': {name: run(name, **settings) for name in RUNS if name != 'big'},
        'arms': methods,
        'order': tuple(methods),
        'search': {
            'budget': 24 if full else 8,
            'images': 2000 if full else 200,
            'weight': (1.05, 3.0),
            # What four moments of a guide, those of an eighth of the training, give within 10 %.
            'main_std': (0.04, 0.14),
            'guide_std': (0.04, 0.14),
        },
        'final': {'images': 5000 if full else 600, 'repeats': 3},
        'extra': {
            'weights': (1.0, 1.25, 1.5, 2.0, 2.5, 3.0),
            'heatmap_arm': 'autoguidance' if full else '',
            'heatmap_stds': (0.05, 0.075, 0.10, 0.125),
            # At equal FLOPs: guided sampling costs 1.26 times as much as that of main alone.
            'steps': (13, 26) if full else (15,),
            'steps_arms': ('none', 'cfg', 'autoguidance') if full else ('none',),
        },
        'sampler': {'name': 'heun', 'num_steps': 18 if full else 12},
        'data': data(),
        'features': {'name': 'classifier', **({} if full else {'recipe': {'max_steps': 1000}})},
        'metrics': ('frechet', 'precision', 'recall', 'density', 'coverage', 'class_accuracy'),
        'classes': 'balanced',
        'batch_size': 1000 if full else 200,
    }


def get_config(arg='study'):
    size, _, name = arg.rpartition('-') if arg != 'reduced' else ('reduced', '', 'study')
    size = size or 'full'
    if size not in SIZES or name not in ('study', *RUNS):
        known = ', '.join(['study', 'reduced', *RUNS, *(f'reduced-{r}' for r in RUNS)])
        raise ValueError(f'configs/fashion_mnist.py:{arg}: known are {known}')
    return ConfigDict(study(size) if name == 'study' else run(name, **SIZES[size]))
