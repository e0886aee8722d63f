"""Samples of a data set ↔ model space, where diffusion runs.

A member of this table is a frozen dataclass with
    encode(samples [n, …], keys=None) → float32 [n, …] in model space
    decode(x [n, …]) → uint8 [n,h,w,c]
for NumPy and JAX arrays alike; dtype, that of what it encodes; stored_shape(shape), the shape of
what it encodes into this shape; holds, what a data set for it holds. keys [n] are for encoders that
sample, one per sample. Where needs_vae, decode also takes the weights of a frozen autoencoder,
which are no part of a run: autoencoder.py brings them.

    (1) encode: x = u / 127.5 − 1        (2) decode: u = ⌊clip(127.5·x + 128, 0, 255)⌋
(2) is the rounding of (1)'s inverse: 127.5·x + 127.5, plus ½, cut. As in EDM2's StandardRGBEncoder.
    (3) z = mean + std·ε, ε ~ N(0, 1)    (4) x = scale·z + bias, of mean 0 and deviation ½
    (5) u = ⌊255·clip(vae(z), 0, 1)⌋: the VAE sees pixels in 0…1, and is cut as in (2)
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from autoguide_jax.frozen import sd_vae
from autoguide_jax.registry import Registry

Array = np.ndarray | jax.Array
table = Registry(
    'latents',
    {
        'pixels': 'autoguide_jax.latents:Pixels',
        'points': 'autoguide_jax.latents:Points',
        'sd_vae': 'autoguide_jax.latents:SDVAE',
    },
)
# EDM2's statistics of SD-VAE latents of ImageNet-512, by channel, and the deviation in model space.
RAW_MEAN, RAW_STD, FINAL_STD = (5.81, 3.25, 0.12, -2.15), (4.17, 4.62, 3.71, 3.28), 0.5


def _numpy_for(array):
    return jnp if isinstance(array, jax.Array) else np


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Pixels as they are, 0…255 ↔ −1…1; decode(encode(u)) = u for all of them."""

    dtype, holds, needs_vae = np.uint8, 'images', False

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def encode(
        self, images: UInt8[Array, 'n h w c'], keys: jax.Array | None = None
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

    dtype, holds, needs_vae = np.float32, 'points', False

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def encode(
        self, points: Float[Array, 'n d'], keys: jax.Array | None = None
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


@dataclasses.dataclass(frozen=True)
class SDVAE:
    """Latents of the SD-VAE: a data set holds mean and std of their posterior, 2l channels.

    The statistics to type for one's own data are what `latent-stats` prints.

    Settings:
      scale: factor of each of the l channels, on the way to model space
      bias: what is added to each of them then
    """

    scale: tuple[float, ...] = tuple(FINAL_STD / std for std in RAW_STD)
    bias: tuple[float, ...] = tuple(-FINAL_STD / s * m for s, m in zip(RAW_STD, RAW_MEAN))

    dtype, holds, needs_vae = np.float32, 'latents', True

    def __post_init__(self):
        for name in ('scale', 'bias'):  # lists, where they come from a config.json
            object.__setattr__(self, name, tuple(getattr(self, name)))
        good = np.isfinite([*self.scale, *self.bias]).all() and min(self.scale, default=0) > 0
        if not good or len(self.scale) != len(self.bias):
            raise ValueError(
                f'scale ({self.scale}) must be numbers > 0, as many as bias ({self.bias}) has'
            )

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Mean and std for each channel. Errors: ValueError for other channels than scale has."""
        if len(shape) != 3 or shape[-1] != len(self.scale):
            raise ValueError(
                f'latents.scale ({self.scale}) has {len(self.scale)} channels; samples of this '
                f'network are {list(shape)}'
            )
        return (*shape[:-1], 2 * shape[-1])

    def encode(
        self, moments: Float[Array, 'n h w 2*l'], keys: jax.Array
    ) -> Float[Array, 'n h w l']:
        """Return (4) of a draw (3), float32 [n,h,w,l]; each ε from the key of its sample.

        Errors: ValueError for anything but float32 with mean and std of every channel, or no keys.
        """
        if keys is None or moments.dtype != np.float32:
            raise ValueError(f'latents ({moments.dtype}) must be float32, with a key for each')
        self.stored_shape((*moments.shape[1:-1], moments.shape[-1] / 2))
        mean, std = jnp.split(moments, 2, -1)
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))(keys)
        return (mean + std * noise) * jnp.float32(self.scale) + jnp.float32(self.bias)

    def decode(
        self, x: Float[Array, 'n h w l'], weights: dict, dtype: str = 'float32'
    ) -> UInt8[Array, 'n f*h f*w c']:
        """Return (5) of the inverse of (4); weights, dtype: as sd_vae.decode has them."""
        z = (x.astype(jnp.float32) - jnp.float32(self.bias)) / jnp.float32(self.scale)
        pixels = sd_vae.decode(weights, z, dtype)
        return (255 * jnp.clip(pixels, 0, 1)).astype(jnp.uint8)
