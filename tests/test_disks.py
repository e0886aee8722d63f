"""Disks that are full, read-only or gone: clear errors, nothing lost, the same command goes on."""

import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from test_gcs_train import SMALL, science
from test_resume import begin, finish, logged, wait_until

from autoguide_jax import files

ROOT = pathlib.Path(__file__).resolve().parents[1]
FULL = 'No space left on device.*The disk is full: free some space.*run the same command again'


def in_small_disk(script, *arguments, size='1m'):
    """Run a shell script in a mount namespace where $DISK is an empty disk of a size; skip if none.

    Other arguments are $1…; $PYTHON is this Python. Returns the completed process.
    """
    if shutil.which('unshare') is None:
        pytest.skip('needs unshare')
    mount = f'mkdir -p "$DISK" && mount -t tmpfs -o size={size} tmpfs "$DISK" || exit 77\n'
    disk = str(arguments[0]) + '.disk'
    done = subprocess.run(
        ['unshare', '-rm', 'bash', '-c', mount + textwrap.dedent(script), 'bash', *arguments],
        cwd=ROOT,
        env={**os.environ, 'DISK': disk, 'PYTHON': sys.executable},
        capture_output=True,
        text=True,
    )
    if done.returncode == 77 or 'unshare failed' in done.stderr:
        pytest.skip('needs the right to mount a file system of its own')
    return done


def test_a_full_disk_leaves_every_file_whole_and_says_so(tmp_path):
    code = """
        import contextlib, sys
        import numpy as np
        from autoguide_jax import files, sample_sets
        folder = files.path(sys.argv[1])
        def expect(kind, name, fn):
            try:
                fn()
            except kind as error:
                print(name, str(error), *error.__notes__)
            else:
                raise SystemExit(f'{name}: no error')
        files.write_text(folder / 'old.txt', 'old')
        files.append_jsonl(folder / 'rows.jsonl', {'i': 0})
        big = 'x' * 3_000_000
        expect(OSError, 'write:', lambda: files.write_text(folder / 'old.txt', big))
        expect(OSError, 'npz:', lambda: files.save_npz(folder / 'x.npz', {'a': np.ones(400_000)}))
        expect(OSError, 'append:', lambda: files.append_jsonl(folder / 'rows.jsonl', {'b': big}))
        writer = sample_sets.create(folder / 'set', {}, range(4), ('npz',))
        writer.write([0], None, np.zeros((1, 8, 8, 3), np.uint8))
        many = np.zeros((3, 1000, 400, 3), np.uint8)
        del writer.manifest['image_shape']
        expect(OSError, 'set:', lambda: writer.write([1, 2, 3], None, many))
        assert files.names(folder) == ['old.txt', 'rows.jsonl', 'set']
        assert not [p.name for p in folder.iterdir() if p.name.startswith('.')]
        assert files.read_bytes(folder / 'old.txt') == b'old'
        assert files.read_jsonl(folder / 'rows.jsonl') == [{'i': 0}]
        assert len(sample_sets.create(folder / 'set2', {}, [0]).missing()) == 1
        files.append_jsonl(folder / 'rows.jsonl', {'i': 1})
        assert files.read_jsonl(folder / 'rows.jsonl') == [{'i': 0}, {'i': 1}]
        print('whole')
    """
    files.write_text(tmp_path / 'code.py', textwrap.dedent(code))
    done = in_small_disk('PYTHONPATH=. $PYTHON "$1" "$DISK"', tmp_path / 'code.py')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ['write:', 'npz:', 'append:', 'set:', 'whole']
    for line in lines[:-1]:
        assert 'No space left on device' in line and 'The disk is full: free some space.' in line
        assert str(tmp_path) in line


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('disks') / 'whole'
    finish(begin('train', workdir, *SMALL))
    return science(workdir)


def assert_same_science(run, expected):
    found, expected = science(run), dict(expected)
    jax.tree.map(np.testing.assert_array_equal, found.pop('state'), expected.pop('state'))
    assert found == expected


def test_training_on_a_disk_that_fills_up_goes_on_when_there_is_room(uninterrupted, tmp_path):
    script = """
        train() { $PYTHON -m autoguide_jax train "${@:2}" --workdir="$DISK/run"; }
        train "$@" 2>"$1.full"; echo "full $?"
        mount -o remount,ro "$DISK"
        train "$@" 2>"$1.readonly"; echo "readonly $?"
        mount -o remount,rw,size=200m "$DISK"
        train "$@" 2>"$1.room" >&2; echo "room $?"
        cp -r "$DISK/run" "$1"
    """
    # Room for two checkpoints and some snapshots.
    done = in_small_disk(script, str(tmp_path / 'out'), *SMALL, size='3600k')
    assert done.stdout.split() == ['full', '2', 'readonly', '2', 'room', '0'], done.stderr
    full = said((tmp_path / 'out.full').read_text())
    assert 'No space left on device' in full and 'The disk is full: free some space.' in full
    assert f'{tmp_path}/out.disk/run/' in full and 'run the same command again' in full
    readonly = said((tmp_path / 'out.readonly').read_text())
    assert 'Read-only file system' in readonly and 'mount it for writing' in readonly
    assert_same_science(tmp_path / 'out', uninterrupted)


def said(err):
    """The error that the program ended with; threads of Orbax may print theirs around it."""
    return err[err.rindex('error: ') :].splitlines()[0]


def test_training_in_a_folder_that_vanishes_goes_on_when_it_is_back(uninterrupted, tmp_path):
    run, away = tmp_path / 'run', tmp_path / 'away'
    process = begin('train', run, *SMALL)
    wait_until(run, 128, process)
    run.rename(away)
    _, err = process.communicate()
    assert process.returncode == 2, err
    assert f'{run} has gone while the program ran' in said(err)
    assert 'run the same command again' in said(err)
    assert not (run / 'config.json').exists() and not (run / 'metrics.jsonl').exists()
    # What a save in the background was about to write.
    shutil.rmtree(run, ignore_errors=True)
    away.rename(run)
    assert logged(run) < 512
    finish(begin('train', run, *SMALL))
    assert_same_science(run, uninterrupted)


def test_a_folder_without_the_right_to_write_is_named(tmp_path):
    (tmp_path / 'mine').mkdir(mode=0o500)
    if os.getuid() == 0:
        pytest.skip('root may write everywhere')
    with pytest.raises(PermissionError) as caught:
        files.write_text(tmp_path / 'mine' / 'x', 'x')
    assert str(tmp_path) in str(caught.value)
    assert 'Give this user the right to write there' in caught.value.__notes__[0]
