"""Score images against real ones: a sample set, or any folder, zip or npz of images.

    python -m autoguide_jax evaluate --config.samples=out/a --workdir=out/a

A row of workdir/results.jsonl is keyed by a hash of the images, the reference, the feature network
and the metrics; a row that is there is returned, not made again.
"""

import contextlib
import functools
import math
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from autoguide_jax import config, files, metrics, provenance, sample_sets, stop
from autoguide_jax.foreign_images import open_images
from autoguide_jax.metrics import reference as references
from autoguide_jax.progress import Progress

METRICS = ('frechet', 'precision', 'recall', 'density', 'coverage')
METRICS += ('class_accuracy', 'class_variance')
RESULTS = 'results.jsonl'


@dataclass(frozen=True)
class Settings:
    """Which images are scored, against what, and how.

    Settings:
      samples: folder of a sample set; or any folder, zip or npz of images
      data: the real images to compare with, all of them
      features: the network whose features are compared
      metrics: metrics to compute
      reference: npz with statistics of real images (mu, sigma), in place of those of data
      batch_size: images read at a time; changes no result
      cache_dir: where the classifier and the reference statistics are kept; empty = the workdir
    """

    samples: str
    data: config.Part | None = config.part('autoguide_jax.data:table', name='digits')
    features: config.Part = config.part('autoguide_jax.metrics.features:table', name='classifier')
    metrics: tuple[str, ...] = METRICS
    reference: str = ''
    batch_size: int = 256
    cache_dir: str = ''

    def __post_init__(self):
        check_names(self.metrics)
        if self.batch_size < 1:
            raise ValueError(f'batch_size ({self.batch_size}) must be at least 1')
        if self.data is None and not self.reference:
            raise ValueError('reference: required where data is none')


def check_names(names) -> None:
    """Raise ValueError unless these are metrics, at least one, each once."""
    if not names or len(set(names)) < len(names):
        raise ValueError(f'metrics ({", ".join(names)}) must name at least one, each once')
    for name in names:
        metrics.table.get(name)


def check_images(dataset) -> None:
    """Raise ValueError unless a data set holds images, which is what metrics compare."""
    if (holds := getattr(dataset, 'holds', 'images')) != 'images':
        raise ValueError(
            f'data ({dataset.name}) holds {holds}, and metrics compare images: give the data set '
            'that they were made from'
        )


