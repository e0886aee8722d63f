"""report of the 2-D example: the page says what the rows say, also of an unfinished study."""

import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image
from webpage import Page

from autoguide_jax import files, report
from autoguide_jax.report.toy import drawing, findings, page, paths, read, reference, tables, words

ARMS = {'exact': 0.01, 'none': 0.10, 'autoguidance_2': 0.06, 'cfg_2': 0.08}
WEIGHTS = (1.0, 1.5, 2.0, 2.5, 3.0)
TRIED = (1.25, 1.5, 2.0, 3.0)
INTERVALS = ([0.0, 'inf'], [0.0, 0.1])
# pair → (r, cosine, main is corrupted, weight of the least shift)
PAIRS = {
    'aligned': (2.0, 0.99, True, 2.0),
    'fivefold': (5.0, 0.98, True, 1.5),
    'opposed': (0.5, 0.30, True, 1.0),
    'control': (4.0, 0.10, False, 1.0),
}
# run → (width, weight of the fewest outliers)
RUNS = {'guide': (32, 2.0), 'main': (64, 3.0)}
AGES, STDS, BATCH = (64, 512), (0.01, 0.15), 1024


def network(run, degrade=None, **more):
    return {'run': run, 'std': 0.01, 'nimg': 0, 'degrade': degrade, **more}


def about(seeds):
    harm = {'name': 'dropout', 'rate': 0.05}
    settings = {
        'runs': {
            run: {'network': {'width': width}, 'train': {'batch_size': BATCH}}
            for run, (width, _) in RUNS.items()
        },
        'arms': {'autoguidance_2': {'guide': network('guide', nimg=512 * BATCH)}},
        'guides': {'main': 'main'},
        'degradation': {
            'pairs': {
                name: {
                    'title': f'{name} by worse',
                    'main': network('main', harm if worse else None),
                }
                for name, (_, _, worse, _) in PAIRS.items()
            }
        },
        'trade_off': {'families': {'autoguidance': {'title': 'Auto'}, 'cfg': {'title': 'CFG'}}},
        'pictures': {
            'arms': ['exact', 'none', 'autoguidance_2'],
            'seed': seeds[0],
            'unguided': 'none',
            'guided': 'autoguidance_2',
            'window': [0.2, 0.8, 0.2, 0.8],
            'sigma': 0.1,
        },
    }
    return {
        'kind': 'toy',
        'title': 'A made-up example',
        'commands': ['python -m autoguide_jax study'],
        'arms': {arm: {'title': f'Arm {arm}', 'description': ''} for arm in ARMS},
        'order': list(ARMS),
        'seeds': list(seeds),
        'settings': settings,
        'provenance': {'versions': {'python': '3'}},
        'seconds': {'arms': 61.0},
    }


def row(phase, arm, seed, outliers, weight=1.0, interval=(0.0, 'inf'), degrade=None, **more):
    kl = 0.02 * weight**2
    metrics = dict.fromkeys(('outliers_0.1', 'far', 'clipped', 'sliced_w1', 'energy'), 0.5)
    metrics |= {'outliers_1': outliers, 'coverage': 1 - 0.1 * weight, 'kl': kl, 'empty': 0.0}
    metrics |= {'shift': more.pop('shift')} if 'shift' in more else {}
    setting = {'main': network('main', degrade), 'weight': weight, 'interval': list(interval)}
    tags = {'phase': phase, 'arm': arm, 'seed': seed, **more}
    return {**tags, 'setting': setting, 'metrics': metrics, 'images': 64, 'weight': weight}


def rows_of(seed):
    """All rows of a training seed; closed forms with their minima at the weights above."""
    off = 0.002 * seed
    for arm, outliers in ARMS.items():
        yield row('arms', arm, seed, outliers + off)
    for name, (_, _, worse, best) in PAIRS.items():
        for w in WEIGHTS:
            bend = abs(w - best)
            more = {'shift': 0.1 * bend + 0.01 + off}
            yield row('degradation', name, seed, 0.1 + bend, w, degrade=worse or None, **more)
    for run, (_, best) in RUNS.items():
        for age in AGES:
            for std in STDS:
                for w in TRIED:
                    tags = {'nimg': age * BATCH, 'std': std}
                    outliers = (0.05 + 0.01 * (w - best) ** 2) * (1 + (age == 64)) + off
                    yield row('guides', run, seed, outliers, w, **tags)
    for family, cost in (('autoguidance', 0.0), ('cfg', 0.01)):
        yield row('trade_off', family, seed, 0.1 + off)
        for w in (1.5, 2.0):
            for interval in INTERVALS:
                yield row('trade_off', family, seed, 0.1 / w + cost + off, w, interval)


