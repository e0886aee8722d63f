"""What makes a page interactive: scripts and data inside of it, which work from a local file.

Nothing is loaded: a policy in the page forbids it. Without scripts the tables and pictures of the
page stay as they are.
"""

import importlib.resources
import json

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


def text_of(name):
    """A file of report/web."""
    return (importlib.resources.files('autoguide_jax.report') / 'web' / name).read_text('utf-8')


def inline(*names):
    """The scripts of report/web with these names, in this order, as one element."""
    return f'<script>{"".join(text_of(f"{name}.js") for name in names)}</script>'


def stat(found):
    """[mean, what stands behind ±, half the 95 % interval, sets of seeds] of a Stat, or None."""
    return found and [*map(short, (found.mean, found.spread, found.half)), found.n]


def short(value):
    """A number in seven digits, None for none."""
    return None if value is None else float(f'{value:.7g}')


def data(name, value):
    """An element that holds a value as JSON, for the script to read by its id.

    No text of the value can end the element: < is written as its escape. Errors: ValueError for
    NaN and infinities, which JSON has not.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(',', ':'))
    escaped = text.replace('<', '\\u003c').replace('\u2028', '\\u2028').replace('\u2029', '\\u2029')
    return f'<script type="application/json" id="{name}">{escaped}</script>'
