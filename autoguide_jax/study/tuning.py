"""How the settings of every arm of a study are found: ranges, budget, method."""

import math
from dataclasses import dataclass

import numpy as np

from autoguide_jax import config
from autoguide_jax.search import Space

# The grid of the paper. Noise levels go by √2, about a step of a 32-step schedule at σ = 1.
STEPS = {'weight': 0.05, 'main_std': 0.005, 'guide_std': 0.005}
PER_OCTAVE = 2


@dataclass(frozen=True)
class SearchSettings:
    """How the settings of every arm are found.

    Settings:
      budget: evaluations per arm, the same for every arm; of a method that also scores fewer
        images, as many images
      images: samples per evaluation
      first_seed: seed of the first sample; all evaluations use the same ones
      weight: range of guidance weights
      main_std: range of EMA lengths of the main network
      guide_std: range of EMA lengths of the guide
      lo: range of the lower end of the interval, noise level
      hi: range of the upper end of the interval, noise level
      method: the method of search; its budget is that of the study
    """

    budget: int = 16
    images: int = 500
    first_seed: int = 0
    weight: tuple[float, ...] = (1.1, 3.0)
    main_std: tuple[float, ...] = (0.04, 0.20)
    guide_std: tuple[float, ...] = (0.04, 0.20)
    lo: tuple[float, ...] = (0.02, 0.6)
    hi: tuple[float, ...] = (0.8, 10.0)
    method: config.Part = config.part('autoguide_jax.search:table', name='sobol')

    def __post_init__(self):
        if self.budget < 1 or self.images < 2:
            raise ValueError(f'budget ({self.budget}) ≥ 1 and images ({self.images}) ≥ 2')
        for name in ('weight', 'main_std', 'guide_std', 'lo', 'hi'):
            pair = getattr(self, name)
            if len(pair) != 2 or not 0 < pair[0] < pair[1]:
                raise ValueError(f'{name} ({pair}) must be a range: two numbers, 0 < low < high')
        if self.lo[1] >= self.hi[0]:
            raise ValueError(
                f'lo ({self.lo}) must end below hi ({self.hi}), or intervals are empty'
            )

    def space(self, arm):
        """The Space of an arm: its ranges, on the grid of the paper."""
        return Space({name: between(*getattr(self, name), STEPS.get(name)) for name in axes(arm)})

    def build(self):
        """The method, with this budget."""
        return config.build(self.method, budget=self.budget)

    def most(self, arm):
        """(evaluations, images) of the search of an arm, at most."""
        return self.build().most(self.space(arm), self.images)

    def check(self, arms):
        """Errors: ValueError for a method that cannot search one of these arms in the budget."""
        budget = self.budget * self.images
        for name, arm in arms.items():
            try:
                images = self.most(arm)[1]
            except ValueError as error:
                raise ValueError(f'search.method.{error} (arm {name})') from error
            if images > budget:
                raise ValueError(
                    f'search.budget ({self.budget}): search.method {self.method.name} may draw '
                    f'{images} images for arm {name}, the budget is {budget}. Take another method'
                )


def axes(arm):
    """Names of what is searched for an arm."""
    names = ['main_std']
    if arm.guide or arm.uncond:
        names += [] if arm.same_std else ['guide_std']
        names += ['weight']
    return names + (['lo', 'hi'] if arm.search_interval else [])


def between(low, high, step=None):
    """Ascending values from low to high: multiples of step, or without one by 2^(1/PER_OCTAVE)."""
    if step:
        inside = [round(i * step, 6) for i in range(math.floor(low / step), math.ceil(high / step))]
    else:
        count = max(1, round(PER_OCTAVE * math.log2(high / low)))
        inside = [float(f'{value:.3g}') for value in np.geomspace(low, high, count + 1)]
    return tuple(sorted({low, high, *(value for value in inside if low < value < high)}))
