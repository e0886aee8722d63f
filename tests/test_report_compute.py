"""Equal computation, trade-offs and significance on the page: closed forms and a made-up study."""

import itertools
import math

import fake_study
import numpy as np
import pytest
import scipy.stats
from webpage import Page

from autoguide_jax import files, report
from autoguide_jax.report import compute, pareto, significance, spent, stats, style, trade
from autoguide_jax.report.study import read


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('study')
    fake_study.write(folder)
    return folder, read(folder)


@pytest.fixture
def made(tmp_path):
    """A function that writes rows into a study of its own and reads it."""

    def write(rows, **meta):
        files.write_json(
            tmp_path / 'study.json', {**fake_study.about(), 'final': {}, 'search': {}, **meta}
        )
        fake_study.write_rows(tmp_path / 'results.jsonl', rows)
        return read(tmp_path)

    return write


def finals(arm, distances, recall=0.5, calls=(63, 0), phase='final', **more):
    for i, value in enumerate(distances):
        yield {
            'key': f'{phase}{arm}{i}{more}',
            'phase': phase,
            'arm': arm,
            'seeds': [i * 100, 100],
            'metrics': {'frechet': value, 'recall': recall + 0.001 * i},
            'nfe': {'main': calls[0], 'guide': calls[1]},
            **more,
        }


def test_p_values_are_those_of_the_paired_t_test():
    mine, theirs = [1.0, 2.5, 3.1, 2.2], [1.4, 2.4, 3.9, 3.3]
    apart = stats.Stat(tuple(np.subtract(mine, theirs)))
    expected = scipy.stats.ttest_rel(mine, theirs).pvalue
    assert significance.p_value(apart) == pytest.approx(expected, rel=1e-9)
    # Two blocks: Student's t with one degree is Cauchy's distribution, p = 1 − (2/π) atan t.
    two = stats.Stat((1.0, 3.0))
    assert significance.p_value(two) == pytest.approx(1 - 2 / math.pi * math.atan(2))
    assert significance.p_value(stats.Stat((1.0,), (0.1,))) is None
    assert significance.p_value(stats.Stat((1.0, 1.0))) is None, 'no spread tells nothing'
    assert significance.p_value(stats.Stat((0.0, 0.0))) == 1.0


def test_holm_in_closed_form():
    """Four p-values: × 4, × 3, × 2, × 1, never below the one before, never above 1."""
    found = significance.holm({'b': 0.02, 'a': 0.01, 'd': 0.9, 'c': 0.021})
    assert found == pytest.approx({'a': 0.04, 'b': 0.06, 'c': 0.06, 'd': 0.9})
    assert significance.holm({'a': 0.4, 'b': 0.3}) == pytest.approx({'a': 0.6, 'b': 0.6})
    assert significance.holm({}) == {}
    with pytest.raises(ValueError, match='0…1'):
        significance.holm({'a': math.nan})


