"""The page of the study of the 2-D example, from its files alone.

study.json, results.jsonl, fields.jsonl and figures.npz → report.html and figures/: each figure as
light and dark PNG, SVG and PDF, and trajectories.gif. What is not there yet is left out.
"""

import sys

from autoguide_jax import files
from autoguide_jax.report import style
from autoguide_jax.report.sheet import Drawn
from autoguide_jax.report.toy import (
    closeup,
    clouds,
    drawing,
    page,
    paths,
    read,
    tables,
    trade,
    weights,
    why,
)

# name → (how to draw it, what it shows, how to read it)
FIGURES = {
    'clouds': (
        clouds.draw,
        'Samples of several arms over the region that holds the truth',
        'Grey: the region that holds 99 % of the truth. Points: samples, the same starting points '
        'in every panel. Points beside the branches are outliers; bare branches are lost mass. The '
        'numbers below are those of the training seed that is drawn.',
    ),
    'closeup': (
        closeup.draw,
        'Densities of main network and guide in a window, their ratio, and sample paths',
        '(a, b) Densities that the networks have learned at one noise level, with their scores; '
        'the line encloses 99 % of the truth’s mass in the window at that level. (c) Log ratio of '
        'the two: blue where the main network puts relatively more mass, orange where less, blank '
        'at the median over its mass; the arrows, its gradient, are where guidance pushes. Arrows '
        'grow with the root of the score. (d, e) Paths of the same starting points, from σ = 0.6 '
        'down; orange ends lie outside the region that holds 99 % of the truth (grey). (f) From '
        'where a sample ends without guidance to where it ends with it.',
    ),
    'trajectories_strip': (
        paths.strip,
        'Samples without and with guidance as the noise level falls',
        'The same starting points without and with guidance as σ falls; the view closes in on the '
        'window of the figure above. At σ = 0 orange points lie outside the region that holds 99 % '
        'of the truth (grey).',
    ),
    'trade_off': (
        trade.draw,
        'Outliers against branch KL of every family of guided settings',
        'Each line starts at no guidance (star) and goes on along the weights, one line per range '
        'of noise levels at which the guide acts; weights are written beside the line over all of '
        'them. Down and to the left is better. Green: at most half of the outliers at most 1.5 '
        'times the branch KL. Bars, where there are several seeds: ± sd.',
    ),
    'degradation': (
        weights.draw,
        'Shift and outliers of corrupted networks against the guidance weight',
        'Above: main and guide are the same network, harmed a little and harmed more; how far the '
        'guided samples are from those of the whole network. If guidance takes back the harm, the '
        'shift has its minimum at the predicted weight (orange). Below, the controls: a whole '
        'main network guided by a harmed one, outliers relative to no guidance. Thin lines: single '
        'training seeds; band: ± sd of the prediction.',
    ),
    'why': (
        why.draw,
        'Alignment of the errors of main network and guide, and what guides of all ages give',
        'Above: for one guide, the errors of main network and guide against the truth: cosine 1 '
        'means that guidance moves along the main network’s error, w* above 1 that it takes some '
        'of it back. They are measured on points of the data, on the paths of samples that end as '
        'outliers, and on all other paths. Below: the same on the paths of outliers for every '
        'guide by age, width and EMA length, with the best weight tried and what it gives; dashed: '
        'no guidance. Bands: ± sd over training seeds.',
    ),
}


def main(workdir):
    """Write report.html and figures/ into the directory of a toy study; return a row per arm.

    Errors: ValueError if workdir does not hold a study.
    """
    found = read.read(workdir)
    figures, folder = {}, found.workdir / 'figures'
    for name, (draw, alt, caption) in FIGURES.items():
        if drawn := drawing.render(draw, found):
            figures[name] = Drawn(drawn, alt, caption)
            for suffix, content in drawn.items():
                files.write_bytes(folder / f'{name}{suffix}', content)
    moving = {}
    for name, look in (('gif', style.LIGHT), ('gif-dark', style.DARK)):
        if content := paths.animation(found, look):
            moving[name] = content
            suffix = '-dark' if look is style.DARK else ''
            files.write_bytes(folder / f'trajectories{suffix}.gif', content)
    target = found.workdir / 'report.html'
    files.write_text(target, page.build(found, figures, moving))
    print(f'wrote {target}', file=sys.stderr)
    return tables.rows(found)
