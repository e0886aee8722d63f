"""What every page has: the document, its figures, the notice of missing parts, the making."""

import base64
import html
import json
from typing import NamedTuple

from autoguide_jax.report import script
from autoguide_jax.report.stats import number

esc = html.escape


class Drawn(NamedTuple):
    """A figure of the page: what it shows, for those who cannot see it, and how to read it."""

    files: dict[str, bytes]
    alt: str
    caption: str


def document(title, css, parts, code=''):
    """The page as text. parts: [(heading, HTML)], the first without heading; empty ones fall out.

    Links to the headings stand where the first part says <!--nav-->. code: elements of script.
    """
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
        f'<meta http-equiv="Content-Security-Policy" content="{script.POLICY}">'
        f'<title>{esc(title)}</title><style>{css}</style></head>\n'
        f'<body><main>{body}</main>{code}</body></html>\n'
    )


def _slug(head):
    return head.lower().replace(',', '').replace(' ', '-')


def data_uri(picture, kind='png'):
    """A picture as a URI that carries it."""
    return f'data:image/{kind};base64,{base64.b64encode(picture).decode()}'


def notice(lacking, what='study'):
    """What an unfinished study or sweep still lacks."""
    if not lacking:
        return ''
    items = ''.join(f'<li>{esc(note)}</li>' for note in lacking)
    return (
        f'<div class="notice" role="note"><strong>This {what} is not finished.</strong> '
        f'Still missing:<ul>{items}</ul>The same command goes on with it.</div>'
    )


def figure(drawn, kind='wide'):
    """A figure in both looks. kind: '' in a pair, 'wide' on a line of its own, up to its size."""
    light, dark = (data_uri(drawn.files[end]) for end in ('.png', '-dark.png'))
    width = int.from_bytes(drawn.files['.png'][16:20], 'big') // 2
    limit = f' style="max-width:{width}px"' if kind and width < 900 else ''
    room = '' if limit else kind
    return (
        f'<figure{limit}><div class="{room}"><picture>'
        f'<source media="screen and (prefers-color-scheme:dark)" srcset="{dark}">'
        f'<img alt="{esc(drawn.alt)}" src="{light}"></picture></div>'
        f'<figcaption>{esc(drawn.caption)}</figcaption></figure>'
    )


def making(meta, trees):
    """Commands, provenance and times of study.json, and trees (name → JSON), folded."""
    commands = [meta['command']] if meta.get('command') else []
    commands += [c for c in meta.get('commands') or [] if c not in commands]
    shown = f'<pre>{esc(chr(10).join(commands))}</pre>' if commands else ''
    folded = ''.join(
        f'<details><summary>{esc(name)}</summary><pre>'
        f'{esc(json.dumps(tree, indent=2, ensure_ascii=False))}</pre></details>'
        for name, tree in trees.items()
    )
    return f'{shown}<h3>Provenance</h3>{_provenance(meta)}<h3>Settings</h3>{folded}'


def _provenance(meta):
    found = {}
    for name, value in (meta.get('provenance') or {}).items():
        if isinstance(value, dict):
            value = ', '.join(f'{k} {v}' for k, v in value.items())
        found[name.replace('_', ' ')] = value
    for phase, seconds in (meta.get('seconds') or {}).items():
        if number(seconds) is not None:
            found[f'time: {phase}'] = duration(number(seconds))
    return facts(found.items())


def facts(pairs):
    """(what, value) pairs as a list."""
    rows = ''.join(f'<dt>{esc(str(k))}</dt><dd>{esc(str(v))}</dd>' for k, v in pairs)
    return f'<dl class="facts">{rows}</dl>'


def duration(seconds):
    """Return seconds as '1 h 02 min', '3 min 12 s' or '4.2 s'."""
    if seconds < 60:
        return f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes:02d} min' if hours else f'{minutes} min {rest:02d} s'
