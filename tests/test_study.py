"""A whole study of tiny networks: run, run again, and what decides that a row is drawn anew."""

import dataclasses
import itertools
import shutil
import types

import numpy as np
import pytest
import tiny

from autoguide_jax import config, files, pairs, study
from autoguide_jax.data import open_dataset
from autoguide_jax.generation import Programs
from autoguide_jax.pairs import GuidanceSettings, NetworkRef, Pair
from autoguide_jax.scorer import Scorer
from autoguide_jax.study import campaign
from autoguide_jax.study.campaign import Study, summary
from autoguide_jax.study.costs import Costs
from autoguide_jax.study.record import mean_and_spread
from autoguide_jax.study.settings import Settings

NETWORK = {
    'name': 'edm2_unet', 'model_channels': 8, 'channel_mult': [1], 'num_blocks': 1,
    'attn_resolutions': [], 'channels_per_head': 8,
}  # fmt: skip


def run(nimg):
    lengths = {'total_nimg': nimg, 'snapshot_nimg': 128, 'checkpoint_nimg': nimg, 'log_nimg': nimg}
    return {'network': NETWORK, 'optim': {'rampup_nimg': 0}, 'train': {'batch_size': 32, **lengths}}


TREE = {
    'title': 'tiny',
    'runs': {'main': run(512), 'guide': run(256)},
    'arms': {
        'none': {'title': 'None', 'main': 'main'},
        'guided': {'title': 'Guided', 'main': 'main', 'guide': 'guide'},
    },
    'search': {'budget': 3, 'images': 40, 'main_std': [0.05, 0.12], 'guide_std': [0.05, 0.12]},
    'final': {'images': 40, 'repeats': 2},
    'extra': {
        'weights': [1.0, 2.0], 'grid': 10, 'slider': 5, 'steps': [3, 4], 'steps_arms': ['guided'],
    },
    'sampler': {'name': 'heun', 'num_steps': 3},
    'features': tiny.CLASSIFIER,
    'metrics': ['frechet', 'class_accuracy'],
    'allow_fewer': True,  # 40 images for 64 features
    'batch_size': 40,
    'stack': 'off',
}  # fmt: skip


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('study')
    return workdir, study.main(config.parse(Settings, TREE), workdir)


def test_every_arm_has_the_same_budget_and_fresh_seeds(finished):
    workdir, table = finished
    assert [row['arm'] for row in table] == ['Guided', 'None']
    rows = files.read_jsonl(workdir / 'results.jsonl')
    tried = [(row['arm'], tuple(row['seeds'])) for row in rows if row['phase'] == 'search']
    assert {seeds for _, seeds in tried} == {(0, 40)}
    assert all(1 <= sum(arm == name for arm, _ in tried) <= 3 for name in ('none', 'guided'))
    fresh = [row['seeds'][0] for row in rows if row['phase'] == 'final' and row['arm'] == 'none']
    assert len(set(fresh)) == 2 and min(fresh) >= 40
    for row in rows:
        if row['phase'] != 'floor':
            acts = row['setting']['guide'] is not None and row['setting']['weight'] != 1
            calls = 7 if row['phase'] == 'steps' else 5
            assert row['nfe'] == {'main': calls, 'guide': calls * acts}
            assert row['setting']['main']['nimg'] == 512


def test_real_images_have_classes_as_the_samples_have_them():
    digits = open_dataset('digits')
    balanced = campaign.real_images(digits, 0, 55, 'balanced')
    assert len(set(balanced)) == 55
    assert sorted(np.bincount(digits.labels[balanced], minlength=10)) == [5] * 5 + [6] * 5
    drawn = campaign.real_images(digits, 0, 55, 'random')
    assert min(np.bincount(digits.labels[drawn], minlength=10)) < 5
    assert set(campaign.real_images(digits, 1, 55, 'balanced')) != set(balanced)
    hidden = open_dataset('digits', labels=False)
    assert campaign.real_images(hidden, 0, 55, 'balanced').tolist() == drawn.tolist()


