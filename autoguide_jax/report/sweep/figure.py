"""The figure of a sweep: score along one axis, and over two, others at the best setting."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter

from autoguide_jax.report import style
from autoguide_jax.report.drawing import HALF, WIDE, limits, new, plain_number, score_axis, shades
from autoguide_jax.report.scores import ink_on
from autoguide_jax.report.sweep import values, views

MOST_CELLS = 16


def draw(sweep, look):
    """The figure; None if no axis of numbers varies."""
    view = views.axes(sweep)
    if view['x'] is None:
        return None
    both = view['map_x'] is not None
    figure, axes = new(WIDE if both else HALF * 1.4, 3.6, ncols=1 + both)
    _curves(axes[0, 0], sweep, look, view)
    if both:
        _map(axes[0, 1], sweep, look, view)
    return figure


def _curves(panel, sweep, look, view):
    """A line for each value of the second axis; bands are 95 % intervals."""
    x, lines = view['x'], view['lines']
    found = views.best_by(sweep, [x, lines] if lines else [x], view['mode'])
    colours = [pair[look.name == 'dark'] for pair in style.FURTHER]
    ends = []
    for i, value in enumerate(sweep.axes[lines] if lines else [None]):
        keys = sorted(key for key in found if key[1:] in ((), (value,)))
        stats = [found[key].stat(sweep.distance) for key in keys]
        if not stats:
            continue
        at, mean = [key[0] for key in keys], np.array([s.mean for s in stats])
        half = np.array([s.half or np.nan for s in stats])
        label = values.told(lines, value) if lines else None
        colour = colours[i % len(colours)]
        marker = style.MARKERS[i % len(style.MARKERS)]
        panel.plot(at, mean, color=colour, marker=marker, markersize=5, label=label)
        panel.fill_between(at, mean - half, mean + half, color=colour, alpha=0.13, lw=0)
        ends += list(mean)
    if not ends:
        return
    low, high = limits(min(ends), max(ends), 1.12, 1.12)
    score_axis(panel.yaxis, low, high)
    scale = values.scale(x, sweep.axes[x])
    if scale != 'linear':
        panel.set_xscale('log', base=2 if scale == 'log2' else 10)
    panel.set_xticks(sweep.axes[x][:: max(1, len(sweep.axes[x]) // 8)])
    panel.xaxis.set_major_formatter(FuncFormatter(lambda v, _: values.text(x, v)))
    panel.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ''))
    panel.set(xlabel=values.title(x), ylabel=sweep.title(sweep.distance))
    if lines:
        panel.legend(labelcolor=look.muted, ncols=2)


def _map(panel, sweep, look, view):
    """The score over two axes, the lowest in bold."""
    x, y = view['map_x'], view['map_y']
    xs, ys = sweep.axes[x], sweep.axes[y]
    found = views.best_by(sweep, [x, y], view['mode'])
    mean = lambda key: found[key].stat(sweep.distance).mean if key in found else np.nan
    grid = np.array([[mean((a, b)) for a in xs] for b in ys])
    if np.isnan(grid).all():
        return
    cmap = LinearSegmentedColormap.from_list('score', [look.low, look.high])
    scaled = shades(grid)
    panel.pcolormesh(scaled, cmap=cmap, edgecolors=look.paper, linewidth=1.5)
    if max(grid.shape) <= MOST_CELLS:
        for (i, j), value in np.ndenumerate(grid):
            text = values.NONE if np.isnan(value) else plain_number(float(f'{value:.3g}'))
            bold = 'bold' if value == np.nanmin(grid) else 'normal'
            ink = look.muted if np.isnan(value) else ink_on(cmap(scaled[i, j]))
            panel.text(j + 0.5, i + 0.5, text, ha='center', va='center', color=ink, weight=bold)
    _ticks(panel.xaxis, x, xs)
    _ticks(panel.yaxis, y, ys)
    panel.set(xlabel=values.title(x), ylabel=values.title(y))
    panel.set_title(sweep.title(sweep.distance))
    panel.grid(False)


def _ticks(axis, name, found):
    step = max(1, -(-len(found) // 10))
    places = np.arange(0, len(found), step)
    axis.set_ticks(places + 0.5, [values.text(name, found[i]) for i in places])
