"""How fast: training, sampling, guided sampling beside its FLOPs, and compilation.

Weights are fresh and images random: speed does not depend on either. Every figure is the median of
`repeats` timings after one warm-up, with the fastest beside it.
"""

import time
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax import config, mesh, stop
from autoguide_jax.generation import Call, Programs, calls_per_image, flops
from autoguide_jax.guidance import Guidance
from autoguide_jax.mixture import mixture
from autoguide_jax.progress import Progress
from autoguide_jax.run_settings import Settings as TrainSettings
from autoguide_jax.trainer import Trainer

# Training steps in one timing: as in training, a step is sent off while the last one runs.
STEPS = 8


@dataclass(frozen=True)
class ImageSettings:
    """What the networks are built for.

    Settings:
      resolution: height and width
      channels: image channels
      label_dim: classes

    Networks on points (latents.name=points) use none of them.
    """

    resolution: int = 16
    channels: int = 3
    label_dim: int = 10


@dataclass(frozen=True)
class Settings:
    """A benchmark.

    Settings:
      kind: speed
      main: the main network, as a training run
      guide: the guide, as a training run
      image: what the networks are built for
      sampler: the sampler
      batch_size: images per call of the sampler
      weight: guidance weight of the guided rows
      repeats: timings of each figure
      stack: whether main network and guide of equal architecture are stacked: auto, on, off
    """

    kind: str = 'speed'
    main: TrainSettings = field(default_factory=TrainSettings)
    guide: TrainSettings = field(default_factory=TrainSettings)
    image: ImageSettings = field(default_factory=ImageSettings)
    sampler: config.Part = config.part('autoguide_jax.samplers:table', name='heun')
    batch_size: int = 64
    weight: float = 2.0
    repeats: int = 5
    stack: str = 'auto'
    program = 'autoguide_jax.bench.speed:main'

    def __post_init__(self):
        if self.repeats < 1 or self.batch_size < 1:
            raise ValueError(
                f'repeats ({self.repeats}), batch_size ({self.batch_size}) must be ≥ 1'
            )


@dataclass(frozen=True)
class Fresh:
    """A network with untrained weights, as the sampler wants it."""

    denoiser: object
    variables: dict
    config: dict
    run: str = 'fresh'


def run_config(settings, image):
    """The config.json that a run with these settings and images would have."""
    tree = config.resolved(settings)
    if settings.latents.name == 'pixels':
        tree['network'] = {**tree['network'], **vars(image)}
    return tree


def fresh(settings, image):
    """(Trainer, state, Network) of a run at its start."""
    tree = run_config(settings, image)
    score = getattr(config.build(settings.data), 'score', None)
    trainer = Trainer(settings, tree, settings.mesh.make(settings.train.batch_size), score)
    state = trainer.init()
    variables = {'params': state['params'], 'buffers': state['buffers']}
    return trainer, state, Fresh(trainer.denoiser, jax.device_get(variables), tree)


def repeat(fn, times):
    """Seconds of each of `times` calls, after one that does not count."""
    fn()
    seconds = []
    for _ in range(times):
        stop.check('measuring')
        start = time.perf_counter()
        fn()
        seconds.append(time.perf_counter() - start)
    return seconds


def row(what, images, seconds, **rest):
    """One row of the table: images/s of the median and of the fastest repeat."""
    return {
        'what': what,
        'images_per_second': round(images / float(np.median(seconds)), 1),
        'fastest': round(images / min(seconds), 1),
        'ms_per_image': round(1e3 * float(np.median(seconds)) / images, 3),
        'repeats': len(seconds),
        **rest,
    }


def bench_training(settings, image, repeats):
    """Training images/s and compile time of one run."""
    trainer, state, _ = fresh(settings, image)
    start = time.perf_counter()
    step = stop.interruptible(trainer.compile)
    compile_seconds = time.perf_counter() - start
    n = settings.train.batch_size
    images = np.random.default_rng(0).integers(0, 256, trainer.batch_shape, np.uint8)
    if trainer.latents.dtype != np.uint8:
        images = (images / 255).astype(trainer.latents.dtype)
    labels = np.arange(n, dtype=np.int32) % max(image.label_dim, 1)
    rows = mesh.rows(trainer.devices, settings.train.batch_size)
    batch = trainer.put(images[rows], labels[rows])
    held = [state]

    def steps():
        for _ in range(STEPS):
            held[0], metrics = step(held[0], *batch)
        jax.block_until_ready(metrics)

    seconds = repeat(steps, repeats)
    found = row('training', n * STEPS, seconds, compile_seconds=round(compile_seconds, 1))
    return {**found, 'ms_per_step': round(1e3 * float(np.median(seconds)) / STEPS, 2)}


