"""InceptionV3 of the graph of 2015-12-05, which FID is defined on: (weights, images) → Output.

Architecture: Szegedy et al. 2015 (arXiv:1512.00567) as TensorFlow's classify_image_graph_def.pb has
it; what differs from later Inceptions is said by pytorch-fid and torch-fidelity, which copy it.
(1) Resize to 299×299, bilinear as TensorFlow 1 did it: output pixel i lies at s = i·W/299 (float32;
    no half-pixel offset, no antialias), between pixels ⌊s⌋ and min(⌊s⌋ + 1, W − 1).
(2) x ← (x − 128)/128 for pixels 0…255; grey images are three equal channels.
(3) y = relu(a·(w∗x) + b),  a = γ/√(v + 1e-3),  b = β − m·a: folded at loading.
(4) 'mean' pools are 3×3 and count only pixels inside; the pool before the last 1×1 convolution of
    mixed_10 (PyTorch's Mixed_7c) is a maximum, where that of mixed_9 (Mixed_7b) is a mean.
(5) features = mean of mixed_10 over its 8×8 places [2048];  logits = features·w + bias [1008].
(6) spatial = channels 0…6 of mixed_6/conv (Mixed_6d.branch1x1) after its relu, 17·17·7 = 2023
    values in the order row, column, channel, as ADM's sFID has them.
The Inception score of ADM, torch-fidelity and NVIDIA's metrics takes the logits without the bias,
as the first one did: so does `apply`, unless told otherwise.
"""

import functools
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from autoguide_jax.frozen import Output, inception_graph

FEATURES, CLASSES, SIZE = 2048, 1008, 299
SPATIAL_BLOCK, SPATIAL_CHANNELS = 'mixed_6', 7
SPATIAL = 17 * 17 * SPATIAL_CHANNELS
PRECISION = jax.lax.Precision.HIGHEST
BN_EPSILON = 1e-3
TORCH_FIRST = 'Conv2d_1a_3x3.conv.weight'
TORCH_PARTS = ('conv.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var', 'bn.weight')
TF_PARTS = ('weight', 'beta', 'mean', 'var')  # without a γ: it is 1
# In files of torchvision's class: counters, and the classifier that only training has.
IGNORED = re.compile(r'.*\.num_batches_tracked|AuxLogits\..*')


def from_state_dict(state: Mapping[str, np.ndarray]) -> dict:
    """Return weights for `apply` from arrays under published names, convolutions [o, i, h, w].

    Names: PyTorch's ('Mixed_6d.branch1x1.conv.weight', '….bn.bias', 'fc.weight'), as in the file of
    pytorch-fid and torch-fidelity; or the graph's ('layers.mixed_6.conv.weight', '….beta',
    '….mean', '….var', 'output.weight'), as in NVIDIA's detector, with '/', '.' or '_' between
    their parts ('mixed_9.tower_mixed_conv' is 'mixed_9/tower/mixed/conv') and γ = 1. The latter are
    those of public conversions of the detector's TorchScript file; its pickle has not been tried.
    Errors: ValueError for a missing or misshapen array and for names left over.
    """
    torch = TORCH_FIRST in state
    given = {k: v for k, v in state.items() if not IGNORED.fullmatch(k)} if torch else _flat(state)
    stems = {
        layer.name: f'{layer.torch}.' if torch else _flat_name(f'{layer.name}/')
        for layer, _ in inception_graph.layers()
    }
    parts, last = (TORCH_PARTS, 'fc.') if torch else (TF_PARTS, 'output_')
    expected = {f'{last}weight': (CLASSES, FEATURES), f'{last}bias': (CLASSES,)}
    for layer, inputs in inception_graph.layers():
        count, height, width = layer.conv[:3]
        shapes = [(count, inputs, height, width), *[(count,)] * 4]
        expected |= {f'{stems[layer.name]}{part}': shape for part, shape in zip(parts, shapes)}
    _check(given, expected)
    weights = {
        name: _folded(*(np.asarray(given[f'{stem}{part}'], np.float64) for part in parts))
        for name, stem in stems.items()
    }
    kernel, bias = given[f'{last}weight'].T, given[f'{last}bias']
    weights['output'] = {'kernel': kernel.astype(np.float32), 'bias': bias.astype(np.float32)}
    return weights


