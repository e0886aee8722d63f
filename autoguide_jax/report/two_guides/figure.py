"""Distance over (w, α), and what the samples look like there."""

import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from autoguide_jax.report import style
from autoguide_jax.report.drawing import WIDE, bar, label_ends, limits, score_axis, shades
from autoguide_jax.report.scores import ink_on
from autoguide_jax.report.strips import mosaic
from autoguide_jax.report.two_guides.read import UNGUIDED

BETWEEN = ('#9b4f96', '#cf86c6')
FRAME = '#e06c00'
LEFT, RIGHT, TOP = 0.085, 0.99, 0.42  # figure margins: shares of the width, inches
PANELS, HEADS = 3.3, 0.85  # inches: height of the upper panels; axis labels and title below them


def draw(sweep, look):
    """The figure: curves and map above, examples below where there are any."""
    strip = _strip_height(sweep)
    height = TOP + PANELS + HEADS + strip
    figure = Figure(figsize=(WIDE, height))
    FigureCanvasAgg(figure)
    bottom, top = 1 - (TOP + PANELS) / height, 1 - TOP / height
    curves = figure.add_axes((LEFT - 0.025, bottom, 0.39, top - bottom))
    heat = figure.add_axes((0.645, bottom, RIGHT - 0.645, top - bottom))
    _curves(curves, sweep, look)
    _heat(heat, sweep, look)
    if strip:
        _strip(figure, sweep, look, strip / height)
    return figure


def colours(sweep, look):
    """α → colour, from that of CFG to that of autoguidance."""
    dark = look.name == 'dark'
    ends = style.FIXED['cfg'][dark], BETWEEN[dark], style.FIXED['autoguidance'][dark]
    shade = LinearSegmentedColormap.from_list('alpha', ends)
    return {alpha: shade(alpha) for alpha in sweep.alphas}


def name_of(alpha):
    """'α = 0, CFG', 'α = 0.5', 'α = 1, autoguidance'."""
    end = {0.0: ', CFG', 1.0: ', autoguidance'}.get(alpha, '')
    return f'α = {alpha:g}{end}'


