"""The page of a study, sweep or search: one HTML file of tables, figures and samples.

    python -m autoguide_jax report --workdir=runs/digits

writes report.html and figures/ into the study directory, from files alone: study.json,
results.jsonl, runs/ and samples/, or sweep.json and examples/. It needs no device, and shows what
there is of an unfinished study.
"""

import sys

from autoguide_jax import files
from autoguide_jax.report import (
    compute,
    curves,
    drawing,
    guides,
    page,
    pareto,
    scores,
    sheet,
    strips,
    study,
    style,
    sweep,
    tables,
    toy,
    trade,
)

# name → (how to draw it, what it shows, how to read it)
FIGURES = {
    'weights': (
        scores.weights,
        'Distance against guidance weight, one panel per method',
        'Score against guidance weight w; w = 1 is no guidance. The line is swept at the method’s '
        'chosen EMA lengths on selection seeds; the small dots are the settings that its search '
        'tried (those off the scale at the top edge); the marker is the chosen w on fresh seeds. '
        'Bands and whiskers are 95 % intervals: those of the line follow from the standard error '
        'of each score, where it has one, those of the marker and of the dashed line from the '
        'fresh blocks. '
        'The line has fewer images, which makes most distances larger: compare lines with lines, '
        'and markers with the dashed line.',
    ),
    'ema': (
        scores.ema_map,
        'Distance over EMA lengths of main model and guide',
        'Score over both EMA lengths at the chosen w, on selection seeds. The frame is the pair '
        'that the search chose, bold the lowest cell. Darker, or brighter on a dark page, is '
        'better.',
    ),
    'trade_off': (
        scores.trade_off,
        'Precision against recall of every method',
        'Quality against variation, means with 95 % intervals. Up and to the right is better; '
        'guidance that trades variation for quality moves up and left.',
    ),
    'cost': (
        scores.cost,
        'Distance against computation per image',
        'What the guide costs: floating-point operations per image, relative to the main network '
        'alone. Whiskers are 95 % intervals. Down and to the left is better.',
    ),
    'recall': (
        trade.distance,
        'Distance against recall over guidance weights, one panel per method',
        'What each weight w (small numbers; left out where crowded) buys in distance and costs in '
        'variation, with 95 % '
        'intervals where scores have an error, on selection seeds at the chosen EMA lengths. The '
        'ringed marker is the chosen setting, the grey square the method without guidance, both on '
        'the same seeds; grey lines are the other methods. Down and to the right is better.',
    ),
    'precision_recall': (
        trade.precision,
        'Precision against recall over guidance weights, one panel per method',
        'The same weights: quality against variation. Up and to the right is better.',
    ),
    'pareto': (
        pareto.pareto,
        'Distance against computation and against recall, the methods that none dominates joined',
        'The line joins the methods that no other one beats in both; the others are pale. '
        'Means with 95 % intervals. Left: FLOPs of main and guide for an image. Down and left is '
        'better, on the right panel down and to the right.',
    ),
    'steps': (
        compute.steps,
        'Distance against computation per image, a curve per method over numbers of sampler steps',
        'Each marker is a number of sampler steps on the same fresh seeds; bands are 95 % '
        'intervals. Dotted: the computation of methods at the sampler’s own number of steps, where '
        'the table below compares all.',
    ),
    'search': (
        curves.search,
        'Best distance so far against evaluations spent in the search',
        'The best score found so far; the dot is where an arm’s search ended. Wild first tries may '
        'start above the frame.',
    ),
    'loss': (
        curves.loss,
        'Training loss against images seen, every run',
        'Training loss of every network, as logged (thin) and smoothed. Networks with and without '
        'labels solve different tasks: their losses are not a comparison.',
    ),
    'errors': (
        curves.errors,
        'Weighted denoising error against images seen by noise level',
        'Denoising error with the weight of the loss, by noise level σ, for every run.',
    ),
}
# For the README and for slides; the page shows these images itself.
SHEETS = {'hero': strips.hero, 'samples': strips.samples}


def main(workdir):
    """Write report.html and figures/ into a study directory; return the table's rows.

    The workdir of a sweep or search will do too, and that of a ranking of guides, of which the
    figure is drawn. Errors: ValueError if workdir is none of these.
    """
    if (files.path(workdir) / 'guides.json').exists():
        return guides.main(workdir)
    if (files.path(workdir) / 'sweep.json').exists():
        return sweep.main(workdir)
    record = files.path(workdir) / 'study.json'
    if record.exists() and (files.read_json(record) or {}).get('kind') == 'toy':
        return toy.main(workdir)
    found = study.read(workdir)
    figures = {}
    for name, (draw, alt, caption) in FIGURES.items():
        if drawn := drawing.render(draw, found):
            figures[name] = sheet.Drawn(drawn, alt, caption)
    drawn = {name: figure.files for name, figure in figures.items()}
    drawn |= {name: drawing.render(draw, found, (style.LIGHT,)) for name, draw in SHEETS.items()}
    for name, kinds in drawn.items():
        for suffix, content in kinds.items():
            files.write_bytes(found.workdir / 'figures' / f'{name}{suffix}', content)
    target = found.workdir / 'report.html'
    files.write_text(target, page.build(found, figures))
    print(f'wrote {target}', file=sys.stderr)
    return tables.rows(found)
