"""Outliers against branch KL: what fewer outliers cost in coverage, family by family."""

import math

from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator

from autoguide_jax.report.drawing import WIDE, bar, new, plain_number, score_axis
from autoguide_jax.report.toy import findings
from autoguide_jax.report.toy.drawing import colour, colours, mix

LINES = ('-', (0, (5, 2)), (0, (2.2, 1.4)), (0, (0.8, 1.5)), (0, (6, 1.5, 1, 1.5)))
MARKERS = 'os^DvP'


def draw(study, look):
    """One panel per family, the others in grey behind; a line per interval, a point per weight."""
    points, (x0, y0) = findings.trade(study), findings.unguided(study)
    if not points or not x0 or not y0:
        return None
    families = list(dict.fromkeys(p.family for p in points))
    intervals = list(dict.fromkeys(p.interval for p in points))
    columns = min(3, len(families))
    rows = math.ceil(len(families) / columns)
    grid = {'nrows': rows, 'ncols': columns, 'sharex': True, 'sharey': True}
    figure, axes = new(WIDE, 3.75 * rows + 0.55, **grid)
    own = colours(families, look)
    lines = {(f, i): [] for f in families for i in intervals}
    for p in points:
        lines[p.family, p.interval].append(p)
    for panel, family in zip(axes.flat, families):
        _zone(panel, study, look)
        for (other, _), line in lines.items():
            if other != family and line:
                xs, ys = _columns(line, x0, y0)
                panel.plot(xs, ys, color=mix(look.paper, look.muted, 0.3), linewidth=0.9, zorder=1)
        for (name, interval), line in lines.items():
            if name == family and line:
                k = intervals.index(interval)
                _line(panel, line, (x0, y0), own[family], LINES[k % 5], MARKERS[k % 6])
        _weights(panel, lines, family, intervals, look)
        bar(panel, x0, y0, look.ink, '*', size=13)
        panel.set_title(study.title(family), color=own[family])
    _limits(axes, points, x0, y0, study)
    for panel in axes.flat[len(families) :]:
        panel.set_visible(False)
    handles = _legend(intervals, look)
    figure.legend(
        handles=handles, loc='outside lower left', ncols=len(handles), labelcolor=look.muted
    )
    return figure


def _columns(line, x0, y0):
    return (
        [x0.mean, *(p.outliers.mean for p in line)],
        [y0.mean, *(p.kl.mean for p in line)],
    )


def _line(panel, line, start, own, dashes, marker):
    panel.plot(*_columns(line, *start), color=own, linestyle=dashes, linewidth=1.4, zorder=3)
    paper = panel.get_facecolor()
    for p in line:
        x, y = p.outliers, p.kl
        panel.errorbar(
            x.mean,
            y.mean,
            xerr=x.sd,
            yerr=y.sd,
            color=mix(paper, own, 0.55),
            elinewidth=0.8,
            linestyle='none',
            zorder=2.5,
        )
        edge = {'markeredgecolor': paper, 'markeredgewidth': 1}
        panel.plot(x.mean, y.mean, marker, color=own, markersize=5.4, zorder=5, **edge)


def _weights(panel, lines, family, intervals, look):
    """Write the weights beside the first line, where there is room: on its outer side."""
    line = next((lines[family, i] for i in intervals if lines[family, i]), [])
    for p in line:
        panel.annotate(
            f'w = {p.weight:g}' if p is line[-1] else f'{p.weight:g}',
            (p.outliers.mean, p.kl.mean),
            xytext=(0, 5),
            textcoords='offset points',
            ha='center',
            va='bottom',
            fontsize=7,
            color=look.muted,
            zorder=7,
            path_effects=[withStroke(linewidth=2, foreground=look.paper)],
        )


def _zone(panel, study, look):
    x, y = findings.target(study)
    green = colour('exact', look)
    panel.add_patch(Rectangle((0, 1e-9), x, y - 1e-9, color=green, alpha=0.16, lw=0, zorder=0.5))
    panel.plot([x, x], [1e-9, y], color=green, linewidth=1, zorder=0.6)
    panel.plot([0, x], [y, y], color=green, linewidth=1, zorder=0.6)


def _limits(axes, points, x0, y0, study):
    corner = findings.target(study)
    stats = [p.outliers for p in points]
    xs = [x.mean + sign * (x.sd or 0) for x in stats for sign in (-1, 1)] + [x0.mean, corner[0]]
    ys = [p.kl.mean for p in points] + [y0.mean, corner[1]]
    room = 0.06 * (max(xs) - min(xs))
    for panel in axes.flat:
        score_axis(panel.yaxis, max(min(ys), 1e-6) / 1.6, max(ys) * 1.35)
        if panel.get_yscale() == 'log':
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.set_xlim(max(0, min(xs) - 2 * room), max(xs) + room)
        panel.xaxis.set_major_formatter(lambda v, _: plain_number(round(100 * v, 6)) + ' %')
    for panel in axes[:, 0]:
        panel.set_ylabel('branch KL (mass lost or misplaced)')
    for panel in axes[-1]:
        panel.set_xlabel('outliers (below the truth’s 1 % quantile)')


def interval_text(interval):
    """Noise levels in words."""
    low, high = interval
    if low <= 0 and math.isinf(high):
        return 'at all σ'
    if low <= 0:
        return f'σ ≤ {plain_number(high)}'
    return f'σ in ({plain_number(low)}, {"∞" if math.isinf(high) else plain_number(high)}]'


def _legend(intervals, look):
    handles = [
        Line2D(
            [],
            [],
            color=look.muted,
            linestyle=LINES[k % 5],
            marker=MARKERS[k % 6],
            markersize=5,
            linewidth=1.4,
            label=interval_text(interval),
        )
        for k, interval in enumerate(intervals)
    ]
    star = {'marker': '*', 'markersize': 11, 'markeredgewidth': 0, 'linestyle': 'none'}
    return [
        *handles,
        Line2D([], [], color=mix(look.paper, look.muted, 0.4), linewidth=1, label='other families'),
        Line2D([], [], color=look.ink, label='no guidance', **star),
        Patch(color=colour('exact', look), alpha=0.25, label='½ outliers, ≤ 1.5 × KL'),
    ]
