"""The words of a command line: verb, flags, and --config.NAME=VALUE overrides."""

from typing import NamedTuple

from autoguide_jax import values

_SWITCHES = ('dry_run', 'debug', 'help')


class Command(NamedTuple):
    """A command line: verb, words after it, flags by name, overrides as (dotted name, text)."""

    verb: str | None
    words: list
    flags: dict
    overrides: list


def read(argv):
    """Return the Command of a list of arguments; which verbs and flags exist is not checked here.

    Both --name=value and --name value are read. Errors: ValueError for a flag without its value.
    """
    words, flags, overrides = [], {}, []
    queue = list(argv)
    while queue:
        token = queue.pop(0)
        if not token.startswith('-'):
            words.append(token)
            continue
        name, equals, text = {'-h': '--help'}.get(token, token).lstrip('-').partition('=')
        dotted = name.startswith('config.')
        name = name if dotted else name.replace('-', '_')
        if not equals and name in _SWITCHES:
            text = 'true'
        elif not equals:
            if not queue or queue[0].startswith('--'):
                raise ValueError(f'{token} needs a value: {token}=…')
            text = queue.pop(0)
        if dotted:
            overrides.append((name.removeprefix('config.'), text))
        else:
            flags[name] = values.coerce(bool, text) if name in _SWITCHES else text
    return Command(words[0] if words else None, words[1:], flags, overrides)
