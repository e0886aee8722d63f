"""The figure of a ranking of guides: r, cosine and w by noise level, and the order of candidates.

guides.json and guides.jsonl → figures/guides.png, -dark.png and .svg.
"""

import sys

from matplotlib.ticker import FuncFormatter, NullFormatter

from autoguide_jax import files
from autoguide_jax.report import drawing, style

BEST, MOST = 5, 30  # candidates with a colour, and candidates that are named
# What is drawn by noise level: (name, title, reference line, range)
PANELS = (
    ('ratio', 'r = |e_i| / |e_m|', 2.0, (0.5, 8.0)),
    ('cosine', 'Cosine of the two errors', 1.0, (-0.3, 1.05)),
    ('weight', 'Predicted weight r/(r − 1)', 2.0, (1.0, 6.0)),
)


def main(workdir):
    """Write the figure into the workdir of `guides`; return a row per candidate, best first.

    Errors: ValueError if it has no finished ranking.
    """
    found = read(workdir)
    for suffix, content in drawing.render(draw, found).items():
        files.write_bytes(found['workdir'] / 'figures' / f'guides{suffix}', content)
    print(f'wrote {found["workdir"] / "figures" / "guides.png"}', file=sys.stderr)
    named = 'score', 'weight', 'ratio', 'excess_ratio', 'cosine', 'removable'
    return [
        {**row['candidate'], **{name: row['overall'][name] for name in named}}
        for row in found['rows']
    ]


def read(workdir):
    """What guides.json says, with the rows themselves in its order, and the workdir."""
    workdir = files.path(workdir)
    facts = files.read_json(workdir / 'guides.json')
    known = {row['key']: row for row in files.read_jsonl(workdir / 'guides.jsonl')}
    rows = [known[key] for key in facts['rows'] if key in known]
    if not rows:
        raise ValueError(f'--workdir ({workdir}): guides.jsonl has none of the rows of guides.json')
    return {**facts, 'rows': rows, 'workdir': workdir}


def name_of(row):
    """A candidate in few words: the end of its path, age, EMA length."""
    c = row['candidate']
    run = '/'.join(c['run'].rstrip('/').split('/')[-2:])
    return f'{run}, {drawing.images_seen(c["nimg"])}, {c["std"]:g}'


def colours(found, look):
    """A colour for each of the best candidates."""
    return [pair[look.name == 'dark'] for pair in style.SERIES[: min(BEST, len(found['rows']))]]


def draw(found, look):
    """The figure: curves by noise level above, the order below."""
    shown = found['rows'][:MOST]
    height = 3.2 + 0.9 + 0.19 * len(shown)
    figure, axes = drawing.new(
        drawing.WIDE, height, nrows=2, ncols=3, height_ratios=(3.2, 0.7 + 0.19 * len(shown))
    )
    for panel, (name, title, line, limits) in zip(axes[0], PANELS):
        curves(panel, found, look, name, line)
        panel.set(ylim=limits, xlabel='noise level σ')
        panel.set_title(title)
    grid = axes[1, 0].get_gridspec()
    for panel in axes[1]:
        panel.remove()
    order(figure.add_subplot(grid[1, :]), found, look)
    return figure


def curves(panel, found, look, name, line):
    """One quantity by noise level of every candidate; the best ones have colours."""
    best = colours(found, look)
    panel.set_xscale('log')
    panel.xaxis.set_major_formatter(FuncFormatter(drawing.plain_number))
    if name == 'ratio':
        panel.set_yscale('log')
        panel.set_yticks([0.5, 1, 2, 4, 8], ['0.5', '1', '2', '4', '8'])
        panel.yaxis.set_minor_formatter(NullFormatter())
    panel.axhline(line, color=look.muted, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
    for i, row in reversed(list(enumerate(found['rows']))):
        levels = row['levels']
        values = [float('nan') if v is None else v for v in levels[name]]
        style_of = {'color': best[i], 'zorder': 4} if i < len(best) else {}
        base = {'color': look.muted, 'alpha': 0.35, 'linewidth': 0.9, 'zorder': 2}
        panel.plot(levels['sigma'], values, **(style_of or base))


def order(panel, found, look):
    """Scores with their standard errors, best on top, the predicted weight beside each name."""
    shown, best = found['rows'][:MOST], colours(found, look)
    ticks = []
    for i, row in enumerate(shown):
        total, colour = row['overall'], best[i] if i < len(best) else look.muted
        weight = '–' if total['weight'] is None else f'{total["weight"]:.2f}'
        ticks.append(f'{name_of(row)}   w {weight}')
        if total['score'] is not None:
            error = total['score_se'] or 0.0
            panel.errorbar(
                total['score'], i, xerr=error, color=colour, marker='o', markersize=5, zorder=3
            )
    panel.set_yticks(range(len(shown)), ticks, fontsize=7.5)
    panel.set_ylim(len(shown) - 0.5, -0.5)
    panel.set_xlabel('score = mean cosine − ½|ln(w − 1)|, ± standard error')
    left = f', the best {MOST} of {len(found["rows"])}' if len(found['rows']) > MOST else ''
    panel.set_title(f'Order of the candidates{left}; 1 is a guide twice as wrong, aligned')
