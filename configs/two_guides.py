"""CFG and autoguidance at once (arXiv 2406.02507, App. B.2, Eq. 6), over (w, α).

    D = D_m + (w_u − 1)(D_m − D_u) + (w_c − 1)(D_m − D_c)
    w_u = (1−α)(w−1) + 1   CFG by the unconditional network D_u
    w_c = α(w−1) + 1       autoguidance by the worse conditional network D_c

α = 0 is CFG alone, α = 1 autoguidance alone, w = 1 no guidance. On the digits of `make demo` (or
train the three by configs/digits.py:main, :guide and :uncond into runs/digits/runs/):

    python -m autoguide_jax sweep  --config=configs/two_guides.py --workdir=out/two_guides
    python -m autoguide_jax sample --config=configs/two_guides.py:sample --workdir=out/two \
        --config.guidance.weight=1.35 --config.guidance.alpha=0.25

The first scores every (w, α) on three sets of seeds; `report --workdir=out/two_guides` then draws
figures/two_guides.png and writes report.html. The second draws images at one (w, α).
Networks of your own: --config.main.run, --config.guide.run and --config.uncond.run, and in the
sweep the real images as --config.data.name=folder --config.data.path=…; uncond may be a labelled
network that was trained with label dropout, main itself for instance.
Cost: 78,000 images at up to 2.26 times the work of one unguided; about 12 minutes of one core.
Expected: FD (digit classifier) 0.47 ± 0.01 at w = 1.35, α = 0.25 or 0.5; 0.48 for CFG alone, 0.53
for autoguidance alone, 0.66 ± 0.02 without guidance; 0.66 and more at w = 2, for every α.
EMA lengths are the tracked 0.10 for all, not searched for: it is not a comparison of the ends.
"""

from ml_collections import ConfigDict

RUNS = 'runs/digits/runs'
PAIR = {
    'main': {'run': f'{RUNS}/main', 'std': 0.10},
    'guide': {'run': f'{RUNS}/guide', 'std': 0.10},
    'uncond': {'run': f'{RUNS}/uncond', 'std': 0.10},
    'sampler': {'name': 'heun', 'num_steps': 14},
}
PARTS = {
    'sweep': {
        'guidance': {'weight': 1.0, 'alpha': 0.0},
        'sweep': {
            'weight': (1.0, 1.1, 1.2, 1.35, 1.5, 2.0),
            'alpha': (0.0, 0.25, 0.5, 0.75, 1.0),
        },
        'score': {
            'images': 1000,
            'repeats': 3,
            'first_seed': 2_000_000,
            'classes': 'balanced',
            'examples': 10,
            'batch_size': 500,
            'metrics': ('frechet', 'precision', 'recall'),
        },
    },
    'sample': {
        'guidance': {'weight': 1.35, 'alpha': 0.5},
        'sample': {'seeds': '0-99', 'classes': 'balanced', 'batch_size': 100},
    },
}


def get_config(arg='sweep'):
    if arg not in PARTS:
        raise ValueError(f'configs/two_guides.py:{arg}: known are {", ".join(PARTS)}')
    return ConfigDict(PAIR | PARTS[arg])
