"""Several processes, as on the hosts of a pod: one result, whatever their number."""

import json
import signal
import time

import jax
import numpy as np
import pytest
from hosts import QUICK, TINY, begin, end, run
from test_resume import final_state

from autoguide_jax import files, processes, sample_sets, snapshots
from autoguide_jax.checkpoints import Checkpoints


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """{'one': …, 'two': …}: the same run on one process of four devices, and on two of two."""
    folder = tmp_path_factory.mktemp('hosts')
    run('train', *TINY, f'--workdir={folder / "one"}', devices=4)
    texts = run('train', *TINY, f'--workdir={folder / "two"}', count=2)
    assert (
        'loss' in texts[0][0] and 'loss' not in texts[1][0]
    )  # the first process alone prints the result
    return {name: folder / name for name in ('one', 'two')}


def rows(folder, *names):
    return [[row[name] for name in names] for row in files.read_jsonl(folder / 'metrics.jsonl')]


def near(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.allclose(x, y, rtol=1e-4, atol=1e-4) for x, y in leaves)


def test_training_is_the_same_on_one_process_and_on_two(runs):
    names = 'nimg', 'images', 'learning_rate', 'loss', 'error', 'grad_norm'
    one, two = (np.array(rows(runs[name], *names)) for name in ('one', 'two'))
    assert len(one) == 4 and len(set(one[:, 3])) == 4
    np.testing.assert_allclose(one, two, rtol=1e-5)
    states = [final_state(runs[name])[0] for name in ('one', 'two')]
    assert near(*states) and not near(states[0], jax.tree.map(lambda x: x + 1, states[1]))
    kept = [[(s.nimg, s.std) for s in snapshots.list_snapshots(runs[n])] for n in ('one', 'two')]
    assert kept[0] == kept[1] and len(kept[0]) == 4


@pytest.mark.parametrize('first, second', [((1, 4, ()), 2), ((2, 2, ('fsdp',)), 1)])
def test_a_run_goes_on_with_another_number_of_processes(runs, tmp_path, first, second):
    """From one process to two, and from two, with the state split over their devices, to one."""
    count, devices, split = first
    split = [f'--config.mesh.params={params}' for params in split]
    shared = TINY + (f'--workdir={tmp_path / "run"}',)
    run('train', *shared, *split, '--config.train.total_nimg=512', count=count, devices=devices)
    run('train', *shared, '--config.train.total_nimg=1024', count=second)
    losses = [np.array(rows(folder, 'loss')) for folder in (tmp_path / 'run', runs['one'])]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_what_one_of_two_cannot_read_is_passed_over_by_both(runs, tmp_path):
    settings = [*TINY, f'--workdir={tmp_path / "run"}', '--config.mesh.params=fsdp']
    run('train', *settings, '--config.train.total_nimg=512', count=2)
    parts = list((tmp_path / 'run/checkpoints/16/state/ocdbt.process_1/d').iterdir())
    assert parts
    for part in parts:
        part.unlink()
    for _, err in run('train', *settings, count=2):
        assert f'{tmp_path}/run/checkpoints/16 cannot be read: ' in err
    losses = [np.array(rows(folder, 'loss')) for folder in (tmp_path / 'run', runs['one'])]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_sigterm_to_one_of_two_saves_once_everywhere_at_the_same_step(runs, tmp_path):
    shared = TINY + (f'--workdir={tmp_path / "run"}', '--config.train.checkpoint_nimg=1024')
    both = begin('train', *shared, count=2)
    while not (tmp_path / 'run/metrics.jsonl').exists():
        assert both[0].poll() is None, both[0].communicate()
        time.sleep(0.02)
    both[1].send_signal(signal.SIGTERM)
    errors = [err for _, err in end(both, code=143)]
    said = [err[err.index('; saved') :].splitlines()[0] for err in errors]
    assert said[0] == said[1]
    with Checkpoints(tmp_path / 'run') as checkpoints:
        steps = checkpoints._manager.all_steps()
    assert len(steps) == 1 and f'at {32 * steps[0]} images' in said[0] and 0 < steps[0] < 32
    run('train', *shared, count=2)
    assert rows(tmp_path / 'run', 'nimg', 'loss') == rows(runs['two'], 'nimg', 'loss')
    jax.tree.map(
        np.testing.assert_array_equal, final_state(tmp_path / 'run')[0], final_state(runs['two'])[0]
    )


