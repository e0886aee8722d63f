"""Methods that find the best setting of a finite space with few images; pure, no networks.

    space    Space({axis: values}): all combinations; a point is {axis: value}
    trial    Trial(point, images): to score a point on the first so many of the same seeds. Seeds
             are nested: where n images of a point are known, N cost N − n more
    method   a frozen dataclass. method(space, images, seed=0) is a generator: it yields lists of
             Trials, which do not depend on each other, so that hosts can share them; it is sent the
             list of their values, lower is better, None = undefined; it returns the chosen point,
             one that was scored with all images, or None if none of those has a value.
             It depends on space, settings, seed and values alone: to resume it is to run it again
             and answer what is known. method.most(space, images) → (evaluations, images) at most.
             Settings that contradict are ValueErrors of both calls, before the first Trial.
    budget   images that a method may draw, in evaluations with all images

drive(method, space, images, objective) runs one. A new method is a file and a line in this table.
"""

from autoguide_jax.registry import Registry
from autoguide_jax.search.space import Space
from autoguide_jax.search.trials import Drawn, Found, Trial, drive, rank

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

__all__ = ['Drawn', 'Found', 'Space', 'Trial', 'drive', 'rank', 'table']
