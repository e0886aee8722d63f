"""The settings of guidance: weight, noise levels, schedule, and how two guides share them."""

import math
from dataclasses import dataclass

from autoguide_jax import guidance
from autoguide_jax.guidance import Guidance, Schedule

EVERYWHERE = (0.0, float('inf'))


@dataclass(frozen=True)
class GuidanceSettings:
    """How strongly, and at which noise levels, the guides act.

    Settings:
      weight: total guidance weight w; 1 = off
      interval: noise levels (lo, hi] at which the guide acts
      alpha: share of the guide in w − 1, the rest is the unconditional network's; −1 = decided by
        which of the two is given (1 or 0), required when both are
      uncond_interval: noise levels (lo, hi] at which the unconditional network acts
      rule: the guidance rule, a name in autoguide_jax/guidance/__init__.py
      schedule_sigma: knots of a weight by noise level, ascending; empty = w at all levels
      schedule_scale: what w − 1 is multiplied by at each knot; in between linear in ln σ, outside
        as at the nearest knot
    """

    weight: float = 1.0
    interval: tuple[float, ...] = EVERYWHERE
    alpha: float = -1.0
    uncond_interval: tuple[float, ...] = EVERYWHERE
    rule: str = 'autoguidance'
    schedule_sigma: tuple[float, ...] = ()
    schedule_scale: tuple[float, ...] = ()

    def __post_init__(self):
        if not math.isfinite(self.weight):
            raise ValueError(f'weight ({self.weight}) must be a finite number; 1 is off')
        for name in ('interval', 'uncond_interval'):
            pair = getattr(self, name)
            if len(pair) != 2 or not 0 <= pair[0] < pair[1]:
                raise ValueError(f'{name} ({pair}) must be two noise levels, 0 ≤ lo < hi')
        guidance.table.get(self.rule)
        if self.alpha != -1 and not 0 <= self.alpha <= 1:
            raise ValueError(f'alpha ({self.alpha}) must be in [0, 1], or −1 to leave it open')
        self._check_schedule()

    def _check_schedule(self):
        knots, scales = self.schedule_sigma, self.schedule_scale
        if len(knots) != len(scales):
            raise ValueError(
                f'schedule_sigma ({knots}) and schedule_scale ({scales}) must be of one length: a '
                'scale for each noise level'
            )
        rising = all(a < b for a, b in zip((0.0, *knots), (*knots, math.inf)))
        if knots and not rising:
            raise ValueError(
                f'schedule_sigma ({knots}) must be finite noise levels > 0, each above the last'
            )
        if not all(map(math.isfinite, scales)):
            raise ValueError(f'schedule_scale ({scales}) must be finite')
        if knots and not any(scales):
            raise ValueError(
                f'schedule_scale ({scales}) is 0 everywhere; weight = 1 turns guidance off'
            )
        if knots and self.rule != 'autoguidance':
            raise ValueError(
                f'schedule_sigma ({knots}) goes with the rule autoguidance, not {self.rule}'
            )

    def component(self):
        """The guidance rule, a class."""
        return Schedule if self.schedule_sigma else guidance.table.get(self.rule)

    def make(self, weight, interval) -> Guidance:
        """The rule of one guide with this weight and interval."""
        knots = {'sigmas': self.schedule_sigma, 'scales': self.schedule_scale}
        return self.component()(weight, interval, **(knots if self.schedule_sigma else {}))

    def row(self):
        """What tells this guidance from others in a table; a schedule as (noise level, scale)."""
        found = {'weight': self.weight, 'interval': list(self.interval), 'alpha': self.alpha}
        if self.uncond_interval != EVERYWHERE:
            found['uncond_interval'] = list(self.uncond_interval)
        if self.rule != GuidanceSettings.rule:
            found['rule'] = self.rule
        if self.schedule_sigma:
            found['schedule'] = list(zip(self.schedule_sigma, self.schedule_scale))
        return found
