"""Several metrics in one pass over a set of images."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from autoguide_jax.metrics.features import Extractor, stream
from autoguide_jax.metrics.metric import Bank, Estimate, FeatureMetric
from autoguide_jax.metrics.reference import Reference


def empty_banks(metrics: Iterable[FeatureMetric], keep: Iterable[str] = ()) -> dict:
    """Return {extractor: empty Bank} that keeps what some metrics need, and what is named."""
    needed = {}
    for metric in metrics:
        needed.setdefault(metric.features, set(keep)).update(metric.keep)
    return {extractor: Bank(tuple(sorted(names))) for extractor, names in needed.items()}


def pack(found: dict[Extractor, Bank]) -> dict[str, np.ndarray]:
    """Return the arrays of Banks under one name each, 'NUMBER/NAME', for a file."""
    return {f'{i}/{k}': v for i, bank in enumerate(found.values()) for k, v in bank.arrays.items()}


def unpack(arrays: dict[str, np.ndarray], found: dict[Extractor, Bank]) -> None:
    """Add what `pack` returned to the Banks of the same extractors."""
    for i, bank in enumerate(found.values()):
        mine = {name.partition('/')[2]: a for name, a in arrays.items() if name.startswith(f'{i}/')}
        bank.extend(mine)


def banks(
    metrics: Iterable[FeatureMetric], batches: Iterable[tuple[Any, Any]], keep: Iterable[str] = ()
) -> dict[Extractor, Bank]:
    """Return for each extractor of some metrics what it tells of all images.

    batches: (images uint8 [n, h, w, c], labels int [n] or None); read once, each image goes through
    each extractor once. Errors: ValueError for no images.
    """
    found = empty_banks(metrics, keep)
    for outputs, labels in stream(list(found), batches):
        for bank, output in zip(found.values(), outputs):
            bank.add(output, labels)
    if not next(iter(found.values())).count:
        raise ValueError('there are no images to score')
    return found


def check(metrics: Sequence[FeatureMetric], references: dict[Extractor, Reference]) -> None:
    """Raise ValueError if a metric does not fit its reference, or is asked for twice."""
    names = [(metric.name, id(metric.features)) for metric in metrics]
    if len(set(names)) < len(names):
        twice = ', '.join(name for name, _ in names)
        raise ValueError(f'each metric can be asked for once, not {twice}')
    for metric in metrics:
        metric.check(references[metric.features])


def score(
    metrics: Sequence[FeatureMetric],
    batches: Iterable[tuple[Any, Any]],
    reference: Reference | dict[Extractor, Reference],
) -> list[Estimate]:
    """Return the Estimate of each metric; the images are read once.

    batches: (images uint8 [n, h, w, c], labels int [n] or None); reference: that of the only
    extractor, or one for each. Errors: ValueError before the first batch if a metric does not fit
    the reference, or is asked for twice; after it for no images, or for labels of other classes.
    """
    if isinstance(reference, Reference):
        reference = {metric.features: reference for metric in metrics}
    check(metrics, reference)
    found = banks(metrics, batches)
    for extractor, bank in found.items():
        reference[extractor].check_labels(bank.labels)
    return [m.estimate(found[m.features], reference[m.features]) for m in metrics]


def row(found: Mapping[str, Estimate]) -> dict[str, dict]:
    """Return some Estimates as a row of results says them, each part by metric.

    metrics: values, None = undefined; undefined: why; errors; no_error: why; intervals: [low, high]
    of 95 %, none where the error is 0: where nothing varied, nothing is known of what may; parts:
    values that the metric is the mean of, such as those of each class.
    """
    known = {name: e for name, e in found.items() if not math.isnan(e.value)}
    with_error = {name: e for name, e in known.items() if not math.isnan(e.error)}
    every = {
        'intervals': {n: [float(x) for x in e.interval] for n, e in with_error.items() if e.error},
        'no_error': {n: e.reason for n, e in known.items() if n not in with_error},
        'parts': {n: e.parts for n, e in known.items() if e.parts is not None},
    }
    return {
        'metrics': {n: float(e.value) if n in known else None for n, e in found.items()},
        'errors': {n: float(e.error) for n, e in with_error.items()},
        'undefined': {n: e.reason for n, e in found.items() if n not in known},
        **{name: part for name, part in every.items() if part},
    }