def _check(given, expected):
    """Refuse arrays that are not, by name and shape, those of the network."""
    strange = ', '.join(map(repr, sorted(given.keys() - expected.keys())[:4]))
    for name, shape in expected.items():
        found = tuple(given[name].shape) if name in given else 'nothing'
        if found != shape:
            besides = f', but {strange}' if strange else ''
            raise ValueError(
                f'inception_v3: expected {name!r} {shape}, found {found}{besides}; weights of '
                'other Inceptions, such as that of torchvision, do not serve'
            )
    if strange:
        raise ValueError(f'inception_v3: unexpected arrays {strange}')


def _folded(kernel, beta, mean, variance, gamma=1.0):
    """Equation 3: kernel [h, w, i, o] and bias."""
    scale = gamma / np.sqrt(variance + BN_EPSILON)
    kernel = (kernel * scale[:, None, None, None]).transpose(2, 3, 1, 0)
    bias = beta - mean * scale
    return {'kernel': kernel.astype(np.float32), 'bias': bias.astype(np.float32)}


def _flat_name(name):
    return re.sub('[./]', '_', name).removeprefix('layers_')


def _flat(state):
    """Arrays under names of the graph that are written in one way."""
    found = {}
    for name, array in state.items():
        flat = _flat_name(name)
        if flat in found:
            raise ValueError(f'inception_v3: {name!r} and another name both mean {flat!r}')
        found[flat] = array
    return found


def _positions(count):
    """For output pixels along an axis: the pixels before and after, and the share of the latter."""
    # In float32 as TensorFlow 1: float64 lands elsewhere by up to 2e-5 of a pixel.
    at = np.arange(SIZE, dtype=np.float32) * np.float32(count / SIZE)
    low = at.astype(np.int32)
    return low, np.minimum(low + 1, count - 1), at - low.astype(np.float32)


def resize(x: Float[Array, 'n h w c']) -> Float[Array, 'n 299 299 c']:
    """Return images at 299×299 by equation 1."""
    low, high, share = _positions(x.shape[2])
    x = x[:, :, low] + (x[:, :, high] - x[:, :, low]) * share[:, None]
    low, high, share = _positions(x.shape[1])
    return x[:, low] + (x[:, high] - x[:, low]) * share[:, None, None]


def _convolve(weights, x, conv):
    y = jax.lax.conv_general_dilated(
        x,
        weights['kernel'],
        (conv.stride, conv.stride),
        conv.padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        precision=PRECISION,
    )
    return jax.nn.relu(y + weights['bias'])


def _pool(x, kind):
    window = functools.partial(jax.lax.reduce_window, window_dimensions=(1, 3, 3, 1))
    if kind == 'halve':
        return window(x, -jnp.inf, jax.lax.max, window_strides=(1, 2, 2, 1), padding='VALID')
    window = functools.partial(window, window_strides=(1, 1, 1, 1), padding='SAME')
    if kind == 'max':
        return window(x, -jnp.inf, jax.lax.max)
    inside = window(jnp.ones((1, *x.shape[1:3], 1), x.dtype), 0.0, jax.lax.add)
    return window(x, 0.0, jax.lax.add) / inside


def _run(weights, x, steps):
    """One branch of a block."""
    for step in steps:
        if isinstance(step, str):
            x = _pool(x, step)
        else:
            side = [_convolve(weights[one.name], x, one.conv) for one in step]
            x = jnp.concatenate(side, -1)
    return x


@functools.partial(jax.jit, static_argnames='bias')
def apply(weights: dict, images: UInt8[Array, 'n h w c'], bias: bool = False) -> Output:
    """Return features [n, 2048], logits [n, 1008], spatial [n, 2023] of uint8 images, grey or RGB.

    bias: add the bias of the last layer to the logits.
    Errors: ValueError for other images.
    """
    channels = images.shape[-1]
    if channels not in (1, 3) or images.dtype != jnp.uint8:
        raise ValueError(
            f'inception_v3 takes uint8 images of 1 or 3 channels, not {images.dtype} of {channels}'
        )
    x = (resize(images.astype(jnp.float32)) - 128) / 128
    x, spatial = jnp.broadcast_to(x, (*x.shape[:3], 3)), None
    for name, branches in inception_graph.BLOCKS.items():
        parts = [_run(weights, x, steps) for steps in branches]
        if name == SPATIAL_BLOCK:
            spatial = parts[0][..., :SPATIAL_CHANNELS].reshape(len(x), -1)
        x = jnp.concatenate(parts, -1)
    features = x.mean((1, 2))
    logits = jnp.dot(features, weights['output']['kernel'], precision=PRECISION)
    return Output(features, logits + weights['output']['bias'] if bias else logits, spatial)
