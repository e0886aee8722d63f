"""report: the page says what the rows say, asks nothing of the network, and renders any study."""

import collections
import io
import json
import re
import statistics

import fake_study
import matplotlib
import numpy as np
import pytest
import scipy.stats
from PIL import Image
from webpage import Page

from autoguide_jax import files, metrics, report
from autoguide_jax.report import curves, drawing, page, scores, stats, strips, style, words
from autoguide_jax.report.study import read

N = (None,) * 3
ONE_BLOCK = {'images': 1500, 'seed_blocks': fake_study.BLOCKS[:1]}
COLUMNS = ('frechet', 'precision', 'recall', 'density', 'coverage', 'accuracy', 'class_variance')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('study')
    rows = fake_study.write(folder)
    before = dict(matplotlib.rcParams)
    table = report.main(folder)
    assert dict(matplotlib.rcParams) == before, 'the settings of matplotlib leak out'
    return folder, rows, table, (folder / 'report.html').read_text()


@pytest.fixture
def small(tmp_path):
    """A folder with study.json alone, and a function that writes its rows."""
    files.write_json(tmp_path / 'study.json', fake_study.about())

    def write(rows):
        fake_study.write_rows(tmp_path / 'results.jsonl', rows)
        return read(tmp_path)

    return tmp_path, write


def finals(arm, distances, recall=0.5):
    blocks = fake_study.BLOCKS
    metrics = [{'frechet': d, 'recall': recall + 0.001 * i} for i, d in enumerate(distances)]
    return [
        {'key': f'{arm}{i}', 'phase': 'final', 'arm': arm, 'seeds': block, 'metrics': metric}
        for i, (block, metric) in enumerate(zip(blocks, metrics))
    ]


def student_interval(values):
    """Low and high end of the 95 % interval of a mean, as scipy.stats has it."""
    freedom, error = len(values) - 1, scipy.stats.sem(values)
    return [*scipy.stats.t.interval(0.95, freedom, loc=np.mean(values), scale=error)]


def test_table_holds_mean_sd_interval_and_best_of_the_rows(whole):
    _, rows, returned, text = whole
    table = Page(text).tables[0]
    for arm in (*fake_study.ARMS, 'real'):
        phase = 'floor' if arm == 'real' else 'final'
        mine = [r['metrics'] for r in rows if r['arm'] == arm and r['phase'] == phase]
        cells = [(a, ' '.join(' '.join(words).split())) for a, words in table[arm]][1:]
        best = float(next(a['data-best'] for a, _ in cells if 'data-best' in a))
        assert best == min(m['frechet'] for m in mine)
        scored = [c for c in cells if 'data-best' not in c[0] and c[0].get('class') != 'text']
        assert len(scored) == len(COLUMNS)
        for name, (attributes, shown) in zip(COLUMNS, scored):
            name = 'class_variance_ratio' if name == 'class_variance' else name
            values = [m[name] for m in mine]
            if None in values:
                assert shown == '–'
                continue
            assert float(attributes['data-mean']) == pytest.approx(np.mean(values), rel=1e-12)
            mean, sd, *ends = re.findall(r'[\d.]+', shown)
            expected = [np.mean(values), np.std(values, ddof=1)]
            if ends:
                expected += student_interval(values)
            assert bool(ends) == (arm != 'real'), 'draws from one reference overlap'
            rounding = 0.51 * 10 ** -len(mean.partition('.')[2])
            shown = [float(part) for part in (mean, sd, *ends)]
            assert shown == pytest.approx(expected, abs=rounding)
        row = next(r for r in returned if r['arm'] == arm)
        assert row['n'] == 3 and row['best'] == best
        scores = [m['frechet'] for m in mine]
        assert row['sd'] == pytest.approx(statistics.stdev(scores))
        if arm != 'real':
            assert [row['low'], row['high']] == pytest.approx(student_interval(scores), rel=1e-12)


