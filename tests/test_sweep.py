"""Sweeps and searches: what config files declare, shared batches, cost, resuming, two workers."""

import dataclasses
import itertools
import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import fake_features
import jax
import numpy as np
import pytest
import tiny

from autoguide_jax import backbones, claims, config, files, report, snapshots, sweep
from autoguide_jax.data.digits import Digits
from autoguide_jax.denoiser import Denoiser
from autoguide_jax.evaluator import Evaluator
from autoguide_jax.generation import Programs
from autoguide_jax.metrics import features
from autoguide_jax.pairs import Networks
from autoguide_jax.seeds import sample_labels
from autoguide_jax.sweep import campaign, cost, group_scorer
from autoguide_jax.sweep.campaign import Campaign
from autoguide_jax.sweep.grid import Grid
from autoguide_jax.sweep.group_scorer import GroupScorer, by_sample

SHAPES = {'main': (8, 1, 10), 'guide': (8, 1, 10), 'large': (16, 1, 10), 'few': (8, 1, 3)}
NIMGS, STDS = (2**18, 2**19), (0.05, 0.10)
SCORE = {'images': '32', 'batch_size': '32', 'metrics': 'frechet', 'allow_fewer': 'true'}
SCORE |= {'stack': 'off'}  # to measure which is faster takes two compilations
GRID = {'sweep.weight': '1,1.5,2', 'sweep.guide_std': '0.05,0.1', 'sampler.num_steps': '3'}
GRID |= {f'score.{name}': value for name, value in SCORE.items()}
HALVING = {**GRID, 'search.budget': '5', 'search.first': '8', 'score.confirm': '2'}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Settings that name two networks of one convolution, each at two moments and EMA lengths."""
    folder, found = tmp_path_factory.mktemp('runs'), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.table.table, 'one_conv', 'tiny:OneConv')
        for seed, (name, shape) in enumerate(SHAPES.items()):
            named = dict(zip(('resolution', 'channels', 'label_dim'), shape))
            tree = {'network': {'name': 'one_conv', **named}, 'latents': {'name': 'pixels'}}
            tree['denoiser'] = {'name': 'edm', 'sigma_data': 0.5}
            files.write_json(folder / name / 'config.json', tree)
            for i, nimg in enumerate(NIMGS):
                drawn = [
                    tiny.variables(Denoiser(tiny.OneConv(*shape)), 10 * seed + 2 * i + j)
                    for j in range(len(STDS))
                ]
                stacked = jax.tree.map(lambda *a: np.stack(a), *[v['params'] for v in drawn])
                snapshots.save(folder / name, nimg, STDS, stacked, drawn[0].get('buffers', {}))
            found[name] = str(folder / name)
        yield found


@pytest.fixture(scope='module', autouse=True)
def evaluator():
    """Random projections of the digits, in place of a trained classifier, for all campaigns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(features.table.table, 'inception', fake_features.OPENERS['inception'])
        tree = {'features': {'name': 'inception', 'weights': 'none'}}
        chosen = config.parse(sweep.Settings, tree).features
        opened = Evaluator(Digits(), chosen, ('frechet',), allow_fewer=True)
        patch.setattr(Campaign, 'open_evaluator', lambda _: opened)
        yield opened


def parse(cls, runs, source=None, **given):
    named = {'main.run': runs['main'], 'guide.run': runs['guide']} | given
    return config.parse(cls, config.load(source, list(named.items()), cls))


def rows_of(workdir):
    return files.read_jsonl(workdir / 'results.jsonl')


def scores_of(workdir):
    """(setting, seeds) → metrics of the rows of a workdir."""
    return {(named(row), *row['seeds']): row['metrics'] for row in rows_of(workdir)}


def named(row):
    return json.dumps(row['setting'], sort_keys=True)


@pytest.fixture
def declare(tmp_path):
    """Write a config file that ends so; returns its path."""

    def write(text, name='declared.py'):
        file = tmp_path / name
        file.write_text('def get_config(arg=None):\n    return {}\n\n\n' + text)
        return str(file)

    return write


# What config files declare


