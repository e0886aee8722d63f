"""Two guides at once: the preset, its sweep over (w, α), and the page with the figure."""

import dataclasses
import io
import json
import re
import shutil
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
import random_run
import tiny
from PIL import Image
from webpage import Page

from autoguide_jax import (
    claims,
    config,
    files,
    generate,
    pairs,
    processes,
    report,
    sample_sets,
    stop,
    sweep,
)
from autoguide_jax.backbones import EDM2UNet
from autoguide_jax.denoiser import Denoiser
from autoguide_jax.guidance import Guidance, split_total
from autoguide_jax.report import style
from autoguide_jax.report.two_guides import figure, page
from autoguide_jax.report.two_guides.read import read
from autoguide_jax.scorer import Scorer, table_row
from autoguide_jax.sweep.campaign import Campaign
from autoguide_jax.sweep.group_scorer import GroupScorer
from autoguide_jax.sweep.settings import ScoreSettings

ROLES = ('main', 'guide', 'uncond')
GRID = {'sweep.weight': '1,1.5,2', 'sweep.alpha': '0,0.5,1', 'sampler.num_steps': '3'}
SCORE = {'images': '30', 'repeats': '2', 'batch_size': '30', 'metrics': 'frechet'}
SCORE |= {'allow_fewer': 'true'}  # 30 images for 64 features
GRID |= {f'score.{name}': value for name, value in SCORE.items()}
GRID |= {f'features.recipe.{name}': str(value) for name, value in tiny.RECIPE.items()}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Settings that name three digit networks with random weights."""
    folder = tmp_path_factory.mktemp('runs')
    for seed, role in enumerate(ROLES):
        classes = 0 if role == 'uncond' else 10
        network = Denoiser(EDM2UNet(8, 1, classes, 8, (1,), 1, (), 8))
        random_run.write(folder / role, network, tiny.variables(network, seed))
    return {f'{role}.run': str(folder / role) for role in ROLES}


def settings(cls, name, **overrides):
    given = list(overrides.items())
    return config.parse(cls, config.load(f'configs/two_guides.py{name}', given, cls))


@pytest.fixture(scope='module')
def swept(runs, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('sweep')
    chosen = settings(sweep.Settings, '', **runs, **GRID)
    return workdir, chosen, sweep.main(chosen, workdir)


def test_the_preset_scores_every_weight_and_share_on_sets_of_seeds(swept):
    workdir, chosen, table = swept
    rows = files.read_jsonl(workdir / 'results.jsonl')
    found = {(r['setting']['weight'], r['setting']['alpha'], *r['seeds']) for r in rows}
    grid = [(1.0, 0.0)] + [(w, a) for w in (1.5, 2.0) for a in (0.0, 0.5, 1.0)]
    blocks = [(2_000_000, 30), (2_000_030, 30)]
    assert found == {(*key, *block) for key in grid for block in blocks}
    assert len(rows) == 14, 'w = 1 is scored once, not for every α'
    calls = {(r['setting']['weight'], r['setting']['alpha']): r['nfe']['guide'] for r in rows}
    assert [calls[key] for key in ((1.0, 0.0), (2.0, 0.0), (2.0, 0.5), (2.0, 1.0))] == [0, 5, 10, 5]
    best, values = table[0], [row['frechet'] for row in table]
    mine = [
        row['metrics']['frechet']
        for row in rows
        if [row['setting'][k] for k in ('weight', 'alpha')] == [best['weight'], best['alpha']]
    ]
    assert values == sorted(values) and len(table) == 7
    assert best['frechet'] == pytest.approx(np.mean(mine))
    assert best['frechet_sd'] == pytest.approx(np.std(mine, ddof=1))


def test_a_sweep_that_is_finished_draws_nothing(swept, monkeypatch):
    workdir, chosen, table = swept
    monkeypatch.setattr(Scorer, 'measure', lambda *_: pytest.fail('a finished row was drawn'))
    monkeypatch.setattr(Scorer, 'told', lambda *_: pytest.fail('examples were drawn again'))
    assert sweep.main(chosen, workdir) == table


def test_a_sweep_of_too_few_images_is_refused_before_any_is_drawn(swept, runs, monkeypatch):
    workdir, _, table = swept
    assert {row['frechet: fewer images than'] for row in table} == {65}
    monkeypatch.setattr(Scorer, 'measure', lambda *_: pytest.fail('images were drawn'))
    strict = settings(sweep.Settings, '', **runs, **{**GRID, 'score.allow_fewer': 'false'})
    with pytest.raises(ValueError, match=r'frechet .* asks for 65 images, there are 30'):
        sweep.main(strict, workdir)


def test_a_sweep_by_what_the_features_cannot_give_is_refused(swept, runs, monkeypatch):
    monkeypatch.setattr(Scorer, 'measure', lambda *_: pytest.fail('images were drawn'))
    spatial = settings(sweep.Settings, '', **runs, **{**GRID, 'score.metrics': 'sfid,frechet'})
    with pytest.raises(
        ValueError, match='sfid is minimised, and has no value .*has no spatial features'
    ):
        sweep.main(spatial, swept[0])


def test_a_setting_without_a_value_comes_last_and_stops_nothing(swept, tmp_path, monkeypatch):
    workdir, chosen, _ = swept
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    (tmp_path / 'results.jsonl').unlink()

    def measure(_, pair, first, count):
        rule = pair.guidance
        none = rule.weight == 1 or rule.alpha == 1 or (rule.weight == 1.5 and first == 2_000_000)
        return {
            'setting': pairs.setting_row(pairs.settled(pair)),
            'seeds': [first, count],
            'metrics': {'frechet': None if none else 3 - rule.weight + rule.alpha},
            'undefined': {'frechet': 'too odd'} if none else {},
            'nfe': {'main': 5, 'guide': 5},
            'seconds': 1.0,
        }

    together = lambda _, group, *seeds: [measure(_, pair, *seeds) for pair in group]
    monkeypatch.setattr(GroupScorer, 'measure_group', together)
    table = sweep.main(chosen, tmp_path)
    assert [row['frechet'] for row in table] == [1.0, 1.5, 1.5, 2.0, None, None, None]
    some = {row['weight']: row.get('frechet: sets with a value') for row in table[:4]}
    assert some == {2.0: None, 1.5: '1 of 2'}
    report.main(tmp_path)
    text = ' '.join(Page((tmp_path / 'report.html').read_text()).words)
    assert 'in 8 of 14 scores: too odd' in text and 'Autoguidance alone' not in text
    rows = files.read_jsonl(tmp_path / 'results.jsonl')
    only = [row for row in rows if row['metrics']['frechet'] is None]
    files.write_jsonl(
        tmp_path / 'results.jsonl', [r for r in only if r['setting']['weight'] != 1.5]
    )
    report.main(tmp_path)
    text = ' '.join(Page((tmp_path / 'report.html').read_text()).words)
    assert 'has a value of FD (digit classifier): too odd' in text


@pytest.mark.parametrize(
    'change',
    [
        {'weight': 1.5},
        {'interval': (0.0, 2.0)},
        {'alpha': 0.25},
        {'uncond_interval': (0.5, 2.0)},
        {'schedule_sigma': (1.0,), 'schedule_scale': (2.0,)},
    ],
)
def test_a_row_tells_settings_apart_that_draw_other_images(runs, change):
    """The printed table and the page take rows of one setting for sets of seeds of it."""
    refs = {role: pairs.NetworkRef(runs[f'{role}.run'], random_run.STD) for role in ROLES}
    one = pairs.Pair(**refs, guidance=pairs.GuidanceSettings(2.0, alpha=0.5))
    two = dataclasses.replace(one, guidance=dataclasses.replace(one.guidance, **change))
    assert pairs.identity(one) != pairs.identity(two)
    assert pairs.setting_row(one) != pairs.setting_row(two)


def test_an_unguided_setting_that_is_drawn_once_names_the_guide_it_was_asked_for_with(
    runs, tmp_path, monkeypatch
):
    measured = []

    def measure(scorer, pair, *seeds):
        measured.append(pair)
        return {'setting': scorer.setting(pair), 'seeds': seeds, 'metrics': {}}

    monkeypatch.setattr(Scorer, 'measure', measure)
    told = types.SimpleNamespace(autoencoder=None, identity={})
    sampler = config.Part('heun', {}, 'autoguide_jax.samplers:table')
    scorer = Scorer(None, told, told, tmp_path / 'results.jsonl', sampler)
    ref = lambda role: pairs.NetworkRef(runs[f'{role}.run'], random_run.STD)
    for role in ('guide', 'uncond'):
        row = scorer.score(pairs.Pair(ref('main'), **{role: ref(role)}), 0, 10, arm=role)
        assert row['setting'][role]['run'] == runs[f'{role}.run'] and row['arm'] == role
        assert row['setting'][role]['nimg'] == random_run.NIMG
        assert [r for r in ROLES if row['setting'][r]] == ['main', role]
    assert len(measured) == 1


def test_the_page_names_the_metric_that_it_shows(tmp_path):
    made_up(tmp_path, lambda w, a, i: (w - 1.4) / 1000 + i * 1e-5)
    rows = files.read_jsonl(tmp_path / 'results.jsonl')
    for row in rows:
        row['metrics'] = {'kid': row['metrics'].pop('frechet'), 'frechet': 7.0}
    files.write_jsonl(tmp_path / 'results.jsonl', rows)
    meta = files.read_json(tmp_path / 'sweep.json')
    meta['settings']['score']['metrics'] = ['kid', 'frechet']
    old = {**meta, 'metric_title': 'FID'}
    files.write_json(tmp_path / 'sweep.json', old)
    assert read(tmp_path).title == 'Kernel distance', 'the title of old files is that of frechet'
    files.write_json(tmp_path / 'sweep.json', {**old, 'titles': {'kid': 'KID', 'frechet': 'FID'}})
    found = read(tmp_path)
    heads = list(page.table_rows(found)[0])
    assert heads[4:6] == ['KID ↓', 'FID ↓'] and page.table_rows(found)[0]['KID ↓'][:6] == '−0.000'
    panel = figure.draw(found, style.LIGHT).axes[0]
    assert panel.get_ylabel().startswith('KID') and panel.get_ylim()[0] < -0.00039


def test_the_printed_row_of_one_set_of_seeds_has_its_standard_error():
    network = {'run': 'x', 'std': 0.1, 'nimg': 1}
    setting = {**dict.fromkeys(ROLES, network), 'weight': 2.0, 'alpha': 0.5, 'interval': [0, 'inf']}
    row = {'setting': setting, 'nfe': {'guide': 5}, 'seconds': 1.5}
    one = {**row, 'metrics': {'frechet': 1.0, 'recall': None, 'count': 9}}
    one['errors'] = {'frechet': 0.25}
    two = {**one, 'metrics': {'frechet': 3.0, 'recall': 0.5, 'count': 9}}
    alone, both = table_row([one]), table_row([one, two])
    knots = {**one, 'setting': {**setting, 'schedule': [[0.1, 0.0], [2.0, 1.5]]}}
    assert table_row([knots])['schedule'] == '0.1:0, 2:1.5' and 'schedule' not in alone
    assert (alone['frechet'], alone['frechet_se'], alone['recall']) == (1.0, 0.25, None)
    assert both['frechet_sd'] == pytest.approx(2**0.5) and both['frechet'] == 2.0
    assert both['recall'] == 0.5, 'of the set that has one'
    assert not {'frechet_sd', 'recall_se'} & set(alone) and 'frechet_se' not in both


def test_examples_are_the_images_that_sampling_draws(swept, runs, tmp_path):
    workdir, *_ = swept
    given = {'guidance.weight': '2', 'guidance.alpha': '0.5', 'sampler.num_steps': '3'}
    given |= {'sample.seeds': '2000000-2000009', 'sample.batch_size': '30'}
    generate.main(settings(generate.Settings, ':sample', **runs, **given), tmp_path)
    drawn = next(iter(sample_sets.open_set(tmp_path).batches(10)))[0]
    kept = read(workdir).examples
    assert set(kept) == {(1.0, None), *((w, a) for w in (1.5, 2.0) for a in (0.0, 0.5, 1.0))}
    assert np.abs(kept[2.0, 0.5].astype(int) - drawn).max() <= 1
    assert np.abs(kept[2.0, 0.0].astype(int) - drawn).max() > 1


def test_devices_are_looked_for_before_one_is_needed(runs, tmp_path, monkeypatch):
    """A search that hangs is reported only where its time is limited: in health.quick."""

    def hang():
        raise stop.Hung('no devices found')

    monkeypatch.setattr(stop._State, 'hung', False)  # and is again: it decides how programs end
    monkeypatch.setattr(processes, 'find_devices', hang)
    monkeypatch.setattr(generate, 'sample_labels', lambda *_: pytest.fail('labels need a device'))
    given = {**runs, 'guidance.alpha': '0.5', 'sample.classes': 'random'}
    chosen = settings(generate.Settings, ':sample', **given)
    with pytest.raises(stop.Hung, match='no devices found'):
        generate.main(chosen, tmp_path)


def test_a_shared_sweep_asks_who_each_network_is_once(swept, tmp_path, monkeypatch):
    """That reads the folders of all runs, which may lie in a bucket."""
    workdir, chosen, table = swept
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    shared = dataclasses.replace(chosen, score=dataclasses.replace(chosen.score, shared=True))
    asked, identity = [], pairs.network_identity
    monkeypatch.setattr(pairs, 'network_identity', lambda *a: asked.append(a) or identity(*a))
    assert sweep.main(shared, tmp_path) == table
    assert len(asked) == 3


def test_one_worker_draws_the_examples_and_the_others_wait(tmp_path, monkeypatch):
    """The second worker begins while the first draws, and draws nothing itself."""
    drawn, begun, waits, pause = [], [], threading.Event(), claims.pause
    monkeypatch.setattr(claims, 'pause', lambda doing: waits.set() or pause(doing, 0.1))
    chosen = ScoreSettings(images=4, examples=2)

    def work(keep):
        programs = types.SimpleNamespace(smaller=lambda count: None, sampler=None)
        keys = lambda pair, **block: (pair.name, None)
        scorer = types.SimpleNamespace(keys=keys, keep=keep, programs=programs, file=tmp_path)
        pairs = [types.SimpleNamespace(name=name, sampler=None) for name in 'ab']
        with claims.Claims(tmp_path) as own:
            campaign = types.SimpleNamespace(settings=types.SimpleNamespace(score=chosen))
            campaign.shown, campaign.claims, campaign.scorer = pairs, own, lambda _: scorer
            Campaign.keep_examples(campaign)

    def first(pair, seed, count, name, programs):
        if not begun:
            begun.append(pool.submit(work, second))
        assert waits.wait(20), 'the second worker did not wait'
        drawn.append(name)

    def second(pair, seed, count, name, programs):
        assert name in drawn, 'drawn twice'

    with ThreadPoolExecutor(1) as pool:
        work(first)
        begun[0].result()
    assert drawn == ['examples/a.npz', 'examples/b.npz']


def test_the_page_shows_the_best_setting_and_the_figure(swept):
    workdir, _, table = swept
    rows = report.main(workdir)
    parsed = Page((workdir / 'report.html').read_text())
    text = ' '.join(parsed.words)
    assert len(rows) == 7 and rows[0]['mark'] == 'best'
    best = read(workdir).best()
    assert re.search(rf'[Bb]est (guidance )?is w = {best[0]:g} at α = {best[1]:g}', text)
    assert '30 samples' in text and '1797 real images' in text and 'depends on these counts' in text
    picture = Image.open(io.BytesIO((workdir / 'figures' / 'two_guides.png').read_bytes()))
    assert picture.width == 2080 and picture.height > 1200
    drawn = np.asarray(picture.convert('L'), float)
    assert drawn[int(0.7 * len(drawn)) :].std() > 20, 'examples are drawn'
    # Everything is in the page: it loads nothing.
    loads = [v for _, name, v in parsed.attributes if name in ('src', 'srcset')]
    assert loads and all(v.startswith('data:image/png;base64,') for v in loads)


def made_up(folder, distance, repeats=3, **changes):
    """A sweep whose distance at (w, α) on the i-th set of seeds is distance(w, α, i)."""
    rows, network = [], {'run': 'x', 'std': 0.1, 'nimg': 1, 'degrade': None}
    grid = [(1.0, 0.0)] + [(w, a) for w in (1.5, 2.0) for a in (0.0, 0.5, 1.0)]
    for w, alpha in grid:
        for i in range(repeats):
            setting = {**dict.fromkeys(ROLES, network), 'weight': w, 'alpha': alpha}
            seeds = [100 * i, 100]
            metrics = {'frechet': distance(w, alpha, i), 'count': 100}
            key = f'{w}-{alpha}-{i}'
            row = {'setting': {**setting, 'interval': [0, 'inf']}, 'metrics': metrics, 'key': key}
            rows.append({**row, 'seeds': seeds, 'measurement': key, 'phase': 'sweep'})
    axes = {'weight': [1.0, 1.5, 2.0], 'alpha': [0.0, 0.5, 1.0], 'main_std': []}
    score = {'images': 100, 'repeats': repeats, 'first_seed': 0, 'examples': 0}
    score['metrics'] = ['frechet']
    tree = {**dict.fromkeys(ROLES, network), 'sweep': axes, 'score': score} | changes
    meta = {'settings': tree, 'rows': [row['key'] for row in rows], 'metric_title': 'FD'}
    files.write_json(folder / 'sweep.json', meta)
    files.write_jsonl(folder / 'results.jsonl', rows)
    return folder


def test_the_answer_follows_the_numbers(tmp_path):
    """Lowest at (1.5, 0.5); seeds move all settings alike, and CFG a little more than that."""
    noise = (-0.5, 0.0, 0.5)
    far = lambda w, a: 4.0 if w == 1 else 1 + abs(w - 1.5) + abs(a - 0.5)
    made_up(tmp_path, lambda w, a, i: far(w, a) + noise[i] + 0.1 * i * (w > 1 and a == 0))
    sweep = read(tmp_path)
    assert sweep.best() == (1.5, 0.5) and sweep.best(0.0) == (1.5, 0.0)
    assert sweep.marks()[1.5, 0.5] == 'best' and (1.0, None) not in sweep.marks()
    assert 'tie' not in sweep.marks().values(), 'the same seeds tell all of them apart'
    text = page.answer(sweep).replace('\u00a0', ' ')
    assert text.startswith('Best is w = 1.5 at α = 0.5: 1.00 ± 0.50.')
    assert 'CFG alone reaches 1.60 ± 0.60 at w = 1.5' in text
    assert 'Autoguidance alone reaches 1.50 ± 0.50 at w = 1.5' in text
    assert '0.60 ± 0.10 more than the best on the same seeds' in text
    assert 'Without guidance: 4.00 ± 0.50' in text
    rows = page.table_rows(sweep)
    assert [rows[0][k] for k in ('w', 'α', 'w_u', 'w_c')] == ['1.5', '0.5', '1.25', '1.25']
    assert rows[-1]['α'] == '–'


def test_a_tie_is_what_the_interval_of_the_difference_says(tmp_path):
    """At w = 2 the third set of seeds alone is better than the best, by enough to hold 0."""
    noise = (-0.5, 0.0, 0.5)
    swing = lambda w, a, i: (w == 2) * (0.4, 0.3, -0.2)[i] + 2 * (a != 0.5)
    made_up(tmp_path, lambda w, a, i: 1 + noise[i] + swing(w, a, i))
    assert read(tmp_path).marks() == {(1.5, 0.5): 'best', (2.0, 0.5): 'tie'}


def test_one_set_of_seeds_has_the_error_of_its_score(tmp_path):
    made_up(tmp_path, lambda w, a, i: 3 - w + a, repeats=1)
    rows = files.read_jsonl(tmp_path / 'results.jsonl')
    more = {'errors': {'frechet': 0.25}, 'fewer': {'frechet': 1281}}
    for row in rows:
        score = row['metrics']['frechet']
        row |= {**more, 'intervals': {'frechet': [score - 0.6, score + 0.6]}}
    files.write_jsonl(tmp_path / 'results.jsonl', rows)
    found = read(tmp_path)
    assert found.stat((2.0, 0.0)).spread == 0.25
    assert found.excess((1.5, 0.0), (2.0, 0.0)).half == pytest.approx(0.6 * 2**0.5)
    report.main(tmp_path)
    text = ''.join(Page((tmp_path / 'report.html').read_text()).words).replace('\u00a0', ' ')
    assert 'Mean ± standard error over 1 set(s) of seeds' in text and '1.00 ± 0.25' in text
    assert 'FD ↓ asks for 1281 images' in text


def test_words_and_map_say_so_when_no_guidance_is_best(tmp_path):
    noise = (-0.1, 0.0, 0.1)
    made_up(tmp_path, lambda w, a, i: 1.1 + 7 * (w - 1) + 2 * a * (w > 1) + noise[i])
    sweep = read(tmp_path)
    text = page.answer(sweep).replace('\u00a0', ' ')
    assert text.startswith(
        'Best is no guidance, w = 1: 1.10 ± 0.10. The best guidance is w = 1.5 at α = 0: '
        '4.60 ± 0.10, 3.500'
    )
    assert 'Autoguidance alone reaches 6.60 ± 0.10 at w = 1.5, 5.500' in text
    assert 'CFG alone' not in text and 'Without guidance' not in text and '−' not in text
    titles = [axes.get_title() for axes in figure.draw(sweep, style.LIGHT).axes]
    assert 'Best: w = 1' in titles
    made_up(tmp_path, lambda w, a, i: 1.1 - (w == 2) * a / 2 + noise[i])
    titles = [axes.get_title() for axes in figure.draw(read(tmp_path), style.LIGHT).axes]
    assert 'Best: solid frame' in titles


def test_an_unfinished_sweep_says_what_is_missing(tmp_path):
    made_up(tmp_path, lambda w, a, i: w + a)
    rows = files.read_jsonl(tmp_path / 'results.jsonl')
    files.write_jsonl(tmp_path / 'results.jsonl', rows[:-2])
    report.main(tmp_path)
    text = ' '.join(Page((tmp_path / 'report.html').read_text()).words)
    assert '2 of 21 scores' in text
    files.write_jsonl(tmp_path / 'results.jsonl', rows[:3])
    report.main(tmp_path)
    text = ' '.join(Page((tmp_path / 'report.html').read_text()).words)
    assert '18 of 21 scores' in text and 'α = 0, CFG' not in text, 'w = 1 alone: any sweep’s page'


def test_scores_on_different_seeds_are_not_compared(tmp_path):
    """Workers take the sets of seeds in any order: two settings may share none yet."""
    made_up(tmp_path, lambda w, a, i: 3 * (w == 1) + w + a)
    at = lambda row: tuple(row['setting'][name] for name in ('weight', 'alpha'))
    only = {(1.0, 0.0): 0, (1.5, 0.0): 100}
    rows = files.read_jsonl(tmp_path / 'results.jsonl')
    rows = [row for row in rows if row['seeds'][0] == only.get(at(row), row['seeds'][0])]
    files.write_jsonl(tmp_path / 'results.jsonl', rows)
    report.main(tmp_path)
    text = ' '.join(Page((tmp_path / 'report.html').read_text()).words)
    assert '4 of 21 scores' in text
    text = page.answer(read(tmp_path)).replace('\u00a0', ' ')
    assert text.startswith('Best is w = 1.5 at α = 0: 1.5')
    assert 'Autoguidance alone reaches 2.500 ± 0.000 at w = 1.5, 1.000 more' in text
    assert text.endswith('Without guidance: 4.000.')


@pytest.mark.parametrize(
    'change, message',
    [
        ({'score.repeats': '0'}, r'repeats \(0\)'),
        ({'score.examples': '31'}, r'examples \(31\) in 0…30'),
        ({'score.classes': 'none'}, r"classes \('none'\)"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(runs, change, message):
    with pytest.raises(ValueError, match=message):
        settings(sweep.Settings, '', **{**runs, **GRID, **change})


def test_the_shown_settings_are_json(swept):
    workdir, *_ = swept
    meta = json.loads((workdir / 'sweep.json').read_text())
    assert meta['settings']['sweep']['alpha'] == [0.0, 0.5, 1.0]
    assert len(meta['rows']) == 14 and meta['reference']['count'] == 1797
    assert meta['titles'] == {'frechet': meta['metric_title']}


def test_guides_may_have_conditions_of_their_own():
    """Eq. 6 with an embedding for main and guide, another one for the second guide."""
    x, sigma, _ = tiny.batch()
    nets = [tiny.denoiser(label_dim=6), tiny.denoiser(label_dim=6, model_channels=16)]
    rng = np.random.default_rng(0)
    text, negative = (rng.standard_normal((4, 6), np.float32) for _ in range(2))
    text, negative = (c / np.linalg.norm(c, axis=1, keepdims=True) for c in (text, negative))
    main, guide = ((net, tiny.variables(net, i)) for i, net in enumerate(nets))
    bind = lambda net, condition: lambda x, s: net[0].apply(net[1], x, s, condition)
    d_m, d_c, d_u = bind(main, text), bind(guide, text), bind(main, negative)
    w_c, w_u = split_total(3.0, 0.25)
    denoise = Guidance.combine([Guidance(w_c), Guidance(w_u)])(d_m, [d_c, d_u])
    m, c, u = (np.asarray(jax.jit(d)(x, sigma)) for d in (d_m, d_c, d_u))
    want = m + (w_c - 1) * (m - c) + (w_u - 1) * (m - u)
    assert np.abs(m - u).max() > 0.01
    np.testing.assert_allclose(jax.jit(denoise)(x, sigma), want, atol=1e-4)
