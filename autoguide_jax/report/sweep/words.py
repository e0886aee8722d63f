"""The sentences of a sweep's page: what was best, what it was compared with, what it cost."""

from autoguide_jax.report.sheet import duration
from autoguide_jax.report.stats import decimals
from autoguide_jax.report.sweep import values
from autoguide_jax.report.words import excludes, interval_of, plus_minus, text_of


def heading(sweep):
    """What the page is called."""
    name = sweep.search.get('name')
    return f'A search of guidance settings: {name}' if name else 'A sweep of guidance settings'


def answer(sweep):
    """The best setting, how sure it is, and how far no guidance is behind."""
    if not sweep.full:
        return f'No setting has a value of {sweep.title(sweep.distance)}: {_why(sweep)}.'
    best = (sweep.fresh or sweep.full)[0]
    stat, places = best.stat(sweep.distance), sweep.places[sweep.distance]
    ends = interval_of(stat, places)
    between = f', 95\u00a0% interval {ends}' if ends else ''
    sets = f'{stat.n} sets' if stat.n > 1 else 'one set'
    texts = [
        f'Best is {values.point(best)}: {sweep.title(sweep.distance)} {plus_minus(stat, places)} '
        f'over {sets} of {"fresh " * bool(sweep.fresh)}seeds{between}'
        + (f', the luckiest set {text_of(min(stat.values), places)}.' if stat.n > 1 else '.')
    ]
    if sweep.fresh:
        return ' '.join([*texts, _chosen(sweep, best)])
    ties = sum(mark == 'tie' for mark in sweep.marks.values())
    if ties:
        texts.append(
            f'{ties} of the other {len(sweep.full) - 1} settings cannot be told from it on the '
            'same seeds.'
        )
    return ' '.join(texts + _unguided(sweep, best))


def _chosen(sweep, best):
    """What the search said of the setting that was best on fresh seeds, and of luck among these."""
    same = [entry for entry in sweep.full if entry.point == best.point]
    again = f'{len(sweep.fresh)} settings were scored again'
    if not same:
        return f'{again}.'
    place, stat = sweep.full.index(same[0]) + 1, same[0].stat(sweep.distance)
    told = lambda stat: plus_minus(stat, sweep.places[sweep.distance])
    text = (
        f'{again}; on the seeds of the search it was number {place} with {told(stat)}, a value '
        'that was chosen for being low.'
    )
    first = [entry for entry in sweep.fresh if entry.point == sweep.full[0].point]
    if place > 1 and first:
        text += (
            f' It is the lowest of {len(sweep.fresh)} on the fresh seeds too, by a little luck: '
            f'the number 1 of the search, which they did not choose, has '
            f'{told(first[0].stat(sweep.distance))} there.'
        )
    return text


def _unguided(sweep, best):
    """How far the best setting without guidance is behind."""
    plain = [e for e in sweep.full if (e.rows[0].get('nfe') or {}).get('guide') == 0]
    if not plain:
        return []
    if plain[0] is best:
        return ['No guidance is needed for it: the guide is never called.']
    apart, stat = sweep.excess(plain[0], best), plain[0].stat(sweep.distance)
    told = plus_minus(stat, sweep.places[sweep.distance])
    text = f'Without guidance the best is {told}'
    if apart and apart.interval:
        more = plus_minus(apart, decimals([apart]))
        ends = interval_of(apart, decimals([apart]))
        text += f': {more} more on the same seeds, interval {ends}, which {excludes(apart)}'
    return [text + '.']


def _why(sweep):
    reasons = ((row.get('undefined') or {}).get(sweep.distance) for row in sweep.rows)
    return next(filter(None, reasons), 'the rows do not say why')


def swept(sweep):
    """[(axis, its values)] of what varied, and [(axis, its value)] of what did not."""
    varied = [(values.title(a), _listed(a, found)) for a, found in sweep.axes.items()]
    fixed = [(values.title(a), values.text(a, v)) for a, v in sweep.fixed.items() if v != '']
    return varied, fixed