PRODUCT = """
def sweep(arg=''):
    for nimg in (2**19, 2**18):
        for std in (0.1, 0.05):
            yield {'guide.nimg': nimg, 'guide.std': std, 'guide.run': arg or 'a, b/c'}
"""
PAIRED = """
def sweep_ema():
    for std in (0.05, 0.1):
        yield {'main.std': std, 'guide.std': std}

def sweep_levels():
    yield {'guidance.interval': (0.1, 2), 'guidance.weight': 2}
    yield {'guidance.interval': (0.2, 'inf'), 'guidance.weight': 3}

def sweep_weight():
    yield {'guidance.weight': 2, 'sampler.num_steps': 4}
    yield {'guidance.weight': 3, 'sampler.num_steps': 5}
"""


def test_a_product_is_as_many_ordered_axes_as_it_has_settings(runs, declare):
    grid = Grid(parse(sweep.Settings, runs, declare(PRODUCT)))
    assert grid.space.axes == {
        'guide_nimg': (2**18, 2**19),
        'guide_std': (0.05, 0.1),
        'guide_run': ('a, b/c',),
    }
    refs = [(s.guide.run, s.guide.nimg, s.guide.std) for _, s in grid.points()]
    assert refs == [('a, b/c', nimg, std) for nimg in NIMGS for std in STDS]
    told = Grid(parse(sweep.Settings, runs, declare(PRODUCT) + ':2024'))
    assert (
        told.space.axes['guide_run'] == ('2024',)
        and told.at(next(told.space.points())).guide.run == '2024'
    ), 'a name of digits is no number'


def test_what_is_no_product_is_one_axis_of_what_belongs_together(runs, declare):
    file = declare(PAIRED)
    given = {'cross': 'ema,levels', 'sweep.num_steps': '3,4', 'sweep.guide_nimg': '256Ki'}
    grid = Grid(parse(sweep.Settings, runs, file, **given))
    assert list(grid.space.axes) == ['ema', 'levels', 'guide_nimg', 'num_steps']
    found = [
        (s.main.std, s.guide.std, s.guidance.weight, s.guidance.interval, s.guide.nimg)
        for _, s in grid.points()
    ]
    levels = [(2.0, (0.1, 2.0)), (3.0, (0.2, float('inf')))]
    assert found[::2] == [(std, std, *level, 2**18) for std in STDS for level in levels]
    steps = [config.build(s.sampler).num_steps for _, s in grid.points()]
    assert steps == [3, 4] * 4
    every = Grid(parse(sweep.Settings, runs, file, cross='weight'))
    found = [(s.guidance.weight, config.build(s.sampler).num_steps) for _, s in every.points()]
    assert found == [(2.0, 4), (3.0, 5)], 'an axis may be called as one of the lists is'


def test_schedules_samplers_and_folders_can_be_declared(runs, declare, tmp_path):
    text = """
def sweep():
    for models in ('/a b', "/it's"):
        for knots in ((0.1, 0.5, 2), (0.2, 1, 4)):
            yield {
                'models': models, 'guidance.weight': 2,
                'guidance.schedule_sigma': knots, 'guidance.schedule_scale': (0, 1, 0),
            }
"""
    grid = Grid(parse(sweep.Settings, runs, declare(text)))
    assert list(grid.space.axes)[:2] == ['models', 'weight'] and grid.space.size == 4
    found = [(s.models, s.guidance.schedule_sigma) for _, s in grid.points()]
    knots = [(0.1, 0.5, 2.0), (0.2, 1.0, 4.0)]
    assert found == list(itertools.product(('/a b', "/it's"), knots))


