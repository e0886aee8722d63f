"""TFDS sets without TensorFlow: small real ones made here, and Fashion-MNIST from its files."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from image_sets import pixels
from PIL import Image

from autoguide_jax.data import batches, fashion_mnist, open_dataset

tfds = pytest.importorskip('tensorflow_datasets')
pytest.importorskip('array_record')

SHAPES = {
    'good': (8, 8, 3),
    'varying': (None, None, 3),
    'wide': (8, 12, 3),
    'alpha': (8, 8, 4),
}


def make(data_dir, kind='good'):
    """Prepare a TFDS set 'KIND_set' of 30 + 6 images; image i is pixels(i), its label i mod 5."""

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version('1.2.0')
        name = f'{kind}_set'
        pkg_dir_path = pathlib.Path(data_dir)

        def _info(self):
            features = {
                'image': tfds.features.Image(shape=SHAPES[kind]),
                'second': tfds.features.Image(shape=(None, None, 3)),
                'label': tfds.features.ClassLabel(num_classes=5),
                'number': np.int64,
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {'train': self._generate_examples(30), 'test': self._generate_examples(6)}

        def _generate_examples(self, count):
            h, w, c = (n or 8 for n in SHAPES[kind])
            for i in range(count):
                image = np.concatenate([pixels(i, channels=c)] * 2, axis=1)[:h, :w]
                image = Image.fromarray(image)
                yield (
                    i,
                    {'image': image, 'second': image.convert('RGB'), 'label': i % 5, 'number': i},
                )

    tfds.disable_progress_bar()
    Made(data_dir=data_dir, file_format='array_record').download_and_prepare()
    return str(data_dir)


def opened(data_dir, **settings):
    return open_dataset('tfds', **{'dataset': 'good_set', 'data_dir': data_dir, **settings})


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    return make(tmp_path_factory.mktemp('tfds'))


def test_images_and_labels_belong_together(data_dir):
    data = opened(data_dir)
    assert (data.name, data.num_images, data.resolution, data.channels) == ('good_set', 30, 8, 3)
    assert data.num_classes == 5 and data.labels.dtype == np.int32
    numbers = {pixels(i).tobytes(): i for i in range(30)}
    images, labels = data.examples(range(30))
    found = [numbers[image.tobytes()] for image in images]
    assert sorted(found) == list(range(30))
    assert labels.tolist() == data.labels.tolist() == [i % 5 for i in found]
    np.testing.assert_array_equal(data.images([7, 2, 7]), images[[7, 2, 7]])


def test_black_pixels_are_added_on_every_side(data_dir):
    plain, padded = opened(data_dir), opened(data_dir, pad=3)
    assert (padded.resolution, padded.channels) == (14, 3)
    images, labels = padded.examples(range(30))
    np.testing.assert_array_equal(images[:, 3:-3, 3:-3], plain.images(range(30)))
    np.testing.assert_array_equal(labels, plain.labels)
    images[:, 3:-3, 3:-3] = 0
    assert images.shape == (30, 14, 14, 3) and not images.any()
    assert padded.fingerprint != plain.fingerprint and padded.describe()['pad'] == 3
    with pytest.raises(ValueError, match=r'pad \(-1\) must be at least 0'):
        opened(data_dir, pad=-1)


@pytest.mark.parametrize('settings', [{}, {'cache_mib': 0}, {'max_images': 11}, {'labels': False}])
def test_any_way_of_reading_gives_the_same_stream(data_dir, settings):
    data, full = opened(data_dir, **settings), opened(data_dir)
    key = {image.tobytes(): label for image, label in zip(*full.examples(range(30)))}
    with batches(data, 0, 0, 8, workers=3) as left, batches(data, 0, 0, 8, workers=0) as right:
        for _ in range(8):
            a, b = next(left), next(right)
            np.testing.assert_array_equal(a['image'], b['image'])
            np.testing.assert_array_equal(a['label'], b['label'])
            expected = [key[image.tobytes()] for image in a['image']]
            assert a['label'].tolist() == (expected if data.labelled else [-1] * 8)


def test_splits_and_fingerprints(data_dir):
    sets = [opened(data_dir, split=s) for s in ('train', 'test', 'train[:20]', 'train[10:]')]
    assert [d.num_images for d in sets] == [30, 6, 20, 20]
    assert len({d.fingerprint for d in sets}) == 4
    assert opened(data_dir).fingerprint == sets[0].fingerprint
    assert sets[1].describe()['split'] == 'test' and sets[1].describe()['version'] == '1.2.0'
    assert data_dir not in json.dumps(sets[0].describe())


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            {'dataset': 'cifar10'},
            r"dataset \(cifar10\) is not prepared in .*tfds.builder\('cifar10'",
        ),
        ({'dataset': 'fashion_mnist'}, 'python -m autoguide_jax prepare fashion_mnist --source='),
        ({'dataset': 'good_set:9.9.9'}, 'is not prepared'),
        ({'split': 'valid'}, r'split \(valid\) cannot be read.*the splits are train, test'),
        ({'split': 'train[:'}, r'split \(train\[:\) cannot be read'),
        ({'image_key': 'images'}, r"image_key \(images\) is not a feature.*mean 'image'"),
        ({'image_key': 'number'}, r'image_key \(number\) is not a uint8 image'),
        ({'image_key': 'second'}, r'feature second has images of varying sizes \(None, None, 3\)'),
        ({'label_key': 'labels'}, "Did you mean 'label'.*data.labels=False"),
        ({'label_key': 'number'}, r'label_key \(number\) is not a class.*data.labels=False'),
        ({'max_images': 31}, r'max_images \(31\) must be in 0…30'),
    ],
)
def test_wrong_settings_are_refused_on_opening(data_dir, settings, message):
    with pytest.raises(ValueError, match=message):
        opened(data_dir, **settings)


def test_a_missing_label_key_does_not_matter_without_labels(data_dir):
    assert opened(data_dir, label_key='nowhere', labels=False).num_classes == 0


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        ('varying', r'varying sizes \(None, None, 3\)'),
        ('wide', r'is 12x8 \(width x height\); images must be square'),
        ('alpha', 'has 4 channels; images must be grey or RGB'),
    ],
)
def test_unfit_images_are_refused_on_opening(tmp_path, kind, message):
    make(tmp_path, kind)
    with pytest.raises(ValueError, match=message):
        opened(str(tmp_path), dataset=f'{kind}_set')


def test_a_format_without_random_access_is_refused(tmp_path):
    info = pathlib.Path(make(tmp_path)) / 'good_set' / '1.2.0' / 'dataset_info.json'
    info.write_text(info.read_text().replace('array_record', 'tfrecord'))
    with pytest.raises(ValueError, match="without random access.*file_format='array_record'"):
        opened(str(tmp_path))


def test_tensorflow_is_never_imported(data_dir):
    code = (
        'import sys\n'
        'from autoguide_jax.data import batches, open_dataset\n'
        f'd = open_dataset("tfds", dataset="good_set", data_dir={data_dir!r})\n'
        'with batches(d, 0, 0, 8) as b: next(b)\n'
        'd.labels, d.describe()\n'
        'assert not {"tensorflow", "torch"} & set(sys.modules)\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def original(name='train-labels-idx1-ubyte.gz'):
    """Return a gz file as upstream's are: with a name and the time of 1504176606 in its header."""
    file = io.BytesIO()
    with gzip.GzipFile(name.removesuffix('.gz'), 'wb', fileobj=file, mtime=1504176606) as member:
        member.write(bytes(range(100)))
    data = file.getvalue()
    return data[:9] + b'\x03' + data[10:]


