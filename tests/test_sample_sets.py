"""Sample sets: what was written is what is read, whatever happens in between."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from bucket import bucket  # noqa: F401
from PIL import Image

from autoguide_jax import files, sample_sets

SHAPE = (8, 8, 3)
MANIFEST = {
    'main': {'run': 'runs/main', 'nimg': 1024, 'std': 0.1},
    'guidance': {'weight': 2.0, 'interval': [0.0, float('inf')]},
    'provenance': {'git_commit': 'abc', 'versions': {'jax': '1'}, 'device': 'cpu'},
}


def image_of(seed):
    return np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8)


def fill(writer, seeds, size=4):
    for start in range(0, len(seeds), size):
        block = np.asarray(seeds[start : start + size])
        writer.write(block, block % 10, np.stack([image_of(s) for s in block.tolist()]))


def make(folder, seeds=range(995, 1010), formats=('png', 'npz'), manifest=MANIFEST):
    writer = sample_sets.create(folder, manifest, seeds, formats)
    fill(writer, writer.missing())
    return writer.finish()


def contents(folder):
    """Every file of a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def check(found, seeds):
    seeds = np.asarray(seeds)
    assert found.num_images == len(seeds) and found.image_shape == SHAPE
    np.testing.assert_array_equal(found.seeds, seeds)
    np.testing.assert_array_equal(found.labels, seeds % 10)
    for size in (1, 7, 100):
        images, labels = zip(*found.batches(size))
        assert {len(x) for x in images[:-1]} <= {size}
        np.testing.assert_array_equal(np.concatenate(labels), seeds % 10)
        wanted = np.stack([image_of(s) for s in seeds.tolist()])
        np.testing.assert_array_equal(np.concatenate(images), wanted)


@pytest.fixture(params=['local', 'bucket'])
def folder(request, tmp_path):
    if request.param == 'local':
        return files.path(tmp_path / 'set')
    return files.path(request.getfixturevalue('bucket')) / tmp_path.name / 'set'


@pytest.mark.parametrize('formats', [('png',), ('npz',), ('png', 'npz')])
def test_what_was_written_is_what_is_read_local_and_in_a_bucket(folder, formats):
    check(make(folder, formats=formats), range(995, 1010))
    found = sample_sets.open_set(folder)
    check(found, range(995, 1010))
    assert found.manifest['seeds'] == [[995, 15]] and found.manifest['complete']
    assert found.manifest['main'] == MANIFEST['main']
    assert files.names(folder / 'parts') == []


def test_other_programs_read_the_files(tmp_path):
    make(tmp_path / 's')
    assert files.names(tmp_path / 's' / 'images') == ['000000', '000001']
    png = Image.open(tmp_path / 's' / 'images' / '000001' / '000001003.png')
    np.testing.assert_array_equal(np.asarray(png), image_of(1003))
    with np.load(tmp_path / 's' / 'samples.npz') as z:
        assert z.files == ['arr_0', 'arr_1', 'seeds'] and z['arr_1'].dtype == np.int32
        np.testing.assert_array_equal(z['arr_0'][8], image_of(1003))
    grid = np.asarray(Image.open(tmp_path / 's' / 'grid.png'))
    # 15 images in 4 columns, each enlarged four times in a cell with a margin of one pixel.
    assert grid.shape == (4 * 34, 4 * 34, 3)
    np.testing.assert_array_equal(grid[35:67:4, 1:33:4], image_of(999))


def test_grey_images_without_labels(tmp_path):
    writer = sample_sets.create(tmp_path, {}, [7, 3])
    images = np.arange(2 * 16, dtype=np.uint8).reshape(2, 4, 4, 1)
    writer.write([7, 3], None, images)
    writer.finish()
    found = sample_sets.open_set(tmp_path)
    assert found.labels is None and found.seeds.tolist() == [3, 7]
    ((got, labels),) = found.batches(10)
    assert labels is None
    np.testing.assert_array_equal(got, images[::-1])


