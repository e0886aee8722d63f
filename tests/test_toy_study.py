"""A whole tiny study of the 2-D example, twice; several seeds in one program; bad input."""

import copy
import dataclasses
import os
import signal

import jax
import numpy as np
import pytest
from tiny import one_conv  # noqa: F401

from autoguide_jax import config, files, pairs, snapshots, stop, study, train
from autoguide_jax.__main__ import settings_class
from autoguide_jax.run_settings import Settings as TrainSettings
from autoguide_jax.study.record import Record
from autoguide_jax.study.toy.settings import Settings
from autoguide_jax.verbs import VERBS

BATCH = 64


def tree():
    """configs/toy.py:quick, with everything small."""
    found = config.load('configs/toy.py:quick')
    for name, run in found['runs'].items():
        run['network']['width'] = 8 if name == 'main' else 4
        run['train'] = {
            'total_nimg': 4 * BATCH, 'batch_size': BATCH, 'snapshot_nimg': 2 * BATCH,
            'checkpoint_nimg': 2 * BATCH, 'log_nimg': BATCH, 'snapshot_at': [3 * BATCH],
        }  # fmt: skip
    found['seeds'] = [0, 3]
    found['points'] = found['batch_size'] = 256
    found['sampler']['num_steps'] = 4
    for part in ('degradation', 'guides', 'trade_off'):
        found[part] |= {'points': 64, 'weights': [1.0, 2.0]}
    found['guides'] |= {'nimg': [2 * BATCH, 4 * BATCH], 'stds': [0.15]}
    found['trade_off'] |= {'intervals': [0.0, 0.3], 'weights': [1.5, 2.0]}
    keep = ('dropout', 'noise', 'quantised')
    found['degradation']['pairs'] = {k: found['degradation']['pairs'][k] for k in keep}
    for where in (found['arms'], found['trade_off']['families']):
        for arm in where.values():
            for role in ('main', 'guide', 'uncond'):
                if role in arm:
                    arm[role]['nimg'] = 0
    return found


def settings(**changes):
    return config.parse(Settings, tree() | changes)


@pytest.fixture(scope='module')
def small():
    """FIELD_POINTS and pictures of a size for tests."""
    from autoguide_jax.study.toy import pictures, probe

    patch = pytest.MonkeyPatch()
    patch.setattr(probe, 'FIELD_POINTS', 256)
    for name, value in (('CLOUD', 64), ('GRID', 20), ('CLOSE', 20), ('CANDIDATES', 64)):
        patch.setattr(pictures, name, value)
    yield
    patch.undo()


@pytest.fixture(scope='module')
def done(tmp_path_factory, small):
    workdir = tmp_path_factory.mktemp('toy')
    return workdir, study.main(settings(), workdir)


def test_the_config_file_chooses_the_settings():
    assert settings_class(VERBS['study'], 'configs/toy.py') is Settings
    assert settings_class(VERBS['study'], 'configs/digits.py') is not Settings
    with pytest.raises(ValueError, match="unknown name 'tuy'. Did you mean 'toy'"):
        study.settings_of({'kind': 'tuy'})


def test_every_part_leaves_its_rows(done):
    workdir, table = done
    s = settings()
    rows = files.read_jsonl(workdir / 'results.jsonl')
    count = lambda phase: sum(row['phase'] == phase for row in rows)
    assert count('arms') == 2 * len(s.arms)
    assert count('degradation') == 2 * 3 * 2
    assert count('guides') == 2 * 2 * (
        2 + 2 + 1
    )  # seeds × weights × (run, age): main not as itself
    assert count('trade_off') == 2 * 3 * 3
    assert [row['arm'] for row in table] == [arm.title for arm in s.arms.values()]
    fields = files.read_jsonl(workdir / 'fields.jsonl')
    assert len(fields) == 2 * (3 + 5)
    assert {len(row['data']['r']) for row in fields} == {18}
    with files.open_npz(workdir / 'figures.npz') as arrays:
        assert all(f'clouds/{arm}' in arrays for arm in s.pictures.arms)
        assert arrays['paths/guided'].shape == arrays['paths/unguided'].shape
    record = files.read_json(workdir / 'study.json')
    assert record['kind'] == 'toy' and set(record['rows']) == {row['key'] for row in rows + fields}


