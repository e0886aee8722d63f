"""Text and Python values → typed settings: 128Ki, 'a,b,…,c', true/false, inf; and back to JSON."""

import collections.abc
import decimal
import re
import types
import typing

from autoguide_jax.registry import suggest

_NONE = type(None)
_LISTS = (list, collections.abc.Sequence)  # a component's annotation; its value is a tuple
_CONTAINERS = (*_LISTS, tuple, dict, typing.Literal, typing.Union, types.UnionType)
_SUFFIX = {'Ki': 2**10, 'Mi': 2**20, 'Gi': 2**30}
_BOOLS = {'true': True, '1': True, 'false': False, '0': False}
_ELLIPSES = ('…', '...', ...)
_MAX_ITEMS = 10_000


def number(raw):
    """Return the exact Decimal that a number or its text ('1_000', '1e6', '1.5Mi') stands for.

    Exact, so that 0.1, 0.2, …, 0.5 contains 0.3 and not 0.30000000000000004. Errors: ValueError.
    """
    text = str(raw).strip()
    scale = _SUFFIX.get(text[-2:], 1)
    try:
        value = decimal.Decimal(text[:-2] if scale > 1 else text) * scale
    except decimal.DecimalException:  # no number, or an exponent beyond all bounds
        raise ValueError(f'{raw!r} is not a number') from None
    if value.is_nan():
        raise ValueError(f'{raw!r} is not a number')
    return value


def _integer(raw):
    value = None if isinstance(raw, bool) else number(raw)
    whole = value is not None and value.is_finite() and value == value.to_integral_value()
    if not whole or abs(value) >= 2**63:
        raise ValueError(f'{raw!r} is not a whole number such as 1000, 128Ki, 8Mi or 2Gi')
    return int(value)


def _real(raw):
    if isinstance(raw, bool):
        raise ValueError(f'{raw!r} is not a number')
    return float(number(raw))


def _boolean(raw):
    key = str(raw).strip().lower()
    if key not in _BOOLS:
        raise ValueError(f'{raw!r} is not one of true, false, 1, 0')
    return _BOOLS[key]


def _text(raw):
    if not isinstance(raw, str):
        raise ValueError(f'{raw!r} is not text')
    return raw


_SCALARS = {int: _integer, float: _real, bool: _boolean, str: _text}


def items(raw):
    """Return the items of 'a,b,c', a list or a scalar; 'a,b,…,c' is filled in, its end included."""
    if isinstance(raw, str):
        inner = re.fullmatch(r'\s*(?:\[(.*)\]|\((.*)\)|(.*))\s*', raw, re.DOTALL)
        text = next(group for group in inner.groups() if group is not None)
        raw = [item.strip() for item in text.split(',')] if text.strip() else []
        raw = raw[:-1] if raw and not raw[-1] else raw  # the comma at the end of '(1,)'
    elif isinstance(raw, dict) or not isinstance(raw, collections.abc.Iterable):
        raw = [raw]
    filled, waiting = [], False
    for item in raw:
        if isinstance(item, str | type(...)) and item in _ELLIPSES:
            waiting = True
        else:
            filled += _progression(filled, item) if waiting else [item]
            waiting = False
    if waiting:
        raise ValueError("'…' needs an end: write a,b,…,c")
    return filled


def _progression(before, end):
    """Return the texts of the numbers that continue the last two of `before`, end included."""
    if len(before) < 2:
        raise ValueError("'…' needs two numbers before it, which give the step: write a,b,…,c")
    last, stop = number(before[-1]), number(end)
    step = last - number(before[-2])
    count = (stop - last) / step if step and step.is_finite() and stop.is_finite() else 0
    if count > _MAX_ITEMS:
        raise ValueError(f"'…' stands for {count:.0f} numbers; at most {_MAX_ITEMS} are allowed")
    count = round(count)
    if count < 1 or last + step * count != stop:
        raise ValueError(f'{end} is not on the progression {before[-2]}, {before[-1]}, …')
    return [str(last + step * k) for k in range(1, count + 1)]


