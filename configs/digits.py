"""Handwritten digits (8×8, 1797 real images inside scikit-learn, no download): runs and study.

    python -m autoguide_jax train --config=configs/digits.py:main  --workdir=runs/digits/main
    python -m autoguide_jax train --config=configs/digits.py:guide --workdir=runs/digits/guide
"""

from ml_collections import ConfigDict

TOTAL = 2**19


def network(channels):
    return {
        'name': 'edm2_unet',
        'model_channels': channels,
        'channel_mult': (1, 2),
        'num_blocks': 1,
        'attn_resolutions': (4,),
        'channels_per_head': channels,
    }


def train(channels, total_nimg, labels=True):
    return {
        'data': {'name': 'digits', 'labels': labels},
        'network': network(channels),
        'optim': {'lr': 0.01, 'ref_batches': 1000.0, 'rampup_nimg': 8192},
        'ema': {'stds': (0.05, 0.10)},
        'train': {
            'total_nimg': total_nimg,
            'batch_size': 128,
            'snapshot_nimg': max(total_nimg // 32, 1024),
            'checkpoint_nimg': total_nimg // 4,
            'log_nimg': 4096,
        },
    }


RUNS = {
    'main': train(32, TOTAL),
    'guide': train(16, TOTAL // 16),
    'uncond': train(32, TOTAL, labels=False),
}


def get_config(arg='main'):
    return ConfigDict(RUNS[arg])
