"""The page: one HTML file with everything in it, which asks nothing of the network."""

from autoguide_jax.report import compute, differences, live, pareto, strips, style, tables, words
from autoguide_jax.report.sheet import data_uri, document, esc, figure, making, notice
from autoguide_jax.report.study import missing

NOTHING = '\u00a0'


def build(study, figures):
    """Return the page as text. figures: name → Drawn; those that are missing are left out."""
    title = study.meta.get('title') or 'A study of autoguidance'
    parts = [
        ('', _opening(study, title)),
        ('Scores', _scores(study)),
        ('Guidance weight and EMA', _figures(figures, ('weights', 'ema'))),
        ('Quality, variation, cost', _trade(study, figures)),
        ('Equal computation', compute.section(study, _figures(figures, ('steps',)))),
        ('By hand', live.charts(study)),
        ('Samples', _samples(study)),
        ('Search', _search(study, figures)),
        ('Training', _figures(figures, ('loss', 'errors'))),
        ('How to read this', _notes(study)),
        ('How it was made', _making(study)),
    ]
    return document(title, style.css(study), parts, live.code(study))


def _opening(study, title):
    kicker = ' · '.join(
        str(part)
        for part in (study.data.get('name'), study.meta.get('created'))
        if part is not None
    )
    sentences = ' '.join(words.answer(study))
    return (
        f'<header><p class="kicker">{esc(kicker)}</p><h1>{esc(title)}</h1>'
        f'<p class="note">{esc(words.question(study))}</p>'
        f'<p class="lede">{esc(sentences)}</p><!--nav--></header>'
        f'{notice(missing(study) + compute.missing(study))}{_hero(study)}'
    )


def _hero(study):
    arms = [arm for arm in strips.trio(study) if study.stat(arm) or arm in study.samples]
    if not arms:
        return ''
    index, heads = strips.layout(study, 1)
    places = study.places()
    rows = ''.join(_hero_row(study, arm, index, heads, places) for arm in arms)
    count = f'{index.size} images each, ' if index.size else ''
    note = f'<p class="note">{count}the same seeds and labels in every row, not selected.</p>'
    return f'<div class="hero">{rows}</div>{note if study.samples else ""}'


def _hero_row(study, arm, index, heads, places):
    stat, price = study.stat(arm), study.cost(arm)
    dot = f'<span class="dot" style="background:{tables.colour_of(study, arm)}"></span>'
    score = f'<div class="num">{_big(stat, places)}</div>' if stat else ''
    cost = f'<br>{words.times(price)} computation' if price else ''
    ends = words.interval_of(stat, places) if stat else ''
    between = f'<br>95\u00a0%: {ends}' if ends else ''
    under = f'{esc(study.metric_title)}{between}{cost}' if stat else esc(study.unscored(arm))
    return (
        f'<div class="hero-row"><div><div class="who">{dot}{esc(study.title(arm))}</div>{score}'
        f'<div class="note">{under}</div></div>{_strip(study, arm, index, heads)}</div>'
    )


def _big(stat, places):
    mean, spread = words.mean_and_spread(stat, places)
    return mean + (f' <small>± {spread}</small>' if spread else '')


def _strip(study, arm, index, heads):
    if arm not in study.samples or not index.size:
        return '<p class="note">no samples yet</p>'
    images, labels = study.samples[arm]
    # Images without labels keep an empty line of heads, so that all grids start at one height.
    names = heads if (labels >= 0).any() else [NOTHING if any(heads) else ''] * len(heads)
    cells = ''.join(f'<span>{esc(name)}</span>' for name in names)
    row = f'<div class="heads" style="grid-template-columns:repeat({len(heads)},1fr)">{cells}</div>'
    uri = data_uri(strips.png(strips.mosaic(images, index)))
    alt = f'{index.size} samples: {study.title(arm)}'
    return f'<div>{row if any(names) else ""}<img class="strip" alt="{esc(alt)}" src="{uri}"></div>'


