"""Config files and command-line overrides → frozen settings, once, with every name checked.

A config file is Python: get_config(arg=None) returns an ml_collections.ConfigDict. What it leaves
out has the default of the program's settings dataclass. Errors name the dotted setting, its value
and a way out. schema.py says what settings there are, values.py how their values are read.
"""

import collections.abc
import dataclasses
import re
import typing

from autoguide_jax import config_file, values
from autoguide_jax.registry import resolve, suggest
from autoguide_jax.schema import (
    MISSING,
    Field,
    Part,
    component_fields,
    describe,
    fields,
    is_section,
    part,
    part_tree,
    parts,
    required,
    to_dict,
)

__all__ = ['Part', 'build', 'complete', 'describe', 'differences', 'from_dict', 'load', 'parse']
__all__ += ['part', 'parts', 'resolved', 'to_dict']


def parse(cls, tree=None, prefix='config'):
    """Return the frozen dataclass cls with the settings of a tree (ConfigDict or dict).

    Errors: ValueError for unknown names, missing or unreadable values, and whatever __post_init__
    of a section refuses, always with the dotted setting.
    """
    return _section(cls, _plain(tree or {}), prefix, MISSING)


def from_dict(cls, tree, prefix='config'):
    """Return the settings that to_dict wrote."""
    return parse(cls, tree, prefix)


def _section(cls, tree, where, base):
    if not isinstance(tree, collections.abc.Mapping):
        raise ValueError(f'{where}: {tree!r} is not a section of settings')
    known = fields(cls)
    for name in tree:
        if name not in known:
            raise ValueError(f'{where}.{name}: unknown setting.{suggest(name, known)}')
    settings = {}
    for name, field in known.items():
        field = field if base is MISSING else field._replace(default=getattr(base, name))
        settings[name] = setting(field, tree.get(name, MISSING), f'{where}.{name}')
    return _construct(cls, settings, where)


def _construct(target, settings, where):
    """Call target(**settings); put the dotted section before what its validation refuses."""
    try:
        return target(**settings)
    except ValueError as error:
        text = str(error)
        joint = '.' if re.match(r'\w*', text)[0] in settings else ': '
        raise ValueError(f'{where}{joint}{text}') from error


def setting(field, raw, where):
    """Return one setting of a Field, read from raw (MISSING: its default); errors name `where`."""
    kind, optional = required(field.kind)
    if raw is MISSING and (not is_section(kind) or typing.get_origin(kind) in (dict, tuple)):
        if field.default is MISSING:
            raise ValueError(f'{where}: required. Set it in the config file or with --{where}=…')
        raw = field.default
    if raw is MISSING and optional and field.default is None:
        return None
    if not is_section(kind):
        try:
            return values.coerce(field.kind, raw)
        except ValueError as error:
            raise ValueError(f'{where}: {error}') from None
    if optional and (raw is None or (isinstance(raw, str) and raw.lower() == 'none')):
        return None
    if kind is Part:
        return _part(field, raw, where)
    if typing.get_origin(kind) in (dict, tuple):
        return _collection(kind, field.room, raw, where)
    if isinstance(raw, kind):
        return _section(kind, {}, where, raw)
    base = field.default if isinstance(field.default, kind) else MISSING
    return _section(kind, {} if raw is MISSING else raw, where, base)


def _collection(kind, room, raw, where):
    kinds = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        if isinstance(raw, str | collections.abc.Mapping):
            raise ValueError(f'{where}: {raw!r} is not a list of sections')
        item = Field(kinds[0], MISSING, room)
        return tuple(setting(item, value, f'{where}[{i}]') for i, value in enumerate(raw))
    if not isinstance(raw, collections.abc.Mapping):
        raise ValueError(f'{where}: {raw!r} is not a section of settings')
    item = Field(kinds[1], MISSING, room)
    return {key: setting(item, value, f'{where}.{key}') for key, value in raw.items()}


def _part(field, raw, where):
    if not isinstance(raw, str | Part | collections.abc.Mapping) and raw is not MISSING:
        raise ValueError(f'{where}: {raw!r} is not a section of settings')
    table, given = resolve(field.room), part_tree(raw, field.default)
    if 'name' not in given:
        raise ValueError(f'{where}.name: required.{suggest("", table.names())}')
    name = given.pop('name')
    if name not in table.names():
        raise ValueError(f'{where}.name: unknown name {name!r}.{suggest(name, table.names())}')
    known, settings = component_fields(table.get(name)), {}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f'{where}.{key}: unknown setting of {name!r}.{suggest(key, known)}')
        settings[key] = setting(known[key], value, f'{where}.{key}')
    return Part(name, settings, field.room, where)


def _with_inferred(part, inferred):
    """Return (component, its fields, settings with the inferred ones that the component has)."""
    component = resolve(part.room).get(part.name)
    known, settings = component_fields(component), dict(part.settings)
    for key, value in inferred.items():
        if to_dict(settings.get(key, value)) != to_dict(value):
            raise ValueError(
                f'{part.where}.{key} ({values.text(settings[key])}) contradicts '
                f'{values.text(value)}, which this run infers. Leave it out.'
            )
        if key in known:
            settings[key] = value
    return component, known, settings