def test_settings_and_cost_are_those_of_the_final_rows(whole):
    table = Page(whole[-1]).tables[2]
    shown = {arm: [' '.join(''.join(w).split()) for _, w in row][1:] for arm, row in table.items()}
    assert shown['autoguidance'][:6] == ['2.1', '0.1', '0.05', 'all', '63 + 63', '1.27×']
    assert shown['interval'][3:6] == ['(0.2, 2.5]', '63 + 26', '1.42×']
    assert shown['none'][:6] == ['–', '0.1', '–', '–', '63', '1.00×']
    trained = {'none': '1.00×', 'cfg': '2.00×', 'autoguidance': '1.02×', 'less_capacity': '1.27×'}
    assert {arm: shown[arm][6] for arm in trained} == trained


def test_search_table_compares_the_best_try_with_fresh_seeds(whole):
    _, rows, _, text = whole
    shown = [''.join(w).strip() for _, w in Page(text).tables[5]['cfg']]
    tries = [r['metrics']['frechet'] for r in rows if (r['arm'], r['phase']) == ('cfg', 'search')]
    final = [r['metrics']['frechet'] for r in rows if (r['arm'], r['phase']) == ('cfg', 'final')]
    assert shown[1:3] == [str(len(tries)), f'{min(tries):.2f}']
    assert shown[4] == f'{np.mean(final) - min(tries):+.2f}'


def test_page_loads_nothing_from_outside(whole):
    text = whole[-1]
    loads = [v for _, n, v in Page(text).attributes if n in ('src', 'href', 'srcset', 'data')]
    assert loads and all(v.startswith(('data:image/png;base64,', '#')) for v in loads)
    tags = {tag for tag, _, _ in Page(text).attributes}
    assert not tags & {'link', 'iframe', 'object', 'base'}
    assert not re.search(r'url\(|@import|https?:', text)
    assert "default-src 'none'" in text and not any('src' in a for a, _ in Page(text).scripts)
    targets = {v for _, n, v in Page(text).attributes if n == 'id'}
    assert {v[1:] for v in loads if v.startswith('#')} <= targets


def test_every_figure_is_there_in_both_schemes(whole):
    folder = whole[0] / 'figures'
    expected = {f'{name}{end}' for name in report.FIGURES for end in ('.png', '-dark.png', '.svg')}
    expected |= {f'{name}{end}' for name in report.SHEETS for end in ('.png', '.svg')}
    assert set(files.names(folder)) == expected
    for name in files.names(folder, '.png'):
        with Image.open(folder / name) as image:
            image.load()
            pixels = np.asarray(image.convert('L'), float)
        assert image.format == 'PNG' and pixels.std() > 5, f'{name} is blank'
        assert (pixels[2, 2] < 60) == name.endswith('-dark.png')
    with Image.open(folder / 'weights.png') as image:
        assert image.width == 2 * 1040, 'twice the pixels of the page'


def test_a_figure_is_the_same_for_the_same_numbers(whole):
    drawn = drawing.render(scores.cost, read(whole[0]))
    for end, content in drawn.items():
        assert content == (whole[0] / 'figures' / f'cost{end}').read_bytes()


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(ValueError, match='has no study.json'):
        report.main(tmp_path)
    files.write_json(tmp_path / 'study.json', {'title': 'no arms'})
    with pytest.raises(ValueError, match='names no arms'):
        report.main(tmp_path)


def test_damaged_parts_are_named(small):
    folder, write = small
    with pytest.raises(ValueError, match='row 2: has no phase'):
        write([*finals('none', [1.0]), {'arm': 'none'}])
    write([])
    images = np.zeros((2, 8, 8), np.uint8)
    files.save_npz(folder / 'samples' / 'cfg.npz', {'images': images, 'labels': np.zeros(2)})
    with pytest.raises(ValueError, match=r'cfg.npz: images are uint8 \[2, 8, 8\]'):
        read(folder)


def test_an_empty_study_says_what_is_missing(small):
    folder, _ = small
    report.main(folder)
    text = ''.join(Page((folder / 'report.html').read_text()).words)
    for part in ('not finished', 'the search for settings', 'final scores of every arm', 'floor'):
        assert part in text
    assert 'No answer yet' in text and files.names(folder / 'figures') == []


