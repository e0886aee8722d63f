"""A study directory of the 2-D example as its report sees it: rows, error fields, arrays."""

import dataclasses
import math
from typing import Any

from autoguide_jax import files
from autoguide_jax.report.stats import Stat, number

PHASES = ('arms', 'degradation', 'guides', 'trade_off')


@dataclasses.dataclass(frozen=True)
class Toy:
    """What the directory holds; parts that are not there yet are empty.

    rows, fields: lines of results.jsonl and fields.jsonl; arrays: name → array of figures.npz.
    """

    workdir: Any
    meta: dict
    rows: list[dict]
    fields: list[dict]
    arrays: dict

    @property
    def arms(self):
        """Arm → {title, description}, in the order of the study."""
        return self.meta['arms']

    @property
    def seeds(self):
        return list(self.meta.get('seeds') or sorted({row['seed'] for row in self.rows}))

    @property
    def settings(self):
        return self.meta.get('settings') or {}

    @property
    def finished(self):
        return isinstance(self.meta.get('rows'), list)

    @property
    def unguided(self):
        """The arm of the main network alone."""
        return self.picture('unguided') or 'none'

    def picture(self, name):
        """A setting of the pictures, None if it is not known."""
        return (self.settings.get('pictures') or {}).get(name)

    def role(self, _):
        """The roles of an image study are not played here."""

    def title(self, arm):
        """Title of an arm, of a corrupted pair or of a family of the trade-off."""
        pairs = (self.settings.get('degradation') or {}).get('pairs') or {}
        families = (self.settings.get('trade_off') or {}).get('families') or {}
        for group in (self.arms, pairs, families):
            if (group.get(arm) or {}).get('title'):
                return group[arm]['title']
        return arm.replace('_', ' ')

    def run_title(self, run):
        """A training run by its width."""
        tree = ((self.settings.get('runs') or {}).get(run) or {}).get('network') or {}
        return f'{run}, {tree["width"]} wide' if tree.get('width') else run

    def iterations(self, nimg):
        """Training iterations after nimg points."""
        tree = (self.settings.get('runs') or {}).get(self.main_run) or {}
        return nimg / ((tree.get('train') or {}).get('batch_size') or 4096)

    @property
    def main_run(self):
        return (self.settings.get('guides') or {}).get('main') or 'main'

    def of(self, phase, **tags):
        """Rows of a phase with these tags."""
        return _matching(self.rows, phase, tags)

    def fields_of(self, phase, **tags):
        """Lines of fields.jsonl of a phase with these tags."""
        return _matching(self.fields, phase, tags)

    def stat(self, arm, metric):
        """Stat over the training seeds of an arm, None without any."""
        return stat(value(row, metric) for row in self.of('arms', arm=arm))

    def order(self, phase):
        """Names of a phase: those of the settings first, in the order in which they were scored."""
        return list(dict.fromkeys(row['arm'] for row in self.of(phase)))


def _matching(rows, phase, tags):
    tags = {'phase': phase, **tags}
    return [row for row in rows if all(row.get(k) == v for k, v in tags.items())]


def value(row, metric):
    """A metric of a row, None if it is missing or not finite."""
    return number((row.get('metrics') or {}).get(metric))


def stat(values):
    """Stat of the values that are there, None without any."""
    values = tuple(v for v in values if v is not None)
    return Stat(values) if values else None


def weight_of(row):
    """Guidance weight of a row."""
    found = number((row.get('setting') or {}).get('weight'))
    return number(row.get('weight')) if found is None else found


def interval_of(row):
    """Noise levels (lo, hi] at which the guide of a row acts."""
    low, high = (row.get('setting') or {}).get('interval') or (0.0, math.inf)
    return float(low), float(high)


def read(workdir):
    """The Toy in a folder. Errors: ValueError if the folder does not hold one."""
    workdir = files.path(workdir)
    meta = files.read_json(workdir / 'study.json')
    arms = meta.get('arms')
    if not isinstance(arms, dict) or not arms:
        raise ValueError(f'{workdir}/study.json names no arms: it is not the file of a study')
    order = [name for name in meta.get('order') or [] if name in arms]
    meta['arms'] = {name: arms[name] for name in dict.fromkeys((*order, *arms))}
    rows, fields = (_rows(workdir / f'{name}.jsonl', meta) for name in ('results', 'fields'))
    return Toy(workdir, meta, rows, fields, _arrays(workdir / 'figures.npz'))


def _rows(file, meta):
    """The rows that count: those that study.json lists, or the newest of each setting."""
    listed, found = meta.get('rows'), {}
    for i, row in enumerate(files.read_jsonl(file), 1):
        if not {'phase', 'arm', 'seed'} <= row.keys():
            raise ValueError(f'{file}, row {i}: has no phase, arm or seed, so it is no score')
        if isinstance(listed, list):
            if row.get('key') in listed:
                found[row['key'], row['phase'], row['arm']] = row
        elif row['phase'] in PHASES and row['seed'] in (meta.get('seeds') or [row['seed']]):
            names = ('phase', 'arm', 'seed', 'nimg', 'std')
            key = tuple(row.get(k) for k in names)
            found[key, weight_of(row), interval_of(row)] = row
    return list(found.values())


def _arrays(file):
    if not file.exists():
        return {}
    with files.open_npz(file) as archive:
        return {name: archive[name] for name in archive}


def missing(study):
    """What a finished study would have and this one has not, as short texts."""
    seeds = len(study.seeds)
    texts = {
        'arms': 'scores of the arms',
        'degradation': 'corrupted networks',
        'guides': 'the trial of guides',
        'trade_off': 'the trade-off over weights and intervals',
    }
    notes = [text for phase, text in texts.items() if not study.of(phase)]
    if study.of('arms'):
        counts = {arm: len({r['seed'] for r in study.of('arms', arm=arm)}) for arm in study.arms}
        short = [study.title(arm) for arm, count in counts.items() if count < seeds]
        notes += [f'scores of some of the {seeds} training seeds: {", ".join(short)}'] * bool(short)
    if not study.fields:
        notes.append('error fields')
    if not study.arrays:
        notes.append('arrays of the pictures (figures.npz)')
    if not notes and not study.finished:
        notes.append('the last steps: study.json does not list the rows that count yet')
    return notes
