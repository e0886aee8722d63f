"""Reference statistics: a pass over real images in the features of an extractor."""

import math
import re
from typing import Any

import numpy as np

from autoguide_jax import files, processes
from autoguide_jax.data.loader import read_ahead
from autoguide_jax.metrics import blocks
from autoguide_jax.metrics import reference as references
from autoguide_jax.metrics.features import stream
from autoguide_jax.metrics.frechet import Moments
from autoguide_jax.metrics.metric import Bank, choose
from autoguide_jax.metrics.reference import Reference
from autoguide_jax.progress import Progress

NUM_FEATURES = 50_000
BLOCK = 32_768
READ, THREADS = 64, 8


def _identity(dataset, extractor, count, num_features) -> dict:
    """Return what makes two references the same: header fields known before the images are seen."""
    return {
        'data': files.plain(dataset.describe()),
        'data_fingerprint': dataset.fingerprint,
        'count': dataset.num_images if count is None else count,
        'num_features': num_features,
        'extractor': extractor.name,
        'weights_hash': extractor.weights_hash,
    }


def read(dataset, rows: np.ndarray, progress: Progress | None = None):
    """Yield (images, labels or None) of some rows of a data set, read ahead by threads."""
    parts = np.array_split(rows, math.ceil(len(rows) / READ))
    for images, part in zip(read_ahead(dataset, parts, THREADS), parts):
        yield images, None if dataset.labels is None else np.asarray(dataset.labels)[part]
        if progress:
            progress.update(len(part))


def _block(dataset, extractor, rows, keep, progress):
    """Moments of the images in some rows, and everything of those to be kept (bool)."""
    pooled, spatial, bank, start = Moments(), Moments(), Bank(), 0
    for (output,), labels in stream([extractor], read(dataset, rows, progress)):
        kept = keep[start : start + len(labels)]
        start += len(labels)
        pooled.add(output.features)
        if output.spatial is not None:
            spatial.add(output.spatial)
        bank.add(type(output)(*(None if x is None else x[kept] for x in output)), labels[kept])
    sums = {}
    for name, found in ('pooled', pooled), ('spatial', spatial):
        if found.count:
            sums |= {f'{name}_count': np.array(found.count), f'{name}_mean': found.mean}
            sums |= {f'{name}_scatter': found.scatter}
    return {**sums, **bank.arrays}


def build(
    dataset,
    extractor,
    count: int | None = None,
    num_features: int = NUM_FEATURES,
    folder: Any = None,
    together: bool = False,
) -> Reference:
    """Return the statistics of a data set's images in an extractor's features.

    count: of how many images, a fixed random subset, None = all; num_features: how many of these
    are kept one by one for metrics by neighbours and classes; folder, together: as in blocks.run.
    Errors: ValueError for counts out of range.
    """
    identity = _identity(dataset, extractor, count, num_features)
    total = identity['count']
    if not 2 <= total <= dataset.num_images:
        raise ValueError(f'count ({total}) must be in 2…{dataset.num_images}, the data set')
    if num_features < 1:
        raise ValueError(f'num_features ({num_features}) must be at least 1')
    rows = choose(dataset.num_images, total)
    kept = np.isin(np.arange(total), choose(total, num_features))
    sums, bank = {'pooled': Moments(), 'spatial': Moments()}, Bank()
    with Progress(total, 'images', f'reference statistics of {dataset.name}') as progress:
        work = lambda a, b: _block(dataset, extractor, rows[a:b], kept[a:b], progress)
        for block in blocks.run(folder, total, BLOCK, work, together):
            for name, found in sums.items():
                if f'{name}_count' in block:
                    part = [block.pop(f'{name}_{x}') for x in ('count', 'mean', 'scatter')]
                    found.merge(Moments(int(part[0]), *part[1:]))
            bank.extend(block)
    mu, sigma = sums['pooled'].gaussian()
    arrays = {'mu': mu, 'sigma': sigma, **bank.arrays}
    if sums['spatial'].count:
        arrays['mu_s'], arrays['sigma_s'] = sums['spatial'].gaussian()
    header = {**identity, 'num_classes': dataset.num_classes}
    header['content_hash'] = references.content_hash(arrays)
    return Reference(**arrays, header=header, source=f'the reference of {dataset.name!r}')


def open_reference(
    dataset,
    extractor,
    folder: Any = None,
    count: int | None = None,
    num_features: int = NUM_FEATURES,
    together: bool = False,
) -> Reference:
    """Return the reference of a data set in an extractor's features: from the folder, or built now.

    folder: kept there for the next time; None = not kept; together: as in blocks.run. Errors: as
    `build` and `reference.load`.
    """
    if folder is None:
        return build(dataset, extractor, count, num_features)
    identity = _identity(dataset, extractor, count, num_features)
    name = re.sub(r'\W+', '-', f'{dataset.name}-{extractor.name}')
    name = f'{name}-{files.content_hash(identity)}'
    p = files.path(folder) / f'reference-{name}.npz'
    if not p.exists():
        parts = files.path(folder) / f'blocks-{name}'
        found = build(dataset, extractor, count, num_features, parts, together)
        if not together or processes.is_main():
            references.save(found, p)
            blocks.remove(parts)
        if together:
            processes.gather()
    return references.load(p, dataset, extractor, identity['count'], num_features)
