"""Networks that compile or train quickly: the smallest EDM2 with every part, a single convolution,
and a classifier of a data set that is good enough in two seconds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from autoguide_jax import backbones
from autoguide_jax.backbones import EDM2UNet, mp
from autoguide_jax.backbones.edm2_unet import one_hot
from autoguide_jax.denoiser import Denoiser

SETTINGS = {
    'resolution': 4, 'channels': 2, 'label_dim': 3, 'model_channels': 8, 'channel_mult': (1,),
    'num_blocks': 1, 'attn_resolutions': (4,), 'channels_per_head': 8,
}  # fmt: skip
RECIPE = {'epochs': 1, 'min_steps': 60, 'max_steps': 60}
CLASSIFIER = {'name': 'classifier', 'recipe': RECIPE}


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


class OneConv(nn.Module):
    """The least backbone: one magnitude-preserving convolution that hears the label.

    Settings:
      resolution: height and width
      channels: image channels
      label_dim: number of classes; 0 = unconditional
      dropout: dropout rate of the input, training only
    """

    resolution: int
    channels: int
    label_dim: int
    dropout: float = 0.0

    @staticmethod
    def normalize_weights(params):
        return mp.normalize_weights(params)

    @nn.compact
    def __call__(self, x, c_noise, labels=None, dropout_keys=None):
        if dropout_keys is not None and self.dropout > 0:
            x = mp.dropout(x, self.dropout, dropout_keys, 'x')
        gain = self.param('gain', nn.initializers.ones, (), jnp.float32)
        y = mp.MPConv(self.channels, (3, 3), name='conv')(mp.silu(x), gain)
        if self.label_dim:
            told = one_hot(labels, self.label_dim, len(x))
            y = y + mp.MPConv(self.channels, name='label')(told)[:, None, None]
        return y * jnp.cos(c_noise)[:, None, None, None]


@pytest.fixture
def one_conv(monkeypatch):
    """Make OneConv a backbone that configs can name: 'one_conv'."""
    monkeypatch.setitem(backbones.table.table, 'one_conv', 'tiny:OneConv')
