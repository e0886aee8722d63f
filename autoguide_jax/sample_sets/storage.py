"""How a sample set lies on disk: PNG and npz files, and the records of what is there."""

import concurrent.futures
import contextlib
import hashlib
import io
import itertools
import math
import time
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from autoguide_jax import files, npy

FORMATS = ('png', 'npz')
MANIFEST, INDEX, NPZ, GRID, PARTS = (
    'manifest.json',
    'labels.npz',
    'samples.npz',
    'grid.png',
    'parts',
)
THREADS = 16
GRID_SIDE = 8
GRID_CELL_PIXELS = 32
# Seconds between looks at a bucket whose listing lacks parts that were written.
LISTING_PAUSES = (1, 4, 15, 40)


def encode_png(image: UInt8[np.ndarray, 'h w c']) -> bytes:
    """Return an image with 1 or 3 channels as PNG; equal pixels give equal bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, 'png')
    return buffer.getvalue()


def decode_png(data: bytes) -> UInt8[np.ndarray, 'h w c']:
    """Return the pixels of a grey or RGB PNG. Errors: OSError if it is none."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def png_name(seed: int) -> str:
    """Return where a sample set keeps the PNG of a seed."""
    return f'images/{seed // 1000:06d}/{seed:09d}.png'


def pack(seeds) -> list[list[int]]:
    """Return ascending seeds as [[first, count], …], as manifests hold them."""
    seeds = np.asarray(seeds, np.int64)
    runs = np.split(seeds, np.flatnonzero(np.diff(seeds) != 1) + 1)
    return [[int(run[0]), len(run)] for run in runs if len(run)]


def unpack(ranges) -> Int[np.ndarray, ' n']:
    """Return the seeds of [[first, count], …]."""
    runs = [np.arange(first, first + count) for first, count in ranges]
    return np.concatenate([np.zeros(0, np.int64), *runs])


def digest(image) -> UInt8[np.ndarray, ' 32']:
    """Return the sha256 of an image's pixels."""
    return np.frombuffer(hashlib.sha256(np.ascontiguousarray(image)).digest(), np.uint8)


def parallel(fn, items: Iterable) -> list:
    """Return [fn(item) for item in items], in threads: encoding and files release the lock."""
    with concurrent.futures.ThreadPoolExecutor(THREADS, 'images') as pool:
        return list(pool.map(fn, items))


@contextlib.contextmanager
def _naming(p):
    """Name the file in the errors of a damaged npz."""
    try:
        yield
    except (*files.BROKEN, ValueError) as error:
        raise ValueError(f'{p} is damaged: {error}') from error


