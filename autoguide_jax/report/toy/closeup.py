"""Densities, scores and paths in a window (Fig. 2 of the paper)."""

import numpy as np
from matplotlib.collections import LineCollection

from autoguide_jax.report.drawing import WIDE, new
from autoguide_jax.report.toy.drawing import bare, colour, level, mix, outside, ramp, truth

NEAR = 0.6  # noise level from which paths are drawn
PARTS = ('close/main', 'close/guide', 'paths/unguided', 'paths/guided', 'density/truth')


def draw(study, look):
    """Density of main and guide, their ratio; paths unguided and guided, and what was moved."""
    if any(name not in study.arrays for name in PARTS):
        return None
    margins = {'left': 0.003, 'right': 0.997, 'bottom': 0.012, 'top': 0.962}
    figure, axes = new(WIDE, 7.28, {**margins, 'wspace': 0.04, 'hspace': 0.13}, nrows=2, ncols=3)
    sigma = study.picture('sigma')
    at = f', σ = {sigma:g}' if sigma else ''
    _density(axes[0, 0], study, look, 'main')
    axes[0, 0].set_title(f'(a) Density of the main network{at}')
    _density(axes[0, 1], study, look, 'guide')
    axes[0, 1].set_title(f'(b) Density of the guide{at}')
    _ratio(axes[0, 2], study, look)
    axes[0, 2].set_title('(c) Their ratio: main ÷ guide')
    arms = {'unguided': study.unguided, 'guided': study.picture('guided') or 'guided'}
    for panel, letter, (kind, arm) in zip(axes[1], 'de', arms.items()):
        _paths(panel, study, look, kind)
        panel.set_title(f'({letter}) Paths: {study.title(arm)}')
    _moved(axes[1, 2], study, look)
    axes[1, 2].set_title('(f) From unguided to guided end points')
    x, y = study.arrays['close/x'], study.arrays['close/y']
    for panel in axes.flat:
        bare(panel, (x[0], x[-1]), (y[0], y[-1]))
    return figure


def _image(panel, study, values, **options):
    x, y = study.arrays['close/x'], study.arrays['close/y']
    extent = (x[0], x[-1], y[0], y[-1])
    panel.imshow(
        values, origin='lower', extent=extent, interpolation='bilinear', zorder=0.1, **options
    )


def _outline(panel, study, look):
    """The truth at the noise level of the window: the region with 99 % of its mass there."""
    x, y, log_p = (study.arrays[f'close/{name}'] for name in ('x', 'y', 'truth'))
    panel.contour(
        x,
        y,
        log_p,
        [level(log_p)],
        colors=[mix(look.paper, look.ink, 0.6)],
        linewidths=0.8,
        linestyles='solid',
    )


def _density(panel, study, look, name):
    log_p = study.arrays[f'close/{name}']
    cmap = ramp(look.paper, mix(look.paper, look.low, 0.55), look.low)
    _image(panel, study, np.exp(log_p - log_p.max()), cmap=cmap, vmin=0, vmax=1.05)
    _outline(panel, study, look)
    _arrows(panel, study, look, study.arrays[f'close/score_{name}'])


def _ratio(panel, study, look):
    """Log ratio, counted from its median over the mass of the main network."""
    main, guide = study.arrays['close/main'], study.arrays['close/guide']
    ratio = main.astype(float) - guide
    mass = np.exp(main.astype(float) - main.max())
    order = np.argsort(ratio, axis=None)
    sums = np.cumsum(mass.flat[order])
    ratio -= ratio.flat[order[np.searchsorted(sums, 0.5 * sums[-1])]]
    likely = mass > 1e-3
    reach = max(np.quantile(np.abs(ratio[likely]), 0.97), 1e-6)
    low, high = (mix(look.paper, colour(name, look), 0.85) for name in ('cfg', 'autoguidance'))
    _image(panel, study, ratio, cmap=ramp(low, look.paper, high), vmin=-reach, vmax=reach)
    _outline(panel, study, look)
    scores = [study.arrays[f'close/score_{name}'] for name in ('main', 'guide')]
    _arrows(panel, study, look, scores[0] - scores[1])


