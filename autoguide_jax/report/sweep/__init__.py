"""The page of a sweep or a search of settings, from its files alone.

    python -m autoguide_jax report --workdir=out/sweep

sweep.json, results.jsonl and examples/ → report.html and figures/. Settings that are not scored yet
are left out. A sweep of two guides over weight and share opens with its own figure.
"""

import sys

from autoguide_jax import files
from autoguide_jax.report import drawing, two_guides
from autoguide_jax.report.sweep import figure, page, table
from autoguide_jax.report.sweep.read import read


def main(workdir):
    """Write report.html and figures/ into the workdir of a sweep; return a row per setting.

    Errors: ValueError if it is not a sweep, or nothing is scored yet.
    """
    sweep = read(workdir)
    special = None
    if two_guides.fits(sweep.meta, sweep.rows, sweep.axes):
        special = two_guides.main(workdir)
    drawn = {}
    if special is None and sweep.full:
        drawn = drawing.render(figure.draw, sweep)
        for suffix, content in drawn.items():
            files.write_bytes(sweep.workdir / 'figures' / f'sweep{suffix}', content)
    target = sweep.workdir / 'report.html'
    first = {} if special is None else {'opening': special.opening, 'scores': special.scores}
    files.write_text(target, page.build(sweep, drawn, **first))
    print(f'wrote {target}', file=sys.stderr)
    return table.rows(sweep) if special is None else special.rows
