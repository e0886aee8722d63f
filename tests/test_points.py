"""Scores of points against the truth, and networks made worse on purpose."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoguide_jax.backbones.toy_mlp import ToyMLP
from autoguide_jax.denoiser import LogDensity
from autoguide_jax.generation import Call, Programs
from autoguide_jax.guidance import degradations
from autoguide_jax.guidance.degradation import Dropout, InputNoise, Quantised, quadrature
from autoguide_jax.metrics import points as room
from autoguide_jax.metrics.points import PointScores, Shift
from autoguide_jax.mixture import mixture
from autoguide_jax.samplers import Heun
from autoguide_jax.study.toy.fields import by_level, compare, exact, table

# Golden: quantiles of log p of the reference draw, and what the reference scored its samples.
THRESHOLDS = (-3.9071373687000923, -1.857133548244884)


@pytest.fixture(scope='module')
def scores():
    return PointScores('A')


def test_thresholds_are_the_golden_ones(scores):
    np.testing.assert_allclose(scores.reference[0], THRESHOLDS, rtol=1e-9)
    assert scores.reference[1].sum() == 2**20


def test_a_fresh_draw_scores_like_the_truth(scores):
    found = scores.score([(np.asarray(mixture('A').sample(jax.random.key(0), 2**15)), None)])
    assert found['outliers_0.1'] == pytest.approx(0.001, abs=5e-4)
    assert found['outliers_1'] == pytest.approx(0.01, abs=2e-3)
    assert found['far'] == 0 and found['empty'] == 0 and found['coverage'] > 0.99
    assert found['clipped'] == pytest.approx(1.354, abs=0.05)
    assert found['kl'] < 0.005 and found['sliced_w1'] < 0.006 and abs(found['energy']) < 2e-4


def test_batches_may_be_split_in_any_way(scores):
    points = np.asarray(mixture('A').sample(jax.random.key(1), 3000))
    parts = [(points[:7], None), (points[7:2000], None), (points[2000:], None)]
    assert scores.score(parts) == scores.score([(points, None)])


def test_each_score_sees_its_own_failure(scores):
    points = np.asarray(mixture('A').sample(jax.random.key(2), 2**14))
    good = PointScores('A', distances=False).score([(points, None)])
    far = points.copy()
    far[: 2**10] += 50
    found = PointScores('A', distances=False).score([(far, None)])
    assert found['far'] == 2**10 / 2**14
    assert found['outliers_1'] == pytest.approx(good['outliers_1'] * 15 / 16 + 1 / 16, abs=1e-3)
    assert found['clipped'] < good['clipped'] - 1
    branch = mixture('A').branch(points.astype(np.float64))
    half = np.resize(points[branch < 40], points.shape)
    found = PointScores('A', distances=False).score([(half, None)])
    assert found['empty'] == 127 - 40
    assert found['coverage'] == pytest.approx(room_mass(40), abs=0.02)
    assert found['kl'] > 1


def room_mass(count):
    phi = mixture('A').phi
    return phi[:count].sum() / phi.sum()


def test_coverage_and_kl_by_hand():
    found = room.coverage(np.array([8, 2, 0]), np.array([5, 3, 2]), np.array([0.5, 0.3, 0.2]))
    assert found['coverage'] == pytest.approx(0.5 + 0.3)  # 2 of 3 expected counts, 0 of 2
    assert found['empty'] == 1
    p, q = np.array([5.5, 3.5, 2.5]) / 11.5, np.array([8.5, 2.5, 0.5]) / 11.5
    assert found['kl'] == pytest.approx(np.sum(p * np.log(p / q)))


def test_sliced_distance_of_a_shift_is_its_mean_projection():
    points = np.random.default_rng(0).standard_normal((4096, 2))
    slices = room.sorted_slices(points)
    shift = np.array([0.3, -0.4])
    # The mean over directions of |shift · direction| is 2/π of its length.
    assert room.sliced_w1(points + shift, slices) == pytest.approx(0.5 * 2 / np.pi, rel=1e-3)
    assert room.sliced_w1(points, slices) == 0
    assert room.sliced_w1(points[::4], slices) < 0.06


def test_mean_distance_by_hand():
    a, b = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0], [6.0, 8.0], [3.0, 0.0]])
    expected = np.mean([0, 10, 3, 5, 5, 4])
    assert room.mean_distance(a, b) == pytest.approx(expected)
    assert room.mean_distance(a, b, chunk=1) == pytest.approx(expected)


def test_lost_points_are_outliers_of_no_branch(scores):
    points = np.asarray(mixture('A').sample(jax.random.key(3), 1000))
    lost = np.concatenate([points, [[0, np.nan], [np.inf, 0], [1e30, 0], [0, -1e7]]])
    without, found = scores.score([(points, None)]), scores.score([(lost, None)])
    for name in ('outliers_0.1', 'outliers_1', 'far'):
        assert found[name] * 1004 == pytest.approx(without[name] * 1000 + 4)
    assert found['clipped'] * 1004 == pytest.approx(without['clipped'] * 1000 - 80)
    for name in ('coverage', 'kl', 'empty', 'sliced_w1', 'energy'):
        assert found[name] == without[name]
    with pytest.raises(ValueError, match='all 2 points are lost'):
        scores.score([(np.full((2, 2), np.nan), None)])


def test_shift_is_the_median_way_to_the_target():
    target = lambda: np.zeros((5, 2))
    found = Shift('A', source='x', target=target).score(
        [(np.array([[i, 0.0] for i in range(5)]), None)]
    )
    assert found['shift'] == 2
    assert Shift('A', source='x').identity != Shift('A', source='y').identity


def network(width=16):
    denoiser = LogDensity(ToyMLP(width=width))
    x = jnp.zeros((1, 2))
    variables = denoiser.init(jax.random.key(0), x, jnp.ones(1))
    variables['params']['backbone']['gain'] = jnp.float32(0.5)
    return denoiser, variables


def points(n=64, sigma=0.3):
    return mixture('A').sample(jax.random.key(5), n, sigma)


def test_dropout_masks_drop_every_unit_equally_often():
    """At rate 1/k with k masks every unit of every layer is dropped exactly once."""
    from autoguide_jax.backbones import mp

    x, keys = jnp.ones((3, 200)), jnp.broadcast_to(jax.random.key(7), (3,))
    masks = jnp.stack([mp.dropout(x, 0.1, (keys, turn), 'a') == 0 for turn in np.arange(10) / 10])
    np.testing.assert_array_equal(masks.sum(0), np.ones((3, 200)))
    np.testing.assert_array_equal(
        mp.dropout(x, 0.1, (keys, 0.0), 'a'), mp.dropout(x, 0.1, keys, 'a')
    )


def test_weak_degradations_err_in_the_direction_of_strong_ones_twice_as_far():
    denoiser, variables = network()
    clean = denoiser.apply(variables, points(), 0.3)
    for weak, strong in (
        (InputNoise(0.01), InputNoise(0.02)),
        (Dropout(0.05, 20), Dropout(0.10, 20)),
    ):
        one, two = (
            jax.jit(d(denoiser, variables, None))(points(), jnp.float32(0.3)) - clean
            for d in (weak, strong)
        )
        found = compare(one, two)
        assert found['cosine'] > 0.97
        assert 1.7 < found['r'] < 2.5
        assert found['rms'] > 1e-5


def test_input_noise_of_a_gaussian_has_its_closed_form():
    """D = x/(1+σ²) for unit Gaussian data: noise of mean 0 leaves x/(1+ρ²σ²)."""

    class Gaussian:
        apply = staticmethod(lambda v, x, sigma, labels: x / (1 + sigma**2))

    found = InputNoise(0.2)(Gaussian, None, None)(points(), jnp.float32(0.5))
    np.testing.assert_allclose(found, points() / (1 + 1.44 * 0.25), rtol=1e-5, atol=1e-6)


def test_the_quadrature_has_the_moments_of_a_normal():
    nodes, weights = quadrature(2)
    assert nodes.shape == (9, 2)
    for i, j, moment in ((0, 0, 1), (2, 0, 1), (4, 0, 3), (2, 2, 1), (1, 0, 0), (5, 0, 0)):
        assert weights @ (nodes[:, 0] ** i * nodes[:, 1] ** j) == pytest.approx(moment, abs=1e-12)
    with pytest.raises(ValueError, match='made for the 2-D example'):
        quadrature(64)


def test_quantised_weights_take_few_values_and_many_bits_change_nothing():
    denoiser, variables = network()
    clean = denoiser.apply(variables, points(), 0.3)
    fine = Quantised(16)(denoiser, variables, None)(points(), 0.3)
    coarse = Quantised(3)(denoiser, variables, None)(points(), 0.3)
    np.testing.assert_allclose(fine, clean, atol=1e-3)
    assert float(jnp.abs(coarse - clean).max()) > 1e-2


@pytest.mark.parametrize(
    'make',
    [lambda: Dropout(0.0), lambda: Dropout(1.0), lambda: Dropout(0.1, 0), lambda: InputNoise(0.0),
     lambda: Quantised(1)],
)  # fmt: skip
def test_degradations_that_do_nothing_or_nonsense_are_refused(make):
    with pytest.raises(ValueError, match='must be'):
        make()


class Counted:
    """A network that counts how often it is asked."""

    def __init__(self):
        self.backbone, self.asked = self, 0

    def clone(self, **_):
        return self

    def apply(self, variables, x, *_):
        self.asked += 1
        return x


@pytest.mark.parametrize(
    ('harm', 'count'), [(Dropout(0.1), 20), (InputNoise(0.1), 9), (Quantised(4), 1)]
)
def test_a_degradation_tells_how_often_it_asks_the_network(harm, count):
    network = Counted()
    with jax.disable_jit():
        harm(network, {'params': {}}, jnp.zeros(3, jnp.int32))(jnp.ones((3, 2)), jnp.ones(3))
    assert network.asked == harm.evaluations((2,)) == count


def test_every_degradation_tells_how_often_it_asks():
    assert all(hasattr(degradations.get(name), 'evaluations') for name in degradations.names())


def test_the_cost_of_a_degraded_call_is_that_of_all_its_evaluations():
    denoiser, variables = network()
    tree = {'network': {'channels': 2}, 'latents': {'name': 'points'}, 'denoiser': {}}
    fresh = types.SimpleNamespace(denoiser=denoiser, variables=variables, config=tree)
    programs = Programs(Heun(num_steps=2), 2)
    whole = programs.cost(Call(fresh))
    assert programs.cost(Call(fresh, degrade=Dropout(0.1))) == 20 * whole > 0


def test_aligned_errors_are_undone_at_r_over_r_minus_one():
    error = np.random.default_rng(0).standard_normal((100, 2))
    found = compare(error, 1.8 * error)
    assert found['r'] == pytest.approx(1.8) and found['cosine'] == pytest.approx(1)
    assert found['weight'] == pytest.approx(1.8 / 0.8)
    nothing = compare(0 * error, error)
    assert nothing['r'] is None and nothing['cosine'] is None and nothing['weight'] == 1


def test_the_exact_denoiser_is_followed_level_by_level():
    x = jnp.stack([points(50, s) for s in (0.05, 0.5)])
    truth = jax.jit(by_level(exact('A')))(x, jnp.array([0.05, 0.5]))
    for level, s in enumerate((0.05, 0.5)):
        score = mixture('A').score(np.asarray(x[level]), s)
        np.testing.assert_allclose(truth[level], x[level] + s**2 * score, rtol=0, atol=1e-5)
    e_0 = 0.5 * (truth - x)
    found = table(e_0, 2 * e_0, [0.05, 0.5])
    assert found['sigma'] == [0.05, 0.5]
    np.testing.assert_allclose(found['r'], 2, rtol=1e-5)
    np.testing.assert_allclose(found['weight'], 2, rtol=1e-4)