def _listed(axis, found, most=12):
    shown = [values.text(axis, v) for v in found]
    if len(shown) > most:
        shown = [*shown[: most - 2], '…', shown[-1]]
    return f'{len(found)} values: {", ".join(shown)}'


def cost(sweep):
    """[(what, how much)] of all rows: settings, scores, images, network evaluations, seconds."""
    rows = sweep.rows
    images, main, guide, total, seconds = 0, 0, 0, 0.0, 0.0
    for row in rows:
        count, nfe = row.get('drawn', row['seeds'][1]), row.get('nfe') or {}
        images += count
        main += count * (nfe.get('main') or 0)
        guide += count * (nfe.get('guide') or 0)
        total += count * ((row.get('cost') or {}).get('relative') or 0)
        seconds += row.get('seconds') or 0
    grouped = lambda n: f'{n:,.0f}'.replace(',', '\u2009')
    settings = len({tuple(e.point.values()) for e in (*sweep.entries, *sweep.confirmed)})
    scored = f'{grouped(images)} for {grouped(len(rows))} scores of {grouped(settings)} settings'
    found = [
        ('images drawn', scored),
        ('network evaluations', f'{grouped(main)} of main, {grouped(guide)} of guides'),
        ('time', f'{duration(seconds)}, drawing and scoring'),
    ]
    if total:
        price = f'as much as {grouped(total)} images without guidance (in FLOPs)'
        found.insert(2, ('computation', price))
    return found


def notes(sweep):
    """[(heading, text)] of what a reader must know to judge the numbers."""
    real = (sweep.meta.get('reference') or {}).get('count')
    ruler = f'{sweep.title(sweep.distance)} over {sweep.counts[-1]} images'
    ruler += f' against {real} real ones; it depends on both counts.' if real else '.'
    several = any(len(entry.rows) > 1 for entry in sweep.entries)
    behind = (
        '± is the standard deviation over sets of seeds, bands and intervals are 95\u00a0% '
        '(Student’s t).'
        if several
        else '± is the standard error of the score over draws of its samples; bands and intervals '
        'are the 95\u00a0% interval that the row tells. What has none is drawn without.'
    )
    found = [
        ('One ruler', ruler),
        ('Intervals', behind),
        (
            'Best is luck',
            f'The best of {len(sweep.full)} settings is a little too good, by luck: only scores '
            'on seeds that chose nothing are to be quoted. Tie: the interval of the difference to '
            'the best on the same seeds holds 0.',
        ),
        (
            'Other axes',
            '“At the best” keeps every other axis at the value of the best setting, “best of all” '
            'takes the lowest over all its values at each place, which is luckier where there are '
            'more of them. Without guidance (w = 1) the guide’s axes say nothing: such a score '
            'stands at all their values.',
        ),
    ]
    if len(sweep.counts) > 1:
        told = ', '.join(map(str, sweep.counts))
        found.append(
            (
                'Numbers of images',
                f'Settings were scored over {told} images. Distances of fewer images are larger, '
                'so no mean, line or map mixes them.',
            )
        )
    for name, least in _fewer(sweep).items():
        found.append((sweep.title(name), f'Asks for {least} images; some scores have fewer.'))
    return found


def _fewer(sweep):
    found = {}
    for row in sweep.rows:
        found |= row.get('fewer') or {}
    return found


def missing(sweep):
    """What a finished sweep would have and this one has not."""
    asked = len(sweep.meta.get('rows') or [])
    left = asked - len(sweep.rows)
    found = [f'{left} of {asked} scores'] if left > 0 else []
    # A search names its rows as it goes: until it ends, nobody knows how many there will be.
    if sweep.search and 'found' not in sweep.meta:
        most, wanted = sweep.counts[-1], sweep.score['images']
        short = f': no setting has more than {most} of {wanted} images yet'
        found.append('the rest of the search' + short * (most < wanted))
    return found
