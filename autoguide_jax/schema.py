"""What settings there are: fields of a dataclass or a component, their defaults and meanings.

A program declares its settings as a frozen dataclass; a section is a nested dataclass, and a `Part`
is one member of a room (network, sampler, data set) with its keyword settings. Meanings stand in
the class docstring below a line `Settings:`, as indented lines `name: meaning`.
"""

import collections.abc
import dataclasses
import inspect
import math
import re
import textwrap
import types
import typing

from autoguide_jax import registry, values

MISSING = dataclasses.MISSING
# A part is written {'name': …, **settings}, and Linen modules add fields name and parent.
_RESERVED = ('name', 'parent')


@dataclasses.dataclass(frozen=True)
class Part:
    """One member of a room by name, with its keyword settings.

    room: 'module:table' of its Registry; where: its dotted setting, which errors name. parse fills
    both in.
    """

    name: str
    settings: dict = dataclasses.field(default_factory=dict)
    room: str = dataclasses.field(default='', compare=False, repr=False)
    where: str = dataclasses.field(default='', compare=False, repr=False)


def part(room, /, *, name=MISSING, **settings):
    """Declare a field `x: Part` of a room, as in part('autoguide_jax.samplers:table', name='heun').

    Without a name it is required; with name=None its default is None (annotate it `Part | None`).
    """
    metadata = {'room': room}
    if name is MISSING:
        return dataclasses.field(metadata=metadata)
    if name is None:
        return dataclasses.field(default=None, metadata=metadata)
    return dataclasses.field(default_factory=lambda: Part(name, dict(settings)), metadata=metadata)


def parts(room, /, **named):
    """Declare a field `x: dict[str, Part]` of a room whose default is the given Parts."""
    return dataclasses.field(default_factory=lambda: dict(named), metadata={'room': room})


class Field(typing.NamedTuple):
    """One setting: its type, its default (or MISSING) and, for a Part, its room."""

    kind: typing.Any
    default: typing.Any
    room: str


def _hints(target):
    try:
        return typing.get_type_hints(target)
    except NameError:  # an annotation that only a type checker can see: its settings are guessed
        return {}


def _field(kind, default, room=''):
    # Arrays and Any say nothing about text from a command line, but their default does.
    if not is_section(kind) and not values.is_declared(kind):
        simple = isinstance(default, bool | float | str | tuple)
        kind = type(default) if simple else typing.Any
    return Field(kind, default, room)


def fields(target):
    """Return the settings of a dataclass, as name → Field."""
    hints, known = _hints(target), {}
    for f in dataclasses.fields(target):
        if f.init:
            made = f.default_factory is not MISSING
            default = f.default_factory() if made else f.default
            kind = hints.get(f.name, typing.Any)
            known[f.name] = _field(kind, default, f.metadata.get('room', ''))
    return known


def component_fields(component):
    """Return the keyword settings of a component, a dataclass or any callable, as name → Field."""
    if dataclasses.is_dataclass(component):
        return {k: f for k, f in fields(component).items() if k not in _RESERVED}
    hints = _hints(component.__init__ if isinstance(component, type) else component)
    known = {}
    for name, p in inspect.signature(component).parameters.items():
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in _RESERVED:
            default = MISSING if p.default is p.empty else p.default
            known[name] = _field(hints.get(name, typing.Any), default)
    return known


