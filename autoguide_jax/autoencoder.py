"""The frozen autoencoder of a file, on the devices of a mesh: images ↔ mean and std of latents.

Its weights are an argument of its programs, which are compiled once per shape. Every device works
on its own images, few at a time, so that the result does not depend on the batch and memory not on
its size.
"""

import functools
import hashlib

import jax
import jax.numpy as jnp

from autoguide_jax import files, mesh, state_dicts, stop
from autoguide_jax.frozen import sd_vae

DTYPES = ('float32', 'bfloat16')


def check_dtype(name, dtype):
    """Refuse what is no dtype of the autoencoder, by the name of the setting."""
    if dtype not in DTYPES:
        raise ValueError(f'{name} ({dtype!r}) must be {" or ".join(map(repr, DTYPES))}')


def check_file(path, why, setting='vae'):
    """Refuse a path without a file; says which file is meant and why it is needed."""
    wanted = f'give --config.{setting}=PATH (or gs://…) of the autoencoder: the file '
    wanted += f'{sd_vae.PUBLIC_FILE}, or its arrays as .npz'
    if not path:
        raise ValueError(f'{setting} is empty: {why}; {wanted}')
    if not files.path(path).exists():
        raise ValueError(f'{setting} ({path}): there is no such file. {why}; {wanted}')


class Autoencoder:
    """The SD-VAE of a .safetensors or .npz file; dtype: of what is between its norms.

    Errors: ValueError for a file that is damaged or holds other arrays, naming both.
    """

    def __init__(self, path, dtype='float32'):
        check_dtype('vae_dtype', dtype)
        self.path, self.dtype = str(path), dtype
        arrays = state_dicts.read(path)
        try:
            self.weights = sd_vae.from_state_dict(arrays)
        except ValueError as error:
            raise ValueError(
                f'vae ({path}) is not an autoencoder such as {sd_vae.PUBLIC_FILE}: {error}'
            ) from None
        self._placed, self._compiled = {}, {}

    @functools.cached_property
    def content_hash(self) -> str:
        """12 hex digits of the weights, however they are stored."""
        digest = hashlib.sha256()
        for name, array in sorted(self.weights.items()):
            digest.update(f'{name}\0{array.shape}\0'.encode() + array.tobytes())
        return digest.hexdigest()[:12]

    def describe(self) -> dict:
        """What decides its numbers."""
        return {'content_hash': self.content_hash, 'dtype': self.dtype}

    def latent_shape(self, height, width, channels):
        """[h, w, 2l] of what an image becomes. Errors: ValueError for images that do not fit."""
        spec = jax.ShapeDtypeStruct((1, height, width, channels), jnp.uint8)
        return jax.eval_shape(self._encode, self.weights, spec).shape[1:]

    def _encode(self, weights, images):
        pixels = images.astype(jnp.float32) / 255
        return jnp.concatenate(sd_vae.encode(weights, pixels, self.dtype), -1)

    def moments(self, images, devices):
        """Mean and std of the posterior, float32 [n,h,w,2l], of uint8 images [n,f·h,f·w,c].

        The devices of the mesh divide n.
        """
        return self._run('encode', self._encode, images, devices)

    def images(self, encoding, x, devices):
        """The uint8 images of x [n,h,w,l] in the model space of a latents member."""
        decode = lambda weights, x: encoding.decode(x, weights, self.dtype)
        return self._run(encoding, decode, x, devices)

    def _run(self, name, fn, batch, devices):
        if devices not in self._placed:
            self._placed[devices] = jax.device_put(self.weights, mesh.replicated(devices))
        key, args = (name, batch.shape, devices), (self._placed[devices], batch)
        if key not in self._compiled:
            split = mesh.by_sample(devices)
            shardings = {'in_shardings': (mesh.replicated(devices), split), 'out_shardings': split}
            program = jax.jit(mesh.each_own(devices, fn), **shardings)
            compiled = stop.interruptible(
                lambda: program.lower(*args).compile(), doing='compiling the autoencoder'
            )
            self._compiled[key] = compiled
        return self._compiled[key](*args)
