"""A study directory as the report sees it: arms, scored rows, training runs, samples."""

import dataclasses
from typing import Any

import numpy as np

from autoguide_jax import files
from autoguide_jax.report import stats
from autoguide_jax.report.samples import images_of

REAL = 'real'
SELECTING = ('search', 'curve', 'heatmap')
FRESH = ('final', 'steps')
SCORED = {'final': 'the final scores', 'steps': 'the final scores', 'floor': 'the floor'}
ROLES = {
    'baseline': ('none', 'unguided'),
    'cfg': ('cfg',),
    'autoguidance': ('autoguidance', 'auto', 'ag'),
}


@dataclasses.dataclass(frozen=True)
class Study:
    """What a study directory holds; parts that are not there yet are empty.

    arms: name → {title, description, main, guide, uncond}; rows: scored settings, each once;
    runs: name → (config, log); samples: arm → (images uint8 [k,h,w,c], labels int [k]).
    """

    workdir: Any
    meta: dict
    arms: dict[str, dict]
    rows: list[dict]
    runs: dict[str, tuple[dict, list[dict]]]
    samples: dict[str, tuple[np.ndarray, np.ndarray]]

    @property
    def distance(self):
        """The metric that was minimised: the first of the study's."""
        first = (self.meta.get('metrics') or ['frechet'])[0]
        return first if first in stats.METRICS else 'frechet'

    @property
    def columns(self):
        """Metrics that have a value, the distance before all others."""
        keys = dict.fromkeys([self.distance, *stats.METRICS])
        arms = (*self.arms, REAL)
        return [key for key in keys if any(self.stat(arm, key) for arm in arms)]

    @property
    def metric_title(self):
        """What the distance is called."""
        return stats.title_of(self.meta, self.distance)

    @property
    def data(self):
        """What tells the data set from others, {} as long as it is not known."""
        return self.meta.get('dataset') or self.meta.get('data') or {}

    @property
    def features(self):
        """(name of the features that scores are taken on, accuracy of the classifier or None)."""
        about = self.meta.get('features') or self.meta.get('classifier') or {}
        known = [stats.number(v) for k, v in about.items() if 'accuracy' in k]
        return about.get('noun') or 'small classifier', known[0] if known else None

    def title(self, arm):
        """Return the plain-word title of an arm."""
        return 'Real images' if arm == REAL else self.arms[arm].get('title') or arm

    def of(self, phase, arm=None):
        """Return the rows of a phase, of one arm if it is given."""
        return [r for r in self.rows if r['phase'] == phase and arm in (None, r['arm'])]

    def estimate(self, row, key=None):
        """Return stats.estimate of a metric of a row.

        key: a metric, None = the distance; the same in what follows.

        Class variance that is stored as an absolute number is divided by that of real images.
        """
        for name in stats.METRICS[key or self.distance].names:
            unit = self._real_variance if name == 'class_variance' else 1.0
            if (found := stats.estimate(row, name, unit))[0] is not None:
                return found
        return None, None, None

    def value(self, row, key=None):
        """Return a metric of a row; None if it is missing, undefined or not finite."""
        return self.estimate(row, key)[0]

    def of_row(self, row, key=None):
        """Return the Stat of a metric of a single row, None without a value."""
        told = self.estimate(row, key)
        return None if told[0] is None else stats.Stat(*zip(told))

    @property
    def _real_variance(self):
        rows = [row.get('metrics') or {} for row in self.of('floor')]
        found = [v for row in rows if (v := stats.number(row.get('class_variance')))]
        return sum(found) / len(found) if found else float('nan')

    def blocks(self, arm, key=None):
        """Return seeds → stats.estimate of an arm's final rows ('real': floor)."""
        rows = self.of('floor') if arm == REAL else self.of('final', arm)
        found = {tuple(r.get('seeds') or [i]): self.estimate(r, key) for i, r in enumerate(rows)}
        return {seeds: found[seeds] for seeds in found if found[seeds][0] is not None}

    def stat(self, arm, key=None):
        """Return the Stat of an arm's final rows (of the floor's for 'real'), None without any."""
        found = self.blocks(arm, key).values()
        return stats.Stat(*zip(*found)) if found else None

    def difference(self, arm, other, key=None):
        """Return the Stat of arm − other on the seed blocks that both have, None without any."""
        return stats.paired(self.blocks(arm, key), self.blocks(other, key))

    def unscored(self, arm):
        """Return why an arm has no distance, in a few words."""
        rows = self.of('floor') if arm == REAL else self.of('final', arm)
        reasons = [(row.get('undefined') or {}).get(self.distance) for row in rows]
        why = next(filter(None, reasons), '')
        return ('no value' + (f': {why}' if why else '')) if rows else 'not scored yet'

    def fewer(self):
        """Return metric → (images that it asks for, {which scores have less: how many})."""
        found = {}
        for row in self.rows:
            for name, least in (row.get('fewer') or {}).items():
                which = SCORED.get(row['phase'], 'the search and scans')
                counts = found.setdefault(name, (least, {}))[1]
                counts.setdefault(which, set()).add(row.get('images'))
        return found

    def places(self, key=None):
        """Return how many decimals a metric is shown with, everywhere on the page."""
        return stats.decimals([self.stat(arm, key) for arm in (*self.arms, REAL)])

    def unguided(self, arm):
        """Return the arm without guidance that has the main network of arm, None without one."""
        for other, about in self.arms.items():
            guided = about.get('guide') or about.get('uncond')
            if about.get('main') == self.arms[arm].get('main') and not guided:
                return other
        return None

    def chosen(self, arm):
        """Return the setting that an arm was scored with in the end, {} if it was not yet."""
        rows = self.of('final', arm)
        return rows[0].get('setting') or {} if rows else {}

    def cost(self, arm):
        """Return FLOPs per image relative to the unguided main network, or None."""
        rows = self.of('final', arm)
        return stats.number((rows[0].get('cost') or {}).get('relative')) if rows else None

    def role(self, name):
        """Return the arm that plays 'baseline', 'cfg' or 'autoguidance', None if there is none."""
        for arm in ROLES[name]:
            if arm in self.arms:
                return arm
        guided = {
            arm: (bool(a.get('guide')), bool(a.get('uncond'))) for arm, a in self.arms.items()
        }
        wanted = {
            'baseline': (False, False),
            'cfg': (False, True),
            'autoguidance': (True, False),
        }[name]
        return next((arm for arm, has in guided.items() if has == wanted), None)

    def groups(self):
        """Return main run → its arms, in order of display."""
        found = {}
        for arm, about in self.arms.items():
            found.setdefault(about.get('main') or '', []).append(arm)
        return found