def test_other_numbers_of_steps_are_scored_on_the_final_seeds(finished):
    rows = files.read_jsonl(finished[0] / 'results.jsonl')
    steps = [row for row in rows if row['phase'] == 'steps']
    final = [row for row in rows if row['phase'] == 'final' and row['arm'] == 'guided']
    assert [row['seeds'] for row in steps] == [row['seeds'] for row in final]
    assert {(row['arm'], row['steps']) for row in steps} == {('guided', 4)}, '3 are the final rows'
    assert [r['metrics'] for r in steps] != [r['metrics'] for r in final]
    assert {row['key'] for row in rows} == set(files.read_json(finished[0] / 'study.json')['rows'])


def test_the_slider_has_the_same_seeds_at_every_weight(finished):
    folder = finished[0] / 'samples'
    assert files.names(folder) == ['guided.npz', 'guided@1.npz', 'guided@2.npz', 'none.npz']
    found = {}
    for name in files.names(folder):
        with files.open_npz(folder / name) as arrays:
            found[name] = dict(arrays)
    for name in ('guided@1.npz', 'guided@2.npz'):
        for part in ('seeds', 'labels'):
            np.testing.assert_array_equal(found[name][part], found['guided.npz'][part][:5])
        assert found[name]['images'].shape == (5, 8, 8, 1)
    assert (found['guided@1.npz']['images'] != found['guided@2.npz']['images']).any()


def test_only_pictures_of_another_setting_are_drawn_anew_or_removed(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / 'copy') / 'samples'
    right = {name: (folder / name).read_bytes() for name in files.names(folder)}
    shutil.copy(folder / 'guided@2.npz', folder / 'guided@1.npz')
    weights = {**TREE, 'extra': {**TREE['extra'], 'weights': [1.0, 3.0]}}
    study.main(config.parse(Settings, weights), tmp_path / 'copy')
    assert files.names(folder) == ['guided.npz', 'guided@1.npz', 'guided@3.npz', 'none.npz']
    for name in ('guided.npz', 'guided@1.npz', 'none.npz'):
        assert (folder / name).read_bytes() == right[name]
    assert (folder / 'guided@3.npz').read_bytes() != right['guided@2.npz']


def test_study_json_tells_what_training_costs(finished):
    record = files.read_json(finished[0] / 'study.json')
    flops = record['networks']['main']['forward_flops']
    assert flops > 0 and record['networks']['main']['training_flops'] == 3 * 512 * flops
    none, guided = (record['arms'][name] for name in ('none', 'guided'))
    assert none['trained'] == {'main': 512} and none['training_flops'] == 3 * 512 * flops
    assert guided['trained'] == {'main': 512, 'guide': 256}
    assert guided['training_flops'] == 3 * 768 * flops
    with_rates = Costs(config.parse(Settings, TREE), finished[0])
    assert {'draw', 'train', 'train main', 'train guide'} <= with_rates.rates().keys()


def test_what_is_beyond_the_budget_is_refused_before_any_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Study, 'train', lambda _: pytest.fail('it trained'))
    settings = config.parse(Settings, {**TREE, 'budget': {'images': 100}})
    with pytest.raises(ValueError, match=r'budget\.images \(100\): \d+ images would be drawn'):
        study.main(settings, tmp_path)
    assert files.names(tmp_path) == []
    assert 'unknown until the first batches' in capsys.readouterr().err


def test_hours_are_refused_as_soon_as_they_are_known(finished, tmp_path, monkeypatch):
    shutil.copytree(finished[0] / 'runs', tmp_path / 'runs')
    monkeypatch.setattr(Study, 'train', lambda _: pytest.fail('it trained'))
    settings = config.parse(Settings, {**TREE, 'budget': {'hours': 1e-9}})
    with pytest.raises(ValueError, match=r'budget\.hours \(1e-09\): by the rates measured here'):
        study.main(settings, tmp_path)


def test_a_second_run_draws_and_trains_nothing(finished, monkeypatch):
    workdir, table = finished
    before = (workdir / 'results.jsonl').read_bytes()
    record = files.read_json(workdir / 'study.json')
    monkeypatch.setattr(Scorer, 'measure', lambda *_: pytest.fail('a finished row was drawn'))
    monkeypatch.setattr(Programs, 'all_images', lambda *_: pytest.fail('samples were drawn'))
    assert study.main(config.parse(Settings, TREE), workdir) == table
    assert (workdir / 'results.jsonl').read_bytes() == before
    again = files.read_json(workdir / 'study.json')
    assert again['rows'] == record['rows'] and again['arms'] == record['arms']