def _scores(study):
    if not study.of('final') and not study.of('floor'):
        return '<p class="note">No arm has been scored on fresh seeds yet.</p>'
    final = study.meta.get('final') or {}
    blocks = len(final.get('seed_blocks') or [])
    same = 'with the same main network ' if len(study.groups()) > 1 else ''
    spread = 'Score ± standard error' if blocks == 1 else 'Mean ± standard deviation'
    return (
        f'<p>{spread} over {"one block" if blocks == 1 else "blocks"} of fresh seeds that no '
        f'setting was chosen on, {esc(str(final.get("images", "?")))} images each, and the 95 % '
        f'interval.</p>{_short(study)}{tables.quality(study)}'
        f'<p class="note key"><b>best</b> mean of its column {same}<i>tie</i> the interval of its '
        'difference to the best holds 0. ↓ lower and ↑ higher is better, →1 is where real images '
        f'are.</p>{_differences(study)}<h3>Settings and cost</h3>'
        '<p>What the search chose for each method.</p>'
        f'{tables.settings(study)}<p class="note">Calls per image: evaluations of the main network '
        '+ of the guide. Computation: floating-point operations per image, relative to the main '
        f'network alone. {esc(compute.training_note(study))} Seconds: wall '
        'time of sampling and scoring on the machine named below.</p>'
    )


def _short(study):
    """The notice of metrics that were given fewer images than they ask for."""
    items = ''.join(f'<li>{esc(text)}</li>' for text in words.short_of(study))
    head = '<strong>Fewer images than a metric asks for.</strong>'
    return f'<div class="notice" role="note">{head}<ul>{items}</ul></div>' if items else ''


def _differences(study):
    drawn = differences.build(study)
    if not drawn:
        return ''
    return (
        '<h3>Differences</h3><p>Each method less another one with the same main network, on the '
        'same seeds and labels, with the 95 % interval of the difference. An interval that '
        f'excludes 0 tells the two apart.</p>{drawn}'
    )


def _figures(figures, names):
    return ''.join(figure(figures[name]) for name in names if name in figures)


def _pair(figures, names):
    shown = ''.join(figure(figures[name], '') for name in names if name in figures)
    return f'<div class="pair">{shown}</div>' if shown else ''


def _trade(study, figures):
    shown = _pair(figures, ('trade_off', 'cost'))
    shown += _figures(figures, ('pareto',)) + (pareto.section(study) if shown else '')
    return shown + _figures(figures, ('recall', 'precision_recall'))


def _samples(study):
    index, heads = strips.layout(study, 6)
    if not index.size:
        return ''
    cards = []
    for arm in study.arms:
        if arm in study.samples:
            dot = f'<span class="dot" style="background:{tables.colour_of(study, arm)}"></span>'
            who = f'<div class="who"><span>{dot}{esc(study.title(arm))}</span></div>'
            cards.append(f'<div>{who}{_strip(study, arm, index, heads)}</div>')
    return (
        '<p>The same seed and label at the same place in every grid, in seed order, with each '
        'method’s chosen settings. Nothing was picked.</p>'
        f'<div data-static class="grids">{"".join(cards)}</div>{live.place("samples")}'
    )


def _search(study, figures):
    if not study.of('search'):
        return ''
    search = study.meta.get('search') or {}
    return (
        f'<p>Every method had a budget of {esc(str(search.get("budget", "?")))} evaluations on the '
        f'same selection seeds, {esc(str(search.get("images", "?")))} images each.</p>'
        f'{_figures(figures, ("search",))}{tables.search(study)}'
    )


def _notes(study):
    items = ''.join(
        f'<li><strong>{esc(head)}.</strong> {esc(text)}</li>' for head, text in words.notes(study)
    )
    return f'<ul>{items}</ul>'


def _making(study):
    trees = {'study.json': study.meta}
    trees |= {f'chosen: {arm}': s for arm in study.arms if (s := study.chosen(arm))}
    trees |= {f'training run: {run}': config for run, (config, _) in study.runs.items()}
    return making(study.meta, trees)
