"""Samples of a data set ↔ model space, where diffusion runs.

A member of this table is a frozen dataclass with
    encode(images uint8 [n,h,w,c], key=None) → float32 [n, …] in model space
    decode(x [n, …]) → uint8 [n,h,w,c]
for NumPy and JAX arrays alike, and dtype, that of what it encodes. key is for encoders that sample
(a VAE's posterior); training gives none so far.

    (1) encode: x = u / 127.5 − 1        (2) decode: u = ⌊clip(127.5·x + 128, 0, 255)⌋
(2) is the rounding of (1)'s inverse: 127.5·x + 127.5, plus ½, cut. As in EDM2's StandardRGBEncoder.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from autoguide_jax.registry import Registry

Array = np.ndarray | jax.Array
table = Registry(
    'latents',
    {'pixels': 'autoguide_jax.latents:Pixels', 'points': 'autoguide_jax.latents:Points'},
)


def _numpy_for(array):
    return jnp if isinstance(array, jax.Array) else np


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Pixels as they are, 0…255 ↔ −1…1; decode(encode(u)) = u for all of them."""

    dtype = np.uint8

    def encode(
        self, images: UInt8[Array, 'n h w c'], key: jax.Array | None = None
    ) -> Float[Array, 'n h w c']:
        """Return (1), float32. Errors: ValueError unless uint8, for floats are encoded already."""
        if images.dtype != np.uint8:
            raise ValueError(f'images ({images.dtype}) must be uint8, 0…255')
        xp = _numpy_for(images)
        return images.astype(xp.float32) / xp.float32(127.5) - xp.float32(1)

    def decode(self, x: Float[Array, 'n h w c']) -> UInt8[Array, 'n h w c']:
        """Return (2), uint8."""
        xp = _numpy_for(x)
        scaled = x.astype(xp.float32) * xp.float32(127.5) + xp.float32(128)
        return xp.clip(scaled, 0, 255).astype(xp.uint8)


@dataclasses.dataclass(frozen=True)
class Points:
    """Points of a space as they are, float32 [n, d], not images."""

    dtype = np.float32

    def encode(
        self, points: Float[Array, 'n d'], key: jax.Array | None = None
    ) -> Float[Array, 'n d']:
        """The points. Errors: ValueError for anything but float32 [n, d], such as images."""
        if points.dtype != np.float32 or points.ndim != 2:
            raise ValueError(
                f'points ({points.dtype} {list(points.shape)}) must be float32 [n, d]. '
                'Images take latents.name=pixels'
            )
        return points

    def decode(self, x: Float[Array, 'n d']) -> Float[Array, 'n d']:
        """The points."""
        return x
