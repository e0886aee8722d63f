"""Reference statistics of real images, for `evaluate --reference`: the verb `stats`.

    python -m autoguide_jax stats --config.data.name=folder --config.data.path=images.zip \\
        --config.features.name=inception --config.features.weights=WEIGHTS.pth --target=ref.npz
    python -m autoguide_jax stats --images=FOLDER --config.features.… --target=gs://bucket/ref.npz

Images are read once for all features. All processes and devices share them in blocks, which are
kept beside the target until it is written: the same command goes on where it was interrupted.
"""

import dataclasses
from dataclasses import dataclass

from autoguide_jax import config, files, foreign_images, processes
from autoguide_jax.evaluator import check_images, open_features
from autoguide_jax.metrics import building
from autoguide_jax.metrics import reference as references

ROOM = 'autoguide_jax.metrics.features:table'
# Settings of features that change no number, or say where something lies on one machine.
LOCAL = ('weights', 'batch_size')


@dataclass(frozen=True)
class Settings:
    """Of which images, in which features, to where.

    Settings:
      target: the file to write, NAME.npz; with `also` a folder, which gets one for each features
      data: the real images, a data set; or none, and images
      images: folder, zip or npz of images, or a sample set, in place of data
      features: the network in whose features the statistics are
      also: further networks by a name of your own, asked in the same pass; FOLDER/NAME.npz
      count: how many of the images, a fixed random subset; none = all
      num_features: how many are kept one by one, for precision, recall and their kin
      cache_dir: where a classifier that is trained is kept; empty = nowhere
    """

    target: str
    features: config.Part = config.part(ROOM)
    data: config.Part | None = config.part('autoguide_jax.data:table', name=None)
    images: str = ''
    also: dict[str, config.Part] = config.parts(ROOM)
    count: int | None = None
    num_features: int = building.NUM_FEATURES
    cache_dir: str = ''

    def __post_init__(self):
        if (self.data is None) == (not self.images):
            raise ValueError('data: give either data, or images')
        if self.also and self.target.endswith('.npz'):
            raise ValueError(f'target ({self.target}) must be a folder where there is also')
        if not self.also and not self.target.endswith('.npz'):
            raise ValueError(f'target ({self.target}) must end with .npz')
        if self.features.name in self.also:
            raise ValueError(f'also.{self.features.name}: features has that name; take another')

    @property
    def parts(self) -> dict:
        """File → features."""
        if not self.also:
            return {files.path(self.target): self.features}
        parts = {self.features.name: self.features, **self.also}
        return {files.path(self.target) / f'{name}.npz': part for name, part in parts.items()}


def main(settings, workdir=None):
    """Write the statistics to settings.target, unless they are there; return a row for each file.

    Errors: ValueError for counts out of range, and a file that is there and is of something else,
    before anything is computed. Raises stop.Stopped; finished blocks are kept.
    """
    dataset = None if settings.data is None else config.build(settings.data)
    check_images(dataset)
    source = dataset
    if dataset is None:
        source = foreign_images.RealImages(foreign_images.open_samples(settings.images))
    processes.find_devices()
    with processes.main_first('opening features'):
        extractors = {
            p: open_features(part, dataset, settings.cache_dir or None)
            for p, part in settings.parts.items()
        }
    todo = [str(p) for p, e in extractors.items() if not _is_there(p, source, e, settings)]
    # The first process decides: in a bucket another may not see a new file yet.
    if todo := processes.gather(todo)[0]:
        _write(extractors, todo, source, settings)
    return [_row(p, references.load(p)) for p in extractors]


def _is_there(p, source, extractor, settings):
    if not p.exists():
        return False
    try:
        found = references.load(p, source, extractor, settings.count, settings.num_features)
        if found.warning:
            raise ValueError(found.warning)
    except ValueError as error:
        raise ValueError(
            f'target ({p}) is there, of something else: {error} Delete it, or name another one.'
        ) from error
    return True


def _write(extractors, todo, source, settings):
    """Write the files that are missing. Blocks are of all features, whichever are missing."""
    limits = settings.count, settings.num_features
    what = [building.identity(source, e, *limits) for e in extractors.values()]
    folder = files.path(f'{settings.target.rstrip("/")}.blocks-{files.content_hash(what)}')
    found = building.build_all(source, list(extractors.values()), *limits, folder, together=True)
    for p, reference in zip(extractors, found):
        if str(p) in todo:
            part = config.to_dict(settings.parts[p])
            features = {k: v for k, v in part.items() if k not in LOCAL}
            header = {**reference.header, 'features': features}
            references.save(dataclasses.replace(reference, header=header), p)
    building.finish(folder, together=True)


def _row(p, reference):
    """What is printed of a file: its identity."""
    header, shape = reference.header, reference.image_shape or ()
    return {
        'file': str(p),
        'data': header['data'].get('name', ''),
        'fingerprint': header['data_fingerprint'],
        'images': '×'.join(map(str, shape)),
        'count': header['count'],
        'kept': len(reference.features),
        'features': header['extractor'],
        'transform': header['transform'],
        'weights': header['weights_hash'],
        'content': header['content_hash'],
    }
