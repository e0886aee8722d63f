"""report of sweeps and searches: the page says what the rows say, and does what it offers."""

import base64
import io
import json
import re

import fake_study
import fake_sweep
import numpy as np
import pytest
import scipy.stats
from browser import drive
from PIL import Image
from webpage import Page

from autoguide_jax import files, report
from autoguide_jax.report import live, mosaics, page, script, study
from autoguide_jax.report.sweep import views
from autoguide_jax.report.sweep.read import read

BEST = 'w = 2, EMA main = 0.1, EMA guide = 0.05, guide trained on 4 Mi images'


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sweep')
    rows = fake_sweep.write(folder)
    table = report.main(folder)
    return folder, rows, table, (folder / 'report.html').read_text()


@pytest.fixture
def written(tmp_path):
    """Writes a sweep of the given rows, without examples; returns the page that it makes."""

    def make(scored, **changes):
        fake_sweep.write(tmp_path, scored, examples=0, **changes)
        report.main(tmp_path)
        return Page((tmp_path / 'report.html').read_text())

    return make


def payload(parsed):
    return json.loads(''.join(parsed.scripts[0][1]))


def cells(parsed):
    """The rows of the table of all settings, as texts."""
    shown = re.findall(r'<tr>(<td>.*?)</tr>', parsed)
    strip = lambda cell: ' '.join(re.sub(r'<[^>]+>', '', cell).replace('\u00a0', ' ').split())
    return [[strip(c) for c in re.findall(r'<td[^>]*>(.*?)</td>', line)] for line in shown]


def at(rows, w, main, guide, age):
    """The rows of one point."""

    def is_there(row):
        s = row['setting']
        place = s['weight'], s['main']['std'], s['guide']['std'], s['guide']['nimg']
        return place == (w, main, guide, age)

    return [row for row in rows if is_there(row)]


def test_the_table_holds_the_numbers_of_the_rows(whole):
    _, rows, returned, text = whole
    table = cells(text)
    assert len(table) == len(returned) == 3 * 27 + 3, 'w = 1 is one setting for all guides'
    ages = {'1 Mi': 2**20, '4 Mi': 2**22, '16 Mi': 2**24}
    for w, main, guide, age, distance, recall, price, calls, seconds in table:
        guided = w != '1'
        point = (float(guide), ages[age]) if guided else (0.05, 2**20)
        mine = at(rows, float(w), float(main), *point)
        for shown, name in ((distance, 'frechet'), (recall, 'recall')):
            values = [row['metrics'][name] for row in mine]
            mean, sd = (float(x) for x in shown.split(' ± '))
            assert mean == pytest.approx(np.mean(values), abs=6e-4)
            assert sd == pytest.approx(np.std(values, ddof=1), abs=6e-4)
        assert (price, calls) == (('1.30×', '63 + 63') if guided else ('1.00×', '63 + 0'))
        assert seconds == '6.0'
    means = [float(line[4].split()[0]) for line in table]
    assert means == sorted(means) and table[0][:4] == ['2', '0.1', '0.05', '4 Mi']


def test_the_opening_tells_the_best_and_what_the_same_seeds_say_of_the_rest(whole):
    _, rows, _, text = whole
    said = ' '.join(Page(text).words).replace('\u00a0', ' ')
    assert f'Best is {BEST}: FD (made-up) 1.100 ± 0.010 over 3 sets of seeds' in said
    values = [row['metrics']['frechet'] for row in at(rows, 2.0, 0.1, 0.05, 2**22)]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert f'[{low:.3f}, {high:.3f}], the luckiest set {min(values):.3f}' in said
    assert 'Without guidance the best is 1.400 ± 0.010' in said
    count = len(rows) * 1000
    assert f'{count:,}'.replace(',', '\u2009') + ' for 324 scores of 84 settings' in said


def test_the_script_reads_what_the_rows_say(whole):
    _, rows, _, text = whole
    data = payload(Page(text))
    names = [axis['name'] for axis in data['axes']]
    assert names == ['weight', 'main_std', 'guide_std', 'guide_nimg']
    place = [a['values'].index(v) for a, v in zip(data['axes'], (2.5, 0.15, 0.1, 2**20))]
    i = data['points'].index(place)
    values = [row['metrics']['frechet'] for row in at(rows, 2.5, 0.15, 0.1, 2**20)]
    t = scipy.stats.t.ppf(0.975, 2)
    half = t * scipy.stats.sem(values)
    expected = [np.mean(values), np.std(values, ddof=1), half, 3]
    assert data['stats']['frechet'][i] == pytest.approx(expected, rel=1e-6)
    assert [rows[line - 1]['seeds'][0] for line in data['lines'][i]] == list(fake_sweep.BLOCKS)
    assert {tuple(p[2:]) for p in data['points'] if p[0] == 0} == {(-1, -1)}
    more = np.subtract(values, [r['metrics']['frechet'] for r in at(rows, 2.0, 0.1, 0.05, 2**22)])
    mean, half = data['apart'][i]
    assert mean == pytest.approx(np.mean(more)) and data['apart'][data['anchor']] is None
    assert half == pytest.approx(t * scipy.stats.sem(more), rel=1e-5)


