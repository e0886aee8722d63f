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
from hosts import QUICK

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
ONE_LEVEL = ('--config.network.channel_mult=1', '--config.network.attn_resolutions=8')
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


TIMES = ('seconds', 'images_per_second', 'data_seconds')


def begin(verb, workdir, *settings):
    command = [sys.executable, '-m', 'autoguide_jax', verb, *settings, f'--workdir={workdir}']
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stderr=pipe, stdout=pipe, text=True)


def start(workdir, *more):
    return begin('train', workdir, *SETTINGS, *ONE_LEVEL, *more)


def finish(process):
    _, err = process.communicate()
    assert process.returncode == 0, err


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


def same_run(a, b):
    """Assert that two run directories hold the same science."""
    rows, other_rows = (
        [
            {k: v for k, v in row.items() if k not in TIMES}
            for row in files.read_jsonl(run / 'metrics.jsonl')
        ]
        for run in (a, b)
    )
    assert rows == other_rows
    assert [row['nimg'] for row in rows] == list(range(256, 4097, 256))
    (state, facts), (other_state, other_facts) = final_state(a), final_state(b)
    assert facts['nimg'] == other_facts['nimg'] == 4096
    assert len(jax.tree.leaves(state)) > 4 * 30
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


def stop_when(reached, process, signum):
    """Send a signal once reached() holds; the process must say that it resumes, and end."""
    while not reached():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, err
    assert 'the same command resumes' in err
    assert 'Traceback' not in err


def test_training_saves_at_a_signal_and_goes_on(uninterrupted, tmp_path):
    workdir = tmp_path / 'stopped'
    stop_when(lambda: logged(workdir) >= 512, start(workdir), signal.SIGTERM)
    finish(start(workdir))
    same_run(uninterrupted, workdir)


def images_of(workdir):
    return {f.relative_to(workdir).as_posix(): f.read_bytes() for f in workdir.rglob('*.png')}


def test_sampling_keeps_its_images_at_a_signal_and_goes_on(uninterrupted, tmp_path):
    settings = ('--config=configs/pair.py', f'--config.main.run={uninterrupted}')
    settings += ('--config.sample.seeds=0-1599', '--config.sample.batch_size=50')
    sample = lambda name: begin('sample', tmp_path / name, *settings)
    finish(sample('whole'))
    stop_when(lambda: images_of(tmp_path / 'stopped'), sample('stopped'), signal.SIGINT)
    kept = images_of(tmp_path / 'stopped')
    assert 0 < len(kept) < 1600
    finish(sample('stopped'))
    assert len(kept.items() & images_of(tmp_path / 'stopped').items()) == len(kept)
    assert images_of(tmp_path / 'stopped') == images_of(tmp_path / 'whole')


def test_sweeping_keeps_its_rows_at_a_signal_and_goes_on(uninterrupted, tmp_path):
    settings = ('--config=configs/sweep.py', f'--config.main.run={uninterrupted}', *QUICK)
    settings += ('--config.sweep.main_std=0.05,0.07,0.10', '--config.sweep.weight=')
    settings += ('--config.score.images=500', '--config.sampler.num_steps=8')
    sweep = lambda name: begin('sweep', tmp_path / name, *settings)
    rows_of = lambda name: [
        (row['setting']['main']['std'], row['metrics'])
        for row in files.read_jsonl(tmp_path / name / 'results.jsonl')
    ]
    finish(sweep('whole'))
    file = tmp_path / 'stopped/results.jsonl'
    stop_when(file.exists, sweep('stopped'), signal.SIGTERM)
    first = rows_of('stopped')
    finish(sweep('stopped'))
    assert rows_of('stopped')[:1] == first[:1]
    assert rows_of('stopped') == rows_of('whole')


def test_another_run_is_not_overwritten(uninterrupted):
    process = start(uninterrupted, '--config.optim.lr=0.5')
    _, err = process.communicate()
    assert process.returncode == 2
    assert 'holds another run' in err
    assert 'optim.lr' in err
