"""Real training processes, really killed: resumed = never interrupted, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from autoguide_jax import files, snapshots
from autoguide_jax.checkpoints import Checkpoints

SETTINGS = (
    '--config=configs/digits.py:main',
    '--config.network.model_channels=8',
    '--config.network.channels_per_head=8',
    '--config.train.total_nimg=4096',
    '--config.train.snapshot_nimg=1024',
    '--config.train.checkpoint_nimg=256',
    '--config.train.log_nimg=256',
)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def start(workdir, *more):
    command = [sys.executable, '-m', 'autoguide_jax', 'train', *SETTINGS, f'--workdir={workdir}']
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *more], cwd=ROOT, stderr=pipe, stdout=pipe, text=True)


def logged(workdir):
    """Images seen according to metrics.jsonl."""
    file = workdir / 'metrics.jsonl'
    rows = files.read_jsonl(file) if file.exists() else []
    return rows[-1]['nimg'] if rows else 0


def wait_until(workdir, nimg, process):
    while logged(workdir) < nimg:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def final_state(run):
    """Every array of the last checkpoint, and its facts."""
    with Checkpoints(run) as checkpoints:
        stored = checkpoints._manager.item_metadata(checkpoints.latest())['state'].tree
        state, meta = checkpoints.restore(
            jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), stored)
        )
        return jax.device_get(state), meta


def same_run(a, b, partial_rows=0):
    """Assert that two run directories hold the same science.

    partial_rows: rows that average fewer steps, because the run was resumed between two rows.
    """
    rows = [files.read_jsonl(run / 'metrics.jsonl') for run in (a, b)]
    assert [row['nimg'] for row in rows[0]] == [row['nimg'] for row in rows[1]]
    assert sorted({row['nimg'] for row in rows[0]}) == list(range(256, 4097, 256))
    whole = [row['images'] == 256 for row in rows[1]]
    assert whole.count(False) <= partial_rows
    for one, other, compare in zip(*rows, whole):
        assert not compare or one['loss'] == other['loss']
    (state, facts), (other_state, other_facts) = final_state(a), final_state(b)
    assert facts == other_facts == {'nimg': 4096}
    assert len(jax.tree.leaves(state)) > 4 * 40
    jax.tree.map(np.testing.assert_array_equal, state, other_state)
    kept = [snapshots.list_snapshots(run) for run in (a, b)]
    assert [(s.nimg, s.std, s.sha256) for s in kept[0]] == [
        (s.nimg, s.std, s.sha256) for s in kept[1]
    ]
    assert len(kept[0]) == 8
    for pair in zip(*kept):
        # A snapshot that was saved again after a resume has another file name.
        paths = [run / 'snapshots' / snapshot.file for run, snapshot in zip((a, b), pair)]
        with files.open_npz(paths[0]) as one, files.open_npz(paths[1]) as other:
            assert set(one) == set(other)
            for name in one:
                assert np.array_equal(one[name], other[name]), name


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('run') / 'whole'
    process = start(workdir)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return workdir


def test_killed_at_three_random_moments(uninterrupted, tmp_path):
    workdir, rng = tmp_path / 'killed', random.Random()
    moments = sorted(rng.randrange(256, 3700) for _ in range(3))
    for moment in moments:
        process = start(workdir)
        wait_until(workdir, moment // 256 * 256, process)
        time.sleep(rng.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(workdir)
    _, err = process.communicate()
    assert process.returncode == 0, (moments, err)
    same_run(uninterrupted, workdir)


@pytest.mark.parametrize('signum, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(uninterrupted, tmp_path, signum, code):
    workdir = tmp_path / 'stopped'
    process = start(workdir)
    wait_until(workdir, 512, process)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert 'the same command resumes' in err
    assert 'Traceback' not in err
    process = start(workdir)
    _, err = process.communicate()
    assert process.returncode == 0, err
    same_run(uninterrupted, workdir, partial_rows=1)


def test_another_run_is_not_overwritten(uninterrupted):
    process = start(uninterrupted, '--config.optim.lr=0.5')
    _, err = process.communicate()
    assert process.returncode == 2
    assert 'holds another run' in err
    assert 'optim.lr' in err
