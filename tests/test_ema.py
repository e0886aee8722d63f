"""ema.py: closed forms, published arrays, and what integrating the same profiles says."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoguide_jax import ema

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'ema_helpers.npz'


@pytest.fixture(scope='module')
def golden():
    with np.load(GOLDEN) as z:
        return dict(z)


def evenly(n, stds=(0.05, 0.10)):
    """n evenly spaced moments, every one with every std; the target is at n."""
    return np.repeat(np.arange(1, n + 1), len(stds)), np.tile(stds, n)


def test_std_and_gamma_match_the_reference_and_invert_each_other(golden):
    np.testing.assert_allclose(ema.std_to_gamma(golden['std']), golden['std_to_exp'], rtol=1e-12)
    np.testing.assert_allclose(ema.gamma_to_std(golden['exp']), golden['exp_to_std'], rtol=1e-12)
    std = np.geomspace(1e-4, 0.2886, 300).reshape(3, 100)
    np.testing.assert_allclose(ema.gamma_to_std(ema.std_to_gamma(std)), std, rtol=1e-9)
    assert np.all(np.diff(ema.std_to_gamma(std.ravel())) < 0), 'a longer EMA is a flatter profile'


def test_published_pairs_and_the_plain_average():
    np.testing.assert_allclose(ema.std_to_gamma([0.05, 0.10]), [16.97, 6.94], atol=5e-3)
    assert ema.std_to_gamma(1 / np.sqrt(12)) == pytest.approx(0, abs=1e-12)
    assert ema.beta(1 / np.sqrt(12), 4, 1) == pytest.approx(3 / 4, abs=1e-12)


def test_std_is_the_standard_deviation_of_the_profile():
    """Eq. (3) against the moments of (γ+1) τ^γ on [0, 1] by integration."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    tau, weights = (nodes + 1) / 2, weights / 2
    for std in (0.03, 0.1, 0.25):
        gamma = float(ema.std_to_gamma(std))
        p = weights * (gamma + 1) * tau**gamma
        mean = np.sum(p * tau)
        assert np.sqrt(np.sum(p * tau**2) - mean**2) == pytest.approx(std, rel=1e-6)


@pytest.mark.parametrize('case', ['beta', 'beta2048'])
def test_beta_matches_the_reference(golden, case):
    std, t = golden[f'{case}/std'][:, None], golden[f'{case}/t_next']
    delta = 1 if case == 'beta' else 2048
    np.testing.assert_allclose(ema.beta(std, t, delta), golden[f'{case}/value'], atol=1e-12)
    assert np.all(ema.beta(std, delta, delta) == 0), 'the first step keeps nothing of the start'


def test_traced_betas_are_beta_for_every_step_and_compile_once():
    stds, traces = (0.01, 0.05, 0.1), []

    @jax.jit
    def traced(step):
        traces.append(step)
        return ema.rates(step, stds)

    for step in (0, 1, 5, 1000, 2**20, 2**24):
        expected = 1 - ema.beta(np.array(stds), step + 1, 1)
        np.testing.assert_allclose(traced(jnp.int32(step)), expected, rtol=1e-6)
        assert traced(jnp.int32(step)).dtype == jnp.float32
    assert len(traces) == 1


def test_update_follows_the_power_profile_of_the_continuous_average():
    """θ(τ) = τ: the EMA of Eq. (1) is (γ+1)/(γ+2)·t; the discrete one differs by half a step."""
    stds, steps = (0.05, 0.1, 0.2), 2000
    params = {'a': {'w': jnp.zeros((2, 3))}, 'b': jnp.zeros(())}

    @jax.jit
    def run(start):
        def body(k, average):
            theta = jax.tree.map(lambda p: jnp.full_like(p, k + 1), params)
            return ema.update(average, theta, ema.rates(k, stds))

        return jax.lax.fori_loop(0, steps, body, start)

    average = run(ema.init(params, len(stds)))
    gamma = ema.std_to_gamma(stds)
    for leaf in jax.tree.leaves(average):
        assert leaf.shape[0] == 3 and leaf.dtype == jnp.float32
        values = np.asarray(leaf).reshape(3, -1)
        expected = np.broadcast_to(((gamma + 1) / (gamma + 2) * steps)[:, None], values.shape)
        np.testing.assert_allclose(values, expected, atol=1.0)


