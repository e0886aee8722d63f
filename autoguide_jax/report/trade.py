"""What guidance trades: curves over w of distance, precision and recall."""

import numpy as np

from autoguide_jax.report import style
from autoguide_jax.report.drawing import limits, panels, score_axis
from autoguide_jax.report.stats import METRICS
from autoguide_jax.report.study import weight_of

APART = 13  # points


def points(study, arm, key):
    """Return [(w, Stat of recall, Stat of key)] of an arm's curve, by w; those with both."""
    found = [(weight_of(row), study.of_row(row, 'recall'), study.of_row(row, key))
             for row in study.of('curve', arm)]  # fmt: skip
    return sorted((p for p in found if None not in p[1:]), key=lambda p: p[0])


def chosen(study, arm, key):
    """Return (w, recall, key) of an arm's chosen setting on the seeds of its curve, or None.

    The search scored it there, with as many images: final scores of more images are lower.
    """
    seeds = next((row.get('seeds') for row in study.of('curve')), None)
    for row in study.of('search', arm):
        if row.get('seeds') == seeds and row.get('setting') == study.chosen(arm):
            stats = study.of_row(row, 'recall'), study.of_row(row, key)
            return None if None in stats else (weight_of(row), *stats)
    return None


def distance(study, look):
    """Distance against recall over w, one panel per guided arm."""
    return _draw(study, look, study.distance, study.metric_title)


def precision(study, look):
    """Precision against recall over w, one panel per guided arm."""
    return _draw(study, look, 'precision', METRICS['precision'].title)


def _draw(study, look, key, title):
    curves = {arm: points(study, arm, key) for arm in study.arms}
    curves = {arm: found for arm, found in curves.items() if len(found) > 1}
    if not curves:
        return None
    figure, axes = panels(len(curves), 0.2, 'recall', title)
    colours, shapes = style.colours(study, look), style.markers(study)
    for panel, arm in zip(axes, curves):
        for other in curves.values():
            panel.plot(*_means(other), color=look.line, linewidth=1.1, zorder=1)
        _unguided(panel, study, arm, look, key)
        _curve(panel, curves[arm], colours[arm])
        if best := chosen(study, arm, key):
            _mark(panel, best, colours[arm], shapes[arm], look)
        panel.set_title(study.title(arm), wrap=True)
    values = [stat.mean for found in curves.values() for *_, stat in found]
    if key == study.distance:
        score_axis(axes[0].yaxis, *limits(min(values), max(values), 1.15, 1.15))
    figure.draw_without_rendering()
    for panel, (arm, found) in zip(axes, curves.items()):
        _label(panel, found, colours[arm])
    return figure


def _means(found):
    return [x.mean for _, x, _ in found], [y.mean for *_, y in found]


def _curve(panel, found, colour):
    x, y = _means(found)
    halves = [[stat.half or 0.0 for stat in stats] for stats in list(zip(*found))[1:]]
    panel.errorbar(
        x, y, xerr=halves[0], yerr=halves[1], color=colour, ecolor=colour, elinewidth=0.8,
        marker='.', markersize=6, linewidth=1.4, zorder=3,
    )  # fmt: skip


def _label(panel, found, colour):
    """Write w beside the points of a curve, but not where one stands already."""
    ends = [found[0], found[-1]]
    taken = []
    for w, x, y in ends + found[1:-1]:
        at = panel.transData.transform((x.mean, y.mean)) / panel.figure.dpi * 72
        if all(np.hypot(*(at - other)) > APART for other in taken):
            place = {'xytext': (4, 4), 'textcoords': 'offset points', 'zorder': 6}
            panel.annotate(f'{w:g}', (x.mean, y.mean), fontsize=6.5, color=colour, **place)
            taken.append(at)


def _mark(panel, best, colour, shape, look):
    _, x, y = best
    panel.plot(
        [x.mean], [y.mean], shape, color=colour, markersize=9, markeredgecolor=look.ink,
        markeredgewidth=1.2, zorder=5,
    )  # fmt: skip


def _unguided(panel, study, arm, look, key):
    other = study.unguided(arm)
    found = chosen(study, other, key) if other else None
    if found:
        panel.plot([found[1].mean], [found[2].mean], 's', color=look.muted, markersize=6, zorder=2)