@pytest.mark.parametrize(
    'text, given, message',
    [
        ('def sweep():\n    return\n    yield', {}, r'sweep\(\) yields nothing'),
        ('def sweep():\n    return 5', {}, r'sweep\(\) must yield settings; it returned 5'),
        ('def sweep():\n    yield 0.1', {}, r"sweep\(\) must yield settings such as .*: 0.1"),
        ('def sweep_a(arg):\n    yield {}', {}, r'sweep_a\(\) takes an argument'),
        ("def sweep():\n    yield {'guide.stdd': 1}", {}, 'stdd: unknown .* mean .std'),
        ("def sweep():\n    yield {'score.images': 5}", {}, r'score: unknown setting'),
        ("def sweep():\n    yield {'guide.std': 0.1}", {'sweep.guide_std': '0.1'}, 'declares it'),
        (PAIRED, {'cross': 'ema,emma'}, r'cross \(emma\) is not declared .*; .*ema, levels'),
        ("def sweep():\n    yield {'vae': 'a.npz'}", {}, 'one vae decodes a whole sweep'),
        (PAIRED, {}, r'guidance.weight is swept twice'),
        (PAIRED, {'cross': 'ema', 'sweep.main_std': '0.1'}, 'main.std is swept twice'),
        (PAIRED, {'cross': 'levels', 'sweep.interval_lo': '1'}, 'interval is swept twice'),
        (PAIRED, {'cross': 'ema,ema'}, r'cross \(ema\): another declares ema'),
        ('', {'cross': 'ema'}, r'the config file has no sweep\(\)'),
        ('', {'sweep.uncond_std': '0.1'}, r'sweep.uncond_std .* needs uncond.run'),
        ('', {'sweep.guide_std': '0.1', 'guide.run': ''}, r'sweep.guide_std .* needs guide.run'),
    ],
)  # fmt: skip
def test_what_cannot_be_swept_is_refused(runs, declare, text, given, message):
    with pytest.raises(ValueError, match=message):
        Grid(parse(sweep.Settings, runs, declare(text), **given))


def test_an_argument_reaches_the_sweep_and_others_are_left_alone(runs, declare):
    source = declare('def sweep(arg):\n    yield {"guide.run": arg}\n\nsweeper = sweeps = 3\n')
    assert parse(sweep.Settings, runs, f'{source}:x y').declared == {'sweep': ("'guide.run=x y'",)}


def test_every_network_of_a_large_grid_is_visited_without_walking_it(runs):
    given = {'sweep.weight': '1.0,1.05,…,3.5', 'sweep.main_std': '0.02,0.025,…,0.26'}
    given |= {'sweep.guide_std': given['sweep.main_std'], 'sweep.guide_nimg': '256Ki,512Ki'}
    given |= {'sweep.guide_run': 'a,b'}
    grid = Grid(parse(sweep.Settings, runs, **given))
    visited = list(itertools.islice(grid.each_network(), 1000))
    assert grid.space.size == 51 * 49 * 49 * 4 and len(visited) < 1000
    assert len({s.main.std for s in visited}) == 49
    assert len({(s.guide.run, s.guide.nimg, s.guide.std) for s in visited}) == 49 * 4
    assert len({s.guidance.weight for s in visited}) == 51


# Settings that share batches


def test_only_settings_that_differ_in_weight_alone_share_batches(runs):
    axes = {'weight': '1,1.5,2,3', 'guide_std': '0.05,0.1', 'interval_hi': '1,5'}
    given = {f'sweep.{name}': found for name, found in axes.items()}
    settings = [s for _, s in Grid(parse(sweep.Settings, runs, **given)).points()]
    sampler = config.build(settings[0].sampler)
    groups = group_scorer.alike(settings, sampler, 2)
    assert sorted(map(id, settings)) == sorted(id(s) for group in groups for s in group)
    for group in groups:
        told = {(s.guide.std, s.guidance.interval, s.guidance.weight == 1) for s in group}
        assert len(told) == 1 and len(group) <= 2
    assert sorted(map(len, groups)) == [1] * 8 + [2] * 4


