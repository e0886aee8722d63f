"""Real training processes, really killed: resumed = never interrupted, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from autoguide_jax import files, snapshots

SETTINGS = (
    '--config=configs/digits.py:main',
    '--config.network.model_channels=8',
    '--config.network.channels_per_head=8',
    '--config.train.total_nimg=16384',
    '--config.train.snapshot_nimg=4096',
    '--config.train.checkpoint_nimg=1024',
    '--config.train.log_nimg=1024',
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


def same_run(a, b):
    """Assert that two run directories hold the same science."""
    rows = [files.read_jsonl(run / 'metrics.jsonl') for run in (a, b)]
    assert [row['nimg'] for row in rows[0]] == [row['nimg'] for row in rows[1]]
    assert rows[0][-1]['loss'] == rows[1][-1]['loss']
    kept = [snapshots.list_snapshots(run) for run in (a, b)]
    assert [(s.nimg, s.std, s.sha256) for s in kept[0]] == [
        (s.nimg, s.std, s.sha256) for s in kept[1]
    ]
    assert len(kept[0]) == 8
    for snapshot in kept[0]:
        paths = [run / 'snapshots' / snapshot.file for run in (a, b)]
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
    moments = sorted(rng.randrange(1024, 15000) for _ in range(3))
    for moment in moments:
        process = start(workdir)
        wait_until(workdir, moment // 1024 * 1024, process)
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
    wait_until(workdir, 2048, process)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert 'the same command resumes' in err
    assert 'Traceback' not in err
    process = start(workdir)
    _, err = process.communicate()
    assert process.returncode == 0, err
    same_run(uninterrupted, workdir)


def test_another_run_is_not_overwritten(uninterrupted):
    process = start(uninterrupted, '--config.optim.lr=0.5')
    _, err = process.communicate()
    assert process.returncode == 2
    assert 'holds another run' in err
    assert 'optim.lr' in err
