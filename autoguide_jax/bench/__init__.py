"""Measurements of speed. The setting `kind` says which of this table."""

from autoguide_jax.registry import Registry, resolve

# kind → the dataclass of its settings, whose attribute `program` names the main of the kind.
table = Registry(
    'bench',
    {
        'speed': 'autoguide_jax.bench.speed:Settings',
        'input': 'autoguide_jax.bench.input:Settings',
    },
)


def settings_of(tree):
    """The settings class of a config tree. Errors: ValueError for an unknown kind."""
    return table.get(tree.get('kind', 'speed'))


def main(settings, workdir=None):
    """Measure what these settings say; returns the rows of the table."""
    return resolve(settings.program)(settings, workdir)