WRITER = """
    import sys, time
    sys.path.insert(0, {tests!r})
    from test_sample_sets import *
    writer = sample_sets.create({folder!r}, MANIFEST, range(990, 1070), ('png', 'npz'))
    for seed in writer.missing().tolist():
        fill(writer, [seed])
        print(seed, flush=True)
    time.sleep(600)  # the kill always comes before the end
"""


@pytest.mark.parametrize('after', [1, 13, 80])
def test_a_killed_writer_resumes_to_the_same_bytes(tmp_path, after):
    make(tmp_path / 'whole', range(990, 1070))
    folder = tmp_path / 'killed'
    code = textwrap.dedent(WRITER).format(tests=os.path.dirname(__file__), folder=str(folder))
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    done = [int(process.stdout.readline()) for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match=r'incomplete: \d+ of 80 images.*goes on where it stopped'):
        sample_sets.open_set(folder)
    writer = sample_sets.create(folder, MANIFEST, range(990, 1070), ('png', 'npz'))
    assert not np.isin(done, writer.missing()).any(), 'what was reported as written is there'
    fill(writer, writer.missing(), size=7)
    writer.finish()
    left = {k: v for k, v in contents(folder).items() if not k.endswith('.tmp')}
    assert left == contents(tmp_path / 'whole')


def test_a_kill_while_finishing_is_mended_by_finishing_again(tmp_path, monkeypatch):
    make(tmp_path / 'whole')
    written = files.write_json

    def die(p, obj):
        if obj.get('complete'):
            raise KeyboardInterrupt
        written(p, obj)

    monkeypatch.setattr(files, 'write_json', die)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / 'killed')
    monkeypatch.undo()
    writer = sample_sets.create(tmp_path / 'killed', MANIFEST, range(995, 1010), ('png', 'npz'))
    assert len(writer.missing()) == 0
    writer.finish()
    assert contents(tmp_path / 'killed') == contents(tmp_path / 'whole')


def test_a_finished_set_is_left_alone(tmp_path):
    first = make(tmp_path / 's')
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / 's').rglob('*')}
    later = {**MANIFEST, 'provenance': {'git_commit': 'def'}}
    second = make(tmp_path / 's', manifest=later)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / 's').rglob('*')} == times
    assert second.content_hash == first.content_hash


@pytest.mark.parametrize('formats', [('png',), ('npz',), ('png', 'npz')])
def test_a_set_that_grew_is_the_set_made_at_once(tmp_path, formats):
    make(tmp_path / 'grown', [5, 1001, 1003], formats)
    grown = make(tmp_path / 'grown', [*range(5, 8), *range(1000, 1005)], formats)
    whole = make(tmp_path / 'whole', [*range(5, 8), *range(1000, 1005)], formats)
    check(grown, [*range(5, 8), *range(1000, 1005)])
    assert contents(tmp_path / 'grown') == contents(tmp_path / 'whole')
    assert grown.content_hash == whole.content_hash


def test_the_hash_is_of_pixels_labels_and_seeds(tmp_path):
    one = make(tmp_path / 'a', formats=('png',))
    assert (
        make(tmp_path / 'b', formats=('npz',), manifest={'x': 1}).content_hash == one.content_hash
    )
    assert make(tmp_path / 'c', seeds=range(995, 1009)).content_hash != one.content_hash
    writer = sample_sets.create(tmp_path / 'd', MANIFEST, range(995, 1010))
    images = np.stack([image_of(s) for s in range(995, 1010)])
    writer.write(np.arange(995, 1010), np.zeros(15, int), images)
    assert writer.finish().content_hash != one.content_hash


