"""EMA lengths and moments that a study's snapshots cannot give are refused before training."""

import pathlib

import pytest
from test_study import TREE

from autoguide_jax import config, study
from autoguide_jax.study import reach
from autoguide_jax.study.settings import Settings

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'


def settings(**changed):
    return config.parse(Settings, {**TREE, **changed})


def refused(tmp_path, **changed):
    with pytest.raises(ValueError) as error:
        study.main(settings(**changed), tmp_path)
    assert not (tmp_path / 'runs').exists(), 'refused before anything is trained'
    return str(error.value)


def test_lengths_out_of_reach(tmp_path):
    text = refused(tmp_path, search=TREE['search'] | {'guide_std': [0.05, 0.25]})
    assert 'runs.guide: EMA std 0.125 at nimg 256 from 4 snapshots' in text
    assert 'at nimg 256: 0.0385 to 0.121' in text and 'train.snapshot_nimg' in text
    assert 'runs.main' not in text and 'std 0.05 ' not in text


def test_a_map_out_of_reach(tmp_path):
    extra = TREE['extra'] | {'heatmap_arm': 'guided', 'heatmap_stds': [0.05, 0.28]}
    assert 'EMA std 0.28 at nimg 256' in refused(tmp_path, extra=extra)


def test_a_moment_that_is_not_kept(tmp_path):
    arms = {**TREE['arms'], 'guided': {**TREE['arms']['guided'], 'guide_nimg': 200}}
    text = refused(tmp_path, arms=arms)
    assert 'runs.guide: no snapshot at nimg 200; the nearest: 128, 256' in text


def test_one_length_for_both_is_asked_of_both():
    arm = {**TREE['arms']['guided'], 'same_std': True}
    found = reach.wanted(settings(arms={'guided': arm}))
    assert set(found) == {('main', 0), ('guide', 0)}
    assert found['main', 0] == found['guide', 0] and min(found['guide', 0]) == 0.05


@pytest.mark.parametrize('name', ['digits.py', 'fashion_mnist.py', 'fashion_mnist.py:reduced'])
def test_our_studies_are_within_reach(name):
    tree = config.load(str(CONFIGS / name), {}, Settings)
    reach.check(config.parse(Settings, tree))
