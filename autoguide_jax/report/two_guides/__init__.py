"""The opening of the page of a sweep of two guides over (w, α) (arXiv 2406.02507, Eq. 6).

figures/two_guides.png, .svg, and what stands before the parts that all sweeps have. Settings that
are not scored yet are left out.
"""

from typing import NamedTuple

from autoguide_jax import files
from autoguide_jax.report import drawing
from autoguide_jax.report.two_guides import figure, page
from autoguide_jax.report.two_guides.read import fits, read

__all__ = ['Special', 'fits', 'main']


class Special(NamedTuple):
    """opening: (title, HTML); scores: HTML; rows: a dict per setting."""

    opening: tuple[str, str]
    scores: str
    rows: list[dict]


def main(workdir):
    """Write figures/ into the workdir of a sweep of two guides that `fits`; return its Special."""
    sweep = read(workdir)
    drawn = drawing.render(figure.draw, sweep)
    for suffix, content in drawn.items():
        files.write_bytes(sweep.workdir / 'figures' / f'two_guides{suffix}', content)
    opening = page.TITLE, page.opening(sweep, drawn)
    return Special(opening, page.scores(sweep), page.table_rows(sweep))
