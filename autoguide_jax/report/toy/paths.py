"""Samples on their way as σ falls, side by side: an animation and a strip of its frames."""

import io

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from PIL import Image

from autoguide_jax.report import style
from autoguide_jax.report.drawing import WIDE, new
from autoguide_jax.report.toy.drawing import bare, colour, mix, outside, truth

STRIP = (1.0, 0.3, 0.1, 0.03, 0.01, 0.0)
FILL = 0.2
BETWEEN, TAIL = 2, 10  # frames per step of the sampler; frames of the tail behind a point
STEP_MS, FIRST_MS, LAST_MS = 70, 700, 2800


def _ready(study):
    names = ('paths/sigma', 'paths/unguided', 'paths/guided', 'density/truth')
    return all(name in study.arrays for name in names)


def window(study):
    """(centre [2], half width) of the pictures' window, else of the unguided end points."""
    found = study.picture('window')
    if found:
        x0, x1, y0, y1 = found
    else:
        end = study.arrays['paths/unguided'][-1]
        (x0, y0), (x1, y1) = end.min(0), end.max(0)
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2]), 0.56 * max(x1 - x0, y1 - y0)


def reach(half, sigma):
    """Half width of the view: the window when σ is low, the cloud of samples when it is high."""
    return float(np.hypot(half, 2.4 * sigma))


def frames(study):
    """sigma [f] and {kind: points [f, n, 2]}: the steps of the sampler and points between them."""
    sigma = np.asarray(study.arrays['paths/sigma'], float)
    steps = np.arange(0, len(sigma) - 2 + 1e-9, 1 / BETWEEN)
    steps = np.append(steps, len(sigma) - 1)
    low = np.minimum(steps.astype(int), len(sigma) - 2)
    share = steps - low

    def between(values):
        part = share.reshape(-1, *[1] * (values.ndim - 1))
        return (1 - part) * values[low] + part * values[low + 1]

    kinds = ('unguided', 'guided')
    return between(sigma), {k: between(study.arrays[f'paths/{k}']) for k in kinds}


def sigma_text(sigma):
    """σ with two digits."""
    if sigma <= 0:
        return 'σ = 0'
    places = max(0, 1 - int(np.floor(np.log10(sigma))))
    return f'σ = {sigma:.{places}f}'


def animation(study, look):
    """The bytes of a GIF, None without paths."""
    if not _ready(study):
        return None
    sigma, points = frames(study)
    with matplotlib.rc_context(style.rc(look)):
        figure, draw_frame = _stage(study, look)
        images = []
        for i in range(len(sigma)):
            draw_frame(i, sigma, points)
            figure.canvas.draw()
            images.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]))
    return _gif(images, look)


def _stage(study, look):
    """The figure of a frame and a function that brings it to frame i."""
    margins = {'left': 0.01, 'right': 0.99, 'bottom': 0.015, 'top': 0.9, 'wspace': 0.03}
    figure, axes = new(7.6, 4.22, margins, ncols=2)
    centre, half = window(study)
    arms = {'unguided': study.unguided, 'guided': study.picture('guided') or 'guided'}
    artists = {}
    for panel, (kind, arm) in zip(axes.flat, arms.items()):
        truth(panel, study, look, fill=FILL, line=0.5)
        own = colour('none' if kind == 'unguided' else 'autoguidance', look)
        tails = LineCollection([], colors=[own], linewidths=0.9, alpha=0.45, zorder=2)
        panel.add_collection(tails)
        marks = panel.plot([], [], 'o', color=own, markersize=5, zorder=4)[0]
        lost = panel.plot([], [], 'o', color=colour('cfg', look), markersize=5, zorder=5)[0]
        for line in (marks, lost):
            line.set(markeredgecolor=look.paper, markeredgewidth=0.7)
        bare(panel, (0, 1), (0, 1))
        panel.set_title(study.title(arm), fontsize=10.5)
        artists[kind] = panel, tails, marks, lost
    text = figure.text(0.885, 0.95, '', ha='left', va='center', fontsize=12, color=look.ink)

    def draw_frame(i, sigma, points):
        size = reach(half, sigma[i])
        for kind, (panel, tails, marks, lost) in artists.items():
            now = points[kind][i]
            # At the end the points that lie outside the truth change colour.
            out = outside(study, now) if i == len(sigma) - 1 else np.zeros(len(now), bool)
            marks.set_data(*now[~out].T)
            lost.set_data(*now[out].T)
            tails.set_segments(np.swapaxes(points[kind][max(0, i - TAIL) : i + 1], 0, 1))
            panel.set(
                xlim=(centre[0] - size, centre[0] + size), ylim=(centre[1] - size, centre[1] + size)
            )
        text.set_text(sigma_text(sigma[i]))

    return figure, draw_frame


