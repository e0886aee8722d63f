"""The frozen autoencoder of a file, on the devices of a mesh: images ↔ mean and std of latents.

Its weights are an argument of its programs, which are compiled once per shape. Every device works
on its own images, few at a time, so that the result does not depend on the batch and memory not on
its size.
"""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax import config, files, mesh, state_dicts, stop
from autoguide_jax.frozen import sd_vae

DTYPES = ('float32', 'bfloat16')


def check_dtype(name, dtype):
    """Refuse what is no dtype of the autoencoder, by the name of the setting."""
    if dtype not in DTYPES:
        raise ValueError(f'{name} ({dtype!r}) must be {" or ".join(map(repr, DTYPES))}')


def check_file(path, why):
    """Refuse a path without a file; says which file is meant and why it is needed."""
    wanted = 'give --config.vae=PATH (or gs://…) of the autoencoder: the file '
    wanted += f'{sd_vae.PUBLIC_FILE}, or its arrays as .npz'
    if not path:
        raise ValueError(f'vae is empty: {why}; {wanted}')
    if not files.path(path).exists():
        raise ValueError(f'vae ({path}): there is no such file. {why}; {wanted}')


def open_where_needed(settings, needs, otherwise):
    """The Autoencoder of settings.vae where `needs` says what needs it, else None.

    Errors: ValueError for a file that is missing, damaged or another one; where nothing needs it
    (`otherwise` says why), for settings of it that would do nothing.
    """
    if needs:
        check_file(settings.vae, needs)
        return Autoencoder(settings.vae, settings.vae_dtype)
    check_unused(settings, otherwise)
    return None


def check_unused(settings, why):
    """Refuse vae and vae_dtype where they would do nothing."""
    for name, unset in (('vae', ''), ('vae_dtype', DTYPES[0])):
        if (value := getattr(settings, name)) != unset:
            raise ValueError(f'{name} ({value}) would do nothing: {why}; leave it out')


def check_settings(settings, *counts):
    """Refuse what encodes no images: vae_dtype, or one of these settings, is out of range."""
    check_dtype('vae_dtype', settings.vae_dtype)
    for name in counts:
        if getattr(settings, name) < 1:
            raise ValueError(f'{name} ({getattr(settings, name)}) must be at least 1')


def open_images(settings, why):
    """(the images of settings.data, the Autoencoder of settings.vae, which takes them).

    Errors: ValueError for a set of no images or of others than it takes, and for a file that is
    missing, damaged or another one; why: it is needed.
    """
    check_file(settings.vae, why)
    dataset = config.build(settings.data)
    if (holds := getattr(dataset, 'holds', 'images')) != 'images':
        raise ValueError(
            f'data.name ({settings.data.name}): it holds {holds}; give a set of images'
        )
    vae = Autoencoder(settings.vae, settings.vae_dtype)
    sd_vae.check_images(vae.weights, dataset.resolution, dataset.resolution, dataset.channels)
    return dataset, vae


class Autoencoder:
    """The SD-VAE of a .safetensors or .npz file; dtype: of what is between its norms.

    Errors: ValueError for a file that is damaged or holds other arrays, naming both.
    """

    def __init__(self, path, dtype='float32'):
        check_dtype('vae_dtype', dtype)
        self.dtype = dtype
        arrays = state_dicts.read(path)
        try:
            self.weights = sd_vae.from_state_dict(arrays)
        except ValueError as error:
            raise ValueError(
                f'vae ({path}) is not an autoencoder such as {sd_vae.PUBLIC_FILE}: {error}'
            ) from None
        self._placed, self._compiled = {}, {}

    @property
    def latent_channels(self) -> int:
        return self.weights['post_quant_conv.bias'].shape[0]

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
        sd_vae.check_images(self.weights, height, width, channels)
        spec = jax.ShapeDtypeStruct((1, height, width, channels), jnp.uint8)
        return jax.eval_shape(self._encode, self.weights, spec).shape[1:]

    def _encode(self, weights, images):
        pixels = images.astype(jnp.float32) / 255
        return jnp.concatenate(sd_vae.encode(weights, pixels, self.dtype), -1)

    def moments(self, images, size, devices):
        """Mean and std of the posterior, float32 [n,h,w,2l], of uint8 images [n,f·h,f·w,c].

        n is at most size, which the devices of the mesh divide.
        """
        # Every batch has one size: one program, and the same bits after a restart.
        filled = mesh.put_batch(devices, np.resize(images, (size, *images.shape[1:])))
        return np.asarray(self._run('encode', self._encode, filled, devices))[: len(images)]

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