def test_samples_are_the_same_bit_for_bit_and_a_killed_process_is_made_up_for(runs, tmp_path):
    settings = ['--config=configs/pair.py', f'--config.main.run={runs["one"]}']
    settings += ['--config.sample.batch_size=8', '--config.sample.seeds=0-99']
    settings += ['--config.sample.formats=png,npz', '--config.sampler.num_steps=4']
    run('sample', *settings, f'--workdir={tmp_path / "one"}')
    both = begin('sample', *settings, f'--workdir={tmp_path / "two"}', count=2)
    while not list((tmp_path / 'two/parts').glob('*')):
        assert both[1].poll() is None, both[1].communicate()
        time.sleep(0.01)
    for process in reversed(both):
        process.kill()
        process.communicate()
    missing = sample_sets.join(tmp_path / 'two').missing()
    assert missing.size
    # What one process refuses, no other one does.
    other = [*settings, '--config.sampler.num_steps=5', f'--workdir={tmp_path / "two"}']
    errors = [err for _, err in run('sample', *other, count=2, code=2)]
    assert all('holds another sample set: sampler.num_steps is 4 there' in err for err in errors)
    assert np.array_equal(sample_sets.join(tmp_path / 'two').missing(), missing)
    run('sample', *settings, f'--workdir={tmp_path / "two"}', count=2)
    one, two = (sample_sets.open_set(tmp_path / name) for name in ('one', 'two'))
    assert one.content_hash == two.content_hash and one.num_images == 100
    for name in ('samples.npz', 'grid.png', sample_sets.png_name(77)):
        assert (tmp_path / 'one' / name).read_bytes() == (tmp_path / 'two' / name).read_bytes()


def test_a_sweep_is_shared_and_no_setting_is_done_twice(runs, tmp_path):
    settings = ['--config=configs/sweep.py', f'--config.main.run={runs["one"]}']
    settings += [f'--config.guide.run={runs["two"]}', '--config.sweep.weight=1.1,1.2,…,1.6']
    settings += ['--config.sampler.num_steps=4', '--config.score.batch_size=16']
    settings += ['--config.score.images=64', '--config.score.allow_fewer=true']
    settings += ['--config.score.metrics=frechet', *QUICK]
    run('sweep', *settings, '--config.score.shared=True', f'--workdir={tmp_path / "one"}')
    run('sweep', *settings, f'--workdir={tmp_path / "two"}', count=2)
    one, two = (files.read_jsonl(tmp_path / name / 'results.jsonl') for name in ('one', 'two'))
    assert {row['key']: row['metrics'] for row in one} == {r['key']: r['metrics'] for r in two}
    assert len(one) == len(two) == 6
    shares = [files.read_jsonl(file) for file in (tmp_path / 'two/results').glob('*.jsonl')]
    assert sum(map(len, shares)) == 6
    for name in ('one', 'two'):
        claims = [json.loads(file.read_text()) for file in (tmp_path / name / 'claims').glob('*')]
        assert len(claims) == 1 and claims[0]['done']  # the evaluator's


def test_what_one_host_does_the_others_wait_for_or_refuse(runs, tmp_path):
    export = [f'--config.source={runs["one"]}', f'--config.target={tmp_path / "copy"}']
    texts = run('export', *export, count=2, devices=1)
    assert 'copied' in texts[0][0] and 'copied' not in texts[1][0]
    assert (tmp_path / 'copy/config.json').exists()
    for _, err in run('study', count=2, devices=1, code=2):
        assert '--hosts: study runs on one host' in err


def test_hosts_that_do_not_share_the_workdir_are_told(tmp_path):
    folders = tmp_path / 'a', tmp_path / 'b'
    for _, err in end(begin('train', *TINY, count=2, workdirs=folders), code=2):
        assert 'is not the same folder on all 2 hosts' in err
    assert not list((tmp_path / 'a').iterdir())


@pytest.mark.parametrize('text', ['pod', 'a:1', 'a:1,0', 'a:1,2,2', 'a:1,-1,2', 'a:1,0,2,3'])
def test_what_is_no_place_among_the_hosts_is_refused(text):
    with pytest.raises(ValueError, match=r'ADDRESS:PORT,INDEX,COUNT'):
        processes.connect(text)
