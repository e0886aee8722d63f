"""Denoisers → denoiser. One file per guidance rule, one line in this table.

A rule is a frozen dataclass registered as a pytree, called with (main, guides) → denoise; weights
and intervals are leaves, so a sweep over them compiles once. weight 1 = off.
"""

from autoguide_jax.guidance.autoguidance import Combined, Guidance, split_total
from autoguide_jax.registry import Registry

table = Registry('guidance', {'autoguidance': 'autoguide_jax.guidance.autoguidance:Guidance'})
# Ways to make a bad version of a network without training one.
degradations = Registry(
    'degradations',
    {
        'dropout': 'autoguide_jax.guidance.degradation:Dropout',
        'input_noise': 'autoguide_jax.guidance.degradation:InputNoise',
        'quantised': 'autoguide_jax.guidance.degradation:Quantised',
    },
)

__all__ = ['Combined', 'Guidance', 'degradations', 'split_total', 'table']
