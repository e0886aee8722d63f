"""What a study costs: arithmetic of stages, budgets and training, without a device."""

import pytest

from autoguide_jax import budget, config
from autoguide_jax.budget import Budget, Stage
from autoguide_jax.search import drive
from autoguide_jax.study.costs import Costs, asked, trained
from autoguide_jax.study.settings import ArmSettings, Settings

STAGES = (
    Stage('train main', 'train', 1000, 6e12),
    Stage('search', 'draw', 400, 2e12, evaluations=4, calls=1200),
    Stage('final', 'draw', 600, 4e12, evaluations=2, calls=1800),
)


def run(nimg):
    lengths = {'total_nimg': nimg, 'snapshot_nimg': 128, 'checkpoint_nimg': nimg, 'log_nimg': nimg}
    return {'train': {'batch_size': 32, **lengths}}


def tree(**changes):
    return {
        'title': 'costs',
        'runs': {'main': run(1024), 'guide': run(512), 'uncond': run(1024), 'longer': run(1536)},
        'arms': {
            'none': {'title': 'None', 'main': 'main'},
            'longer': {'title': 'Longer', 'main': 'longer'},
            'cfg': {'title': 'CFG', 'main': 'main', 'uncond': 'uncond'},
            'auto': {'title': 'Auto', 'main': 'main', 'guide': 'guide'},
            'early': {'title': 'Early', 'main': 'main', 'guide': 'main', 'guide_nimg': 256},
        },
        'search': {'budget': 3, 'images': 10},
        'final': {'images': 20, 'repeats': 2},
        'extra': {'weights': [1.0, 2.0], 'grid': 5, 'slider': 4, 'steps': [8, 14]},
        'sampler': {'name': 'heun', 'num_steps': 14},
        **changes,
    }


def test_times_and_sums_of_a_plan():
    rates = {'train': 1e12, 'draw': 2e12, 'search': 1e12}
    assert [budget.seconds(stage, rates) for stage in STAGES] == [6.0, 2.0, 2.0]
    *_, total = budget.rows(STAGES, rates)
    assert (total['images'], total['calls'], total['evaluations']) == (1000, 3000, 6)
    assert (total['TFLOP'], total['minutes']) == (12.0, round(10 / 60, 2))
    *_, total = budget.rows(STAGES, {'train': 1e12})
    assert total['minutes'] == budget.UNKNOWN


def test_a_budget_refuses_what_is_above_it_and_tells_what_it_cannot_know():
    rates = {'train': 1e12, 'draw': 1e12}
    assert budget.check(STAGES, Budget(), {}) == ''
    assert budget.check(STAGES, Budget(images=1000, hours=12 / 3600), rates) == ''
    with pytest.raises(ValueError, match=r'budget.images \(999\): 1000 .*search 400, final 600'):
        budget.check(STAGES, Budget(images=999), {})
    with pytest.raises(ValueError, match=r'budget.hours \(0.003\).*0.00333 hours.*less: fewer'):
        budget.check(STAGES, Budget(hours=0.003), rates, 'fewer')
    told = budget.check(STAGES, Budget(hours=1), {'train': 1e12})
    assert 'the time of search, final is unknown' in told
    with pytest.raises(ValueError, match='must be ≥ 0'):
        Budget(images=-1)


def test_an_arm_pays_for_what_it_uses():
    settings = config.parse(Settings, tree())
    paid = {name: trained(arm, settings.runs) for name, arm in settings.arms.items()}
    assert paid == {
        'none': {'main': 1024},
        'longer': {'longer': 1536},
        'cfg': {'main': 1024, 'uncond': 1024},
        'auto': {'main': 1024, 'guide': 512},
        'early': {'main': 1024},
    }
    other = ArmSettings('Other', 'main', guide='guide', guide_nimg=128)
    assert trained(other, settings.runs)['guide'] == 128, 'a snapshot costs what came before it'


def test_what_a_study_asks_for_is_counted_by_hand():
    settings = config.parse(Settings, tree())
    images = {}
    for ask in asked(settings):
        images[ask.stage] = images.get(ask.stage, 0) + ask.images
    guided, arms = 3, 5
    assert images == {
        'search': arms * 3 * 10,
        'final': arms * 2 * 20,
        'weights': guided * 2 * 10,
        'slider': guided * 2 * 4,
        'steps': arms * 2 * 20,  # 8 steps; those with 14 are the final scores
        'grid': arms * 5,
    }


def test_a_search_that_screens_is_counted_with_its_small_trials():
    search = {'budget': 6, 'images': 64, 'method': 'halving'}
    settings = config.parse(Settings, tree(search=search))
    planned = {ask.arm: ask for ask in asked(settings) if ask.stage == 'search'}
    for name, arm in settings.arms.items():
        s = settings.search
        found = drive(s.build(), s.space(arm), s.images, lambda trials: [1.0] * len(trials))
        assert 6 < len(found.trials) <= planned[name].evaluations
        assert 5 * 64 < found.images <= planned[name].images <= 6 * 64


def test_flops_of_stages_follow_from_those_of_networks(tmp_path):
    known = {name: {'forward_flops': cost} for name, cost in
             {'main': 4.0, 'longer': 4.0, 'uncond': 4.0, 'guide': 1.0}.items()}  # fmt: skip
    costs = Costs(config.parse(Settings, tree()), tmp_path, known)
    found = {stage.name: stage for stage in costs.stages()}
    assert found['train guide'].flops == 3 * 512 * 1.0 and found['train main'].images == 1024
    per_call = 4 + 4 + (4 + 4) + (4 + 1) + (4 + 4)  # none, longer, cfg, auto, early
    assert found['final'].flops == 2 * 20 * 27 * per_call, '14 Heun steps are 27 calls'
    assert found['steps'].flops == 2 * 20 * 15 * per_call
    assert found['final'].calls == 2 * 20 * 27 * 8 and found['final'].evaluations == 10
    assert costs.rates() == {}


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        ({'steps': [1]}, r'num_steps \(1\) must be at least 2'),
        ({'steps': [8, 8]}, r'steps .*names one twice'),
        ({'steps': [0, 8]}, r'steps \(\(0, 8\)\) must be numbers of sampler steps'),
        ({'heatmap_arm': 'none'}, r'heatmap_arm \(none\) has no guide'),
        ({'steps': [8], 'steps_arms': ['nobody']}, 'nobody is not an arm'),
        ({'slider': -1}, r'slider \(-1\) must be ≥ 0'),
    ],
)
def test_settings_that_cannot_be_are_refused(extra, message):
    with pytest.raises(ValueError, match=message):
        config.parse(Settings, tree(extra=extra))