def test_one_set_of_seeds_has_the_interval_of_its_row(written):
    rows = [row for row in fake_sweep.grid() if row['seeds'][0] == 0]
    data = payload(written(rows))
    assert {tuple(s[1:]) for s in data['stats']['frechet']} == {(0.02, 0.05, 1)}
    assert {tuple(s[1:]) for s in data['stats']['recall']} == {(None, None, 1)}


def test_the_page_loads_nothing_and_no_text_ends_its_script(written):
    evil = '</script><img src=https://x.example/y onerror=alert(1)><!--'
    rows = [fake_sweep.row(w, 0.1, 0.05, 2**20, 0, run=r) for w in (1.5, 2.0) for r in ('a', evil)]
    parsed = written(rows, titles={'frechet': evil}, search={'name': evil, 'settings': {evil: 1}})
    assert [a.get('type') for a, _ in parsed.scripts] == ['application/json', None]
    assert 'img' not in {t for t, _, _ in parsed.attributes if t == 'img'} or all(
        v.startswith('data:') for t, n, v in parsed.attributes if (t, n) == ('img', 'src')
    )
    data = payload(parsed)
    assert data['metrics'][0]['title'] == evil and evil in data['axes'][1]['texts']
    links = [v for _, n, v in parsed.attributes if n in ('href', 'src', 'srcset')]
    assert links and not [v for v in links if re.match(r'\w+:(?!image/png)', v[5:])]
    assert not [v for v in links if v.startswith(('http', '//'))]
    assert any("default-src 'none'" in (v or '') for _, n, v in parsed.attributes)
    code = ''.join(parsed.scripts[1][1])
    assert not re.search(r'https?:|fetch\(|XMLHttp|import\s*\(|innerHTML|eval\(', code)
    with pytest.raises(ValueError):
        script.data('x', float('nan'))


def test_links_lead_to_the_networks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.write_json(tmp_path / 'runs' / 'main' / 'config.json', {})
    fake_sweep.write('out/a sweep', examples=0)
    report.main('out/a sweep')
    parsed = Page((tmp_path / 'out' / 'a sweep' / 'report.html').read_text())
    links = [v for t, n, v in parsed.attributes if (t, n) == ('a', 'href') and v[0] != '#']
    assert links == ['results.jsonl', 'sweep.json', '../../runs/main/config.json']
    assert payload(parsed)['runs'][1] == ['guide', 'runs/guide', None], 'it is not there'


