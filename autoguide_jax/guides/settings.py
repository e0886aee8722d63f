"""What the guide finder compares, and on what."""

from dataclasses import dataclass

from autoguide_jax import config

EXACT = 'exact'


@dataclass(frozen=True)
class Settings:
    """A ranking of guides for one main network.

    Settings:
      main: run directory of the main network
      main_std: its EMA length
      main_nimg: its moment, images seen; 0 = its latest snapshot
      candidates: run directories of the guides, or patterns of them (runs/*); the main run too may
        be one: its past, and its longer EMAs
      nimg: moments of the candidates; empty = `snapshots` of them, all = every snapshot, or a list
      snapshots: how many moments of each run are tried: its last, the nearest to half of it, …
      std: EMA lengths of the candidates; empty = those that were tracked
      reference: run directory of a stronger network that stands for the truth: the largest, the
        longest trained; exact = the truth itself, of data that know their score
      reference_std: its EMA length
      reference_nimg: its moment; 0 = its latest snapshot
      data: held-out images; none = the data set of the main run
      held_out: settings that replace those of main's data set, as split=test
      images: images that are used, a random choice
      seed: seeds that choice and the noise
      batch_size: images per call
      sampler: the sampler; its steps are the noise levels
      levels: noise levels instead of those of the sampler
      cache_mib: keep outputs of main and reference in memory if they take at most this many MiB;
        otherwise they are computed for every candidate again
    """

    main: str = ''
    main_std: float = 0.10
    main_nimg: int = 0
    candidates: tuple[str, ...] = ()
    nimg: tuple[str, ...] = ()
    snapshots: int = 4
    std: tuple[float, ...] = ()
    reference: str = ''
    reference_std: float = 0.10
    reference_nimg: int = 0
    data: config.Part | None = config.part('autoguide_jax.data:table', name=None)
    held_out: tuple[str, ...] = ()
    images: int = 2048
    seed: int = 0
    batch_size: int = 256
    sampler: config.Part = config.part('autoguide_jax.samplers:table', name='heun')
    levels: tuple[float, ...] = ()
    cache_mib: int = 2048

    def __post_init__(self):
        for name, what in (
            ('main', 'the run of the main network'),
            ('reference', 'a stronger run'),
        ):
            if not getattr(self, name):
                raise ValueError(f'{name} is empty: give {what}, --{name}=RUN')
        if not self.candidates:
            raise ValueError('candidates is empty: give runs, --candidates=runs/guide,runs/early')
        if self.images < 2 or self.batch_size < 1 or self.snapshots < 1 or self.cache_mib < 0:
            raise ValueError(
                f'images ({self.images}) must be at least 2, batch_size ({self.batch_size}) and '
                f'snapshots ({self.snapshots}) at least 1, cache_mib ({self.cache_mib}) ≥ 0'
            )
        if not 0 <= self.seed < 2**20:
            raise ValueError(f'seed ({self.seed}) must be in 0…2**20-1')
        if any(not 0 < level < float('inf') for level in self.levels):
            raise ValueError(f'levels ({self.levels}) must be noise levels > 0')
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f'levels ({self.levels}) names a noise level twice')
        if self.data is not None and self.held_out:
            raise ValueError(
                f'held_out ({self.held_out}) changes the data of main, and data is given: put it '
                'there'
            )
        for item in self.held_out:
            if '=' not in item:
                raise ValueError(f'held_out ({item!r}) must be SETTING=VALUE, as split=test')
