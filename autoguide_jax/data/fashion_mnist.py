"""Make TFDS's own fashion_mnist from local files, without network and without TensorFlow.

The files: the four *.gz of the original distribution, or Debian's package dataset-fashion-mnist,
which holds the same data. Debian strips the name and the time from the gzip headers; put back, the
files have upstream's SHA-256 again, and nothing else is accepted. Fashion-MNIST: arXiv 1708.07747.
"""

import gzip
import hashlib
import io
import lzma
import pathlib
import struct
import sys
import tarfile
import time

import numpy as np

from autoguide_jax import files

PARTS = {'train': ('train', 60_000), 'test': ('t10k', 10_000)}
# Upstream's gzip headers carry when each archive was made.
MTIME = {'train': 1504176606, 't10k': 1504176627}
FETCH = 'apt-get download dataset-fashion-mnist'


def _file_names():
    kinds = 'images-idx3', 'labels-idx1'
    return [f'{part}-{kind}-ubyte.gz' for part, _ in PARTS.values() for kind in kinds]


def _deb_members(path):
    """Return base name → bytes of the data files in a Debian package (an ar of tar archives)."""
    package = path.read_bytes()
    if package[:8] != b'!<arch>\n':
        raise ValueError(f'source ({path}) is not a Debian package')
    at = 8
    while at + 60 <= len(package):
        name, size = package[at : at + 16].decode().strip(' /'), int(package[at + 48 : at + 58])
        content, at = package[at + 60 : at + 60 + size], at + 60 + size + size % 2
        if not name.startswith('data.tar'):
            continue
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                wanted = [m for m in tar if pathlib.PurePosixPath(m.name).name in _file_names()]
                return {
                    pathlib.PurePosixPath(m.name).name: tar.extractfile(m).read() for m in wanted
                }
        except (tarfile.TarError, lzma.LZMAError) as error:
            raise ValueError(
                f'source ({path}): cannot unpack {name} ({error}); unpack it with dpkg-deb -x and '
                'give the folder'
            ) from None
    raise ValueError(f'source ({path}) is a Debian package without data')


def _collect(source):
    """Return file name → bytes of the four files, wherever they lie below source."""
    if not source:
        raise ValueError(f'source is required: the folder with the files. Get them with: {FETCH}')
    source = pathlib.Path(source).expanduser()
    if not source.exists():
        raise ValueError(f'source ({source}) does not exist. Get the files with: {FETCH}')
    if source.is_file():
        found = _deb_members(source)
    else:
        found = {p.name: p.read_bytes() for p in source.rglob('*.gz') if p.name in _file_names()}
        packages = sorted(source.glob('dataset-fashion-mnist_*.deb'))
        if not found and packages:
            found = _deb_members(packages[-1])
    if missing := [name for name in _file_names() if name not in found]:
        raise ValueError(
            f'source ({source}) has no {", ".join(missing)}. Get the files with: {FETCH}'
        )
    return found


def restore(name: str, data: bytes, sha256: str) -> bytes:
    """Return upstream's bytes of a gz file that may have lost the name and time in its header.

    Errors: ValueError if the bytes do not have the given SHA-256 either way.
    """
    if hashlib.sha256(data).hexdigest() == sha256:
        return data
    stamp = struct.pack('<I', MTIME[name.split('-')[0]])
    base = name.removesuffix('.gz').encode() + b'\0'
    restored = data[:3] + b'\x08' + stamp + data[8:10] + base + data[10:]
    found = hashlib.sha256(restored).hexdigest()
    if data[:4] != b'\x1f\x8b\x08\x00' or found != sha256:
        raise ValueError(f'source: {name} is not the original file (SHA-256 must be {sha256})')
    return restored


def _arrays(source, checksums):
    """Return split → (images uint8 [n,28,28], labels [n]), checksums verified."""
    found, arrays = _collect(source), {}
    for split, (part, count) in PARTS.items():
        names = [name for name in _file_names() if name.startswith(part)]
        images, labels = (
            gzip.decompress(restore(name, found[name], checksums[name])) for name in names
        )
        arrays[split] = (
            np.frombuffer(images, np.uint8, offset=16).reshape(count, 28, 28),
            np.frombuffer(labels, np.uint8, offset=8),
        )
    return arrays


def _builder(data_dir):
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.image_classification import mnist

    class FashionMnist(mnist.FashionMNIST, skip_registration=True):
        """TFDS's builder (name, version, features); only where the bytes come from is ours."""

        name = 'fashion_mnist'
        url_infos = mnist.FashionMNIST.url_infos

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(*pair) for split, pair in self.arrays.items()}

        def _generate_examples(self, images, labels):
            for i, (image, label) in enumerate(zip(images, labels)):
                # TFDS writes a Pillow image as PNG by itself; an array would need TensorFlow.
                yield i, {'image': Image.fromarray(image), 'label': int(label)}

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    return FashionMnist(data_dir=data_dir, file_format='array_record')


def prepare(source: str, data_dir: str = '') -> dict:
    """Prepare fashion_mnist for the data set 'tfds' and return what is there and where.

    source: the Debian package, a folder with it, its unpacked folder, or a folder with the four
    original gz files. data_dir: empty = TFDS's default. Errors: ValueError if files are missing
    or not the original ones. A set that is there already is left as it is.
    """
    start = time.monotonic()
    builder = _builder(str(files.path(data_dir)) if data_dir else None)
    if not builder.is_prepared():
        checksums = {info.filename: info.checksum for info in builder.url_infos.values()}
        builder.arrays = _arrays(source, checksums)
        builder.download_and_prepare()
    counts = {split: builder.info.splits[split].num_examples for split in PARTS}
    seconds = round(time.monotonic() - start, 1)
    return {'dataset': builder.name, 'folder': str(builder.data_path), **counts, 'seconds': seconds}
