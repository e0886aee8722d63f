"""Methods of search."""

from autoguide_jax.registry import Registry

table = Registry(
    'search',
    {
        'grid': 'autoguide_jax.search.grid:Grid',
        'sobol': 'autoguide_jax.search.sobol:Sobol',
        'coordinate': 'autoguide_jax.search.coordinate:Coordinate',
        'halving': 'autoguide_jax.search.halving:Halving',
        'gaussian_process': 'autoguide_jax.search.gaussian_process:GaussianProcess',
    },
)