def test_scores_over_different_numbers_of_images_are_never_mixed(written, tmp_path):
    """Halving: all at 100 images, the better at 1000, two of them again on fresh seeds."""
    points = [(w, 0.1, 0.05, age) for w in fake_sweep.WEIGHTS[1:] for age in fake_sweep.AGES]
    phase = lambda row, name: {**row, 'phase': name, 'key': f'{row["key"]}-{name}'}
    rows = [phase(fake_sweep.row(*p, 0, 100), 'search') for p in points]
    more = [fake_sweep.row(*p, 0, 1000) for p in points if p[0] > 1.5]
    rows += [{**phase(row, 'search'), 'drawn': 900} for row in more]
    top = (2.0, 0.1, 0.05, 2**22), (2.5, 0.1, 0.05, 2**22)
    rows += [phase(fake_sweep.row(*p, i, 1000), 'confirm') for p in top for i in (1, 2)]
    search = {'name': 'halving', 'settings': {'eta': 2}}
    early = ' '.join(written(rows[:5], search=search).words)
    assert 'the rest of the search: no setting has more than 100 of 1000 images yet' in early
    parsed = written(rows, search=search, found={'point': {}, 'images': 6300})
    data = payload(parsed)
    assert data['counts'] == [100, 1000] and sorted(set(data['count'])) == [0, 1]
    assert {s[3] for s in data['stats']['frechet']} == {1}
    found = read(tmp_path)
    assert [e.count for e in found.full] == [1000] * 6
    assert len(cells((tmp_path / 'report.html').read_text())) == 6 + 2
    spent = views.spent(found)
    assert [n for n, _ in spent[100]] == [100 * (i + 1) for i in range(9)]
    assert [n for n, _ in spent[1000]] == [900 + 900 * (i + 1) for i in range(6)]
    best = fake_sweep.score(*top[0], 0) + 0.1
    assert spent[1000][-1][1] == pytest.approx(best)
    said = ' '.join(parsed.words)
    assert '10\u2009300 for 19 scores of 9 settings' in said
    assert 'A search of guidance settings: halving' in said and 'eta = 2' in said
    fresh = [fake_sweep.score(*top[0], i) + 0.1 for i in (1, 2)]
    told = f'{np.mean(fresh):.3f} ± {np.std(fresh, ddof=1):.3f} over 2 sets of fresh seeds'
    assert told in said.replace('\u00a0', ' ') and f'it was number 1 with {best:.3f}' in said
    assert 'is not finished' not in said and 'a little luck' not in said
    assert [e.point['weight'] for e in found.fresh] == [2.0, 2.5]
    assert {len(e.rows) for e in found.entries} == {1}, 'fresh seeds are no set of the search'
    hands = HANDS + (
        'const dots = () => all("[data-live=curve] circle").length; const before = dots();'
        'set("images", 0); set("table.images", 0); return [before, dots(), column(0).length];'
    )
    page = (tmp_path / 'report.html').read_text()
    assert drive(page, hands, tmp_path, '#curve.lines=guide_nimg') == [6, 9, 9]
    for one in rows[-2:]:  # fresh seeds that turn the order
        one['metrics']['frechet'] -= 1
    said = ' '.join(written(rows, search=search, found={}).words)
    assert 'it was number 2' in said and 'by a little luck: the number 1 of the search' in said
    assert f'has {np.mean(fresh):.3f}' in said.replace('\u00a0', ' ')


def test_no_guidance_stands_at_all_values_of_the_guides_axes(whole):
    sweep = read(whole[0])
    found = views.best_by(sweep, ['weight', 'guide_std'])
    plain = {found[1.0, std] for std in fake_sweep.STDS}
    assert len(plain) == 1 and next(iter(plain)).point['main_std'] == 0.1
    assert len(found) == 4 * 3 and views.axes(sweep)['mode'] == 'best'
    low = views.best_by(sweep, ['guide_nimg'], 'min')
    assert [low[age,].point['weight'] for age in fake_sweep.AGES] == [2.0] * 3


def test_the_grids_are_the_kept_images_with_each_seed_at_its_place(whole):
    folder, _, _, text = whole
    data, sweep = payload(Page(text)), read(whole[0])
    assert len(data['pictures']) == len(sweep.full) and data['heads'] == ['0', '1', '2', '3']
    i = next(iter(data['pictures']))
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(data['pictures'][i]))).convert('L'))
    with files.open_npz(folder / 'examples' / f'{data["kept"][int(i)]}.npz') as arrays:
        images = arrays['images']
    cell = 24 + 2
    for k in range(12):
        row, column = divmod(k, 4)
        place = drawn[row * cell :, column * cell :][:24:3, :24:3]
        assert (place == images[k, :8, :8, 0]).all(), k


def test_grids_without_script_follow_the_axis(tmp_path):
    """In order of its numbers, not of their digits, and some all along it where there are many."""
    ages = [2**k for k in range(14, 31)]
    rows = [fake_sweep.row(2.0, 0.1, 0.05, age, 0) for age in ages]
    fake_sweep.write(tmp_path, rows)
    report.main(tmp_path)
    text = (tmp_path / 'report.html').read_text()
    shown = re.findall(r'alt="Samples: guide trained on (.*?) images"', text)
    expected = ['16 Ki', '64 Ki', '512 Ki', '2 Mi', '8 Mi', '32 Mi', '256 Mi', '1 Gi']
    assert shown == expected, 'first and last among them'