def field(r, cosine, levels=(0.002, 0.01, 0.05, 0.5, 5.0)):
    constant = {'rms': 1.0, 'r': r, 'cosine': cosine, 'weight': 1.2}
    found = {name: [v] * len(levels) for name, v in constant.items()}
    found['r'][-1] = None  # where the error is 0
    return {'sigma': list(levels), **found}


def fields_of(seed):
    for name, (r, cosine, worse, _) in PAIRS.items():
        parts = {} if worse else {'outliers': field(r, cosine), 'rest': field(r, cosine)}
        yield {'phase': 'degradation', 'arm': name, 'seed': seed, 'data': field(r, cosine), **parts}
    for run in RUNS:
        for age in AGES:
            for std in STDS:
                parts = {'data': field(3.0, 0.4), 'outliers': field(1.5, 0.9 - 0.01 * seed)}
                tags = {'phase': 'guides', 'arm': run, 'seed': seed, 'nimg': age * BATCH}
                yield {**tags, 'std': std, **parts, 'rest': field(4.0, 0.2)}


def pictures(folder):
    """A round Gaussian as the truth, paths that fall straight to the middle."""
    rng, x = np.random.default_rng(0), np.linspace(0, 1, 60)
    truth = -50 * ((x - 0.5) ** 2 + ((x - 0.5) ** 2)[:, None])
    close = np.linspace(0.2, 0.8, 30)
    log_p = -50 * ((close - 0.5) ** 2 + ((close - 0.5) ** 2)[:, None])
    at = np.stack(np.meshgrid(close[::5], close[::5]), -1).reshape(-1, 2)
    start, levels = rng.normal(0.5, 1, (9, 2)), np.array([5.0, 1.0, 0.3, 0.1, 0.03, 0.0])
    path = 0.5 + (start - 0.5) * (0.06 + levels[:, None, None])
    path[:, 0] += 2.0  # one sample ends outside
    arrays = {f'clouds/{arm}': rng.normal(0.5, 0.1, (200, 2)) for arm in ARMS}
    arrays |= {'density/x': x, 'density/y': x, 'density/truth': truth, 'close/at': at}
    arrays |= {'close/x': close, 'close/y': close, 'close/truth': log_p}
    arrays |= {'close/main': log_p, 'close/guide': log_p / 2}
    arrays |= {'close/score_main': -100 * (at - 0.5), 'close/score_guide': -50 * (at - 0.5)}
    arrays |= {'paths/sigma': levels, 'paths/unguided': path, 'paths/guided': 0.5 + 0 * path}
    files.save_npz(folder / 'figures.npz', {**arrays, 'mark': np.array('x')})


def write(folder, seeds=(0, 1, 2), finished=True, drop=(), draw=True):
    """A study directory; drop: phases that are not there yet."""
    rows = [r for seed in seeds for r in rows_of(seed) if r['phase'] not in drop]
    fields = [f for seed in seeds for f in fields_of(seed) if f['phase'] not in drop]
    keyed = [{**r, 'key': f'k{i}'} for i, r in enumerate(rows + fields)]
    past = {**keyed[0], 'key': 'past', 'metrics': {**rows[0]['metrics'], 'outliers_1': 0.9}}
    meta = about(seeds) | ({'rows': [r['key'] for r in keyed]} if finished else {})
    files.write_json(folder / 'study.json', meta)
    files.write_jsonl(folder / 'results.jsonl', [*[past] * finished, *keyed[: len(rows)]])
    files.write_jsonl(folder / 'fields.jsonl', keyed[len(rows) :])
    if draw:
        pictures(folder)
    return rows


