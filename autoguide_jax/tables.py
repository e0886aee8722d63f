"""Rows of a result as aligned text for a terminal."""

import collections.abc
import json
import numbers


def render(result):
    """Return a table of a list of rows (dicts), or 'name  value' lines of one dict.

    Columns are the union of the keys, in order of appearance; numbers are aligned right and shown
    to five digits; a missing value is a dash. A result with a `text` of its own is that text.
    """
    if hasattr(result, 'text'):
        return result.text
    if isinstance(result, collections.abc.Mapping):
        return align([[str(key), cell(value)] for key, value in result.items()])
    if not result:
        return '(no rows)'
    names = list(dict.fromkeys(name for row in result for name in row))
    lines = [[cell(row.get(name)) for name in names] for row in result]
    right = [
        all(_is_number(row[name]) for row in result if row.get(name) is not None) for name in names
    ]
    return align([names, ['-' * len(name) for name in names], *lines], right)


def cell(value):
    """Return the text of one value in a table."""
    if value is None:
        return '–'
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    if _is_number(value):
        return f'{float(value):.5g}'
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def align(lines, right=()):
    """Return lines of cells as columns two spaces apart; `right` tells which are aligned right."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    right = [*right, *[False] * (len(widths) - len(right))]
    rows = []
    for line in lines:
        line = [('-' * w if set(t) == {'-'} else t) for t, w in zip(line, widths)]
        texts = [t.rjust(w) if r else t.ljust(w) for t, w, r in zip(line, widths, right)]
        rows.append('  '.join(texts).rstrip())
    return '\n'.join(rows)


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
