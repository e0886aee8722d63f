"""Grids of settings, scored whole or searched: the verbs `sweep` and `search`."""

from autoguide_jax.sweep.campaign import main
from autoguide_jax.sweep.settings import SearchSettings, Settings

__all__ = ['SearchSettings', 'Settings', 'main']
