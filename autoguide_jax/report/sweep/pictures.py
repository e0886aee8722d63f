"""The kept examples of the settings as small PNG mosaics, within a budget of bytes."""

from typing import NamedTuple

import numpy as np

from autoguide_jax import files
from autoguide_jax.report import mosaics
from autoguide_jax.report.samples import images_of
from autoguide_jax.report.strips import arrange
from autoguide_jax.report.sweep import views


class Pictures(NamedTuple):
    """mosaics: index of the entry → PNG; heads: of the columns; note: what was left out, ''."""

    mosaics: dict[int, bytes]
    heads: list[str]
    note: str


def gather(sweep):
    """The Pictures of a sweep; the settings of its first slider before others, best first."""
    wanted = [i for i in _order(sweep) if _file(sweep.entries[i], sweep).exists()]
    if not wanted:
        return Pictures({}, [], '')
    images, labels = images_of(_file(sweep.entries[wanted[0]], sweep))
    seeds = _seeds(_file(sweep.entries[wanted[0]], sweep))
    count, pixels = mosaics.affordable(images, len(wanted))
    index, heads = arrange(labels[:count], 10, count)
    found, used = {}, 0
    for i in wanted:
        file = _file(sweep.entries[i], sweep)
        if not np.array_equal(_seeds(file)[:count], seeds[:count]):
            continue
        drawn = mosaics.small(images_of(file)[0][:count], index, pixels)
        used += len(drawn)
        if found and used > mosaics.BUDGET:
            break
        found[i] = drawn
    left = len(wanted) - len(found), len(wanted)
    note = mosaics.note(images, (count, pixels), 'settings', left, 'examples/')
    return Pictures(found, heads, note)


def _order(sweep):
    """Indices of the full entries: those on the line of the first slider, then best first."""
    slider, held = views.axes(sweep)['slider'], views.anchor(sweep).point
    number = {id(entry): i for i, entry in enumerate(sweep.entries)}

    def beside(entry):
        same = (entry.point[n] in (None, held[n]) for n in sweep.axes if n != slider)
        return not all(same)

    return [number[id(entry)] for entry in sorted(sweep.full, key=beside)]


def _file(entry, sweep):
    first = sweep.score['first_seed']
    row = next((r for r in entry.rows if r['seeds'][0] == first), entry.rows[0])
    return sweep.workdir / 'examples' / f'{row.get("measurement")}.npz'


def _seeds(file):
    with files.open_npz(file) as arrays:
        return arrays['seeds']
