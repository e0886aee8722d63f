"""Pixels ↔ model space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoguide_jax import latents

ALL = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
PIXELS = latents.table.get('pixels')()


@pytest.mark.parametrize('to', [np.asarray, jnp.asarray])
def test_all_256_values_come_back(to):
    encoded = PIXELS.encode(to(ALL), keys=None)
    assert encoded.dtype == np.float32 and type(encoded) is type(to(ALL))
    decoded = PIXELS.decode(encoded)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, ALL)


def test_all_256_values_come_back_under_jit():
    decoded = jax.jit(lambda u: PIXELS.decode(PIXELS.encode(u)))(ALL)
    np.testing.assert_array_equal(decoded, ALL)


def test_black_is_minus_one_and_white_is_one():
    assert PIXELS.encode(ALL).min() == -1 and PIXELS.encode(ALL).max() == 1


def test_decode_rounds_to_the_nearest_and_clips():
    """Half a grey level either way decides; beyond ±1 it saturates and never wraps."""
    level = 1 / 127.5
    x = np.array(
        [-3, -1, 100 * level - 1, 100.49 * level - 1, 100.51 * level - 1, 1, 7], np.float32
    )
    x = x.reshape(-1, 1, 1, 1)
    for decoded in (PIXELS.decode(x), PIXELS.decode(jnp.asarray(x))):
        assert np.ravel(decoded).tolist() == [0, 0, 100, 100, 101, 255, 255]


def test_half_precision_is_decoded_in_float32():
    x = PIXELS.encode(ALL).astype(jnp.bfloat16)
    expected = PIXELS.decode(np.asarray(x, np.float32))
    np.testing.assert_array_equal(PIXELS.decode(jnp.asarray(x)), expected)


def test_encoding_twice_is_refused():
    with pytest.raises(ValueError, match=r'images \(float32\) must be uint8'):
        PIXELS.encode(PIXELS.encode(ALL))


MEAN = jnp.linspace(-8, 8, 16).reshape(1, 2, 2, 4)
STD = jnp.full((1, 2, 2, 4), 0.7)


def keys(n):
    return jax.vmap(jax.random.key)(jnp.arange(n))


def test_statistics_of_imagenet_become_mean_0_and_deviation_one_half():
    """Latents at EDM2's mean, and one deviation above it, are 0 and 0.5 in model space."""
    vae = latents.table.get('sd_vae')()
    mean = np.array([5.81, 3.25, 0.12, -2.15], np.float32)
    std = np.array([4.17, 4.62, 3.71, 3.28], np.float32)
    for z, x in ((mean, 0), (mean + std, 0.5)):
        moments = jnp.concatenate([z, np.zeros(4, np.float32)]).reshape(1, 1, 1, 8)
        np.testing.assert_allclose(vae.encode(moments, keys(1)), x, atol=1e-6)


def test_draws_have_the_posteriors_mean_and_deviation():
    """40,000 draws of each place; a sample's draw is a function of its key alone."""
    vae = latents.SDVAE(scale=(1.0, 2.0, 3.0, 4.0), bias=(0.0, 1.0, -1.0, 2.0))
    n = 40_000
    moments = jnp.broadcast_to(jnp.concatenate([MEAN, STD], -1), (n, 2, 2, 8))
    drawn = np.asarray(vae.encode(moments, keys(n)), np.float64)
    scale, bias = np.array(vae.scale), np.array(vae.bias)
    near = {'rtol': 0, 'atol': 5 * 0.7 * 4 / np.sqrt(n)}
    np.testing.assert_allclose(drawn.mean(0), np.asarray(MEAN[0]) * scale + bias, **near)
    np.testing.assert_allclose(drawn.std(0), np.broadcast_to(0.7 * scale, (2, 2, 4)), **near)
    again = vae.encode(moments[:3], keys(9)[6:])
    np.testing.assert_array_equal(again, drawn[6:9].astype(np.float32))


def test_decoding_inverts_the_statistics_clips_and_cuts(monkeypatch):
    """With an autoencoder that hands latents on: u = ⌊255·clip(z, 0, 1)⌋."""
    monkeypatch.setattr(latents.sd_vae, 'decode', lambda weights, z, dtype: z)
    vae = latents.SDVAE()
    z = jnp.array([-0.3, 0.0, 0.5, 0.999, 1.0, 4.0, 100.5 / 255, 100.99 / 255]).reshape(1, 1, 2, 4)
    moments = jnp.concatenate([z, jnp.zeros_like(z)], -1)
    decoded = vae.decode(vae.encode(moments, keys(1)), weights={})
    assert decoded.dtype == jnp.uint8
    assert np.ravel(decoded).tolist() == [0, 0, 127, 254, 255, 255, 100, 100]


def test_latents_of_other_shapes_are_refused():
    vae = latents.SDVAE()
    with pytest.raises(ValueError, match=r'scale \(.*\) has 4 channels; .* \[8, 8, 3\]'):
        vae.stored_shape((8, 8, 3))
    with pytest.raises(ValueError, match='uint8.* must be float32, with a key for each'):
        vae.encode(np.zeros((1, 2, 2, 8), np.uint8), keys(1))
    with pytest.raises(ValueError, match='must be float32, with a key'):
        vae.encode(np.zeros((1, 2, 2, 8), np.float32), None)
    with pytest.raises(ValueError, match='as many as bias'):
        latents.SDVAE(scale=(1.0,))