def test_weight_one_is_the_main_network_whatever_the_guide(done):
    rows = files.read_jsonl(done[0] / 'results.jsonl')
    unguided = [r for r in rows if r['phase'] == 'trade_off' and r['weight'] == 1.0]
    for seed in (0, 3):
        found = [r['metrics'] for r in unguided if r['seed'] == seed]
        assert len(found) == 3 and all(metrics == found[0] for metrics in found)
    assert all(r['nfe'] == {'main': 7, 'guide': 0} for r in unguided)


def test_an_uncorrupted_main_network_has_not_shifted_at_weight_one(done):
    rows = files.read_jsonl(done[0] / 'results.jsonl')
    shift = {
        (r['arm'], r['weight'], r['seed']): r['metrics']['shift']
        for r in rows
        if r['phase'] == 'degradation'
    }
    for seed in (0, 3):
        assert shift['quantised', 1.0, seed] == 0
        assert shift['noise', 1.0, seed] > 0 and shift['dropout', 1.0, seed] > 0


def test_a_second_run_draws_nothing(done, monkeypatch):
    workdir, table = done
    before = {name: (workdir / name).read_bytes() for name in ('results.jsonl', 'fields.jsonl')}
    monkeypatch.setattr('autoguide_jax.generation.Programs.program', None)
    assert study.main(settings(), workdir) == table
    assert before == {name: (workdir / name).read_bytes() for name in before}


def run_settings(**changes):
    found = copy.deepcopy(tree()['runs']['main'])
    return config.parse(TrainSettings, found | changes)


def weights(run):
    network = snapshots.load_network(run, 0.01)
    return jax.tree.leaves(network.variables)


def test_seeds_side_by_side_are_those_trained_one_by_one(done, tmp_path):
    """Up to rounding: the same points, noise and initial weights."""
    for seed in (0, 3):
        train.main(run_settings(seed=seed), tmp_path / str(seed))
        for a, b in zip(weights(tmp_path / str(seed)), weights(done[0] / f'runs/main/seed-{seed}')):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    a, b = (files.read_jsonl(tmp_path / str(s) / 'metrics.jsonl') for s in (0, 3))
    assert a[-1]['loss'] != b[-1]['loss']
    nimgs = [s.nimg for s in snapshots.list_snapshots(tmp_path / '0') if s.std == 0.01]
    assert nimgs == [2 * BATCH, 3 * BATCH, 4 * BATCH]  # snapshot_at adds the one in the middle


def test_several_seeds_resume_where_they_stopped(tmp_path, monkeypatch):
    s = run_settings(seeds=[1, 2])
    train.main(s, tmp_path / 'whole')
    read, count = train.next_batch, iter(range(4))

    def stop_at_the_third(*streams):
        if next(count) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return read(*streams)

    monkeypatch.setattr(train, 'next_batch', stop_at_the_third)
    with pytest.raises(stop.Stopped):
        train.main(s, tmp_path / 'parts')
    monkeypatch.undo()
    train.main(s, tmp_path / 'parts')
    for seed in (1, 2):
        runs = [tmp_path / kind / f'seed-{seed}' for kind in ('whole', 'parts')]
        for a, b in zip(*map(weights, runs)):
            np.testing.assert_array_equal(a, b)
        timeless = lambda run: [
            {
                k: v
                for k, v in row.items()
                if k not in ('seconds', 'images_per_second', 'data_seconds')
            }
            for row in files.read_jsonl(run / 'metrics.jsonl')
        ]
        assert timeless(runs[0]) == timeless(runs[1])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'seeds': []}, r'seeds \(\(\)\) must name at least one training seed'),
        ({'seeds': [1, 1]}, 'each once'),
        ({'classes': 'C'}, r"classes \('C'\): no such class"),
        ({'points': 1}, r'points \(1\) must be in'),
        ({'pictures': {'arms': ['nothing']}}, "'nothing' is not an arm"),
        ({'pictures': {'sigma': 0.0}}, r'pictures.sigma \(0.0\) above 0'),
        ({'pictures': {'seed': 9}}, r'pictures.seed \(9\) is not one of seeds'),
        ({'sampler': {'name': 'heun', 'sigma_min': 0.0}}, 'sigma_min'),
        ({'trade_off': {'intervals': [0.1]}}, 'must be pairs'),
        ({'guides': {'runs': ['giude']}}, r'guides.runs \(giude\) is not a run'),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config.build(settings(**changes).sampler)


