"""Batches of images → numbers with errors: extractors, references and metrics, opened once."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from autoguide_jax import config, files, metrics, processes, stop
from autoguide_jax.foreign_images import NpzImages, RealImages
from autoguide_jax.metrics import reference as references
from autoguide_jax.metrics import scoring
from autoguide_jax.metrics.building import open_references
from autoguide_jax.metrics.metric import undefined


def check_names(names, also=()) -> None:
    """Raise ValueError unless these are metrics, at least one, each once.

    also: names of further extractors; a metric on one of them is 'NAME:METRIC'.
    """
    if not names or len(set(names)) < len(names):
        raise ValueError(f'metrics ({", ".join(names)}) must name at least one, each once')
    for name in names:
        extractor, _, metric = name.rpartition(':')
        if extractor and extractor not in also:
            known = ', '.join(also) or 'none'
            raise ValueError(f'metrics ({name}): {extractor!r} is not one of also ({known})')
        metrics.table.get(metric)
    unused = set(also) - {name.rpartition(':')[0] for name in names}
    if unused:
        raise ValueError(f'also.{unused.pop()}: no metric is on it; name one as NAME:METRIC')


def check_images(dataset) -> None:
    """Raise ValueError unless a data set holds images, which is what metrics compare."""
    if (holds := getattr(dataset, 'holds', 'images')) != 'images':
        raise ValueError(
            f'data ({dataset.name}) holds {holds}, and metrics compare images: give the data set '
            'that they were made from'
        )


def check_shape(shape, wanted, what) -> None:
    """Raise ValueError if images have another shape (h, w, c) than the real ones."""
    if wanted is not None and tuple(shape) != tuple(wanted):
        texts = ['×'.join(map(str, s)) for s in (shape, wanted)]
        raise ValueError(
            f'{what} are {texts[0]} (height × width × channels), the real images are {texts[1]}. '
            'Compare with the data set that the networks were trained on, at its resolution: with '
            'images of another size a distance is another metric. `stats` makes a reference of any.'
        )


class Evaluator:
    """Extractors, references and metrics of one data set: batches → numbers with errors.

    dataset: the real images, or None with a reference file; features: a Part of the extractors'
    table, or a name in it; also: further extractors by name, whose metrics are 'NAME:METRIC';
    cache_dir: where the trained classifier and the references are kept, None = nowhere;
    reference_file: statistics in place of the data set's, or several files, each of which serves
    the extractor that it fits; allow_fewer: score fewer images than a metric asks for, and say so;
    together: all connected processes open it; shape, count: the (h, w, c) of the images to come,
    and how many there are.
    Errors: ValueError for an unknown metric (before anything is trained), or a reference of other
    features or data. A metric that the features or the reference cannot give has no value, and a
    reason for it; if that leaves none, its reason is the error.
    """

    def __init__(
        self,
        dataset,
        features: config.Part | str = 'classifier',
        metric_names: tuple[str, ...] = ('frechet',),
        cache_dir: Any = None,
        reference_file: Any = (),
        also: Mapping[str, config.Part] | None = None,
        allow_fewer: bool = False,
        together: bool = False,
        shape: tuple[int, int, int] | None = None,
        count: int | None = None,
    ):
        also = also or {}
        check_names(metric_names, also)
        check_images(dataset)
        self.dataset, self.names, self.allow_fewer = dataset, tuple(metric_names), allow_fewer
        self._shape, self._files = shape, references.paths(reference_file)
        if together:
            # Devices are found by all at once: one that waits for the first would never answer it.
            processes.find_devices()
        first = processes.main_first('opening features') if together else contextlib.nullcontext()
        with first:
            self.extractors = {
                name: open_features(part, dataset, cache_dir)
                for name, part in [('', features), *also.items()]
            }
        self.metrics, self._unfit = {}, {}
        for name in self.names:
            extractor, _, kind = name.rpartition(':')
            metric = metrics.table.get(kind)(self.extractors[extractor])
            self.metrics[name] = metric.relaxed() if allow_fewer else metric
        if count is not None:
            self.check_count(count)
        self.references = self._open_references(cache_dir, together)
        for name in self.names:
            try:
                self.metrics[name].check(self.references[name.rpartition(':')[0]])
            except ValueError as error:
                self._unfit[name] = str(error)
                del self.metrics[name]
        if not self.metrics:
            raise ValueError(next(iter(self._unfit.values())))

    def _open_references(self, cache_dir, together):
        """{name of the extractor: Reference}; a data set is read once for all."""
        if not self._files:
            found = open_references(
                self.dataset, list(self.extractors.values()), cache_dir, together=together
            )
            return dict(zip(self.extractors, found))
        found = {name: self._read_reference(name, cache_dir, together) for name in self.extractors}
        if unused := set(self._files) - {r.source for r in found.values()}:
            raise ValueError(f'reference ({unused.pop()}) is of none of the features; leave it out')
        return found

    def _read_reference(self, name, cache_dir, together):
        extractor = self.extractors[name]
        found = references.fitting(self._files, extractor, self.dataset)
        if found.warning:
            print(f'{found.source}: {found.warning}', file=sys.stderr)
        real = None
        if found.images is not None:
            real = RealImages(NpzImages(files.path(found.images)), 'images of the reference')
            header = {**found.header, 'image_shape': list(real.image_shape)}
            found = dataclasses.replace(found, header=header)
        if self._shape is not None:
            check_shape(self._shape, found.image_shape, f'the images, by {found.source},')
        needed = [m for m in self.metrics.values() if m.features is extractor]
        if real is None or not any('features' in metric.needs for metric in needed):
            return found
        return _with_images(found, real, extractor, cache_dir, together)

    @property
    def extractor(self):
        """The extractor of the metrics without a prefix."""
        return self.extractors['']

    @functools.cached_property
    def identity(self) -> dict:
        """What decides the numbers, apart from the images."""
        settings = {
            name: {
                'revision': m.revision,
                **{k: v for k, v in vars(m).items() if k != 'features'},
            }
            for name, m in self.metrics.items()
        }
        others = {name: self._identity(name) for name in self.extractors if name}
        return {
            **self._identity(''),
            'metrics': settings,
            'undefined': sorted(self._unfit),
            **({'also': others} if others else {}),
        }

    def _identity(self, name):
        return {
            'extractor': self.extractors[name].name,
            'weights_hash': self.extractors[name].weights_hash,
            'reference': self.references[name].header['content_hash'],
        }

    def describe(self) -> dict:
        """Return what a report says of the features and the reference."""
        found = self._describe('')
        others = {name: self._describe(name) for name in self.extractors if name}
        data = None if self.dataset is None else self.dataset.describe()
        titles = {name: metric.title for name, metric in self.metrics.items()}
        return {**found, **({'also': others} if others else {}), 'data': data, 'titles': titles}

    def _describe(self, name):
        e, r = self.extractors[name], self.references[name]
        facts = {'name': e.name, 'noun': e.noun, 'weights_hash': e.weights_hash, **e.facts}
        known = ('data', 'data_fingerprint', 'image_shape', 'transform', 'count')
        reference = {
            **({'source': r.source} if self._files else {}),
            **{key: r.header.get(key) for key in known},
            'hash': self._identity(name)['reference'],
            **({'warning': r.warning} if r.warning else {}),
        }
        return {'metric_title': e.title, 'features': facts, 'reference': reference}

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """The (h, w, c) that images must have, None = any."""
        if self.dataset is None:
            shapes = [r.image_shape for r in self.references.values()]
            return next(filter(None, shapes), self.extractor.image_shape)
        return self.dataset.resolution, self.dataset.resolution, self.dataset.channels

    def fewer(self, count: int) -> dict[str, int]:
        """Return metric → images it asks for, where that is more than count."""
        return {name: m.least for name, m in self.metrics.items() if count < m.least}

    def check_defined(self, name: str) -> None:
        """Raise ValueError if features or reference cannot give this metric, which is minimised."""
        if name in self._unfit:
            raise ValueError(
                f'metrics ({", ".join(self.names)}): {name} is minimised, and has no value with '
                f'these features: {self._unfit[name]} Or begin with another distance.'
            )

    def check_count(self, count: int) -> None:
        """Raise ValueError if there are fewer images than a metric asks for, and that matters."""
        short = self.fewer(count)
        if short and not self.allow_fewer:
            name, least = max(short.items(), key=lambda item: item[1])
            raise ValueError(
                f'{name} ({self.metrics[name].title}) asks for {least} images, there are {count}. '
                'Give as many, leave the metric out, or set allow_fewer=true: the row then says so'
            )

    def measure(self, batches: Iterable[tuple[Any, Any]]) -> dict[str, dict]:
        """Return what a row of results says of some images: see `judge`.

        batches: (images uint8 [n, h, w, c], labels int [n] or None); their size changes nothing.
        """
        return self.judge(self.banks(batches))

    def banks(self, batches: Iterable[tuple[Any, Any]]) -> dict:
        """Return {extractor: Bank} of all images; batches as in `measure`."""
        return scoring.banks(self.metrics.values(), self.checked(batches))

    def judge(self, banks: Mapping) -> dict[str, dict]:
        """Return the row of what the extractors told: scoring.row, with the count among metrics.

        A metric that the features or the reference cannot give is undefined, with its reason;
        fewer: name → images asked for, where there were less.
        """
        names = {extractor: name for name, extractor in self.extractors.items()}
        found = {name: undefined(reason) for name, reason in self._unfit.items()}
        for name, metric in self.metrics.items():
            stop.check(f'computing {name}')
            reference = self.references[names[metric.features]]
            work = functools.partial(metric.estimate, banks[metric.features], reference)
            found[name] = stop.interruptible(work, f'computing {name}')
        row = scoring.row({name: found[name] for name in self.names})
        count = row['metrics']['count'] = next(iter(banks.values())).count
        return {**row, **({'fewer': short} if (short := self.fewer(count)) else {})}

    def checked(self, batches):
        """Yield the batches; ValueError for another shape or other classes than the real ones."""
        for images, labels in batches:
            stop.check('evaluating')
            check_shape(np.shape(images)[1:], self.image_shape, 'the images')
            for reference in self.references.values():
                reference.check_labels(labels)
            yield images, labels


def _with_images(reference, real, extractor, cache_dir, together):
    """A reference with the features of the images that are in its file."""
    found = metrics.open_reference(real, extractor, cache_dir, together=together)
    content = [reference.header['content_hash'], real.fingerprint]
    header = {'num_classes': real.num_classes, 'content_hash': files.content_hash(content)}
    return dataclasses.replace(
        reference,
        features=found.features,
        labels=found.labels,
        predicted=found.predicted,
        rows=found.rows,
        header={**reference.header, **header},
    )


def open_features(features: config.Part | str, dataset=None, cache_dir: Any = None):
    """Return the Extractor that a Part or a name says. Errors: ValueError as of the extractors."""
    if isinstance(features, str):
        return metrics.open_extractor(features, dataset, cache_dir)
    for name in ('dataset', 'folder'):
        if name in features.settings:
            raise ValueError(f'features.{name} follows from data and cache_dir: leave it out')
    return metrics.open_extractor(features.name, dataset, cache_dir, **features.settings)
