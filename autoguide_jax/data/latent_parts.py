"""Latents of a data set as a row of zips: how `encode` writes them and `data.latents` reads them.

FOLDER/manifest.json: what they are; FOLDER/part-NNNNN.zip: part_images of them each, stored without
compression; FOLDER/dataset.json: names and labels, which comes last and tells that all are there.
Unpacked in that folder the zips are the layout of EDM2: NNNNN/img-mean-std-NNNNNNNN.npy, float32
[2l, h, w], mean before std. All members of a set are equally long, so that the place of each
follows from its number and no zip has to be searched.
"""

import dataclasses
import functools
import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np

from autoguide_jax import files

FORMAT = 'autoguide_jax latents 1'
INDEX, MANIFEST = 'dataset.json', 'manifest.json'
AGAIN = 'the same `encode` command again, which makes what is missing'
HEADER = struct.Struct('<4s5H3L2H')


def member(row: int) -> str:
    """Return the name of sample number `row`."""
    return f'{row // 1000:05d}/img-mean-std-{row:08d}.npy'


def part_name(part: int) -> str:
    """Return the file name of a part."""
    return f'part-{part:05d}.zip'


def _npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array, '<f4'), allow_pickle=False)
    return file.getvalue()


def pack(first: int, moments: np.ndarray) -> bytes:
    """Return the zip of samples first, first + 1, … from float32 [n, 2l, h, w]."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for row, sample in enumerate(moments, first):
            # A fixed date, so that the file depends on its content alone.
            info = zipfile.ZipInfo(member(row), date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(info, _npy(sample))
    return buffer.getvalue()


def sample_bytes(manifest: dict) -> int:
    """Return the length of one member."""
    side, channels = manifest['resolution'], manifest['channels']
    return len(_npy(np.zeros((2 * channels, side, side))))


def least_bytes(manifest: dict, part: int) -> int:
    """Return the length of a part; of one so large that it is a zip64, a little less."""
    first = part * manifest['part_images']
    count = min(manifest['part_images'], manifest['images'] - first)
    # The directory has a line for each member, and an end.
    entry, end = 46 + len(member(first)), 22
    return count * (HEADER.size + len(member(first)) + sample_bytes(manifest) + entry) + end


@dataclasses.dataclass(frozen=True)
class PartStore:
    """The members of a finished set by name, as the stores of archive.py have them.

    Errors: ValueError for a set that is not finished, or damaged.
    """

    root: Any
    manifest: dict

    def __post_init__(self):
        if not (self.root / INDEX).exists():
            parts = len(files.names(self.root, '.zip'))
            raise ValueError(
                f'it is not finished: {parts} of {self.parts} parts are there, and no {INDEX}. Run '
                f'{AGAIN}'
            )

    @property
    def parts(self) -> int:
        return -(-self.manifest['images'] // self.manifest['part_images'])

    @property
    def local(self) -> bool:
        return not files.is_remote(self.root)

    @functools.cached_property
    def names(self) -> list[str]:
        """All names, sorted, the index among them."""
        return [*map(member, range(self.manifest['images'])), INDEX]

    @functools.cached_property
    def _size(self):
        return sample_bytes(self.manifest)

    def read(self, name: str, limit: int = -1) -> bytes:
        """Return the first limit bytes of a member, or all, which are checked then."""
        if name == INDEX:
            return files.read_bytes(self.root / INDEX)
        part, place = divmod(int(name[-12:-4]), self.manifest['part_images'])
        size = self._size if limit < 0 else min(limit, self._size)
        start = HEADER.size + len(name)
        try:
            with (self.root / part_name(part)).open('rb') as file:
                file.seek(place * (start + self._size))
                found = file.read(start + size)
        except FileNotFoundError:
            raise ValueError(
                f'{part_name(part)} is missing: copy the whole set, or run {AGAIN}'
            ) from None
        data = found[start:]
        whole = len(data) == size and found[:4] == b'PK\3\4'
        fix = f'Delete {part_name(part)} and run {AGAIN}'
        if not whole or found[HEADER.size : start] != name.encode():
            raise ValueError(
                f'{name} is damaged: {part_name(part)} is cut short or another file. {fix}'
            )
        if limit < 0 and zlib.crc32(data) != HEADER.unpack(found[: HEADER.size])[6]:
            raise ValueError(f'{name} is damaged: its checksum in {part_name(part)} differs. {fix}')
        return data

    def signature(self, names: list[str]) -> str:
        """Return a hash of what the set was made of."""
        known = {k: v for k, v in self.manifest.items() if k != 'provenance'}
        return files.content_hash(known)