def test_an_unfinished_study_shows_what_there_is(small):
    folder, write = small
    rng = np.random.default_rng(0)
    rows = list(fake_study.rows_of('autoguidance', rng))[:-2]
    write([*rows, *finals('none', [9.0, 8.0])])
    fake_study.write_run(files.path(folder) / 'runs' / 'guide', 1.3, rng)
    report.main(folder)
    text = ''.join(Page((folder / 'report.html').read_text()).words)
    assert 'some of the 3 seed blocks of No guidance, Autoguidance' in text
    assert 'no interval tells if it is chance' in text, 'one block without error proves nothing'
    there = files.names(folder / 'figures', '-dark.png')
    assert {'weights-dark.png', 'ema-dark.png', 'search-dark.png', 'loss-dark.png'} <= set(there)
    assert read(folder).stat('none').n == 2


def test_text_of_the_study_is_escaped(small):
    folder, write = small
    evil = '<script>alert("x")</script> & $\\bad_{$ \''
    meta = fake_study.about()
    meta |= {'title': evil, 'command': evil, 'metric_title': evil, 'provenance': {evil: evil}}
    meta['arms'] = {evil: meta['arms']['none'], 'cfg': {**meta['arms']['cfg'], 'title': evil}}
    meta['arms'][evil] |= {'title': evil, 'description': evil, 'main': evil}
    files.write_json(folder / 'study.json', meta)
    study = write([*finals(evil, [1.0, 2.0, 3.0]), *finals('cfg', [1.0, 2.0, 3.0])])
    parsed = Page(page.build(study, {}))
    assert [a.get('type') for a, _ in parsed.scripts] == ['application/json', None]
    assert evil in [arm['title'] for arm in json.loads(''.join(parsed.scripts[0][1]))['arms']]
    assert page.build(study, {}).count('<script>') == 1
    assert collections.Counter(parsed.words)[evil] >= 3
    assert evil in [value for _, name, value in parsed.attributes if name == 'data-arm']
    assert drawing.render(scores.trade_off, study) == {}, 'no precision, no figure'
    rows = [{**row, 'cost': {'relative': 1.0}} for row in study.rows]
    assert drawing.render(scores.cost, write(rows))['.png'], 'a title is no formula'


@pytest.mark.parametrize(
    'none, auto, says',
    [
        ([9.0, 10.0, 11.0], [5.0, 5.5, 6.0], 'lowers the FD (digit classifier) from'),
        ([5.0, 5.5, 6.0], [9.0, 10.0, 11.0], 'raises the FD (digit classifier) from'),
        ([9.0, 10.0, 11.0], [8.0, 10.5, 9.5], 'holds 0, so this study shows no difference'),
        ([9.0], [5.0], 'a single block of seeds, so no interval tells'),
    ],
)
def test_the_answer_follows_the_numbers(small, none, auto, says):
    study = small[1]([*finals('none', none), *finals('autoguidance', auto)])
    found = ' '.join(words.answer(study))
    assert says in found
    assert ('which excludes 0; it' in found) == ('from' in says)
    if len(none) == 3:
        wins = sum(a < n for a, n in zip(auto, none))
        assert f'lower on {wins} of 3 blocks of fresh seeds' in found
        assert 'Recall goes from 0.5010\u00a0±\u00a00.0010' in found
        low, high = student_interval(np.subtract(auto, none))
        ends = re.search(r'interval \[(\S+),\s(\S+)\]', found.replace('−', '-')).groups()
        assert [float(end) for end in ends] == pytest.approx([low, high], abs=0.051)


@pytest.mark.parametrize('freedom', [1, 2, 3, 4, 9, 30, 1000])
def test_quantiles_of_student(freedom):
    assert stats.student(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=1e-9)


def test_intervals_in_closed_form():
    """Two values a ± b have sd √2·b, so that sd/√2 = b; t of one degree is tan(0.475 π)."""
    two = stats.Stat((3.0, 5.0), (0.1, 0.1))
    half = np.tan(0.475 * np.pi)
    assert two.spread == pytest.approx(2**0.5)
    assert two.interval == pytest.approx((4 - half, 4 + half))
    alone = stats.Stat((4.0,), (0.5,), (1.1,))
    assert alone.spread == 0.5 and alone.interval == pytest.approx((2.9, 5.1))
    assert stats.Stat((4.0,), (0.0,), (0.0,)).interval is None, 'nothing varied'
    assert stats.Stat((4.0,), (0.5,), (None,)).interval is None, 'half is not made of the error'
    same = stats.Stat((1.0, 1.0, 1.0))
    assert same.spread == 0 and same.interval is None and same.excludes_zero is None
    assert stats.Stat((0.0, 0.0)).excludes_zero is False, 'no difference on any block'
    assert stats.Stat((4.0,)).interval is None and stats.Stat((4.0,), (None,)).spread is None


