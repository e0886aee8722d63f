"""The numbers of a sweep as its script reads them: columns, one value per entry."""

import os
import urllib.parse

from autoguide_jax import files
from autoguide_jax.report import mosaics
from autoguide_jax.report.script import short, stat
from autoguide_jax.report.sweep import values, views
from autoguide_jax.report.sweep.read import ROLES, is_number, metric


def build(sweep, shown):
    """What the script of the page reads, as JSON has it. shown: Pictures."""
    counts = sweep.counts
    return {
        'axes': [_axis(name, found) for name, found in sweep.axes.items()],
        'metrics': [_metric(sweep, name) for name in sweep.metrics],
        'counts': counts,
        'count': [counts.index(entry.count) for entry in sweep.entries],
        'points': _points(sweep),
        'stats': {name: [stat(e.stat(name)) for e in sweep.entries] for name in sweep.metrics},
        'marks': _by_index(sweep),
        'apart': _apart(sweep),
        'cost': [cost(entry) for entry in sweep.entries],
        'lines': [[row['line'] for row in entry.rows] for entry in sweep.entries],
        'kept': [next((r.get('measurement') for r in e.rows), None) for e in sweep.entries],
        'runs': runs(sweep),
        'view': views.axes(sweep),
        'anchor': sweep.entries.index(views.anchor(sweep)),
        'history': [
            {'count': count, 'points': _thin(found)} for count, found in views.spent(sweep).items()
        ],
        'heads': shown.heads,
        'pictures': {str(i): mosaics.text(drawn) for i, drawn in shown.mosaics.items()},
    }


def _axis(name, found):
    scale = values.scale(name, found)
    return {
        'name': name,
        'title': values.title(name),
        'scale': scale,
        'numeric': all(map(is_number, found)),
        'values': [v if scale != 'ordinal' else i for i, v in enumerate(found)],
        'texts': [values.text(name, v) for v in found],
    }


def _metric(sweep, name):
    known = metric(name)
    return {
        'name': name,
        'title': sweep.title(name),
        'arrow': known.arrow(),
        'better': known.better,
        'meaning': known.meaning,
        'places': sweep.places[name],
    }


def _points(sweep):
    """For each entry the index of its value on every axis, −1 for none."""
    index = {name: {v: i for i, v in enumerate(found)} for name, found in sweep.axes.items()}
    return [[index[a].get(v, -1) for a, v in entry.point.items()] for entry in sweep.entries]


def _by_index(sweep):
    found = sweep.marks
    return {str(i): found[e] for i, e in enumerate(sweep.entries) if e in found}


def _apart(sweep):
    """For each entry [distance less that of the best, half the 95 % interval], same seeds."""
    best, full = sweep.full[0], set(sweep.full)
    found = [e in full and e is not best and sweep.excess(e, best) for e in sweep.entries]
    return [[short(one.mean), short(one.half)] if one else None for one in found]


def cost(entry):
    """[computation per image, calls of main, calls of guides, images, seconds] of an entry."""
    row = entry.rows[0]
    nfe = row.get('nfe') or {}
    relative = (row.get('cost') or {}).get('relative')
    seconds = sum(row.get('seconds') or 0 for row in entry.rows)
    images = entry.count * len(entry.rows)
    return [short(relative), nfe.get('main'), nfe.get('guide'), images, short(seconds)]


def runs(sweep):
    """[name of the network, run directory, address of its config.json or None] of all networks."""
    found = {}
    for row in sweep.rows:
        for role in ROLES:
            if name := ((row['setting'].get(role) or {}).get('run')):
                found.setdefault((role, name))
    return [[role, name, _address(sweep.workdir, name)] for role, name in found]


def _address(workdir, run):
    """Where config.json of a run lies, relative to the page; None if it is not there, or remote."""
    if '://' in run or files.is_remote(workdir):
        return None
    file = files.path(run) / 'config.json'
    if not file.exists():
        return None
    return urllib.parse.quote(os.path.relpath(file, workdir).replace(os.sep, '/'))


def _thin(points):
    """Steps of a search: only where the best changes, and the ends."""
    last = len(points) - 1
    kept = [p for i, p in enumerate(points) if i in (0, last) or p[1] != points[i - 1][1]]
    return [[images, short(best)] for images, best in kept]
