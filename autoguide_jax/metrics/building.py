"""Reference statistics: a pass over real images in the features of an extractor."""

import contextlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from autoguide_jax import files, processes
from autoguide_jax.metrics import blocks
from autoguide_jax.metrics import reference as references
from autoguide_jax.metrics.features import stream
from autoguide_jax.metrics.frechet import Moments
from autoguide_jax.metrics.metric import Bank, choose
from autoguide_jax.metrics.reading import Reader
from autoguide_jax.metrics.reference import Reference
from autoguide_jax.progress import Progress

NUM_FEATURES = 50_000
# A block has a 16th of the images, within these limits: its covariance takes dim² · 8 bytes.
SHARES, SMALLEST, LARGEST = 16, 1024, 32_768


def shape_of(dataset) -> tuple[int, int, int] | None:
    """The (h, w, c) of the images of a data set, None if it does not say."""
    if hasattr(dataset, 'image_shape'):
        return tuple(dataset.image_shape)
    if hasattr(dataset, 'resolution'):
        return dataset.resolution, dataset.resolution, dataset.channels
    return None


def identity(dataset, extractor, count, num_features) -> dict:
    """Return what makes two references the same: header fields known before the images are seen."""
    return {
        'data': files.plain(dataset.describe()),
        'data_fingerprint': dataset.fingerprint,
        'count': dataset.num_images if count is None else count,
        'num_features': num_features,
        'extractor': extractor.name,
        'weights_hash': extractor.weights_hash,
    }


class _Sums:
    """What is kept of real images in one feature space: moments of all, and a Bank of some."""

    def __init__(self):
        self.moments, self.bank = {'pooled': Moments(), 'spatial': Moments()}, Bank()

    def add(self, output, labels, kept):
        """Take in what an extractor tells of some images; kept: bool [n]."""
        self.moments['pooled'].add(output.features)
        if output.spatial is not None:
            self.moments['spatial'].add(output.spatial)
        self.bank.add(type(output)(*(None if x is None else x[kept] for x in output)), labels[kept])

    def pack(self):
        """Everything as arrays by name."""
        sums = {}
        for name, found in self.moments.items():
            if found.count:
                sums |= {f'{name}_count': np.array(found.count), f'{name}_mean': found.mean}
                sums |= {f'{name}_scatter': found.scatter}
        return {**sums, **self.bank.arrays}

    def merge(self, block):
        """Take in the arrays of other images."""
        for name, found in self.moments.items():
            if f'{name}_count' in block:
                part = [block.pop(f'{name}_{x}') for x in ('count', 'mean', 'scatter')]
                found.merge(Moments(int(part[0]), *part[1:]))
        self.bank.extend(block)

    def arrays(self):
        """The arrays of a Reference."""
        mu, sigma = self.moments['pooled'].gaussian()
        found = {'mu': mu, 'sigma': sigma, **self.bank.arrays}
        if self.moments['spatial'].count:
            found['mu_s'], found['sigma_s'] = self.moments['spatial'].gaussian()
        return found


def _block(reader, extractors, rows, keep):
    """What the extractors tell of the images in some rows; of those to be kept (bool), one by one.

    Arrays are called NUMBER/NAME.
    """
    sums, start = [_Sums() for _ in extractors], 0
    for outputs, labels in stream(extractors, reader.read(rows)):
        for found, output in zip(sums, outputs):
            found.add(output, labels, keep[start : start + len(labels)])
        start += len(labels)
    return {f'{i}/{k}': v for i, found in enumerate(sums) for k, v in found.pack().items()}


def build(dataset, extractor, *args, **settings) -> Reference:
    """Return the Reference of one extractor: `build_all`, which has the arguments."""
    return build_all(dataset, [extractor], *args, **settings)[0]


