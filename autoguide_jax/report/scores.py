"""Figures of scores: against guidance weight, over EMA lengths, quality and cost trade-offs."""

import math

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from autoguide_jax.report import style
from autoguide_jax.report.drawing import (
    HALF,
    WIDE,
    bar,
    half,
    label_points,
    limits,
    new,
    panels,
    score_axis,
    shades,
)
from autoguide_jax.report.stats import METRICS
from autoguide_jax.report.study import REAL, std_of, weight_of


def points(study, phase, arm):
    """Return (weight, distance, half of its 95 % interval or NaN) of an arm's rows of a phase."""
    found = [(weight_of(row), *study.estimate(row)) for row in study.of(phase, arm)]
    reach = lambda half: math.nan if half is None else half
    return sorted(((w, v, reach(h)) for w, v, _, h in found if v is not None), key=lambda p: p[:2])


def weights(study, look):
    """Distance against guidance weight, one panel per guided arm, the other arms in grey behind."""
    curves = {arm: points(study, 'curve', arm) for arm in study.arms}
    tries = {arm: points(study, 'search', arm) for arm in study.arms}
    shown = [a for a in study.arms if len({w for w, *_ in curves[a] + tries[a]} - {1.0}) > 0]
    if not shown:
        return None
    figure, axes = panels(len(shown), 0.4, 'guidance weight w', study.metric_title)
    low, high = _score_limits(study, shown, curves, tries)
    colours, shapes = style.colours(study, look), style.markers(study)
    for panel, arm in zip(axes, shown):
        for other in shown:
            panel.plot(*_columns(curves[other]), color=look.line, linewidth=1.2, zorder=1)
        _panel(panel, study, arm, look, colours[arm], shapes[arm])
        clipped = [(w, min(v, high * 0.995)) for w, v, _ in tries[arm]]
        panel.plot(
            *_columns(clipped), '.', color=colours[arm], alpha=0.35, markersize=5, markeredgewidth=0
        )
        panel.plot(*_columns(curves[arm]), color=colours[arm], zorder=3)
        panel.fill_between(*_band(curves[arm]), color=colours[arm], alpha=0.22, lw=0, zorder=2)
        panel.set_title(study.title(arm), wrap=True)
        score_axis(panel.yaxis, low, high)
    figure.legend(
        handles=_weight_legend(look), loc='outside lower left', ncols=5, labelcolor=look.muted
    )
    return figure


def _columns(points):
    return ([x for x, *_ in points], [y for _, y, *_ in points])


def _band(points):
    """(weights, lower ends, upper ends) of the intervals of a curve."""
    return ([w for w, *_ in points], [v - e for _, v, e in points], [v + e for _, v, e in points])