def test_images_of_a_mixed_batch_are_those_of_settings_one_by_one(runs):
    """Of the same program bit for bit; a program for one weight may round otherwise."""
    networks, given = Networks(), parse(sweep.Settings, runs, **{'sampler.num_steps': '3'})
    of = lambda w: dataclasses.replace(
        given, guidance=dataclasses.replace(given.guidance, weight=w)
    )
    (calls, _), weights = networks.calls(given), (1.5, 2.0, 3.0)
    rules = [networks.calls(of(w))[1] for w in weights]
    seeds, programs = np.arange(5), Programs(config.build(given.sampler), 16, 'off')
    labels, which = sample_labels(seeds, 10), np.repeat(np.arange(3), 5)
    draw = lambda *a: programs.images(calls, *a)
    mixed = draw(by_sample(rules, which), np.tile(seeds, 3), np.tile(labels, 3)).reshape(3, 5, 64)
    alone = [draw(by_sample([rule], 0 * seeds), seeds, labels).reshape(5, 64) for rule in rules]
    np.testing.assert_array_equal(mixed, alone)
    assert programs.count == 1
    usual = [draw(rule, seeds, labels).reshape(5, 64) for rule in rules]
    assert np.abs(mixed.astype(int) - usual).max() <= 1 and programs.count == 2
    assert np.abs(mixed[0].astype(int) - mixed[1]).max() > 1
    # w = 1 does not ask the guide: one of NaN changes nothing.
    nan = jax.tree.map(lambda a: np.full_like(a, np.nan), calls[1].network.variables)
    broken = dataclasses.replace(calls[1].network, variables=nan)
    one = by_sample([networks.calls(of(1.0))[1]], 0 * seeds)
    harmed = [calls[0], dataclasses.replace(calls[1], network=broken)]
    unguided = programs.images(harmed, one, seeds, labels)
    np.testing.assert_array_equal(unguided, programs.images(calls[:1], [], seeds, labels))


def test_a_mixed_sweep_compiles_once(runs, tmp_path, monkeypatch, capsys):
    batches, images = [], Programs.images

    def spy(self, calls, rules, *given):
        batches.extend(np.unique(rule.weight).tolist() for rule in rules)
        return images(self, calls, rules, *given)

    monkeypatch.setattr(Programs, 'images', spy)
    given = {**GRID, 'score.batch_size': '64', 'sweep.weight': '1,1.5,2,2.5'}
    table = sweep.main(parse(sweep.Settings, runs, **given), tmp_path)
    assert [1.0] in batches and [1.5, 2.0] in batches
    assert all(weights == [1.0] or 1.0 not in weights for weights in batches)
    assert len(table) == 7, 'w = 1 is one setting, whatever the guide'
    assert len(rows_of(tmp_path)) == 7
    assert ' 1 compilation(s)' in capsys.readouterr().out
    one_by_one = tmp_path / 'alone'
    sweep.main(parse(sweep.Settings, runs, **{**given, 'score.batch_size': '32'}), one_by_one)
    mixed, alone = scores_of(tmp_path), scores_of(one_by_one)
    assert mixed.keys() == alone.keys()
    for key, metrics in alone.items():
        assert metrics['frechet'] == pytest.approx(mixed[key]['frechet'], rel=1e-3)


# From n to N images


@pytest.fixture(scope='module')
def searched(runs, evaluator, tmp_path_factory):
    """A search by halving in a workdir, and what it returned."""
    workdir = tmp_path_factory.mktemp('search')
    settings = parse(sweep.SearchSettings, runs, **HALVING)
    return workdir, settings, sweep.main(settings, workdir)


def test_a_search_draws_the_difference_and_scores_as_a_sweep_does(searched, runs, tmp_path):
    workdir, settings, _ = searched
    rows = [row for row in rows_of(workdir) if row['phase'] == 'search']
    counts = {row['seeds'][1] for row in rows}
    assert counts == {8, 16, 32}
    meta = files.read_json(workdir / 'sweep.json')
    assert sum(row['drawn'] for row in rows) <= meta['found']['images'] <= 5 * 32
    for count in counts:
        plain = {**GRID, 'score.images': str(count)}
        sweep.main(parse(sweep.Settings, runs, **plain), tmp_path / str(count))
        swept = scores_of(tmp_path / str(count))
        for row in rows:
            if row['seeds'][1] == count:
                key = (named(row), *row['seeds'])
                same = pytest.approx(swept[key]['frechet'], rel=1e-3)
                assert row['metrics']['frechet'] == same