def test_holm_is_the_closed_test_of_bonferroni():
    """A comparison is rejected iff Bonferroni rejects every subset of the family that has it."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = dict(enumerate(rng.uniform(0, 0.12, 4)))
        corrected = significance.holm(p)
        for i in p:
            subsets = [s for n in range(1, 5) for s in itertools.combinations(p, n) if i in s]
            closed = max(min(1, len(s) * min(p[j] for j in s)) for s in subsets)
            assert corrected[i] == pytest.approx(closed)


def test_the_table_marks_what_stays_significant(made):
    """None less the best and the best less none are one comparison: three, not four."""
    rows = [*finals('none', [9.0, 10.0, 11.0, 10.0]), *finals('cfg', [8.5, 9.8, 10.2, 9.9])]
    rows += finals('autoguidance', [5.0, 6.01, 7.02, 6.01], recall=0.5)
    study = made(rows)
    text = Page(''.join(report.differences.build(study)))
    cells = {
        arm: [' '.join(' '.join(w).split()) for _, w in r] for arm, r in text.tables[0].items()
    }
    apart = {
        'auto': stats.paired(*(study.blocks(a) for a in ('autoguidance', 'none'))),
        'cfg': stats.paired(*(study.blocks(a) for a in ('cfg', 'none'))),
        'best': stats.paired(*(study.blocks(a) for a in ('cfg', 'autoguidance'))),
    }
    p = {name: significance.p_value(stat) for name, stat in apart.items()}
    # The recalls differ by 0 on every block: two further comparisons with p = 1.
    every = significance.holm({**p, 'recall of cfg': 1.0, 'recall of auto': 1.0})
    assert 'comparisons of this table' in ' '.join(text.words)
    assert 'for all 5 comparisons' in ' '.join(text.words)
    for arm, name, column in [('autoguidance', 'auto', 1), ('cfg', 'cfg', 1), ('cfg', 'best', -1)]:
        shown = cells[arm][column]
        short = lambda x: '< 0.0001' if x < 1e-4 else f'{x:.2g}'
        assert f'p {short(p[name])} → {short(every[name])}' in shown
        assert ('✱' in shown) == (every[name] < 0.05)
    assert every['auto'] < 0.05 < every['cfg'], 'the test tells both kinds'


def test_training_counts_every_network_and_a_shared_run_in_each(whole):
    study = whole[1]
    small = 0.27 / 16
    expected = {'none': 1, 'cfg': 2, 'autoguidance': 1 + small, 'less_training': 1 + 1 / 16}
    for arm, cost in expected.items():
        assert spent.training(study, arm) == pytest.approx(cost), arm
    assert spent.per_image(study, 'cfg') == pytest.approx(126 * fake_study.MAIN_FLOPS)
    assert spent.per_image(study, 'autoguidance') == pytest.approx(63 * 1.27 * 2e8)


def test_scores_at_equal_flops_are_linear_in_log_flops_and_never_beyond(made):
    """none: distance 8 at 31 calls, 4 at 124: at 62, half-way in log, 6."""
    rows = [*finals('none', [8.0, 9.0], calls=(31, 0))]
    rows += finals('none', [4.0, 6.0], calls=(124, 0), phase='steps', steps=62)
    rows += finals('cfg', [3.0, 3.5], calls=(31, 31))
    study = made(rows)
    points = spent.measured(study, 'none')
    assert [cost for cost, _ in points] == pytest.approx([31 * 2e8, 124 * 2e8])
    middle = spent.stat(spent.at(points, 62 * 2e8))
    assert middle.values == pytest.approx((6.0, 7.5))
    assert spent.stat(spent.at(points, 31 * 2e8)).values == (8.0, 9.0), 'as measured'
    assert spent.at(points, 30 * 2e8) == {} == spent.at(points, 125 * 2e8)
    assert spent.targets(study) == {
        'that of No guidance': pytest.approx(31 * 2e8),
        'that of Classifier-free guidance': pytest.approx(62 * 2e8),
    }
    table = Page(compute.section(study, '<p>figure</p>')).tables[0]
    none, cfg = ([a.get('data-mean') for a, _ in table[arm][1:]] for arm in ('none', 'cfg'))
    assert [float(none[0]), float(none[1])] == [8.5, 6.75] and cfg[:2] == [None, '3.25']
    assert table['cfg'][-1][1] == ['2.00×'], 'training stands beside it'


def test_errors_of_interpolated_scores_are_interpolated():
    points = [(1.0, {'a': (4.0, 0.2), 'c': (1.0, 0.2)}), (4.0, {'a': (2.0, 0.4), 'b': (9.0, 0.4)})]
    assert spent.at(points, 2.0)['a'] == pytest.approx((3.0, 0.3))
    assert spent.at(points, 2.0).keys() == {'a'}, 'blocks that both have'
    points[0][1]['a'] = (4.0, None)
    assert spent.at(points, 2.0)['a'] == (3.0, None)


def test_a_study_without_counts_or_steps_has_no_such_part(made):
    study = made([*finals('none', [8.0, 9.0])], networks={})
    assert spent.training(study, 'none') is None and spent.per_image(study, 'none') is None
    assert compute.section(study, '') == '' and compute.steps(study, style.LIGHT) is None
    assert pareto.section(study) == '' and trade.distance(study, style.LIGHT) is None


def test_missing_steps_are_named(made):
    study = made([], settings={'extra': {'steps': [16, 32, 64]}})
    assert compute.missing(study) == ['the scores with 16, 64 sampler steps']


def test_the_front_in_closed_form():
    points = {'a': (1, 5), 'b': (2, 3), 'c': (2, 4), 'd': (3, 3), 'e': (4, 1), 'f': (1, 5)}
    assert pareto.front(points) == ['a', 'f', 'b', 'e'], 'equal ones do not dominate each other'
    assert pareto.dominators(points, 'd') == ['b'] and pareto.dominators(points, 'c') == ['b']


def test_dominance_says_whether_it_is_within_the_error_bars(made):
    rows = [*finals('none', [9.0, 9.1, 9.2]), *finals('cfg', [9.5, 9.8, 9.4], calls=(63, 63))]
    rows += finals('interval', [9.0, 9.3, 9.1], calls=(63, 10))
    rows += finals('autoguidance', [5.0, 5.1, 5.2], calls=(63, 60))
    rows += finals('same_ema', [5.1, 5.0, 5.3], recall=0.6, calls=(63, 63))
    found = pareto.verdicts(made(rows))
    assert found['none'][0] == 'not dominated'
    assert found['cfg'][0].endswith('beyond the error bars')
    assert found['cfg'][0].startswith('dominated by Autoguidance,'), 'the best of those'
    assert found['cfg'][1] == found['cfg'][0], 'recalls are equal: the distance decides'
    assert found['interval'][0] == 'dominated by No guidance, within the error bars'
    assert found['same_ema'][0] == 'dominated by Autoguidance, within the error bars'
    assert found['autoguidance'][0] == 'not dominated'
    lead = 'not dominated, but its lead over Same EMA for both is within the error bars'
    assert found['autoguidance'][1] == lead, 'the other has the higher recall'


def test_the_front_names_whoever_may_be_as_good_and_the_same_for_more_flops_is_dominated(made):
    rows = [*finals('none', [5.5, 5.61, 5.7]), *finals('cfg', [4.0, 9.0, 5.5])]
    rows += [*finals('autoguidance', [5.0, 5.1, 5.2]), *finals('same_ema', [5.0, 5.1, 5.2], 0.4)]
    rows += finals('interval', [5.0, 5.1, 5.2], 0.4, calls=(63, 9))
    found = pareto.verdicts(made(rows))
    lead = 'not dominated, but its lead over Classifier-free guidance is within the error bars'
    assert found['autoguidance'][1] == lead, 'the next best mean is surely worse'
    assert found['interval'][0].endswith('beyond the error bars'), 'FLOPs have no error'
    rows = [*finals('none', [9.0, 9.1, 9.2]), *finals('cfg', [1.0, 5.0, 14.0])]
    found = pareto.verdicts(made([*rows, *finals('autoguidance', [8.0, 8.11, 8.2])]))
    assert found['none'][0] == 'dominated by Autoguidance, beyond the error bars', 'cfg may not be'


def test_the_decoder_of_latents_is_said_to_be_in_no_flops(made):
    assert 'decoder' not in compute.training_note(made([], settings={'vae': ''}))
    assert 'decoder' in compute.training_note(made([], settings={'vae': 'vae.npz'}))


def test_trade_offs_mark_the_chosen_setting_on_the_same_seeds(made):
    setting = {'weight': 1.5, 'main': {'std': 0.1}}
    curve = [
        {'key': f'c{w}', 'phase': 'curve', 'arm': 'cfg', 'seeds': [0, 50], 'setting': {'weight': w}}
        | {'metrics': {'frechet': 10 - w, 'recall': 1 - w / 10}, 'errors': {'frechet': 0.5}}
        for w in (2.0, 1.0)
    ]
    search = {'phase': 'search', 'arm': 'cfg', 'setting': setting}
    tries = [
        {**search, 'key': 's', 'seeds': [0, 50], 'metrics': {'frechet': 7.0, 'recall': 0.8}},
        {**search, 'key': 'other', 'seeds': [0, 50], 'metrics': {'frechet': 6.0, 'recall': 0.7}}
        | {'setting': {**setting, 'weight': 3.0}},
        {**search, 'key': 'few', 'seeds': [0, 20], 'metrics': {'frechet': 9.0, 'recall': 0.8}},
    ]
    rows = [*curve, *reversed(tries), *finals('cfg', [5.0, 5.0], setting=setting)]
    study = made(rows)
    found = trade.points(study, 'cfg', 'frechet')
    assert [(w, x.mean, y.mean) for w, x, y in found] == [(1.0, 0.9, 9.0), (2.0, 0.8, 8.0)]
    assert found[0][1].half is None
    w, recall, distance = trade.chosen(study, 'cfg', 'frechet')
    assert (w, recall.mean, distance.mean) == (1.5, 0.8, 7.0), (
        'neither fewer images nor another setting'
    )


def test_figures_show_the_arms(whole):
    study = whole[1]
    for draw, panels in ((trade.distance, 8), (trade.precision, 8), (pareto.pareto, 2)):
        axes = draw(study, style.LIGHT).axes
        assert len(axes) == panels, draw
    lines = compute.steps(study, style.LIGHT).axes[0].get_lines()
    assert sum(len(line.get_xdata()) == 3 for line in lines) == 3, 'three arms, three step counts'