def test_another_set_is_refused_and_the_first_difference_named(tmp_path):
    make(tmp_path / 's')
    before = contents(tmp_path / 's')
    other = {**MANIFEST, 'guidance': {'weight': 2.5, 'interval': [0.0, float('inf')]}}
    with pytest.raises(ValueError, match=r'guidance\.weight is 2\.0 there, 2\.5 here'):
        make(tmp_path / 's', manifest=other)
    with pytest.raises(ValueError, match=r'formats is .* there, \[.png.\] here'):
        make(tmp_path / 's', formats=('png',))
    with pytest.raises(ValueError, match=r'seeds .*\[\[995, 15\]\] there, \[\[995, 14\]\] here'):
        make(tmp_path / 's', range(995, 1009))
    newer = {**MANIFEST, 'provenance': {'git_commit': 'abc', 'versions': {'jax': '2'}}}
    with pytest.raises(ValueError, match=r"provenance\.versions\.jax is '1' there, '2' here"):
        make(tmp_path / 's', range(995, 1020), manifest=newer)
    assert contents(tmp_path / 's') == before
    (tmp_path / 'other' / 'images').mkdir(parents=True)
    with pytest.raises(ValueError, match='already has images of other origin'):
        make(tmp_path / 'other')


def test_a_lost_png_is_missing_and_a_changed_one_is_noticed(tmp_path):
    make(tmp_path / 's', formats=('png',))
    before = contents(tmp_path / 's')
    file = tmp_path / 's' / 'images' / '000001' / '000001003.png'
    Image.fromarray(255 - image_of(1003)).save(file)
    with pytest.raises(ValueError, match='000001003.png: the pixels of seed 1003 are not those'):
        list(sample_sets.open_set(tmp_path / 's').batches(4))
    file.unlink()
    with pytest.raises(ValueError, match='incomplete: 14 of 15'):
        sample_sets.open_set(tmp_path / 's')
    writer = sample_sets.create(tmp_path / 's', MANIFEST, range(995, 1010), ('png',))
    assert writer.missing().tolist() == [1003]
    with pytest.raises(ValueError, match='lacks 1 of 15 images, the first is that of seed 1003'):
        writer.finish()
    # Another machine may round another way: the image that was written last is the one recorded.
    writer.write([1003], [3], image_of(1)[None])
    writer.finish()
    images = np.concatenate([x for x, _ in sample_sets.open_set(tmp_path / 's').batches(4)])
    np.testing.assert_array_equal(images[8], image_of(1))
    writer.write([1003], [3], image_of(1003)[None])
    writer.finish()
    assert contents(tmp_path / 's') == before


def test_unfit_images_are_refused_before_they_are_written(tmp_path):
    writer = sample_sets.create(tmp_path, {}, range(4))
    good = np.zeros((2, 4, 4, 3), np.uint8)
    writer.write([0, 1], None, good)
    for seeds, labels, images, text in [
        ([2, 9], None, good, 'seed 9 is not of the set'),
        ([2, 2], None, good, '1 of 2 are given twice'),
        ([2, 3], None, good.astype(np.float32), 'must be uint8'),
        ([2, 3], None, good[:, :2], r'holds images \(4, 4, 3\), not \(2, 4, 3\)'),
        ([2, 3], [1.0, 2.0], good, 'labels must be int'),
        ([2], None, good, 'must be uint8'),
    ]:
        with pytest.raises(ValueError, match=text):
            writer.write(seeds, labels, images)
    assert writer.missing().tolist() == [2, 3]
    with pytest.raises(ValueError, match='PNG takes 1 or 3 channels, not 4: use formats=npz'):
        sample_sets.create(tmp_path / 'b', {}, [0]).write(
            [0], None, np.zeros((1, 4, 4, 4), np.uint8)
        )
    for formats in ((), ('jpg',), ('png', 'png')):
        with pytest.raises(ValueError, match='must be png, npz or both'):
            sample_sets.create(tmp_path / 'c', {}, [0], formats)


def test_seed_ranges_pack_and_unpack():
    seeds = np.array([0, 1, 2, 7, 100, 101])
    assert sample_sets.pack(seeds) == [[0, 3], [7, 1], [100, 2]]
    np.testing.assert_array_equal(sample_sets.unpack(sample_sets.pack(seeds)), seeds)