def test_images_that_are_forgotten_are_drawn_again(searched, tmp_path, monkeypatch):
    workdir, settings, table = searched
    monkeypatch.setattr(group_scorer, 'KEPT_BYTES', 0)
    again = sweep.main(settings, tmp_path)
    plain = lambda rows: [{k: v for k, v in row.items() if k != 'seconds'} for row in rows]
    assert plain(again) == plain(table) and scores_of(tmp_path) == scores_of(workdir)
    drawn = [sum(row['drawn'] for row in rows_of(folder)) for folder in (workdir, tmp_path)]
    assert drawn[1] > drawn[0]
    assert all(row['drawn'] == row['images'] for row in rows_of(tmp_path))


def test_settings_of_one_yield_may_have_unlike_numbers_of_known_images(searched, runs, tmp_path):
    """Two share a batch in the end, one of which was scored on fewer images before."""
    settings = searched[1]
    opened = Campaign(settings, tmp_path, Grid(settings), config.build(settings.search), Networks())
    scorer = opened.scorer(settings.sampler)
    scorer.mixed = True
    pairs = [s for _, s in opened.grid.points() if s.guidance.weight > 1 and s.guide.std == 0.1]
    first = scorer.score_group(pairs[:1], 0, 8)
    both = scorer.score_group(pairs, 0, 32)
    assert [row['drawn'] for row in (*first, *both)] == [8, 24, 32] and scorer.drawn == 64
    known = scores_of(searched[0])
    for row in both:
        if found := known.get((named(row), *row['seeds'])):
            assert row['metrics']['frechet'] == pytest.approx(found['frechet'], rel=1e-3)


# What it costs


def planned(settings, workdir):
    method = config.build(settings.search)
    return cost.settle(Campaign(settings, workdir, Grid(settings), method, Networks()))


def test_the_plan_of_a_grid_is_what_its_rows_say_afterwards(runs, tmp_path, monkeypatch, capsys):
    given = {**GRID, 'sweep.num_steps': '2,3', 'sweep.interval_hi': '1,inf', 'score.repeats': '2'}
    settings = parse(sweep.Settings, runs, **given)
    plan, opened, real = planned(settings, tmp_path), [], files.open_npz
    monkeypatch.setattr(files, 'open_npz', lambda path: opened.append(path) or real(path))
    rows = sweep.main(settings, tmp_path) and rows_of(tmp_path)
    opened = [file for file in opened if file.parent.name == 'snapshots']
    assert plan.settings == len(rows) and plan.images == sum(row['images'] for row in rows)
    for name, found in (('main', plan.main), ('guide', plan.guide)):
        assert found == sum(row['images'] * row['nfe'][name] for row in rows)
    flops = [row['nfe']['main'] * row['cost']['relative'] for row in rows]
    assert plan.relative == pytest.approx(sum(flops) / sum(row['nfe']['main'] for row in rows))
    assert (plan.networks, plan.readings, plan.known, plan.exact) == (3, 2, 0, True)
    assert plan.read_bytes == sum(file.stat().length for file in opened) > 0
    assert plan.fits and 'at least' not in plan.text()
    assert 'at least: not all fit' in dataclasses.replace(plan, fits=False).text()
    done = planned(settings, tmp_path)
    assert (done.known, done.left, done.flops) == (plan.images, 0, 0)
    more = planned(
        dataclasses.replace(settings, score=dataclasses.replace(settings.score, repeats=3)),
        tmp_path,
    )
    assert more.left == plan.images / 2 and more.how == 'by the rows that are there'
    assert more.seconds > 0 and f'{plan.images:,} of them there already' in capsys.readouterr().err


def test_the_plan_of_a_search_is_never_less_than_it_took(searched, capsys):
    workdir, settings, _ = searched
    fresh = planned(settings, workdir / 'nothing')
    rows = rows_of(workdir)
    drawn = sum(row['drawn'] for row in rows)
    assert drawn <= fresh.images == 5 * 32 + 2 * 32 and not fresh.exact
    assert len(rows) <= fresh.settings
    assert sum(row['drawn'] * row['nfe']['guide'] for row in rows) <= fresh.guide
    assert 'at most' in capsys.readouterr().err
    left = planned(settings, workdir)
    full = sum(row['images'] for row in rows if row['images'] == 32)
    assert left.known == full and left.images == fresh.images