@pytest.fixture(scope='module', autouse=True)
def coarse():
    """Small pixels cost nothing: figures are drawn at a quarter of their size."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (report.drawing, drawing):
            patch.setattr(module, 'DPI', 50)
        yield


@pytest.fixture(scope='module')
def whole(tmp_path_factory, coarse):
    folder = files.path(tmp_path_factory.mktemp('toy'))
    rows = write(folder)
    return folder, rows, report.main(folder), (folder / 'report.html').read_text()


@pytest.fixture
def quick(monkeypatch):
    """report.main without its figures, which other tests look at."""
    monkeypatch.setattr(report.toy, 'FIGURES', {})
    monkeypatch.setattr(paths, 'animation', lambda *_: None)


def words_of(text):
    return ' '.join(' '.join(Page(text).words).split())


def test_every_figure_is_there_in_all_formats(whole):
    folder = whole[0] / 'figures'
    ends = ('.png', '-dark.png', '.svg', '.pdf')
    expected = {f'{name}{end}' for name in report.toy.FIGURES for end in ends}
    assert set(files.names(folder)) == expected | {'trajectories.gif', 'trajectories-dark.gif'}
    for name in files.names(folder, '.png'):
        with Image.open(folder / name) as image:
            pixels = np.asarray(image.convert('RGB'), float)
        assert pixels.std() > 5, f'{name} is blank'
        corner = (18, 22, 29) if name.endswith('-dark.png') else (255, 255, 255)
        assert tuple(pixels[2, 2]) == corner, 'the paper of the page around it'
    for name in files.names(folder, '.pdf'):
        assert (folder / name).read_bytes().startswith(b'%PDF')


def test_animation_moves_and_pauses_at_the_end(whole):
    content = (whole[0] / 'figures' / 'trajectories.gif').read_bytes()
    image = Image.open(io.BytesIO(content))
    assert image.n_frames == paths.BETWEEN * 4 + 2
    image.seek(image.n_frames - 1)
    assert image.info['duration'] == paths.LAST_MS
    assert len(content) < 3e6
    sigma, points = paths.frames(read.read(whole[0]))
    assert sigma[0] == 5 and sigma[1] == 3 and sigma[-1] == 0 and (np.diff(sigma) < 0).all()
    np.testing.assert_allclose(points['unguided'][1], points['unguided'][[0, 2]].mean(0))


def test_table_holds_mean_and_sd_of_the_rows_that_count(whole):
    _, rows, returned, text = whole
    table = Page(text).tables[0]
    for arm, found in zip(ARMS, returned):
        mine = [r['metrics'] for r in rows if r['arm'] == arm and r['phase'] == 'arms']
        cells = table[arm][1:]
        assert len(cells) == len(tables.METRICS) and found['arm'] == f'Arm {arm}'
        for (key, metric), (attributes, shown) in zip(tables.METRICS.items(), cells):
            values = [m[key] for m in mine]
            assert float(attributes['data-mean']) == pytest.approx(np.mean(values))
            mean, sd = (float(part) for part in ''.join(shown).split(' ± '))
            assert mean == pytest.approx(np.mean(values), abs=0.51 * 10**-metric.places)
            assert sd == pytest.approx(np.std(values, ddof=1), abs=0.51 * 10**-metric.places)
            assert found[key] == pytest.approx(np.mean(values))


def test_reference_values_stand_beneath(whole):
    table = Page(whole[-1]).tables[0]
    for arm in ARMS:
        shown = [float(''.join(w).replace('−', '-')) for _, w in table[f'reference {arm}'][1:]]
        assert shown == pytest.approx([reference.SCORES[arm][key] for key in tables.METRICS])
    assert reference.LABEL in whole[-1]


def test_predicted_and_best_weights_of_corrupted_pairs(whole):
    pairs = {pair.name: pair for pair in findings.corrupted(read.read(whole[0]))}
    assert list(pairs)[-1] == 'control' and [p.control for p in pairs.values()].count(True) == 1
    assert pairs['aligned'].predicted.mean == 2.0 and pairs['fivefold'].predicted.mean == 1.25
    assert pairs['opposed'].predicted is None, 'r < 1 predicts no weight'
    for name, (r, cosine, worse, best) in PAIRS.items():
        pair = pairs[name]
        assert pair.best.values == (best,) * 3
        assert (pair.r.mean, pair.cosine.mean) == pytest.approx((r, cosine))
        assert findings.best_weight(pair) == best
        if worse:
            assert pair.at_best.mean == pytest.approx(0.01 + 0.002)
            assert pair.at_one.mean == pytest.approx(0.1 * (best - 1) + 0.012)
    shown = {arm: [''.join(w) for _, w in row] for arm, row in Page(whole[-1]).tables[1].items()}
    assert shown['aligned'][1] == '2.00 ± 0.00' and shown['aligned'][4].startswith('2.00')
    assert shown['opposed'][4] == 'none'


def test_guides_have_their_best_weight_and_its_scores(whole):
    found = {(g.run, g.nimg, g.std): g for g in findings.guides(read.read(whole[0]))}
    assert len(found) == 8
    old, young = (found['main', age * BATCH, 0.01] for age in (512, 64))
    assert old.weight == young.weight == 3.0 and found['guide', 64 * BATCH, 0.15].weight == 2.0
    assert old.outliers.mean == pytest.approx(0.05 + 0.002)
    unguided = [0.10 + 0.002 * seed for seed in range(3)]
    ratios = [(0.05 + 0.002 * seed) / unguided[seed] for seed in range(3)]
    assert old.relative.mean == pytest.approx(np.mean(ratios))
    ratios = [(0.1 + 0.002 * seed) / unguided[seed] for seed in range(3)]
    assert young.relative.sd == pytest.approx(np.std(ratios, ddof=1), abs=1e-12)
    assert (old.r.mean, old.cosine.mean) == pytest.approx((1.5, 0.89))
    assert findings.paper_guide(read.read(whole[0])) == ('guide', 512 * BATCH, 0.01)
    assert '512' in ''.join(Page(whole[-1]).tables[3][f'main {512 * BATCH} 0.01'][1][1])


def test_trade_off_counts_the_settings_in_the_target(whole):
    study = read.read(whole[0])
    points = findings.trade(study)
    assert len(points) == 8 and points[0].interval == (0.0, math.inf)
    assert findings.target(study) == pytest.approx((0.051, 0.03))
    assert 'Of 8 guided settings' in words_of(whole[-1])
    assert 'none at least halves the outliers' in words_of(whole[-1])


def test_the_answer_follows_the_numbers(whole):
    text = ' '.join(words.answer(read.read(whole[0])))
    for part in ('Mean ± sd over 3', '10.2 ± 0.2 %', '6.2 ± 0.2 %', '−39 %, beyond', '−20 %'):
        assert part in text.replace('\u00a0', ' ')
    why = ' '.join(words.reasons(read.read(whole[0]))).replace('\u00a0', ' ')
    assert 'in 2 of 3 pairs' in why and 'aligned by worse: best w 2.00, predicted 2.00' in why
    assert 'with cosine 0.30, no weight above 1 helps' in why
    assert 'a mean cosine of 0.89' in why and 'on the other paths 0.20' in why


def test_page_loads_nothing_from_outside(whole):
    text = whole[-1]
    loads = [v for _, n, v in Page(text).attributes if n in ('src', 'href', 'srcset', 'data')]
    kinds = ('data:image/png;base64,', 'data:image/gif;base64,', '#')
    assert loads and all(v.startswith(kinds) for v in loads)
    assert any(v.startswith(kinds[1]) for v in loads)
    assert not re.search(r'url\(|@import|https?:|<script|<link', text)
    targets = {v for _, n, v in Page(text).attributes if n == 'id'}
    assert {v[1:] for v in loads if v.startswith('#')} <= targets
    assert 'time: arms' in words_of(text) and 'not finished' not in words_of(text)


@pytest.mark.parametrize('seeds', [(0,), (0, 1)])
def test_missing_phases_and_pictures_are_said(tmp_path, seeds, quick):
    folder = files.path(tmp_path)
    write(folder, seeds, finished=False, drop=('guides', 'trade_off'), draw=False)
    rows = report.main(folder)
    text = words_of((folder / 'report.html').read_text())
    for part in ('not finished', 'the trial of guides', 'the trade-off', 'figures.npz'):
        assert part in text
    assert 'corrupted networks' not in text.partition('How to read')[0].partition('missing')[2][:90]
    assert rows[0]['outliers_1'] == pytest.approx(0.01 + 0.001 * (len(seeds) - 1))
    study = read.read(folder)
    for draw in (report.toy.clouds, report.toy.closeup, report.toy.trade, report.toy.why):
        assert drawing.render(draw.draw, study) == {}
    assert paths.strip(study, None) is None


def test_one_seed_has_no_spread(tmp_path, quick):
    folder = files.path(tmp_path)
    write(folder, (0,))
    report.main(folder)
    text = (folder / 'report.html').read_text()
    assert 'One training seed, 64 points each' in words_of(text)
    cells = [''.join(w) for _, w in Page(text).tables[0]['none'][1:]]
    assert cells[1] == '0.1000' and not any('±' in c for c in cells)
    study = read.read(folder)
    for name, (draw, *_) in FIGURES.items():
        if name in ('trade_off', 'degradation', 'why'):
            assert draw(study, report.style.LIGHT) is not None, name


FIGURES = dict(report.toy.FIGURES)


def test_an_empty_study_says_so(tmp_path, quick):
    folder = files.path(tmp_path)
    files.write_json(folder / 'study.json', about((0,)))
    rows = report.main(folder)
    text = words_of((folder / 'report.html').read_text())
    assert 'No answer yet' in text and 'No arm has been scored yet' in text
    assert rows[0]['outliers_1'] is None
    files.write_json(folder / 'study.json', {'kind': 'toy'})
    with pytest.raises(ValueError, match='names no arms'):
        report.main(folder)


def test_text_of_the_study_is_escaped(tmp_path, quick):
    folder, evil = files.path(tmp_path), '<script>alert("x")</script> & $\\bad_{$ \''
    write(folder, (0,), draw=False)
    meta = json.loads((folder / 'study.json').read_text())
    meta |= {'title': evil, 'commands': [evil], 'provenance': {evil: evil}}
    meta['arms']['none'] = {'title': evil, 'description': evil}
    meta['settings']['degradation']['pairs']['aligned']['title'] = evil
    files.write_json(folder / 'study.json', meta)
    text = page.build(read.read(folder), {}, {})
    assert '<script>' not in text
    assert 'script' not in {tag for tag, _, _ in Page(text).attributes}
    assert Page(text).words.count(evil) >= 5
