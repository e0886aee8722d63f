"""The guidance rule: identities, and that a guide is called exactly where it acts."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from autoguide_jax import config, guidance
from autoguide_jax.denoiser import Denoiser
from autoguide_jax.generation import calls_per_image
from autoguide_jax.guidance import Combined, Guidance, Schedule, split_total
from autoguide_jax.guidance_settings import GuidanceSettings
from autoguide_jax.pairs import Pair
from autoguide_jax.refs import NetworkRef
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


def toy(scale):
    """A denoiser that is none of anything, and different for each scale."""
    return lambda x, sigma: jnp.tanh(scale * x) / (1 + sigma)


class Counter:
    """A denoiser that notes the noise level of every call, also inside compiled programs."""

    def __init__(self, denoise):
        self.denoise, self.sigmas = denoise, []

    def __call__(self, x, sigma):
        jax.debug.callback(lambda s: self.sigmas.append(float(s)), sigma)
        return self.denoise(x, sigma)

    def seen(self):
        jax.effects_barrier()
        found, self.sigmas = sorted(self.sigmas), []
        return found


MAIN, GUIDE, OTHER = toy(1.0), toy(0.6), toy(0.3)


def test_weight_1_is_the_main_network_exactly_and_never_calls_the_guide():
    main, guide, sampler = Counter(MAIN), Counter(GUIDE), Heun(6)
    with jax.disable_jit():  # two compiled programs may round differently
        ours = sampler(Guidance(1.0)(MAIN, GUIDE), X, None)
        alone = sampler(MAIN, X, None)
    np.testing.assert_array_equal(ours, alone)
    run = jax.jit(lambda w: sampler(Guidance(w)(main, guide), X, None))
    np.testing.assert_allclose(run(1.0), alone, atol=1e-5)
    levels = sorted(sampler.sigmas().astype(np.float32))
    assert (main.seen(), guide.seen()) == (levels, [])
    assert np.abs(run(1.5) - alone).max() > 1e-3
    assert (main.seen(), guide.seen()) == (levels, levels)


def test_the_guide_is_called_exactly_on_the_steps_inside_lo_hi():
    sampler, guide = Heun(8), Counter(GUIDE)
    run = jax.jit(lambda g: sampler(g(MAIN, guide), X, None))
    levels = sampler.sigmas().astype(np.float32)
    steps = np.unique(levels)  # ascending: lo itself is outside, hi inside
    for lo, hi in [
        (0, np.inf),
        (steps[2], steps[5]),
        (0, steps[0]),
        (steps[7], np.inf),
        (3.0, 3.1),
    ]:
        run(Guidance(2.0, (lo, hi)))
        assert guide.seen() == sorted(s for s in levels if lo < s <= hi)
    assert len(steps) == 8


@pytest.mark.parametrize('weight', [0.3, 2.0, 7.0])
def test_a_network_cannot_guide_itself(weight):
    sampler = Heun(5)
    with jax.disable_jit():
        ours = sampler(Guidance(weight)(MAIN, MAIN), X, None)
        alone = sampler(MAIN, X, None)
    np.testing.assert_array_equal(ours, alone)


@pytest.mark.parametrize('alpha', [0.0, 0.25, 1.0])
def test_alpha_interpolates_between_the_guides_at_the_same_total_weight(alpha):
    w_c, w_u = split_total(2.2, alpha)
    main, guide, uncond = (d(X, 0.7) for d in (MAIN, GUIDE, OTHER))
    rule = Guidance.combine([Guidance(w_c), Guidance(w_u)])
    blend = alpha * guide + (1 - alpha) * uncond
    wanted = blend + 2.2 * (main - blend)
    np.testing.assert_allclose(rule(MAIN, [GUIDE, OTHER])(X, 0.7), wanted, atol=1e-6)
    if alpha in (0, 1):
        assert 1 in (w_c, w_u)  # the other guide is off


def test_stacked_networks_give_what_separate_ones_give():
    network, (x, _, labels) = Denoiser(tiny.OneConv(4, 2, 3)), tiny.batch()
    weights = [tiny.variables(network, seed) for seed in range(3)]
    rule = Guidance.combine([Guidance(1.5, (0.3, np.inf)), Guidance(2.0, (0.0, 2.0))])
    bound = [lambda x, s, v=v: network.apply(v, x, s, labels) for v in weights]
    calls = Counter(lambda x, sigma: None)

    def together(x, sigma):
        calls(x, sigma)
        both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)
        x0 = jax.vmap(lambda v: network.apply(v, x, sigma, labels))(both)
        return x0[0], list(x0[1:])

    separate = jax.jit(rule(bound[0], bound[1:]))
    stacked = jax.jit(rule(bound[0], bound[1:], together))
    for sigma in (0.2, 1.0, 3.0):
        sigma = jnp.float32(sigma)
        np.testing.assert_allclose(stacked(x, sigma), separate(x, sigma), atol=2e-5)
    assert len(calls.seen()) == 3
    off = dataclasses.replace(rule, parts=(Guidance(), Guidance(2.0, (0.0, 0.1))))
    alone = jax.jit(off(bound[0], bound[1:], together))(x, jnp.float32(1.0))
    np.testing.assert_allclose(alone, bound[0](x, 1.0), atol=1e-5)
    assert calls.seen() == []


def test_a_rule_is_a_pytree_of_its_numbers():
    rule = Guidance(2.0, (0.1, 3.0))
    assert jax.tree.leaves(rule) == [2.0, 0.1, 3.0]
    doubled = jax.tree.map(lambda v: 2 * v, rule)
    assert doubled == Guidance(4.0, (0.2, 6.0))
    leaves, structure = jax.tree.flatten(Guidance.combine([rule, doubled]))
    assert jax.tree.unflatten(structure, leaves) == Combined((rule, doubled))
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.weight = 1.0
    slope = jax.grad(lambda r: jnp.sum(r(MAIN, GUIDE)(X, 0.7)))(Guidance(2.0, (0.1, 3.0)))
    wanted = jnp.sum(MAIN(X, 0.7) - GUIDE(X, 0.7))
    np.testing.assert_allclose(slope.weight, wanted, rtol=1e-5)


@pytest.mark.parametrize('rule', [*map(guidance.table.get, guidance.table.names()), Schedule])
def test_law_every_rule_at_weight_1_is_the_main_network(rule):
    rule = rule(weight=1.0)
    assert dataclasses.is_dataclass(rule) and 1.0 in jax.tree.leaves(rule)
    denoise = jax.jit(lambda r, x: r(MAIN, GUIDE)(x, jnp.float32(0.7)))
    np.testing.assert_allclose(denoise(rule, X), MAIN(X, 0.7), atol=1e-6)


@pytest.mark.parametrize('knots', [(0.7,), (0.05, 0.7, 30.0)])
def test_a_constant_schedule_is_guidance_bit_for_bit(knots):
    plain = Guidance(2.3, (0.1, 20.0))
    schedule = Schedule(2.3, (0.1, 20.0), knots, (1.0,) * len(knots))
    sigmas = np.geomspace(0.001, 100, 999, dtype=np.float32)
    assert np.array_equal(schedule.excess(sigmas), plain.excess(sigmas))
    run = jax.jit(lambda rule: Heun(8)(rule(MAIN, GUIDE), X, None))
    assert np.array_equal(run(schedule), run(plain))


def test_a_schedule_is_linear_in_the_logarithm_of_the_noise_level():
    rule = Schedule(3.0, (0.02, 50.0), (0.1, 1.6, 10.0), (0.0, 1.0, -0.5))
    between = 0.1 * 16 ** np.array([0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(rule.excess(between), [0, 0.5, 1, 1.5, 2], atol=1e-6)
    np.testing.assert_allclose(rule.excess(4.0), 2 * 0.25, atol=1e-6)
    assert np.array_equal(rule.excess([0.01, 0.05, 0.1, 10, 30, 50, 60]), [0, 0, 0, -1, -1, -1, 0])
    assert rule.excess(between).dtype == np.float32 and rule.excess(0.3).shape == ()


def test_steep_knots_are_two_intervals_with_weights_of_their_own():
    steep = Schedule(3.0, (0.1, 20.0), (1.0, 1.000001), (0.25, 1.0))
    levels = Guidance.combine([Guidance(1.5, (0.1, 1.0)), Guidance(3.0, (1.0, 20.0))])
    sampler, guide = Heun(12), Counter(GUIDE)
    ours = jax.jit(lambda r: sampler(r(MAIN, guide), X, None))(steep)
    called = guide.seen()
    wanted = jax.jit(lambda r: sampler(r(MAIN, [guide, guide]), X, None))(levels)
    np.testing.assert_allclose(ours, wanted, atol=1e-5)
    assert called == guide.seen() and len(called) > 3


def test_a_schedule_calls_no_guide_where_the_weight_is_1():
    sampler, guides = Heun(12), [Counter(GUIDE), Counter(OTHER)]
    levels = sampler.sigmas().astype(np.float32)
    low, high = (float(s) for s in np.unique(levels)[[3, 8]])
    bump = Schedule(2.0, (0.0, 30.0), (low, 0.5 * (low + high), high), (0.0, 1.0, 0.0))
    rules = [bump, Guidance(1.5, (1.0, np.inf))]
    run = jax.jit(lambda r: sampler(r(MAIN, guides), X, None))
    run(Guidance.combine(rules))
    wanted = [[s for s in levels if low < s < high], [s for s in levels if s > 1]]
    assert [guide.seen() for guide in guides] == [sorted(seen) for seen in wanted]
    told = calls_per_image(sampler, rules)['guides']
    assert told == [len(seen) for seen in wanted] and min(told) > 0
    run(Guidance.combine([dataclasses.replace(bump, weight=1.0), Guidance()]))
    assert not guides[0].seen() + guides[1].seen()


def test_only_the_number_of_knots_compiles_anew():
    traces = []

    @jax.jit
    def run(rule):
        traces.append(1)
        return rule(MAIN, GUIDE)(X, jnp.float32(0.7))

    for i in range(5):
        rule = Schedule(1 + i, (0.1 * i, 9.0), (0.1 + i, 8.0 + i), (0.3 * i, 1.0))
        run(jax.tree.map(np.float32, rule))
    assert len(traces) == 1
    run(jax.tree.map(np.float32, Schedule(2.0, (0.0, 9.0), (0.1, 1.0, 2.0), (1.0, 1.0, 0.5))))
    assert len(traces) == 2


def test_two_guides_share_a_schedule_by_alpha():
    text = {'weight': '3', 'alpha': '0.25', 'uncond_interval': '0,5'}
    text |= {'schedule_sigma': '0.1, 1.6', 'schedule_scale': '0,1'}
    chosen = config.parse(GuidanceSettings, text)
    pair = Pair(NetworkRef('m'), NetworkRef('g'), NetworkRef('u'), chosen)
    rules = [rule for *_, rule in pair.rules()]
    assert [type(rule) for rule in rules] == [Schedule, Schedule]
    np.testing.assert_allclose([r.excess(0.4) for r in rules], [0.25, 0.75], rtol=1e-6)
    np.testing.assert_allclose([r.excess(7.0) for r in rules], [0.5, 0.0], rtol=1e-6)
    assert chosen.row()['schedule'] == [(0.1, 0.0), (1.6, 1.0)]
    assert 'schedule' not in GuidanceSettings(2.0).row()


def test_a_weight_without_bound_is_refused():
    with pytest.raises(ValueError, match=r'weight \(inf\) must be a finite number'):
        GuidanceSettings(float('inf'))


@pytest.mark.parametrize(
    'knots, scales, message',
    [
        ((0.1, 1.0), (1.0,), r'schedule_sigma \(\(0\.1, 1\.0\)\) and schedule_scale .* one length'),
        ((), (1.0,), 'of one length'),
        ((1.0, 1.0), (1.0, 2.0), 'each above the last'),
        ((0.0, 1.0), (1.0, 2.0), 'noise levels > 0'),
        ((1.0, np.inf), (1.0, 2.0), 'finite noise levels'),
        ((1.0, 2.0), (1.0, np.inf), r'schedule_scale .* finite'),
        ((1.0, 2.0), (0.0, 0.0), '0 everywhere'),
    ],
)
def test_knots_that_make_no_schedule_are_refused(knots, scales, message):
    with pytest.raises(ValueError, match=message):
        GuidanceSettings(2.0, schedule_sigma=knots, schedule_scale=scales)
