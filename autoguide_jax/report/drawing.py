"""What the figures share: size, axes, labels that keep apart, and rendering to bytes."""

import io
import math

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from autoguide_jax.report import style

# Figures are laid out at 100 dots per inch, one dot per pixel of the page, and drawn at twice that.
DPI = 200
WIDE, HALF = 10.4, 5.05


def new(width, height, margins=None, **grid):
    """Return (figure, axes [rows, columns]) on the Agg canvas, without pyplot's global state.

    margins: arguments of subplots_adjust; without them the margins are found when it is drawn.
    """
    figure = Figure(figsize=(width, height), layout=None if margins else 'constrained')
    FigureCanvasAgg(figure)
    if margins:
        figure.subplots_adjust(**margins)
    else:
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.06)
    return figure, figure.subplots(squeeze=False, **grid)


def panels(count, room, xlabel, ylabel):
    """Return (figure, panels) of equal axes, at most four side by side.

    room: inches for what stands below all of them.
    """
    columns = min(4, count)
    rows = math.ceil(count / columns)
    width = WIDE if columns > 2 else HALF * columns
    height = 2.75 * rows + room
    figure, axes = new(width, height, nrows=rows, ncols=columns, sharex=True, sharey=True)
    for i, panel in enumerate(axes.flat):
        panel.set_visible(i < count)
        if count - columns <= i < count:
            panel.set_xlabel(xlabel)
            panel.xaxis.set_tick_params(labelbottom=True)
    for panel in axes[:, 0]:
        panel.set_ylabel(ylabel)
    return figure, axes.flat[:count]


