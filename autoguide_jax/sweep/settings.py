"""What a sweep or a search goes over, how each setting is scored, and what it may cost."""

from dataclasses import dataclass, field

from autoguide_jax import budget, config
from autoguide_jax.generation import check_stack
from autoguide_jax.metrics import minimised
from autoguide_jax.pairs import Pair
from autoguide_jax.seeds import check_classes


@dataclass(frozen=True)
class Axes:
    """The grid: every combination of these lists; an empty list keeps the pair's own value.

    Settings:
      guide_run: runs of the guide
      guide_nimg: snapshots of the guide, images seen
      main_std: EMA lengths of the main network
      guide_std: EMA lengths of the guide
      uncond_std: EMA lengths of the unconditional network
      num_steps: steps of the sampler
      interval_lo: lower ends of the guidance interval, exclusive
      interval_hi: upper ends of the guidance interval, inclusive
      alpha: shares of the guide in w − 1
      weight: guidance weights
    """

    guide_run: tuple[str, ...] = ()
    guide_nimg: tuple[int, ...] = ()
    main_std: tuple[float, ...] = ()
    guide_std: tuple[float, ...] = ()
    uncond_std: tuple[float, ...] = ()
    num_steps: tuple[int, ...] = ()
    interval_lo: tuple[float, ...] = ()
    interval_hi: tuple[float, ...] = ()
    alpha: tuple[float, ...] = ()
    weight: tuple[float, ...] = ()


@dataclass(frozen=True)
class ScoreSettings:
    """How each setting is scored.

    Settings:
      images: samples per setting and set of seeds
      repeats: sets of seeds, each scored on its own: mean and standard deviation (NAME_sd); with
        one set the standard error over draws of its samples (NAME_se), where there is one. A search
        scores on the first set alone, and its best settings again on as many fresh sets
      confirm: settings of a search that are scored again on fresh seeds, the best ones
      first_seed: seed of the first sample; the others follow
      classes: labels of the samples: random, or balanced (seed mod number of classes)
      examples: images of each setting that are kept, those of the first seeds
      batch_size: images per call of the sampler
      stack: networks of equal architecture in one call: auto (measured), on, off
      metrics: metrics to compute; the table is sorted by the first, a distance
      allow_fewer: score fewer images than a metric asks for; rows and table say so
      shared: several machines or slices work on this workdir at once; always so in a bucket, and
        with several processes
    """

    images: int = 1000
    repeats: int = 1
    confirm: int = 3
    first_seed: int = 0
    classes: str = 'random'
    examples: int = 0
    batch_size: int = 250
    stack: str = 'auto'
    metrics: tuple[str, ...] = ('frechet', 'precision', 'recall', 'density', 'coverage')
    allow_fewer: bool = False
    shared: bool = False

    def __post_init__(self):
        if self.images < 2 or self.batch_size < 1:
            raise ValueError(
                f'images ({self.images}) must be at least 2, batch_size ({self.batch_size}) at '
                'least 1'
            )
        if self.repeats < 1 or not 0 <= self.examples <= self.images:
            raise ValueError(
                f'repeats ({self.repeats}) must be at least 1, examples ({self.examples}) in '
                f'0…{self.images}, the images per setting'
            )
        if self.confirm < 0:
            raise ValueError(f'confirm ({self.confirm}) must be at least 0')
        check_classes(self.classes)
        check_stack(self.stack)
        minimised(self.metrics)

    def block(self, number, images=None):
        """The arguments of Scorer.score that tell set `number` of seeds from the others."""
        return {
            'first_seed': self.first_seed + number * self.images,
            'count': images or self.images,
        }


@dataclass(frozen=True)
class Budget(budget.Budget):
    """What the campaign may cost at most; more is refused before it starts.

    Settings:
      images: samples to draw; 0 = any number
      hours: time that it takes by the rate measured on this machine; 0 = any
      plan_only: print the cost plan and stop; no row is written, but where no rate is known and
        there is much to draw, a few batches measure one
    """

    plan_only: bool = False


@dataclass(frozen=True)
class Setting(Pair):
    """One point of a grid: networks, guidance and sampler.

    Settings:
      guidance: weight and noise levels where the grid has no list
      sampler: the sampler
    """

    sampler: config.Part = config.part('autoguide_jax.samplers:table', name='heun')


@dataclass(frozen=True)
class Settings(Setting):
    """A sweep.

    Settings:
      sweep: the grid
      declared: what the functions sweep() and sweep_NAME() of the config file yield, by name: each
        variant is 'setting=value …', with settings of main, guide, uncond, guidance and sampler
      cross: which of these are crossed with the grid and with each other; empty = sweep, or all
        where it is not there
      search: which points are scored, and on how many images: grid = all, on all; the verb search
        scores the best again
      score: samples and metrics of each setting
      budget: what it may cost
      data: the real images to compare with
      features: the network whose features are compared
    """

    sweep: Axes = field(default_factory=Axes)
    declared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    cross: tuple[str, ...] = ()
    search: config.Part = config.part('autoguide_jax.search:table', name='grid')
    score: ScoreSettings = field(default_factory=ScoreSettings)
    budget: Budget = field(default_factory=Budget)
    data: config.Part = config.part('autoguide_jax.data:table', name='digits')
    features: config.Part = config.part('autoguide_jax.metrics.features:table', name='classifier')

    def __post_init__(self):
        super().__post_init__()
        for name in self.cross:
            if name not in self.declared:
                known = ', '.join(self.declared) or 'none: the config file has no sweep()'
                raise ValueError(f'cross ({name}) is not declared by the config file; {known}')
        if 0 < self.budget.images < self.score.images:
            raise ValueError(
                f'budget.images ({self.budget.images}) is less than score.images '
                f'({self.score.images}), one setting; raise the one or lower the other'
            )


@dataclass(frozen=True)
class SearchSettings(Settings):
    """A search: a sweep that scores the best of its points again on fresh seeds."""

    search: config.Part = config.part('autoguide_jax.search:table', name='halving')
