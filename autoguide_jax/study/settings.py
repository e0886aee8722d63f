"""What is compared, and how: the settings of a study."""

from dataclasses import dataclass, field

from autoguide_jax import config
from autoguide_jax.autoencoder import check_dtype
from autoguide_jax.budget import Budget
from autoguide_jax.generation import check_stack
from autoguide_jax.metrics import minimised
from autoguide_jax.run_settings import Settings as TrainSettings
from autoguide_jax.seeds import check_classes
from autoguide_jax.study.order import ordered
from autoguide_jax.study.samplers import sampler_of
from autoguide_jax.study.tuning import SearchSettings


@dataclass(frozen=True)
class ArmSettings:
    """One method: which runs take part. What is searched follows from it.

    Settings:
      title: name in tables and figures
      description: one sentence for the reader
      main: run of the main network
      guide: run of the guide; empty = none
      guide_nimg: snapshot of the guide, images seen; 0 = its last
      uncond: run of the unconditional network; empty = none
      same_std: one EMA length for main network and guide
      search_interval: whether the ends of the guidance interval are searched too
    """

    title: str
    main: str
    description: str = ''
    guide: str = ''
    guide_nimg: int = 0
    uncond: str = ''
    same_std: bool = False
    search_interval: bool = False

    def __post_init__(self):
        if self.guide and self.uncond:
            raise ValueError(f'guide ({self.guide}) and uncond ({self.uncond}): give one of them')


@dataclass(frozen=True)
class FinalSettings:
    """The scores that count, on seeds that no search has seen.

    Settings:
      images: samples per repeat
      repeats: fresh sets of seeds, each scored on its own
      first_seed: seed of the first sample
    """

    images: int = 1000
    repeats: int = 3
    first_seed: int = 1_000_000

    def __post_init__(self):
        if self.repeats < 1 or self.images < 2:
            raise ValueError(f'repeats ({self.repeats}) ≥ 1 and images ({self.images}) ≥ 2')


@dataclass(frozen=True)
class ExtraSettings:
    """Scans around the chosen settings, for the figures.

    Settings:
      weights: guidance weights of the score-against-w curves; empty = none
      heatmap_arm: arm whose EMA_m × EMA_g map is drawn; empty = none
      heatmap_stds: EMA lengths of the map
      steps: numbers of sampler steps that the chosen settings are scored with too, on the final
        seeds: the distance at equal computation; empty = only those of the sampler
      steps_arms: arms that are; empty = all
      grid: images per arm in the sample grid
      slider: images per guided arm and weight of weights, same seeds and labels; 0 = none
    """

    weights: tuple[float, ...] = (1.0, 1.5, 2.0, 2.5, 3.0)
    heatmap_arm: str = ''
    heatmap_stds: tuple[float, ...] = (0.05, 0.10, 0.15, 0.20)
    steps: tuple[int, ...] = ()
    steps_arms: tuple[str, ...] = ()
    grid: int = 100
    slider: int = 36

    def __post_init__(self):
        for name in ('weights', 'steps', 'steps_arms'):
            if len(set(given := getattr(self, name))) < len(given):
                raise ValueError(f'{name} ({given}) names one twice')
        if self.grid < 0 or self.slider < 0:
            raise ValueError(f'grid ({self.grid}) and slider ({self.slider}) must be ≥ 0')
        if min(self.steps, default=1) < 1:
            raise ValueError(f'steps ({self.steps}) must be numbers of sampler steps, ≥ 1')


@dataclass(frozen=True)
class Settings:
    """A study.

    Settings:
      kind: comparison
      title: heading of the report
      runs: the trainings, by name; each in WORKDIR/runs/NAME
      arms: the methods that are compared, by name
      order: names of the arms in the order of the report; empty = alphabetical
      search: how the settings of each arm are found
      final: how the found settings are scored
      extra: scans for the figures
      budget: what the study may cost at most
      sampler: the sampler
      data: the real images to compare with, with their labels
      features: the network whose features are compared
      metrics: metrics to compute; the first, a distance, is minimised by the search
      allow_fewer: take final scores of fewer images than a metric asks for; rows, table and report
        say so, as they do of the search and the floor, which may have fewer without it
      classes: labels of the samples: random, or balanced (seed mod number of classes)
      batch_size: images per call of the sampler
      stack: networks of equal architecture in one call: auto (measured), on, off
      vae: weights of the autoencoder, .safetensors or .npz, where the runs learn latents
      vae_dtype: float32, or bfloat16 between the autoencoder's norms
    """

    title: str
    runs: dict[str, TrainSettings]
    arms: dict[str, ArmSettings]
    kind: str = 'comparison'
    order: tuple[str, ...] = ()
    search: SearchSettings = field(default_factory=SearchSettings)
    final: FinalSettings = field(default_factory=FinalSettings)
    extra: ExtraSettings = field(default_factory=ExtraSettings)
    budget: Budget = field(default_factory=Budget)
    sampler: config.Part = config.part('autoguide_jax.samplers:table', name='heun')
    data: config.Part = config.part('autoguide_jax.data:table', name='digits')
    features: config.Part = config.part('autoguide_jax.metrics.features:table', name='classifier')
    metrics: tuple[str, ...] = ('frechet', 'precision', 'recall')
    allow_fewer: bool = False
    classes: str = 'random'
    batch_size: int = 250
    stack: str = 'auto'
    vae: str = ''
    vae_dtype: str = 'float32'

    program = 'autoguide_jax.study.campaign:main'

    def __post_init__(self):
        object.__setattr__(self, 'arms', ordered(self.arms, self.order))
        for name, arm in self.arms.items():
            for role in ('main', 'guide', 'uncond'):
                run = getattr(arm, role)
                if run and run not in self.runs:
                    raise ValueError(
                        f'arms.{name}.{role} ({run}) is not a run; known: {", ".join(self.runs)}'
                    )
        self.search.check(self.arms)
        minimised(self.metrics)
        check_dtype('vae_dtype', self.vae_dtype)
        check_classes(self.classes)
        check_stack(self.stack)
        last = self.search.first_seed + self.search.images
        first, final_last = self.final.first_seed, self.final.first_seed
        final_last += self.final.images * self.final.repeats
        if self.search.first_seed < final_last and first < last:
            raise ValueError(
                f'final.first_seed ({first}): its seeds must not overlap the search seeds '
                f'{self.search.first_seed}–{last - 1}'
            )
        if self.extra.heatmap_arm and self.extra.heatmap_arm not in self.arms:
            raise ValueError(f'extra.heatmap_arm ({self.extra.heatmap_arm}) is not an arm')
        mapped = self.arms.get(self.extra.heatmap_arm)
        if mapped and not (mapped.guide or mapped.uncond):
            raise ValueError(
                f'extra.heatmap_arm ({self.extra.heatmap_arm}) has no guide, and a map is over the '
                'EMA lengths of two networks: name a guided arm, or leave it empty'
            )
        if unknown := set(self.extra.steps_arms) - set(self.arms):
            raise ValueError(f'extra.steps_arms: {unknown.pop()} is not an arm: {list(self.arms)}')
        for steps in self.extra.steps:
            sampler_of(self.sampler, steps)
