"""Samplers: the golden runs, the observed order of convergence, and what churn preserves."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edm2_golden import arrays, network, nhwc

from autoguide_jax import samplers
from autoguide_jax.guidance import Guidance
from autoguide_jax.samplers import Euler, Heun, edm

GOLDEN = arrays('sampler')
KEYS = jax.random.split(jax.random.key(0), 4)


def golden_run(sampler, weight, labels=None):
    """Final x of net a guided by net a_guide from the golden noise."""
    (main, v), (guide, u) = network('net_a'), network('net_a_guide')

    @jax.jit
    def run(weight):
        denoise = Guidance(weight)(
            lambda x, sigma: main.apply(v, x, sigma, labels),
            lambda x, sigma: guide.apply(u, x, sigma, labels),
        )
        return sampler(denoise, jnp.asarray(nhwc(GOLDEN['noise'])), KEYS)

    return run(weight)


@pytest.mark.parametrize('steps', [8, 32])
@pytest.mark.parametrize('weight, tolerance', [('1', 2e-5), ('1.7', 2e-5), ('3.0', 5e-4)])
def test_golden_samples(steps, weight, tolerance):
    name = f'steps{steps}_w{weight}'
    x = golden_run(Heun(steps), float(weight), jnp.asarray(GOLDEN['labels']))
    assert np.abs(x - nhwc(GOLDEN[f'{name}/x_final'])).max() < tolerance
    np.testing.assert_allclose(Heun(steps).sigmas(), GOLDEN[f'{name}/t_eval'], rtol=1e-13)
    assert len(Heun(steps).sigmas()) == GOLDEN[f'{name}/n_main_calls']


def test_golden_samples_without_label():
    x = golden_run(Heun(8), 1.7)
    assert np.abs(x - nhwc(GOLDEN['labelnone_steps8_w1.7/x_final'])).max() < 2e-5


def test_golden_samples_with_churn(monkeypatch):
    sampler = Heun(8, s_churn=4, s_min=0.05, s_max=50, s_noise=1.003)
    rows = sampler.rows()
    churned = sorted(set(rows['index'][rows['churn'] > 0]))
    assert len(churned) == GOLDEN['churn_steps8_w1.7/n_noise_draws']
    units = jnp.asarray(GOLDEN['churn_noise_units'].transpose(0, 1, 3, 4, 2))
    monkeypatch.setattr(edm, 'fresh_noise', lambda keys, i, shape: units[i - churned[0]])
    x = golden_run(sampler, 1.7, jnp.asarray(GOLDEN['labels']))
    # 2.0e-5 measured: the network's own float32 rounding, stepped in float64 it is 2.9e-5.
    assert np.abs(x - nhwc(GOLDEN['churn_steps8_w1.7/x_final'])).max() < 2.5e-5


def gaussian(x, sigma, s=0.5, mean=0.3):
    """The ideal denoiser of data ~ N(mean, s²)."""
    return mean + s**2 / (s**2 + sigma**2) * (x - mean)


def exact(x, sigma_max, sigma_min, s=0.5, mean=0.3):
    """The ODE's solution from sigma_max to sigma_min: the standardised value is constant."""
    ratio = np.sqrt((s**2 + sigma_min**2) / (s**2 + sigma_max**2))
    return mean + (x - mean) * ratio


@pytest.mark.parametrize('kind, order', [(Euler, 1), (Heun, 2)])
def test_observed_order_of_convergence(kind, order):
    noise = np.linspace(-2, 2, 9)[:, None]
    with jax.enable_x64():
        errors = []
        for steps in (20, 40, 80):
            # The step to sigma = 0 is always Euler's; a denoiser that is exact there hides it.
            sampler = kind(steps, sigma_min=0.05, sigma_max=10.0)
            rows = sampler.rows()
            x = noise * 10.0
            start, slope = x, None
            for i in range(len(rows['sigma']) - 1):
                start = start if rows['correct'][i] else x
                d = (x - gaussian(x, rows['sigma'][i])) / rows['sigma'][i]
                slope = 0.5 * (slope + d) if rows['correct'][i] else d
                x = start + rows['step'][i] * slope
            errors.append(np.abs(x - exact(noise * 10.0, 10.0, 0.05)).max())
    observed = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(observed - order) < 0.25), observed


