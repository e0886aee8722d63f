"""A sweep or a search as its page sees it: axes that vary, and scores by setting and image count.

A point has a value on every axis; None where the axis says nothing (the guide's, at w = 1). Scores
over different numbers of images are never put into one mean: they are entries of their own. So are
the scores of a search and those that its best settings had on fresh seeds, which alone are quoted.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from autoguide_jax import files
from autoguide_jax.report.stats import (
    METRICS,
    Metric,
    Stat,
    decimals,
    estimate,
    marks,
    paired,
    title_of,
)

CONFIRM = 'confirm'
SEARCHED = ('search', CONFIRM)
ROLES = ('main', 'guide', 'uncond')
OF_GUIDES = ('guide_', 'uncond_', 'alpha', 'interval_', 'rule', 'schedule')
TITLES = {
    'weight': 'w',
    'alpha': 'α',
    'main_std': 'EMA main',
    'guide_std': 'EMA guide',
    'uncond_std': 'EMA uncond.',
    'main_nimg': 'main trained',
    'guide_nimg': 'guide trained',
    'uncond_nimg': 'uncond. trained',
    'main_run': 'main',
    'guide_run': 'guide',
    'uncond_run': 'uncond.',
    'sampler_num_steps': 'steps',
    'interval_lo': 'σ above',
    'interval_hi': 'σ up to',
}


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """The scores of one setting over one number of images: a row for each set of seeds."""

    point: Mapping[str, Any]
    count: int
    rows: tuple[dict, ...]

    def blocks(self, name):
        """Seeds → stats.estimate of a metric, of the sets of seeds that have a value."""
        known = {tuple(row['seeds']): estimate(row, name) for row in self.rows}
        return {seeds: found for seeds, found in known.items() if found[0] is not None}

    @functools.cached_property
    def _stats(self):
        return {}

    def stat(self, name):
        """The Stat of a metric, None without any value."""
        if name not in self._stats:
            found = self.blocks(name).values()
            self._stats[name] = Stat(*zip(*found)) if found else None
        return self._stats[name]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What the workdir of a sweep or search holds.

    rows: scored rows in the order of the table, each with its line there (from 1) as 'line';
    confirmed: entries of settings that a search scored again on fresh seeds; entries: all others;
    axes: name → values that occur, ascending; fixed: what all settings share.
    """

    workdir: Any
    meta: dict
    rows: list[dict]
    entries: list[Entry]
    confirmed: list[Entry]
    axes: dict[str, list]
    fixed: dict[str, Any]

    @property
    def score(self):
        """The settings under score."""
        return self.meta['settings']['score']

    @property
    def search(self):
        """Name and settings of the search, {} for a grid."""
        found = self.meta.get('search') or self.meta['settings'].get('search') or {}
        return found if any(row.get('phase') in SEARCHED for row in self.rows) else {}

    @property
    def distance(self):
        """The metric that is minimised, by which settings are ranked."""
        return self.score['metrics'][0]

    @functools.cached_property
    def metrics(self):
        """The metrics that have a value anywhere, the distance first."""
        return [n for n in self.score['metrics'] if any(e.stat(n) for e in self.entries)]

    def title(self, name):
        """What a metric is called."""
        if name in METRICS:
            return title_of(self.meta, name)
        return (self.meta.get('titles') or {}).get(name) or metric(name).title

    @functools.cached_property
    def counts(self):
        """The numbers of images that settings were scored over, ascending; the last is full."""
        return sorted({entry.count for entry in self.entries})

    @functools.cached_property
    def full(self):
        """Entries over the full number of images that have a distance, best first."""
        scored = [
            (stat.mean, i)
            for i, entry in enumerate(self.entries)
            if entry.count == self.counts[-1] and (stat := entry.stat(self.distance))
        ]
        return [self.entries[i] for _, i in sorted(scored)]

    @functools.cached_property
    def places(self):
        """Metric → decimals that it is shown with: those that tell the best settings apart."""
        stats = {name: [e.stat(name) for e in self.full] for name in self.metrics}
        first = stats.get(self.distance, [])
        stats[self.distance] = first[: max(10, len(first) // 10)]
        return {name: decimals(found) for name, found in stats.items()}

    @functools.cached_property
    def marks(self):
        """Entry → 'best', or 'tie' where the interval of the difference to the best holds 0."""
        stats = {entry: entry.stat(self.distance) for entry in self.full}
        return marks(metric(self.distance), stats, self.excess)

    @functools.cached_property
    def fresh(self):
        """Confirmed entries that have a distance, best first."""
        known = [e for e in self.confirmed if e.stat(self.distance)]
        return sorted(known, key=lambda e: e.stat(self.distance).mean)

    def excess(self, entry, other, name=None):
        """The Stat of a metric, None = the distance, in one entry less another, by seeds."""
        name = name or self.distance
        return paired(entry.blocks(name), other.blocks(name))

    @property
    def numeric(self):
        """The axes whose values are numbers, at least two of them."""
        return [a for a, v in self.axes.items() if len(v) > 1 and all(map(is_number, v))]


def metric(name):
    """The Metric of a name; of prefixed ones (dino:frechet) the one behind the colon."""
    base = next((m for m in METRICS.values() if name.rpartition(':')[2] in m.names), None)
    if base is None:
        return Metric(name, name, 'lower', '', (name,))
    prefix = name.rpartition(':')[0]
    return base._replace(title=f'{base.title} ({prefix})') if prefix else base


def is_number(value):
    """Whether a value can stand on an axis of numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def point_of(row):
    """Axis → value of a row's setting: its networks' settings, its rule's, the interval's ends."""
    setting, found = dict(row['setting']), {}
    for role in (*ROLES, 'sampler'):
        for name, value in (setting.pop(role, None) or {}).items():
            found[f'{role}_{name}'] = value
    interval = setting.pop('interval', None)
    if interval:
        found['interval_lo'], found['interval_hi'] = map(float, interval)
    found = {'weight': setting.pop('weight', None), **found, **setting}
    if found['weight'] == 1 and not (row.get('nfe') or {}).get('guide'):
        found = {k: None if k.startswith(OF_GUIDES) else v for k, v in found.items()}
    return {k: _plain(v) for k, v in found.items()}


def _plain(value):
    """A value that can be told from others and shown: lists and dicts as their JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def read(workdir):
    """The Sweep in a folder. Errors: ValueError if it holds no scored row yet, or no sweep."""
    workdir = files.path(workdir)
    meta = files.read_json(workdir / 'sweep.json')
    if not isinstance(meta, dict) or 'score' not in (meta.get('settings') or {}):
        raise ValueError(f'{workdir}/sweep.json has no settings.score: it is no file of a sweep')
    rows = _rows(workdir, meta)
    if not rows:
        raise ValueError(f'--workdir ({workdir}): no setting has been scored yet')
    points = [point_of(row) for row in rows]
    names = {name for point in points for name in point}
    names = [*(n for n in TITLES if n in names), *sorted(names - TITLES.keys())]
    values = {name: _ordered({p.get(name) for p in points} - {None}) for name in names}
    axes = {name: found for name, found in values.items() if len(found) > 1}
    fixed = {name: found[0] for name, found in values.items() if len(found) == 1}
    entries, confirmed = _entries(rows, points, axes)
    return Sweep(workdir, meta, rows, entries, confirmed, axes, fixed)


def _entries(rows, points, axes):
    """(entries, those on fresh seeds) of rows at points."""
    groups = {}
    for row, point in zip(rows, points):
        mine = {name: point.get(name) for name in axes}
        fresh = row.get('phase') == CONFIRM
        key = tuple(mine.values()), row['seeds'][1], fresh
        groups.setdefault(key, (mine, {}))[1][tuple(row['seeds'])] = row
    found = {True: [], False: []}
    for (_, count, fresh), (point, group) in groups.items():
        found[fresh].append(Entry(point, count, tuple(group.values())))
    return found[False], found[True]


def _rows(workdir, meta):
    """The rows that belong to the sweep as it is, with their lines; those of its past fall out."""
    asked, found = set(meta.get('rows') or []), {}
    for line, row in enumerate(files.read_jsonl(workdir / 'results.jsonl'), 1):
        if not {'setting', 'seeds', 'metrics'} <= row.keys():
            raise ValueError(f'{workdir}/results.jsonl, row {line}: has no setting, seeds, metrics')
        if not asked or row.get('key') in asked:
            found[row.get('key', line)] = {**row, 'line': line}
    return list(found.values())


def _ordered(values):
    numbers = all(map(is_number, values))
    return sorted(values) if numbers else sorted(values, key=str)
