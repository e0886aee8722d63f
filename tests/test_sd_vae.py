"""The SD-VAE against diffusers: stored outputs always, the package itself where it is there."""

import pathlib

import jax
import numpy as np
import pytest
import vae_weights

from autoguide_jax.frozen import sd_vae

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'sd_vae.npz'
NARROW = sd_vae.from_state_dict(vae_weights.state())


def outputs(weights, pixels, z):
    """What diffusers_outputs has, from this package."""
    mean, std = jax.jit(lambda w, x: sd_vae.encode(w, x))(weights, pixels)
    decoded = jax.jit(lambda w, z: sd_vae.decode(w, z))(weights, z)
    return {'mean': mean, 'std': std, 'pixels': decoded}


def assert_near(found, expected, tolerance=1e-4):
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=tolerance, err_msg=name)


def test_stored_outputs_of_diffusers():
    with np.load(GOLDEN) as stored:
        assert min(array.std() for array in stored.values()) > 0.05
        assert_near(outputs(NARROW, vae_weights.images(2), vae_weights.latents(2)), stored, 2e-5)


def test_older_names_of_the_attention_are_the_same_network():
    state = vae_weights.state(old=True)
    assert 'encoder.mid_block.attentions.0.proj_attn.weight' in state
    weights = sd_vae.from_state_dict(state)
    assert weights.keys() == NARROW.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, NARROW[name])


def test_diffusers_itself():
    """Four levels, two blocks each, as the published file, but narrow."""
    pytest.importorskip('torch')
    pytest.importorskip('diffusers')
    settings = {'widths': (32, 32, 64, 64), 'blocks': 2}
    weights = sd_vae.from_state_dict(vae_weights.state(**settings))
    given = vae_weights.images(2, 32), vae_weights.latents(2, 3)
    model = vae_weights.diffusers_model(**settings)
    assert_near(outputs(weights, *given), vae_weights.diffusers_outputs(model, *given))


def test_the_published_sizes():
    """83,653,863 parameters in 248 arrays, 8 pixels a side for a latent."""
    shapes = sd_vae.shapes((128, 256, 512, 512))
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 83_653_863
    assert len(shapes) == 248
    assert sd_vae.factor(shapes) == 8


def test_images_one_by_one_and_queries_in_blocks_change_nothing(monkeypatch):
    monkeypatch.setattr(sd_vae, 'PIXELS', 1)
    monkeypatch.setattr(sd_vae, 'QUERIES', 5)
    with np.load(GOLDEN) as stored:
        assert_near(outputs(NARROW, vae_weights.images(2), vae_weights.latents(2)), stored, 2e-5)


def test_half_precision_is_near():
    z = vae_weights.latents(1)
    decode = jax.jit(sd_vae.decode, static_argnames='dtype')
    exact, half = (decode(NARROW, z, dtype=dtype) for dtype in ('float32', 'bfloat16'))
    assert half.dtype == np.float32
    error = np.sqrt(np.mean((half - exact) ** 2) / np.var(exact))
    assert 1e-4 < error < 0.05


@pytest.mark.parametrize('bias, std', [(-100.0, np.exp(-15)), (100.0, np.exp(10))])
def test_the_log_variance_is_clamped(bias, std):
    moved = NARROW['quant_conv.bias'] + np.repeat([0, bias], 4).astype(np.float32)
    found = sd_vae.encode({**NARROW, 'quant_conv.bias': moved}, vae_weights.images(1))[1]
    np.testing.assert_allclose(found, std, rtol=1e-6)


@pytest.mark.parametrize(
    'change, message',
    [
        ({'quant_conv.bias': None}, r"expected 'quant_conv.bias' \(8,\), found nothing"),
        ({'encoder.conv_in.weight': None}, "expected 'encoder.conv_in.weight' .* found nothing"),
        (
            {'decoder.mid_block.attentions.0.to_q.weight': np.zeros((64, 3))},
            r"to_q.weight' \(64, 64\), found \(64, 3\)",
        ),
        (
            {'encoder.down_blocks.1.resnets.0.conv2.weight': np.zeros((40, 40, 3, 3))},
            '40 channels are no multiple of 32',
        ),
        ({'loss.logvar': np.zeros(1)}, r"unexpected arrays \['loss.logvar'\]"),
    ],
)
def test_other_arrays_are_named(change, message):
    state = vae_weights.state() | change
    with pytest.raises(ValueError, match=f'sd_vae: .*{message}'):
        sd_vae.from_state_dict({k: v for k, v in state.items() if v is not None})


def test_images_that_do_not_fit_are_refused():
    for shape in ((1, 15, 16, 3), (1, 16, 16, 1)):
        with pytest.raises(ValueError, match='sides that 2 divides and 3 channels'):
            sd_vae.encode(NARROW, np.zeros(shape, np.float32))
