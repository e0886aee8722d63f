"""The search of guidance settings: its budget, its grid, and that it finds what there is."""

import math

import pytest

from autoguide_jax.search import SearchSettings, from_unit, minimise, rank, to_unit

NAMES = ('weight', 'main_std', 'guide_std')


def bowl(point):
    """Lowest at weight 1.9, main_std 0.09, guide_std 0.06."""
    return (
        (point['weight'] - 1.9) ** 2
        + math.log(point['main_std'] / 0.09) ** 2
        + math.log(point['guide_std'] / 0.06) ** 2
    )


@pytest.mark.parametrize('budget', [1, 2, 7, 24])
def test_the_budget_is_spent_on_different_points(budget):
    asked = []
    objective = lambda point: asked.append(tuple(point.items())) or bowl(point)
    found = minimise(objective, NAMES, SearchSettings(budget=budget))
    assert len(found) == len(set(asked)) == len(asked) == budget
    assert [tuple(point) for point, _ in found] == [NAMES] * budget
    assert [value for _, value in found] == [bowl(point) for point, _ in found]


def test_points_lie_in_their_range_and_on_the_grid_of_the_paper():
    settings = SearchSettings(budget=64, weight=(1.12, 1.73), main_std=(0.042, 0.1))
    names = (*NAMES, 'lo', 'hi')
    for point, _ in minimise(lambda p: p['weight'], names, settings):
        for name in names:
            low, high = getattr(settings, name)
            assert low <= point[name] <= high
        for name, step in [('weight', 0.05), ('main_std', 0.005)]:
            on_grid = abs(point[name] / step - round(point[name] / step)) < 1e-6
            assert on_grid or point[name] in getattr(settings, name)


def test_the_search_is_deterministic_and_the_seed_matters():
    settings = SearchSettings(budget=10)
    first = minimise(bowl, NAMES, settings)
    assert minimise(bowl, NAMES, settings) == first
    assert minimise(bowl, NAMES, settings, seed=1) != first
    half = minimise(bowl, NAMES, SearchSettings(budget=20))[:5]
    assert half == first[:5]


def test_the_second_half_looks_near_the_best_and_improves_on_it():
    found = [minimise(bowl, NAMES, SearchSettings(budget=32), seed) for seed in range(5)]
    explored = [min(value for _, value in points[:16]) for points in found]
    refined = [min(value for _, value in points) for points in found]
    assert sum(refined) < 0.5 * sum(explored)
    assert max(refined) < 0.1


def test_a_grid_smaller_than_the_budget_is_searched_whole():
    settings = SearchSettings(budget=50, weight=(1.1, 1.3))
    found = minimise(lambda p: p['weight'], ['weight'], settings)
    assert sorted(point['weight'] for point, _ in found) == [1.1, 1.15, 1.2, 1.25, 1.3]


def test_an_undefined_value_is_worse_than_any_other():
    """Of the whole left half nothing is known; the second half of the budget looks at the right."""
    partly = lambda point: bowl(point) if point['weight'] > 2.05 else None
    found = minimise(partly, NAMES, SearchSettings(budget=32))
    refined = [value for _, value in found[20:]]
    assert None in [value for _, value in found[:16]]
    assert sum(value is None for value in refined) < len(refined) / 2
    best = min(found, key=lambda item: rank(item[1]))
    assert best[1] is not None and rank(None) == math.inf
    assert len(minimise(lambda point: None, NAMES, SearchSettings(budget=8))) == 8


@pytest.mark.parametrize('name', ['weight', 'main_std', 'lo', 'hi'])
def test_units_span_the_range_and_invert(name):
    settings = SearchSettings()
    low, high = getattr(settings, name)
    assert (from_unit(settings, name, 0.0), from_unit(settings, name, 1.0)) == (low, high)
    for unit in (0.0, 0.3, 0.5, 1.0):
        value = from_unit(settings, name, unit)
        assert from_unit(settings, name, to_unit(settings, name, value)) == value
        assert to_unit(settings, name, value) == pytest.approx(unit, abs=0.05)
    assert (to_unit(settings, name, low / 2), to_unit(settings, name, high * 2)) == (0, 1)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'budget': 0}, r'budget \(0\)'),
        ({'images': 1}, r'images \(1\)'),
        ({'weight': (2.0, 1.5)}, r'weight \(\(2.0, 1.5\)\)'),
        ({'main_std': (0.0, 0.1)}, r'main_std'),
        ({'hi': (1.0,)}, r'hi \(\(1.0,\)\)'),
        ({'lo': (0.1, 1.0), 'hi': (0.8, 10.0)}, r'lo \(\(0.1, 1.0\)\) must end below hi'),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SearchSettings(**change)