def test_an_estimate_is_what_the_row_tells():
    row = {'metrics': {'a': 6.0, 'b': 'nan', 'c': 1.0}, 'errors': {'a': 1.0}}
    row['intervals'] = {'a': [3.8, 8.2], 'b': ['-inf', 'inf']}
    assert stats.estimate(row, 'a') == pytest.approx((6.0, 1.0, 2.2))
    assert stats.estimate(row, 'a', 2.0) == pytest.approx((3.0, 0.5, 1.1))
    assert stats.estimate(row, 'b') == stats.estimate({}, 'a') == (None, None, None)
    assert stats.estimate(row, 'c') == (1.0, None, None)


def test_differences_are_taken_block_by_block():
    """Blocks that move both arms alike fall out; those of one arm alone count for nothing."""
    values = {'a': 1.0, 'b': 5.0, 'c': 9.2, 'mine': 100.0}
    mine = {seeds: (value, 0.3, 0.66) for seeds, value in values.items()}
    values = {'c': 10.0, 'b': 6.0, 'a': 2.2, 'theirs': -100.0}
    theirs = {seeds: (value, 0.4, 0.88) for seeds, value in values.items()}
    apart = stats.paired(mine, theirs)
    assert apart.values == pytest.approx((-1.2, -1.0, -0.8)) and apart.excludes_zero
    assert apart.interval == pytest.approx(student_interval([-1.2, -1.0, -0.8]))
    one = stats.paired({'a': mine['a']}, theirs)
    assert (one.spread, one.half) == pytest.approx((0.5, 1.1)) and one.excludes_zero
    assert stats.paired({'a': (1.2, 0.3, 0.66)}, theirs).excludes_zero is False
    assert stats.paired({'a': (1.0, None, None)}, theirs).excludes_zero is None
    assert stats.paired({'x': mine['a']}, theirs) is None


def test_best_and_ties_by_the_stated_rule():
    """b is 0.1 and 0.05 above a: 0.075 ± 0.32 holds 0; c is 2.0 and 1.9 above: 1.95 ± 0.64."""
    found = {
        'a': stats.Stat((1.0, 1.2)),
        'b': stats.Stat((1.1, 1.25)),
        'c': stats.Stat((3.0, 3.1)),
        'd': stats.Stat((1.3,)),
        'e': None,
    }
    blocks = {k: dict(enumerate(zip(stat.values, N, N))) for k, stat in found.items() if stat}
    difference = lambda x, y: stats.paired(blocks[x], blocks[y])
    marks = lambda key: stats.marks(stats.METRICS[key], found, difference)
    assert marks('frechet') == {'a': 'best', 'b': 'tie'}, 'd has a single block and no error'
    assert marks('recall') == {'c': 'best'}
    assert marks('density') == {'a': 'best', 'b': 'tie'}
    assert stats.marks(stats.METRICS['frechet'], {'a': found['a'], 'e': None}, difference) == {}


def test_the_table_of_differences_tells_what_excludes_zero(small):
    """Autoguidance is lower by 4 on every block, cfg by as much as it is higher."""
    recalls = {'none': 0.5, 'cfg': 0.4, 'autoguidance': 0.5}
    values = {'none': [9.0, 11.0, 10.0], 'cfg': [8.0, 12.0, 10.1], 'autoguidance': [5.0, 7.1, 5.9]}
    rows = [row for arm in values for row in finals(arm, values[arm], recalls[arm])]
    small[1](rows)
    report.main(small[0])
    table = Page((small[0] / 'report.html').read_text()).tables[1]
    cells = {arm: [(a, ' '.join(w)) for a, w in table[arm][1:]] for arm in values}
    base, guided, cfg = (cells[arm] for arm in ('none', 'autoguidance', 'cfg'))
    assert base[0][1] == guided[-1][1] == '–', 'nothing is compared with itself'
    assert 'excludes 0' in guided[0][1] and 'holds 0' in cfg[0][1]
    for arm, (attributes, _) in (('autoguidance', guided[0]), ('cfg', cfg[0])):
        expected = student_interval(np.subtract(values[arm], values['none']))
        found = [float(attributes[name]) for name in ('data-low', 'data-high')]
        assert found == pytest.approx(expected)
    assert float(base[-1][0]['data-mean']) == pytest.approx(4.0), 'none less the best'