def test_a_budget_is_checked_before_anything_is_drawn(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(Programs, 'images', lambda *_: pytest.fail('images were drawn'))
    for cls, given, message in (
        (sweep.Settings, GRID, r'budget.images \(100\): 160 images would be drawn .*halving'),
        (sweep.SearchSettings, HALVING, r'budget.images \(100\): 224 images .*search.budget'),
    ):
        settings = parse(cls, runs, **given, **{'budget.images': '100', 'budget.hours': '1'})
        with pytest.raises(ValueError, match=message):
            sweep.main(settings, tmp_path)
    with pytest.raises(ValueError, match=r'budget.images \(31\) is less than score.images \(32\)'):
        parse(sweep.Settings, runs, **GRID, **{'budget.images': '31'})
    only = parse(sweep.Settings, runs, **GRID, **{'budget.plan_only': 'true'})
    [row] = sweep.main(only, tmp_path)
    assert row['images'] == 160 and row['hours'] is None and not rows_of(tmp_path)
    one = {k: v for k, v in GRID.items() if not k.startswith('sweep.')}
    [row] = sweep.main(parse(sweep.Settings, runs, **one, **{'budget.plan_only': 'true'}), tmp_path)
    assert (row['settings'], row['images'], row['guide'], row['relative']) == (1, 32, 0, 1)


def test_hours_are_held_by_a_rate_that_is_measured(runs, tmp_path):
    given = {**GRID, 'budget.hours': '1e-9'}
    with pytest.raises(ValueError, match=r'budget.hours \(1e-09\): by the rates measured here'):
        sweep.main(parse(sweep.Settings, runs, **given), tmp_path)
    assert not rows_of(tmp_path)
    given = {**GRID, 'score.images': '640', 'budget.plan_only': 'true'}
    [row] = sweep.main(parse(sweep.Settings, runs, **given), tmp_path)
    assert row['hours'] > 0 and row['how'].startswith('measured') and not rows_of(tmp_path)


# Interrupted, and shared


class Killed(Exception):
    """What ends a campaign in a test."""


def killed_after(monkeypatch, count):
    """Let GroupScorer.draw fail after so many calls."""
    draw, calls = GroupScorer.draw, []

    def limited(self, *args):
        calls.append(args)
        if len(calls) > count:
            raise Killed
        return draw(self, *args)

    monkeypatch.setattr(GroupScorer, 'draw', limited)
    return calls


@pytest.mark.parametrize('count', [1, 4])
def test_a_search_that_is_killed_goes_on(searched, tmp_path, monkeypatch, count):
    workdir, settings, table = searched
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, count)
        sweep.main(settings, tmp_path)
    done = rows_of(tmp_path)
    assert done and 'found' not in files.read_json(tmp_path / 'sweep.json')
    report.main(tmp_path)
    assert (tmp_path / 'report.html').exists()
    again = sweep.main(settings, tmp_path)
    assert rows_of(tmp_path)[: len(done)] == done, 'nothing is scored twice'
    assert scores_of(tmp_path) == scores_of(workdir)
    same = lambda folder: {k: files.read_json(folder / 'sweep.json')[k] for k in ('found', 'rows')}
    assert same(tmp_path) == same(workdir)
    assert [row['frechet'] for row in again] == [row['frechet'] for row in table]
    calls = killed_after(monkeypatch, 0)
    assert sweep.main(settings, tmp_path) == again and not calls