def test_an_arm_of_an_unknown_run_is_refused():
    arms = tree()['arms']
    arms['none']['main'] = {'run': 'mian'}
    with pytest.raises(ValueError, match=r'arms.none.main.run \(mian\) is not a run; known: '):
        settings(arms=arms)


def test_a_guide_of_an_age_that_no_snapshot_has_is_refused():
    arms = tree()['arms']
    arms['autoguidance_2']['guide'] |= {'nimg': 5}
    with pytest.raises(
        ValueError, match=r'guide.nimg \(5\): run guide keeps snapshots at 128, 192'
    ):
        settings(arms=arms)


def test_points_are_no_images(done):
    from autoguide_jax import generate

    run = str(done[0] / 'runs/main/seed-0')
    wanted = config.parse(generate.Settings, {'main': {'run': run, 'std': 0.01}})
    with pytest.raises(ValueError, match='draws points, not images'):
        generate.main(wanted, done[0] / 'out')


def test_a_seed_is_named_once():
    with pytest.raises(ValueError, match='names a seed twice'):
        run_settings(seeds=[1, 1])
    assert dataclasses.replace(run_settings(), seeds=(4,)).seeds == (4,)


def test_checkpoints_of_other_seeds_are_not_continued(tmp_path):
    train.main(run_settings(seeds=[1, 2]), tmp_path)
    for other in ({'seeds': [3, 4]}, {'seeds': [1, 2, 3]}, {'seed': 1}):
        with pytest.raises(ValueError, match='holds checkpoints of other seeds'):
            train.main(run_settings(**other), tmp_path)


def test_a_run_of_before_the_newer_settings_is_still_that_run(tmp_path, one_conv):  # noqa: F811
    image = {'data': {'name': 'digits'}, 'network': {'name': 'one_conv'}}
    lengths = dict.fromkeys(('total_nimg', 'snapshot_nimg', 'checkpoint_nimg', 'log_nimg'), 16)
    wanted = config.parse(TrainSettings, image | {'train': lengths | {'batch_size': 16}})
    train.main(wanted, tmp_path)
    old = files.read_json(tmp_path / 'config.json')
    del old['seeds'], old['train']['snapshot_at']
    del old['denoiser']['name'], old['denoiser']['logvar_channels']
    files.write_json(tmp_path / 'config.json', old)
    assert train.main(wanted, tmp_path)['nimg'] == 16
    old['denoiser']['name'] = 'log_density'
    files.write_json(tmp_path / 'config.json', old)
    with pytest.raises(ValueError, match='denoiser.name'):
        train.main(wanted, tmp_path)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'data': {'name': 'digits'}, 'loss': {}},
            'digits holds images, which take latents.name=pixels',
        ),
        ({'latents': {'name': 'pixels'}}, 'toy holds points, which take latents.name=points'),
        ({'seed': 2**22}, 'endless set needs seed'),
        ({'network': {'name': 'edm2_unet'}}, 'resolution: required'),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(changes, message, tmp_path):
    base = {k: v for k, v in tree()['runs']['main'].items() if k not in changes}
    with pytest.raises(ValueError, match=message):
        train.main(config.parse(TrainSettings, base | changes), tmp_path / 'run')
    assert not (tmp_path / 'run').exists() or not list((tmp_path / 'run').iterdir())


def test_the_control_on_few_points_trains(tmp_path):
    few = config.load('configs/toy.py:few_points')
    few['network']['width'] = 4
    few['train'] = tree()['runs']['main']['train']
    assert train.main(config.parse(TrainSettings, few), tmp_path)['nimg'] == 4 * BATCH


