"""Reading sample sets back, each image checked against what was written."""

import collections
import concurrent.futures
import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from autoguide_jax import files
from autoguide_jax.sample_sets import storage


class SampleSet:
    """A complete sample set: manifest, seeds int64 [n] ascending, labels int32 [n] or None.

    Labels are −1 for the images that have none, None if no image has one.
    """

    def __init__(self, folder, manifest: dict, records: storage.Records):
        self.folder, self.manifest = folder, manifest
        self.seeds = storage.unpack(manifest['seeds'])
        labels, self._digests = records.select(self.seeds)
        self.labels = labels if (labels >= 0).any() else None

    @property
    def num_images(self) -> int:
        return len(self.seeds)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c)."""
        return tuple(self.manifest['image_shape'])

    @property
    def content_hash(self) -> str:
        """12 hex digits of seeds, labels and pixels: the same for equal images in any format."""
        return self.manifest['content_hash']

    @property
    def file_names(self) -> list[str]:
        """Names of the files that make up the set, relative to its folder; without the preview."""
        formats = self.manifest['formats']
        pngs = [storage.png_name(seed) for seed in self.seeds.tolist() if 'png' in formats]
        return [storage.MANIFEST, storage.INDEX] + [storage.NPZ] * ('npz' in formats) + pngs

    def batches(
        self, batch_size: int, start: int = 0
    ) -> Iterator[tuple[UInt8[np.ndarray, 'b h w c'], Int[np.ndarray, ' b'] | None]]:
        """Yield (images, labels or None) in seed order, from image number start on.

        The last batch may be smaller.

        Errors: ValueError naming a file whose pixels are not those that were written.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size ({batch_size}) must be at least 1')
        npz = 'npz' in self.manifest['formats']
        read = self._npz_images if npz else self._png_images
        with contextlib.closing(read(start)) as images:
            for first in range(start, self.num_images, batch_size):
                block = list(itertools.islice(images, batch_size))
                for row, image in enumerate(block, first):
                    self._verify(row, image, npz)
                labels = None if self.labels is None else self.labels[first : first + len(block)]
                yield np.stack(block), labels

    def _npz_images(self, start):
        with storage.open_npz_images(self.folder / storage.NPZ) as (_, images):
            yield from itertools.islice(images, start, None)

    def _png_images(self, start):
        def read(seed):
            return storage.decode_png((self.folder / storage.png_name(seed)).read_bytes())

        pool = concurrent.futures.ThreadPoolExecutor(storage.THREADS, 'images')
        try:
            ahead = collections.deque()
            for seed in self.seeds[start:].tolist():
                ahead.append(pool.submit(read, seed))
                if len(ahead) > 4 * storage.THREADS:
                    yield ahead.popleft().result()
            for future in ahead:
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _verify(self, row, image, npz):
        same = image.shape == self.image_shape
        if not (same and np.array_equal(storage.digest(image), self._digests[row])):
            seed = int(self.seeds[row])
            file = self.folder / (storage.NPZ if npz else storage.png_name(seed))
            raise ValueError(
                f'{file}: the pixels of seed {seed} are not those that were written. Delete the '
                'file and run the command that makes the set again.'
            )


def is_set(folder: Any) -> bool:
    """True if a folder holds the manifest of a sample set, complete or not."""
    try:
        manifest = files.read_json(files.path(folder) / storage.MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return isinstance(manifest, dict) and {'seeds', 'formats', 'complete'} <= manifest.keys()


def open_set(folder: Any) -> SampleSet:
    """Return the complete sample set in a folder, local or gs://.

    Errors: FileNotFoundError; ValueError if the folder holds no sample set, or one with images
    missing: how many of how many are there.
    """
    folder = files.path(folder)
    if not is_set(folder):
        if not folder.exists():
            raise FileNotFoundError(f'{folder} does not exist; a sample set was expected there')
        raise ValueError(f'{folder} is not a sample set: it has no {storage.MANIFEST} of one')
    manifest = files.read_json(folder / storage.MANIFEST)
    records = storage.Records(folder)
    seeds = storage.unpack(manifest['seeds'])
    done = len(storage.present(folder, manifest, records))
    if done < len(seeds) or not manifest['complete']:
        raise ValueError(
            f'{folder} is incomplete: {done} of {len(seeds)} images are there. Run the command '
            'that makes it again; it goes on where it stopped.'
        )
    return SampleSet(folder, manifest, records)