def test_two_workers_share_a_search(searched, tmp_path, monkeypatch):
    workdir, settings, table = searched
    shared = dataclasses.replace(settings, score=dataclasses.replace(settings.score, shared=True))
    drawn, draw, both = [], GroupScorer.measure_group, threading.Barrier(2)

    def measure(self, group, first_seed, count):
        drawn.extend((threading.get_ident(), self.keys(p, first_seed, count)[0]) for p in group)
        time.sleep(0.02)
        return draw(self, group, first_seed, count)

    def work(_):
        with claims.Claims(tmp_path / 'claims') as own:
            method = config.build(shared.search)
            one = Campaign(shared, tmp_path, Grid(shared), method, Networks(), own)
            both.wait(60)
            found = one.run()
            return found, one.found.best

    monkeypatch.setattr(GroupScorer, 'measure_group', measure)
    monkeypatch.setattr(campaign, 'pause', lambda doing: time.sleep(0.02))
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(work, range(2))
    assert one == other and one[1] == files.read_json(workdir / 'sweep.json')['found']['point']
    assert [row['frechet'] for row in one[0]] == [row['frechet'] for row in table]
    assert len({who for who, _ in drawn}) == 2, 'one of them did it all'
    assert len({name for _, name in drawn}) == len(drawn), 'a setting was scored twice'
    assert scores_of(tmp_path) == scores_of(workdir)


# Bad input


@pytest.mark.parametrize(
    'given, messages',
    [
        (
            {'sweep.guide_std': '0.001,0.1,0.4'},
            ['std 0.001', 'std (0.4)', ': 0.039', ': 0.124'],
        ),
        ({'sweep.guide_run': 'nowhere,neither'}, ['nowhere', 'neither']),
        ({'sweep.guide_run': '{guide},{large}'}, ['resolution 16 differs from main.run']),
        ({'sweep.guide_run': '{guide},{few}'}, ['has 3 classes']),
        ({'sweep.interval_lo': '0,1', 'sweep.interval_hi': '0.5,2'}, ['interval', '0 ≤ lo < hi']),
        ({'sweep.num_steps': '3,0'}, ['num_steps']),
        ({'search.first': '100', 'search.name': 'halving'}, [r'config.search.first (100)']),
    ],
)
def test_what_some_point_cannot_be_is_refused_at_once(runs, tmp_path, monkeypatch, given, messages):
    monkeypatch.setattr(Programs, 'images', lambda *_: pytest.fail('images were drawn'))
    monkeypatch.setattr(Campaign, 'open_evaluator', lambda *_: pytest.fail('features were made'))
    given = {name: text.format(**runs) for name, text in given.items()}
    with pytest.raises(ValueError) as caught:
        sweep.main(parse(sweep.Settings, runs, **{**GRID, **given}), tmp_path)
    for message in messages:
        assert message in str(caught.value)


# What is quoted


def test_the_table_tells_what_differs(runs, tmp_path):
    given = {**GRID, 'sweep.guide_nimg': '256Ki,512Ki', 'sweep.num_steps': '2,3'}
    given |= {'sweep.guide_std': '0.1', 'sweep.weight': '1,2'}
    table = sweep.main(parse(sweep.Settings, runs, **given), tmp_path)
    told = {(r['guide_nimg'], r['sampler_num_steps'], r['weight']) for r in table}
    guided = {(nimg, steps, 2.0) for nimg in NIMGS for steps in (2, 3)}
    assert told > guided and len(table) == len(told) == 6, 'w = 1 once for each number of steps'
    assert 'guide_run' not in table[0]


def test_a_search_quotes_fresh_scores_of_its_best_settings(searched):
    workdir, settings, table = searched
    rows = rows_of(workdir)
    fresh = [row for row in rows if row['phase'] == 'confirm']
    assert len(table) == len(fresh) == 2 and {tuple(r['seeds']) for r in fresh} == {(32, 32)}
    values = [row['frechet'] for row in table]
    assert values == sorted(row['metrics']['frechet'] for row in fresh)
    whole = [r for r in rows if r['phase'] == 'search' and r['images'] == 32]
    best = sorted(whole, key=lambda row: row['metrics']['frechet'])[:2]
    assert {named(row) for row in best} == {named(row) for row in fresh}
    assert len({row['measurement'] for row in best}) == 2


