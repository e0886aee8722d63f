"""What the study of the 2-D example trains, draws and measures."""

import dataclasses
from dataclasses import dataclass, field

from autoguide_jax import config
from autoguide_jax.autoencoder import check_unused
from autoguide_jax.mixture import mixture
from autoguide_jax.pairs import GuidanceSettings, Pair
from autoguide_jax.run_settings import Settings as TrainSettings
from autoguide_jax.study.order import ordered

ANALYTIC = ('exact', 'flat')  # networks without weights: the true score, and score 0
MOST_POINTS = 2**20


@dataclass(frozen=True)
class ArmSettings(Pair):
    """One way to sample: networks by the names of their runs, or 'exact' (truth), 'flat' (score 0).

    Settings:
      main: the main network D_m
      guide: a worse version of it with the same task (autoguidance)
      uncond: a network of a wider task (CFG)
      guidance: weight and noise levels
      title: name in tables and figures
      description: one sentence for the reader
    """

    title: str = ''
    description: str = ''

    def __post_init__(self):
        super().__post_init__()
        if self.models:
            raise ValueError(f'models ({self.models}) must be empty: the study trains its networks')
        check_unused(self, 'the study draws points')


@dataclass(frozen=True)
class DegradationSettings:
    """Sec. 4 of the paper: corrupted networks as main and guide, and controls.

    Settings:
      pairs: main and guide; where main is corrupted too, the aim is the network as it was
      weights: guidance weights that are tried
      points: samples per setting
    """

    pairs: dict[str, ArmSettings] = field(default_factory=dict)
    weights: tuple[float, ...] = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
    points: int = 2**11


@dataclass(frozen=True)
class GuidesSettings:
    """Which guide works, and why: every run × age × EMA length as a guide of `main`.

    Settings:
      main: run of the main network
      main_std: EMA length of the main network
      runs: runs whose snapshots are tried; the main run too is one, guided by its own past
      nimg: ages, images seen
      stds: EMA lengths of the guide
      weights: guidance weights that are tried
      interval: noise levels (lo, hi] at which the guide acts
      points: samples per setting
    """

    main: str = 'main'
    main_std: float = 0.01
    runs: tuple[str, ...] = ()
    nimg: tuple[int, ...] = ()
    stds: tuple[float, ...] = (0.01, 0.15)
    weights: tuple[float, ...] = (1.25, 1.5, 2.0, 3.0)
    interval: tuple[float, ...] = (0.0, float('inf'))
    points: int = 2**13


@dataclass(frozen=True)
class TradeOffSettings:
    """Outliers against branch KL: families of settings that differ in weight and interval.

    Settings:
      families: networks of each; weight and interval are replaced
      weights: guidance weights
      intervals: noise levels (lo, hi], given as lo, hi, lo, hi, …
      points: samples per setting
    """

    families: dict[str, ArmSettings] = field(default_factory=dict)
    weights: tuple[float, ...] = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
    intervals: tuple[float, ...] = (0.0, float('inf'))
    points: int = 2**14

    def __post_init__(self):
        if len(self.intervals) % 2:
            raise ValueError(f'intervals ({self.intervals}) must be pairs: lo, hi, lo, hi, …')

    def pairs(self):
        """The intervals as pairs (lo, hi)."""
        return list(zip(self.intervals[::2], self.intervals[1::2]))


@dataclass(frozen=True)
class PictureSettings:
    """What the figures show.

    Settings:
      seed: training seed of the networks; must be one of `seeds`
      arms: sample clouds, from left to right
      unguided: the arm of the main network alone, in the close-up
      guided: the arm whose guide and trajectories the close-up shows
      window: x0, x1, y0, y1 of the close-up
      sigma: noise level of its densities and arrows
      trajectories: sample paths drawn
    """

    seed: int = 0
    arms: tuple[str, ...] = ()
    unguided: str = 'none'
    guided: str = 'autoguidance_4'
    window: tuple[float, ...] = (0.55, 1.25, 0.55, 1.25)
    sigma: float = 0.03
    trajectories: int = 60