def png(figure):
    """Return a figure as the bytes of a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=DPI, metadata={'Software': None})
    return file.getvalue()


def svg(figure):
    """Return a figure as the bytes of an SVG, the same for the same numbers."""
    file = io.BytesIO()
    figure.savefig(file, format='svg', metadata={'Date': None, 'Creator': None})
    return file.getvalue()


def render(draw, study, looks=(style.LIGHT, style.DARK)):
    """Return {'.png': …, '-dark.png': …, '.svg': …} of a figure, {} if draw has nothing to show."""
    found = {}
    for look in looks:
        with matplotlib.rc_context(style.rc(look)):
            figure = draw(study, look)
            if figure is None:
                return {}
            found['-dark.png' if look is style.DARK else '.png'] = png(figure)
            if look is style.LIGHT:
                # The layout is found by now; to find it again takes as long as to draw.
                figure.set_layout_engine('none')
                found['.svg'] = svg(figure)
    return found


def plain_number(value, _=None):
    """Return a tick label without exponents or trailing zeros."""
    return f'{value:,.6g}'.replace(',', ' ')


def images_seen(value, _=None):
    """Return a number of images in Ki or Mi, as settings write it."""
    for factor, unit in ((2**30, 'Gi'), (2**20, 'Mi'), (2**10, 'Ki')):
        if value >= factor:
            return f'{value / factor:.4g} {unit}'
    return f'{value:.4g}'


def score_axis(axis, low, high):
    """Scale one axis for scores: linear, or logarithmic with plain labels if it spans a lot."""
    name = axis.axis_name
    axes = axis.axes
    if low > 0 and high / low > 4:
        getattr(axes, f'set_{name}scale')('log')
        subs = (1, 2, 5) if high / low < 200 else (1,)
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(plain_number))
    getattr(axes, f'set_{name}lim')(low, high)


def limits(low, high, below, above):
    """Return the ends of an axis from low / below to high · above.

    Scores that reach 0 or less, as unbiased ones may, get these shares of their span as margins.
    """
    if low > 0:
        return low / below, high * above
    span = (high - low) or 1.0
    return low - (below - 1) * span, high + (above - 1) * span


def shades(grid):
    """Return scores as shares 0…1 of their range, on a logarithmic scale if all are positive.

    Distances are read as ratios; one bad corner must not wash out the rest.
    """
    scaled = np.log(grid) if np.nanmin(grid) > 0 else grid
    low = np.nanmin(scaled)
    return (scaled - low) / max(np.nanmax(scaled) - low, 1e-9)


def centre(value):
    """Return the mean of a Stat, or a plain number itself."""
    return getattr(value, 'mean', value)


def spread(value):
    """Return what stands behind the ± of a Stat, 0 for a plain number or where it is not known."""
    return getattr(value, 'spread', None) or 0.0


def half(value):
    """Return half the 95 % interval of a Stat, 0 for a plain number or where it is not known."""
    return getattr(value, 'half', None) or 0.0


def bar(axes, x, y, colour, marker, reach=spread, **options):
    """Draw Stats in x and y (or plain numbers) with bars of mean ± reach, ringed with paper."""
    paper = axes.get_facecolor()
    axes.errorbar(
        [centre(x)],
        [centre(y)],
        xerr=reach(x) or None,
        yerr=reach(y) or None,
        color=colour,
        marker=marker,
        markersize=options.pop('size', 8),
        markeredgecolor=paper,
        markeredgewidth=1.2,
        elinewidth=1.4,
        capsize=0,
        linestyle='none',
        zorder=5,
        **options,
    )


def spread_out(positions, gap):
    """Return positions, moved as little as a greedy pass can, at least gap apart."""
    order = np.argsort(positions, kind='stable')
    placed = np.array(positions, float)[order]
    for _ in range(200):
        short = gap - np.diff(placed)
        if not (short > 1e-9).any():
            break
        push = np.maximum(short, 0) / 2
        placed[:-1] -= push
        placed[1:] += push
    result = np.empty_like(placed)
    result[order] = placed
    return result


def label_ends(axes, lines, size=8):
    """Write (text, colour, y) at the right end of axes, none upon another."""
    lines = [line for line in lines if line[2] is not None]
    if not lines:
        return
    figure = axes.figure
    figure.draw_without_rendering()
    height = axes.bbox.height
    points = [axes.transData.transform((0, max(y, _floor(axes))))[1] for _, _, y in lines]
    fractions = [(p - axes.bbox.y0) / height for p in points]
    gap = size * 1.35 / 72 * figure.dpi / height
    for (text, colour, _), y in zip(lines, spread_out(fractions, gap)):
        axes.annotate(
            text,
            (1, y),
            xytext=(6, 0),
            xycoords='axes fraction',
            textcoords='offset points',
            va='center',
            color=colour,
            fontsize=size,
            annotation_clip=False,
        )


def _floor(axes):
    low, _ = axes.get_ylim()
    return low


def label_points(axes, points, size=8, reach=spread):
    """Write (text, colour, x, y) beside points, where it covers least of points, bars and texts.

    x, y, reach: as bar() takes them.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    centres = axes.transData.transform([(centre(x), centre(y)) for *_, x, y in points])
    ends = [(centre(x) + reach(x), centre(y) + reach(y)) for *_, x, y in points]
    bars = np.abs(axes.transData.transform(ends) - centres)
    taken = [_box(cx, cy, 15, 15) for cx, cy in centres]
    taken += [_box(cx, cy, 2 * rx, 5) for (cx, cy), (rx, _) in zip(centres, bars)]
    taken += [_box(cx, cy, 5, 2 * ry) for (cx, cy), (_, ry) in zip(centres, bars)]
    em = size / 72 * figure.dpi
    for (text, colour, _, _), (cx, cy) in zip(points, centres):
        written = axes.text(0, 0, text, fontsize=size, color=colour, zorder=6)
        extent = written.get_window_extent(renderer)
        width, height = extent.width, extent.height
        options = []
        for distance in (1.2, 1.9, 2.8, 3.8):
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
                bx = cx + dx * (width / 2 + em * (distance if dy == 0 else 0.6))
                by = cy + dy * em * distance
                box = _box(bx, by, width, height)
                outside = _area(box) - _overlap(box, _box_of(axes.bbox))
                cost = 4 * (outside + sum(_overlap(box, other) for other in taken))
                options.append((cost + distance * em, len(options), box))
        box = min(options)[2]
        taken.append(box)
        x, y = axes.transData.inverted().transform(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
        written.set(position=(x, y), ha='center', va='center')


def _box(x, y, width, height):
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _box_of(bbox):
    return bbox.x0, bbox.y0, bbox.x1, bbox.y1


def _area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)
