"""What follows from the rows: best and predicted weights, guides, the trade-off, error fields.

(1) predicted weight of a corrupted pair: r/(r − 1), r the median over noise levels of ‖e_0‖/‖e_m‖;
    it holds for aligned errors and r > 1, else there is none.
(2) best weight of a corrupted pair: the tried one with the least shift, for each training seed.
(3) best weight of a guide: the tried one with the fewest outliers in the mean over training seeds.
(4) target: at most half of the unguided outliers at most 1.5 times the unguided branch KL.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from autoguide_jax.report.stats import Stat, number
from autoguide_jax.report.toy.read import interval_of, stat, value, weight_of

LOW, HIGH = 0.003, 0.1  # noise levels over which errors on paths are averaged


class Corrupted(NamedTuple):
    """A corrupted pair or a control. curve: seed → {weight: shift, or outliers for a control}."""

    name: str
    title: str
    control: bool
    curve: dict
    r: Stat | None
    cosine: Stat | None
    predicted: Stat | None
    optimal: Stat | None
    best: Stat | None
    at_one: Stat | None
    at_best: Stat | None


class Guide(NamedTuple):
    """A guide by run, age (images seen) and EMA length; r and cosine on paths of outliers."""

    run: str
    nimg: int
    std: float
    r: Stat | None
    cosine: Stat | None
    weight: float | None
    outliers: Stat | None
    relative: Stat | None
    coverage: Stat | None
    kl: Stat | None


class Point(NamedTuple):
    """A setting of the trade-off."""

    family: str
    interval: tuple
    weight: float
    outliers: Stat
    kl: Stat


def median(values):
    """Median of the numbers among the values, None without any."""
    values = [v for v in map(number, values) if v is not None]
    return float(np.median(values)) if values else None


def predict(r):
    """Predicted weight by (1), None where it does not hold."""
    return r / (r - 1) if r is not None and r > 1 else None


def corrupted(study):
    """Every pair of phase degradation, those with a corrupted main network first."""
    found = [_corrupted(study, name) for name in study.order('degradation')]
    return sorted(found, key=lambda pair: pair.control)


def _corrupted(study, name):
    rows, metric = study.of('degradation', arm=name), 'shift'
    whole = all((((r.get('setting') or {}).get('main')) or {}).get('degrade') is None for r in rows)
    if whole:
        metric = 'outliers_1'
    curve = {}
    for row in rows:
        if (v := value(row, metric)) is not None:
            curve.setdefault(row['seed'], {})[weight_of(row)] = v
    curve = {seed: dict(sorted(by_weight.items())) for seed, by_weight in curve.items()}
    best = {seed: min(c, key=c.get) for seed, c in curve.items()}
    fields = [row['data'] for row in study.fields_of('degradation', arm=name) if row.get('data')]
    r = [median(data['r']) for data in fields]
    predicted = [predict(v) for v in r]
    return Corrupted(
        name,
        study.title(name),
        whole,
        curve,
        stat(r),
        stat(median(data['cosine']) for data in fields),
        None if None in predicted else stat(predicted),
        stat(median(data['weight']) for data in fields),
        stat(best.values()),
        stat(c.get(1.0) for c in curve.values()),
        stat(c[best[seed]] for seed, c in curve.items()),
    )


def best_weight(pair):
    """The tried weight with the least mean over training seeds."""
    weights, grid = table(pair)
    return float(weights[np.argmin(grid.mean(axis=0))])


def table(pair):
    """weights [k] that all seeds have and values [seeds, k]; controls relative to w = 1."""
    weights = sorted(set.intersection(*(set(c) for c in pair.curve.values())))
    grid = np.array([[c[w] for w in weights] for c in pair.curve.values()])
    if pair.control and 1.0 in weights:
        grid = grid / np.maximum(grid[:, [weights.index(1.0)]], 1e-12)
    return np.array(weights), grid


def guides(study):
    """Every guide of phase guides, by run, EMA length and age."""
    keys = dict.fromkeys((r['arm'], r['std'], r['nimg']) for r in study.of('guides'))
    order = list(dict.fromkeys(run for run, _, _ in keys))
    keys = sorted(keys, key=lambda k: (order.index(k[0]), k[1], k[2]))
    return [_guide(study, run, nimg, std) for run, std, nimg in keys]


def _guide(study, run, nimg, std):
    rows = study.of('guides', arm=run, nimg=nimg, std=std)
    alone = {r['seed']: value(r, 'outliers_1') for r in study.of('arms', arm=study.unguided)}
    by_weight = {}
    for row in rows:
        by_weight.setdefault(weight_of(row), []).append(row)
    means = {w: stat(value(r, 'outliers_1') for r in found) for w, found in by_weight.items()}
    means = {w: s.mean for w, s in means.items() if s}
    weight = min(means, key=means.get, default=None)
    chosen = by_weight.get(weight, [])
    relative = [value(r, 'outliers_1') / alone[r['seed']] for r in chosen if alone.get(r['seed'])]
    fields = [row.get('outliers') for row in study.fields_of('guides', arm=run, nimg=nimg, std=std)]
    return Guide(
        run,
        nimg,
        std,
        stat(_mean(data, 'r') for data in fields if data),
        stat(_mean(data, 'cosine') for data in fields if data),
        weight,
        stat(value(r, 'outliers_1') for r in chosen),
        stat(relative),
        stat(value(r, 'coverage') for r in chosen),
        stat(value(r, 'kl') for r in chosen),
    )


def _mean(data, name):
    """Mean over the noise levels in (LOW, HIGH)."""
    pairs = zip(data['sigma'], map(number, data[name]))
    values = [v for sigma, v in pairs if LOW < sigma < HIGH and v is not None]
    return float(np.mean(values)) if values else None


def unguided(study):
    """(outliers, branch KL) of the main network alone: of the trade-off, else of its arm."""
    rows = [r for r in study.of('trade_off') if weight_of(r) == 1]
    rows = list({r['seed']: r for r in rows}.values())
    rows = rows or study.of('arms', arm=study.unguided)
    return tuple(stat(value(r, metric) for r in rows) for metric in ('outliers_1', 'kl'))


def trade(study):
    """Guided settings of the trade-off as Points, by family, interval and weight."""
    groups = {}
    for row in study.of('trade_off'):
        if weight_of(row) != 1:
            groups.setdefault((row['arm'], interval_of(row), weight_of(row)), []).append(row)
    found = []
    for key, rows in groups.items():
        pair = [stat(value(r, metric) for r in rows) for metric in ('outliers_1', 'kl')]
        if all(pair):
            found.append(Point(*key, *pair))
    order = study.order('trade_off')
    return sorted(
        found, key=lambda p: (order.index(p.family), -p.interval[1], p.interval, p.weight)
    )


def target(study):
    """(outliers, branch KL) of the corner of the target zone (4), None without its reference."""
    outliers, kl = unguided(study)
    return (0.5 * outliers.mean, 1.5 * kl.mean) if outliers and kl else None


def paper_guide(study):
    """(run, nimg, std) of the guide in the close-up, at the shortest EMA length tried."""
    arms = study.settings.get('arms') or {}
    guide: Any = (arms.get(study.picture('guided')) or {}).get('guide') or {}
    rows = study.fields_of('guides')
    same = [r for r in rows if (r['arm'], r['nimg']) == (guide.get('run'), guide.get('nimg'))]
    same = same or [r for r in rows if r['arm'] == 'guide'] or rows
    if not same:
        return None
    row = min(same, key=lambda r: (r['std'], r['nimg']))
    return row['arm'], row['nimg'], row['std']


def along(study, key, where, name):
    """(sigma [k], mean [k], sd [k] or None) over seeds of a quantity of a guide's error fields."""
    run, nimg, std = key
    rows = [r.get(where) for r in study.fields_of('guides', arm=run, nimg=nimg, std=std)]
    rows = [r for r in rows if r]
    if not rows:
        return None
    sigma = np.asarray(rows[0]['sigma'], float)
    table = [r for r in rows if len(r['sigma']) == len(sigma)]
    grid = np.array([[_or_nan(v) for v in r[name]] for r in table])
    known = np.isfinite(grid).any(axis=0)
    sigma, grid = sigma[known], grid[:, known]
    order = np.argsort(sigma)
    spread = np.nanstd(grid, axis=0, ddof=1)[order] if len(grid) > 1 else None
    return sigma[order], np.nanmean(grid, axis=0)[order], spread


def _or_nan(v):
    v = number(v)
    return math.nan if v is None else v