def test_paths_end_where_samples_are_drawn_with_churn_too(done, tmp_path):
    from autoguide_jax.study.toy.campaign import ToyStudy

    for churn in (0.0, 4.0):
        s = settings(sampler=tree()['sampler'] | {'s_churn': churn})
        whole = ToyStudy(s, done[0])
        pair = whole.pair(s.arms['autoguidance_2'], 3)
        drawn, path = whole.drawn(pair, 64), whole.probe.paths(pair, 64)
        np.testing.assert_allclose(path[-1], drawn, rtol=1e-4, atol=1e-4)
    assert path.shape == (5, 64, 2)


def test_error_fields_count_from_the_truth_or_from_the_network_as_it_was(done):
    from autoguide_jax.study.toy import fields
    from autoguide_jax.study.toy.campaign import ToyStudy

    study = ToyStudy(settings(), done[0])
    arms = study.settings.arms
    x = fields.data('A', 64)
    exact, clean = study.pair(arms['exact'], 3), study.pair(arms['autoguidance_2'], 3)
    both = dataclasses.replace(clean, main=exact.main)
    e_m, e_0 = study.probe.errors(both, None, 64, x, fields.LEVELS)
    truth = study.probe.truth(x, fields.LEVELS)
    np.testing.assert_allclose(e_m, 0, atol=1e-4)
    guide = study.networks.calls(clean)[0][1].network
    at = lambda x, sigma: guide.apply(guide.variables, x, sigma)
    np.testing.assert_allclose(e_0[4], at(x[4], fields.LEVELS[4]) - truth[4], atol=1e-5)
    harmed = study.pair(study.settings.degradation.pairs['noise'], 3, weight=2.0)
    whole = dataclasses.replace(harmed.main, degrade=None)
    e_m, e_0 = study.probe.errors(harmed, whole, 64, x, fields.LEVELS)
    before = study.networks.calls(pairs.Pair(main=whole))[0][0].network
    none = np.full(64, -1, np.int32)
    for e, call in zip((e_m, e_0), study.networks.calls(harmed)[0]):
        worse = call.degrade(before.denoiser, before.variables, none)
        error = worse(x[4], fields.LEVELS[4]) - before.apply(
            before.variables, x[4], fields.LEVELS[4]
        )
        np.testing.assert_allclose(e[4], error, atol=1e-5)
    assert np.abs(e_m).max() > 1e-3


def test_what_is_kept_of_the_truth_belongs_to_its_points(done):
    from autoguide_jax.study.toy import fields
    from autoguide_jax.study.toy.campaign import ToyStudy

    study = ToyStudy(settings(), done[0])
    pair = study.pair(study.settings.arms['autoguidance_2'], 3)
    x = fields.data('A', 64)
    twice = [
        study.probe.errors(pair, None, name, x + i, fields.LEVELS) for i, name in enumerate('ab')
    ]
    fresh = ToyStudy(settings(), done[0]).probe.errors(pair, None, 'b', x + 1, fields.LEVELS)
    np.testing.assert_array_equal(twice[1], fresh)
    assert np.abs(np.subtract(*twice)).max() > 1e-3


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'trade_off': {'intervals': [0.5, 0.1]}}, '0 ≤ lo < hi'),
        ({'guides': {'interval': [0.5]}}, 'two noise levels'),
        ({'guides': {'runs': ['guide'], 'nimg': [5]}}, r'guides.nimg \(5\): run guide keeps'),
        ({'batch_size': 0}, r'batch_size \(0\)'),
        ({'pictures': {'guided': 'none'}}, 'must be an arm with a trained guide'),
        ({'degradation': {'pairs': {'a': {'main': {'run': 'main'}}}}}, 'neither guide nor uncond'),
    ],
)
def test_what_later_parts_could_not_use_is_refused_first(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_rows_of_a_finished_study_do_not_stand_for_one_with_other_settings(tmp_path):
    first = Record(settings(), tmp_path)
    files.write_json(first.file, {**first.describe(), 'rows': ['a']})
    assert Record(settings(), tmp_path).old['rows'] == ['a']
    assert 'rows' not in Record(settings(points=128), tmp_path).old
