"""stats: the same statistics from whatever holds the images, and what is killed goes on."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import fake_features
import numpy as np
import pytest
from bucket import bucket  # noqa: F401
from hosts import ROOT
from image_sets import official, pixels, store
from together import together

from autoguide_jax import __main__ as cli
from autoguide_jax import evaluate, files, foreign_images, sample_sets, stats, stop
from autoguide_jax.metrics import building, features, reading
from autoguide_jax.metrics import reference as references

N = 30
INCEPTION = ('--config.features.name=inception', '--config.features.weights=w')


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    for name, target in fake_features.OPENERS.items():
        monkeypatch.setitem(features.table.table, name, target)


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    """The same labelled 8×8 RGB images as folder, zip, npz and sample set."""
    root = tmp_path_factory.mktemp('sets')
    images = np.stack([pixels(i) for i in range(N)])
    labels = np.arange(N, dtype=np.int32) % 3
    contents = official(N)
    writer = sample_sets.create(root / 'set', {}, range(N), ('png',))
    writer.write(np.arange(N), labels, images)
    writer.finish()
    np.savez(root / 'images.npz', arr_0=images, arr_1=labels)
    folder, zipped = store(root / 'folder', contents), store(root / 'zip', contents, True)
    return {'folder': folder, 'zip': zipped, 'npz': root / 'images.npz', 'set': root / 'set'}


def run(*arguments):
    assert cli.main(['stats', *map(str, arguments)]) == 0


def moments(images):
    values = fake_features.project('inception', images).features.astype(np.float64)
    return values.mean(0), np.cov(values.T)


def test_every_kind_of_images_gives_the_same_file(sets, tmp_path, capsys):
    found = {}
    for kind, p in sets.items():
        run(f'--images={p}', *INCEPTION, f'--target={tmp_path / kind}.npz')
        found[kind] = references.load(tmp_path / f'{kind}.npz')
    data = ('--config.data.name=folder', f'--config.data.path={sets["zip"]}')
    run(*data, *INCEPTION, f'--target={tmp_path / "data.npz"}')
    found['data'] = references.load(tmp_path / 'data.npz')
    hashes = {r.header['content_hash'] for r in found.values()}
    assert len(hashes) == 1
    mu, sigma = moments(np.stack([pixels(i) for i in range(N)]))
    np.testing.assert_allclose(found['zip'].mu, mu, rtol=1e-12)
    np.testing.assert_allclose(found['zip'].sigma, sigma, rtol=1e-9)
    assert found['npz'].labels.tolist() == [i % 3 for i in range(N)]
    header = found['zip'].header
    assert header['features'] == {'name': 'inception'} and header['transform'] == 'pixels / 64'
    assert (header['count'], header['image_shape']) == (N, [8, 8, 3])
    printed = capsys.readouterr().out
    words = (header['content_hash'], 'hash-w', '8×8×3', 'pixels / 64', header['data_fingerprint'])
    assert all(word in printed for word in words)


def test_grey_images_and_a_random_subset(tmp_path):
    folder = store(tmp_path / 'grey', official(N, channels=1))
    images = np.stack([pixels(i, channels=1) for i in range(N)])
    np.savez(tmp_path / 'grey.npz', images)
    more = (*INCEPTION, '--config.count=20', '--config.num_features=7')
    rows = building.choose(N, 20)
    for p in (folder, tmp_path / 'grey.npz'):
        target = tmp_path / f'{pathlib.Path(p).name}-ref.npz'
        run(f'--images={p}', *more, f'--target={target}')
        found = references.load(target)
        np.testing.assert_allclose(found.mu, moments(images[rows])[0], rtol=1e-12)
        assert (found.count, len(found.features), found.image_shape) == (20, 7, (8, 8, 1))


def test_one_pass_serves_several_features(sets, tmp_path, monkeypatch):
    tree = {
        'images': sets['folder'],
        'features': {'name': 'inception', 'weights': 'w'},
        'also': {'dino': {'name': 'dinov2', 'weights': 'v'}},
        'target': str(tmp_path / 'both'),
    }
    read = []
    decode = foreign_images.StoredImages._decode
    monkeypatch.setattr(
        foreign_images.StoredImages, '_decode', lambda s, n: read.append(n) or decode(s, n)
    )
    settings = stats.config.parse(stats.Settings, tree)
    rows = stats.main(settings)
    assert len(read) == len(set(read)) == N
    assert [row['features'] for row in rows] == ['inception', 'dinov2']
    alone = tmp_path / 'alone.npz'
    run(f'--images={sets["folder"]}', *INCEPTION, f'--target={alone}')
    assert files.sha256(alone) == files.sha256(tmp_path / 'both' / 'inception.npz')
    assert references.load(tmp_path / 'both' / 'dino.npz').header['weights_hash'] == 'hash-v'
    # What is there is not made again; of anything else it is refused.
    read.clear()
    assert stats.main(settings) == rows and not read
    for change in ({'count': 20}, {'images': str(sets['set'])}):
        with pytest.raises(ValueError, match='is there, of something else'):
            stats.main(stats.config.parse(stats.Settings, {**tree, **change}))


def test_an_npz_is_opened_once_for_all_blocks(sets, tmp_path, monkeypatch):
    opened = []
    real = foreign_images.open_npz_images
    monkeypatch.setattr(foreign_images, 'open_npz_images', lambda *a: opened.append(a) or real(*a))
    monkeypatch.setattr(building, 'SMALLEST', 7)
    run(f'--images={sets["npz"]}', *INCEPTION, f'--target={tmp_path / "ref.npz"}')
    # Once for its shape, and once for its images.
    assert len(opened) == 2
    assert not files.names(tmp_path, '.blocks')


def test_rows_of_a_stream_are_those_asked_for(sets):
    class Silent:
        def update(self, count):
            pass

    images = np.stack([pixels(i) for i in range(N)])
    reader = reading.Reader(foreign_images.open_images(sets['npz']), Silent())
    # On, over a gap, and back.
    for rows in (np.arange(3, 9), np.array([9, 20, 29]), np.array([0, 1])):
        parts = list(reader.read(rows))
        np.testing.assert_array_equal(np.concatenate([x for x, _ in parts]), images[rows])
        np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), rows % 3)
    reader.close()


KILLED = """
import json, os, signal, sys
import fake_features
from autoguide_jax import evaluate, files, stats
from autoguide_jax import __main__ as cli
from autoguide_jax.metrics import building

