"""What the figures of the 2-D example share: rendering, the truth, points, colours."""

import io

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.transforms import Affine2D
from PIL import Image

from autoguide_jax.report import style
from autoguide_jax.report.drawing import DPI, png, svg

INSIDE, MOST_COLOURS = 0.99, 12000
NAMED = {
    'none': style.FIXED['baseline'],
    'autoguidance': style.FIXED['autoguidance'],
    'cfg': style.FIXED['cfg'],
    'exact': ('#009e73', '#35c79e'),
    'truncation': ('#c2649c', '#e598c6'),
    'guide': ('#8c5a3c', '#c99a7c'),
    'own_past': ('#7a4fa3', '#b292dc'),
}
SPARE = (('#8a8a12', '#c6c552'), ('#d99000', '#f0b840'), ('#4fa9dc', '#9ad7f7'))


def colours(names, look):
    """Name → colour: fixed for the known beginnings of names, spare ones in order for the rest."""
    dark, found = look.name == 'dark', {}
    for name in names:
        known = [pair for start, pair in NAMED.items() if name.startswith(start)]
        spare = SPARE[sum(c is not None for c in found.values()) % len(SPARE)]
        found[name] = (known or [spare])[0][dark]
    return found


def colour(name, look):
    """The colour of one known name."""
    return NAMED[name][look.name == 'dark']


def render(draw, study, looks=(style.LIGHT, style.DARK)):
    """{'.png', '-dark.png', '.svg', '.pdf': bytes} of a figure, {} if there is nothing to show."""
    found = {}
    for look in looks:
        with matplotlib.rc_context(style.rc(look) | {'pdf.fonttype': 42, 'savefig.dpi': DPI}):
            figure = draw(study, look)
            if figure is None:
                return {}
            found['-dark.png' if look is style.DARK else '.png'] = smaller(png(figure), look)
            if look is style.LIGHT:
                # The layout is found by now; to find it again takes as long as to draw.
                figure.set_layout_engine('none')
                found['.svg'], found['.pdf'] = svg(figure), pdf(figure)
    return found


def smaller(content, look):
    """A PNG with 256 colours, a third of the size; one with many, of smooth areas, stays."""
    image, file = Image.open(io.BytesIO(content)).convert('RGB'), io.BytesIO()
    if image.getcolors(MOST_COLOURS) is None:
        return content
    found = image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    # Paper is exactly that of the page around it.
    table = np.array(found.getpalette()).reshape(-1, 3)
    paper = np.rint(255 * np.array(to_rgb(look.paper))).astype(int)
    table[np.abs(table - paper).max(1) <= 2] = paper
    found.putpalette(table.ravel().tolist())
    found.save(file, 'PNG', optimize=True)
    return file.getvalue()


def pdf(figure):
    """A figure as the bytes of a PDF, the same for the same numbers."""
    file = io.BytesIO()
    empty = dict.fromkeys(('CreationDate', 'Creator', 'Producer'))
    figure.savefig(file, format='pdf', metadata=empty)
    return file.getvalue()


def mix(a, b, share):
    """Colour a with this share of colour b."""
    return tuple((1 - share) * x + share * y for x, y in zip(to_rgb(a), to_rgb(b)))


def ramp(*stops):
    """A colour map through these colours."""
    return LinearSegmentedColormap.from_list('ramp', stops)


def level(log_p, inside=INSIDE):
    """The log density above which this share of the mass on the grid lies."""
    p = np.sort(np.exp(np.asarray(log_p, float) - np.max(log_p)).ravel())[::-1]
    mass = np.cumsum(p)
    k = min(np.searchsorted(mass, inside * mass[-1]), len(p) - 1)
    return float(np.log(max(p[k], 1e-300)) + np.max(log_p))


def truth(panel, study, look, fill=0.16, line=0.5, width=0.5):
    """Draw the region that holds 99 % of the truth at σ = 0."""
    x, y, log_p = (study.arrays[f'density/{name}'] for name in ('x', 'y', 'truth'))
    panel.add_patch(
        PathPatch(
            region(x, y, log_p, level(log_p)),
            facecolor=mix(look.paper, look.muted, fill),
            edgecolor=mix(look.paper, look.muted, line),
            linewidth=width,
            zorder=0.5,
        )
    )


def region(x, y, values, above, pixels=3000):
    """The Path around values [y, x] above a level, without the points that no eye can tell."""
    top = max(np.max(values), above) + 1
    path = Figure().subplots().contourf(x, y, values, [above, top]).get_paths()[0]
    fine = Affine2D().scale(pixels / (x[-1] - x[0]))
    return fine.inverted().transform_path(path.cleaned(fine, simplify=True))


def outside(study, points):
    """Which of points [n, 2] lie outside that region, by the nearest grid point."""
    x, y, log_p = (study.arrays[f'density/{name}'] for name in ('x', 'y', 'truth'))
    i = np.rint((points[:, 1] - y[0]) / (y[1] - y[0])).astype(int)
    j = np.rint((points[:, 0] - x[0]) / (x[1] - x[0])).astype(int)
    there = (i >= 0) & (i < len(y)) & (j >= 0) & (j < len(x))
    inside = log_p[np.clip(i, 0, len(y) - 1), np.clip(j, 0, len(x) - 1)] > level(log_p)
    return ~(there & inside)


def dots(panel, points, colour, size, **options):
    """Draw points [n, 2] as one path of round caps: small files, and no point covers another."""
    points = np.repeat(np.asarray(points, float), 2, axis=0)
    # Some renderers leave out lines of no length.
    points[1::2, 0] += 1e-5
    codes = np.tile([Path.MOVETO, Path.LINETO], len(points) // 2)
    patch = PathPatch(Path(points, codes), fill=False, edgecolor=colour, linewidth=size, **options)
    patch.set_capstyle('round')
    panel.add_patch(patch)


def bare(panel, x, y):
    """Equal scales, these limits, no ticks, a thin frame."""
    panel.set(xlim=x, ylim=y, aspect='equal', xticks=[], yticks=[])
    panel.grid(False)
    panel.spines[:].set_visible(True)
