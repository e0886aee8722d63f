"""The settings that define a training run, and what its config.json holds."""

import dataclasses
from dataclasses import dataclass, field

from autoguide_jax import config, ema, latents, mesh, registry, schema
from autoguide_jax.optim import Adam


@dataclass(frozen=True)
class EMASettings:
    """Averages of the weights kept during training.

    Settings:
      stds: relative lengths of the power-function EMAs that are tracked
    """

    stds: tuple[float, ...] = (0.05, 0.10)

    def __post_init__(self):
        if not self.stds or len(set(self.stds)) < len(self.stds):
            raise ValueError(f'stds ({self.stds}) must hold at least one length, each once')
        for std in self.stds:
            ema.std_to_gamma(std)


@dataclass(frozen=True)
class LoopSettings:
    """The training loop; all lengths in images seen.

    Settings:
      total_nimg: length of the run
      batch_size: images per step, over all devices
      microbatch_size: images per gradient pass; 0 = batch_size. The step is the same, memory less
      snapshot_nimg: interval of the EMA snapshots that are kept for ever
      snapshot_at: further moments of such snapshots, as 1Mi,2Mi,4Mi for guides of those ages
      checkpoint_nimg: interval of the checkpoints to resume from (the newest two are kept)
      log_nimg: interval of the rows in metrics.jsonl
      nonfinite: what a non-finite gradient does: stop, or zero (the paper: such entries become 0)
    """

    total_nimg: int = 2**21
    batch_size: int = 128
    microbatch_size: int = 0
    snapshot_nimg: int = 2**17
    snapshot_at: tuple[int, ...] = ()
    checkpoint_nimg: int = 2**17
    log_nimg: int = 2**13
    nonfinite: str = 'stop'

    def snapshots(self):
        """The moments, images seen, at which snapshots are kept, in order."""
        regular = range(self.snapshot_nimg, self.total_nimg + 1, self.snapshot_nimg)
        at = (nimg for nimg in self.snapshot_at if nimg <= self.total_nimg)
        return sorted({*regular, *at, self.total_nimg})

    def __post_init__(self):
        if self.batch_size < 1 or self.total_nimg < self.batch_size:
            raise ValueError(
                f'total_nimg ({self.total_nimg}) must be at least batch_size ({self.batch_size})'
            )
        lengths = ('total_nimg', 'snapshot_nimg', 'checkpoint_nimg', 'log_nimg')
        given = [(name, getattr(self, name)) for name in lengths]
        for name, value in given + [('snapshot_at', value) for value in self.snapshot_at]:
            if value < 1 or value % self.batch_size:
                nearest = max(1, round(value / self.batch_size)) * self.batch_size
                raise ValueError(
                    f'{name} ({value}) must be a multiple of batch_size ({self.batch_size}); '
                    f'nearest: {nearest}'
                )
        if self.microbatch_size and self.batch_size % self.microbatch_size:
            raise ValueError(
                f'microbatch_size ({self.microbatch_size}) must divide batch_size '
                f'({self.batch_size})'
            )
        if self.nonfinite not in ('stop', 'zero'):
            raise ValueError(f"nonfinite ({self.nonfinite!r}) must be 'stop' or 'zero'")


@dataclass(frozen=True)
class ReadSettings:
    """Reading of images; `bench --config=configs/bench.py:input` tells what is enough.

    Settings:
      threads: threads that read and decode, on every host; 0 = none, the loop reads by itself
      ahead: batches that are read before they are needed
    """

    threads: int = 4
    ahead: int = 4

    def __post_init__(self):
        if self.threads < 0 or self.ahead < 1:
            raise ValueError(f'threads ({self.threads}) must be ≥ 0 and ahead ({self.ahead}) ≥ 1')


@dataclass(frozen=True)
class MeshSettings:
    """Devices.

    Settings:
      params: where parameters, optimiser state and EMAs are: replicate (every device holds them
        whole), or fsdp (split over the devices of a copy)
      shards: fsdp: devices that share one copy; 0 = all of one slice
    """

    params: str = 'replicate'
    shards: int = 0

    def __post_init__(self):
        if self.params not in ('replicate', 'fsdp'):
            raise ValueError(f"params ({self.params!r}) must be 'replicate' or 'fsdp'")
        if self.shards < 0 or (self.shards and self.params == 'replicate'):
            raise ValueError(f'shards ({self.shards}) must be ≥ 0, and needs params=fsdp')

    def make(self, batch_size):
        """The device mesh for batches of batch_size images."""
        shards = self.shards if self.params == 'fsdp' else 1
        return mesh.make(batch_size, shards=shards)


