"""Score images against real ones: a sample set, or any folder, zip or npz of images.

    python -m autoguide_jax evaluate --images=out/a --workdir=out/a
    python -m autoguide_jax evaluate --images=samples.npz --reference=img512.pkl \\
        --config.features.name=inception --config.features.weights=WEIGHTS.pth --workdir=out/b

With a reference no data set is opened, and the features are those of the reference.
A row of workdir/results.jsonl is keyed by a hash of the images, the reference, the feature networks
and the metrics; a row that is there is returned, not made again. Features are computed in blocks,
by all processes and devices, and kept until the row is written: what was interrupted goes on. With
authenticity among the metrics, workdir/nearest-KEY.png shows the samples that are most like a
training image.
"""

import contextlib
import sys
import time
from dataclasses import dataclass

import numpy as np

from autoguide_jax import config, files, likeness, metrics, processes, provenance, schema
from autoguide_jax.evaluator import Evaluator, check_images, check_names, check_shape
from autoguide_jax.foreign_images import StoredImages, open_samples
from autoguide_jax.metrics import blocks, scoring
from autoguide_jax.metrics import reference as references
from autoguide_jax.metrics.reading import Reader
from autoguide_jax.progress import Progress

METRICS = ('frechet', 'precision', 'recall', 'density', 'coverage')
METRICS += ('class_accuracy', 'class_variance')
RESULTS = 'results.jsonl'
BLOCK = 1024
DATA, FEATURES = 'autoguide_jax.data:table', 'autoguide_jax.metrics.features:table'
# What is compared with where neither it nor a reference is given.
DEFAULTS = {'data': (DATA, 'digits'), 'features': (FEATURES, 'classifier')}


@dataclass(frozen=True)
class Settings:
    """Which images are scored, against what, and how.

    Settings:
      images: folder of a sample set; or any folder, zip or npz of images
      data: the real images to compare with, all of them; none = those of the reference, or digits
        where there is no reference
      features: the network whose features are compared; none = that of the (first) reference, or
        classifier where there is no reference
      also: further networks by a name of your own, asked in the same pass
      metrics: metrics to compute; NAME:METRIC is one on the features of also.NAME
      reference: file with statistics of real images, in place of those of data: of the verb stats,
        or a published one (EDM2's pickle, EDM's and ADM's npz); several, A,B, each for the features
        that it fits
      allow_fewer: score fewer images than a metric asks for; the row says so
      cache_dir: where the classifier and the reference statistics are kept; empty = the workdir
      keep_features: keep the features, so that other metrics or references need no pass over images
    """

    images: str
    data: config.Part | None = config.part(DATA, name=None)
    features: config.Part | None = config.part(FEATURES, name=None)
    also: dict[str, config.Part] = config.parts(FEATURES)
    metrics: tuple[str, ...] = METRICS
    reference: str = ''
    allow_fewer: bool = False
    cache_dir: str = ''
    keep_features: bool = False

    def __post_init__(self):
        check_names(self.metrics, self.also)
        for name, (room, default) in DEFAULTS.items():
            if not self.reference and getattr(self, name) is None:
                object.__setattr__(self, name, _part(name, room, default))


def _part(name, room, given):
    return config.setting(schema.Field(config.Part, None, room), given, f'config.{name}')


def choose_features(settings) -> config.Part:
    """Return the features to compare: those that are set, or those of the first reference.

    Errors: ValueError if these need a setting that the reference cannot give.
    """
    if settings.features is not None:
        return settings.features
    p = references.paths(settings.reference)[0]
    given = references.features_of(p)
    name = given['name']
    if name == 'classifier' and settings.data is None:
        raise ValueError(f'reference ({p}) is of a classifier that is trained on data: set data')
    found = _part('features', FEATURES, given)
    if 'weights' in schema.component_fields(metrics.features.table.get(name)):
        raise ValueError(
            f'reference ({p}) is of the features of {name!r}, whose weights are a file: give '
            f'--config.features.name={name} --config.features.weights=FILE'
        )
    return found