def required(kind):
    """Return (T, True) for the type `T | None`, otherwise (kind, False)."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [m for m in typing.get_args(kind) if m is not type(None)]
        if len(members) == 1:
            return members[0], len(typing.get_args(kind)) > 1
    return kind, False


def is_section(kind):
    """Tell whether a type holds settings of its own: Part, dataclass, or a collection of those."""
    kind, _ = required(kind)
    if typing.get_origin(kind) in (dict, tuple):
        return any(is_section(k) for k in typing.get_args(kind))
    return dataclasses.is_dataclass(kind)


def meanings(target):
    """Return name → meaning from the `Settings:` blocks in the docs of a class and its bases."""
    found = {}
    for owner in reversed(getattr(target, '__mro__', (target,))):
        doc = inspect.cleandoc(owner.__doc__ or '')
        block = re.search(r'^Settings:\n((?: .*\n?)+)', doc, re.MULTILINE)
        if block:
            lines = re.sub(r'\n +', ' ', textwrap.dedent(block[1]))  # continuation lines
            found.update(re.findall(r'^(\w+): (.+)$', lines, re.MULTILINE))
    return found


class Row(typing.NamedTuple):
    """One line of help: dotted setting, type, default as one would type it, meaning."""

    name: str
    type: str
    default: str
    meaning: str


def to_dict(settings):
    """Return settings as a JSON tree: tuples as lists, infinity as 'inf', a Part with its name.

    parse(cls, to_dict(settings)) == settings.
    """
    if isinstance(settings, Part):
        return {'name': settings.name, **to_dict(settings.settings)}
    if dataclasses.is_dataclass(settings):
        names = [f.name for f in dataclasses.fields(settings) if f.init]
        return {name: to_dict(getattr(settings, name)) for name in names}
    if isinstance(settings, collections.abc.Mapping):
        return {key: to_dict(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [to_dict(value) for value in settings]
    infinite = isinstance(settings, float) and not math.isfinite(settings)
    return str(settings) if infinite else settings


def part_tree(raw, default):
    """Return {'name': …, **settings} of a Part given as Part, name, mapping or MISSING.

    A mapping with a name is the whole part; one without changes settings of the default part.
    """
    raw = {} if raw is MISSING else {'name': raw} if isinstance(raw, str) else to_dict(raw)
    if 'name' in raw or not isinstance(default, Part):
        return raw
    return {**to_dict(default), **raw}


def describe(cls, prefix='config', tree=None):
    """Return the Rows of all settings of cls; values in `tree` (a loaded config) are defaults."""
    return list(_section_rows(cls, prefix, tree or {}, MISSING))


def describe_component(component, prefix='', given=None):
    """Return the Rows of the settings of one component; `given` values replace its defaults."""
    texts, rows = meanings(component), []
    for key, field in component_fields(component).items():
        raw = (given or {}).get(key, MISSING)
        rows += _rows(field, f'{prefix}{key}', raw, texts.get(key, ''))
    return rows


def _section_rows(cls, where, tree, base):
    texts = meanings(cls)
    for name, field in fields(cls).items():
        field = field if base is MISSING else field._replace(default=getattr(base, name))
        yield from _rows(field, f'{where}.{name}', tree.get(name, MISSING), texts.get(name, ''))


def _rows(field, where, raw, meaning):
    kind, optional = required(field.kind)
    shown = field.default if raw is MISSING else raw
    if not is_section(kind):
        text = 'required' if shown is MISSING else values.text(shown)
        yield Row(where, values.type_name(field.kind), text, meaning)
        return
    if optional and shown is None:
        yield Row(where, 'section | none', 'none', meaning)
    raw = MISSING if raw is None else raw
    if kind is Part:
        yield from _part_rows(field, where, raw, meaning)
    elif typing.get_origin(kind) is dict:
        item = Field(typing.get_args(kind)[1], MISSING, field.room)
        entries = shown if isinstance(shown, collections.abc.Mapping) else {}
        for key, value in (entries or {'<name>': MISSING}).items():
            yield from _rows(item, f'{where}.{key}', value, meaning)
    elif typing.get_origin(kind) is tuple:
        count = 'required' if shown is MISSING else f'{len(shown or ())} sections'
        yield Row(where, 'list of sections', count, meaning)
    else:
        base = field.default if isinstance(field.default, kind) else MISSING
        yield from _section_rows(kind, where, {} if raw is MISSING else to_dict(raw), base)


def _part_rows(field, where, raw, meaning):
    table = registry.resolve(field.room)
    given = part_tree(raw, field.default)
    name = given.pop('name', None)
    yield Row(f'{where}.name', ' | '.join(table.names()), name or 'required', meaning)
    if name in table.names():
        for row in describe_component(table.get(name), f'{where}.', given):
            # Not 'required': programs infer such settings, the number of channels for one.
            yield row._replace(default='–') if row.default == 'required' else row