def stripped(data):
    """Return a gz file as Debian has it: without name and time."""
    return data[:3] + b'\0' + bytes(4) + data[8:10] + data[data.index(b'\0', 10) + 1 :]


def test_restored_headers_give_the_original_bytes():
    name, data = 'train-labels-idx1-ubyte.gz', original()
    digest = hashlib.sha256(data).hexdigest()
    assert stripped(data) != data and gzip.decompress(stripped(data)) == bytes(range(100))
    assert fashion_mnist.restore(name, stripped(data), digest) == data
    assert fashion_mnist.restore(name, data, digest) == data
    for wrong in (data[:-1], stripped(data)[:-1], b''):
        with pytest.raises(ValueError, match=f'{name} is not the original file'):
            fashion_mnist.restore(name, wrong, digest)


def package(path, contents):
    """Write a Debian package with these files."""
    tar_file = io.BytesIO()
    with tarfile.open(fileobj=tar_file, mode='w:xz') as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(f'./usr/share/datasets/fashion-mnist/{name}')
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    members = {
        'debian-binary': b'2.0\n',
        'control.tar.xz': b'odd',
        'data.tar.xz': tar_file.getvalue(),
    }
    parts = [b'!<arch>\n']
    for name, data in members.items():
        parts.append(f'{name:<16}{0:<12}{0:<6}{0:<6}{"100644":<8}{len(data):<10}`\n'.encode())
        parts.append(data + b'\n' * (len(data) % 2))
    path.write_bytes(b''.join(parts))


