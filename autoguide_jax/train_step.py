"""One training step, and the settings that define a run.

Order (arXiv 2312.02696, appendix B): normalise stored weights → loss and gradient → Adam → every
EMA of the raw weights. Noise at step k is a function of (seed, k, place in the batch).
"""

import dataclasses
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import optax

from autoguide_jax import config, ema, mesh, registry, schema
from autoguide_jax.optim import Adam

SIGMA_BINS = (0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


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
      shards: fsdp: devices that share one copy; 0 = all
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
      data: the data set
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
    data: config.Part = config.part('autoguide_jax.data:table', name='digits')
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
    points, space = dataset.resolution is None, settings.latents.name
    if points != (space == 'points'):
        raise ValueError(
            f'latents.name ({space}): {dataset.name} holds {"points" if points else "images"}'
            f', which take latents.name={"points" if points else "pixels"}'
        )
    tree = config.resolved(settings)
    backbone = config.build(settings.network, **facts)
    known = {f.name for f in dataclasses.fields(backbone)}
    tree['network'].update({k: v for k, v in facts.items() if k in known})
    tree['dataset'] = dataset.describe()
    return tree


def make_step(settings, denoiser, loss, latents):
    """The training step: (state, images, labels int32 [n], seed uint32) → (state, metrics).

    images: what the data set gives, uint8 [n,h,w,c] or points float32 [n,d].
    state: params, buffers, opt (optax), ema (leading axis [n_std]) and step (int32, 0-based).
    metrics: scalars loss (per image), lr, grad_norm, bad (index of the first leaf with a non-finite
    gradient, −1 if none), bad_sigma; error_sum and count [bins]: weighted error by noise level.
    """
    loop = settings.train
    adam = settings.optim.build(loop.batch_size)
    edges = jnp.asarray(SIGMA_BINS, jnp.float32)

    def summed_loss(params, buffers, images, labels, keys):
        def denoise(x, sigma):
            variables = {'params': params, 'buffers': buffers}
            return denoiser.apply_with_logvar(variables, x, sigma, labels, keys['dropout'])

        each, error, sigma = loss(denoise, latents.encode(images), keys['noise'])
        return jnp.sum(each), (each, error, sigma)

    def step(state, images, labels, seed):
        params = denoiser.normalize_weights(state['params'])
        keys = sample_keys(seed, state['step'], images.shape[0])
        batch = images, labels, keys
        parts = loop.batch_size // (loop.microbatch_size or loop.batch_size)
        given = params, state['buffers']
        grads, (each, error, sigma) = gradient(summed_loss, given, batch, parts)
        grads = jax.tree.map(lambda g: g / images.shape[0], grads)
        bad = first_nonfinite(grads)
        if loop.nonfinite == 'zero':
            grads = jax.tree.map(lambda g: jnp.nan_to_num(g, nan=0, posinf=0, neginf=0), grads)
        updates, opt = adam.update(grads, state['opt'])
        params = optax.apply_updates(params, updates)
        averages = ema.update(state['ema'], params, ema.rates(state['step'], settings.ema.stds))
        new = {**state, 'params': params, 'opt': opt, 'ema': averages, 'step': state['step'] + 1}
        if loop.nonfinite == 'stop':
            new = jax.tree.map(lambda a, b: jnp.where(bad < 0, a, b), new, state)
        metrics = {
            'loss': jnp.mean(each),
            'lr': settings.optim.learning_rate(state['step'], loop.batch_size),
            'grad_norm': optax.tree.norm(grads),
            'bad': bad,
            'bad_sigma': sigma[jnp.argmax(jnp.where(jnp.isfinite(each), each, jnp.inf))],
            'error_sum': jnp.zeros(len(edges) + 1).at[jnp.digitize(sigma, edges)].add(error),
            'count': jnp.zeros(len(edges) + 1).at[jnp.digitize(sigma, edges)].add(1.0),
        }
        return new, metrics

    return step


def gradient(summed_loss, given, batch, parts):
    """(Σ gradient over the batch, auxiliary [n, …]) of summed_loss(*given, *batch).

    In `parts` microbatches that each hold every parts-th image, so that a batch that is split over
    devices stays where it is. given: (params, buffers); the gradient is that of params.
    """
    grad = jax.grad(summed_loss, has_aux=True)
    if parts == 1:
        return grad(*given, *batch)
    strided = lambda a: jnp.moveaxis(a.reshape(-1, parts, *a.shape[1:]), 1, 0)
    back = lambda a: jnp.moveaxis(a, 0, 1).reshape(-1, *a.shape[2:])

    def one(total, microbatch):
        grads, seen = grad(*given, *microbatch)
        return jax.tree.map(jnp.add, total, grads), seen

    zeros = jax.tree.map(jnp.zeros_like, given[0])
    grads, seen = jax.lax.scan(one, zeros, jax.tree.map(strided, batch))
    return grads, jax.tree.map(back, seen)


def sample_keys(seed, step, n):
    """One key per sample [n] for noise and for dropout: a function of (seed, step, place)."""
    at_step = jax.random.fold_in(jax.random.key(seed), step)
    keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(at_step, i)))(jnp.arange(n))
    return {'noise': keys[:, 0], 'dropout': keys[:, 1]}


def first_nonfinite(tree):
    """Index of the first leaf with a non-finite entry, −1 if there is none; int32."""
    bad = jnp.stack([~jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)])
    return jnp.where(jnp.any(bad), jnp.argmax(bad), -1).astype(jnp.int32)


def leaf_names(tree):
    """Names of the leaves in the order of `first_nonfinite`."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in paths]
