"""How fast images are scored: the detector alone, what is around it, and each metric at the end.

The detector alone works on images that are there already; scoring reads and decodes them, as
`evaluate` and `stats` do, and keeps what the detector tells. What the second takes longer than the
first is the time outside the detector.
"""

import time
from dataclasses import dataclass

import jax
import numpy as np

from autoguide_jax import config, metrics, stop
from autoguide_jax.bench.speed import row
from autoguide_jax.metrics import scoring
from autoguide_jax.metrics.features import AHEAD
from autoguide_jax.metrics.reading import Reader
from autoguide_jax.progress import Progress


@dataclass(frozen=True)
class Settings:
    """A measurement of scoring.

    Settings:
      kind: metrics
      data: the images that are read and scored
      features: the network that looks at them
      metrics: metrics whose time at the end is told, against the same images as reference
      images: how many are scored; those of the data set again if it has fewer
      repeats: measurements of the detector and of scoring; the table has the median and the fastest
      cache_dir: where a trained classifier is kept; empty = nowhere
    """

    kind: str = 'metrics'
    data: config.Part = config.part('autoguide_jax.data:table', name='digits')
    features: config.Part = config.part('autoguide_jax.metrics.features:table', name='classifier')
    metrics: tuple[str, ...] = ('frechet', 'precision', 'recall', 'density', 'coverage')
    images: int = 4096
    repeats: int = 3
    cache_dir: str = ''
    program = 'autoguide_jax.bench.metrics:main'

    def __post_init__(self):
        if self.images < 64 or self.repeats < 1:
            raise ValueError(
                f'images ({self.images}) must be ≥ 64 and repeats ({self.repeats}) ≥ 1'
            )
        for name in self.metrics:
            metrics.table.get(name)


def main(settings, workdir=None):
    """Measure; returns the rows of the table."""
    dataset = config.build(settings.data)
    folder = settings.cache_dir or None
    part = settings.features
    with stop.watch():
        extractor = metrics.open_extractor(part.name, dataset, folder, **part.settings)
        chosen = np.arange(settings.images) % dataset.num_images
        with Progress(2 * settings.repeats + 1, 'figures', 'bench') as bar:
            detector = repeat(settings, bar, lambda: detect(extractor, dataset, chosen))
            scored = repeat(settings, bar, lambda: look(extractor, dataset, chosen))
            start = time.perf_counter()
            for _ in Reader(dataset).read(chosen):
                stop.check('measuring')
            reading = time.perf_counter() - start
            bar.update(1)
        outside = 1 - float(np.median(detector)) / float(np.median(scored))
        rows = [
            row('reading alone', len(chosen), [reading]),
            row(f'detector alone ({extractor.noun})', len(chosen), detector),
            row('scoring', len(chosen), scored, outside_share=round(max(0.0, outside), 4)),
        ]
        rows += finish(settings, extractor, dataset, chosen)
    shape = '×'.join(map(str, dataset.images(chosen[:1]).shape[1:]))
    print(f'{jax.local_device_count()} × {jax.devices()[0].device_kind}, images {shape}')
    return rows


def repeat(settings, bar, measure):
    """The seconds of several measurements, after one that finds everything cold."""
    seconds = []
    for i in range(settings.repeats + 1):
        stop.check('measuring')
        found = measure()
        if i:
            seconds.append(found)
            bar.update(1)
    return seconds


def detect(extractor, dataset, rows):
    """Seconds that the devices need for as many images, without reading them."""
    block = extractor.block
    images = dataset.images(np.resize(rows, block))
    work = [min(block, len(rows) - i) for i in range(0, len(rows), block)]
    start = time.perf_counter()
    waiting = []
    for count in work:
        stop.check('measuring')
        waiting.append(extractor.send(images[:count]))
        if len(waiting) > AHEAD:
            extractor.fetch(waiting.pop(0))
    for sent in waiting:
        extractor.fetch(sent)
    return time.perf_counter() - start


def look(extractor, dataset, rows):
    """Seconds of reading the images and keeping what the detector tells of them."""
    frechet = metrics.table.get('frechet')(extractor)
    start = time.perf_counter()
    scoring.banks([frechet], Reader(dataset).read(rows))
    return time.perf_counter() - start


def finish(settings, extractor, dataset, rows):
    """One row per metric: its seconds once the features are there."""
    count = min(len(rows), dataset.num_images)
    reference = metrics.open_reference(dataset, extractor, count=max(2, count))
    chosen = [metrics.table.get(name)(extractor) for name in settings.metrics]
    scoring.check(chosen, {extractor: reference})
    bank = scoring.banks(chosen, Reader(dataset).read(rows))[extractor]
    found = []
    for metric in chosen:
        start = time.perf_counter()
        stop.interruptible(lambda m=metric: m.estimate(bank, reference), metric.name)
        seconds = time.perf_counter() - start
        found.append(row(f'{metric.name}, at the end', len(rows), [seconds]))
    return found
