"""Handwritten digits (8×8 grey, 1797 real images inside scikit-learn, no download).

    python -m autoguide_jax study --config=configs/digits.py --workdir=runs/digits      all of it
    python -m autoguide_jax train --config=configs/digits.py:main  --workdir=runs/digits/main
    python -m autoguide_jax train --config=configs/digits.py:guide --workdir=runs/digits/guide

Runs: main; guide (half as wide, 1/4 of the training); guide_16 (the same, 1/16); early (the main
network after 1/4 of its training, with snapshots close enough for its own EMAs); small (the
guide's network, trained as long as main); uncond and uncond_guide (main and guide without labels).
1/16, the paper's ratio on ImageNet, is 64 steps here: such a guide is so much worse than main
(r ≫ 2) that the best weight, w* = r/(r−1), is hardly above 1. The study shows both. Fewer than
about 14 Heun steps inflate the variance of the samples, which hides the gain.
Cost: about 12 minutes on 2 cores without an accelerator; a single run 5 to 30 seconds.
"""

from ml_collections import ConfigDict

TOTAL = 2**15
GUIDE = TOTAL // 4


def run(channels, total_nimg, labels=True):
    return {
        'data': {'name': 'digits', 'labels': labels},
        'network': {
            'name': 'edm2_unet',
            'model_channels': channels,
            'channel_mult': (1, 2),
            'num_blocks': 1,
            'attn_resolutions': (4,),
            'channels_per_head': channels,
        },
        'optim': {'lr': 0.015, 'ref_batches': 1000.0, 'rampup_nimg': 2048},
        'ema': {'stds': (0.05, 0.10)},
        'train': {
            'total_nimg': total_nimg,
            'batch_size': 32,
            'snapshot_nimg': max(total_nimg // 32, 64),
            'checkpoint_nimg': total_nimg // 4,
            'log_nimg': min(2048, total_nimg // 8),
        },
    }


RUNS = {
    'main': run(16, TOTAL),
    'guide': run(8, GUIDE),
    'guide_16': run(8, TOTAL // 16),
    'early': run(16, GUIDE),
    'small': run(8, TOTAL),
    'uncond': run(16, TOTAL, labels=False),
    'uncond_guide': run(8, GUIDE, labels=False),
}

ARMS = {
    'none': {'title': 'No guidance', 'main': 'main', 'description': 'The main network alone.'},
    'cfg': {
        'title': 'CFG',
        'main': 'main',
        'uncond': 'uncond',
        'description': 'Classifier-free guidance by the unconditional network.',
    },
    'cfg_interval': {
        'title': 'CFG in an interval',
        'main': 'main',
        'uncond': 'uncond',
        'search_interval': True,
        'description': 'The same, active between two noise levels only.',
    },
    'autoguidance': {
        'title': 'Autoguidance',
        'main': 'main',
        'guide': 'guide',
        'description': 'Guide of half the width with 1/4 of the training.',
    },
    'autoguidance_16': {
        'title': 'Autoguidance, guide 1/16',
        'main': 'main',
        'guide': 'guide_16',
        'description': 'Guide of half the width with 1/16 of the training.',
    },
    'same_ema': {
        'title': '… same EMA for both',
        'main': 'main',
        'guide': 'guide',
        'same_std': True,
        'description': 'Autoguidance with one EMA length for main network and guide.',
    },
    'training_only': {
        'title': '… reduced training only',
        'main': 'main',
        'guide': 'early',
        'description': 'The guide is the main network after 1/4 of its training.',
    },
    'capacity_only': {
        'title': '… reduced capacity only',
        'main': 'main',
        'guide': 'small',
        'description': 'The guide has half the width and all of the training.',
    },
    'uncond_none': {
        'title': 'Unconditional, no guidance',
        'main': 'uncond',
        'description': 'The unconditional network alone.',
    },
    'uncond_autoguidance': {
        'title': 'Unconditional, autoguidance',
        'main': 'uncond',
        'guide': 'uncond_guide',
        'description': 'Guide: half the width, 1/4 of the training, without labels too.',
    },
}


def study():
    return {
        'title': 'Guiding a digit model with a bad version of itself',
        'runs': RUNS,
        'arms': ARMS,
        'order': tuple(ARMS),
        'search': {'budget': 10, 'images': 400, 'weight': (1.05, 2.5)},
        'final': {'images': 1500, 'repeats': 3},
        'extra': {
            'weights': (1.0, 1.25, 1.5, 2.0),
            'heatmap_arm': 'autoguidance',
            'heatmap_stds': (0.05, 0.10, 0.18),
        },
        'sampler': {'name': 'heun', 'num_steps': 14},
        'metrics': (
            'frechet',
            'precision',
            'recall',
            'density',
            'coverage',
            'class_accuracy',
            'class_variance_ratio',
        ),
        'classes': 'balanced',
        'batch_size': 500,
    }


def get_config(arg='study'):
    if arg != 'study' and arg not in RUNS:
        raise ValueError(f'configs/digits.py:{arg}: known are study, {", ".join(RUNS)}')
    return ConfigDict(study() if arg == 'study' else RUNS[arg])