def _curves(panel, sweep, look):
    """Distance against w, a line for each α, all from no guidance at w = 1."""
    stats, shades = sweep.stats(), colours(sweep, look)
    base, ends = stats.get(UNGUIDED), []
    span = max(sweep.weights) - 1
    if base:
        sd = base.spread or 0
        panel.axhline(base.mean, color=look.muted, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
        panel.axhspan(base.mean - sd, base.mean + sd, color=look.muted, alpha=0.16, lw=0)
        bar(panel, 1.0, base, look.muted, 'o', size=6)
    for i, alpha in enumerate(sweep.alphas):
        # Beside each other, so that no bar hides another.
        shift = 0.008 * span * (i - (len(sweep.alphas) - 1) / 2)
        points = [(w + shift, stats[w, alpha]) for w in sweep.weights if (w, alpha) in stats]
        line = [(1.0, base), *points] if base else points
        panel.plot([x for x, _ in line], [s.mean for _, s in line], color=shades[alpha], zorder=3)
        for x, stat in points:
            bar(panel, x, stat, shades[alpha], style.MARKERS[i % len(style.MARKERS)], size=5.5)
        ends.append((name_of(alpha), shades[alpha], points[-1][1].mean))
    low = min(s.mean - (s.spread or 0) for s in stats.values())
    high = max(s.mean + (s.spread or 0) for s in stats.values())
    score_axis(panel.yaxis, *limits(low, high, 1.08, 1.08))
    count, repeats = sweep.score['images'], sweep.score['repeats']
    panel.set(xlabel='total guidance weight w', ylabel=f'{sweep.title}, lower is better')
    sets = 'standard error' if repeats == 1 else f'sd of {repeats} sets of seeds'
    panel.set_title(f'Distance, {count} images, ± {sets}')
    label_ends(panel, ends)


def _heat(panel, sweep, look):
    """Distance over w × α, the best framed, dashed frames where nothing tells it from them."""
    stats, marked = sweep.stats(), sweep.marks()
    weights, alphas = sweep.weights, sweep.alphas
    mean = lambda w, a: stats[w, a].mean if (w, a) in stats else np.nan
    grid = np.array([[mean(w, a) for w in weights] for a in alphas])
    scaled = shades(grid)
    cmap = LinearSegmentedColormap.from_list('score', [look.low, look.high])
    panel.pcolormesh(scaled, cmap=cmap, edgecolors=look.paper, linewidth=1.5)
    places = sweep.places
    for (i, j), value in np.ndenumerate(grid):
        key = weights[j], alphas[i]
        if key not in stats:
            panel.text(j + 0.5, i + 0.5, '–', ha='center', va='center', color=look.muted)
            continue
        ink = ink_on(cmap(scaled[i, j]))
        bold = 'bold' if marked.get(key) == 'best' else 'normal'
        options = {'ha': 'center', 'color': ink}
        text = f'{value:.{places}f}'
        panel.text(j + 0.5, i + 0.47, text, va='bottom', weight=bold, fontsize=9, **options)
        if sd := stats[key].spread:
            panel.text(j + 0.5, i + 0.43, f'± {sd:.{places}f}', va='top', fontsize=6.5, **options)
        if key in marked:
            _frame(panel, (j, i), marked[key])
    panel.set_xticks(np.arange(len(weights)) + 0.5, [f'{w:g}' for w in weights])
    panel.set_yticks(np.arange(len(alphas)) + 0.5, [_side_name(a) for a in alphas])
    panel.grid(False)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set(xlabel='total guidance weight w')
    panel.set_title(_legend(marked))


def _legend(marked):
    """What the frames of the map say; w = 1 has none there."""
    framed = {mark for key, mark in marked.items() if key != UNGUIDED}
    best = 'Best: solid frame' if 'best' in framed else 'Best: w = 1'
    return best + (', not told apart: dashed' if 'tie' in framed else '') if marked else ''


def _frame(panel, corner, kind):
    x, y = corner
    line = (2.2, '-') if kind == 'best' else (1.2, (0, (3, 2)))
    inner = 0.03 if kind == 'best' else 0.06
    frame = Rectangle((x + inner, y + inner), 1 - 2 * inner, 1 - 2 * inner, fill=False)
    frame.set(edgecolor=FRAME, linewidth=line[0], linestyle=line[1], zorder=4, clip_on=False)
    panel.add_patch(frame)


def _side_name(alpha):
    """The α of a row of the map or of the examples; the ends say what they are."""
    end = {0.0: 'CFG\n', 1.0: 'autog.\n'}.get(alpha, '')
    return f'{end}α = {alpha:g}'


def _index(images):
    """Places of the examples of one setting, [rows, columns], at most five in a row."""
    columns = min(5, len(images))
    rows = math.ceil(len(images) / columns)
    index = np.arange(rows * columns)
    return np.where(index < len(images), index, -1).reshape(rows, columns)


def _columns(sweep):
    """Weights of the columns of examples, ascending."""
    return sorted({w for w, _ in sweep.examples})


def _strip_height(sweep):
    """Inches for the examples, 0 without any."""
    if not sweep.examples:
        return 0
    images = next(iter(sweep.examples.values()))
    rows, columns = _index(images).shape
    shape = rows * images.shape[1] / (columns * images.shape[2])
    cell = WIDE * (RIGHT - LEFT) / len(_columns(sweep))
    return len(sweep.alphas) * cell * shape * 1.02 + 0.15


def _strip(figure, sweep, look, share):
    """Examples in the lower share of the figure: a row for each α, in the order of the map."""
    weights, rows = _columns(sweep), sweep.alphas[::-1]
    margins = {'left': LEFT, 'right': RIGHT, 'bottom': 0.1 / figure.get_figheight(), 'top': share}
    grid = figure.add_gridspec(len(rows), len(weights), wspace=0.1, hspace=0.1, **margins)
    for j, w in enumerate(weights):
        if w == 1:  # one for all α
            panel = _examples(figure.add_subplot(grid[:, j]), sweep, UNGUIDED)
            panel.set_title('w = 1, no guidance', fontsize=8.5, loc='center', pad=4)
            continue
        for i, alpha in enumerate(rows):
            panel = _examples(figure.add_subplot(grid[i, j]), sweep, (w, alpha))
            if i == 0:
                panel.set_title(f'w = {w:g}', fontsize=8.5, loc='center', pad=4)
            if w == sweep.weights[0]:
                box = panel.get_position()
                middle = (box.y0 + box.y1) / 2
                options = {'va': 'center', 'ha': 'right', 'color': look.muted, 'fontsize': 8}
                figure.text(LEFT - 0.01, middle, _side_name(alpha), **options)


def _examples(panel, sweep, key):
    panel.set_axis_off()
    if key in sweep.examples:
        images = sweep.examples[key]
        panel.imshow(mosaic(images, _index(images), pixels=64), interpolation='nearest')
    if sweep.marks().get(key) == 'best':
        _outline(panel)
    return panel


def _outline(panel):
    frame = Rectangle((-0.02, -0.03), 1.04, 1.06, transform=panel.transAxes, fill=False)
    frame.set(edgecolor=FRAME, linewidth=2, clip_on=False)
    panel.add_patch(frame)
