"""The sampler of a study with another number of steps."""

import dataclasses

from autoguide_jax import config


def sampler_of(part, count=0):
    """The sampler of a Part, with another number of steps if it is given.

    Errors: ValueError for a sampler that has no such number, or cannot have this one.
    """
    if not count:
        return config.build(part)
    if steps_of(part) is None:
        raise ValueError(f'extra.steps ({count}): sampler.name ({part.name}) has no num_steps')
    return config.build(with_steps(part, count))


def steps_of(part):
    """Number of steps of a sampler's Part, None if it has none."""
    return config.complete(part).settings.get('num_steps')


def with_steps(part, count):
    """The Part with another number of steps."""
    return dataclasses.replace(part, settings={**part.settings, 'num_steps': count})
