"""Image files read by many threads and processes, from a disk and from a bucket."""

import concurrent.futures
import multiprocessing
import pickle

import numpy as np
import pytest
from bucket import bucket  # noqa: F401  (a fixture)
from image_sets import official, pixels, store

from autoguide_jax import files
from autoguide_jax.data import batches, open_dataset, picture


def test_many_threads_read_one_zip(tmp_path):
    data = open_dataset('folder', path=store(tmp_path / 'set', official(40), True), cache_mib=0)
    expected = np.stack([pixels(i) for i in range(40)])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for images in pool.map(lambda _: data.images(range(40)), range(32)):
            np.testing.assert_array_equal(images, expected)


def _forked(data, rows, queue):
    try:
        queue.put(data.images(rows).tobytes())
    except ValueError as error:
        queue.put(str(error))


@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
@pytest.mark.filterwarnings('ignore:.*fork.*:RuntimeWarning')
def test_forked_processes_do_not_share_the_place_in_the_zip(tmp_path):
    data = open_dataset('folder', path=store(tmp_path / 'set', official(40), True), cache_mib=0)
    expected = data.images(range(40)).tobytes()
    context = multiprocessing.get_context('fork')
    queue = context.SimpleQueue()
    children = [context.Process(target=_forked, args=(data, range(40), queue)) for _ in range(3)]
    [child.start() for child in children]
    assert [queue.get() for _ in children] == [expected] * 3
    [child.join() for child in children]


@pytest.mark.parametrize('zipped', [False, True])
def test_pickles(tmp_path, zipped):
    data = open_dataset('folder', path=store(tmp_path / 'set', official(), zipped), max_images=4)
    copy = pickle.loads(pickle.dumps(data))
    assert copy.fingerprint == data.fingerprint
    np.testing.assert_array_equal(copy.images(range(4)), data.images(range(4)))


def test_cached_and_uncached_agree(tmp_path):
    path = store(tmp_path / 'set', official(12), True)
    cached, direct = (open_dataset('folder', path=path, cache_mib=n) for n in (1, 0))
    streams = [batches(data, 0, 0, 5, workers=3) for data in (cached, direct)]
    with streams[0], streams[1]:
        for _ in range(12):
            left, right = (next(stream) for stream in streams)
            np.testing.assert_array_equal(left['image'], right['image'])
            np.testing.assert_array_equal(left['label'], right['label'])


@pytest.mark.parametrize(('cache_mib', 'decoded'), [(1, 12), (0, 60)])
def test_the_cache_decodes_each_image_once(tmp_path, monkeypatch, cache_mib, decoded):
    path, names, decode = store(tmp_path / 'set', official(12)), [], picture.decode
    monkeypatch.setattr(picture, 'decode', lambda *args: names.append(args[0]) or decode(*args))
    data = open_dataset('folder', path=path, cache_mib=cache_mib)
    with batches(data, 0, 0, 5, workers=0) as stream:
        [next(stream) for _ in range(12)]
    assert len(names) == decoded and len(set(names)) == 12


def test_a_zip_that_changes_under_the_reader_is_named(tmp_path):
    data = open_dataset('folder', path=store(tmp_path / 'set', official(12), True), cache_mib=0)
    size = (tmp_path / 'set.zip').stat().st_size
    (tmp_path / 'set.zip').write_bytes(bytes(size))
    with (
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        pytest.raises(ValueError, match='has changed since it was opened'),
    ):
        pool.submit(data.images, [0]).result()


@pytest.mark.parametrize('zipped', [False, True])
def test_a_bucket_reads_like_a_disk(bucket, tmp_path, zipped):  # noqa: F811
    contents = official()
    local = store(tmp_path / 'set', contents, zipped)
    if zipped:
        remote = f'{bucket}/data/set.zip'
        files.path(remote).write_bytes((tmp_path / 'set.zip').read_bytes())
    else:
        remote = f'{bucket}/data/set'
        for name, data in contents.items():
            files.path(f'{remote}/{name}').write_bytes(data)
    near, far = (open_dataset('folder', path=path) for path in (local, remote))
    assert far.name == near.name == 'set' and far.labels.tolist() == near.labels.tolist()
    np.testing.assert_array_equal(far.images(range(6)), near.images(range(6)))
    assert far.fingerprint == open_dataset('folder', path=remote).fingerprint