def test_first_update_is_the_parameters_and_equal_weights_stay():
    params = {'w': jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)}
    start = ema.init(jax.tree.map(lambda p: p + 7, params), 2)
    first = ema.update(start, params, ema.rates(0, (0.05, 0.1)))
    np.testing.assert_array_equal(first['w'], np.stack([params['w']] * 2))
    again = ema.update(first, params, ema.rates(3, (0.05, 0.1)))
    np.testing.assert_allclose(again['w'], first['w'], rtol=2e-7)
    low = ema.update(start, {'w': params['w'].astype(jnp.bfloat16)}, jnp.array([0.5, 0.1]))
    assert low['w'].dtype == jnp.float32


@pytest.mark.parametrize('case', range(4))
def test_coefficients_match_the_reference(golden, case):
    k = f'posthoc{case}/'
    given = [golden[k + name] for name in ('in_ofs', 'in_std', 'out_ofs', 'out_std')]
    x = ema.posthoc_coefficients(*given)
    assert x.dtype == np.float64 and x.shape == golden[k + 'coefs'].shape
    np.testing.assert_allclose(x, golden[k + 'coefs'], atol=1e-9)
    np.testing.assert_allclose(x.sum(0), 1, atol=1e-9)


# (n, tracked stds) → for target stds: fit error in per cent, and noise gain, both as printed.
TABLE = {
    8: {0.010: (52, None), 0.020: (25, None), 0.030: (10, None), 0.075: (1.3, None),
        0.150: (3.3, None), 0.200: (7.5, None), 0.250: (17, None)},
    16: {0.010: (36, None), 0.020: (12, None), 0.030: (3.9, None), 0.075: (0.35, None),
         0.150: (0.9, None), 0.200: (2.3, None), 0.250: (7.7, None)},
    64: {0.010: (5.8, 70), 0.015: (2.3, 33), 0.020: (1.1, 17), 0.030: (0.29, 6.0),
         0.075: (0.02, None), 0.150: (0.06, None), 0.200: (0.17, 0.6), 0.250: (1.5, 0.4)},
    256: {0.010: (0.41, 100), 0.015: (0.15, 40), 0.020: (0.07, 20), 0.030: (0.02, 6.5),
          0.075: (0.001, None), 0.150: (0.004, None), 0.200: (0.01, 0.6), 0.250: (0.27, 0.4)},
}  # fmt: skip


def last_digit(value):
    """Half a unit in the last printed digit, at two digits (one for 0.0…, as printed)."""
    text = f'{value:g}'
    decimals = len(text.partition('.')[2])
    unit = 10.0**-decimals if decimals else 10.0 ** (len(text) - len(text.rstrip('0')))
    return 0.52 * unit  # 1.249 is printed as 1.3, rounded twice


def quadrature(times, stds, target_time, target_std):
    """Return scaled profiles (columns) and target on a quadrature grid: ∫ becomes a plain sum."""
    edges = np.unique(np.concatenate([[0], np.linspace(0, target_time, 65), times]))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    half = np.diff(edges)[:, None] / 2
    tau = ((edges[:-1, None] + edges[1:, None]) / 2 + half * nodes).ravel()
    root = np.sqrt(half * weights).ravel()

    def profile(t, std):
        g = float(ema.std_to_gamma(std))
        return np.where(tau < t, (g + 1) / t * np.minimum(tau / t, 1) ** g, 0) * root

    columns = np.stack([profile(t, s) for t, s in zip(times, stds)], 1)
    return columns, profile(target_time, target_std)


@pytest.mark.parametrize('n', [8, 16, 64])
def test_table_of_fit_errors_by_integrating_the_profiles(n):
    """FACTS 4 gives the best fit there is; ours, divided by its sum, is what is really averaged."""
    times, stds = evenly(n)
    for target, (percent, _) in TABLE[n].items():
        columns, goal = quadrature(times, stds, n, target)
        norm = np.linalg.norm(goal)
        solution = np.linalg.lstsq(columns, goal, rcond=None)[0]
        best = np.linalg.norm(columns @ solution - goal) / norm
        assert 100 * best == pytest.approx(percent, abs=last_digit(percent))
        error, gain = ema.profile_error(times, stds, n, target)
        x = ema.posthoc_coefficients(times, stds, n, target)[:, 0]
        assert error[0] == pytest.approx(np.linalg.norm(columns @ x - goal) / norm, rel=1e-5)
        assert best * (1 - 1e-6) <= error[0] <= 1.08 * best
        assert gain[0] == pytest.approx(np.linalg.norm(x), rel=1e-9)


