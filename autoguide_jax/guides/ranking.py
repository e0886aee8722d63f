"""From the moments of a candidate to its row, and from rows to the table, best first."""

import math

import numpy as np

from autoguide_jax import guide_theory as theory

REPORTED = 3  # standard errors beyond which a line speaks of a difference


def number(value):
    """float, or None for what has no value."""
    return float(value) if np.isfinite(value) else None


def numbers(values):
    """Lists of floats, None for what has no value."""
    return [number(value) for value in np.asarray(values)]


def by_level(moments):
    """{name: list over noise levels}: the estimates, their standard errors as NAME_se, losses."""
    parts = {
        'ratio': theory.ratio,
        'excess_ratio': theory.excess_ratio,
        'cosine': theory.cosine,
        'weight': lambda m: theory.aligned_weight(theory.ratio(m)),
        'weight_ls': theory.least_squares_weight,
        'reference_lead': lambda m: m.reference,
    }
    found = {}
    for name, statistic in parts.items():
        value, error = theory.jackknife(statistic, moments)
        found |= {name: numbers(value), f'{name}_se': numbers(error)}
    means = theory.mean(moments)
    found['loss_main'] = numbers(means.loss)
    found['loss_guide'] = numbers(means.loss + means.guide)
    found['loss_reference'] = numbers(means.loss + means.reference)
    found |= {'mm': numbers(means.mm), 'mi': numbers(means.mi), 'ii': numbers(means.ii)}
    return found


def overall(moments, weights):
    """{name: value} over all noise levels, with standard errors as NAME_se; weights: λ(σ) [k]."""
    one = lambda statistic: lambda m: statistic(theory.pooled(m, weights))
    parts = {
        'score': theory.score,
        'ratio': theory.overall_ratio,
        'excess_ratio': one(theory.excess_ratio),
        'cosine': lambda m: np.mean(theory.cosine(m), axis=-1),
        'weight': lambda m: theory.aligned_weight(theory.overall_ratio(m)),
        'weight_ls': one(theory.least_squares_weight),
        'weight_data': one(theory.data_weight),
        'weight_gap': one(lambda m: theory.least_squares_weight(m) - theory.data_weight(m)),
        'removable': one(theory.removable),
        'reference_lead': one(lambda m: m.reference),
    }
    found = {}
    for name, statistic in parts.items():
        value, error = theory.jackknife(statistic, moments)
        found |= {name: number(value), f'{name}_se': number(error)}
    return found


def notes(row):
    """Lines about what in a row is not to be trusted."""
    levels, total = row['levels'], row['overall']
    bad = [f'{s:.3g}' for s, r in zip(levels['sigma'], levels['excess_ratio']) if r is None]
    if bad:
        yield f'excess loss ≤ 0 at σ = {", ".join(bad)}: no r̂ there'
    if total['excess_ratio'] is None:
        yield 'excess loss ≤ 0 over all noise levels: no r̂'
    if total['ratio'] is not None and total['ratio'] <= 1:
        yield 'no worse than main: w = r/(r − 1) has no value'
    gap, error = total['weight_gap'], total['weight_gap_se']
    if None not in (gap, error) and abs(gap) > REPORTED * error:
        yield (
            f'w by least squares is {total["weight_ls"]:.3g} against the reference, '
            f'{total["weight_data"]:.3g} against the data: the reference shares errors with main '
            'or guide'
        )


def judge_reference(row):
    """Lines about a reference that is not better than main, as any row of a ranking shows it."""
    total, levels = row['overall'], row['levels']
    if total['reference_lead'] + REPORTED * total['reference_lead_se'] >= 0:
        yield (
            f'the loss of the reference is not clearly below that of main: by '
            f'{-total["reference_lead"]:.3g} ± {total["reference_lead_se"]:.2g}, with the weight '
            'of the loss. What is not stronger does not stand for the truth; more images tell more'
        )
    lead = zip(levels['sigma'], levels['reference_lead'], levels['reference_lead_se'])
    worse = [f'{sigma:.3g}' for sigma, value, error in lead if value > REPORTED * error]
    if worse:
        yield f'the reference is worse than main at σ = {", ".join(worse)}'


def rank(rows):
    """Rows in order, the best score first; those without a score last."""
    key = lambda row: -math.inf if row['overall']['score'] is None else row['overall']['score']
    return sorted(rows, key=key, reverse=True)


def table(rows):
    """What is printed: one short row per candidate, best first."""
    return [
        {
            'candidate': row['candidate']['run'],
            'nimg': row['candidate']['nimg'],
            'std': row['candidate']['std'],
            'score': shown(row['overall'], 'score', 3),
            'w': shown(row['overall'], 'weight', 2),
            'r': shown(row['overall'], 'ratio', 2),
            'r_loss': shown(row['overall'], 'excess_ratio', 2),
            'cosine': shown(row['overall'], 'cosine', 2),
            'w_ls': shown(row['overall'], 'weight_ls', 2),
            'removable': shown(row['overall'], 'removable', 3),
            'flops': row['cost']['evaluation'],
            'training': row['cost']['training'],
        }
        for row in rank(rows)
    ]


def shown(values, name, places):
    """'value ± standard error', or a dash."""
    value, error = values[name], values[f'{name}_se']
    if value is None:
        return '–'
    return f'{value:.{places}f}' + ('' if error is None else f' ± {error:.{places}f}')