def build_all(
    dataset,
    extractors: Sequence,
    count: int | None = None,
    num_features: int = NUM_FEATURES,
    folder: Any = None,
    together: bool = False,
) -> list[Reference]:
    """Return the statistics of a data set's images in the features of some extractors, in one pass.

    dataset: images by images(rows) or batches(size, start), with name, num_images, num_classes,
    labels, fingerprint and describe(); count: of how many images, a fixed random subset, None =
    all; num_features: how many of these are kept one by one for metrics by neighbours and classes;
    folder, together: as in blocks.Blocks; [] on processes that do not have all blocks in the end.
    Errors: ValueError for counts out of range.
    """
    total = dataset.num_images if count is None else count
    if not 2 <= total <= dataset.num_images:
        raise ValueError(f'count ({total}) must be in 2…{dataset.num_images}, the data set')
    if num_features < 1:
        raise ValueError(f'num_features ({num_features}) must be at least 1')
    rows = choose(dataset.num_images, total)
    kept = np.isin(np.arange(total), choose(total, num_features))
    sums = [_Sums() for _ in extractors]
    size = min(max(total // SHARES, SMALLEST), LARGEST)
    shares = blocks.Blocks(folder, total, size, together)
    with Progress(shares.rows, 'images', f'reference statistics of {dataset.name}') as progress:
        reader = Reader(dataset, progress)
        work = lambda a, b: _block(reader, extractors, rows[a:b], kept[a:b])
        with contextlib.closing(reader):
            for block in shares.run(work):
                for i, found in enumerate(sums):
                    mine = {k: v for k, v in block.items() if k.startswith(f'{i}/')}
                    found.merge({k.partition('/')[2]: v for k, v in mine.items()})
    if not shares.here:
        return []
    headers = [identity(dataset, extractor, count, num_features) for extractor in extractors]
    each = zip(extractors, sums, headers)
    return [_reference(dataset, rows[kept], *rest) for rest in each]


def _reference(dataset, rows, extractor, sums, header):
    shape, arrays = shape_of(dataset), {**sums.arrays(), 'rows': rows}
    header = {**header, 'num_classes': dataset.num_classes, 'transform': extractor.transform}
    if shape is not None:
        header['image_shape'] = list(shape)
    header['content_hash'] = references.content_hash(arrays)
    return Reference(**arrays, header=header, source=f'the reference of {dataset.name!r}')


def open_reference(dataset, extractor, *args, **settings) -> Reference:
    """Return the reference of one extractor: `open_references`, which has the arguments."""
    return open_references(dataset, [extractor], *args, **settings)[0]


def open_references(
    dataset,
    extractors: Sequence,
    folder: Any = None,
    count: int | None = None,
    num_features: int = NUM_FEATURES,
    together: bool = False,
) -> list[Reference]:
    """Return the references of a data set in some features: from the folder, or built in one pass.

    folder: kept there for the next time; None = not kept; together: as in blocks.Blocks. Errors: as
    `build_all` and `reference.load`.
    """
    if folder is None:
        return build_all(dataset, extractors, count, num_features)
    whats = [identity(dataset, extractor, count, num_features) for extractor in extractors]
    paths = [_path(folder, dataset, e, what) for e, what in zip(extractors, whats)]
    todo = [i for i, p in enumerate(paths) if not p.exists()]
    # The first process decides: in a bucket another may not see a new file yet.
    todo = processes.gather(todo)[0] if together else todo
    if todo:
        chosen = [extractors[i] for i in todo]
        parts = files.path(folder) / f'blocks-{files.content_hash([whats[i] for i in todo])}'
        found = build_all(dataset, chosen, count, num_features, parts, together)
        for i, reference in zip(todo, found):
            references.save(reference, paths[i])
        finish(parts, together)
    kept = whats[0]['count'], num_features
    return [references.load(p, dataset, e, *kept) for p, e in zip(paths, extractors)]


def _path(folder, dataset, extractor, what):
    name = re.sub(r'\W+', '-', f'{dataset.name}-{extractor.name}')
    return files.path(folder) / f'reference-{name}-{files.content_hash(what)}.npz'


def finish(folder: Any, together: bool) -> None:
    """Delete the blocks of a reference that is written, and let other processes read it."""
    if not together or processes.is_main():
        blocks.remove(folder)
    if together:
        processes.gather()