def test_what_is_too_large_for_the_page_is_left_out_and_told(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(mosaics, 'BUDGET', 40_000)
    rows = fake_sweep.write(tmp_path)
    report.main(tmp_path)
    parsed = Page((tmp_path / 'report.html').read_text())
    told = ' '.join(parsed.words)
    found = re.search(r'8 of 12 kept images of each grid are shown; (\d+) of 84 settings', told)
    assert len(payload(parsed)['pictures']) == 84 - int(found[1]) >= 8
    shown = {payload(parsed)['kept'][int(i)] for i in payload(parsed)['pictures']}
    line = {at(rows, w, 0.1, 0.05, 2**22)[0]['measurement'] for w in (1.5, 2.0, 2.5)}
    assert line <= shown, 'the line of the first slider comes first'
    huge = np.zeros((1, 300, 200, 3), np.uint8)
    picture = Image.open(io.BytesIO(mosaics.small(huge, np.zeros((1, 1), int), 128)))
    assert picture.size == (85, 128)
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3)).astype(np.uint8)
    assert mosaics.affordable(noise, 1)[1] == 32, 'smaller before fewer'
    assert '128 of 300 pixels' in mosaics.note(huge, (1, 128), 'settings', (0, 1), 'here/')


def test_an_unfinished_sweep_says_so_and_none_is_refused(written, tmp_path):
    rows = fake_sweep.grid()[:40]
    parsed = written(rows, asked=[f'k{i}' for i in range(30)] + [r['key'] for r in rows])
    said = ' '.join(parsed.words)
    assert 'This sweep is not finished' in said and '30 of 70 scores' in said
    with pytest.raises(ValueError, match='no setting has been scored yet'):
        written([])
    files.write_json(tmp_path / 'sweep.json', {'settings': {}})
    with pytest.raises(ValueError, match='has no settings.score'):
        report.main(tmp_path)


def test_scripts_are_small():
    texts = [script.text_of(f'{name}.js') for name in ('sweep', 'settings', *live.SCRIPTS)]
    for text in texts:
        assert text.count('\n') <= 300
        assert max(map(len, text.splitlines())) <= 100


# What a user does, in a real browser: press, choose, drag, type. Every answer is read off the page.
HANDS = """
const all = (q) => [...document.querySelectorAll(q)];
const control = (name) => document.querySelector(`[data-control="${name}"]`);
const set = (name, value, event = 'change') => {
  control(name).value = value;
  control(name).dispatchEvent(new Event(event, { bubbles: true }));
};
const column = (k) => all('#settings tbody tr').map((row) => row.cells[k].textContent);
const head = (k) => all('#settings thead th')[k];
const told = { script: document.documentElement.dataset.script };
const live = (name) => document.querySelector(`[data-live="${name}"]`);
const arrow = (chart, key) =>
  chart.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
"""
SWEEP = """
told.statics = all('[data-static]').length;
told.first = column(4);
told.sorted = head(4).getAttribute('aria-sort');
head(5).querySelector('button').click();
told.recallUp = [column(5), head(5).getAttribute('aria-sort'), head(4).getAttribute('aria-sort')];
head(5).querySelector('button').click();
told.recallDown = [column(5), head(5).getAttribute('aria-sort')];
set('table.weight', '=2');
told.filtered = [column(0), live('table').querySelector('[role=status]').textContent];
document.querySelector('#settings button.plain').click();
told.details = document.querySelector('tr.details').textContent;
const grid = () => live('samples').querySelector('.grid');
told.before = [grid().querySelector('.who').textContent, grid().querySelector('img').src];
set('samples.weight', 1, 'input');
told.after = [grid().querySelector('.who').textContent, grid().querySelector('img').src];
told.slider = control('samples.weight').getAttribute('aria-valuetext');
const chart = () => live('curve').querySelector('svg');
told.lines = all('[data-live=curve] [data-series]').map((g) =>
  [g.dataset.series, g.querySelectorAll('circle').length, g.querySelectorAll('.band').length]);
arrow(chart(), 'ArrowRight'); arrow(chart(), 'ArrowRight');
told.tip = live('curve').querySelector('.tip.on').textContent;
set('metric', 'recall');
told.label = chart().getAttribute('aria-label');
set('curve.x', 'guide_nimg');
told.ticks = [...chart().querySelectorAll('.axes text')].map((t) => t.textContent);
told.cells = all('[data-live=map] rect.cell').length;
told.hash = location.hash;
told.labelled = all('input,select').every((node) => node.closest('label').textContent.trim());
return told;
"""


