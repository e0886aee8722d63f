"""The tables of a plan: as text for a terminal, and as the tree that --json writes."""

from autoguide_jax import tables
from autoguide_jax.plan import compiler

# Measured: temporaries of XXS on v6e:2x4 5.72 GB and 5.74, of XXL on v5e:16x16 5.87 and 4.14.
LESS = 'a run compiles with effort 0, whose temporaries were up to 1.4 times as large'


class Report(dict):
    """{'topology', 'chips', 'hosts', 'compiler', 'programs': {name: {rows, verdict, compiled}}}."""

    def __init__(self, topology, version, settings):
        super().__init__(
            topology=topology.name,
            chips=topology.chips,
            hosts=topology.hosts,
            compiler=version if settings.compile else None,
            effort=settings.effort,
            programs={},
        )
        self.note = self.note_of(version, settings)

    @staticmethod
    def note_of(version, settings):
        """What the reader has to know about the compiler's figures."""
        if not settings.compile:
            return 'not compiled, as --config.compile=false asks'
        if version is None:
            return compiler.MISSING
        said = f'compiled by libtpu {version} with effort {settings.effort:g}'
        return f'{said}; {LESS}' if settings.effort < 0 else said

    def add(self, name, rows, verdict, found):
        """Add the figures of one program."""
        self['programs'][name] = {'rows': rows, 'verdict': verdict, 'compiled': found}

    @property
    def text(self):
        """One table for each program, with its verdict below."""
        parts = [f'{self["topology"]}: {self["chips"]} chips, {self["hosts"]} hosts; {self.note}']
        for name, program in self['programs'].items():
            parts += ['', name, tables.render(program['rows']), program['verdict']]
        return '\n'.join(parts)
