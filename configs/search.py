"""Find w and both EMA lengths of one pair with a tenth of the images of their grid.

    python -m autoguide_jax search --config=configs/search.py --workdir=out/search \\
        --config.main.run=runs/digits/main --config.guide.run=runs/digits/guide

w goes from 1 to 3.5 in steps of 0.05 as in the paper (arXiv 2406.02507, App. B.1), EMA lengths in
steps of 0.01 through the range that the snapshots of the digits reach. --config.search.name is
halving (default), coordinate, gaussian_process, sobol, grid. configs/search.py:paper has the
paper's steps of 0.005 in the same range, searched by lines and then by a local grid. The best
three settings are scored again on three fresh sets of seeds, and only those scores are to be
quoted.
Guides of several runs or ages: --config.sweep.guide_run=…, --config.sweep.guide_nimg=…, or a
function sweep() in a copy of this file (head of autoguide_jax/sweep/grid.py).
Cost: at most what the cost plan says, which is printed first; --config.budget.plan_only=true
prints no more than that, --config.budget.images and --config.budget.hours refuse what costs more.
"""

from ml_collections import ConfigDict

# name → EMA lengths, settings of the search
SPACES = {
    'coarse': ('0.05,0.06,…,0.20', {}),
    'paper': ('0.05,0.055,…,0.20', {'name': 'coordinate'}),
}


def get_config(arg='coarse'):
    if arg not in SPACES:
        raise ValueError(f'configs/search.py:{arg}: known are {", ".join(SPACES)}')
    lengths, search = SPACES[arg]
    return ConfigDict(
        {
            'main': {'run': '', 'std': 0.10},
            'guide': {'run': '', 'std': 0.10},
            'sampler': {'name': 'heun', 'num_steps': 16},
            'sweep': {'weight': '1.0,1.05,…,3.5', 'main_std': lengths, 'guide_std': lengths},
            'search': search,
            'score': {'images': 1000, 'repeats': 3, 'batch_size': 250, 'classes': 'balanced'},
        }
    )
