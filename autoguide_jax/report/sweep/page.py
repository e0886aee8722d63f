"""The page of a sweep or a search: what was best, charts to turn over, samples, every setting."""

from autoguide_jax.report import script, style
from autoguide_jax.report.live import place
from autoguide_jax.report.sheet import (
    Drawn,
    data_uri,
    document,
    esc,
    facts,
    figure,
    making,
    notice,
)
from autoguide_jax.report.sweep import payload, pictures, table, values, views, words
from autoguide_jax.report.words import decoder

SCRIPTS = ('page', 'chart', 'tables', 'slider', 'sweep', 'settings')
MOST_STRIPS = 8
ALT = 'Score along one axis, and over two'
CAPTION = (
    'Score along one axis and over two, others as the best setting has them (or the best of all '
    'their values, where not every combination was scored). Bands are 95 % intervals. With scripts '
    'allowed, axes, metric and settings can be chosen here.'
)


def build(sweep, drawn, opening=None, scores=''):
    """The page as text.

    drawn: the figure as drawing.render gives it; opening, scores: what a page of its own kind
    shows in their place.
    """
    shown = pictures.gather(sweep) if sweep.full else pictures.Pictures({}, [], '')
    title, first = opening or (words.heading(sweep), _opening(sweep))
    parts = [
        ('', first),
        ('Scores', scores or _fresh(sweep)),
        ('Charts', _charts(sweep, drawn)),
        ('Samples', _samples(sweep, shown)),
        ('Search', _search(sweep)),
        ('All settings', _table(sweep)),
        ('What was swept', _swept(sweep)),
        ('How to read this', _notes(sweep)),
        ('How it was made', making(sweep.meta, {'sweep.json': sweep.meta})),
    ]
    code = ''
    if sweep.full:
        code = script.data('sweep', payload.build(sweep, shown)) + script.inline(*SCRIPTS)
    return document(title, style.css(None), parts, code)


def _opening(sweep):
    about = (sweep.meta.get('data') or {}).get('name'), sweep.meta.get('created')
    kicker = ' · '.join(str(part) for part in about if part)
    lacking = notice(words.missing(sweep), 'sweep')
    return (
        f'<header><p class="kicker">{esc(kicker)}</p><h1>{esc(words.heading(sweep))}</h1>'
        f'<p class="lede">{esc(words.answer(sweep))}</p><!--nav--></header>'
        f'{lacking}{facts(words.cost(sweep))}'
    )


def _scripted(heading, name):
    """A part that is there with its script alone."""
    return f'<div class="scripted"><h3>{heading}</h3>{place(name)}</div>'


def _charts(sweep, drawn):
    view = views.axes(sweep) if sweep.full else {}
    if not view.get('x'):
        return ''
    plain = figure(Drawn(drawn, ALT, CAPTION)) if drawn else ''
    age = _scripted('Age of the guide', 'age') if view['age'] else ''
    both = _scripted('Over two axes', 'map') if view['map_x'] else ''
    return f'<div data-static>{plain}</div>{place("metric")}{place("curve")}{both}{age}'


def _samples(sweep, shown):
    if not shown.mosaics:
        return ''
    note = f'<p class="note">{esc(shown.note)}.</p>' if shown.note else ''
    return (
        '<p>The same seed and label at the same place in every grid, in seed order. Nothing was '
        f'picked.</p><div data-static>{_strips(sweep, shown)}</div>{place("samples")}{note}'
    )


def _strips(sweep, shown):
    """Grids along all of the slider's axis, best in the others, for pages without script."""
    slider = views.axes(sweep)['slider']
    found = views.best_by(sweep, [slider] if slider else [])
    keys = [(value,) for value in sweep.axes[slider] if (value,) in found] if slider else [()]
    rows = []
    for entry in [found[key] for key in spread_over(keys, MOST_STRIPS)]:
        i = sweep.entries.index(entry)
        if i in shown.mosaics:
            who = f'<div class="who">{esc(values.point(entry))}</div>'
            uri = data_uri(shown.mosaics[i])
            alt = esc(f'Samples: {values.point(entry)}')
            rows.append(f'<div>{who}<img class="strip" alt="{alt}" src="{uri}"></div>')
    return f'<div class="grids">{"".join(rows)}</div>'


def spread_over(items, most):
    """At most so many of the items, first and last among them, evenly spaced."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _search(sweep):
    if not sweep.full or not sweep.search:
        return ''
    name, rest = sweep.search.get('name'), sweep.search.get('settings')
    rest = rest or {k: v for k, v in sweep.search.items() if k not in ('name', 'settings')}
    told = f'{name}: {", ".join(f"{k} = {v}" for k, v in rest.items())}' if rest else str(name)
    found = views.spent(sweep).get(sweep.counts[-1]) or []
    spent = f' Its best was {found[-1][1]:.4g} after {found[-1][0]} images.' if found else ''
    return f'<p>{esc(told)}.{esc(spent)}</p>{place("search")}'


def _fresh(sweep):
    """The settings that were scored again on fresh seeds."""
    if not sweep.fresh:
        return ''
    sets = sweep.fresh[0].stat(sweep.distance).n
    return (
        f'<p>The best settings of the search, scored again on {sets} set(s) of seeds that chose '
        f'nothing: the numbers to quote.</p>{table.build(sweep, sweep.fresh)}'
    )


def _table(sweep):
    if not sweep.full:
        return ''
    count, most = len(sweep.full), table.MOST
    best = table.build(sweep, sweep.full[:most])
    cut = f'The {most} best of {count} settings; with scripts allowed, all.' if count > most else ''
    return (
        f'<p>Mean ± {"standard deviation" if len(sweep.full[0].rows) > 1 else "standard error"}, '
        f'{sweep.counts[-1]} images for each set of seeds.</p><div data-static><p class="note">'
        f'{cut}</p>{best}</div>{place("table")}<p class="note key"><b>best</b> '
        'lowest mean <i>tie</i> the 95 % interval of the difference to the best, on the same '
        'seeds, holds 0. Computation: floating-point operations per image, relative to the main '
        f'network alone.{decoder(sweep.meta)} Calls: evaluations of the main network + of guides.'
        '</p>'
    )


def _swept(sweep):
    varied, fixed = words.swept(sweep)
    runs = [(f'run of {role}', _link(run, address)) for role, run, address in payload.runs(sweep)]
    links = ''.join(f'<dt>{esc(what)}</dt><dd>{where}</dd>' for what, where in runs)
    here = (
        '<dt>scores</dt><dd><a href="results.jsonl">results.jsonl</a></dd>'
        '<dt>settings</dt><dd><a href="sweep.json">sweep.json</a></dd>'
    )
    return (
        f'<h3>Varied</h3>{facts(varied)}<h3>The same everywhere</h3>{facts(fixed)}'
        f'<h3>Files</h3><dl class="facts">{here}{links}</dl>'
    )


def _link(run, address):
    name = esc(run)
    return f'{name}: <a href="{esc(address)}">config.json</a>' if address else name


def _notes(sweep):
    found = words.notes(sweep)
    items = ''.join(f'<li><strong>{esc(a)}.</strong> {esc(b)}</li>' for a, b in found)
    return f'<ul>{items}</ul>'