def _arrows(panel, study, look, score):
    """Arrows along a score [a, 2]; lengths grow with the root of its size, up to one cell."""
    at = study.arrays['close/at']
    count = round(len(at) ** 0.5)
    stride = max(1, round(count / 16))
    kept = np.arange(len(at)).reshape(count, -1)[stride // 2 :: stride, stride // 2 :: stride]
    at, score = at[kept.ravel()], score[kept.ravel()]
    size = np.linalg.norm(score, axis=1, keepdims=True)
    cell = (at[:, 0].max() - at[:, 0].min()) / max(kept.shape[1] - 1, 1)
    share = np.sqrt(np.clip(size / max(np.quantile(size, 0.9), 1e-9), 0.02, 1))
    step = score / np.maximum(size, 1e-9) * share * 0.92 * cell
    panel.quiver(
        *at.T,
        *step.T,
        angles='xy',
        scale_units='xy',
        scale=1,
        pivot='mid',
        width=0.0030,
        headwidth=4.2,
        headlength=4.6,
        headaxislength=4.2,
        color=look.ink,
        alpha=0.72,
        zorder=3,
    )


def _paths(panel, study, look, kind):
    """Paths from σ = NEAR on, lighter at high noise; a dot at the end, orange if outside."""
    path, sigma = study.arrays[f'paths/{kind}'], study.arrays['paths/sigma']
    first = max(0, int(np.argmax(sigma <= NEAR)) - 1)
    path = path[first:]
    truth(panel, study, look, fill=0.16, line=0.5)
    own = colour('none' if kind == 'unguided' else 'autoguidance', look)
    steps = len(path) - 1
    for k in range(steps):
        colour_ = mix(look.paper, own, 0.25 + 0.55 * (k + 1) / steps)
        segments = np.stack([path[k], path[k + 1]], axis=1)
        panel.add_collection(LineCollection(segments, colors=[colour_], linewidths=0.7, zorder=2))
    _ends(panel, study, look, path[-1], own)
    count = int(outside(study, path[-1]).sum())
    panel.text(
        0.03,
        0.03,
        f'{count} of {len(path[-1])} end outside the truth',
        transform=panel.transAxes,
        color=look.muted,
        bbox={'facecolor': look.paper, 'edgecolor': 'none', 'alpha': 0.8, 'pad': 2},
        zorder=6,
    )


def _ends(panel, study, look, end, own, size=4.6):
    out = outside(study, end)
    for chosen, colour_ in ((~out, own), (out, colour('cfg', look))):
        panel.plot(
            *end[chosen].T,
            'o',
            color=colour_,
            markersize=size,
            markeredgecolor=look.paper,
            markeredgewidth=0.6,
            zorder=4,
        )


def _moved(panel, study, look):
    """Arrows from the unguided to the guided end of the same start."""
    ends = [study.arrays[f'paths/{kind}'][-1] for kind in ('unguided', 'guided')]
    out = [outside(study, end) for end in ends]
    truth(panel, study, look, fill=0.16, line=0.5)
    kinds = {
        'outside → inside': (out[0] & ~out[1], colour('exact', look)),
        'inside → outside': (~out[0] & out[1], colour('cfg', look)),
        'stays inside': (~out[0] & ~out[1], colour('autoguidance', look)),
        'stays outside': (out[0] & out[1], colour('none', look)),
    }
    for name, (chosen, colour_) in kinds.items():
        start, step = ends[0][chosen], (ends[1] - ends[0])[chosen]
        if not len(start):
            continue
        panel.plot(*start.T, 'o', color=colour_, markersize=2.6, zorder=4, markeredgewidth=0)
        panel.quiver(
            *start.T,
            *step.T,
            angles='xy',
            scale_units='xy',
            scale=1,
            width=0.0042,
            headwidth=4.2,
            headlength=4.6,
            alpha=0.9,
            color=colour_,
            zorder=3,
            label=f'{name}: {len(start)}',
        )
    legend = panel.legend(
        loc='upper right', labelcolor=look.muted, handlelength=1.2, frameon=True, borderpad=0.3
    )
    legend.get_frame().set(facecolor=look.paper, alpha=0.85, edgecolor='none')