class Bar:
    """Notes what a progress bar was told."""

    notes = []

    def __init__(self, *_):
        self.done = 0
        self.update = lambda n: None
        self.note = lambda **values: self.notes.append(values)

    __enter__ = lambda self: self
    __exit__ = lambda *_: None


def faked(monkeypatch, value):
    """Let rows be made of value(pair, count), without networks."""

    def measure(self, group, first, count):
        row = {'seeds': [first, count], 'images': count, 'nfe': {'main': 5, 'guide': 5}}
        row |= {'seconds': 1.0, 'drawn': count, 'cost': {'relative': 1.0}, 'undefined': {}}
        told = lambda pair: campaign_row(pair) | {'metrics': {'frechet': value(pair, count)}}
        return [{**row, **told(pair)} for pair in group]

    from autoguide_jax.pairs import setting_row, settled

    campaign_row = lambda pair: {'setting': setting_row(settled(pair))}
    monkeypatch.setattr(GroupScorer, 'measure_group', measure)


def test_a_search_without_any_value_says_so_and_confirms_nothing(runs, tmp_path, monkeypatch):
    faked(monkeypatch, lambda pair, count: None)
    table = sweep.main(parse(sweep.SearchSettings, runs, **HALVING), tmp_path)
    assert table and {row['frechet'] for row in table} == {None}
    assert files.read_json(tmp_path / 'sweep.json')['found']['point'] is None
    assert {row['phase'] for row in rows_of(tmp_path)} == {'search'}


def test_progress_shows_the_best_over_the_most_images(runs, tmp_path, monkeypatch):
    faked(monkeypatch, lambda pair, count: count + pair.guidance.weight)
    monkeypatch.setattr(campaign, 'Progress', Bar)
    Bar.notes.clear()
    sweep.main(parse(sweep.SearchSettings, runs, **HALVING), tmp_path)
    assert {note['images']: note['best'] for note in Bar.notes} == {8: 9.0, 16: 17.0, 32: 33.0}


def test_the_verb_search_confirms_what_a_grid_found(runs, tmp_path, monkeypatch):
    faked(monkeypatch, lambda pair, count: pair.guidance.weight + pair.guide.std)
    given = {**HALVING, 'search.name': 'grid', 'score.repeats': '2', 'score.confirm': '3'}
    del given['search.budget'], given['search.first']
    given |= {'score.examples': '2'}
    table = sweep.main(parse(sweep.SearchSettings, runs, **given), tmp_path)
    rows = rows_of(tmp_path)
    assert [(row['weight'], row['frechet_sd']) for row in table] == [(1, 0), (1.5, 0), (1.5, 0)]
    assert len(rows) == 5 + 3 * 2
    best = sorted(rows, key=lambda row: (row['phase'] == 'confirm', row['metrics']['frechet']))[:3]
    kept = {file.stem for file in (tmp_path / 'examples').iterdir()}
    assert kept == {row['measurement'] for row in best}, 'the images of the first seeds'
    given |= {'score.confirm': '0', 'score.examples': '0'}
    [best] = sweep.main(parse(sweep.SearchSettings, runs, **given), tmp_path)
    assert best['weight'] == 1 and len(rows_of(tmp_path)) == 11


def test_a_run_that_is_still_trained_stays_what_it_was_at_the_start(runs, tmp_path):
    shutil.copytree(runs['guide'], tmp_path / 'guide')
    settings = parse(sweep.Settings, runs, **{**GRID, 'guide.run': str(tmp_path / 'guide')})
    begun, points = Grid(settings), [{'guide_std': 0.1, 'weight': w} for w in (1.5, 2.0)]
    assert begun.at(points[0]).guide.nimg == 2**19
    row = files.read_jsonl(tmp_path / 'guide/snapshots/index.jsonl')[-1]
    files.append_jsonl(tmp_path / 'guide/snapshots/index.jsonl', row | {'nimg': 2**20})
    assert begun.at(points[1]).guide.nimg == 2**19
    assert Grid(settings).at(points[1]).guide.nimg == 2**20
    with pytest.raises(ValueError, match="stack .'fast'. must be"):
        parse(sweep.Settings, runs, **{'score.stack': 'fast'})