def main(settings, workdir):
    """Score settings.images into workdir/results.jsonl; return the numbers, one row.

    Errors: ValueError for incomplete sets, and images of another size than the real ones, before
    anything is computed. Raises stop.Stopped between batches; nothing that is finished is lost.
    """
    samples = open_samples(settings.images)
    check_workdir(samples, settings, workdir)
    features = choose_features(settings)
    dataset = None if settings.data is None else config.build(settings.data)
    check_images(dataset)
    if dataset is not None:
        wanted = dataset.resolution, dataset.resolution, dataset.channels
        check_shape(samples.image_shape, wanted, f'images ({settings.images})')
    evaluator = Evaluator(
        dataset,
        features,
        settings.metrics,
        settings.cache_dir or workdir,
        settings.reference,
        settings.also,
        settings.allow_fewer,
        together=True,
        shape=samples.image_shape,
        count=samples.num_images,
    )
    results = files.path(workdir) / RESULTS
    key = files.content_hash({'samples': samples.content_hash, **evaluator.identity})
    known = (row for row in files.read_jsonl(results) if row.get('key') == key)
    # The first process decides: in a bucket another may not see a new row yet.
    if known := processes.gather(next(known, None))[0]:
        print(f'already scored: row {key} of {results}', file=sys.stderr)
        return _table(known)
    start = time.monotonic()
    folder, banks = extract(evaluator, samples, settings, workdir)
    row = None
    if banks:
        judged = evaluator.judge(banks)
        picture = files.path(workdir) / f'nearest-{key}.png'
        nearest = likeness.show(evaluator, banks, samples, picture)
        row = {
            'key': key,
            'kind': 'evaluate',
            'samples': {
                'path': str(files.path(settings.images)),
                'hash': samples.content_hash,
                'manifest': {k: v for k, v in samples.manifest.items() if k != 'provenance'},
            },
            **evaluator.describe(),
            **judged,
            **({'nearest': nearest} if nearest else {}),
            'images': samples.num_images,
            'seconds': round(time.monotonic() - start, 3),
            'provenance': provenance.describe(),
        }
        files.append_jsonl(results, row)
        if not settings.keep_features:
            blocks.remove(folder)
    return _table(processes.gather(files.plain(row))[0])


def extract(evaluator, samples, settings, workdir):
    """(folder, {extractor: Bank}) of what the extractors tell of all images, block by block.

    The Banks are None on processes that do not have all blocks in the end.
    """
    # What is kept for other metrics is all there is.
    keep = ('logits', 'spatial') if settings.keep_features else ()
    metrics = list(evaluator.metrics.values())
    found = scoring.empty_banks(metrics, keep)
    what = [samples.content_hash, *([e.name, e.weights_hash, b.keep] for e, b in found.items())]
    folder = files.path(settings.cache_dir or workdir) / f'features-{files.content_hash(what)}'
    shares = blocks.Blocks(folder, samples.num_images, BLOCK, together=True)
    with Progress(shares.rows, 'images', 'evaluate') as progress:
        reader = Reader(samples, progress)

        def work(start, end):
            batches = evaluator.checked(reader.read(np.arange(start, end)))
            return scoring.pack(scoring.banks(metrics, batches, keep))

        with contextlib.closing(reader):
            for block in shares.run(work):
                scoring.unpack(block, found)
    return folder, found if shares.here else None


def check_workdir(samples, settings, workdir):
    """Raise ValueError if a picture in the workdir would be one of the images the next time."""
    pictures = any(name.rpartition(':')[2] == 'authenticity' for name in settings.metrics)
    inside = files.path(settings.images) in (files.path(workdir), *files.path(workdir).parents)
    if pictures and inside and isinstance(samples, StoredImages):
        raise ValueError(
            f'--workdir ({workdir}) lies in the folder of images: authenticity writes a picture '
            'there, which would be taken for one of them. Give another workdir'
        )


def _table(row):
    """Return what is printed of a row: numbers with errors, and why one is missing."""
    values = {}
    for name, value in row['metrics'].items():
        if name != 'count':
            values[name] = value
            if name in row.get('intervals', {}):
                low, high = row['intervals'][name]
                values[f'{name}, 95 %'] = f'{low:.5g} … {high:.5g}'
    return {
        'images': row['samples']['path'],
        'count': row['images'],
        'features': row['features']['noun'],
        **values,
        **_nearest(row.get('nearest', {})),
        **{f'{name}: none, because': reason for name, reason in row['undefined'].items()},
        **{f'{name}: no error, because': why for name, why in row.get('no_error', {}).items()},
        **{f'{name}: fewer images than': least for name, least in row.get('fewer', {}).items()},
        'seconds': row['seconds'],
        'key': row['key'],
    }


def _nearest(found):
    """What is printed of samples that are like training images."""
    values = {}
    for name, facts in found.items():
        shown = {k: facts[k] for k in ('copies', 'picture', 'no_picture') if k in facts}
        if part := likeness.searched(facts):
            shown['searched'] = part
        values |= {f'{name}: {k.replace("_", " ")}': value for k, value in shown.items()}
    return values