def test_one_block_has_the_interval_of_its_own_error(small):
    rows = finals('none', [9.0]) + finals('autoguidance', [5.0])
    files.write_json(small[0] / 'study.json', {**fake_study.about(), 'final': ONE_BLOCK})
    for row in rows:
        row['errors'] = {'frechet': 0.5}
    alone = 'they share a single block of seeds, so no interval tells'
    assert alone in words.answer(small[1](rows))[0], 'the rows tell no interval'
    for row in rows:
        score = row['metrics']['frechet']
        row['intervals'] = {'frechet': [score - 1.1, score + 1.1]}
    study = small[1](rows)
    assert study.stat('none').interval == pytest.approx((7.9, 10.1))
    assert '95\u00a0% interval [−5.6,\u00a0−2.4], which excludes 0' in words.answer(study)[0]
    report.main(small[0])
    text = ''.join(Page((small[0] / 'report.html').read_text()).words)
    assert 'Score ± standard error over one block' in text
    assert 'One training of each network' in text, 'what no interval covers'


def test_every_metric_has_a_column_and_distances_are_those_of_the_metrics():
    for name in metrics.table.names():
        distance = hasattr(metrics.table.get(name), 'is_distance')
        assert distance == (stats.column_of(name).key in stats.DISTANCES), name


def test_a_study_shows_the_distance_that_it_minimised(small):
    folder, write = small
    titles = {'kid': 'KID', 'frechet': 'FID', 'precision': 'precision (Inception)'}
    meta = {**fake_study.about(), 'metrics': ['kid', 'frechet', 'recall'], 'titles': titles}
    files.write_json(folder / 'study.json', {**meta, 'metric_title': 'FID'})
    rows = finals('none', [0.002, 0.0021, 0.0022])
    rows += fake_study.rows_of('autoguidance', np.random.default_rng(0))
    for row in rows:
        value, guided = row['metrics']['frechet'], row['arm'] == 'autoguidance'
        row['metrics']['kid'] = (value - 3.8) / 1e4 if guided else value
        row['metrics']['frechet'] = 5.0
    rows += [{**row, 'arm': 'cfg', 'key': f'c{row["key"]}'} for row in finals('none', [1.0])]
    rows[-1] |= {'metrics': {'kid': None}, 'undefined': {'kid': 'too few'}}
    study = write(rows)
    assert study.columns[:3] == ['kid', 'frechet', 'precision']
    table = report.main(folder)
    assert table[0]['distance'] == pytest.approx(0.0021) and table[0]['frechet'] == 5.0
    parsed = Page((folder / 'report.html').read_text())
    text = ' '.join(parsed.words).replace('\u00a0', ' ')
    assert 'Method KID ↓ best of n FID ↓ Precision ↑' in text
    assert 'the KID from 0.0021' in words.answer(study)[0] and '%)' not in words.answer(study)[0]
    assert '(no value: too few)' in text and '0.00210' in text
    assert 'is a kernel distance between the features' in text
    low, high = scores.weights(study, style.LIGHT).axes[0].get_ylim()
    assert low < min(study.stat('autoguidance').values) < 0 < 0.0022 < high


def test_scores_of_too_few_images_are_named(small):
    rows = finals('none', [9.0, 8.0, 7.0])
    for row in rows:
        row |= {'fewer': {'frechet': 50_000}, 'images': 1500}
    rows.append({**rows[0], 'key': 'try', 'phase': 'search', 'images': 500, 'seeds': [0, 1500]})
    small[1](rows)
    report.main(small[0])
    text = ''.join(Page((small[0] / 'report.html').read_text()).words)
    told = 'the final scores have 1500, the search and scans have 500.'
    assert f'FD (digit classifier) asks for 50000 images; {told}' in text


