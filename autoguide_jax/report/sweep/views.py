"""What the page shows first, and the lines and maps of the figures without scripts.

A view has axes of its own; of every other axis it takes the value of the best setting ('best'), or
of all values the best at each place ('min'), which is a little too good, by luck.
"""

from autoguide_jax.report.sweep import values
from autoguide_jax.report.sweep.read import metric

MOST_LINES = 10


def axes(sweep):
    """The axes of the first view: x, lines, map_x, map_y, slider (None = none), and mode."""
    numeric = [a for a in sweep.numeric if values.scale(a, sweep.axes[a]) != 'ordinal']
    long = [a for a in numeric if len(sweep.axes[a]) > 2] or numeric
    x = 'weight' if 'weight' in numeric else next(iter(long), None)
    others = [a for a in sweep.axes if a != x and len(sweep.axes[a]) <= MOST_LINES]
    nice = [a for a in ('alpha', 'guide_std', 'guide_nimg', 'main_std') if a in others]
    pair = [a for a in ('main_std', 'guide_std') if a in numeric]
    pair += [a for a in numeric if a not in pair]
    map_x, map_y = pair[:2] if len(pair) > 1 else (None, None)
    return {
        'x': x,
        'lines': next(iter(nice + others), None),
        'map_x': map_x,
        'map_y': map_y,
        'age': 'guide_nimg' if 'guide_nimg' in numeric and x != 'guide_nimg' else None,
        'slider': x or next(iter(sweep.axes), None),
        'mode': 'best' if complete(sweep) else 'min',
    }


def complete(sweep):
    """Whether nearly every combination of guided values was scored, as in a grid."""
    guided = [e for e in sweep.full if None not in e.point.values()]
    size = 1
    for name in sweep.axes:
        size *= len({e.point[name] for e in guided}) or 1
    return len(guided) >= 0.9 * size


def anchor(sweep):
    """The best setting that has a value on every axis; the best of all if none has."""
    guided = [e for e in sweep.full if None not in e.point.values()]
    return (guided or sweep.full)[0]


def best_by(sweep, free, mode='best'):
    """Values of the free axes → best full Entry there; other axes as mode says.

    An entry to which a free axis says nothing (w = 1) stands at all values of it.
    """
    held = anchor(sweep).point
    found, of = {}, metric(sweep.distance)
    for entry in sweep.full:
        rest = (n for n in sweep.axes if n not in free)
        if mode == 'best' and any(entry.point[n] not in (None, held[n]) for n in rest):
            continue
        keys = [()]
        for name in free:
            value = entry.point[name]
            span = sweep.axes[name] if value is None else [value]
            keys = [(*key, v) for key in keys for v in span]
        for key in keys:
            old = found.get(key)
            lower = lambda e: of.badness(e.stat(sweep.distance).mean)
            if old is None or lower(entry) < lower(old):
                found[key] = entry
    return found


def spent(sweep):
    """For each number of images: [(images drawn so far, best mean so far)], in order of the rows.

    A row tells how many it drew: of a setting that had n already, N − n. A setting counts when the
    last of its sets of seeds is scored.
    """
    total, left, best, found = 0, {}, {}, {}
    owner = {row['line']: entry for entry in sweep.entries for row in entry.rows}
    for row in sweep.rows:
        entry = owner.get(row['line'])
        if entry is None:
            continue
        total += row.get('drawn', entry.count)
        left[id(entry)] = left.get(id(entry), 0) + 1
        stat = entry.stat(sweep.distance)
        if left[id(entry)] < len(entry.rows) or stat is None:
            continue
        before = best.get(entry.count)
        if before is None or stat.mean < before:
            best[entry.count] = stat.mean
        found.setdefault(entry.count, []).append((total, best[entry.count]))
    return found
