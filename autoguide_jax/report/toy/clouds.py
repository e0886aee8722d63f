"""Samples of the arms over the truth (Fig. 1 of the paper)."""

import textwrap

from autoguide_jax.report.drawing import WIDE, new
from autoguide_jax.report.toy.drawing import bare, colour, dots, truth
from autoguide_jax.report.toy.read import value

SHOWN = 8192


def draw(study, look):
    """One panel per arm, all over the same extent."""
    named = study.picture('arms') or [n[7:] for n in study.arrays if n.startswith('clouds/')]
    arms = [arm for arm in named if f'clouds/{arm}' in study.arrays]
    if not arms or 'density/truth' not in study.arrays:
        return None
    x, y = (study.arrays[f'density/{name}'] for name in 'xy')
    titles = [f'({chr(97 + i)}) {study.title(arm)}' for i, arm in enumerate(arms)]
    titles = [textwrap.fill(title, 26) for title in titles]
    head = 0.12 + 0.16 * max(title.count('\n') + 1 for title in titles)
    columns = len(arms) if len(arms) <= 5 else -(-len(arms) // 2)
    rows = -(-len(arms) // columns)
    side = WIDE / columns
    tall = side * (y[-1] - y[0]) / (x[-1] - x[0])
    height = rows * (tall + 0.36 + head)
    margins = {'left': 0.002, 'right': 0.998, 'bottom': 0.36 / height, 'top': 1 - head / height}
    margins |= {'wspace': 0.05, 'hspace': (0.36 + head) / tall}
    figure, axes = new(WIDE, height, margins, nrows=rows, ncols=columns)
    for i, panel in enumerate(axes.flat):
        if i >= len(arms):
            panel.set_visible(False)
            continue
        points = study.arrays[f'clouds/{arms[i]}'][:SHOWN]
        seen = (points > (x[0], y[0])).all(1) & (points < (x[-1], y[-1])).all(1)
        truth(panel, study, look, fill=0.24, line=0.55, width=0.4)
        dots(panel, points[seen], colour('cfg', look), 0.75, zorder=2)
        bare(panel, (x[0], x[-1]), (y[0], y[-1]))
        panel.spines[:].set_visible(False)
        panel.set_title(titles[i], loc='center', pad=5, linespacing=1.25)
        panel.set_xlabel(_caption(study, arms[i]), fontsize=8, labelpad=4, linespacing=1.35)
    return figure


def _caption(study, arm):
    seed = study.picture('seed')
    rows = [r for r in study.of('arms', arm=arm) if seed in (None, r['seed'])]
    if not rows:
        return ''
    out, covered = (value(rows[0], name) for name in ('outliers_1', 'coverage'))
    if out is None or covered is None:
        return ''
    return f'{percent(out)} outliers\n{percent(covered)} of the mass covered'


def percent(share):
    """A share with one decimal, or two digits if it is small."""
    return f'{100 * share:.1f} %' if share >= 0.01 else f'{100 * share:.2g} %'
