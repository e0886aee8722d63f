"""Search of guidance settings with a fixed number of evaluations; pure, knows no networks.

Half of the budget explores the whole box with a Sobol sequence, half the neighbourhood of the best
so far in a box that shrinks. Points are rounded to the grid of the paper (w 0.05, EMA 0.005).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

STEPS = {'weight': 0.05, 'main_std': 0.005, 'guide_std': 0.005}


@dataclass(frozen=True)
class SearchSettings:
    """How the settings of every arm are found.

    Settings:
      budget: evaluations per arm, the same for every arm
      images: samples per evaluation
      first_seed: seed of the first sample; all evaluations use the same ones
      weight: range of guidance weights
      main_std: range of EMA lengths of the main network
      guide_std: range of EMA lengths of the guide
      lo: range of the lower end of the interval, noise level
      hi: range of the upper end of the interval, noise level
    """

    budget: int = 16
    images: int = 500
    first_seed: int = 0
    weight: tuple[float, ...] = (1.1, 3.0)
    main_std: tuple[float, ...] = (0.04, 0.20)
    guide_std: tuple[float, ...] = (0.04, 0.20)
    lo: tuple[float, ...] = (0.02, 0.6)
    hi: tuple[float, ...] = (0.8, 10.0)

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


def minimise(objective, names, settings, seed=0):
    """Evaluate objective({name: value}) at settings.budget different points; return them.

    Deterministic: the points depend on names, settings and the values of the objective alone.
    A value may be None, undefined: no other is worse.
    """
    found = {}
    explore = math.ceil(settings.budget / 2)
    half_width = 0.5
    draws = iter(qmc.Sobol(len(names), seed=seed).random(1024))
    centre = np.full(len(names), 0.5)
    while len(found) < settings.budget:
        if len(found) >= explore:
            best = min(found, key=lambda point: rank(found[point]))
            centre = np.array([to_unit(settings, n, v) for n, v in best])
            half_width = max(0.05, 0.25 * 0.9 ** (len(found) - explore))
        unit = next(draws, None)
        if unit is None:
            break  # the grid has fewer points than the budget
        unit = np.clip(centre + (2 * unit - 1) * half_width, 0, 1)
        point = tuple((n, from_unit(settings, n, u)) for n, u in zip(names, unit))
        if point not in found:
            found[point] = objective(dict(point))
    return [(dict(point), value) for point, value in found.items()]


def rank(value):
    """What values are compared by where the lowest is sought: an undefined one, None, is +inf."""
    return math.inf if value is None else value


def from_unit(settings, name, unit):
    """[0, 1] → this setting's range and grid; EMA lengths and noise levels logarithmically."""
    low, high = getattr(settings, name)
    value = low + unit * (high - low) if name == 'weight' else low * (high / low) ** unit
    step = STEPS.get(name)
    value = round(round(value / step) * step, 6) if step else float(f'{value:.3g}')
    return min(max(value, low), high)


def to_unit(settings, name, value):
    """The inverse of `from_unit`, up to its rounding."""
    low, high = getattr(settings, name)
    unit = (
        (value - low) / (high - low)
        if name == 'weight'
        else math.log(value / low) / math.log(high / low)
    )
    return float(np.clip(unit, 0, 1))