def test_a_second_run_that_is_interrupted_loses_nothing(finished, monkeypatch):
    workdir, _ = finished
    record = files.read_json(workdir / 'study.json')
    monkeypatch.setattr(Study, 'open', lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        study.main(config.parse(Settings, TREE), workdir)
    again = files.read_json(workdir / 'study.json')
    for name in ('rows', 'arms', 'order', 'features', 'compilations'):
        assert again[name] == record[name], name


def test_too_few_images_are_refused_before_any_is_drawn_or_said_to_be(
    finished, tmp_path, monkeypatch
):
    workdir, table = finished
    rows = files.read_jsonl(workdir / 'results.jsonl')
    assert all(row['fewer'] == {'frechet': 65} for row in rows)
    assert table[0]['frechet: fewer images than'] == 65
    shutil.copytree(workdir, tmp_path / 'copy')
    monkeypatch.setattr(Scorer, 'measure', lambda *_: pytest.fail('images were drawn'))
    strict = {**TREE, 'allow_fewer': False}
    with pytest.raises(ValueError, match=r'frechet .* asks for 65 images, there are 40'):
        study.main(config.parse(Settings, strict), tmp_path / 'copy')


def test_the_search_may_have_fewer_images_than_the_final_scores(finished, tmp_path, capsys):
    shutil.copytree(finished[0], tmp_path / 'copy')
    strict = {**TREE, 'allow_fewer': False, 'final': {'images': 65, 'repeats': 1}}
    Study(config.parse(Settings, strict), tmp_path / 'copy').open()
    notes = [line for line in capsys.readouterr().err.splitlines() if 'asks for' in line]
    assert notes == ['search.images: frechet asks for 65 images, has 40'], 'not of the floor, of 65'


def test_what_the_features_cannot_give_is_not_minimised(finished, tmp_path, monkeypatch):
    shutil.copytree(finished[0], tmp_path / 'copy')
    monkeypatch.setattr(Scorer, 'measure', lambda *_: pytest.fail('images were drawn'))
    spatial = config.parse(Settings, {**TREE, 'metrics': ['sfid', 'frechet']})
    with pytest.raises(
        ValueError, match='sfid is minimised, and has no value .*has no spatial features'
    ):
        study.main(spatial, tmp_path / 'copy')


def test_a_setting_without_a_value_is_not_chosen_and_stops_nothing(
    finished, tmp_path, monkeypatch, capsys
):
    shutil.copytree(finished[0], tmp_path / 'copy')
    (tmp_path / 'copy' / 'results.jsonl').unlink()
    seen = []

    def measure(_, pair, first, count):
        guided = pair.guide.run != ''
        seen.extend([guided] * (first == 0))
        # The first try of the guided arm, all of the other, and one of the final sets have none.
        none = first == 0 and (not guided or seen.count(True) == 1) or first == 1_000_000
        return {
            'setting': pairs.setting_row(pair),
            'seeds': [first, count],
            'metrics': {'frechet': None if none else pair.main.std, 'class_accuracy': None},
            'errors': {},
            'undefined': {'class_accuracy': 'no labels'},
            'images': count,
        }

    monkeypatch.setattr(Scorer, 'measure', measure)
    table = study.main(config.parse(Settings, TREE), tmp_path / 'copy')
    rows = files.read_jsonl(tmp_path / 'copy' / 'results.jsonl')
    tries = [r for r in rows if r['phase'] == 'search' and r['arm'] == 'guided']
    values = [row['metrics']['frechet'] for row in tries]
    assert values[0] is None and len(tries) == 3
    guided, none = table
    assert guided['main_std'] == pytest.approx(min(filter(None, values)), abs=1e-3)
    assert 'search of none: frechet has no value anywhere' in capsys.readouterr().err
    assert none['frechet: sets with a value'] == '1 of 2'
    assert none['class_accuracy: none, because'] == 'no labels'


def test_a_search_that_screens_with_few_images_resumes(finished, tmp_path, monkeypatch):
    shutil.copytree(finished[0], tmp_path / 'copy')
    settings = config.parse(
        Settings, {**TREE, 'search': {**TREE['search'], 'method': 'halving', 'budget': 4}}
    )
    counts = []

    def measure(_, pair, first, count):
        if first == 0 and counts[3:] and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        counts.append(count)
        metrics = {'frechet': pair.main.std, 'class_accuracy': 0.5}
        setting, seeds = pairs.setting_row(pair), [first, count]
        return {'setting': setting, 'seeds': seeds, 'metrics': metrics, 'images': count}

    stopped = []
    (tmp_path / 'copy' / 'results.jsonl').unlink()
    monkeypatch.setattr(Scorer, 'measure', measure)
    with pytest.raises(KeyboardInterrupt):
        study.main(settings, tmp_path / 'copy')
    table = study.main(settings, tmp_path / 'copy')
    rows = files.read_jsonl(tmp_path / 'copy' / 'results.jsonl')
    images = {phase: {r['images'] for r in rows if r['phase'] == phase} for phase in PHASES}
    assert images == {'search': {40}, 'screen': {5, 10, 20}}
    for row in table:
        tries = [r for r in rows if r['phase'] == 'search' and r['arm'] == row['arm'].lower()]
        assert row['main_std'] == min(r['setting']['main']['std'] for r in tries)
    monkeypatch.setattr(Scorer, 'measure', lambda *_: pytest.fail('a finished row was drawn'))
    assert study.main(settings, tmp_path / 'copy') == table


PHASES = ('search', 'screen')


def test_the_printed_row_is_of_the_sets_that_have_a_value():
    row = lambda value, **more: {'metrics': {'frechet': value}, **more}
    known = row(2.0, errors={'frechet': 0.5}, fewer={'frechet': 65})
    arms = {'a': types.SimpleNamespace(title='A')}
    settings = types.SimpleNamespace(arms=arms, metrics=('frechet',))

    def printed(*rows):
        final = lambda name: list(rows)
        told = types.SimpleNamespace(settings=settings, chosen={'a': {}}, final_rows=final)
        return summary(told, 'a')

    assert printed(row(None), known) == {
        'arm': 'A',
        'frechet': '2.000 ± 0.500',
        'frechet: sets with a value': '1 of 2',
        'frechet: fewer images than': 65,
    }
    assert set(printed(known)) == {'arm', 'frechet', 'frechet: fewer images than'}


def test_one_set_of_seeds_is_printed_with_its_own_error():
    assert mean_and_spread([1.0, 3.0], 2, 0.5) == '2.00 ± 1.41'
    assert mean_and_spread([1.0], 2, 0.5) == '1.00 ± 0.50'
    assert mean_and_spread([1.0], 2) == '1.00'


def test_a_finished_run_is_not_shortened(finished):
    workdir, _ = finished
    shorter = {**TREE, 'runs': {**TREE['runs'], 'guide': run(128)}}
    with pytest.raises(ValueError, match=r'total_nimg \(128\) is below the 256 images'):
        study.main(config.parse(Settings, shorter), workdir)
    assert files.read_json(workdir / 'runs/guide/config.json')['train']['total_nimg'] == 256


class Evaluator:
    identity = 'one'

    def __init__(self, identity='one'):
        self.identity = identity


def measurements(workdir, monkeypatch):
    """(name, measurement) of one setting, and of it with each ingredient changed once."""
    monkeypatch.setattr(Scorer, 'measure', lambda *_: {})
    ref = lambda name, **rest: NetworkRef(str(workdir / 'runs' / name), **{'std': 0.1, **rest})
    base = {'main': ref('main'), 'guide': ref('guide'), 'guidance': GuidanceSettings(2.0)}
    heun = {'name': 'heun', 'num_steps': 3}
    numbers = itertools.count()

    def measure(
        sampler=heun, seeds=(0, 40), classes='random', evaluator='one', vae=None, **changes
    ):
        file = workdir / f'keys{next(numbers)}.jsonl'
        part = config.parse(Settings, {**TREE, 'sampler': sampler}).sampler
        programs = types.SimpleNamespace(autoencoder=vae)
        scorer = Scorer(None, programs, Evaluator(evaluator), file, part, classes)
        return scorer.score(Pair(**{**base, **changes}), *seeds)['measurement']

    yield 'base', measure()
    yield 'main std', measure(main=ref('main', std=0.11))
    yield 'main nimg', measure(main=ref('main', nimg=384))
    yield 'guide std', measure(guide=ref('guide', std=0.11))
    yield 'guide run', measure(guide=ref('main'))
    yield 'role', measure(guide=NetworkRef(), uncond=ref('guide'))
    yield 'weight', measure(guidance=GuidanceSettings(2.1))
    yield 'interval', measure(guidance=GuidanceSettings(2.0, (0.1, 5.0)))
    schedule = {'schedule_sigma': (0.1, 5.0), 'schedule_scale': (0.0, 1.0)}
    yield 'schedule', measure(guidance=GuidanceSettings(2.0, **schedule))
    schedule['schedule_scale'] = (0.5, 1.0)
    yield 'scale', measure(guidance=GuidanceSettings(2.0, **schedule))
    yield 'steps', measure(sampler={**heun, 'num_steps': 4})
    yield 'sigma_max', measure(sampler={**heun, 'sigma_max': 70.0})
    yield 'sampler', measure(sampler={'name': 'euler', 'num_steps': 3})
    yield 'seeds', measure(seeds=(1, 40))
    yield 'count', measure(seeds=(0, 41))
    yield 'classes', measure(classes='balanced')
    yield 'evaluator', measure(evaluator='another')
    vae = lambda **facts: types.SimpleNamespace(describe=lambda: facts)
    yield 'autoencoder', measure(vae=vae(content_hash='a', dtype='float32'))
    yield 'its dtype', measure(vae=vae(content_hash='a', dtype='bfloat16'))
    record = workdir / 'runs/guide/config.json'
    tree = files.read_json(record)
    for part, name, value in (('denoiser', 'sigma_data', 0.6), ('network', 'dtype', 'bfloat16')):
        files.write_json(record, {**tree, part: {**tree[part], name: value}})
        yield name, measure()
    files.write_json(record, tree)
    yield 'base again', measure()
    yield 'default spelt out', measure(sampler={**heun, 'sigma_max': 80.0})
    yield 'moment spelt out', measure(main=ref('main', nimg=512))


def test_a_row_is_keyed_by_everything_that_decides_it(finished, monkeypatch):
    found = dict(measurements(finished[0], monkeypatch))
    same = ('base', 'base again', 'default spelt out', 'moment spelt out')
    assert len({found[name] for name in same}) == 1
    others = [value for name, value in found.items() if name not in same[1:]]
    assert len(set(others)) == len(others), found


def test_the_latest_snapshot_is_settled_before_anything_is_keyed(finished):
    run_dir = str(finished[0] / 'runs/main')
    settled = pairs.settled(Pair(main=NetworkRef(run_dir)))
    assert settled == Pair(main=dataclasses.replace(settled.main, nimg=512))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'main': ''}, r'main\.run is empty'),
        ({'main': 'nowhere'}, r'main\.run \(nowhere\) is not a run directory'),
    ],
)
def test_a_run_that_is_not_there_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        pairs.Networks().check(Pair(main=NetworkRef(changes['main'])))


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'guide': NetworkRef('g'), 'uncond': NetworkRef('u')}, 'alpha'),
        ({'guidance': GuidanceSettings(2.0)}, 'needs guide.run or uncond.run'),
        (
            {'guidance': GuidanceSettings(schedule_sigma=(1.0,), schedule_scale=(2.0,))},
            r'schedule_sigma \(\(1.0,\)\) needs guide.run',
        ),
        ({'guidance': GuidanceSettings(alpha=0.5), 'guide': NetworkRef('g')}, 'give both'),
        (
            {'guidance': GuidanceSettings(uncond_interval=(0.1, 1)), 'guide': NetworkRef('g')},
            'needs uncond.run',
        ),
        (
            {
                'guidance': GuidanceSettings(interval=(0.1, 1), uncond_interval=(0.1, 2)),
                'uncond': NetworkRef('u'),
            },
            'give one',
        ),
    ],
)
def test_settings_that_would_not_act_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Pair(main=NetworkRef('m'), **given)


def test_searches_minimise_distances_only():
    with pytest.raises(ValueError, match='must begin with a distance'):
        config.parse(Settings, {**TREE, 'metrics': ['recall', 'frechet']})


def test_the_same_seeds_in_every_arm(finished):
    arms = [files.open_npz(finished[0] / f'samples/{name}.npz') for name in ('none', 'guided')]
    with arms[0] as one, arms[1] as other:
        for name in ('seeds', 'labels'):
            np.testing.assert_array_equal(one[name], other[name])
        assert one['images'].shape == (10, 8, 8, 1)