def weight_of(row):
    """Return the guidance weight of a row, 1 where there is none."""
    weight = stats.number((row.get('setting') or {}).get('weight'))
    return 1.0 if weight is None else weight


def std_of(setting, who):
    """Return the EMA length of 'main', 'guide' or 'uncond' in a setting, None if it has none."""
    return stats.number((setting.get(who) or {}).get('std'))


def read(workdir):
    """Return the Study in a folder. Errors: ValueError if the folder does not hold one."""
    workdir = files.path(workdir)
    if not (workdir / 'study.json').exists():
        raise ValueError(
            f'--workdir ({workdir}) is not a study: it has no study.json. '
            'Give the --workdir of python -m autoguide_jax study.'
        )
    meta = files.read_json(workdir / 'study.json')
    arms = meta.get('arms') if isinstance(meta, dict) else None
    if (
        not isinstance(arms, dict)
        or not arms
        or not all(isinstance(a, dict) for a in arms.values())
    ):
        raise ValueError(f'{workdir}/study.json names no arms: it is not the file of a study')
    rows = _current(_rows(workdir / 'results.jsonl', arms), meta)
    return Study(workdir, meta, arms, rows, _runs(workdir, arms), _samples(workdir, arms))


def _rows(file, arms):
    """Read the scored rows; the last one counts where a setting was scored twice."""
    found = {}
    for number_, row in enumerate(files.read_jsonl(file), 1):
        if not {'phase', 'arm'} <= row.keys():
            raise ValueError(f'{file}, row {number_}: has no phase or no arm, so it is no score')
        if row['arm'] in arms or row['arm'] == REAL:
            found[row['phase'], row['arm'], row.get('key', number_)] = row
    return list(found.values())


