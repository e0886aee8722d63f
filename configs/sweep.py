"""Score a grid of weights and EMA lengths of one pair; compiles once.

    python -m autoguide_jax sweep --config=configs/sweep.py --workdir=out/sweep \
        --config.main.run=runs/digits/main --config.guide.run=runs/digits/guide \
        --config.sweep.weight=1.0,1.25,…,3.0 --config.sweep.guide_std=0.05,0.10

Cost: images × (2N − 1) evaluations per setting. Result: out/sweep/results.jsonl, best first.
"""

from ml_collections import ConfigDict


def get_config(arg=None):
    return ConfigDict(
        {
            'main': {'run': '', 'std': 0.10},
            'guide': {'run': '', 'std': 0.10},
            'sampler': {'name': 'heun', 'num_steps': 16},
            'sweep': {'weight': (1.0, 1.5, 2.0, 2.5, 3.0)},
            'score': {'images': 1000, 'batch_size': 250},
        }
    )
