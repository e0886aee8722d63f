"""What a campaign will cost, told before it starts: images, evaluations of networks, FLOPs, time.

(1) FLOPs of a stage = Σ over its images of evaluations of each network × FLOPs of one evaluation.
(2) time of a stage = its FLOPs / the FLOPs per second that were measured of such work.
Pure: campaigns say what they ask for, and what they measured.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

UNKNOWN = 'unknown until the first batches'


@dataclass(frozen=True)
class Budget:
    """What a campaign may cost at most; one that would cost more is refused.

    Settings:
      images: images that are drawn, all stages together; 0 = no limit
      hours: hours of all that has a measured rate, training too; 0 = no limit
    """

    images: int = 0
    hours: float = 0.0

    def __post_init__(self):
        if self.images < 0 or self.hours < 0:
            raise ValueError(f'images ({self.images}) and hours ({self.hours}) must be ≥ 0')


class Stage(NamedTuple):
    """A part of a campaign.

    kind: 'train' or 'draw'; evaluations: settings × sets of seeds that are scored; images: trained
    on or drawn; calls: evaluations of networks while drawing; flops: of all its images.
    """

    name: str
    kind: str
    images: int
    flops: float
    evaluations: int = 0
    calls: int = 0


def seconds(stage: Stage, rates: Mapping[str, float]) -> float | None:
    """Return the time of a stage by (2), None as long as nobody measured it.

    rates: FLOPs per second, by the name of a stage or else by its kind.
    """
    if not stage.flops:
        return 0.0
    rate = rates.get(stage.name) or rates.get(stage.kind)
    return stage.flops / rate if rate else None


def rows(stages: Iterable[Stage], rates: Mapping[str, float]) -> list[dict]:
    """Return the plan as rows of a table: every stage, and their sum."""
    stages = list(stages)
    drawn = [stage for stage in stages if stage.kind == 'draw']
    known = [seconds(stage, rates) for stage in stages]
    found = [_row(stage, s) for stage, s in zip(stages, known)]
    total = Stage(
        'all (images: those drawn)',
        '',
        sum(stage.images for stage in drawn),
        sum(stage.flops for stage in stages),
        sum(stage.evaluations for stage in stages),
        sum(stage.calls for stage in stages),
    )
    return [*found, _row(total, None if None in known else sum(known))]


def _row(stage, time):
    return {
        'stage': stage.name,
        'evaluations': stage.evaluations or None,
        'images': stage.images,
        'calls': stage.calls or None,
        'TFLOP': stage.flops / 1e12,
        'minutes': UNKNOWN if time is None else round(time / 60, 2),
    }


def check(
    stages: Iterable[Stage], budget: Budget, rates: Mapping[str, float], how: str = ''
) -> str:
    """Raise ValueError if the stages cost more than the budget; return what cannot be told yet.

    how: which settings make the campaign cheaper. Stages without a rate count as taking no time,
    and are named in what is returned ('' if there are none, or hours are not limited).
    """
    stages = list(stages)
    drawn = {stage.name: stage.images for stage in stages if stage.kind == 'draw'}
    less = f', or ask for less: {how}' if how else ''
    if 0 < budget.images < sum(drawn.values()):
        parts = ', '.join(f'{name} {count}' for name, count in drawn.items() if count)
        raise ValueError(
            f'budget.images ({budget.images}): {sum(drawn.values())} images would be drawn '
            f'({parts}). Raise it{less}'
        )
    times = {stage.name: seconds(stage, rates) for stage in stages}
    hours = sum(filter(None, times.values())) / 3600
    if 0 < budget.hours < hours:
        raise ValueError(
            f'budget.hours ({budget.hours:g}): by the rates measured here it would take '
            f'{hours:.3g} hours. Raise it{less}'
        )
    unknown = [name for name, time in times.items() if time is None]
    if not unknown or not budget.hours:
        return ''
    return f'budget.hours ({budget.hours:g}): the time of {", ".join(unknown)} is {UNKNOWN}'
