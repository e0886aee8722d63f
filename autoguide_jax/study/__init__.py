"""A comparison of guidance methods in which every arm is tuned equally.

python -m autoguide_jax study --config=configs/digits.py --workdir=runs/digits
"""

import numpy as np

from autoguide_jax import mesh, stop
from autoguide_jax.progress import Progress
from autoguide_jax.study.campaign import Study
from autoguide_jax.study.settings import Settings

__all__ = ['Settings', 'Study', 'main']


def main(settings, workdir):
    """Run the study in workdir, or what is left of it; returns the table of arms."""
    mesh.one_process('study')
    study = Study(settings, workdir)
    with stop.watch():
        study.write()
        try:
            study.train()
            study.open()
            with Progress(study.images_to_score(), 'img', 'score') as bar:
                study.search(bar)
                study.final(bar)
                study.scans(bar)
            study.floor()
            study.grids()
            study.finished = True
        finally:
            study.write()
    return [summary(study, name) for name in settings.arms]


def summary(study, name):
    """One row of the printed table: mean ± sd over the fresh seeds."""
    rows = study.final_rows(name)
    found = {'arm': study.settings.arms[name].title}
    for metric in study.settings.metrics:
        values = [row['metrics'][metric] for row in rows]
        known = [v for v in values if v is not None]
        if known:
            spread = f' ± {np.std(known, ddof=1):.3f}' if len(known) > 1 else ''
            found[metric] = f'{np.mean(known):.3f}{spread}'
    return {**found, **{k: round(float(v), 3) for k, v in study.chosen[name].items()}}
