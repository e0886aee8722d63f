"""The methods of search: spaces, what every method keeps, and that each finds what there is."""

import dataclasses
import itertools
import json
import math
import zlib

import numpy as np
import pytest
from search_tables import Table

from autoguide_jax import config, contracts, search
from autoguide_jax.search import Drawn, Space, Trial, drive, rank
from autoguide_jax.search.coordinate import Coordinate
from autoguide_jax.search.gaussian_process import GaussianProcess
from autoguide_jax.search.grid import Grid
from autoguide_jax.search.halving import Halving
from autoguide_jax.search.sobol import Sobol
from autoguide_jax.search.trials import Scores, spread
from autoguide_jax.study.settings import ArmSettings
from autoguide_jax.study.tuning import SearchSettings, between

AXES = {
    'weight': (1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75),
    'main_std': (0.03, 0.045, 0.07, 0.105, 0.16, 0.25),
    'guide_std': (0.03, 0.045, 0.07, 0.105, 0.16, 0.25),
}
SPACE = Space(AXES)
IMAGES = 512
CHEAP = {'grid', 'sobol', 'coordinate', 'halving'}
METHODS = sorted(search.table.names())


def method_of(name, **settings):
    cls = search.table.get(name)
    given = {k: v for k, v in settings.items() if k in cls.__dataclass_fields__}
    return cls(**given)


def bowl(place=(4, 2, 3), space=SPACE, images=None):
    """A convex objective with its minimum 1 at a place."""
    centre = space.unit(place)
    at = lambda point: 1 + 4 * float(np.sum((space.unit(space.place(point)) - centre) ** 2))
    return lambda trials: [at(trial.point) for trial in trials]


def valley(seed, counts=(64, 128, 256, 512), undefined=False):
    """A Table like a real one: a valley that curves through weight and EMA lengths, paired noise.

    The noise that all settings share and the bias that falls as 1/n are large, that of a setting
    alone is 1 % at 512 images; n images are the first of N.
    """
    rng = np.random.default_rng(seed)
    w, m, g = np.meshgrid(AXES['weight'], SPACE.units[1], SPACE.units[2], indexing='ij')
    strength = (w - 1) * (0.5 + rng.uniform(0.3, 1.0) * g)
    low, tilt = rng.uniform(0.4, 1.2), rng.uniform(-0.3, 0.5)
    score = 1 + rng.uniform(0.4, 1.5) * (strength - low) ** 2
    score += rng.uniform(0.5, 2) * (m - rng.uniform(0.2, 0.8) - tilt * (strength - low)) ** 2
    score += rng.uniform(0.1, 0.5) * (w - 1) * (g - rng.uniform(0.3, 0.9)) ** 2
    own = np.cumsum(rng.normal(size=(8, *w.shape)), axis=0)
    shared = np.cumsum(rng.normal(size=8))
    rows = []
    for count in counts:
        blocks = count * 8 // IMAGES
        noise = (0.01 * own[blocks - 1] + 0.03 * shared[blocks - 1]) * math.sqrt(8) / blocks
        row = score + noise + 0.2 * IMAGES / count * (1 + 0.2 * score / score.max())
        rows.append(np.where((w > 2.2) & (m < 0.3), np.nan, row) if undefined else row)
    scores = np.stack(rows, -1).reshape(-1, len(counts))
    scores = [[None if np.isnan(v) else float(v) for v in row] for row in scores]
    return Table(AXES, counts, scores)


def lottery(trial, seed=0):
    """A number in [0, 1) that has no order in the space at all."""
    return zlib.crc32(repr((trial.key, seed)).encode()) / 2**32


def trials_of(method, space, objective, images=IMAGES, seed=0):
    """The lists of Trials that a method yields, and what it returns."""
    run, asked, values = method(space, images, seed), [], None
    with pytest.raises(StopIteration) as end:
        while True:
            asked.append(run.send(values))
            values = objective(asked[-1])
    return asked, end.value.value


