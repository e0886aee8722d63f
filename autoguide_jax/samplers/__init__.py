"""(denoise, noise, keys) → x. One file per family, one line in this table.

A sampler is a frozen hashable dataclass (static under jit); sigmas() lists the noise levels at
which it evaluates the denoiser, so that costs can be counted without running it.
"""

from autoguide_jax.registry import Registry
from autoguide_jax.samplers.edm import Euler, Heun

table = Registry(
    'samplers',
    {'heun': 'autoguide_jax.samplers.edm:Heun', 'euler': 'autoguide_jax.samplers.edm:Euler'},
)

__all__ = ['Euler', 'Heun', 'table']
