"""All settings of a sweep as a table, best first; and as rows for a terminal."""

from autoguide_jax.report.sheet import esc
from autoguide_jax.report.sweep import payload, values
from autoguide_jax.report.sweep.read import metric
from autoguide_jax.report.tables import DASH, table
from autoguide_jax.report.words import mean_and_spread, plus_minus, times

MOST = 200  # rows in the page without its script


def build(sweep, entries):
    """A table of entries, without scripts."""
    axes = ''.join(f'<th>{esc(values.title(name))}</th>' for name in sweep.axes)
    heads = ''.join(_head(sweep, name) for name in sweep.metrics)
    cost = '<th>computation</th><th>calls per image</th><th>seconds</th>'
    marks = sweep.marks
    body = [_row(sweep, entry, marks.get(entry, '')) for entry in entries]
    return table(f'<tr>{axes}{heads}{cost}</tr>', body)


def _head(sweep, name):
    known = metric(name)
    title = f'{esc(sweep.title(name))}&nbsp;{known.arrow()}'
    return f'<th title="{esc(known.meaning)}">{title}</th>'


def _row(sweep, entry, mark):
    cells = [f'<td>{esc(values.text(a, v))}</td>' for a, v in entry.point.items()]
    for name in sweep.metrics:
        kind = mark if name == sweep.distance else ''
        cells.append(_stat(entry.stat(name), sweep.places[name], kind))
    relative, main, guide, _, seconds = payload.cost(entry)
    cells.append(f'<td>{times(relative)}</td>' if relative else DASH)
    cells.append(f'<td>{main:g} + {guide or 0:g}</td>' if main is not None else DASH)
    cells.append(f'<td>{seconds:.1f}</td>')
    return f'<tr>{"".join(cells)}</tr>'


def _stat(stat, places, mark):
    if stat is None:
        return DASH
    mean, spread = mean_and_spread(stat, places)
    spread = f' <small>± {spread}</small>' if spread else ''
    kind = f' class="{mark}"' if mark else ''
    return f'<td{kind}>{mean}{spread}</td>'


def rows(sweep):
    """A dict per setting, best first: axes, metrics, cost, mark.

    Those scored on fresh seeds if there are any, else all over the full number of images.
    """
    places = sweep.places
    marks = sweep.marks
    found = []
    for entry in sweep.fresh or sweep.full:
        cell = lambda name: (s := entry.stat(name)) and plus_minus(s, places[name])  # noqa: B023
        relative = payload.cost(entry)[0]
        found.append(
            {
                **{values.title(a): values.text(a, v) for a, v in entry.point.items()},
                **{sweep.title(name): cell(name) or values.NONE for name in sweep.metrics},
                'computation': times(relative) if relative else values.NONE,
                'mark': marks.get(entry, ''),
            }
        )
    return found
