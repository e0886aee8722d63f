"""The table of differences: every arm less the unguided and less the best, on the same seeds."""

from autoguide_jax.report.sheet import esc
from autoguide_jax.report.significance import LEVEL, comparison, family
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
    names = [key for key, _ in columns]
    found, corrected = family(zip(names, others, stats))
    body = []
    for arm in study.arms:
        if any(arm in column for column in stats):
            cells = ''
            for key, other, column, n in zip(names, others, stats, places):
                one = comparison(key, arm, other.get(arm))
                cells += _cell(column.get(arm), n, found.get(one), corrected.get(one))
            body.append(f'<tr data-arm="{esc(arm)}">{name_of(study, arm)}{cells}</tr>')
    return table(f'<tr><th>Method</th>{heads}</tr>', body) + note(study, len(found))


def note(study, count):
    """What the p-values are, and what they are not. count: comparisons of the family."""
    if not count:
        return ''
    blocks = len((study.meta.get('final') or {}).get('seed_blocks') or [])
    power = (
        f' {blocks} blocks are few: only differences that are large beside their spread get '
        'through, and what does not is not shown to be zero.'
    )
    return (
        '<p class="note">p: two-sided paired t test over blocks of seeds, whose differences it '
        'takes to be independent and about normal → p after Holm’s correction for all '
        f'{count} comparisons of this table (a pair that stands in two columns is one). '
        f'<b>✱</b> marks what stays below {LEVEL:g}.{power if 1 < blocks < 10 else ""} The best '
        'was picked for its mean: p-values against it are a little too low. All hold the trained '
        'networks fixed.</p>'
    )


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


def _cell(stat, places, p, corrected):
    if stat is None:
        return DASH
    ends, shown = ends_of(stat, places)
    kind = 'two' if stat.excludes_zero else 'two open'
    sign = '+' if stat.mean > 0 else ''
    return (
        f'<td class="{kind}" data-mean="{stat.mean!r}"{ends}>{sign}{text_of(stat.mean, places)}'
        f'{shown} <small>{excludes(stat)}</small>{_tested(p, corrected)}</td>'
    )


def _tested(p, corrected):
    if p is None:
        return ''
    mark = ' <b>✱</b>' if corrected < LEVEL else ''
    return f' <small>p {_short(p)} → {_short(corrected)}{mark}</small>'


def _short(p):
    return '&lt; 0.0001' if p < 1e-4 else f'{p:.2g}'
