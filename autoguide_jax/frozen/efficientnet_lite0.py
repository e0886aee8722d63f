"""EfficientNet-Lite0 (ImageNet) as a pure function (weights, images) → Output.

Architecture: Tan & Le 2019 (arXiv:1905.11946) in the 'lite' variant (no squeeze-and-excitation,
ReLU6): a stem convolution, 16 inverted bottlenecks, a 1×1 head convolution to 1280 channels, mean
over space, a dense layer. Normalisations are folded into the convolutions at loading:
(1) y = s·(w∗x) + b,  s = γ/√(v + 1e-3),  b = β − m·s.
(2) x ← (x − 127)/128 for pixels 0…255 after a bicubic resize with antialias to size×size, aspect
    ignored. 224 is the size of the training; a smaller one is a faster and different metric.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from autoguide_jax.frozen import Output

FEATURES, CLASSES, SIZE = 1280, 1000, 224
PRECISION = jax.lax.Precision.HIGHEST
BN_EPSILON = 1e-3


class Block(NamedTuple):
    """One inverted bottleneck: depthwise kernel and stride, expansion, channels in and out."""

    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int


def _stage(repeats, kernel, stride, expand, inputs, outputs):
    first = Block(kernel, stride, expand, inputs, outputs)
    return [first] + [Block(kernel, 1, expand, outputs, outputs)] * (repeats - 1)


BLOCKS = [
    *_stage(1, 3, 1, 1, 32, 16),
    *_stage(2, 3, 2, 6, 16, 24),
    *_stage(2, 5, 2, 6, 24, 40),
    *_stage(3, 3, 2, 6, 40, 80),
    *_stage(3, 5, 1, 6, 80, 112),
    *_stage(4, 5, 2, 6, 112, 192),
    *_stage(1, 3, 1, 6, 192, 320),
]


def from_state_dict(state: Mapping[str, np.ndarray]) -> dict:
    """Return weights for `apply` from arrays under their published (PyTorch) names.

    Errors: ValueError for a missing or misshapen array and for names left over.
    """
    unused = {name for name in state if not name.endswith('num_batches_tracked')}

    def take(name, shape):
        if name not in state or tuple(state[name].shape) != shape:
            found = tuple(state[name].shape) if name in state else 'nothing'
            raise ValueError(f'efficientnet_lite0: expected {name!r} {shape}, found {found}')
        unused.discard(name)
        return np.asarray(state[name], np.float64)

    def conv(name, norm, shape):
        kernel = take(f'{name}.weight', shape)
        gamma, beta, mean, variance = (
            take(f'{norm}.{part}', shape[:1])
            for part in ('weight', 'bias', 'running_mean', 'running_var')
        )
        scale = gamma / np.sqrt(variance + BN_EPSILON)
        kernel = (kernel * scale[:, None, None, None]).transpose(2, 3, 1, 0)
        bias = beta - mean * scale
        return {'kernel': kernel.astype(np.float32), 'bias': bias.astype(np.float32)}

    weights = {'stem': conv('_conv_stem', '_bn0', (32, 3, 3, 3))}
    for i, block in enumerate(BLOCKS):
        at, inner = f'_blocks.{i}', block.inputs * block.expand
        layers = {}
        if block.expand != 1:
            shape = (inner, block.inputs, 1, 1)
            layers['expand'] = conv(f'{at}._expand_conv', f'{at}._bn0', shape)
        shape = (inner, 1, block.kernel, block.kernel)
        layers['depthwise'] = conv(f'{at}._depthwise_conv', f'{at}._bn1', shape)
        shape = (block.outputs, inner, 1, 1)
        layers['project'] = conv(f'{at}._project_conv', f'{at}._bn2', shape)
        weights[f'block{i}'] = layers
    weights['head'] = conv('_conv_head', '_bn1', (FEATURES, BLOCKS[-1].outputs, 1, 1))
    kernel, bias = take('_fc.weight', (CLASSES, FEATURES)).T, take('_fc.bias', (CLASSES,))
    weights['dense'] = {'kernel': kernel.astype(np.float32), 'bias': bias.astype(np.float32)}
    if unused:
        raise ValueError(f'efficientnet_lite0: unexpected arrays {sorted(unused)[:4]}')
    return weights


def _conv(layer, x, stride=1, groups=1):
    y = jax.lax.conv_general_dilated(
        x,
        layer['kernel'],
        (stride, stride),
        'SAME',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=groups,
        precision=PRECISION,
    )
    return y + layer['bias']


def _bottleneck(block, layers, x):
    y = jax.nn.relu6(_conv(layers['expand'], x)) if block.expand != 1 else x
    y = jax.nn.relu6(_conv(layers['depthwise'], y, block.stride, groups=y.shape[-1]))
    y = _conv(layers['project'], y)
    return x + y if block.stride == 1 and block.inputs == block.outputs else y


@functools.partial(jax.jit, static_argnames='size')
def apply(weights: dict, images: UInt8[Array, 'n h w c'], size: int = SIZE) -> Output:
    """Return features [n, 1280] and logits [n, 1000] of uint8 images, grey or RGB."""
    n, _, _, channels = images.shape
    if channels not in (1, 3):
        raise ValueError(f'efficientnet_lite0 takes 1 or 3 channels, not {channels}')
    x = jnp.broadcast_to(images, (*images.shape[:3], 3)).astype(jnp.float32)
    if x.shape[1:3] != (size, size):
        x = jax.image.resize(x, (n, size, size, 3), 'bicubic', precision=PRECISION)
        x = jnp.clip(x, 0, 255)
    x = jax.nn.relu6(_conv(weights['stem'], (x - 127) / 128, stride=2))
    for i, block in enumerate(BLOCKS):
        x = _bottleneck(block, weights[f'block{i}'], x)
    features = jax.nn.relu6(_conv(weights['head'], x)).mean((1, 2))
    logits = jnp.dot(features, weights['dense']['kernel'], precision=PRECISION)
    return Output(features, logits + weights['dense']['bias'])