def _palette(look):
    """The colours of all frames: paper, the truth, lines and points, and the mixtures at edges."""
    fill = mix(look.paper, look.muted, FILL)
    named = [colour(name, look) for name in ('none', 'autoguidance', 'cfg')]
    ramps = [(look.paper, end, 10) for end in (*named, look.ink, look.muted)]
    ramps += [(fill, end, 6) for end in named]
    table = [mix(a, b, share) for a, b, n in ramps for share in np.linspace(0, 1, n)]
    table = list(dict.fromkeys(tuple(round(255 * c) for c in found) for found in table))
    image = Image.new('P', (1, 1))
    image.putpalette([c for found in table for c in found])
    return image


def _gif(images, look):
    """Frames as one GIF with one palette, a pause at both ends."""
    palette = _palette(look)
    flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    times = [FIRST_MS] + [STEP_MS] * (len(flat) - 2) + [LAST_MS]
    file = io.BytesIO()
    flat[0].save(
        file,
        'GIF',
        save_all=True,
        append_images=flat[1:],
        duration=times,
        loop=0,
        optimize=False,
        disposal=1,
    )
    return file.getvalue()


def strip(study, look):
    """Frames of the animation side by side: unguided above, guided below."""
    if not _ready(study):
        return None
    sigma = np.asarray(study.arrays['paths/sigma'], float)
    chosen = sorted({int(np.argmin(np.abs(np.log((sigma + 1e-4) / (s + 1e-4))))) for s in STRIP})
    margins = {'left': 0.028, 'right': 0.998, 'bottom': 0.01, 'top': 0.93}
    side = WIDE * 0.97 / len(chosen)
    grid = {'nrows': 2, 'ncols': len(chosen)}
    figure, axes = new(WIDE, 2 * side + 0.3, {**margins, 'wspace': 0.04, 'hspace': 0.04}, **grid)
    centre, half = window(study)
    arms = {'unguided': study.unguided, 'guided': study.picture('guided') or 'guided'}
    for row, (kind, arm) in zip(axes, arms.items()):
        own = colour('none' if kind == 'unguided' else 'autoguidance', look)
        for panel, i in zip(row, chosen):
            now, size = study.arrays[f'paths/{kind}'][i], reach(half, sigma[i])
            out = outside(study, now) & (i == len(sigma) - 1)
            truth(panel, study, look, fill=FILL)
            for which, colour_ in ((~out, own), (out, colour('cfg', look))):
                panel.plot(
                    *now[which].T,
                    'o',
                    color=colour_,
                    markersize=3,
                    markeredgecolor=look.paper,
                    markeredgewidth=0.4,
                )
            bare(
                panel,
                (centre[0] - size, centre[0] + size),
                (centre[1] - size, centre[1] + size),
            )
            if kind == 'unguided':
                panel.set_title(sigma_text(sigma[i]), loc='center', pad=4)
        row[0].set_ylabel(study.title(arm), color=look.ink, weight='bold')
    return figure