@pytest.mark.parametrize('kind', [Euler, Heun])
def test_the_jitted_sampler_takes_the_rows(kind):
    sampler = kind(12, sigma_max=10.0)
    rows = sampler.rows()
    noise = np.linspace(-2, 2, 4, dtype=np.float32)[:, None]
    x = start = noise * 10.0
    slope = None
    for i in range(len(rows['sigma'])):
        start = start if rows['correct'][i] else x
        d = (x - gaussian(x, rows['sigma'][i])) / rows['sigma'][i]
        slope = 0.5 * (slope + d) if rows['correct'][i] else d
        x = start + rows['step'][i] * slope
    got = jax.jit(lambda n: sampler(gaussian, n, KEYS))(noise)
    np.testing.assert_allclose(got, x, atol=1e-5)


def test_churn_keeps_the_distribution():
    n = 20_000
    keys = jax.random.split(jax.random.key(1), n)
    noise = jax.random.normal(jax.random.key(2), (n, 1))
    sampler = Heun(64, s_churn=30, sigma_max=20.0)
    x = np.asarray(jax.jit(lambda n, k: sampler(gaussian, n, k))(noise, keys))
    plain = np.asarray(jax.jit(lambda n, k: Heun(64, sigma_max=20.0)(gaussian, n, k))(noise, keys))
    assert abs(x.mean() - 0.3) < 0.02
    assert abs(x.std() - 0.5) < 0.015
    assert np.corrcoef(x[:, 0], plain[:, 0])[0, 1] < 0.9


@pytest.mark.parametrize(
    'settings', [{'num_steps': 1}, {'sigma_min': 0.0}, {'sigma_max': 1e-3}, {'rho': 0.0}]
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Heun(**settings)


def test_the_network_sees_the_golden_noise_levels_in_order():
    seen = []
    record = lambda sigma: seen.append(float(sigma))

    def denoise(x, sigma):
        jax.debug.callback(record, sigma, ordered=True)
        return 0 * x

    jax.jit(lambda x: Heun(8)(denoise, x, KEYS))(jnp.ones((4, 1)))
    jax.effects_barrier()
    np.testing.assert_array_equal(seen, GOLDEN['steps8_w1/t_eval'].astype(np.float32))


def test_churn_of_a_sample_depends_on_its_key_alone():
    sampler = Heun(6, s_churn=6)
    noise = jax.random.normal(jax.random.key(1), (4, 3))
    run = jax.jit(lambda noise, keys: sampler(gaussian, noise, keys))
    whole = run(noise, KEYS)
    np.testing.assert_allclose(run(noise[::-1], KEYS[::-1])[::-1], whole, rtol=1e-6)
    np.testing.assert_allclose(run(noise[2:], KEYS[2:]), whole[2:], rtol=1e-5)
    other = run(noise, KEYS.at[1].set(jax.random.key(5)))
    assert list(np.any(np.abs(other - whole) > 1e-3, axis=1)) == [False, True, False, False]


def test_churn_stays_inside_its_noise_levels_and_below_its_limit():
    rows = Heun(8, s_churn=4, s_min=0.05, s_max=50, s_noise=1.003).rows()
    start = Heun(8).schedule()[rows['index']]
    inside = (start >= 0.05) & (start <= 50) & ~rows['correct']
    gamma = np.where(inside, min(4 / 8, np.sqrt(2) - 1), 0)
    np.testing.assert_allclose(
        np.where(rows['correct'], 0, rows['sigma'] / start - 1), gamma, atol=1e-12
    )
    np.testing.assert_allclose(rows['churn'], start * np.sqrt((1 + gamma) ** 2 - 1) * 1.003)


@pytest.mark.parametrize('name', samplers.table.names())
def test_law_every_sampler_is_hashable_and_tells_its_evaluations(name):
    sampler = samplers.table.get(name)(num_steps=4)
    assert sampler == samplers.table.get(name)(num_steps=4) and hash(sampler) is not None
    with pytest.raises(AttributeError):
        sampler.num_steps = 5
    calls = types.SimpleNamespace(count=0)

    def denoise(x, sigma):
        calls.count += 1
        return 0 * x

    with jax.disable_jit():
        x0 = sampler(denoise, jnp.ones((4, 2)), KEYS)
    assert calls.count == len(sampler.sigmas())
    assert x0.shape == (4, 2)
    np.testing.assert_allclose(x0, 0, atol=1e-5)  # where a denoiser that answers 0 must lead