def _sequence(kind, raw):
    kinds, values = typing.get_args(kind), items(raw)
    if typing.get_origin(kind) in _LISTS:
        kinds = (*kinds, ...)
    if not kinds:
        return tuple(guess(value) for value in values)
    if kinds[-1] is ...:
        kinds = kinds[:1] * len(values)
    if len(kinds) != len(values):
        raise ValueError(f'{raw!r} has {len(values)} items instead of {len(kinds)}')
    return tuple(coerce(k, value) for k, value in zip(kinds, values))


def _mapping(kind, raw):
    if not isinstance(raw, collections.abc.Mapping):
        raise ValueError(f'{raw!r} is not a section of settings')
    _, item = typing.get_args(kind) or (str, typing.Any)
    return {_text(key): coerce(item, value) for key, value in raw.items()}


def _choice(kind, raw):
    known = typing.get_args(kind)
    for value in known:
        if value == raw or (isinstance(raw, str) and str(value) == raw):
            return value
    raise ValueError(f'{raw!r} is not one of the choices.{suggest(raw, known)}')


def _either(kind, raw):
    """Try the members of a union, text last because everything typed on a command line is text."""
    members = [m for m in typing.get_args(kind) if m is not _NONE]
    if len(members) < len(typing.get_args(kind)):
        if raw is None or (isinstance(raw, str) and raw.lower() == 'none'):
            return None
        if len(members) == 1:
            return coerce(members[0], raw)
    # Types that settings cannot have (arrays, callables) would accept any guess: try the others.
    members = [m for m in members if is_declared(m)] or members
    members.sort(key=lambda m: (m is str, type(raw) is not m))
    for member in members:
        try:
            return coerce(member, raw)
        except ValueError:
            continue
    raise ValueError(f'{raw!r} is not a valid {type_name(kind)}')


def guess(raw):
    """Return the value of a setting of undeclared type: number, bool, None, tuple or text."""
    if isinstance(raw, list | tuple):
        return tuple(guess(value) for value in raw)
    if isinstance(raw, dict):
        return {_text(key): guess(value) for key, value in raw.items()}
    if raw is None or isinstance(raw, bool | int):
        return raw
    if isinstance(raw, float):
        return _real(raw)
    for convert in (_integer, _real):
        try:
            return convert(raw)
        except ValueError:
            continue
    literal = {'true': True, 'false': False, 'none': None}
    return literal.get(raw.lower(), raw) if isinstance(raw, str) else _text(raw)


def is_declared(kind):
    """Tell whether coerce reads text of this type, rather than guess."""
    return kind in (*_SCALARS, tuple, dict) or typing.get_origin(kind) in _CONTAINERS


def coerce(kind, raw):
    """Return raw as a value of the type `kind`, read from its text where it is one.

    kind: int, float, bool, str, tuple[...], dict[str, ...], Literal, a union of these, or anything
    else, for which the value is guessed. Errors: ValueError that shows the value, not the setting.
    """
    origin = typing.get_origin(kind)
    if kind in _SCALARS:
        return _SCALARS[kind](raw)
    if kind is tuple or origin is tuple or origin in _LISTS:
        return _sequence(kind, raw)
    if origin is typing.Literal:
        return _choice(kind, raw)
    if origin in (typing.Union, types.UnionType):
        return _either(kind, raw)
    if kind is dict or origin is dict:
        return _mapping(kind, raw)
    return guess(raw)


def type_name(kind):
    """Return how help and errors write a type: 'int', 'float,float,…', 'int | none', 'any'."""
    origin, kinds = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return ' | '.join(map(str, kinds))
    if origin in (typing.Union, types.UnionType):
        return ' | '.join(map(type_name, kinds))
    if origin in _LISTS or (origin is tuple and kinds[-1] is ...):
        return f'{type_name(kinds[0])},{type_name(kinds[0])},…'
    if origin is tuple:
        return ','.join(map(type_name, kinds))
    if kind is _NONE:
        return 'none'
    return 'any' if kind is typing.Any else getattr(kind, '__name__', str(kind))


def text(value):
    """Return a settings value as one would type it on the command line."""
    if isinstance(value, list | tuple):
        return ','.join(map(text, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(getattr(value, '__name__', value))