def build(part, **inferred):
    """Return the component that a parsed Part names, made from its settings and inferred ones.

    Inferred settings that the component does not have are left out: the members of a room need
    different facts. Errors: ValueError if one contradicts a setting, or if a setting is missing.
    """
    component, known, settings = _with_inferred(part, inferred)
    for key, field in known.items():
        if key not in settings and field.default is MISSING:
            raise ValueError(f'{part.where}.{key}: required by {part.name!r}')
    return _construct(component, settings, part.where)


def complete(part, **inferred):
    """Return the Part with inferred settings and defaults written out, for a record that lasts.

    Defaults that JSON cannot hold stay implicit.
    """
    _, known, settings = _with_inferred(part, inferred)
    lasting = (bool, int, float, str, tuple, type(None))
    defaults = {k: f.default for k, f in known.items() if isinstance(f.default, lasting)}
    return dataclasses.replace(part, settings={**defaults, **settings})


def resolved(settings):
    """Return to_dict(settings) with the defaults of every Part written out."""
    if isinstance(settings, Part):
        return to_dict(complete(settings))
    if dataclasses.is_dataclass(settings):
        return {f.name: resolved(getattr(settings, f.name)) for f in dataclasses.fields(settings)}
    if isinstance(settings, dict):
        return {key: resolved(value) for key, value in settings.items()}
    if isinstance(settings, tuple):
        return [resolved(value) for value in settings]
    return to_dict(settings)


def differences(a, b, prefix=''):
    """Yield (dotted name, value in a, value in b) wherever two trees differ."""
    for key in sorted(a.keys() | b.keys()):
        x, y = a.get(key), b.get(key)
        if isinstance(x, dict) and isinstance(y, dict):
            yield from differences(x, y, f'{prefix}{key}.')
        elif x != y:
            yield f'{prefix}{key}', x, y


def load(source, overrides=(), cls=None, prefix='config'):
    """Return the tree of a config 'FILE.py' or 'FILE.py:ARG' with overrides put in as text.

    source: a relative path is looked up here, then beside the package; None for no file; or a
    tree (ConfigDict or dict), which stays as it is.
    overrides: pairs (dotted name, text), checked against the settings dataclass cls, so that they
    may also name settings that the file leaves at their defaults. Parse the tree to get values.
    """
    if isinstance(source, str):
        found, sweeps = config_file.execute(source, cls is not None and 'declared' in fields(cls))
        tree = _plain(found) | ({'declared': sweeps} if sweeps else {})
    else:
        tree = _plain(source or {})
    # A part is chosen before its settings, in whatever order they were typed.
    for dotted, text in sorted(overrides, key=lambda o: not o[0].endswith('.name')):
        _override(Field(cls, MISSING, ''), tree, dotted.split('.'), text, prefix)
    return tree


def _plain(tree):
    import ml_collections

    if isinstance(tree, ml_collections.ConfigDict):
        tree = tree.to_dict()
    if isinstance(tree, collections.abc.Mapping):
        return {str(key): _plain(value) for key, value in tree.items()}
    return type(tree)(map(_plain, tree)) if type(tree) in (list, tuple) else tree


def _override(field, tree, names, text, where):
    """Put the text of one override into the tree of the section `field`."""
    name, *rest = names
    child = _child(field, tree, name, where)
    where = f'{where}.{name}'
    kind, optional = required(child.kind)
    if rest:
        if not is_section(kind):
            raise ValueError(f'{where} is a single value: it has no setting {rest[0]!r}')
        tree[name] = _subtree(child, tree.get(name), switch=text if rest == ['name'] else None)
        _override(child, tree[name], rest, text, where)
    elif is_section(kind) and not (optional and text.lower() == 'none'):
        raise ValueError(f'{where} is a section: set one of its settings, as in --{where}.…=…')
    else:
        tree[name] = text


def _child(field, tree, name, where):
    """Return the Field of one setting in a section, its default as the section's default has it."""
    kind, _ = required(field.kind)
    origin = typing.get_origin(kind)
    if origin is tuple:
        raise ValueError(f'{where} is a list of sections: set it in a config file')
    if origin is dict:
        entry = typing.get_args(kind)[1]
        # Parts of a room may be added by any name; entries of other sections belong together.
        if name not in tree and entry is not Part:
            raise ValueError(f'{where}.{name}: unknown entry.{suggest(name, tree)}')
        return Field(entry, MISSING, field.room)
    if kind is Part:
        table, chosen = resolve(field.room), tree.get('name')
        known = component_fields(table.get(chosen)) if chosen in table.names() else {}
        return known.get(name, Field(typing.Any, MISSING, ''))  # parse refuses unknown ones
    known = fields(kind)
    if name not in known:
        raise ValueError(f'{where}.{name}: unknown setting.{suggest(name, known)}')
    if isinstance(field.default, kind):
        return known[name]._replace(default=getattr(field.default, name))
    return known[name]


def _subtree(field, raw, switch):
    """Return the tree of a section that an override enters; what the file leaves out is added.

    switch: the name that a Part is about to get, or None. Settings of a default part belong to the
    default name, so a switch leaves them behind; settings in the file stay, and may be refused.
    """
    kind, _ = required(field.kind)
    raw = MISSING if raw is None else raw
    if kind is Part:
        kept = isinstance(field.default, Part) and switch in (None, field.default.name)
        return part_tree(raw, field.default if kept else MISSING)
    if isinstance(raw, collections.abc.Mapping) or dataclasses.is_dataclass(raw):
        return to_dict(raw)
    whole = typing.get_origin(kind) is dict and isinstance(field.default, dict)
    return to_dict(field.default) if whole else {}
