"""How fast images are read, beside what the training step needs.

They are read as training reads them: in its order, this process's part of every batch, by threads,
ahead of time. Every figure has images of its own if the set has that many, so that no cache of this
program helps; the system's cache of files may. Then a short real training tells how long its steps
wait.
"""

import time
from dataclasses import dataclass, field

import jax
import numpy as np

from autoguide_jax import config, mesh, processes, stop
from autoguide_jax.bench.speed import row
from autoguide_jax.data.loader import batches
from autoguide_jax.progress import Progress
from autoguide_jax.run_settings import Settings as TrainSettings
from autoguide_jax.run_settings import resolve
from autoguide_jax.trainer import Trainer


@dataclass(frozen=True)
class Settings:
    """A measurement of reading.

    Settings:
      kind: input
      run: the training run whose images are read: data, batch, threads and network
      threads: numbers of threads that are tried
      batches: batches read for each figure
      steps: steps of the short training; 0 = none, and no network is built
    """

    kind: str = 'input'
    run: TrainSettings = field(default_factory=TrainSettings)
    threads: tuple[int, ...] = (0, 1, 2, 4, 8)
    batches: int = 48
    steps: int = 100
    program = 'autoguide_jax.bench.input:main'

    def __post_init__(self):
        # What is under way at the start and the end must not decide the figure.
        least = 2 * (self.run.read.ahead + 1)
        if self.batches < least or self.steps < 0:
            raise ValueError(
                f'batches ({self.batches}) must be ≥ {least}, which is 2·(run.read.ahead + 1), and '
                f'steps ({self.steps}) ≥ 0'
            )
        if self.run.seeds:
            raise ValueError(f'run.seeds ({self.run.seeds}): give one run.seed instead')


def main(settings, workdir=None):
    """Measure; returns the rows of the table, for the part of this process."""
    run, rows = settings.run, []
    devices = run.mesh.make(run.train.batch_size)
    figures = len(settings.threads) + bool(settings.steps)
    with stop.watch(), Progress(figures, 'figures', 'bench') as bar:
        for i, threads in enumerate(settings.threads):
            rows.append(bench_reading(settings, devices, threads, i))
            bar.update(1)
        if settings.steps:
            need, found = bench_steps(settings, devices)
            for measured in rows:
                measured['times_needed'] = round(measured['images_per_second'] / need, 2)
            rows += found
            bar.update(1)
    kind, count = jax.devices()[0].device_kind, processes.count()
    print(f'{jax.device_count()} × {kind}, part of process {jax.process_index()} of {count}')
    return rows


def stream(run, dataset, devices, nimg, threads):
    """This process's part of the batches from image number nimg on, as training reads them."""
    size, ahead = run.train.batch_size, run.read.ahead
    part = mesh.rows(devices, size)
    return batches(dataset, run.seed, nimg, size, part, workers=threads, prefetch=ahead)


def bench_reading(settings, devices, threads, place):
    """Images/s and MB/s of pixels with so many threads. place: 0, 1, … of the stretches read."""
    run, start = settings.run, time.perf_counter()
    dataset = config.build(run.data)
    opened = time.perf_counter() - start
    warm_up = run.read.ahead + 1
    stretch = settings.batches + 2 * warm_up
    with stream(run, dataset, devices, place * stretch * run.train.batch_size, threads) as part:
        for _ in range(warm_up):
            image = next(part)['image']
        start = time.perf_counter()
        for _ in range(settings.batches):
            stop.check('measuring')
            next(part)
        seconds = time.perf_counter() - start
    return {
        'what': f'reading, {threads} threads',
        'images_per_second': round(settings.batches * len(image) / seconds, 1),
        'mb_per_second': round(settings.batches * image.nbytes / 1e6 / seconds, 2),
        'open_seconds': round(opened, 2),
    }


def bench_steps(settings, devices):
    """Images/s that this process's part of the steps need, and rows of steps without and with it.

    Both loops do what training does in a step: they send it off and look at the one before.
    """
    run, dataset = settings.run, config.build(settings.run.data)
    tree = resolve(run, dataset)
    trainer = Trainer(run, tree, devices, getattr(dataset, 'score', None))
    step, state = stop.interruptible(trainer.compile), trainer.init()
    with stream(run, dataset, devices, 0, run.read.threads) as part:
        batch = next(part)
        once = trainer.put(batch['image'], batch['label'])
        state, alone = time_steps(step, state, lambda: (once, 0.0), settings.steps)

        def fresh():
            start = time.perf_counter()
            batch = next(part)
            waited = time.perf_counter() - start
            return trainer.put(batch['image'], batch['label']), waited

        state, fed = time_steps(step, state, fresh, settings.steps)
    images = len(batch['image'])
    rows = [
        step_row('step, the same images again', images, alone),
        step_row(f'step, reading by {run.read.threads} threads', images, fed),
    ]
    return images / float(np.median(alone['seconds'])), rows


def time_steps(step, state, feed, count):
    """(state, {'seconds', 'waited', 'early'} of each step); feed() → (arguments, seconds waited).

    early: whether the step before was still computed when this one's images were under way.
    """
    times, before = {'seconds': [], 'waited': [], 'early': []}, None
    for i in range(count + 1):
        stop.check('measuring')
        start = time.perf_counter()
        given, waited = feed()
        early = before is not None and not before['bad'].is_ready()
        state, metrics = step(state, *given)
        if before is not None:
            before['bad'].block_until_ready()
        before = metrics
        if i:  # the first one finds an idle device
            found = time.perf_counter() - start, waited, early
            for kept, value in zip(times.values(), found):
                kept.append(value)
    jax.block_until_ready(before)
    return state, times


def step_row(what, images, times):
    """One row: the median step, and what its images cost it."""
    total = sum(times['seconds'])
    return {
        **row(what, images, times['seconds']),
        'ms_per_step': round(1e3 * float(np.median(times['seconds'])), 2),
        'wait_ms_per_step': round(1e3 * sum(times['waited']) / len(times['waited']), 3),
        'wait_share': round(sum(times['waited']) / total, 4),
        'sent_early': round(float(np.mean(times['early'])), 2),
    }
