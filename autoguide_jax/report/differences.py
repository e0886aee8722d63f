"""The table of differences: every arm less the unguided and less the best, on the same seeds."""

from autoguide_jax.report.sheet import esc
from autoguide_jax.report.stats import decimals, title_of
from autoguide_jax.report.tables import DASH, ends_of, name_of, table
from autoguide_jax.report.words import excludes, text_of


def build(study):
    """Every arm less the unguided and less the best one, on the same seeds.

    Empty as long as no two arms of one main network were scored.
    """
    keys = [key for key in (study.distance, 'precision', 'recall') if _bases(study, key)]
    if not keys:
        return ''
    columns = [(key, 'the unguided') for key in keys] + [(study.distance, 'the best')]
    heads = ''.join(f'<th>{esc(title_of(study.meta, key))} less {who}</th>' for key, who in columns)
    others = [_bases(study, key) for key in keys] + [_best_of(study)]
    stats = [
        {arm: study.difference(arm, base, key) for arm, base in bases.items()}
        for (key, _), bases in zip(columns, others)
    ]
    places = [decimals(list(column.values())) for column in stats]
    body = []
    for arm in study.arms:
        if any(arm in column for column in stats):
            cells = ''.join(_cell(column.get(arm), p) for column, p in zip(stats, places))
            body.append(f'<tr data-arm="{esc(arm)}">{name_of(study, arm)}{cells}</tr>')
    return table(f'<tr><th>Method</th>{heads}</tr>', body)


def _bases(study, key):
    """Arm → the unguided arm of its main network, where they share blocks."""
    found = {arm: study.unguided(arm) for arm in study.arms}
    return {a: b for a, b in found.items() if b not in (a, None) and study.difference(a, b, key)}


def _best_of(study):
    """Arm → the arm with the lowest distance among those of its main network."""
    found = {}
    for members in study.groups().values():
        scored = [arm for arm in members if study.stat(arm)]
        best = min(scored, key=lambda arm: study.stat(arm).mean, default=None)
        found |= {arm: best for arm in scored if arm != best}
    return found


def _cell(stat, places):
    if stat is None:
        return DASH
    ends, shown = ends_of(stat, places)
    kind = 'two' if stat.excludes_zero else 'two open'
    sign = '+' if stat.mean > 0 else ''
    return (
        f'<td class="{kind}" data-mean="{stat.mean!r}"{ends}>{sign}{text_of(stat.mean, places)}'
        f'{shown} <small>{excludes(stat)}</small></td>'
    )