def test_unfit_sources_are_refused(tmp_path):
    names = [f'{a}-{b}-ubyte.gz' for a in ('train', 't10k') for b in ('images-idx3', 'labels-idx1')]
    target, deb = tmp_path / 'data', tmp_path / 'dataset-fashion-mnist_1_all.deb'
    package(deb, dict.fromkeys(names[:-1], b'x'))
    (tmp_path / 'x.deb').write_bytes(b'!<arch>\n')
    (tmp_path / 'y.deb').write_bytes(b'hello')
    refused = {
        '': 'source is required',
        '/no/where': r'source \(/no/where\) does not exist.*apt-get download dataset-fashion-mnist',
        'x.deb': 'package without data',
        'y.deb': 'is not a Debian package',
        deb.name: 'has no t10k-labels-idx1-ubyte.gz',
        '.': 'has no t10k-labels-idx1-ubyte.gz',
    }
    for source, message in refused.items():
        with pytest.raises(ValueError, match=message):
            fashion_mnist.prepare(source and str(tmp_path / source), str(target))
    package(deb, dict.fromkeys(names, stripped(original())))
    with pytest.raises(ValueError, match='is not the original file'):
        fashion_mnist.prepare(str(deb), str(target))
    assert not list(target.rglob('*.array_record*'))


def test_fashion_mnist_from_its_files(tmp_path):
    """The whole way, in a process of its own: TFDS's order of images, and no TensorFlow."""
    source = os.environ.get('FASHION_MNIST_SOURCE', '/usr/share/datasets/fashion-mnist')
    if not pathlib.Path(source).exists():
        pytest.skip(
            f'no Fashion-MNIST in {source}: apt-get install dataset-fashion-mnist, or set '
            'FASHION_MNIST_SOURCE to the package, to its folder or to the four original files'
        )
    code = (
        'import json, sys\n'
        'from autoguide_jax.data import fashion_mnist, open_dataset\n'
        'made = fashion_mnist.prepare(*sys.argv[1:])\n'
        'd = open_dataset("tfds", dataset="fashion_mnist", data_dir=sys.argv[2], split="test")\n'
        't = open_dataset("tfds", dataset="fashion_mnist", data_dir=sys.argv[2])\n'
        'counts = [int((t.labels == k).sum()) for k in range(10)]\n'
        'heavy = [n for n in ("tensorflow", "torch") if n in sys.modules]\n'
        'sums = [int(x.images(range(x.num_images)).sum(dtype="int64")) for x in (t, d)]\n'
        'facts = dict(made=made, labels=t.labels[:10].tolist(), counts=counts, heavy=heavy)\n'
        'print("FACTS", json.dumps(dict(facts, sums=sums, n=[t.num_images, d.num_images])))\n'
    )
    command = [sys.executable, '-c', code, source, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    facts = json.loads(done.stdout.partition('FACTS')[2])
    assert facts['n'] == [60_000, 10_000] and facts['heavy'] == []
    assert facts['counts'] == [6000] * 10
    # TFDS shuffles by the key of each example, so these are the first labels on any machine.
    assert facts['labels'] == [2, 1, 8, 4, 1, 9, 2, 2, 0, 2]
    # Mean grey level of the published train images is 72.94.
    assert round(facts['sums'][0] / (60_000 * 784), 2) == 72.94