fake_features.install()
building.SMALLEST = evaluate.BLOCK = 5
save, made = files.save_npz, []

def dying(p, arrays, *rest):
    save(p, arrays, *rest)
    made.append(p)
    if len(made) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

files.save_npz = dying
cli.main(json.loads(sys.argv[1]))
"""


def killed(arguments):
    """Run a command line in a process that is killed once three files are written."""
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': ROOT}
    command = [sys.executable, '-c', KILLED, json.dumps(list(map(str, arguments)))]
    done = subprocess.run(command, cwd=f'{ROOT}/tests', env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def counted(monkeypatch):
    """Blocks of images that are worked through from now on."""
    monkeypatch.setattr(building, 'SMALLEST', 5)
    monkeypatch.setattr(evaluate, 'BLOCK', 5)
    starts, read = [], reading.Reader.read
    monkeypatch.setattr(
        reading.Reader, 'read', lambda self, rows: starts.append(int(rows[0])) or read(self, rows)
    )
    return starts


def test_killed_statistics_go_on(sets, tmp_path, monkeypatch):
    command = lambda name: [f'--images={sets["npz"]}', *INCEPTION, f'--target={tmp_path / name}']
    killed(['stats', *command('a.npz')])
    assert not (tmp_path / 'a.npz').exists()
    starts = counted(monkeypatch)
    run(*command('a.npz'))
    assert starts == [15, 20, 25]
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.npz']
    run(*command('b.npz'))
    assert files.sha256(tmp_path / 'a.npz') == files.sha256(tmp_path / 'b.npz')


def test_what_is_missing_of_several_files_is_made_of_the_same_blocks(sets, tmp_path, monkeypatch):
    also = ['--config.also.dino.name=dinov2', '--config.also.dino.weights=w']
    command = [f'--images={sets["npz"]}', *INCEPTION, *also, f'--target={tmp_path / "refs"}']
    starts = counted(monkeypatch)
    save = references.save

    def stopping(reference, p):
        if 'dino' in p.name:
            raise stop.Stopped('writing')
        save(reference, p)

    monkeypatch.setattr(references, 'save', stopping)
    weights = {'weights': 'w'}
    tree = {
        'images': str(sets['npz']),
        'features': {'name': 'inception', **weights},
        'also': {'dino': {'name': 'dinov2', **weights}},
        'target': str(tmp_path / 'refs'),
    }
    with pytest.raises(stop.Stopped):
        stats.main(stats.config.parse(stats.Settings, tree))
    assert len(starts) == 6
    monkeypatch.setattr(references, 'save', save)
    first = files.sha256(tmp_path / 'refs' / 'inception.npz')
    run(*command)
    assert sorted(p.name for p in (tmp_path / 'refs').iterdir()) == ['dino.npz', 'inception.npz']
    assert files.sha256(tmp_path / 'refs' / 'inception.npz') == first
    assert [p.name for p in tmp_path.iterdir()] == ['refs'] and len(starts) == 6


def test_a_killed_evaluation_goes_on(sets, tmp_path, monkeypatch):
    run(f'--images={sets["zip"]}', *INCEPTION, f'--target={tmp_path / "ref.npz"}')
    command = lambda name: [
        *('evaluate', f'--images={sets["npz"]}', f'--reference={tmp_path / "ref.npz"}'),
        *(*INCEPTION, f'--workdir={tmp_path / name}', '--config.metrics=frechet,recall'),
    ]
    killed(command('a'))
    assert not (tmp_path / 'a' / 'results.jsonl').exists()
    starts = counted(monkeypatch)
    for name in ('a', 'b'):
        assert cli.main(list(map(str, command(name)))) == 0
    assert starts == [15, 20, 25, *range(0, 30, 5)]
    rows = [files.read_jsonl(tmp_path / name / 'results.jsonl')[0] for name in ('a', 'b')]
    assert rows[0]['metrics'] == rows[1]['metrics'] and rows[0]['key'] == rows[1]['key']


BOTH = """
import numpy as np
import fake_features
from autoguide_jax import evaluate, processes, stats
from autoguide_jax.metrics import blocks, building, reading