def _panel(panel, study, arm, look, colour, shape):
    """Draw what an arm is measured by: the unguided band, and its own final score."""
    other = study.unguided(arm)
    base = study.stat(other) if other else None
    if base:
        panel.axhline(base.mean, color=look.muted, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
        low, high = base.interval or (base.mean, base.mean)
        panel.axhspan(low, high, color=look.muted, alpha=0.16, lw=0)
    final = study.stat(arm)
    if final:
        bar(panel, weight_of({'setting': study.chosen(arm)}), final, colour, shape, reach=half)


def _score_limits(study, shown, curves, tries):
    """Return limits that show every curve and final score; bad tries are cut at the top."""
    arms = {*shown, *map(study.unguided, shown)} - {None}
    finals = [stat for arm in arms if (stat := study.stat(arm))]
    tried = [v for arm in shown for _, v, _ in tries[arm]]
    values = [v for arm in shown for _, v, _ in curves[arm]]
    values += [v for stat in finals for v in stat.interval or (stat.mean,)]
    lowest = min(tried + values)
    values = values or tried
    low, high = limits(lowest, max(values), 1.15, 1.12)
    return low, min(high, 60 * lowest) if lowest > 0 else high


def _weight_legend(look):
    return [
        Line2D([], [], color=look.muted, label='curve at the chosen EMA lengths, 95 %'),
        Line2D([], [], color=look.line, linewidth=1.2, label='other arms'),
        Line2D(
            [], [], color=look.muted, alpha=0.5, marker='.', linestyle='none', label='search tries'
        ),
        Line2D(
            [],
            [],
            color=look.muted,
            marker='o',
            linestyle='none',
            label='chosen w, fresh seeds, 95 %',
        ),
        Patch(color=look.muted, alpha=0.25, label='without guidance, 95 %'),
    ]


def ema_map(study, look):
    """Distance over EMA_m × EMA_g, the chosen pair framed, one panel per arm that has such rows."""
    arms = [arm for arm in study.arms if _cells(study, arm)]
    if not arms:
        return None
    sizes = [[len({k[i] for k in _cells(study, arm)}) for i in (0, 1)] for arm in arms]
    width = sum(max(0.72 * columns, 2.2) + 1.5 for columns, _ in sizes)
    height = max(max(0.46 * rows, 1.8) for _, rows in sizes) + 1.0
    figure, axes = new(min(width, WIDE), height, ncols=len(arms))
    cmap = LinearSegmentedColormap.from_list('score', [look.low, look.high])
    for panel, arm in zip(axes.flat, arms):
        _heat_panel(panel, study, arm, look, cmap)
    return figure


def _cells(study, arm):
    """Return (EMA_m, EMA_g) → distance."""
    found = {}
    for row in study.of('heatmap', arm):
        setting = row.get('setting') or {}
        key = std_of(setting, 'main'), std_of(setting, 'guide') or std_of(setting, 'uncond')
        if None not in key and (value := study.value(row)) is not None:
            found[key] = value
    return found


def _heat_panel(panel, study, arm, look, cmap):
    cells = _cells(study, arm)
    xs, ys = sorted({k[0] for k in cells}), sorted({k[1] for k in cells})
    grid = np.array([[cells.get((x, y), np.nan) for x in xs] for y in ys])
    low, scaled = np.nanmin(grid), shades(grid)
    panel.pcolormesh(scaled, cmap=cmap, edgecolors=look.paper, linewidth=1.5)
    for (i, j), value in np.ndenumerate(grid):
        text = '–' if np.isnan(value) else f'{value:.{study.places()}f}'
        bold = 'bold' if value == low else 'normal'
        ink = look.muted if np.isnan(value) else ink_on(cmap(scaled[i, j]))
        panel.text(j + 0.5, i + 0.5, text, ha='center', va='center', color=ink, weight=bold)
    panel.set_xticks(np.arange(len(xs)) + 0.5, [f'{x:g}' for x in xs])
    panel.set_yticks(np.arange(len(ys)) + 0.5, [f'{y:g}' for y in ys])
    setting = study.chosen(arm)
    chosen = std_of(setting, 'main'), std_of(setting, 'guide') or std_of(setting, 'uncond')
    if chosen[0] in xs and chosen[1] in ys:
        corner = xs.index(chosen[0]), ys.index(chosen[1])
        frame = Rectangle(corner, 1, 1, fill=False, edgecolor='#e06c00', linewidth=2.2, zorder=4)
        frame.set_clip_on(False)
        panel.add_patch(frame)
    panel.grid(False)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set(xlabel='EMA length of the main model', ylabel='EMA length of the guide')
    panel.set_title(f'{study.title(arm)}, w = {weight_of({"setting": setting}):g}')


def ink_on(colour):
    """Return dark or light ink, whichever can be read on a colour."""
    red, green, blue = to_rgb(colour)
    return '#10151c' if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else '#ffffff'


def trade_off(study, look):
    """Precision against recall, intervals in both, with the real images as the mark to reach."""
    pairs = {a: (study.stat(a, 'recall'), study.stat(a, 'precision')) for a in (*study.arms, REAL)}
    return _scatter(
        study, look, pairs, METRICS['recall'].title + ' → variation', 'Precision → quality'
    )


def cost(study, look):
    """Distance against computation per image."""
    pairs = {arm: (study.cost(arm), study.stat(arm)) for arm in study.arms}
    label = 'computation per image, 1 = main network alone'
    return _scatter(study, look, pairs, label, f'{study.metric_title}, lower is better')


def _scatter(study, look, pairs, xlabel, ylabel):
    pairs = {arm: (x, y) for arm, (x, y) in pairs.items() if x is not None and y is not None}
    if len(pairs.keys() - {REAL}) < 2:
        return None
    figure, axes = new(HALF, 4.3)
    panel = axes[0, 0]
    colours = style.colours(study, look) | {REAL: look.muted}
    shapes = style.markers(study) | {REAL: '*'}
    named = []
    for arm, (x, y) in pairs.items():
        if arm == REAL:
            bar(panel, x, y, colours[arm], shapes[arm], size=13)
        else:
            bar(panel, x, y, colours[arm], shapes[arm], reach=half)
        named.append((study.title(arm), colours[arm], x, y))
    panel.margins(0.16, 0.12)
    panel.set(xlabel=xlabel, ylabel=ylabel)
    label_points(panel, named, reach=half)
    return figure