def bench_score(settings):
    """The exact score of one batch, by 2×2 matrices of every pair and by mixture.py."""
    found = mixture(config.build(settings.main.data).classes)
    n = settings.main.train.batch_size
    x = found.sample(jax.random.key(0), n, 0.1)
    sigma = jnp.full(n, 0.1)
    rows = []
    for what, score in (
        ('by 2×2 matrices', matrix_score(found)),
        ('by rows of Gaussians', found.score),
    ):
        score = jax.jit(score)
        seconds = repeat(lambda score=score: score(x, sigma).block_until_ready(), settings.repeats)
        found_row = row(f'exact score, {what}', n, seconds)
        rows.append({**found_row, 'ms_per_step': round(1e3 * float(np.median(seconds)), 2)})
    return rows


def matrix_score(source):
    """The score with a covariance matrix for every pair of point and Gaussian: what is compared."""
    parts = {name: jnp.asarray(a, jnp.float32) for name, a in source.components.items()}

    def score(x, sigma):
        covariance = parts['Sigma'] + jnp.square(sigma)[:, None, None, None] * jnp.eye(2)
        away = parts['mu'] - x[:, None]
        (a, b), (c, d) = (covariance[..., i, :].transpose(2, 0, 1) for i in (0, 1))
        det = a * d - b * c
        inverse = jnp.stack([jnp.stack([d, -b], -1), jnp.stack([-c, a], -1)], -2)
        pull = jnp.einsum('nkij,nkj->nki', inverse / det[..., None, None], away)
        log = jnp.log(parts['phi']) - 0.5 * (jnp.sum(away * pull, -1) + jnp.log(det))
        return jnp.einsum('nk,nki->ni', jax.nn.softmax(log), pull)

    return score


def bench_sampling(settings, networks, weight):
    """Sampling images/s, alone or with a guide."""
    programs = Programs(config.build(settings.sampler), settings.batch_size, settings.stack)
    calls = [Call(network) for network in networks]
    rules = [Guidance(weight) for _ in networks[1:]]
    n = settings.batch_size
    seeds, labels = np.arange(n), np.arange(n) % max(settings.image.label_dim, 1)
    draw = lambda: jax.block_until_ready(programs.draw(calls, rules, seeds, labels))
    draw()
    nfe = calls_per_image(programs.sampler, rules)
    what = 'sampling' if not rules else f'sampling, guided (w={weight:g})'
    found = row(what, n, repeat(draw, settings.repeats), compile_seconds=round(programs.seconds, 1))
    stacked = next(iter(programs.stacked.values()), None)
    return {**found, 'nfe': f'{nfe["main"]} + {sum(nfe["guides"])}'}, stacked


def main(settings, workdir=None):
    """Measure; returns the rows of the table. Nothing is read from the cache of programs."""
    jax.config.update('jax_enable_compilation_cache', False)
    exact = settings.main.data.name == 'toy'
    with stop.watch(), Progress(5 + exact, 'figures', 'bench') as bar:
        rows = []

        def add(*found):
            rows.extend(found)
            bar.update(1)

        if exact:
            add(*bench_score(settings))
        for name in ('main', 'guide'):
            run = getattr(settings, name)
            found = bench_training(run, settings.image, settings.repeats)
            add({**found, 'what': f'training, {name}'})
        networks = [fresh(run, settings.image)[2] for run in (settings.main, settings.guide)]
        alone, _ = bench_sampling(settings, networks[:1], 1.0)
        add(alone)
        guided, _ = bench_sampling(settings, networks, settings.weight)
        costs = [flops(network) for network in networks]
        guided['time_ratio'] = round(guided['ms_per_image'] / alone['ms_per_image'], 3)
        guided['flop_ratio'] = round(sum(costs) / costs[0], 3)
        add(guided)
        twins, stacked = bench_sampling(settings, [networks[0]] * 2, settings.weight)
        twins['what'] += ', guide as large as main'
        twins['time_ratio'] = round(twins['ms_per_image'] / alone['ms_per_image'], 3)
        twins['flop_ratio'] = 2.0
        if stacked:
            twins['stacked_over_separate'] = round(stacked[True] / stacked[False], 3)
        add(twins)
    device = jax.devices()[0]
    print(f'{jax.device_count()} × {device.device_kind}, jax {jax.__version__}')
    return rows