def _current(rows, meta):
    """Return the rows that belong to the study as it is; results.jsonl keeps those of its past too.

    study.json may list their keys under rows. Without that a row is of the past if its seeds are
    not the study's, or if it is a final score of another setting than the arm's newest one.
    """
    if isinstance(meta.get('rows'), list):
        keys = set(meta['rows'])
        return [row for row in rows if row.get('key') in keys]
    blocks = (meta.get('final') or {}).get('seed_blocks') or []
    selection = (meta.get('search') or {}).get('seeds')
    allowed = {'final': blocks, 'steps': blocks}
    allowed |= dict.fromkeys(SELECTING, [selection] if selection else [])
    newest = {row['arm']: row.get('setting') for row in rows if row['phase'] == 'final'}

    def belongs(row):
        seeds, known = row.get('seeds'), allowed.get(row['phase'])
        if seeds and known and seeds not in known:
            return False
        return row['phase'] not in FRESH or row.get('setting') == newest.get(row['arm'])

    return [row for row in rows if belongs(row)]


def _runs(workdir, arms):
    """Read the training runs: main networks first, then guides, as the arms name them."""
    found = {}
    named = [a.get(who) for who in ('main', 'uncond', 'guide') for a in arms.values()]
    there = files.names(workdir / 'runs')
    for name in dict.fromkeys([run for run in named if run in there] + there):
        folder = workdir / 'runs' / name
        if (folder / 'config.json').exists():
            config = files.read_json(folder / 'config.json')
            found[name] = config, files.read_jsonl(folder / 'metrics.jsonl')
    return found


def _samples(workdir, arms):
    found = {arm: workdir / 'samples' / f'{arm}.npz' for arm in arms}
    return {arm: images_of(file) for arm, file in found.items() if file.exists()}


def missing(study):
    """Return what a finished study would have and this one has not, as short sentences."""
    final, searched = study.of('final'), study.of('search')
    mapped = ((study.meta.get('settings') or {}).get('extra') or {}).get('heatmap_arm', True)
    blocks = len((study.meta.get('final') or {}).get('seed_blocks') or [])
    counts = {arm: sum(row['arm'] == arm for row in final) for arm in study.arms}
    unscored = [arm for arm, count in counts.items() if not count]
    partly = [arm for arm, count in counts.items() if 0 < count < blocks]
    needed = {a.get(who) for a in study.arms.values() for who in ('main', 'guide', 'uncond')}
    untrained = sorted(run for run in needed if run and run not in study.runs)
    unsampled = [arm for arm in study.arms if arm not in study.samples]

    def named(arms):
        return 'every arm' if len(arms) == len(study.arms) else ', '.join(map(study.title, arms))

    notes = [
        untrained and f'training runs not started: {", ".join(untrained)}',
        not searched and 'the search for settings',
        unscored and f'final scores of {named(unscored)}',
        partly and f'some of the {blocks} seed blocks of {named(partly)}',
        unsampled and f'sample images of {named(unsampled)}',
        not study.of('curve') and 'the score against guidance weight',
        mapped and not study.of('heatmap') and 'the map over EMA lengths',
        not study.of('floor') and 'the score of real images (floor)',
    ]
    return [note for note in notes if note]
