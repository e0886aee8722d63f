"""The tables of the page: quality and variation, settings and cost, search."""

import math

from autoguide_jax.report import spent
from autoguide_jax.report.curves import traces
from autoguide_jax.report.drawing import plain_number
from autoguide_jax.report.sheet import esc
from autoguide_jax.report.stats import METRICS, marks, title_of
from autoguide_jax.report.study import REAL, std_of
from autoguide_jax.report.words import (
    interval_of,
    mean_and_spread,
    plus_minus,
    text_of,
    times,
)

DASH = '<td>–</td>'


def quality(study):
    """Every metric as mean ± sd and interval, best and ties marked among equal main networks."""
    arms = [*study.arms, REAL]
    shown = study.columns
    stats = {key: {arm: study.stat(arm, key) for arm in arms} for key in shown}
    heads = ''.join(_metric_head(study, key) for key in shown)
    head = f'<tr><th>Method</th>{heads}</tr>'
    body, groups = [], study.groups()
    for main, members in groups.items():
        if len(groups) > 1:
            span = len(shown) + 3
            body.append(
                f'<tr class="group"><th colspan="{span}">Main network: {esc(main)}</th></tr>'
            )
        marked = {key: _marks(study, key, members) for key in shown}
        body += [_quality_row(study, arm, shown, stats, marked) for arm in members]
    if study.of('floor'):
        body.append(_quality_row(study, REAL, shown, stats, {}))
    return table(head, body)


def _marks(study, key, members):
    stats = {arm: study.stat(arm, key) for arm in members}
    return marks(METRICS[key], stats, lambda arm, other: study.difference(arm, other, key))


def _metric_head(study, key):
    metric, title = METRICS[key], title_of(study.meta, key)
    cell = f'<th title="{esc(metric.meaning)}">{esc(title)}&nbsp;{metric.arrow()}</th>'
    if key != study.distance:
        return cell
    return f'{cell}<th>best of n</th><th class="text" aria-label="range"></th>'


def _quality_row(study, arm, shown, stats, marked):
    cells = []
    for key in shown:
        stat, places = stats[key][arm], study.places(key)
        mark = marked.get(key, {}).get(arm, '')
        # Draws from one reference overlap: they have a spread, but no interval.
        cells.append(_stat_cell(stat, places, mark, interval=arm != REAL))
        if key == study.distance:
            cells += _best_and_range(study, arm, stat, stats[key], places)
    kind = ' class="real"' if arm == REAL else ''
    return f'<tr{kind} data-arm="{esc(arm)}">{_name(study, arm)}{"".join(cells)}</tr>'


def _stat_cell(stat, places, mark, interval=True):
    if stat is None:
        return DASH
    mean, spread = mean_and_spread(stat, places)
    spread = f' <small>± {spread}</small>' if spread else ''
    ends, shown = ends_of(stat, places) if interval else ('', '')
    return f'<td class="two {mark}" data-mean="{stat.mean!r}"{ends}>{mean}{spread}{shown}</td>'


def ends_of(stat, places):
    """The exact ends of an interval as attributes, and what is shown of it."""
    if stat.interval is None:
        return '', ''
    low, high = stat.interval
    ends = f' data-low="{low!r}" data-high="{high!r}"'
    return ends, f' <small>{interval_of(stat, places)}</small>'


def _best_and_range(study, arm, stat, stats, places):
    if stat is None:
        return [DASH, '<td></td>']
    best = stat.best(METRICS[study.distance])
    return [
        f'<td class="two" data-best="{best!r}">{text_of(best, places)} '
        f'<small>of {stat.n}</small></td>',
        f'<td class="text">{_range(stat, stats, colour_of(study, arm), arm != REAL)}</td>',
    ]


def colour_of(study, arm):
    """Return the CSS colour of an arm."""
    return 'var(--muted)' if arm == REAL else f'var(--c{list(study.arms).index(arm)})'


def _range(stat, stats, colour, interval):
    """Draw interval, mean ± sd and the single values on the scale of the whole column."""
    values = [v for s in stats.values() if s for v in (*s.values, *(s.interval or ()))]
    low, high = min([0.0, *values]), max(values)
    left, right = (stat.interval if interval else None) or (stat.mean, stat.mean)

    def place(value):
        return 5 + 140 * (value - low) / ((high - low) or 1)

    dots = ''.join(
        f'<circle cx="{place(v):.1f}" cy="10" r="2" fill="{colour}" opacity=".5"/>'
        for v in stat.values
    )
    sd = stat.sd or 0
    return (
        '<svg class="range" viewBox="0 0 150 20" role="img" aria-hidden="true">'
        '<line x1="5" x2="145" y1="10" y2="10" stroke="var(--line)"/>'
        f'<line x1="{place(left):.1f}" x2="{place(right):.1f}" y1="10" y2="10" stroke="{colour}"/>'
        f'<line x1="{max(place(stat.mean - sd), 0):.1f}" x2="{place(stat.mean + sd):.1f}" y1="10" '
        f'y2="10" stroke="{colour}" stroke-width="3" opacity=".55"/>{dots}'
        f'<circle cx="{place(stat.mean):.1f}" cy="10" r="4.5" fill="{colour}"/></svg>'
    )


