"""A sweep of two guides as its page sees it: scores and examples by (w, α)."""

import dataclasses
from typing import Any

import numpy as np

from autoguide_jax import files
from autoguide_jax.report.stats import (
    METRICS,
    Stat,
    decimals,
    estimate,
    marks,
    number,
    paired,
    title_of,
)

AXES = ('weight', 'alpha')
UNGUIDED = (1.0, None)  # the key of w = 1, where α is void


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What the workdir of a sweep over (w, α) holds.

    rows: (w, α) → its scored rows, one per set of seeds; w = 1, where no guide acts, is UNGUIDED.
    examples: (w, α) → images uint8 [k, h, w, c], of the same seeds everywhere.
    """

    workdir: Any
    meta: dict
    rows: dict[tuple, list[dict]]
    examples: dict[tuple, np.ndarray]

    @property
    def weights(self):
        """Weights other than 1 at which there is a distance, ascending."""
        return sorted({w for w, _ in self.stats() if w != 1})

    @property
    def alphas(self):
        """Shares of the guide at which there is a distance, ascending."""
        return sorted({alpha for w, alpha in self.stats() if w != 1})

    @property
    def score(self):
        """The settings under score."""
        return self.meta['settings']['score']

    @property
    def distance(self):
        """The metric that the sweep is sorted by."""
        return self.score['metrics'][0]

    @property
    def title(self):
        """What the distance is called."""
        return title_of(self.meta, self.distance)

    def stat(self, key, metric=None):
        """The Stat of a metric, None = the distance, at (w, α); None without any value."""
        found = self._blocks(key, metric or self.distance).values()
        return Stat(*zip(*found)) if found else None

    def _blocks(self, key, name):
        """Seeds → stats.estimate of a metric at (w, α)."""
        known = {tuple(row['seeds']): estimate(row, name) for row in self.rows.get(key, [])}
        return {seeds: found for seeds, found in known.items() if found[0] is not None}

    def excess(self, key, other):
        """The Stat of the distance at one (w, α) minus that at another on the same seeds."""
        return paired(self._blocks(key, self.distance), self._blocks(other, self.distance))

    @property
    def spread(self):
        """What stands behind ±, in words."""
        return 'standard error' if self.score['repeats'] == 1 else 'standard deviation'

    def undefined(self):
        """Metric → (scores without a value, why), where there are any."""
        found = {}
        for row in (row for rows in self.rows.values() for row in rows):
            for name, why in (row.get('undefined') or {}).items():
                found[name] = found.get(name, (0,))[0] + 1, why
        return found

    def fewer(self):
        """Metric → images that it asks for, where the scores have less."""
        found = {}
        for rows in self.rows.values():
            for row in rows:
                found |= row.get('fewer') or {}
        return found

    def stats(self):
        """(w, α) → Stat of the distance, of all settings."""
        found = {key: self.stat(key) for key in sorted(self.rows, key=order)}
        return {key: stat for key, stat in found.items() if stat}

    def marks(self):
        """(w, α) → 'best', or 'tie' where the interval of the difference to the best holds 0."""
        return marks(METRICS[self.distance], self.stats(), self.excess)

    @property
    def places(self):
        """Decimals of the distance: those that tell the best settings apart."""
        stats = self.stats()
        return decimals([stats[key] for key in self.marks()] or list(stats.values()))

    def best(self, alpha=None):
        """The guided (w, α) of the lowest mean distance, of one α if it is given."""
        stats = self.stats()
        keys = [k for k in stats if k != UNGUIDED and alpha in (None, k[1])]
        return min(keys, key=lambda key: stats[key].mean)

    @property
    def guided_is_best(self):
        """Whether any guidance has a lower mean distance than none."""
        base = self.stat(UNGUIDED)
        return not base or self.stat(self.best()).mean < base.mean


def order(key):
    """Sort key of (w, α): no guidance first."""
    weight, alpha = key
    return (-1.0 if alpha is None else alpha), weight


def key_of(row):
    """(w, α) of a row."""
    weight, alpha = float(row['setting']['weight']), float(row['setting']['alpha'])
    return UNGUIDED if weight == 1 else (weight, alpha)


def fits(meta, rows, axes):
    """Whether a sweep is a grid of guide and uncond over w and α alone, with a score at w ≠ 1.

    meta: sweep.json; rows: the scored rows that belong to it; axes: what varies in them.
    """
    settings = meta['settings']
    roles = all((settings.get(role) or {}).get('run') for role in ('guide', 'uncond'))
    grid = all(row.get('phase', 'sweep') == 'sweep' for row in rows)
    if not roles or not grid or set(axes) - set(AXES) or len({r['seeds'][1] for r in rows}) > 1:
        return False
    first = settings['score']['metrics'][0]
    guided = (row for row in rows if row['setting']['weight'] != 1)
    return any(number(row['metrics'].get(first)) is not None for row in guided)


def read(workdir):
    """The Sweep in a folder whose sweep.json and rows `fits`."""
    workdir = files.path(workdir)
    meta = files.read_json(workdir / 'sweep.json')
    asked, rows = set(meta['rows']), {}
    for row in {r['key']: r for r in files.read_jsonl(workdir / 'results.jsonl')}.values():
        if row['key'] in asked:
            rows.setdefault(key_of(row), []).append(row)
    return Sweep(workdir, meta, rows, _examples(workdir, rows, meta['settings']['score']))


def _examples(workdir, rows, score):
    found = {}
    for key, group in rows.items():
        for row in (r for r in group if r['seeds'][0] == score['first_seed']):
            file = workdir / 'examples' / f'{row["measurement"]}.npz'
            if score['examples'] and file.exists():
                with files.open_npz(file) as arrays:
                    found[key] = arrays['images'][: score['examples']]
    return found