def test_a_space_counts_and_orders_its_points():
    space = Space({'weight': [2.0, 1, 1.5], 'guide_run': ['small', 'early'], 'guide_nimg': [64]})
    assert space.axes == {
        'weight': (1, 1.5, 2.0),
        'guide_run': ('small', 'early'),
        'guide_nimg': (64,),
    }
    points = list(space.points())
    assert len(points) == space.size == 6
    assert points[1] == {'weight': 1, 'guide_run': 'early', 'guide_nimg': 64}
    assert [space.place(point) for point in points] == list(space.places())
    assert set(space.neighbours((0, 0, 0))) == {(1, 0, 0), (0, 1, 0)}
    assert len(space.box((1, 0, 0))) == 5 and (1, 0, 0) not in space.box((1, 0, 0))
    runs = Space({'guide_run': list('abcd')})
    assert len(runs.neighbours((0,))) == 3, 'all runs are neighbours'
    assert space == Space(space.axes)


def test_settings_without_guidance_are_one_whatever_the_guide():
    """What a sweep draws once, of whatever axes: no tenth is to be larger by counting it often."""
    axes = {'main_std': (0.05, 0.1), 'guide_std': (0.05, 0.1, 0.2), 'interval_hi': (1.0, 2.0)}
    axes |= {'num_steps': (8, 16)}
    for weights, distinct in (((1.5, 2.0), 48), ((0.5, 1.0, 2.0), 52), ((1.0,), 4)):
        space = Space({'weight': weights, **axes})
        different = {tuple(p.items()) for p in space.points() if p['weight'] != 1}
        different |= {(p['main_std'], p['num_steps']) for p in space.points() if p['weight'] == 1}
        assert space.distinct == len(different) == distinct
    assert Space(axes).distinct == 24
    grid = Space({'weight': (1.0, 2.0), 'guide_std': tuple(np.arange(1, 101) / 1000)})
    assert Sobol().most(grid, IMAGES)[0] == Halving().most(grid, IMAGES)[1] / IMAGES == 10


def test_units_are_linear_in_weights_and_logarithmic_in_lengths():
    space = Space({
        'weight': (1.0, 1.5, 3.0), 'main_std': (0.01, 0.02, 0.08), 'interval_lo': (0.0, 0.1, 9.0),
        'interval_hi': (1.0, 2.0, math.inf), 'guide_run': ('a', 'b', 'c'), 'alpha': (0.5,),
    })  # fmt: skip
    expected = [[0, 0.25, 1], [0, 1 / 3, 1], [0, 0.5, 1], [0, 0.5, 1], [0, 0.5, 1], [0.5]]
    for units, values in zip(space.units, expected, strict=True):
        np.testing.assert_allclose(units, values)
    for place in space.places():
        assert space.nearest(space.unit(place)) == place
    assert space.nearest([-1, 2, 0.3, 0.7, 0.9, 5]) == (0, 2, 1, 1, 2, 0)


