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