class Evaluator:
    """Feature network, reference and metrics of one data set, opened once: batches → numbers.

    dataset: the real images, or None with a reference file; features: a Part of the extractors'
    table, or a name in it; cache_dir: where the trained classifier and the reference are kept, None
    = nowhere; reference_file: npz of statistics in place of the data set's.
    Errors: ValueError for an unknown metric (before anything is trained), or a reference of other
    features or data. A metric that the features or the reference cannot give has no value, and a
    reason for it; if that leaves none, its reason is the error.
    """

    def __init__(
        self,
        dataset,
        features: config.Part | str = 'classifier',
        metric_names: tuple[str, ...] = METRICS,
        cache_dir: Any = None,
        reference_file: Any = '',
    ):
        check_names(metric_names)
        check_images(dataset)
        name, given = (features, {}) if isinstance(features, str) else _part(features)
        self.dataset, self.names = dataset, tuple(metric_names)
        self.extractor = metrics.open_extractor(name, dataset, cache_dir, **given)
        if reference_file:
            self.reference = references.load(reference_file, dataset, self.extractor)
            if self.reference.warning:
                print(f'{reference_file}: {self.reference.warning}', file=sys.stderr)
        else:
            self.reference = metrics.open_reference(dataset, self.extractor, cache_dir)
        self._reference_file = reference_file
        self.reference.check(self.extractor)
        self.metrics, self._unfit = [], {}
        for name in self.names:
            metric = metrics.table.get(name)(self.extractor)
            try:
                metric.check(self.reference)
                self.metrics.append(metric)
            except ValueError as error:
                self._unfit[name] = str(error)
        if not self.metrics:
            raise ValueError(next(iter(self._unfit.values())))

    @functools.cached_property
    def identity(self) -> dict:
        """What decides the numbers, apart from the images."""
        known = self.reference.header.get('content_hash')
        settings = {m.name: {k: v for k, v in _fields(m) if k != 'features'} for m in self.metrics}
        return {
            'extractor': self.extractor.name,
            'weights_hash': self.extractor.weights_hash,
            'reference': known or files.sha256(self._reference_file)[:12],
            'metrics': settings,
            'undefined': sorted(self._unfit),
        }

    def describe(self) -> dict:
        """Return what a report says of the features and the reference."""
        e, r = self.extractor, self.reference
        return {
            'metric_title': e.title,
            'features': {'name': e.name, 'noun': e.noun, 'weights_hash': e.weights_hash, **e.facts},
            'reference': {'count': r.count, 'hash': self.identity['reference']},
            'data': None if self.dataset is None else self.dataset.describe(),
        }

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """The (h, w, c) that images must have, None = any."""
        if self.dataset is None:
            return self.extractor.image_shape
        return self.dataset.resolution, self.dataset.resolution, self.dataset.channels

    def score(self, batches: Iterable[tuple[Any, Any]]) -> dict[str, float | None]:
        """Return metric → value (None where it is undefined), and 'count', the number of images.

        batches: (images uint8 [n, h, w, c], labels int [n] or None); their size changes nothing.
        """
        return self.measure(batches)[0]

    def measure(self, batches) -> tuple[dict[str, float | None], dict[str, str]]:
        """Return (as `score`, reasons of the undefined ones by metric)."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            found = metrics.score(self.metrics, self._checked(batches), self.reference)
        reasons, others = dict(self._unfit), []
        for warning in caught:
            name, nan, reason = str(warning.message).partition(' is NaN: ')
            if nan and name in self.names:
                reasons[name] = reason
            else:
                others.append(warning)
        for other in others:
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
        values = {name: found.get(name, math.nan) for name in self.names}
        values = {name: None if math.isnan(v) else v for name, v in values.items()}
        return {**values, 'count': found['count']}, reasons

    def _checked(self, batches):
        for images, labels in batches:
            stop.check('evaluating')
            check_shape(np.shape(images)[1:], self.image_shape, 'the images')
            yield images, labels


def _part(features):
    for name in ('dataset', 'folder'):
        if name in features.settings:
            raise ValueError(f'features.{name} follows from data and cache_dir: leave it out')
    return features.name, features.settings


def _fields(metric):
    return [(f.name, getattr(metric, f.name)) for f in fields(metric)]


def check_shape(shape, wanted, what) -> None:
    """Raise ValueError if images have another shape (h, w, c) than the real ones."""
    if wanted is not None and tuple(shape) != tuple(wanted):
        texts = ['×'.join(map(str, s)) for s in (shape, wanted)]
        raise ValueError(
            f'{what} are {texts[0]} (height × width × channels), the real images are {texts[1]}. '
            'Compare with the data set that the networks were trained on.'
        )


def open_samples(p: Any):
    """Return the images at a path: num_images, image_shape, content_hash, batches(batch_size).

    Errors: ValueError or FileNotFoundError for an incomplete sample set, no images, other files.
    """
    return sample_sets.open_set(p) if sample_sets.is_set(p) else open_images(p)


def main(settings, workdir):
    """Score settings.samples into workdir/results.jsonl; return the numbers, one row.

    Errors: ValueError for incomplete sets, and images of another size than the real ones, before
    anything is computed. Raises stop.Stopped between batches; nothing that is finished is lost.
    """
    samples = open_samples(settings.samples)
    dataset = None if settings.data is None else config.build(settings.data)
    check_images(dataset)
    if dataset is not None:
        wanted = dataset.resolution, dataset.resolution, dataset.channels
        check_shape(samples.image_shape, wanted, f'samples ({settings.samples})')
    evaluator = Evaluator(
        dataset,
        settings.features,
        settings.metrics,
        settings.cache_dir or workdir,
        settings.reference,
    )
    results = files.path(workdir) / RESULTS
    key = files.content_hash({'samples': samples.content_hash, **evaluator.identity})
    known = [row for row in files.read_jsonl(results) if row.get('key') == key]
    if known:
        print(f'already scored: row {key} of {results}', file=sys.stderr)
        return _table(known[0])
    start = time.monotonic()
    with Progress(samples.num_images, 'images', 'evaluate') as progress:
        batches = _counted(samples.batches(settings.batch_size), progress)
        with contextlib.closing(batches):
            values, reasons = evaluator.measure(batches)
    row = {
        'key': key,
        'kind': 'evaluate',
        'samples': {
            'path': str(files.path(settings.samples)),
            'hash': samples.content_hash,
            'manifest': {k: v for k, v in samples.manifest.items() if k != 'provenance'},
        },
        **evaluator.describe(),
        'metrics': values,
        'undefined': reasons,
        'images': values['count'],
        'seconds': round(time.monotonic() - start, 3),
        'provenance': provenance.describe(),
    }
    files.append_jsonl(results, row)
    return _table(files.plain(row))


def _counted(batches, progress):
    for images, labels in batches:
        yield images, labels
        progress.update(len(images))


def _table(row):
    """Return what is printed of a row: the numbers, and why one is missing."""
    values = {k: v for k, v in row['metrics'].items() if k != 'count'}
    return {
        'samples': row['samples']['path'],
        'images': row['images'],
        'features': row['features']['noun'],
        **values,
        **{f'{name}: none, because': reason for name, reason in row['undefined'].items()},
        'seconds': row['seconds'],
        'key': row['key'],
    }
