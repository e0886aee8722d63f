"""Reading for training: each process its part, from a disk or a bucket, and how long steps wait."""

import dataclasses
import json
import time

import numpy as np
import pytest
from bucket import bucket  # noqa: F401
from image_sets import pixels
from PIL import Image
from tiny import one_conv  # noqa: F401
from together import together

from autoguide_jax import config, data, files, train
from autoguide_jax.bench import input as bench_input
from autoguide_jax.data import batches, open_dataset
from autoguide_jax.data.digits import Digits
from autoguide_jax.run_settings import Settings

BATCH, COUNT = 8, 4

# One host: reads its part of the batches, puts them on the devices, tells what it opened and has.
HOST = """
import threading
import numpy as np
from autoguide_jax import mesh
from autoguide_jax.data import archive, batches, open_dataset

kind, settings, batch, count = json.loads(sys.argv[4])
opened, read = [], archive.FolderStore.read


def noting(store, name, limit=-1):
    if threading.current_thread().name.startswith('data'):
        opened.append(name)
    return read(store, name, limit)


archive.FolderStore.read = noting
devices = mesh.make(batch)
found, own = [], mesh.rows(devices, batch)
dataset = open_dataset(kind, **settings)
with batches(dataset, 5, 0, batch, own, workers=2, prefetch=2) as stream:
    for _ in range(count):
        image, label = mesh.put_batch(devices, (lambda b: (b['image'], b['label']))(next(stream)))
        assert image.shape[0] == batch and len(image.addressable_shards) == 2
        parts = [(s.index[0].start, np.asarray(s.data)) for s in image.addressable_shards]
        found.append([[start, part.sum(dtype=np.int64).item()] for start, part in parts])
print('FOUND' + json.dumps({'opened': opened, 'found': found, 'own': own.tolist()}))
"""


def hosts(kind, **settings):
    """What each of two hosts opened, which rows were its own, and the sums of its parts."""
    ended = together(HOST, json.dumps([kind, settings, BATCH, COUNT]))
    for code, output, errors in ended:
        assert code == 0, f'{output}{errors}'
    return [json.loads(output.partition('FOUND')[2]) for _, output, _ in ended]


def check_parts(found, dataset):
    """The hosts' parts, by their place in the batch, are the batches of a single process."""
    assert sorted(found[0]['own'] + found[1]['own']) == list(range(BATCH))
    with batches(dataset, 5, 0, BATCH, workers=0) as stream:
        for i in range(COUNT):
            whole = next(stream)['image']
            parts = [part for host in found for part in host['found'][i]]
            assert sorted(start for start, _ in parts) == [0, 2, 4, 6]
            for start, total in parts:
                assert whole[start : start + 2].sum(dtype=np.int64) == total


def test_a_host_opens_only_the_images_of_its_rows(tmp_path):
    for i in range(64):
        (tmp_path / str(i % 3)).mkdir(exist_ok=True)
        Image.fromarray(pixels(i, channels=3)).save(tmp_path / str(i % 3) / f'{i:03}.png')
    found = hosts('folder', path=str(tmp_path))
    dataset = open_dataset('folder', path=str(tmp_path))
    check_parts(found, dataset)
    # Two batches are read ahead of the last one.
    order = data.indices(5, 0, BATCH * (COUNT + 2), dataset.num_images)
    names = np.array(dataset._names)[order].reshape(-1, BATCH)
    for host in found:
        assert set(host['opened']) <= set(names[:, host['own']].ravel())
        assert set(host['opened']) >= set(names[:COUNT, host['own']].ravel())
    assert not set(found[0]['opened']) & set(found[1]['opened'])


def test_two_hosts_read_tfds_from_a_bucket(bucket, tmp_path):  # noqa: F811
    pytest.importorskip('array_record')
    from test_data_tfds import make, opened

    make(tmp_path)
    for path in tmp_path.rglob('*'):
        if path.is_file():
            remote = f'{bucket}/{tmp_path.name}/{path.relative_to(tmp_path)}'
            files.write_bytes(remote, path.read_bytes())
    remote = opened(f'{bucket}/{tmp_path.name}')
    local = opened(str(tmp_path))
    assert remote.fingerprint == local.fingerprint
    np.testing.assert_array_equal(remote.images(range(30)), local.images(range(30)))
    found = hosts('tfds', dataset='good_set', data_dir=f'{bucket}/{tmp_path.name}')
    check_parts(found, local)


PAUSE = 0.05


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Slow(Digits):
    """Digits that take their time."""

    def _read(self, rows):
        time.sleep(PAUSE)
        return super()._read(rows)


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setitem(data.table.table, 'slow', 'test_input:Slow')


LENGTHS = ('total_nimg', 'snapshot_nimg', 'checkpoint_nimg', 'log_nimg')
RUN = {
    'network': {'name': 'one_conv'},
    'train': {'batch_size': 8, **dict.fromkeys(LENGTHS, 32)},
    'read': {'threads': 0},
}


def test_bench_tells_how_long_a_step_waits(slow, one_conv):  # noqa: F811
    run = RUN | {'data': {'name': 'slow'}, 'read': {'threads': 0, 'ahead': 1}}
    tree = {'run': run, 'threads': [0, 2], 'steps': 4}
    settings = config.parse(bench_input.Settings, tree | {'batches': 4})
    none, two, alone, fed = bench_input.main(settings)
    assert [row['what'] for row in (none, two)] == ['reading, 0 threads', 'reading, 2 threads']
    # A pause for every batch of 8, and 64 bytes in an image.
    assert 0 < none['images_per_second'] <= 8 / PAUSE
    assert none['mb_per_second'] == pytest.approx(64e-6 * none['images_per_second'], abs=0.01)
    assert alone['wait_ms_per_step'] == 0 and alone['wait_share'] == 0
    assert fed['wait_ms_per_step'] >= 1e3 * PAUSE and 0 < fed['wait_share'] < 1
    need = alone['images_per_second']
    assert none['times_needed'] == pytest.approx(none['images_per_second'] / need, abs=0.01)


def test_training_logs_how_long_its_steps_waited(slow, one_conv, tmp_path):  # noqa: F811
    tree = RUN | {'data': {'name': 'slow'}}
    train.main(config.parse(Settings, tree), tmp_path)
    (row,) = files.read_jsonl(tmp_path / 'metrics.jsonl')
    assert 4 * PAUSE <= row['data_seconds'] <= row['seconds']
    # Threads are of no influence on the result, so a run may go on with others.
    changed = tree | {'read': {'threads': 2, 'ahead': 1}}
    changed['train'] = tree['train'] | {'total_nimg': 64}
    train.main(config.parse(Settings, changed), tmp_path)
    assert len(files.read_jsonl(tmp_path / 'metrics.jsonl')) == 2


@pytest.mark.parametrize(
    ('cls', 'tree', 'message'),
    [
        (Settings, {'read': {'threads': -1}}, r'threads \(-1\)'),
        (Settings, {'read': {'ahead': 0}}, r'ahead \(0\)'),
        (bench_input.Settings, {'batches': 9}, r'batches \(9\) must be ≥ 10'),
        (bench_input.Settings, {'run': {'seeds': [1, 2]}}, r'run.seeds \(\(1, 2\)\)'),
    ],
)
def test_settings_that_cannot_act_are_refused(cls, tree, message):
    with pytest.raises(ValueError, match=message):
        config.parse(cls, tree)
