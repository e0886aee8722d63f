"""Corrupted networks over the guidance weight: does the weight that theory predicts undo it?"""

import numpy as np
from matplotlib.lines import Line2D

from autoguide_jax.report.drawing import WIDE, new, plain_number
from autoguide_jax.report.toy import findings
from autoguide_jax.report.toy.drawing import colour

COLUMNS = 4


def draw(study, look):
    """Small multiples: shift of corrupted pairs, then outliers of the controls, against w."""
    pairs = [p for p in findings.corrupted(study) if p.curve]
    if not pairs:
        return None
    groups = [[p for p in pairs if p.control is control] for control in (False, True)]
    groups = [g[i : i + COLUMNS] for g in groups for i in range(0, len(g), COLUMNS)]
    columns = max(map(len, groups))
    width = WIDE if columns > 2 else 5.2 * columns
    figure, axes = new(width, 2.75 * len(groups) + 0.4, nrows=len(groups), ncols=columns)
    for row, group in zip(axes, groups):
        for panel, pair in zip(row, group):
            _panel(panel, pair, look)
        for panel in row[len(group) :]:
            panel.set_visible(False)
        control = group[0].control
        row[0].set_ylabel('outliers, 1 = at w = 1' if control else 'shift from the whole network')
    figure.legend(handles=_legend(look), loc='outside lower left', ncols=4, labelcolor=look.muted)
    return figure


def _panel(panel, pair, look):
    weights, grid = findings.table(pair)
    own = colour('guide' if pair.control else 'autoguidance', look)
    if pair.control:
        panel.axhline(1, color=look.muted, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    elif pair.predicted:
        mean, sd = pair.predicted.mean, pair.predicted.sd or 0
        if mean <= 1.15 * weights[-1]:
            panel.axvline(mean, color=colour('cfg', look), linewidth=1.4, zorder=2)
            if sd:
                edge = colour('cfg', look)
                panel.axvspan(mean - sd, mean + sd, color=edge, alpha=0.18, lw=0, zorder=1)
    if len(grid) > 1:
        for line in grid:
            panel.plot(weights, line, color=own, linewidth=0.8, alpha=0.35)
    mean = grid.mean(axis=0)
    panel.plot(weights, mean, color=own, marker='o', markersize=4, zorder=4)
    k = int(np.argmin(mean))
    panel.plot(
        weights[k],
        mean[k],
        'o',
        markersize=9,
        markerfacecolor='none',
        markeredgecolor=own,
        markeredgewidth=1.4,
        zorder=5,
    )
    panel.set_ylim(0, max(1.16 * grid.max(), 1.25 if pair.control else 0))
    panel.set_xlabel('guidance weight w')
    panel.xaxis.set_major_formatter(plain_number)
    panel.set_title(_title(pair), fontsize=8.5, linespacing=1.35, pad=20)
    place = {'xytext': (0, 6), 'xycoords': 'axes fraction', 'textcoords': 'offset points'}
    panel.annotate(_facts(pair), (0, 1), **place, color=look.muted, fontsize=8)


def _title(pair):
    words = pair.title.removeprefix('Control: ')
    words = words[0].upper() + words[1:]
    head, by, tail = words.partition(' by ')
    return f'{head}\nguided by {tail}' if by else words


def _facts(pair):
    """r, cosine and the predicted weight in one short line."""
    if not pair.r or not pair.cosine:
        return ''
    facts = f'r {pair.r.mean:.2f}, cosine {pair.cosine.mean:.2f}'.replace('-', '−')
    if pair.control:
        return facts
    return f'{facts} → w {pair.predicted.mean:.2f}' if pair.predicted else f'{facts} → no w > 1'


def _legend(look):
    line = {'color': colour('autoguidance', look), 'marker': 'o', 'markersize': 4}
    ring = {'markerfacecolor': 'none', 'markersize': 9, 'linestyle': 'none'}
    return [
        Line2D([], [], label='shift, mean over seeds', **line),
        Line2D([], [], color=look.muted, marker='o', label='least in the mean', **ring),
        Line2D([], [], color=colour('cfg', look), label='predicted, r/(r − 1)'),
        Line2D([], [], **{**line, 'color': colour('guide', look)}, label='control: outliers'),
    ]
