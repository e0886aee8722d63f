"""Every kind of path in a bucket, while the bucket fails in every way the proxy knows."""

import asyncio
import types
import zipfile

import jax
import numpy as np
import pytest
from faulty_bucket import Fault, _faulty_session, faults  # noqa: F401
from test_checkpoints import abstract, assert_same_bits, training_state
from test_data_archive import official
from test_export import contents, image_of, make_set, run
from test_snapshots import STDS, assert_trees_equal, write_run

from autoguide_jax import buckets, files, sample_sets, snapshots
from autoguide_jax.checkpoints import Checkpoints
from autoguide_jax.data import open_dataset
from autoguide_jax.snapshots import archive

KINDS = {
    '500': Fault('500', rate=0.4),
    '503': Fault('503', rate=0.4),
    'drop': Fault('drop', rate=0.4),
    'lost': Fault('lost', rate=0.4),
    'cut': Fault('cut', rate=0.4, ops=('read', 'stat', 'list')),
    'slow': Fault('slow', rate=0.5, seconds=0.05),
    'corrupt': Fault('corrupt', rate=0.4, ops=('write', 'part')),
    'hide': Fault('hide', seconds=3.0),
}


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """The same tries with a fiftieth of the waiting."""
    short = types.SimpleNamespace(sleep=lambda seconds: asyncio.sleep(seconds / 50))
    monkeypatch.setattr('gcsfs.retry.asyncio', short)
    monkeypatch.setattr(buckets, 'PAUSES', (0.02, 0.05, 0.1))


@pytest.fixture(params=KINDS)
def failing(request, faults, tmp_path):  # noqa: F811
    """A folder in a bucket that fails in one way, and how to make it stop."""
    fault = KINDS[request.param]
    faults.set(Fault(**vars(fault)))
    yield files.path('gs://bucket') / tmp_path.name
    # Snapshots are found by their index, which needs no listing.
    expected = request.param != 'hide' or 'snapshots' not in request.node.name
    assert faults.counts().get(request.param, 0) > 0 or not expected, 'the fault never happened'


def test_files(failing):
    for text in ('first', 'second'):
        files.write_text(failing / 'a' / 'b.txt', text)
        assert files.read_bytes(failing / 'a' / 'b.txt') == text.encode()
    for i in range(8):
        files.append_jsonl(failing / 'rows.jsonl', {'i': i})
        assert [row['i'] for row in files.read_jsonl(failing / 'rows.jsonl')] == list(range(i + 1))
    arrays = {'a': np.arange(100_000.0), 'b': np.ones(3, np.int8)}
    files.save_npz(failing / 'x.npz', arrays)
    with files.open_npz(failing / 'x.npz') as z:
        assert all(np.array_equal(z[name], array) for name, array in arrays.items())
    assert files.read_jsonl(failing / 'none.jsonl') == []
    assert set(files.names(failing)) <= {'a', 'rows.jsonl', 'x.npz'}


def test_snapshots(failing):
    kept = write_run(failing, n=2)
    assert [(s.nimg, s.std) for s in snapshots.list_snapshots(failing)] == sorted(kept)
    for nimg, std in kept:
        [(leaves, _)] = snapshots.posthoc.read_many(failing, [(std, nimg)])
        assert_trees_equal(archive.unflatten(leaves)['params'], kept[nimg, std])
    assert len(STDS) == 2


@pytest.mark.parametrize('formats', [('png',), ('npz',)])
def test_sample_sets(failing, formats, tmp_path):
    seeds = range(995, 1010)
    for stop_after in (1, 1, 9):
        writer = sample_sets.create(failing, {'weight': 2.0}, seeds, formats)
        for block in np.array_split(writer.missing(), 3)[:stop_after]:
            if len(block):
                writer.write(block, block % 10, np.stack([image_of(s) for s in block.tolist()]))
    found = writer.finish()
    assert found.content_hash == make_set(tmp_path / 'local', seeds, formats).content_hash
    again = sample_sets.open_set(failing)
    assert again.content_hash == found.content_hash and again.num_images == 15
    images = np.concatenate([images for images, _ in again.batches(4)])
    assert np.array_equal(images, np.stack([image_of(seed) for seed in seeds]))


