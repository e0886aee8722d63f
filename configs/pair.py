"""A main network and its guide: sampling by hand.

    python -m autoguide_jax sample --config=configs/pair.py --workdir=out/a \
        --config.main.run=runs/digits/main --config.main.std=0.10 \
        --config.guide.run=runs/digits/guide --config.guide.std=0.05 --config.guidance.weight=2.0

Cost: 2N − 1 evaluations of the main network per image, and of the guide inside its interval.
Classifier-free guidance: give the second network as --config.uncond.run instead of guide.run.
"""

from ml_collections import ConfigDict


def get_config(arg=None):
    return ConfigDict(
        {
            'main': {'run': '', 'std': 0.10},
            'guide': {'run': '', 'std': 0.10},
            'guidance': {'weight': 1.0, 'interval': (0.0, float('inf'))},
            'sampler': {'name': 'heun', 'num_steps': 32},
            'sample': {'seeds': '0-63', 'batch_size': 64},
        }
    )