@pytest.mark.parametrize(
    ('axes', 'message'),
    [
        ({}, 'the space is empty'),
        ({'weight': (1.0,), 'main_std': ()}, r'main_std \(\): the axis is empty'),
        ({'weight': (1, 2, 1.0)}, r'weight \(\(1, 2, 1.0\)\): 1 is there twice'),
        ({'weight': 1.5}, r'weight \(1.5\): give the axis a list'),
        ({'guide_run': 'small'}, r"guide_run \('small'\): give the axis a list"),
        ({'weight': (1.0, math.nan)}, 'NaN'),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        Space(axes)


def test_a_point_that_is_not_in_the_space_is_named():
    with pytest.raises(ValueError, match=r'point.weight \(1.1\) is not one of'):
        SPACE.place({'weight': 1.1, 'main_std': 0.03, 'guide_std': 0.03})
    with pytest.raises(ValueError, match='the axes are weight, main_std, guide_std'):
        SPACE.place({'weight': 1.0})


def test_spread_points_are_different_and_as_many_as_asked():
    for count, seed in itertools.product((1, 7, 100, 287, 288, 500), range(3)):
        places = spread(SPACE, count, seed)
        assert len(set(places)) == len(places) == min(count, 288)
        assert set(places) <= set(SPACE.places())
    assert spread(SPACE, 9, 0) == spread(SPACE, 9, 0) != spread(SPACE, 9, 1)


@pytest.mark.parametrize('name', METHODS)
def test_every_method_keeps_the_contract(name):
    """Within `most`, no trial twice, nothing but the space, the best of those with all images."""
    spaces = [SPACE, Space({'weight': (1.0, 1.5, 2.0)}), Space({'guide_run': ('a', 'b')})]
    spaces.append(Space({'guide_run': tuple('abcde'), 'weight': (1.0, 1.5, 2.0, 3.0)}))
    for space, budget in itertools.product(spaces, (0, 1, 2, 9)):
        method = method_of(name, budget=budget)
        assert isinstance(method, contracts.Search) and dataclasses.is_dataclass(method)
        known, drawn = {}, Drawn()

        def objective(trials, known=known, drawn=drawn, space=space):
            assert trials and not any(trial.key in known for trial in trials)
            assert len({trial.key for trial in trials}) == len(trials)
            for trial in trials:
                assert space.point(space.place(trial.point)) == trial.point
                assert 1 <= trial.images <= IMAGES and type(trial.images) is int
                drawn.add(trial)
                value = lottery(trial)
                known[trial.key] = value if value > 0.3 else None
            return [known[trial.key] for trial in trials]

        best = trials_of(method, space, objective)[1]
        evaluations, images = method.most(space, IMAGES)
        assert len(known) <= evaluations and drawn.total <= images, (budget, space)
        if budget and name != 'grid':
            assert images <= budget * IMAGES
        whole = {p: v for (p, n), v in known.items() if n == IMAGES and v is not None}
        assert best == (dict(min(whole, key=whole.get)) if whole else None)
        assert any(n == IMAGES for _, n in known)


@pytest.mark.parametrize('name', METHODS)
def test_a_search_is_decided_by_its_values_and_resumes_from_any_of_them(name):
    method, table = method_of(name, budget=10), valley(3)
    asked, best = trials_of(method, SPACE, table.objective)
    assert trials_of(method, SPACE, table.objective) == (asked, best)
    other = trials_of(method, SPACE, table.objective, seed=1)[0]
    assert (other == asked) == (name in ('grid', 'coordinate'))
    every = [trial for trials in asked for trial in trials]
    for half in {0, len(every) // 2, len(every) - 1}:
        known = {trial.key: table.objective([trial])[0] for trial in every[:half]}
        late = []

        def resumed(trials, known=known, late=late):
            late += [trial for trial in trials if trial.key not in known]
            return [known.get(t.key) or table.objective([t])[0] for t in trials]

        found = drive(method, SPACE, IMAGES, resumed)
        assert found.best == best and late == every[half:]


def test_more_images_of_a_point_cost_the_difference():
    drawn, point = Drawn(), {'weight': 1.0}
    added = [drawn.add(Trial(point, n)) for n in (64, 128, 128, 32)]
    assert added == [64, 64, 0, 0] and drawn.total == 128
    scores = Scores(Space({'weight': (1.0, 2.0)}), 128, budget=200)
    asks = [([(0,)], 64), ([(0,), (1,)], None), ([(1,)], 72)]
    given = []
    for places, images in asks:
        for trials in (run := scores.ask(places, images)):
            given += [(t.point['weight'], t.images) for t in trials]
            with pytest.raises(StopIteration):
                run.send([1.0] * len(trials))
            break
    assert given == [(1.0, 64), (1.0, 128), (2.0, 72)], 'the second point was beyond the budget'
    assert scores.spent == 200


def test_drive_asks_no_trial_twice_and_wants_all_values():
    def repeating(space, images, seed):
        first = yield [Trial({'weight': 1.0}, 8), Trial({'weight': 1.0}, 8)]
        again = yield [Trial({'weight': 2.0}, 8), Trial({'weight': 1.0}, 8)]
        assert first == [1.0, 1.0] and again == [2.0, 1.0]
        return {'weight': 1.0}

    seen = []
    objective = lambda trials: seen.extend(trials) or [t.point['weight'] for t in trials]
    found = drive(repeating, None, 8, objective)
    assert [trial.point['weight'] for trial in seen] == [1.0, 2.0]
    assert found.best == {'weight': 1.0} and found.images == 16 and len(found.trials) == 2
    with pytest.raises(ValueError, match='zip'):
        drive(Grid(), SPACE, 8, lambda trials: [1.0])


@pytest.mark.parametrize('name', METHODS)
def test_the_minimum_of_a_bowl_is_found_wherever_it_is(name):
    """Every kind of corner, edge and interior of the space, a seed each."""
    budget, places = 28, list(itertools.product((0, 4, 7), (0, 2, 5), (0, 3, 5)))
    if name == 'gaussian_process':
        places = places[::7]
    values = []
    for seed, place in enumerate(places):
        found = drive(method_of(name, budget=budget), SPACE, IMAGES, bowl(place), seed)
        values += bowl(place)([Trial(found.best, IMAGES)])
    if name == 'sobol':
        assert np.mean(values) < 1.1 and max(values) < 1.5, (np.mean(values), max(values))
    else:
        assert max(values) == 1, places[np.argmax(values)]


@pytest.mark.parametrize('place', [(0, 0, 5), (4, 2, 3)])
def test_a_gaussian_process_seeks_the_lowest_below_zero_too(place):
    score = lambda trials: [value - 1.5 for value in bowl(place)(trials)]
    found = drive(method_of('gaussian_process', budget=28), SPACE, IMAGES, score, 1)
    assert score([Trial(found.best, IMAGES)]) == [-0.5]


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('undefined', [False, True])
def test_within_two_percent_of_the_grid_for_a_tenth_of_its_images(name, undefined):
    seeds = range(2 if name == 'gaussian_process' else 24)
    found = [valley(s, undefined=undefined).search(method_of(name), s)[:2] for s in seeds]
    regrets, shares = np.array(found).T
    if name == 'grid':
        assert (regrets == 0).all() and (shares == SPACE.size / SPACE.distinct).all()
        return
    assert shares.max() <= 0.1
    within = (regrets <= 0.02).mean()
    assert within >= {'sobol': 0.6, 'coordinate': 0.9}.get(name, 1.0), regrets
    if name == 'halving':  # and for half of that
        half = [valley(s, undefined=undefined).search(Halving(budget=12), s)[:2] for s in seeds]
        assert max(share for _, share in half) <= 0.05
        assert np.mean([regret <= 0.02 for regret, _ in half]) >= 0.9


@pytest.mark.parametrize('name', METHODS)
def test_a_value_that_is_undefined_never_wins(name):
    for rate, seed in itertools.product((0.3, 0.9), range(4)):

        def objective(trials, rate=rate, seed=seed, none=(None, math.nan)[seed % 2]):
            values = zip(trials, bowl()(trials))
            return [none if lottery(t, seed) < rate else value for t, value in values]

        found = drive(method_of(name, budget=9), SPACE, IMAGES, objective)
        whole = [rank(value) for trial, value in found.trials if trial.images == IMAGES]
        if found.best is None:
            assert min(whole) == math.inf
        else:
            assert objective([Trial(found.best, IMAGES)]) == [min(whole)]
    none = drive(method_of(name, budget=9), SPACE, IMAGES, lambda trials: [None] * len(trials))
    assert none.best is None and any(trial.images == IMAGES for trial, _ in none.trials)
    assert rank(None) == rank(math.nan) == math.inf


def test_sobol_ends_where_values_lie_so_close_that_no_draw_hits_them():
    close = (2.0 + i * 1e-9 for i in range(6))
    space = Space({'weight': (1.0, *close, 3.0), 'main_std': (0.1,)})
    found = drive(method_of('sobol', budget=7), space, IMAGES, lambda trials: [1.0] * len(trials))
    assert found.images == 7 * IMAGES


def test_halving_keeps_the_best_of_every_rung_and_the_images_of_the_table():
    table = valley(0)
    asked, best = trials_of(Halving(budget=28, explore=0.0), SPACE, table.objective)
    rungs = [trials for trials in asked if len(trials) > 4]
    assert [trials[0].images for trials in rungs] == [64, 128, 256, 512]
    sizes = list(map(len, rungs))
    assert all(after == math.ceil(sizes[0] / 2**i) for i, after in enumerate(sizes))
    for below, rung in itertools.pairwise(rungs):
        scored = sorted(zip(table.objective(below), map(str, (t.point for t in below))))
        assert {str(trial.point) for trial in rung} == {p for _, p in scored[: len(rung)]}
    thirds = Halving(first=50, eta=3.0, budget=20).rungs(SPACE, 500)[0]
    assert [count for count, _, _ in thirds] == [56, 167, 500]
    assert Halving(first=500).rungs(SPACE, 500)[0][0][0] == 500


def test_a_coordinate_search_starts_and_turns_as_told():
    method = Coordinate(20, order=('guide_std',), start={'weight': 2.75})
    asked, _ = trials_of(method, SPACE, bowl())
    assert asked[0][0].point == {'weight': 2.75, 'main_std': 0.07, 'guide_std': 0.07}
    assert {trial.point['guide_std'] for trial in asked[1]} - {0.07}
    assert {trial.point['weight'] for trial in asked[1]} == {2.75}
    assert {trial.images for trial in asked[1]} == {IMAGES // 4}
    assert {trial.images for trial in asked[-1]} == {IMAGES}, 'what was found so is scored whole'
    whole = Coordinate(20, first=IMAGES)
    assert whole.most(SPACE, IMAGES) == (20, 20 * IMAGES)
    assert method.most(SPACE, IMAGES) == (40 + 20, 20 * IMAGES)
    alone = Coordinate(20, local_grid=False)  # keeps nothing for a grid that is not tried
    assert alone.most(SPACE, IMAGES) == (64 + 20, 20 * IMAGES)
    assert {t.images for trials in trials_of(whole, SPACE, bowl())[0] for t in trials} == {IMAGES}
    runs = Space({'guide_run': ('a', 'b', 'c'), 'weight': AXES['weight']})
    found = drive(Coordinate(15), runs, IMAGES, bowl((2, 5), runs))
    assert found.best == runs.point((2, 5))


def test_a_coordinate_search_leaves_a_valley_that_is_not_the_deepest():
    """Weight against noise levels: no line, and no diagonal step, leads from one to the other."""
    space = Space({'weight': tuple(np.arange(1, 5, 0.25)), 'interval_hi': (0.01, 0.03, 0.1, 0.3)})
    shallow, deep = space.unit((4, 2)), space.unit((13, 0))
    depth = lambda u: 0.3 - 0.2 * math.exp(-20 * np.sum((u - shallow) ** 2))
    depth_of = lambda u: depth(u) - 0.3 * math.exp(-15 * np.sum((u - deep) ** 2))
    objective = lambda trials: [depth_of(space.unit(space.place(t.point))) for t in trials]
    start = space.point((3, 2))
    found = [
        drive(Coordinate(40, start=start, restarts=n), space, IMAGES, objective) for n in (0, 3)
    ]
    assert [space.place(one.best) for one in found] == [(4, 2), (13, 0)]


@pytest.mark.parametrize(
    ('method', 'message'),
    [
        (lambda: Sobol(budget=-1), r'budget \(-1\) must be at least 0'),
        (lambda: Halving(eta=1.0), r'eta \(1.0\) must be more than 1'),
        (lambda: Halving(explore=1.0), r'explore \(1.0\)'),
        (lambda: Halving(first=-1), r'first \(-1\)'),
        (lambda: Halving(first=513), r'first \(513\) is more than the images of a whole .*\(512\)'),
        (lambda: Halving(10, candidates=288), r'candidates \(288\): .* 5120 .*at most 24'),
        (lambda: Coordinate(order=('mian_std',)), r'order \(mian_std\) is not an axis; known: w'),
        (lambda: Coordinate(start={'weight': 1.1}), r'start\.weight \(1.1\) is not one of'),
        (lambda: Coordinate(order=('weight',) * 2), r'order \(weight, weight\)'),
        (lambda: Coordinate(spread=0), r'spread \(0\)'),
        (lambda: Coordinate(restarts=-1), r'restarts \(-1\)'),
        (lambda: GaussianProcess(batch=0), r'batch \(0\)'),
        (lambda: GaussianProcess(initial=-1), r'initial \(-1\)'),
        (lambda: GaussianProcess(5, initial=40), r'initial \(40\): .* at most 33 points of 64'),
        (lambda: GaussianProcess(5, first=600), r'first \(600\)'),
    ],
)
def test_settings_that_contradict_are_refused_before_the_first_trial(method, message):
    with pytest.raises(ValueError, match=message):
        method().most(SPACE, IMAGES)
    with pytest.raises(ValueError, match=message):
        method()(SPACE, IMAGES)


def test_a_table_is_read_and_replayed(tmp_path):
    file = tmp_path / 'table.json'
    scores = [[4.0, 3.0], [3.5, 2.5], [9.0, None]]
    file.write_text(
        json.dumps({'axes': {'weight': [2.0, 1.5, 1.0]}, 'counts': [10, 20], 'scores': scores})
    )
    table = Table.read(file)
    assert table.best == 2.5 and table.images == 20
    assert table.objective([Trial({'weight': 2.0}, 7), Trial({'weight': 1.0}, 11)]) == [4.0, None]
    regret, share, found = table.search(Grid())
    assert (regret, share, found.best) == (0, 1, {'weight': 1.5})


PART = {'name': 'halving', 'explore': 0.25}


def test_the_space_of_an_arm_is_on_the_grid_of_the_paper():
    settings = SearchSettings(weight=(1.12, 1.73), main_std=(0.042, 0.1))
    arm = lambda **rest: ArmSettings('arm', 'main', **rest)
    assert list(settings.space(arm()).axes) == ['main_std']
    whole = settings.space(arm(guide='g', search_interval=True)).axes
    assert list(whole) == ['main_std', 'guide_std', 'weight', 'lo', 'hi']
    assert whole['weight'][:3] == (1.12, 1.15, 1.2) and whole['weight'][-2:] == (1.7, 1.73)
    assert whole['main_std'] == (0.042, *(round(0.005 * i, 3) for i in range(9, 21)))
    for name in ('lo', 'hi'):
        assert (whole[name][0], whole[name][-1]) == getattr(settings, name)
        ratios = np.array(whole[name][1:]) / whole[name][:-1]
        assert (np.abs(ratios - math.sqrt(2)) < 0.05).all()
    assert 'guide_std' not in settings.space(arm(uncond='u', same_std=True)).axes
    assert between(1.1, 1.3, 0.05) == (1.1, 1.15, 1.2, 1.25, 1.3)
    assert between(0.5, 0.51) == (0.5, 0.51)


def test_every_arm_of_a_study_is_searched_in_its_budget():
    arms = {'none': ArmSettings('', 'm'), 'guided': ArmSettings('', 'm', guide='g')}
    parse = lambda **tree: config.parse(SearchSettings, {'budget': 12, 'images': 64, **tree})
    for name in CHEAP - {'grid'}:
        settings = parse(method=name)
        settings.check(arms)
        assert settings.build().budget == 12
    assert parse(method=PART).build() == Halving(12, explore=0.25)
    with pytest.raises(ValueError, match=r'search.budget \(12\): .* grid may draw 2112 images'):
        parse(method='grid').check(arms)
    with pytest.raises(ValueError, match=r'search.method.first \(65\) .*\(arm none\)'):
        parse(method={'name': 'halving', 'first': 65}).check(arms)
    with pytest.raises(ValueError, match=r'method.budget \(9\) contradicts 12'):
        parse(method={'name': 'sobol', 'budget': 9}).check(arms)


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
def test_ranges_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SearchSettings(**change)