fake_features.install()
building.SMALLEST = evaluate.BLOCK = 5
if processes.index():  # only the first process reads blocks, so that it may delete them
    blocks.Blocks._read = None
seen, read = [], reading.Reader.read
reading.Reader.read = lambda self, rows: seen.append(len(rows)) or read(self, rows)
features = {'name': 'inception', 'weights': 'w'}
images, out = sys.argv[4:]
parse = stats.config.parse
stats.main(parse(stats.Settings, {
    'images': images, 'features': features, 'target': f'{out}/ref.npz', 'num_features': 20,
}))
evaluate.main(parse(evaluate.Settings, {
    'images': images, 'features': features, 'reference': f'{out}/ref.npz',
    'metrics': 'frechet,recall,coverage',
}), out)
print(json.dumps(seen))
processes.leave()
"""


def test_two_processes_give_the_bits_of_one(sets, tmp_path, monkeypatch):
    done = together(BOTH, sets['npz'], tmp_path / 'two')
    assert [code for code, _, _ in done] == [0, 0], done[0][2] + done[1][2]
    shares = [json.loads(out.splitlines()[-1]) for _, out, _ in done]
    assert shares == [[5] * 6, [5] * 6]
    counted(monkeypatch)
    common = [f'--images={sets["npz"]}', *INCEPTION]
    run(*common, f'--target={tmp_path / "one/ref.npz"}', '--config.num_features=20')
    one = [f'--reference={tmp_path / "one/ref.npz"}', '--config.metrics=frechet,recall,coverage']
    assert cli.main(['evaluate', *common, *one, f'--workdir={tmp_path / "one"}']) == 0
    two, one = tmp_path / 'two', tmp_path / 'one'
    assert files.sha256(two / 'ref.npz') == files.sha256(one / 'ref.npz')
    rows = [files.read_jsonl(p / 'results.jsonl') for p in (one, two)]
    assert [len(found) for found in rows] == [1, 1]
    assert rows[0][0]['metrics'] == rows[1][0]['metrics']
    assert rows[0][0]['errors'] == rows[1][0]['errors']


def test_all_of_it_may_lie_in_a_bucket(sets, tmp_path, bucket, capsys):  # noqa: F811
    there = f'{bucket}/{tmp_path.name}'
    for kind in ('zip', 'npz'):
        p = pathlib.Path(sets[kind])
        files.write_bytes(f'{there}/{p.name}', p.read_bytes())
        images = f'--images={there}/{p.name}'
        run(images, *INCEPTION, f'--target={there}/{kind}/ref.npz')
        run(f'--images={p}', *INCEPTION, f'--target={tmp_path / kind}.npz')
        remote, local = (
            references.load(x) for x in (f'{there}/{kind}/ref.npz', f'{tmp_path / kind}.npz')
        )
        assert remote.header == local.header
        assert [x.name for x in files.path(f'{there}/{kind}').iterdir()] == ['ref.npz']
    scored = [images, *INCEPTION, f'--reference={there}/npz/ref.npz', '--config.metrics=recall']
    assert cli.main(['evaluate', *scored, f'--workdir={there}/out']) == 0
    (row,) = files.read_jsonl(f'{there}/out/results.jsonl')
    assert row['metrics']['recall'] == 1


def test_refusals_name_the_setting(sets, tmp_path, capsys):
    both = [f'--images={sets["npz"]}', '--config.data.name=digits', *INCEPTION]
    target = f'--target={tmp_path / "x.npz"}'
    for arguments, words in [
        ([*both, target], 'give either data, or images'),
        ([*INCEPTION, target], 'give either data, or images'),
        ([both[0], target], 'config.features.name: required'),
        ([both[0], *INCEPTION, f'--target={tmp_path / "x"}'], 'must end with .npz'),
        ([both[0], *INCEPTION, target, '--config.count=99'], 'count (99) must be in 2…30'),
        ([both[0], '--config.features.name=inception', target], 'weights must be'),
    ]:
        assert cli.main(['stats', *arguments]) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