def test_export_and_back(failing, tmp_path):
    make_set(tmp_path / 'set')
    files.append_jsonl(tmp_path / 'set' / 'results.jsonl', {'frechet': 1.0})
    row = run(tmp_path / 'set', failing)
    # An upload whose answer was lost is found to be there when it is tried again.
    assert row['files'] == row['copied'] + row['already there'] == 24 and row['copied'] > 0
    again = run(tmp_path / 'set', failing)
    assert again['copied'] == 0 and again['sha256'] == row['sha256']
    assert files.read_json(failing / 'export.json')['complete']
    run(failing, tmp_path / 'back')
    there = contents(tmp_path / 'back')
    # The preview and other files are known from listings alone; the set itself is always whole.
    assert there.items() <= contents(tmp_path / 'set').items() and len(there) >= 22
    assert (
        sample_sets.open_set(tmp_path / 'back').content_hash
        == files.read_json(failing / 'manifest.json')['content_hash']
    )


# tensorstore waits for seconds before it tries again: fewer faults are enough. Listings that lag:
# see test_gcs_train.py.
@pytest.mark.parametrize('kind', [k for k in KINDS if k not in ('corrupt', 'hide')])
def test_checkpoints(kind, faults, tmp_path):  # noqa: F811
    folder = files.path('gs://bucket') / tmp_path.name
    faults.set(Fault(**vars(KINDS[kind]) | {'limit': 8}))
    states = {step: training_state(step) for step in (1, 2, 3)}
    for step, state in states.items():
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(step, state, {'nimg': step})
    with Checkpoints(folder) as checkpoints:
        restored, meta = checkpoints.restore(abstract(states[3]), 3)
        assert meta['nimg'] == 3
        assert_same_bits(jax.device_get(restored), jax.device_get(states[3]))
    assert faults.counts().get(kind)


@pytest.mark.parametrize('zipped', [False, True])
@pytest.mark.parametrize('kind', ['500', 'drop', 'cut', 'slow'])
def test_data_in_a_folder_and_a_zip(kind, zipped, faults, tmp_path):  # noqa: F811
    where = f'gs://bucket/{tmp_path.name}/set'
    for name, data in official().items():
        files.write_bytes(tmp_path / 'set' / name, data)
        files.write_bytes(f'{where}/{name}', data)
    with zipfile.ZipFile(tmp_path / 'set.zip', 'w') as zipfile_:
        for name, data in official().items():
            zipfile_.writestr(name, data)
    files.write_bytes(f'{where}.zip', (tmp_path / 'set.zip').read_bytes())
    faults.set(Fault(**vars(KINDS[kind])))
    far = open_dataset('folder', path=f'{where}.zip' if zipped else where)
    near = open_dataset('folder', path=str(tmp_path / 'set'))
    assert far.labels.tolist() == near.labels.tolist()
    np.testing.assert_array_equal(far.images(range(6)), near.images(range(6)))
    assert faults.counts().get(kind)


@pytest.mark.parametrize('kind', ['500', 'drop', 'cut', 'slow'])
def test_data_of_tfds(kind, faults, tmp_path):  # noqa: F811
    test_data_tfds = pytest.importorskip('test_data_tfds')
    test_data_tfds.make(tmp_path)
    where = f'gs://bucket/{tmp_path.name}'
    for name, data in contents(tmp_path).items():
        files.write_bytes(f'{where}/{name}', data)
    faults.set(Fault(**vars(KINDS[kind]) | {'limit': 12}))
    far, near = (test_data_tfds.opened(place) for place in (where, str(tmp_path)))
    np.testing.assert_array_equal(far.images(range(30)), near.images(range(30)))
    assert far.labels.tolist() == near.labels.tolist()
    assert faults.counts().get(kind)