def test_curves_have_the_interval_of_each_score(small):
    rows = [
        {'key': str(w), 'phase': 'curve', 'arm': 'cfg', 'setting': {'weight': w}}
        | {'metrics': {'frechet': 10.0 * w}, 'errors': {'frechet': 0.5}, 'intervals': interval}
        for w, interval in [(2.0, {'frechet': [18.9, 21.1]}), (1.0, {})]
    ]
    (w1, v1, none), (w2, v2, half) = scores.points(small[1](rows), 'curve', 'cfg')
    assert (w1, v1, w2, v2) == (1.0, 10.0, 2.0, 20.0)
    assert np.isnan(none) and half == pytest.approx(1.1)


def test_undefined_metrics_are_left_out_and_absolute_variance_is_divided_by_the_floor(small):
    rows = finals('none', [9.0, float('nan'), None])
    rows[0]['metrics']['class_variance'] = 3.0
    rows.append({'phase': 'floor', 'arm': 'real', 'metrics': {'class_variance': 4.0}})
    study = small[1](rows)
    assert study.stat('none').values == (9.0,)
    assert study.stat('none', 'class_variance').values == (0.75,)
    assert study.stat('real', 'class_variance').values == (1.0,)


def test_a_setting_scored_twice_counts_once(small):
    study = small[1]([*finals('none', [9.0, 8.0, 7.0]), *finals('none', [6.0])])
    assert sorted(study.stat('none').values) == [6.0, 7.0, 8.0]


def test_mosaic_shows_the_pixels_of_the_right_samples():
    images = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2, 1)
    sheet = strips.mosaic(images, np.array([[2, 0], [-1, 1]]), pixels=8)
    assert sheet.shape == (18, 18, 4)
    for k, (top, left) in {2: (0, 0), 0: (0, 10), 1: (10, 10)}.items():
        tile = sheet[top : top + 8, left : left + 8]
        assert (tile[..., 0] == np.kron(images[k, ..., 0], np.ones((4, 4)))).all()
        assert (tile[..., 3] == 255).all()
    assert not sheet[:, 8:10].any() and not sheet[10:, :8].any(), 'gaps and empty places'
    assert Image.open(io.BytesIO(strips.png(sheet))).size == (18, 18)


def test_columns_are_classes_where_there_are_few():
    index, heads = strips.arrange([3, 1, 3, 1, 3], columns=10, rows=2)
    assert heads == ['1', '3'] and index.tolist() == [[1, 0], [3, 2]]
    index, heads = strips.arrange([-1] * 5, columns=3, rows=4)
    assert heads == [''] * 3 and index.tolist() == [[0, 1, 2], [3, 4, -1]]
    index, heads = strips.arrange(np.arange(100), columns=10, rows=1)
    assert index.tolist() == [list(range(10))] and set(heads) == {''}


def test_search_trace_is_the_running_best(small):
    rows = [
        {'key': str(i), 'phase': 'search', 'arm': 'cfg', 'metrics': {'frechet': value}}
        for i, value in enumerate([5.0, 'nan', 7.0, 3.0])
    ]
    assert curves.traces(small[1](rows))['cfg'].tolist() == [5.0, 5.0, 5.0, 3.0]


def test_labels_keep_apart_and_in_order():
    given = np.array([0.5, 0.1, 0.52, 0.51, 0.9])
    placed = drawing.spread_out(given, 0.1)
    assert (np.diff(placed[np.argsort(given)]) > 0.0999).all()
    assert drawing.spread_out([0.1, 0.5, 0.3], 0.1).tolist() == [0.1, 0.5, 0.3]


def test_rows_of_the_past_are_left_out(small):
    folder, write = small
    old = [
        {**row, 'key': f'old{i}', 'setting': {'weight': 3.0}}
        for i, row in enumerate(finals('cfg', [1.0, 1.0, 1.0]))
    ]
    new = [{**row, 'setting': {'weight': 1.5}} for row in finals('cfg', [5.0, 6.0])]
    other = [{**new[0], 'key': 'seeds', 'seeds': [7, 1500]}]
    study = write([*old, *other, *new])
    assert study.stat('cfg').values == (5.0, 6.0) and study.chosen('cfg') == {'weight': 1.5}
    files.write_json(folder / 'study.json', {**fake_study.about(), 'rows': ['old0', 'old2']})
    assert read(folder).stat('cfg').values == (1.0, 1.0), 'the study itself knows best'