def name_of(study, arm):
    """The first cell of a row: the arm with the dot of its colour."""
    dot = f'<span class="dot" style="background:{colour_of(study, arm)}"></span>'
    return f'<th scope="row">{dot}{esc(study.title(arm))}</th>'


def _name(study, arm):
    colour = colour_of(study, arm)
    if arm == REAL:
        about = 'the floor: drawn from the reference'
    else:
        about = study.arms[arm].get('description') or ''
    if study.stat(arm) is None:
        about = f'{about} ({study.unscored(arm)})'.strip()
    return (
        f'<th scope="row"><span class="dot" style="background:{colour}"></span>'
        f'{esc(study.title(arm))}<small>{esc(about)}</small></th>'
    )


def settings(study):
    """What the search chose for each arm, and what an image costs with it."""
    names = ('w', 'EMA, main', 'EMA, guide', 'interval of σ', 'calls per image', 'computation')
    names += ('training',)
    heads = ''.join(
        f'<th>{name}</th>' for name in (*names, 'seconds per 1000 images, drawn and scored')
    )
    body = [_settings_row(study, arm) for arm in study.arms]
    return table(f'<tr><th>Method</th>{heads}</tr>', body)


def _settings_row(study, arm):
    setting, rows = study.chosen(arm), study.of('final', arm)
    price, trained = study.cost(arm), spent.training(study, arm)
    guided = any(setting.get(who) for who in ('guide', 'uncond'))
    guide = std_of(setting, 'guide')
    guide = std_of(setting, 'uncond') if guide is None else guide
    cells = [
        _plain(setting.get('weight')) if guided else DASH,
        _plain(std_of(setting, 'main')),
        _plain(guide),
        _cell(_interval(setting.get('interval')) if guided else None),
        _cell(_calls(rows)),
        _cell(times(price) if price else None),
        _cell(times(trained) if trained else None),
        _cell(_seconds(rows)),
    ]
    return f'<tr data-arm="{esc(arm)}">{name_of(study, arm)}{"".join(cells)}</tr>'


def _cell(text):
    return DASH if text is None else f'<td>{text}</td>'


def _plain(value):
    return DASH if value is None else f'<td>{plain_number(float(value))}</td>'


def _interval(interval):
    if not interval:
        return None
    low, high = (float(v) for v in interval)
    if low <= 0 and math.isinf(high):
        return 'all'
    return f'({plain_number(low)}, {"∞" if math.isinf(high) else plain_number(high)}]'


def _calls(rows):
    nfe = (rows[0].get('nfe') or {}) if rows else {}
    if nfe.get('main') is None:
        return None
    guide = nfe.get('guide') or 0
    return plain_number(nfe['main']) + (f' <small>+ {plain_number(guide)}</small>' if guide else '')


def _seconds(rows):
    timed = [(r['seconds'], r['images']) for r in rows if r.get('seconds') and r.get('images')]
    if not timed:
        return None
    return f'{1000 * sum(s for s, _ in timed) / sum(n for _, n in timed):.2f}'


def search(study):
    """How many evaluations each arm had, the best they found, and what fresh seeds made of it."""
    best = traces(study)
    places = study.places()
    heads = ('evaluations', 'best on selection seeds', 'mean on fresh seeds', 'difference')
    body = []
    for arm, trace in best.items():
        stat, found = study.stat(arm), float(trace[-1])
        sign = '+' if stat and stat.mean >= found else ''
        texts = [
            str(len(trace)),
            text_of(found, places) if math.isfinite(found) else None,
            plus_minus(stat, places) if stat else None,
            sign + text_of(stat.mean - found, places) if stat and math.isfinite(found) else None,
        ]
        cells = ''.join(map(_cell, texts))
        body.append(f'<tr data-arm="{esc(arm)}">{name_of(study, arm)}{cells}</tr>')
    return table(f'<tr><th>Method</th>{"".join(f"<th>{h}</th>" for h in heads)}</tr>', body)


def table(head, body):
    """A table that scrolls where the screen is narrow, of HTML rows."""
    return (
        f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(body)}</tbody></table>'
        '</div>'
    )


def rows(study):
    """Return the main table as rows of numbers, for a terminal."""
    found = []
    for arm in (*study.arms, REAL):
        stat = study.stat(arm)
        row = {'arm': arm, 'distance': stat and stat.mean, 'sd': stat and stat.sd}
        low, high = (stat and arm != REAL and stat.interval) or (None, None)
        row |= {
            'low': low,
            'high': high,
            'best': stat and stat.best(METRICS[study.distance]),
            'n': stat.n if stat else 0,
        }
        for key in [key for key in study.columns if key != study.distance]:
            other = study.stat(arm, key)
            row[key] = other and other.mean
        cost = None if arm == REAL else study.cost(arm)
        found.append(row | {'computation': cost})
    return found