@contextlib.contextmanager
def open_npz_images(p: Any, name: str = 'arr_0') -> Iterator[tuple[tuple, Iterator[np.ndarray]]]:
    """Yield (shape [n, h, w, c], iterator over single images) of one array of an npz, streamed.

    Errors: ValueError if it is not a C-ordered uint8 array of four axes, or is cut short.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(files.path(p).open('rb'))
        with _naming(p):
            archive = stack.enter_context(zipfile.ZipFile(file))
            stream = stack.enter_context(archive.open(f'{name}.npy'))
            shape, fortran, dtype = npy.header(stream)
        if dtype != np.uint8 or len(shape) != 4 or fortran:
            raise ValueError(f'{p}: {name} is {dtype} {shape}; images are uint8 [n, h, w, c]')

        def images():
            size = math.prod(shape[1:])
            for _ in range(shape[0]):
                with _naming(p):
                    data = stream.read(size)
                if len(data) < size:
                    raise ValueError(f'{p}: {name} is cut short')
                yield np.frombuffer(data, np.uint8).reshape(shape[1:])

        yield shape, images()


def save_npz_images(p: Any, seeds, labels, shape: tuple, images: Iterable[np.ndarray]) -> None:
    """Write arr_0, arr_1 (if any image has a label) and seeds, image by image, atomically.

    Sets larger than memory are possible, and equal sets give equal bytes. shape: (h, w, c).
    """
    header = {'descr': '|u1', 'fortran_order': False, 'shape': (len(seeds), *map(int, shape))}
    arrays = {'arr_0': None, 'arr_1': labels, 'seeds': seeds}
    if not (labels >= 0).any():
        del arrays['arr_1']
    with files.writing(p) as file, zipfile.ZipFile(file, 'w', allowZip64=True) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f'{name}.npy', date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(member, 'w', force_zip64=True) as stream:
                if array is not None:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
                    continue
                np.lib.format.write_array_header_1_0(stream, header)
                for image in images:
                    stream.write(image.tobytes())


class Records:
    """Seeds (ascending), labels and pixel digests of a set that are recorded on disk.

    own: names of parts that this process wrote itself: they are there even if a listing that lags
    does not know them yet, and of a seed that was written twice they count.
    """

    def __init__(self, folder, own: Iterable[str] = ()):
        own = sorted(own)
        others = [name for name in files.names(folder / PARTS, '.npz') if name not in own]
        self.parts = [folder / PARTS / name for name in others + own]
        index = folder / INDEX
        empty = np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, 32), np.uint8)
        tables = parallel(self._read, [index] * index.exists() + self.parts)
        seeds, labels, digests = (np.concatenate(column) for column in zip(empty, *tables))
        # Of a seed that was written twice the later part counts.
        self.seeds, last = np.unique(seeds[::-1], return_index=True)
        self.labels, self.digests = labels[::-1][last], digests[::-1][last]

    @staticmethod
    def _read(file):
        with files.open_npz(file) as z:
            return z['seeds'], z['labels'], z['digests']

    def lacks(self, seeds) -> Int[np.ndarray, ' n']:
        """Return those of some seeds that are not recorded, ascending."""
        return np.setdiff1d(seeds, self.seeds)

    def select(self, seeds):
        """Return (labels, digests) of seeds, all of which must be recorded."""
        rows = np.searchsorted(self.seeds, seeds)
        return self.labels[rows], self.digests[rows]


def settled_records(folder, own: Iterable[str], seeds) -> Records:
    """Return the records once they cover some seeds that are known to be written.

    In a bucket the parts of other processes may take a while to be listed.
    Errors: ValueError if they never are.
    """
    for pause in LISTING_PAUSES if files.is_remote(folder) else ():
        records = Records(folder, own)
        if not len(records.lacks(seeds)):
            return records
        time.sleep(pause)
    records = Records(folder, own)
    if len(lacking := records.lacks(seeds)):
        raise ValueError(
            f'{folder / PARTS} lacks the records of {len(lacking)} of {len(seeds)} images, the '
            f'first is that of seed {lacking[0]}. Run the same command again; it makes them anew.'
        )
    return records


def read_array(file, name: str) -> np.ndarray:
    """Return one array of an npz."""
    with files.open_npz(file) as z:
        return z[name]


def present(folder, manifest: dict, records: Records) -> Int[np.ndarray, ' n']:
    """Return the seeds, ascending, that are recorded and whose image is there in every format."""
    seeds = np.intersect1d(unpack(manifest['seeds']), records.seeds)
    if 'png' in manifest['formats']:
        tops = [folder / 'images' / f'{k:06d}' for k in np.unique(seeds // 1000)]
        found = itertools.chain(*parallel(lambda top: files.names(top, '.png'), tops))
        stems = [int(name[:-4]) for name in found if name[:-4].isdigit()]
        listed = np.intersect1d(seeds, np.array(stems, np.int64))
        if files.is_remote(folder):
            # A listing may lag; what it lacks is looked at one by one.
            unlisted = np.setdiff1d(seeds, listed).tolist()
            there = parallel(lambda seed: (folder / png_name(seed)).exists(), unlisted)
            listed = np.union1d(listed, [s for s, known in zip(unlisted, there) if known])
        seeds = listed.astype(np.int64)
    if 'npz' in manifest['formats']:
        held = [p for p in (*records.parts, folder / NPZ) if p.exists()]
        tables = parallel(lambda p: read_array(p, 'seeds'), held)
        seeds = np.intersect1d(seeds, np.concatenate([np.zeros(0, np.int64), *tables]))
    return seeds


def make_grid(images: UInt8[np.ndarray, 'n h w c']) -> UInt8[np.ndarray, 'H W c']:
    """Return up to 64 images as one picture, small ones enlarged by a whole factor."""
    n, h, w, c = images.shape
    columns = min(GRID_SIDE, math.ceil(math.sqrt(n)))
    rows = math.ceil(n / columns)
    cells = np.zeros((rows * columns, h, w, c), np.uint8)
    cells[:n] = images
    zoom = max(1, math.ceil(GRID_CELL_PIXELS / max(h, w)))
    cells = np.pad(cells.repeat(zoom, 1).repeat(zoom, 2), ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w = cells.shape[1:3]
    tiled = cells.reshape(rows, columns, h, w, c).swapaxes(1, 2)
    return tiled.reshape(rows * h, columns * w, c)
