"""Name → component, imported only when asked for. One explicit table per room."""

import difflib
import importlib


def suggest(name, known):
    """Return ' Did you mean …?' for the nearest of the known names, or the list of them all."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f' Did you mean {near[0]!r}?' if near else f' Known: {", ".join(map(str, known))}.'


def resolve(target):
    """Import 'package.module:Attribute' and return the attribute."""
    module, _, attribute = target.partition(':')
    return getattr(importlib.import_module(module), attribute)


class Registry:
    """The table of one room: name → 'module:Attribute', resolved on first use.

    Errors: ValueError with the nearest known name when a name is not in the table.
    """

    def __init__(self, room, table):
        self.room = room
        self.table = dict(table)

    def names(self):
        return sorted(self.table)

    def get(self, name):
        if name not in self.table:
            raise ValueError(f'{self.room}: unknown name {name!r}.{suggest(name, self.names())}')
        return resolve(self.table[name])


class Kinds(Registry):
    """A table of settings dataclasses, one of which the setting `kind` of a config tree chooses.

    The attribute `program` of each names what runs it: (settings, workdir) → rows.
    """

    def __init__(self, room, table, default):
        super().__init__(room, table)
        self.default = default

    def settings_of(self, tree):
        """The settings class of a config tree. Errors: ValueError for an unknown kind."""
        return self.get(tree.get('kind', self.default))

    @staticmethod
    def main(settings, workdir=None):
        """Run what these settings are for; returns the rows of its table."""
        return resolve(settings.program)(settings, workdir)