@dataclass(frozen=True)
class Settings:
    """A study of the 2-D example.

    Settings:
      kind: toy
      title: heading of the report
      runs: the trainings, by name, each with all seeds side by side in WORKDIR/runs/NAME/seed-N;
        a run's own seed is added to them
      arms: the ways to sample, by name
      order: names of the arms in the order of the report; empty = alphabetical
      seeds: training seeds
      classes: the mixture that samples are scored against: A, B or AB
      points: samples per arm and seed
      sampler: the sampler
      batch_size: points per call of the sampler
      degradation: corrupted networks as main and guide
      guides: which guide works
      trade_off: outliers against branch KL
      pictures: what the figures show
    """

    title: str
    runs: dict[str, TrainSettings]
    arms: dict[str, ArmSettings]
    kind: str = 'toy'
    order: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    classes: str = 'A'
    points: int = 2**16
    sampler: config.Part = config.part('autoguide_jax.samplers:table', name='heun', sigma_max=5.0)
    batch_size: int = 2**13
    degradation: DegradationSettings = field(default_factory=DegradationSettings)
    guides: GuidesSettings = field(default_factory=GuidesSettings)
    trade_off: TradeOffSettings = field(default_factory=TradeOffSettings)
    pictures: PictureSettings = field(default_factory=PictureSettings)

    program = 'autoguide_jax.study.toy.campaign:main'

    def __post_init__(self):
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f'seeds ({self.seeds}) must name at least one training seed, each once'
            )
        mixture(self.classes)
        object.__setattr__(self, 'arms', ordered(self.arms, self.order))
        for where, arm in self.all_arms():
            for role in ('main', 'guide', 'uncond'):
                self.check_ref(f'{where}.{role}', getattr(arm, role), role == 'main')
        for run in (self.guides.main, *self.guides.runs):
            if self.guides.runs and run not in self.runs:
                raise ValueError(f'guides.runs ({run}) is not a run; known: {", ".join(self.runs)}')
        for name in ('points', 'degradation.points', 'guides.points', 'trade_off.points'):
            room, _, last = name.rpartition('.')
            count = getattr(getattr(self, room) if room else self, last)
            if not 2 <= count <= MOST_POINTS:
                raise ValueError(f'{name} ({count}) must be in 2…{MOST_POINTS}')
        for name, run in self.runs.items():
            if name in ANALYTIC or run.seeds:
                raise ValueError(
                    f'runs.{name}: the names {", ".join(ANALYTIC)} are taken, and seeds '
                    f'({run.seeds}) are those of the study'
                )
        if self.batch_size < 1:
            raise ValueError(f'batch_size ({self.batch_size}) must be at least 1')
        self.check_guides()
        self.check_pictures()

    def check_guides(self):
        """Refuse weights, intervals and moments that the later parts could not use."""
        guides = self.guides
        GuidanceSettings(2.0, guides.interval)
        for run in guides.runs:
            kept = self.runs[run].train.snapshots()
            wanted = [nimg for nimg in guides.nimg if nimg <= kept[-1]]
            if strange := set(wanted) - set(kept):
                raise ValueError(
                    f'guides.nimg ({min(strange)}): run {run} keeps snapshots at '
                    f'{", ".join(map(str, kept))}; add it to train.snapshot_at'
                )
        for interval in self.trade_off.pairs():
            GuidanceSettings(2.0, interval)
        for where, arm in self.all_arms():
            if not where.startswith('arms.') and not (arm.guide.run or arm.uncond.run):
                raise ValueError(f'{where} has neither guide nor uncond: give guide.run')
            for role in ('main', 'guide', 'uncond'):
                ref = getattr(arm, role)
                if ref.degrade and ref.run in ANALYTIC:
                    raise ValueError(f'{where}.{role}.degrade: {ref.run} has no weights to harm')

    def all_arms(self):
        """(dotted setting, arm) of everything that is sampled by name."""
        groups = {
            'arms': self.arms,
            'degradation.pairs': self.degradation.pairs,
            'trade_off.families': self.trade_off.families,
        }
        return [
            (f'{where}.{name}', arm) for where, arms in groups.items() for name, arm in arms.items()
        ]

    def check_ref(self, where, ref, needed):
        """Refuse a run that is none, and a moment of it that no snapshot will have."""
        known = (*self.runs, *ANALYTIC)
        if ref.run not in known and (ref.run or needed):
            raise ValueError(f'{where}.run ({ref.run}) is not a run; known: {", ".join(known)}')
        moments = self.runs[ref.run].train.snapshots() if ref.run in self.runs else []
        if ref.nimg and moments and ref.nimg not in moments:
            raise ValueError(
                f'{where}.nimg ({ref.nimg}): run {ref.run} keeps snapshots at '
                f'{", ".join(map(str, moments))}; add it to train.snapshot_at'
            )

    def check_pictures(self):
        """Refuse figures of what the study has not."""
        p = self.pictures
        if p.seed not in self.seeds:
            raise ValueError(f'pictures.seed ({p.seed}) is not one of seeds {self.seeds}')
        for arm in (*p.arms, p.unguided, p.guided):
            if arm not in self.arms:
                raise ValueError(f'pictures: {arm!r} is not an arm; known: {", ".join(self.arms)}')
        if self.arms[p.guided].guide.run not in self.runs:
            raise ValueError(f'pictures.guided ({p.guided}) must be an arm with a trained guide')
        x0, x1, y0, y1 = p.window if len(p.window) == 4 else (1, 0, 1, 0)
        if not (x0 < x1 and y0 < y1 and p.sigma > 0):
            raise ValueError(
                f'pictures.window ({p.window}) must be x0 < x1, y0 < y1, and pictures.sigma '
                f'({p.sigma}) above 0: a network is never evaluated at σ = 0'
            )

    def training(self, name):
        """The TrainSettings of a run with all seeds side by side."""
        run = self.runs[name]
        return dataclasses.replace(run, seeds=tuple(run.seed + seed for seed in self.seeds))
