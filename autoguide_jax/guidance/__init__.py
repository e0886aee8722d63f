"""Denoisers → denoiser. One file per guidance rule, one line in this table.

A rule is a frozen dataclass registered as a pytree, called with (main, guides) → denoise; weights,
intervals and knots are leaves, so a sweep over them compiles once. weight 1 = off.
"""

from autoguide_jax.guidance.autoguidance import Combined, Guidance, split_total
from autoguide_jax.guidance.schedule import Schedule
from autoguide_jax.registry import Registry

# A Schedule is autoguidance with knots: settings that name some choose it by themselves.
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

__all__ = ['Combined', 'Guidance', 'Schedule', 'degradations', 'split_total', 'table']
