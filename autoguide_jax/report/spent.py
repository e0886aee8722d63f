"""What study.json and its rows tell of computation: training, images, and scores at equal FLOPs.

(1) FLOPs of an image = evaluations of main × its FLOPs + evaluations of the guide × its FLOPs.
(2) A score at other FLOPs than were measured is interpolated between the nearest two measurements,
    linearly in log FLOPs, block by block; beyond the outermost ones there is none. Its error is
    interpolated too, as if both erred together: too wide rather than too narrow.
"""

import math

from autoguide_jax.report.stats import Stat, number

SAME = 1e-6


def flops(study, row):
    """Return FLOPs of an image of a row by (1), None if study.json does not tell them."""
    arm, networks = study.arms.get(row['arm']) or {}, study.meta.get('networks') or {}
    calls = row.get('nfe') or {}
    used = [(arm.get('main'), calls.get('main'))]
    if calls.get('guide'):
        used.append((arm.get('guide') or arm.get('uncond'), calls['guide']))
    each = [(number((networks.get(run) or {}).get('forward_flops')), n) for run, n in used]
    if any(None in pair for pair in each):
        return None
    return sum(cost * n for cost, n in each)


def per_image(study, arm):
    """Return FLOPs of an image of an arm's chosen setting, None if they are not known."""
    rows = study.of('final', arm)
    return flops(study, rows[0]) if rows else None


def yardstick(study):
    """Return the run whose training is 1: the main network of the arm without guidance."""
    arm = study.role('baseline') or next(iter(study.arms))
    return study.arms[arm].get('main')


def training(study, arm):
    """Return FLOPs of all training that an arm uses, relative to the yardstick; None if unknown."""
    networks = study.meta.get('networks') or {}
    mine = number(study.arms[arm].get('training_flops'))
    one = number((networks.get(yardstick(study)) or {}).get('training_flops'))
    return mine / one if mine and one else None


def measured(study, arm):
    """Return [(FLOPs per image, seeds → estimate)] of an arm, every step count, cheapest first."""
    found = []
    for rows in _by_steps(study, arm).values():
        cost = flops(study, rows[0])
        blocks = {tuple(row.get('seeds') or [i]): study.estimate(row) for i, row in enumerate(rows)}
        blocks = {seeds: told for seeds, told in blocks.items() if told[0] is not None}
        if cost and blocks:
            found.append((cost, blocks))
    return sorted(found, key=lambda point: point[0])


def _by_steps(study, arm):
    found = {None: study.of('final', arm)} if study.of('final', arm) else {}
    for row in study.of('steps', arm):
        found.setdefault(row.get('steps'), []).append(row)
    return found


def at(points, target):
    """Return seeds → estimate at target FLOPs by (2), {} beyond what was measured.

    points: what `measured` returns.
    """
    for cost, blocks in points:
        if math.isclose(cost, target, rel_tol=SAME):
            return blocks
    for (low, before), (high, after) in zip(points, points[1:]):
        if low < target < high:
            share = math.log(target / low) / math.log(high / low)
            both = [seeds for seeds in before if seeds in after]
            return {seeds: _between(before[seeds], after[seeds], share) for seeds in both}
    return {}


def _between(before, after, share):
    mix = lambda a, b: None if None in (a, b) else (1 - share) * a + share * b
    return tuple(mix(a, b) for a, b in zip(before, after))


def stat(blocks):
    """Return the Stat of seeds → estimate, None without any."""
    return Stat(*zip(*blocks.values())) if blocks else None


def targets(study):
    """Return title → FLOPs per image that arms are compared at: those of known arms, each once."""
    found = {}
    for role in ('baseline', 'cfg', 'autoguidance'):
        arm = study.role(role)
        cost = per_image(study, arm) if arm else None
        if cost and not any(math.isclose(cost, known, rel_tol=SAME) for known in found.values()):
            found[f'that of {study.title(arm)}'] = cost
    return found
