"""The smallest EDM2 networks that have every part, with random live weights; quick to compile."""

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax.backbones import EDM2UNet
from autoguide_jax.denoiser import Denoiser

SETTINGS = {
    'resolution': 4, 'channels': 2, 'label_dim': 3, 'model_channels': 8, 'channel_mult': (1,),
    'num_blocks': 1, 'attn_resolutions': (4,), 'channels_per_head': 8,
}  # fmt: skip


def denoiser(**changes):
    return Denoiser(EDM2UNet(**SETTINGS | changes))


def batch(n=4, seed=0):
    """x [n, 4, 4, 2], sigma [n], labels [n] of which the last is −1."""
    x = jax.random.normal(jax.random.key(seed), (n, 4, 4, 2))
    labels = jnp.arange(n) % 3
    return x, jnp.geomspace(0.1, 3.0, n), labels.at[-1].set(-1)


def variables(network, seed=0):
    """Normal weights, gains around 0.7; drawn on the host, which spares compiling init."""
    net = network.backbone
    x = jax.ShapeDtypeStruct((1, net.resolution, net.resolution, net.channels), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, jnp.ones(1))
    rng = np.random.default_rng(seed)

    def draw(leaf):
        centre, scale = (0, 1) if leaf.ndim else (0.7, 0.2)
        return jnp.asarray(rng.normal(centre, scale, leaf.shape), jnp.float32)

    return jax.tree.map(draw, shapes)
