"""Guided sampling: an image is its seed's, settings are arguments, and calls are counted right."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from autoguide_jax import generation
from autoguide_jax.backbones import EDM2UNet
from autoguide_jax.claims import decisions
from autoguide_jax.denoiser import Denoiser, with_ready_weights
from autoguide_jax.generation import Call, Programs, calls_per_image
from autoguide_jax.guidance import Guidance, Schedule
from autoguide_jax.samplers import Euler, Heun
from autoguide_jax.seeds import sample_labels, seed_list

SEEDS = [7, 0, 123, 4_000_000_000, 55, 56, 57, 58]
LABELS = np.arange(8) % 3
STRONG = (Guidance(2.5, (0.01, 40.0)),)


def network(seed=0, dropout=0.0, denoiser=None):
    """A random single convolution in the form of a loaded snapshot."""
    net = Denoiser(tiny.OneConv(4, 2, 3, dropout))
    settings = {'name': 'one_conv', 'resolution': 4, 'channels': 2, 'label_dim': 3}
    config = {
        'network': {**settings, 'dropout': dropout},
        'denoiser': {'sigma_data': 0.5},
        'latents': {'name': 'pixels'},
    }
    variables = tiny.variables(net, seed)
    return types.SimpleNamespace(denoiser=denoiser or net, variables=variables, config=config)


PAIR = [Call(network(0)), Call(network(1))]


def draw(size, seeds, labels, calls=PAIR, rules=STRONG, sampler=None, **settings):
    """Images of seeds, in batches of `size`, and the Programs that made them."""
    programs = Programs(sampler or Heun(6), size, **{'stack': 'off', **settings})
    parts = [
        programs.images(calls, rules, seeds[i : i + size], labels[i : i + size])
        for i in range(0, len(seeds), size)
    ]
    return np.concatenate(parts), programs


def assert_same_images(a, b):
    """At most one grey level apart: rounding may differ between compiled programs."""
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    assert np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.parametrize('sampler', [Heun(6), Heun(6, s_churn=6.0)])
def test_an_image_is_a_function_of_its_seed_not_of_its_batch(sampler):
    whole, programs = draw(8, SEEDS, LABELS, sampler=sampler)
    assert programs.devices.size == 2
    assert whole.shape == (8, 4, 4, 2) and whole.std() > 20
    for size, devices in [(3, 1), (2, 2), (1, 1)]:
        parts, programs = draw(size, SEEDS, LABELS, sampler=sampler)
        assert programs.devices.size == devices and programs.count == 1
        assert_same_images(parts, whole)
    backwards, _ = draw(8, SEEDS[::-1], LABELS[::-1], sampler=sampler)
    assert_same_images(backwards[::-1], whole)
    distinct = {image.tobytes() for image in whole}
    assert len(distinct) == 8


def test_the_last_batch_may_be_short_but_none_too_long():
    whole, programs = draw(8, SEEDS, LABELS)
    short = programs.images(PAIR, STRONG, SEEDS[:3], LABELS[:3])
    np.testing.assert_array_equal(short, whole[:3])
    with pytest.raises(ValueError, match='9 seeds in a batch of 8'):
        programs.images(PAIR, STRONG, [*SEEDS, 1], [*LABELS, 0])


def test_a_sweep_of_fifty_settings_compiles_once():
    programs = Programs(Heun(4), 8, stack='off')
    mains, guides = [network(i) for i in (0, 1)], [network(i) for i in (2, 3, 4, 5, 6)]
    drawn = set()
    for main, guide, w in itertools.product(mains, guides, (1.0, 1.3, 1.9, 2.4, 3.0)):
        rules = [Guidance(w, (0.01 * w, 30.0))]
        drawn.add(programs.images([Call(main), Call(guide)], rules, SEEDS, LABELS).tobytes())
    assert programs.count == 1 and len(programs.placement.programs) == 1
    assert len(drawn) == 50 - 2 * 4  # at weight 1 the five guides give the same images
    programs.images(PAIR[:1], (), SEEDS, LABELS)
    programs.images([PAIR[0], Call(network(1), labelled=False)], STRONG, SEEDS, LABELS)
    assert programs.count == 3


def test_unguided_is_weight_one():
    alone, _ = draw(8, SEEDS, LABELS, PAIR[:1], ())
    assert_same_images(draw(8, SEEDS, LABELS, rules=(Guidance(1.0),))[0], alone)
    guided = draw(8, SEEDS, LABELS)[0].astype(int)
    assert np.abs(guided - alone).max() > 20


def test_a_network_that_is_not_told_the_label_gets_none():
    none = np.full(8, -1)
    guide = [PAIR[0], Call(PAIR[0].network, labelled=False)]
    cfg, _ = draw(8, SEEDS, LABELS, guide)
    itself, _ = draw(8, SEEDS, LABELS, [PAIR[0], PAIR[0]])
    assert np.abs(cfg.astype(int) - itself).max() > 20
    assert_same_images(*(draw(8, SEEDS, none, calls)[0] for calls in (guide, [PAIR[0]] * 2)))


def test_stacked_networks_draw_what_separate_ones_draw():
    calls, rules = PAIR, (Schedule(1.8, (0.05, 10.0), (0.1, 2.0), (0.5, 1.5)),)
    apart, programs = draw(8, SEEDS, LABELS, calls, rules)
    assert programs.stacked == {}
    together, _ = draw(8, SEEDS, LABELS, calls, rules, stack='on')
    assert_same_images(together, apart)
    fastest, programs = draw(8, SEEDS, LABELS, calls, rules, stack='auto')
    assert_same_images(fastest, apart)
    [measured] = programs.stacked.values()
    assert set(measured) == {False, True}


def test_the_choice_is_kept_for_what_is_resumed(tmp_path, monkeypatch):
    """Timings differ from run to run, and stacked networks differ in rounding."""
    calls, rules, chosen = PAIR, (Guidance(1.8, (0.05, 10.0)),), []
    for fastest in (True, False):
        monkeypatch.setattr(Programs, 'faster', lambda *_, now=fastest: now)
        programs = Programs(Heun(6), 8, settle=decisions(tmp_path))
        jit = programs.jit
        programs.jit = lambda calls, stacked, jit=jit, **rest: (
            chosen.append(stacked),
            jit(calls, stacked, **rest),
        )[1]
        programs.images(calls, rules, SEEDS[:8], LABELS[:8])
    assert chosen == [True, True]


def test_large_networks_are_neither_stacked_nor_timed(monkeypatch):
    monkeypatch.setattr(generation, 'MAX_STACKED_BYTES', 100)
    monkeypatch.setattr(Programs, 'faster', lambda *_: pytest.fail('was timed'))
    draw(8, SEEDS[:8], LABELS, stack='auto')


def test_only_a_guide_that_is_alike_is_stacked():
    unlike = [PAIR[0], Call(network(1, dropout=0.1))]
    three = [*PAIR, Call(network(2), labelled=False)]
    two_rules = (Guidance(1.8, (0.05, 10.0)), Guidance(1.5))
    for given in ((unlike,), (three, two_rules)):
        with pytest.raises(ValueError, match=r'stack \(on\)'):
            draw(8, SEEDS, LABELS, *given, stack='on')
        _, programs = draw(8, SEEDS, LABELS, *given, stack='auto')
        assert programs.stacked == {}


@pytest.mark.parametrize('sampler', [Heun(7), Euler(7), Heun(7, s_churn=3.0)])
def test_calls_per_image_are_the_calls_that_happen(sampler):
    counts = [0, 0, 0]

    def counted(k):
        def apply(*args, mutable=False):
            if not mutable:  # making weights ready is no call: XLA leaves the network out
                jax.debug.callback(lambda: counts.__setitem__(k, counts[k] + 1))
            return Denoiser(tiny.OneConv(4, 2, 3)).apply(*args, mutable=mutable)

        return Call(network(k, denoiser=types.SimpleNamespace(apply=apply)))

    calls = [counted(k) for k in range(3)]
    programs = Programs(sampler, 1, stack='off')  # on one device a call is one callback
    on_schedule = float(np.float32(sampler.sigmas()[4]))
    schedule = lambda lo, hi, scales: Schedule(2.0, (lo, hi), (0.1, on_schedule), scales)
    for rules in [
        (schedule(0.0, np.inf, (1.0, 1.0)), Guidance(1.0)),
        (schedule(0.1, on_schedule, (0.5, 1.0)), Guidance(0.5, (on_schedule, 60.0))),
        (schedule(0.0, 60.0, (1.0, 0.0)), Guidance(0.5)),
    ]:
        counts[:] = [0, 0, 0]
        programs.images(calls, rules, SEEDS[:1], LABELS[:1])
        jax.effects_barrier()
        told = calls_per_image(sampler, rules)
        assert [told['main'], *told['guides']] == counts
        assert told['main'] == len(sampler.sigmas()) and told['guides'][0] > 0
    assert calls_per_image(sampler, ()) == {'main': len(sampler.sigmas()), 'guides': []}


def test_seeds_are_read_from_text():
    assert seed_list('0-3,7').tolist() == [0, 1, 2, 3, 7]
    assert seed_list(' 9, 4-5').tolist() == [9, 4, 5]
    assert seed_list('12').dtype == np.int64
    assert len(seed_list('0-49999')) == 50_000


@pytest.mark.parametrize('text', ['', 'a', '3-1', '-1', '1,,2', '0.5', '²', '4294967296'])
def test_text_that_is_no_list_of_seeds_is_refused(text):
    with pytest.raises(ValueError, match='seeds'):
        seed_list(text)


def test_a_seed_cannot_be_drawn_twice():
    with pytest.raises(ValueError, match='names a seed twice'):
        seed_list('0-5,3')


def test_a_label_is_a_function_of_its_seed():
    labels = sample_labels(np.arange(3000), 10)
    np.testing.assert_array_equal(sample_labels(np.arange(3000)[::-1], 10), labels[::-1])
    np.testing.assert_array_equal(sample_labels([2999, 17], 10), labels[[2999, 17]])
    assert set(labels) == set(range(10))
    assert np.bincount(labels).std() < 3 * np.sqrt(3000 * 0.09)
    assert sample_labels([5, 11, 20], 10, 'balanced').tolist() == [5, 1, 0]
    assert sample_labels([5, 11], 10, '3').tolist() == [3, 3]
    for unlabelled in (sample_labels([5, 11], 0), sample_labels([5, 11], 10, 'none')):
        assert unlabelled.tolist() == [-1, -1] and unlabelled.dtype == np.int32


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_ready_weights_are_those_that_layers_make_and_samplers_make_them_once(dtype):
    backbone = EDM2UNet(16, 3, 10, 32, (1, 2), 1, (8,), channels_per_head=32, dtype=dtype)
    net, shape = Denoiser(backbone), (16, 16, 3)
    x = jax.random.normal(jax.random.key(0), (2, *shape))
    variables = net.init(jax.random.key(1), x, jnp.ones(2), LABELS[:2])
    variables['params'] = jax.tree.map(lambda w: w if w.ndim else w + 0.5, variables['params'])
    made = jax.jit(lambda v: with_ready_weights(net, v, shape))(variables)
    assert all(leaf.ndim == 0 for leaf in jax.tree.leaves(made['params']))  # gains
    weights = jax.tree.leaves(made['ready'])
    assert len(weights) == str(jax.tree.structure(variables['params'])).count("'weight'")
    inside = [w for w in weights if w.dtype == dtype]
    assert len(inside) >= len(weights) - 3  # the embeddings and the uncertainty are in float32
    expected = net.apply_with_logvar(variables, x, jnp.full(2, 0.7), LABELS[:2])
    # Only the ready ones count: the raw ones may be anything.
    broken = {**made, 'params': jax.tree.map(lambda w: w * np.nan, made['params'])}
    found = net.apply_with_logvar(broken, x, jnp.full(2, 0.7), LABELS[:2])
    for a, b in zip(expected, found):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert np.abs(expected[0]).max() > 0.1
