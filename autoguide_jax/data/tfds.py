"""Any image set of TensorFlow Datasets that is prepared on disk, read without TensorFlow."""

import dataclasses
import functools
import hashlib

import numpy as np

from autoguide_jax import files
from autoguide_jax.data.dataset import DecodedSet
from autoguide_jax.registry import suggest

# Read this many at a time where the whole set is gone through.
CHUNK = 4096


def _tfds():
    # Half a second to import, and an optional requirement of those who never use it.
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ValueError(
            f"data set 'tfds' needs the package tensorflow-datasets ({error}); "
            'pip install tensorflow-datasets array_record importlib_resources'
        ) from None
    return tensorflow_datasets


def prepare_command(dataset: str, data_dir: str) -> str:
    """Return the shell command that prepares a TFDS set for random access."""
    if dataset.partition(':')[0] == 'fashion_mnist':
        place = f' --data_dir={data_dir}' if data_dir else ''
        return f'python -m autoguide_jax prepare fashion_mnist --source=DIR{place}'
    place = f", data_dir='{data_dir}'" if data_dir else ''
    return (
        f"python -c \"import tensorflow_datasets as tfds; tfds.builder('{dataset}'{place}, "
        "file_format='array_record').download_and_prepare()\" (most sets need TensorFlow for "
        'this once, on any machine)'
    )


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Tfds(DecodedSet):
    """A TFDS set with square images of one size, uint8, grey or RGB.

    It must lie on disk in a format of random access (array_record). Nothing is downloaded. Reading
    `labels` goes through all records once; examples() and the loader do not need that.

    Settings:
      dataset: TFDS name, such as fashion_mnist, name/config or name:version
      split: TFDS split, such as train, test or train[:90%]
      data_dir: where it is prepared, also gs://… (empty = $TFDS_DATA_DIR or ~/tensorflow_datasets)
      image_key: the feature that holds the image
      label_key: the feature that holds the class
      pad: black pixels added on every side, so that a U-Net can halve the resolution more often
    """

    dataset: str
    split: str = 'train'
    data_dir: str = ''
    image_key: str = 'image'
    label_key: str = 'label'
    pad: int = 0

    def __post_init__(self):
        if self.pad < 0:
            raise ValueError(f'pad ({self.pad}) must be at least 0')
        self._check_image()
        self._check_label()
        super().__post_init__()

    @functools.cached_property
    def _builder(self):
        tfds = _tfds()
        from tensorflow_datasets.core import read_only_builder

        try:
            # Not tfds.builder or tfds.data_source: these start a download of what is not there.
            return read_only_builder.builder_from_files(
                self.dataset, data_dir=str(files.path(self.data_dir)) if self.data_dir else None
            )
        except tfds.core.DatasetNotFoundError:
            where = self.data_dir or tfds.core.constants.DATA_DIR
            raise ValueError(
                f'dataset ({self.dataset}) is not prepared in {where}. Prepare it with: '
                f'{prepare_command(self.dataset, self.data_dir)}'
            ) from None

    def _open(self, decode_image):
        tfds = _tfds()
        skip = tfds.decode.SkipDecoding()
        features = self._builder.info.features
        decoders = {
            key: skip
            for key, feature in features.items()
            if isinstance(feature, tfds.features.Image)
            and not (decode_image and key == self.image_key)
        }
        try:
            return self._builder.as_data_source(self.split, decoders=decoders or None)
        except NotImplementedError:
            raise ValueError(
                f'dataset ({self.dataset}) is prepared in a format without random access. Prepare '
                'it again in another data_dir with: '
                f'{prepare_command(self.dataset, "NEW_DATA_DIR")}'
            ) from None
        except ValueError as error:
            names = ', '.join(self._builder.info.splits)
            reason = str(error).splitlines()[0]
            raise ValueError(
                f'split ({self.split}) cannot be read: {reason}; the splits are {names}'
            ) from None

    @functools.cached_property
    def _source(self):
        return self._open(decode_image=True)

    def _feature(self, setting):
        features, key = self._builder.info.features, getattr(self, setting)
        if key not in features:
            raise ValueError(
                f'{setting} ({key}) is not a feature of {self.dataset}.{suggest(key, features)}'
            )
        return features[key]

    def _check_image(self):
        feature = self._feature('image_key')
        where = f'dataset ({self.dataset}): feature {self.image_key}'
        shape = feature.shape
        if not isinstance(feature, _tfds().features.Image) or feature.np_dtype != np.uint8:
            raise ValueError(f'image_key ({self.image_key}) is not a uint8 image but {feature}')
        if None in shape[:2]:
            raise ValueError(
                f'{where} has images of varying sizes {shape}; resize them into a folder or zip '
                "and use the data set 'folder'"
            )
        if shape[0] != shape[1]:
            raise ValueError(
                f'{where} is {shape[1]}x{shape[0]} (width x height); images must be square: crop '
                "them into a folder or zip and use the data set 'folder'"
            )
        if shape[2] not in (1, 3):
            raise ValueError(f'{where} has {shape[2]} channels; images must be grey or RGB')

    def _check_label(self):
        if not self.labelled:
            return
        try:
            feature = self._feature('label_key')
        except ValueError as error:
            raise ValueError(f'{error} Or set data.labels=False.') from None
        if not isinstance(feature, _tfds().features.ClassLabel) or not feature.num_classes:
            raise ValueError(
                f'label_key ({self.label_key}) is not a class but {feature}; give another '
                'label_key or set data.labels=False'
            )

    @property
    def name(self) -> str:
        return self.dataset

    @property
    def resolution(self) -> int:
        return self._builder.info.features[self.image_key].shape[0] + 2 * self.pad

    @property
    def channels(self) -> int:
        return self._builder.info.features[self.image_key].shape[2]

    def _total(self):
        if not len(self._source):
            raise ValueError(f'split ({self.split}) of {self.dataset} is empty')
        return len(self._source)

    def _total_classes(self):
        return self._builder.info.features[self.label_key].num_classes

    def _total_labels(self):
        source, total = self._open(decode_image=False), self._total()
        chunks = (range(i, min(i + CHUNK, total)) for i in range(0, total, CHUNK))
        found = [r[self.label_key] for chunk in chunks for r in source.__getitems__(list(chunk))]
        return np.array(found, np.int32)

    def _read(self, rows):
        records = self._source.__getitems__([int(row) for row in rows])
        side = self.resolution - 2 * self.pad
        shape = (len(records), side, side, self.channels)
        images = np.array([r[self.image_key] for r in records], np.uint8).reshape(shape)
        images = np.pad(images, ((0, 0), (self.pad,) * 2, (self.pad,) * 2, (0, 0)))
        if not self.labelled:
            return images, np.full(len(records), -1, np.int32)
        return images, np.array([r[self.label_key] for r in records], np.int32)

    def _identity(self):
        info = self._builder.info
        splits = [[s.name, list(s.shard_lengths), int(s.num_bytes)] for s in info.splits.values()]
        keys = [self.image_key, self.label_key if self.labelled else None]
        content = hashlib.sha256(self._sample()).hexdigest()
        padded = [self.pad] if self.pad else []
        return [info.full_name, self.split, splits, keys, content, *padded]

    def describe(self) -> dict:
        padded = {'pad': self.pad} if self.pad else {}
        version = str(self._builder.version)
        return {**super().describe(), 'split': self.split, 'version': version, **padded}
