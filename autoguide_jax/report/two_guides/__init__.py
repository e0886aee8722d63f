"""The page of a sweep of two guides over (w, α), from its files alone (arXiv 2406.02507, Eq. 6).

    python -m autoguide_jax report --workdir=out/two_guides

sweep.json, results.jsonl and examples/ → report.html and figures/two_guides.png, .svg. Settings
that are not scored yet are left out.
"""

import sys

from autoguide_jax import files
from autoguide_jax.report import drawing
from autoguide_jax.report.two_guides import figure, page
from autoguide_jax.report.two_guides.read import read


def main(workdir):
    """Write report.html and figures/ into the workdir of a sweep; return a row per setting.

    Errors: ValueError if it is not a sweep of two guides over weights and shares, or unscored.
    """
    sweep = read(workdir)
    drawn = drawing.render(figure.draw, sweep)
    for suffix, content in drawn.items():
        files.write_bytes(sweep.workdir / 'figures' / f'two_guides{suffix}', content)
    target = sweep.workdir / 'report.html'
    files.write_text(target, page.build(sweep, drawn))
    print(f'wrote {target}', file=sys.stderr)
    return page.table_rows(sweep)
