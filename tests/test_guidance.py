"""The guidance rule: identities, and that a guide is called exactly where it acts."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoguide_jax.generation import calls_per_image
from autoguide_jax.guidance import Guidance, split_total
from autoguide_jax.samplers import Heun

X = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))


def main(x, sigma):
    return x / (1 + sigma)


def guide(x, sigma):
    return 0.8 * x / (1 + sigma) + 0.1


def other(x, sigma):
    return 0.3 * x


def counted(fn, name, counts):
    """fn that counts its real evaluations, under jit and cond too."""

    def call(x, sigma):
        jax.debug.callback(lambda: counts.update([name]))
        return fn(x, sigma)

    return call


def sample(weight, interval, counts, steps=16):
    denoise = Guidance(weight, interval)(
        counted(main, 'main', counts), counted(guide, 'guide', counts)
    )
    return Heun(steps)(denoise, X, jax.random.split(jax.random.key(1), 3))


@pytest.mark.parametrize(
    'weight, interval',
    [(2.0, (0, np.inf)), (2.0, (0.3, 5.0)), (0.0, (0, 1.0)), (1.0, (0, np.inf)), (3.0, (90, 99))],
)
def test_the_guide_is_called_exactly_where_it_acts(weight, interval):
    counts = collections.Counter()
    run = jax.jit(lambda w, lo, hi: sample(w, (lo, hi), counts))
    jax.block_until_ready(run(weight, *interval))
    jax.effects_barrier()
    sigmas = Heun(16).sigmas()
    inside = int(np.sum((sigmas > interval[0]) & (sigmas <= interval[1])))
    assert counts['main'] == 31
    assert counts['guide'] == (0 if weight == 1 else inside)
    told = calls_per_image(Heun(16), [Guidance(weight, interval)])
    assert told == {'main': counts['main'], 'guides': [counts['guide']]}


def test_weight_one_is_main_bit_for_bit():
    plain = jax.jit(lambda x: main(x, 0.7))(X)
    same = jax.jit(lambda x: Guidance(1.0)(main, guide)(x, 0.7))(X)
    assert np.array_equal(plain, same)


def test_equation_3():
    got = Guidance(2.5)(main, guide)(X, 0.7)
    np.testing.assert_allclose(got, guide(X, 0.7) + 2.5 * (main(X, 0.7) - guide(X, 0.7)), rtol=1e-5)
    np.testing.assert_allclose(Guidance(0.0)(main, guide)(X, 0.7), guide(X, 0.7), atol=1e-6)


def test_guided_by_itself_is_unguided():
    np.testing.assert_allclose(Guidance(3.0)(main, main)(X, 0.7), main(X, 0.7), rtol=1e-6)


def test_interval_is_open_below_and_closed_above():
    rule = Guidance(2.0, (0.5, 2.0))
    assert np.array_equal(rule.excess(np.array([0.5, 0.6, 2.0, 2.1])), [0, 1, 1, 0])


def test_sigma_per_sample():
    sigma = jnp.array([0.4, 1.0, 3.0])
    got = Guidance(2.0, (0.5, 2.0))(lambda x, s: x, lambda x, s: 0 * x)(X, sigma)
    np.testing.assert_allclose(got, X * np.array([1, 2, 1]).reshape(3, 1, 1, 1))


def test_equation_6_with_two_guides_of_their_own():
    rules = [Guidance(2.0, (0.5, np.inf)), Guidance(1.5, (0.0, 0.8))]
    denoise = Guidance.combine(rules)(main, [guide, other])
    for sigma, a, b in ((0.4, 0, 0.5), (0.7, 1, 0.5), (2.0, 1, 0)):
        d = main(X, sigma)
        want = d + a * (d - guide(X, sigma)) + b * (d - other(X, sigma))
        np.testing.assert_allclose(denoise(X, sigma), want, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match='2 guidance weights for 1 guides'):
        Guidance.combine(rules)(main, [guide])


def test_alpha_splits_a_fixed_total():
    assert split_total(3.0, 1.0) == (3.0, 1.0)
    assert split_total(3.0, 0.0) == (1.0, 3.0)
    w_c, w_u = split_total(3.0, 0.25)
    assert (w_c - 1) + (w_u - 1) == pytest.approx(2.0)
    assert split_total(1.0, 0.6) == (1.0, 1.0)


def test_all_networks_in_one_call_give_the_same():
    counts = collections.Counter()

    def together(x, sigma):
        jax.debug.callback(lambda: counts.update(['together']))
        return main(x, sigma), [guide(x, sigma)]

    rule = Guidance(2.0, (0.5, 2.0))
    for sigma in (0.4, 1.0, 3.0):
        np.testing.assert_allclose(
            rule(main, guide, together)(X, sigma), rule(main, guide)(X, sigma), rtol=1e-6
        )
    jax.effects_barrier()
    assert counts['together'] == 1


def test_fifty_weights_and_intervals_compile_once():
    counts = collections.Counter()
    traces = []

    @jax.jit
    def run(rule):
        traces.append(1)
        return Heun(4)(rule(main, guide), X, None)

    for i in range(50):
        run(jax.tree.map(np.float32, Guidance(1 + i / 20, (0.01 * i, 10.0 + i))))
    assert len(traces) == 1
    assert not counts
