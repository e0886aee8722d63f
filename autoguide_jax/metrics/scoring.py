"""Several metrics in one pass over a set of images."""

from collections.abc import Iterable, Sequence
from typing import Any

from autoguide_jax.metrics.metric import FeatureMetric
from autoguide_jax.metrics.reference import Reference


def score(
    metrics: Sequence[FeatureMetric],
    batches: Iterable[tuple[Any, Any]],
    reference: Reference,
    limit: int | None = None,
) -> dict[str, float]:
    """Return metric name → value, and how many images there were.

    batches: (images uint8 [n, h, w, c], labels int [n] or None); read once, each image's features
    computed once. limit: stop after that many images, None = all.
    'count' is the number of images read, 'n_used' those that entered every metric: they differ
    only if limit cut the last batch.
    Errors: ValueError before the first batch if a metric does not fit the reference, two have one
    name, or they have different extractors; after it for no images.
    """
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise ValueError(f'each metric can be asked for once, not {", ".join(names)}')
    if len({id(metric.features) for metric in metrics}) != 1:
        raise ValueError('the metrics of one pass must have one and the same extractor')
    for metric in metrics:
        metric.check(reference)
    if limit is not None and limit < 1:
        raise ValueError(f'limit ({limit}) must be at least 1')
    # Metrics that keep the same kind of state share one: the first of a kind fills it.
    fillers = {metric.state: metric for metric in reversed(metrics)}
    states = {kind: filler.begin() for kind, filler in fillers.items()}
    count = used = 0
    for images, labels in batches:
        count += len(images)
        take = len(images) if limit is None else min(len(images), limit - used)
        labels = None if labels is None else labels[:take]
        for kind, filler in fillers.items():
            states[kind] = filler.update(states[kind], images[:take], labels)
        used += take
        if used == limit:
            break
    if not used:
        raise ValueError('there are no images to score')
    values = {metric.name: metric.finish(states[metric.state], reference) for metric in metrics}
    return {**values, 'count': count, 'n_used': used}