def test_the_page_of_a_sweep_does_what_it_offers(whole, tmp_path):
    _, rows, _, text = whole
    told = drive(text, HANDS + SWEEP, tmp_path)
    assert told['script'] == 'ready' and told['statics'] == 0
    static = [line[4] for line in cells(text)]
    assert told['first'] == static and told['sorted'] == 'ascending', 'the table stays as it was'
    recalls = [line[5] for line in cells(text)]
    means = lambda column: [float(cell.split(' ± ')[0]) for cell in column]
    assert means(told['recallUp'][0]) == sorted(means(recalls))
    assert told['recallUp'][1:] == ['ascending', None]
    assert means(told['recallDown'][0]) == sorted(means(recalls))[::-1]
    assert told['recallDown'][1] == 'descending'
    assert told['filtered'] == [['2'] * 27, '27 of 27 settings']
    assert 'line ' in told['details'] and 'results.jsonl' in told['details']
    mean = lambda *point: np.mean([row['metrics']['frechet'] for row in at(rows, *point)])
    assert f'{mean(2.0, 0.1, 0.05, 2**22):.3f}' in told['before'][0]
    assert f'{mean(1.5, 0.1, 0.05, 2**22):.3f}' in told['after'][0] and told['slider'] == '1.5'
    pictures = payload(Page(text))['pictures'].values()
    shown = [
        said[1].removeprefix('data:image/png;base64,') for said in (told['before'], told['after'])
    ]
    assert shown[0] != shown[1] and set(shown) <= set(pictures)
    assert told['lines'] == [[f'EMA guide {std:g}', 4, 1] for std in fake_sweep.STDS]
    assert told['tip'].startswith('w 1.5, EMA main 0.1, EMA guide 0.05, guide trained 4 Mi')
    assert f'{mean(1.5, 0.1, 0.05, 2**22):.3f}' in told['tip'] and '95 %: [' in told['tip']
    assert 'more than the best, same seeds' in told['tip'] + told['details']
    assert told['label'] == 'Recall along w'
    assert {'1 Mi', '4 Mi', '16 Mi', 'guide trained'} <= set(told['ticks'])
    assert told['cells'] == 9 and told['labelled']
    assert 'samples.weight=1.5' in told['hash'] and 'metric=recall' in told['hash']


def test_the_address_chooses_what_is_shown(whole, tmp_path):
    hands = HANDS + 'return [control("samples.weight").value, chartLabel(), column(0)];'
    hands += 'function chartLabel() { return live("curve").querySelector("svg").ariaLabel; }'
    state = '#samples.weight=2.5&metric=recall&table.weight==1&nothing=1'
    assert drive(whole[3], hands, tmp_path, state) == ['3', 'Recall along w', ['1'] * 3]


STUDY = """
told.static = all('[data-static]').length;
const table = all('table')[0];
const names = () => [...table.tBodies[0].rows].map((row) => row.dataset.arm ?? 'group');
told.before = names();
table.tHead.rows[0].cells[1].querySelector('button').click();
told.after = names();
const grids = () => [...live('samples').querySelectorAll('.grid')].map((g) =>
  [g.querySelector('.who').textContent, g.querySelector('img').hidden]);
told.grids = grids();
set('samples.w', 2, 'input');
told.moved = grids();
arrow(live('curves').querySelector('svg'), 'ArrowRight');
told.tip = live('curves').querySelector('.tip.on').textContent;
told.trade = live('trade').querySelector('svg').getAttribute('aria-label');
set('trade.show', 'weights');
told.weights = all('[data-live=trade] circle').length;
return told;
"""


def test_the_page_of_a_study_does_what_it_offers(tmp_path):
    rows = fake_study.write(tmp_path)
    with files.open_npz(tmp_path / 'samples' / 'cfg.npz') as arrays:
        kept = {'images': arrays['images'], 'labels': arrays['labels']}
    for weight in ('1', '1.5'):
        files.save_npz(tmp_path / 'samples' / f'cfg@{weight}.npz', kept)
    found = study.read(tmp_path)
    assert set(found.samples) == set(fake_study.ARMS), 'those of other weights are no arms'
    told = drive(page.build(found, {}), HANDS + STUDY, tmp_path)
    assert told['script'] == 'ready' and told['static'] == 0
    final = lambda arm: found.stat(arm).mean
    ends = told['before'].index('group', 1)
    mine = told['before'][1:ends]
    assert told['after'][1:ends] == sorted(mine, key=final)
    assert told['after'][0] == 'group' and told['after'][-1] == 'real', 'groups stay'
    assert ['Classifier-free guidance, w = 1.4', False] in told['grids']
    assert ['Classifier-free guidance, w = 1.5', False] in told['moved']
    assert ['No guidance', False] in told['moved'], 'it has no weights'
    first = next(r for r in rows if r['phase'] == 'curve' and r['setting']['weight'] == 1)
    assert told['tip'].startswith('Classifier-free guidance, w = 1\n')
    assert f'{first["metrics"]["frechet"]:.2f}' in told['tip']
    assert told['trade'] == 'Precision against Recall'
    assert told['weights'] == sum(r['phase'] == 'curve' for r in rows)
