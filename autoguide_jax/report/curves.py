"""Figures over time: training loss, error by noise level, best score found so far."""

import math

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from autoguide_jax.report import style
from autoguide_jax.report.drawing import WIDE, images_seen, label_ends, limits, new, score_axis
from autoguide_jax.report.stats import number


def series(rows, value):
    """Return (nimg, value(row)) of the rows where both are numbers, nimg > 0."""
    pairs = [(number(row.get('nimg')), number(value(row))) for row in rows]
    return [(x, y) for x, y in pairs if x and y is not None]


def smooth(values):
    """Return running means over windows that grow in proportion to the index.

    On a logarithmic axis that is the same width everywhere; the first values stay as they are.
    """
    values = np.asarray(values, float)
    return np.array([values[i - i // 8 : i + i // 8 + 1].mean() for i in range(len(values))])


def _draw(panel, pairs, colour, **options):
    x, y = [p[0] for p in pairs], [p[1] for p in pairs]
    panel.plot(x, y, color=colour, linewidth=0.8, alpha=0.3)
    smoothed = smooth(y)
    panel.plot(x, smoothed, color=colour, **options)
    return smoothed[-1]


def _images_axis(panel, least, most):
    panel.set_xscale('log', base=2)
    steps = max(1, math.ceil(math.log2(max(most / least, 2)) / 6))
    panel.xaxis.set_major_locator(LogLocator(base=2.0**steps))
    panel.xaxis.set_major_formatter(FuncFormatter(images_seen))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _shown_range(lines):
    """Return limits for several series: the first steps would set the scale for all the rest."""
    values = [[y for _, y in pairs] for pairs in lines if pairs]
    return min(map(min, values)), max(np.percentile(v, 80) for v in values)


def loss(study, look):
    """Training loss against images seen, every run."""
    lines = {run: series(log, lambda row: row.get('loss')) for run, (_, log) in study.runs.items()}
    lines = {run: pairs for run, pairs in lines.items() if pairs}
    if not lines:
        return None
    figure, axes = new(WIDE, 3.5)
    panel, colours = axes[0, 0], style.run_colours(study, look)
    ends = [(run, colours[run], _draw(panel, p, colours[run])) for run, p in lines.items()]
    bottom, top = _shown_range(lines.values())
    panel.set_ylim(bottom - 0.05 * (top - bottom), top + 0.1 * (top - bottom) + 1e-9)
    seen = [x for pairs in lines.values() for x, _ in pairs]
    _images_axis(panel, min(seen), max(seen))
    panel.set(xlabel='training images seen', ylabel='training loss')
    figure.get_layout_engine().set(rect=(0, 0, 0.87, 1))
    label_ends(panel, ends)
    return figure


def errors(study, look):
    """Weighted denoising error against images seen, one panel per noise level."""
    names = {}
    for _, log in study.runs.values():
        for row in log:
            names |= dict.fromkeys(row.get('error_by_sigma') or {})
    names = [name for name in names if any(s for _, s in _error_lines(study, name))]
    if not names:
        return None
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure, axes = new(WIDE, 2.2 * rows + 0.5, nrows=rows, ncols=columns, sharex=True)
    colours = style.run_colours(study, look)
    seen = []
    for panel, name in zip(axes.flat, names):
        lines = {run: pairs for run, pairs in _error_lines(study, name) if pairs}
        for run, pairs in lines.items():
            _draw(panel, pairs, colours[run], linewidth=1.5, label=run)
            seen += [x for x, _ in pairs]
        panel.set_title(f'σ {name}')
        low, high = _shown_range(lines.values())
        score_axis(panel.yaxis, max(low, 1e-9) / 1.1, max(high, low, 1e-9) * 1.15)
    for i, panel in enumerate(axes.flat):
        panel.set_visible(i < len(names))
        _images_axis(panel, min(seen), max(seen))
        if len(names) - columns <= i < len(names):
            panel.set_xlabel('images seen')
            panel.xaxis.set_tick_params(labelbottom=True)
    for panel in axes[:, 0]:
        panel.set_ylabel('weighted error')
    handles = {
        label: handle
        for panel in axes.flat
        for handle, label in zip(*panel.get_legend_handles_labels())
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc='outside lower left',
        ncols=min(len(handles), 6),
        labelcolor=look.muted,
    )
    return figure


def _error_lines(study, name):
    """Return (run, (nimg, error at a noise level) pairs) for every run."""

    def error(row):
        return (row.get('error_by_sigma') or {}).get(name)

    return [(run, series(log, error)) for run, (_, log) in study.runs.items()]


def traces(study):
    """Return arm → best distance found after 1, 2, … evaluations of its search."""
    found = {}
    for arm in study.arms:
        scores = [study.value(row) for row in study.of('search', arm)]
        scores = [math.inf if score is None else score for score in scores]
        if scores:
            found[arm] = np.minimum.accumulate(scores)
    return found


def search(study, look):
    """Best distance so far against evaluations spent, every arm on the same selection seeds."""
    best = traces(study)
    finite = [v for trace in best.values() for v in trace if math.isfinite(v)]
    if not finite:
        return None
    figure, axes = new(WIDE, 3.6)
    panel, colours = axes[0, 0], style.colours(study, look)
    longest = max(map(len, best.values()))
    ends = []
    for arm, trace in best.items():
        # An arm that is done keeps its best: the line goes on to the right edge, thinner.
        panel.step(np.arange(1, len(trace) + 1), trace, where='post', color=colours[arm])
        panel.plot([len(trace), longest], [trace[-1]] * 2, color=colours[arm], linewidth=0.8)
        panel.plot(len(trace), trace[-1], '.', color=colours[arm], markersize=8)
        end = trace[-1] if math.isfinite(trace[-1]) else None
        ends.append((study.title(arm), colours[arm], end))
    starts = sorted(trace[0] for trace in best.values() if math.isfinite(trace[0]))
    middle = starts[len(starts) // 2] if starts else 0
    high = min(max(finite), 4 * middle) if middle > 0 else max(finite)
    score_axis(panel.yaxis, *limits(min(finite), high, 1.15, 1.1))
    panel.set_xlim(1, max(longest, 2))
    panel.set(xlabel='evaluations spent', ylabel=f'best {study.metric_title} so far')
    figure.get_layout_engine().set(rect=(0, 0, 0.79, 1))
    label_ends(panel, ends)
    return figure
