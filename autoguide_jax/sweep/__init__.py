"""Grids of settings, scored whole or searched: the verbs `sweep` and `search`."""

from autoguide_jax.sweep.campaign import main
from autoguide_jax.sweep.grid import Grid
from autoguide_jax.sweep.settings import SearchSettings, Settings

__all__ = ['Grid', 'SearchSettings', 'Settings', 'main']
