"""The page: one HTML file with everything in it, which asks nothing of the network."""

import base64
import html
import json
from typing import NamedTuple

from autoguide_jax.report import strips, style, tables, words
from autoguide_jax.report.stats import number
from autoguide_jax.report.study import missing

esc = html.escape


NOTHING = '\u00a0'


class Drawn(NamedTuple):
    """A figure of the page: what it shows, for those who cannot see it, and how to read it."""

    files: dict[str, bytes]
    alt: str
    caption: str


def build(study, figures):
    """Return the page as text. figures: name → Drawn; those that are missing are left out."""
    title = study.meta.get('title') or 'A study of autoguidance'
    parts = [
        ('', _opening(study, title)),
        ('Scores', _scores(study)),
        ('Guidance weight and EMA', _figures(figures, ('weights', 'ema'))),
        ('Quality, variation, cost', _pair(figures, ('trade_off', 'cost'))),
        ('Samples', _samples(study)),
        ('Search', _search(study, figures)),
        ('Training', _figures(figures, ('loss', 'errors'))),
        ('How to read this', _notes(study)),
        ('How it was made', _making(study)),
    ]
    parts = [(head, body) for head, body in parts if body]
    links = ''.join(f'<a href="#{_slug(head)}">{head}</a>' for head, _ in parts if head)
    parts[0] = ('', parts[0][1].replace('<!--nav-->', f'<nav>{links}</nav>'))
    body = ''.join(
        f'<section id="{_slug(head)}"><h2>{head}</h2>{text}</section>' if head else text
        for head, text in parts
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{esc(title)}</title><style>{style.css(study)}</style></head>\n'
        f'<body><main>{body}</main></body></html>\n'
    )


def _slug(head):
    return head.lower().replace(',', '').replace(' ', '-')


def data_uri(png):
    """Return a PNG as a URI that carries it."""
    return f'data:image/png;base64,{base64.b64encode(png).decode()}'


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
        f'<p class="lede">{esc(sentences)}</p><!--nav--></header>{_notice(study)}{_hero(study)}'
    )


def _notice(study):
    lacking = missing(study)
    if not lacking:
        return ''
    items = ''.join(f'<li>{esc(note)}</li>' for note in lacking)
    return (
        '<div class="notice" role="note"><strong>This study is not finished.</strong> '
        f'Still missing:<ul>{items}</ul>The same command goes on with it.</div>'
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
    under = f'{esc(study.metric_title)}{cost}' if stat else 'not scored yet'
    return (
        f'<div class="hero-row"><div><div class="who">{dot}{esc(study.title(arm))}</div>{score}'
        f'<div class="note">{under}</div></div>{_strip(study, arm, index, heads)}</div>'
    )


def _big(stat, places):
    mean, sd = words.mean_and_sd(stat, places)
    return mean + (f' <small>± {sd}</small>' if sd else '')


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
    same = 'with the same main network ' if len(study.groups()) > 1 else ''
    return (
        '<p>Mean ± standard deviation over blocks of fresh seeds that no setting was chosen on'
        f', {esc(str(final.get("images", "?")))} images each.</p>{tables.quality(study)}'
        f'<p class="note key"><b>best</b> mean of its column {same}<i>tie</i> not beyond the error '
        'bars of the best. ↓ lower and ↑ higher is better, →1 is where real images are.</p>'
        f'<h3>Settings and cost</h3><p>What the search chose for each method.</p>'
        f'{tables.settings(study)}<p class="note">Calls per image: evaluations of the main network '
        '+ of the guide. Computation: floating-point operations per image, relative to the main '
        'network alone. Seconds: wall time of sampling and scoring on the machine named below.</p>'
    )


def _figures(figures, names):
    return ''.join(_figure(figures[name], 'wide') for name in names if name in figures)


def _pair(figures, names):
    shown = ''.join(_figure(figures[name], '') for name in names if name in figures)
    return f'<div class="pair">{shown}</div>' if shown else ''


def _figure(drawn, kind):
    light, dark = (data_uri(drawn.files[end]) for end in ('.png', '-dark.png'))
    width = int.from_bytes(drawn.files['.png'][16:20], 'big') // 2
    limit = f' style="max-width:{width}px"' if kind and width < 900 else ''
    narrow = '' if limit else kind
    return (
        f'<figure{limit}><div class="{narrow}"><picture>'
        f'<source media="screen and (prefers-color-scheme:dark)" srcset="{dark}">'
        f'<img alt="{esc(drawn.alt)}" src="{light}"></picture></div>'
        f'<figcaption>{esc(drawn.caption)}</figcaption></figure>'
    )


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
        f'<div class="grids">{"".join(cards)}</div>'
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
    meta = study.meta
    commands = [meta['command']] if meta.get('command') else []
    commands += [c for c in meta.get('commands') or [] if c not in commands]
    shown = f'<pre>{esc(chr(10).join(commands))}</pre>' if commands else ''
    trees = {'study.json': meta}
    trees |= {f'chosen: {arm}': s for arm in study.arms if (s := study.chosen(arm))}
    trees |= {f'training run: {run}': config for run, (config, _) in study.runs.items()}
    folded = ''.join(
        f'<details><summary>{esc(name)}</summary><pre>'
        f'{esc(json.dumps(tree, indent=2, ensure_ascii=False))}</pre></details>'
        for name, tree in trees.items()
    )
    return f'{shown}<h3>Provenance</h3>{_provenance(meta)}<h3>Settings</h3>{folded}'


def _provenance(meta):
    facts = {}
    for name, value in (meta.get('provenance') or {}).items():
        if isinstance(value, dict):
            value = ', '.join(f'{k} {v}' for k, v in value.items())
        facts[name.replace('_', ' ')] = value
    for phase, seconds in (meta.get('seconds') or {}).items():
        if number(seconds) is not None:
            facts[f'time: {phase}'] = duration(number(seconds))
    rows = ''.join(f'<dt>{esc(str(k))}</dt><dd>{esc(str(v))}</dd>' for k, v in facts.items())
    return f'<dl class="facts">{rows}</dl>'


def duration(seconds):
    """Return seconds as '1 h 02 min', '3 min 12 s' or '4.2 s'."""
    if seconds < 60:
        return f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes:02d} min' if hours else f'{minutes} min {rest:02d} s'