@pytest.mark.parametrize('n', TABLE)
def test_table_of_fit_errors_and_noise_gains(n):
    rows = TABLE[n]
    errors, gains = ema.profile_error(*evenly(n), n, list(rows))
    for (target, (percent, printed)), error, gain in zip(rows.items(), errors, gains):
        if not (n < 64 and target >= 0.2):  # where dividing by the sum costs a digit
            assert 100 * error == pytest.approx(percent, abs=last_digit(percent)), target
        if printed is not None:
            assert gain == pytest.approx(printed, abs=last_digit(printed)), target


def test_a_third_tracked_std_reaches_shorter_emas():
    error, gain = ema.profile_error(*evenly(64, (0.02, 0.05, 0.1)), 64, 0.015)
    assert error[0] == pytest.approx(0.0005, abs=5e-5) and gain[0] == pytest.approx(15, abs=0.5)
    error, gain = ema.profile_error(*evenly(64, (0.03, 0.1)), 64, 0.015)
    assert error[0] == pytest.approx(0.016, abs=5e-4) and gain[0] == pytest.approx(9.7, abs=0.05)


def test_a_tracked_ema_is_itself_and_scale_does_not_matter():
    times, stds = evenly(8)
    x = ema.posthoc_coefficients(times, stds, 8, [0.05, 0.1])
    np.testing.assert_allclose(x, np.eye(16)[:, -2:], atol=1e-10)
    np.testing.assert_allclose(ema.profile_error(times, stds, 8, [0.05, 0.1])[0], 0, atol=1e-7)
    big = ema.posthoc_coefficients([int(t) * 2**28 for t in times], stds, 2**31, 0.03)
    np.testing.assert_allclose(big, ema.posthoc_coefficients(times, stds, 8, 0.03), atol=1e-9)


def test_snapshots_later_than_a_target_are_not_used():
    times, stds = evenly(8)
    x = ema.posthoc_coefficients(times, stds, [5, 8], [0.07, 0.07])
    assert np.all(x[times > 5, 0] == 0)
    until = times <= 5
    alone = ema.posthoc_coefficients(times[until], stds[until], 5, 0.07)
    np.testing.assert_array_equal(x[until, :1], alone)
    both = ema.profile_error(times, stds, [5, 8], [0.07, 0.07])[0]
    assert both[0] == pytest.approx(ema.profile_error(times[until], stds[until], 5, 0.07)[0][0])


def test_reachable_ends_where_the_limit_is_crossed():
    times, stds = evenly(16)
    [(low, high)] = ema.reachable(times, stds, 16, 0.10)
    inside = ema.profile_error(times, stds, 16, [low, high])[0]
    outside = ema.profile_error(times, stds, 16, [low * 0.95, high * 1.05])[0]
    assert np.all(inside <= 0.10) and np.all(outside > 0.10)
    assert low < 0.03 and high > 0.20, 'a demo of 16 snapshots reaches 0.03 … 0.20'


@pytest.mark.parametrize('std', [0, -0.1, 0.289, 1, float('nan')])
def test_impossible_stds_are_refused(std):
    for call in (
        lambda: ema.std_to_gamma([0.1, std]),
        lambda: ema.beta(std, 2, 1),
        lambda: ema.rates(0, (std,)),
        lambda: ema.posthoc_coefficients([1, 2], [0.05, 0.05], 2, std),
        lambda: ema.posthoc_coefficients([1, 2], [0.05, std], 2, 0.1),
    ):
        with pytest.raises(ValueError, match=r'EMA std .*0\.2887'):
            call()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (([4, 8], [0.05, 0.1, 0.05], 8, 0.1), 'differ in length'),
        (([4, 4], [0.05, 0.05], 8, 0.1), 'given twice'),
        (([4, 8], [0.05, 0.05], 3, 0.1), 'no snapshot at or before nimg 3'),
        (([0, 8], [0.05, 0.05], 8, 0.1), 'must be above 0'),
        (([], [], 8, 0.1), 'non-empty'),
        (([4, 8, 8], [0.05, 0.05, 0.05 + 1e-9], 8, 0.1), 'too alike'),
    ],
)
def test_bad_lists_of_snapshots_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ema.posthoc_coefficients(*arguments)


def test_bad_steps_and_exponents_are_refused():
    for t, delta in ((1, 2), (1, 0), (0, 0)):
        with pytest.raises(ValueError, match='nimg_delta'):
            ema.beta(0.1, t, delta)
    with pytest.raises(ValueError, match='gamma'):
        ema.gamma_to_std(-1)
