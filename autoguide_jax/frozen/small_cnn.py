"""A small image classifier, 8×8 to 32×32, whose penultimate layer serves as a feature space.

(1) x ← x/127.5 − 1;  a 3×3 convolution to 32 channels;
(2) one 3×3 convolution with stride 2 to 64 channels per halving, until the longer side is ≤ 4;
(3) a 3×3 convolution, 64 → 64;  flatten;
(4) h = gelu(dense to 64);  logits = dense(h);  features = scale·h, scale a constant, 1 at first.
gelu after every convolution. The features are smooth and not sparse, so that Gaussian moments and
Euclidean neighbours mean something.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from autoguide_jax.frozen import Output

FEATURES = 64
WIDTHS = (32, 64)
PRECISION = jax.lax.Precision.HIGHEST


def _halvings(height: int, width: int) -> int:
    return max(0, math.ceil(math.log2(max(height, width) / 4)))


def init(key: Array, image_shape: tuple[int, int, int], classes: int) -> dict:
    """Return random weights for images of shape (h, w, c) and a number of classes."""
    height, width, channels = image_shape
    if not 4 <= min(height, width) <= max(height, width) <= 64:
        raise ValueError(f'small_cnn takes images of 4 to 64 pixels a side, not {height}×{width}')
    if classes < 2:
        raise ValueError(f'small_cnn needs at least 2 classes, not {classes}')
    narrow, wide = WIDTHS
    halvings = _halvings(height, width)
    ins = [channels, *([narrow] + [wide] * halvings)[: halvings + 1]]
    outs = [narrow, *[wide] * (halvings + 1)]
    shapes = {f'conv{i}': (3, 3, a, b) for i, (a, b) in enumerate(zip(ins, outs))}
    for _ in range(halvings):
        height, width = -(-height // 2), -(-width // 2)
    shapes['dense'] = (height * width * wide, FEATURES)
    shapes['head'] = (FEATURES, classes)
    weights = {}
    for i, (name, shape) in enumerate(shapes.items()):
        gain = 1.0 if name == 'head' else 2.0
        scale = math.sqrt(gain / math.prod(shape[:-1]))
        kernel = scale * jax.random.normal(jax.random.fold_in(key, i), shape, jnp.float32)
        weights[name] = {'kernel': kernel, 'bias': jnp.zeros(shape[-1], jnp.float32)}
    weights['dense']['scale'] = jnp.ones((), jnp.float32)
    return weights


def apply_pixels(
    weights: dict, pixels: Float[Array, 'n h w c']
) -> tuple[Float[Array, 'n 64'], Float[Array, 'n k']]:
    """Return (features, logits) of float pixels in 0…255; differentiable, for training."""
    x = pixels.astype(jnp.float32) / 127.5 - 1
    last = sum(name.startswith('conv') for name in weights) - 1
    for i in range(last + 1):
        stride = 1 if i in (0, last) else 2
        x = jax.lax.conv_general_dilated(
            x,
            weights[f'conv{i}']['kernel'],
            (stride, stride),
            'SAME',
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            precision=PRECISION,
        )
        x = jax.nn.gelu(x + weights[f'conv{i}']['bias'])
    x = x.reshape(x.shape[0], -1)
    h = jax.nn.gelu(_dense(weights['dense'], x))
    return h * weights['dense']['scale'], _dense(weights['head'], h)


def _dense(layer, x):
    return jnp.dot(x, layer['kernel'], precision=PRECISION) + layer['bias']


@jax.jit
def apply(weights: dict, images: UInt8[Array, 'n h w c']) -> Output:
    """Return features [n, 64] and logits [n, classes] of uint8 images."""
    return Output(*apply_pixels(weights, images.astype(jnp.float32)))
