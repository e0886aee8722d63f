"""Measurements of speed. The setting `kind` says which of this table."""

from autoguide_jax.registry import Kinds

table = Kinds(
    'bench',
    {
        'speed': 'autoguide_jax.bench.speed:Settings',
        'input': 'autoguide_jax.bench.input:Settings',
        'metrics': 'autoguide_jax.bench.metrics:Settings',
    },
    default='speed',
)
settings_of, main = table.settings_of, table.main