@dataclass(frozen=True)
class Settings:
    """Everything that makes a training run.

    Settings:
      seed: seeds initial weights, noise and the order of the images
      seeds: train one network for each of these seeds instead, side by side in one program; each
        is a run directory WORKDIR/seed-N. Empty = one network, of `seed`, in WORKDIR
      data: the data set; none: only `plan` can use these settings
      latents: how images become model space
      network: the backbone
      denoiser: what is around the backbone: preconditioning, or the gradient of a log density
      loss: the training loss
      optim: the optimiser
      ema: averages of the weights
      train: the loop
      mesh: devices
      read: how images are read; of no influence on the result
    """

    seed: int = 0
    seeds: tuple[int, ...] = ()
    data: config.Part | None = config.part('autoguide_jax.data:table', name='digits')
    latents: config.Part = config.part('autoguide_jax.latents:table', name='pixels')
    network: config.Part = config.part('autoguide_jax.backbones:table', name='edm2_unet')
    denoiser: config.Part = config.part('autoguide_jax.denoiser:table', name='edm')
    loss: config.Part = config.part('autoguide_jax.loss:table', name='edm2')
    optim: Adam = field(default_factory=Adam)
    ema: EMASettings = field(default_factory=EMASettings)
    train: LoopSettings = field(default_factory=LoopSettings)
    mesh: MeshSettings = field(default_factory=MeshSettings)
    read: ReadSettings = field(default_factory=ReadSettings)

    def __post_init__(self):
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f'seeds ({self.seeds}) names a seed twice')
        for name, seed in [('seed', self.seed), *(('seeds', seed) for seed in self.seeds)]:
            if not 0 <= seed < 2**32:
                raise ValueError(f'{name} ({seed}) must be in 0…2**32-1')
        if self.loss.room:  # parsed, not the default of a class
            denoiser = config.complete(self.denoiser)
            sigma_data = denoiser.settings['sigma_data']
            loss = config.complete(self.loss, sigma_data=sigma_data)
            network = config.complete(self.network, sigma_data=sigma_data)
            for name, part in (('denoiser', denoiser), ('loss', loss), ('network', network)):
                object.__setattr__(self, name, part)


def open_data(settings):
    """The data set of a run. Errors: ValueError where the settings name none."""
    if settings.data is None:
        raise ValueError(
            'data (none): these settings name no data set, so there is nothing to train on. '
            'Give a data set that fits the network as --config.data.name=…, or ask `plan`, which '
            'needs none. Latents of a VAE, as of ImageNet-512, are made by `encode`'
        )
    return config.build(settings.data)


def resolve(settings, dataset):
    """The run's config.json: all settings with what the data set decides filled in."""
    facts = {
        'resolution': dataset.resolution,
        'channels': dataset.channels,
        'label_dim': dataset.num_classes,
    }
    facts = {name: fact for name, fact in facts.items() if fact is not None}
    loss = schema.component_fields(registry.resolve(settings.loss.room).get(settings.loss.name))
    if 'score' in loss and not hasattr(dataset, 'score'):
        raise ValueError(
            f'loss.name ({settings.loss.name}) needs a data set that knows its score, such as '
            f'data.name=toy; {dataset.name} does not'
        )
    holds = getattr(dataset, 'holds', 'images')
    if latents.table.get(settings.latents.name).holds != holds:
        fits = [name for name in latents.table.names() if latents.table.get(name).holds == holds]
        raise ValueError(
            f'latents.name ({settings.latents.name}): {dataset.name} holds {holds}, which take '
            f'latents.name={fits[0]}'
        )
    tree = config.resolved(settings)
    backbone = config.build(settings.network, **facts)
    known = {f.name for f in dataclasses.fields(backbone)}
    tree['network'].update({k: v for k, v in facts.items() if k in known})
    tree['dataset'] = dataset.describe()
    return tree
