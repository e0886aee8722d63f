"""The SD-VAE (AutoencoderKL, KL-f8) as pure functions (weights, x) → y.

Architecture: Rombach et al. 2022 (arXiv:2112.10752), as in stabilityai/sd-vae-ft-mse: 128 channels
times 1, 2, 4, 4, two residual blocks per level (three in the decoder), attention in the middle.
(1) block: y = conv(silu(norm(x))), twice, plus x, or plus a 1×1 convolution of x for other widths.
(2) norm: GroupNorm of 32 groups, ε = 1e-6, in float32.
(3) attention: x + out(softmax(q·kᵀ/√c)·v) with q, k, v of norm(x), one head.
(4) the encoder ends with the moments (m, ln s²) of a Gaussian: mean m, std s = exp(ln s²/2) with
    ln s² clamped to −30…20.
Weights are a flat dict under their published names, kernels as [h, w, in, out]; widths and numbers
of blocks are those of the arrays. Images go through one by one where they are large, so that memory
does not grow with the batch.
"""

import functools
import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

PUBLIC_FILE = 'diffusion_pytorch_model.safetensors of stabilityai/sd-vae-ft-mse'
GROUPS, EPSILON = 32, 1e-6
PRECISION = jax.lax.Precision.HIGHEST
# Queries whose scores are in memory at once.
QUERIES = 1024
# Images that go through at once have at most so many pixels together.
PIXELS = 512 * 512
# Names of the attention's layers in older files.
OLD_NAMES = {'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'proj_attn': 'to_out.0'}


def from_state_dict(state: Mapping[str, np.ndarray]) -> dict:
    """Return weights for `encode` and `decode` from arrays under their published names.

    Errors: ValueError that names what is missing, of a wrong shape, or left over.
    """
    state = {_new_name(name): array for name, array in state.items()}
    expected = shapes(*_sizes(state))
    weights = {}
    for name, shape in expected.items():
        found = tuple(state[name].shape) if name in state else 'nothing'
        if found != shape:
            raise ValueError(f'sd_vae: expected {name!r} {shape}, found {found}')
        array = np.asarray(state[name], np.float32)
        # XLA on CPU is 20 times slower with kernels [out, in, h, w] inside a loop.
        weights[name] = array.transpose(2, 3, 1, 0).copy() if array.ndim == 4 else array
    if unused := sorted(state.keys() - expected.keys()):
        raise ValueError(f'sd_vae: unexpected arrays {unused[:4]}')
    return weights


def _new_name(name):
    for old, new in OLD_NAMES.items():
        name = name.replace(f'.attentions.0.{old}.', f'.attentions.0.{new}.')
    return name


def _sizes(state):
    """(widths, blocks per level, image channels, latent channels) as the arrays have them."""

    def size(name, axis):
        if name not in state or np.ndim(state[name]) != 4:
            found = tuple(np.shape(state[name])) if name in state else 'nothing'
            raise ValueError(f'sd_vae: expected {name!r} [out, in, h, w], found {found}')
        return np.shape(state[name])[axis]

    block = 'encoder.down_blocks.{}.resnets.{}.conv2.weight'.format
    levels = max(1, _count(state, lambda i: block(i, 0)))
    widths = tuple(size(block(i, 0), 0) for i in range(levels))
    if unfit := [width for width in widths if width % GROUPS]:
        raise ValueError(f'sd_vae: {unfit[0]} channels are no multiple of {GROUPS} (GroupNorm)')
    blocks = _count(state, lambda i: block(0, i))
    return widths, blocks, size('encoder.conv_in.weight', 1), size('decoder.conv_in.weight', 1)


def _count(names, name_of):
    return sum(1 for _ in itertools.takewhile(lambda i: name_of(i) in names, itertools.count()))


def shapes(widths, blocks=2, channels=3, latent_channels=4) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array of an autoencoder of these sizes, by name."""
    found, top = {}, widths[-1]

    def layer(name, *shape):
        found[f'{name}.weight'], found[f'{name}.bias'] = shape, shape[:1]

    def resnet(name, inputs, outputs):
        layer(f'{name}.norm1', inputs)
        layer(f'{name}.conv1', outputs, inputs, 3, 3)
        layer(f'{name}.norm2', outputs)
        layer(f'{name}.conv2', outputs, outputs, 3, 3)
        if inputs != outputs:
            layer(f'{name}.conv_shortcut', outputs, inputs, 1, 1)

    def side(name, levels, repeats, resample):
        inputs = levels[0]
        for i, width in enumerate(levels):
            at = f'{name}.{resample[0]}_blocks.{i}'
            for j in range(repeats):
                resnet(f'{at}.resnets.{j}', inputs if j == 0 else width, width)
            if i < len(levels) - 1:
                layer(f'{at}.{resample[1]}.0.conv', width, width, 3, 3)
            inputs = width
        for j in range(2):
            resnet(f'{name}.mid_block.resnets.{j}', top, top)
        layer(f'{name}.mid_block.attentions.0.group_norm', top)
        for part in OLD_NAMES.values():
            layer(f'{name}.mid_block.attentions.0.{part}', top, top)
        layer(f'{name}.conv_norm_out', inputs)

    side('encoder', widths, blocks, ('down', 'downsamplers'))
    side('decoder', widths[::-1], blocks + 1, ('up', 'upsamplers'))
    layer('encoder.conv_in', widths[0], channels, 3, 3)
    layer('encoder.conv_out', 2 * latent_channels, top, 3, 3)
    layer('decoder.conv_in', top, latent_channels, 3, 3)
    layer('decoder.conv_out', channels, widths[0], 3, 3)
    layer('quant_conv', 2 * latent_channels, 2 * latent_channels, 1, 1)
    layer('post_quant_conv', latent_channels, latent_channels, 1, 1)
    return found


def factor(weights: Mapping) -> int:
    """Return how many pixels a side one latent has."""
    at = 'encoder.down_blocks.{}.downsamplers.0.conv.weight'.format
    return 2 ** _count(weights, at)


def image_channels(weights: Mapping) -> int:
    """Return the channels of the images."""
    return np.shape(weights['decoder.conv_out.bias'])[0]


def _conv(weights, name, x, stride=1, padding='SAME'):
    y = jax.lax.conv_general_dilated(
        x,
        weights[f'{name}.weight'].astype(x.dtype),
        (stride, stride),
        padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        precision=PRECISION,
    )
    return y + weights[f'{name}.bias'].astype(x.dtype)


def _norm(weights, name, x):
    """Equation (2)."""
    n, *space, c = x.shape
    y = x.astype(jnp.float32).reshape(n, -1, GROUPS, c // GROUPS)
    mean = y.mean((1, 3), keepdims=True)
    y = (y - mean) * jax.lax.rsqrt(jnp.var(y, (1, 3), keepdims=True) + EPSILON)
    y = y.reshape(x.shape) * weights[f'{name}.weight'] + weights[f'{name}.bias']
    return y.astype(x.dtype)


def _resnet(weights, name, x):
    """Equation (1)."""
    y = _conv(weights, f'{name}.conv1', jax.nn.silu(_norm(weights, f'{name}.norm1', x)))
    y = _conv(weights, f'{name}.conv2', jax.nn.silu(_norm(weights, f'{name}.norm2', y)))
    if f'{name}.conv_shortcut.weight' in weights:
        x = _conv(weights, f'{name}.conv_shortcut', x)
    return x + y


def _dense(weights, name, x):
    y = jnp.einsum(
        '...i,oi->...o', x, weights[f'{name}.weight'].astype(x.dtype), precision=PRECISION
    )
    return y + weights[f'{name}.bias'].astype(x.dtype)


def _attention(weights, name, x):
    """Equation (3), some queries at a time; the softmax is that over all keys, in float32."""
    n, h, w, c = x.shape
    tokens = h * w
    y = _norm(weights, f'{name}.group_norm', x).reshape(n, tokens, c)
    q, k, v = (_dense(weights, f'{name}.{part}', y) for part in ('to_q', 'to_k', 'to_v'))
    block = max(size for size in range(1, min(tokens, QUERIES) + 1) if tokens % size == 0)

    def attend(some):
        scores = jnp.einsum('nqc,nkc->nqk', some, k, precision=PRECISION)
        share = jax.nn.softmax(scores.astype(jnp.float32) / np.sqrt(c)).astype(x.dtype)
        return jnp.einsum('nqk,nkc->nqc', share, v, precision=PRECISION)

    y = jax.lax.map(attend, jnp.moveaxis(q.reshape(n, -1, block, c), 1, 0))
    y = jnp.moveaxis(y, 0, 1).reshape(n, h, w, c)
    return x + _dense(weights, f'{name}.to_out.0', y)


def _middle(weights, name, x):
    x = _resnet(weights, f'{name}.resnets.0', x)
    x = _attention(weights, f'{name}.attentions.0', x)
    return _resnet(weights, f'{name}.resnets.1', x)


def _levels(weights, name, resample, x):
    """The blocks of every level, each level but the last followed by resample(name, x)."""
    for i in range(_count(weights, lambda i: f'{name}.{i}.resnets.0.conv1.weight')):
        at = f'{name}.{i}'
        for j in range(_count(weights, lambda j: f'{at}.resnets.{j}.conv1.weight')):  # noqa: B023
            x = _resnet(weights, f'{at}.resnets.{j}', x)
        x = resample(at, x)
    return x


def _moments(weights, x):
    def halve(at, x):
        name = f'{at}.downsamplers.0.conv'
        if f'{name}.weight' not in weights:
            return x
        # The published network pads below and to the right alone.
        return _conv(weights, name, x, stride=2, padding=((0, 1), (0, 1)))

    x = _conv(weights, 'encoder.conv_in', x)
    x = _levels(weights, 'encoder.down_blocks', halve, x)
    x = _middle(weights, 'encoder.mid_block', x)
    x = jax.nn.silu(_norm(weights, 'encoder.conv_norm_out', x))
    return _conv(weights, 'quant_conv', _conv(weights, 'encoder.conv_out', x))


def _pixels(weights, x):
    def double(at, x):
        name = f'{at}.upsamplers.0.conv'
        if f'{name}.weight' not in weights:
            return x
        return _conv(weights, name, x.repeat(2, 1).repeat(2, 2))

    x = _conv(weights, 'decoder.conv_in', _conv(weights, 'post_quant_conv', x))
    x = _middle(weights, 'decoder.mid_block', x)
    x = _levels(weights, 'decoder.up_blocks', double, x)
    x = jax.nn.silu(_norm(weights, 'decoder.conv_norm_out', x))
    return _conv(weights, 'decoder.conv_out', x)


def _few_at_a_time(fn, x, pixels, dtype):
    """fn of x [n, …] cast to dtype, float32, for as many at once as have PIXELS pixels or one."""
    one = lambda y: fn(y[None].astype(dtype))[0].astype(jnp.float32)
    return jax.lax.map(one, x, batch_size=max(1, min(len(x), PIXELS // pixels)))


def check_images(weights: dict, h: int, w: int, c: int) -> None:
    """Refuse images that the encoder of these weights does not take."""
    f, channels = factor(weights), image_channels(weights)
    if h % f or w % f or c != channels:
        raise ValueError(
            f'sd_vae: images ({h}x{w}x{c}) must have sides that {f} divides and {channels} channels'
        )


def encode(
    weights: dict, pixels: Float[Array, 'n h w c'], dtype: str = 'float32'
) -> tuple[Float[Array, 'n h/f w/f l'], Float[Array, 'n h/f w/f l']]:
    """Return mean and std (4) of the posterior of images, in the range the weights are for.

    dtype: of what is between the norms. Errors: ValueError for sides that are no multiple of f.
    """
    _, h, w, c = pixels.shape
    check_images(weights, h, w, c)
    moments = _few_at_a_time(functools.partial(_moments, weights), pixels, h * w, dtype)
    mean, logvar = jnp.split(moments, 2, -1)
    return mean, jnp.exp(0.5 * jnp.clip(logvar, -30, 20))


def decode(
    weights: dict, latents: Float[Array, 'n h w l'], dtype: str = 'float32'
) -> Float[Array, 'n h*f w*f c']:
    """Return the images of latents, not clipped, in the range that encode was given.

    dtype: of what is between the norms.
    """
    _, h, w, _ = latents.shape
    pixels = h * w * factor(weights) ** 2
    return _few_at_a_time(functools.partial(_pixels, weights), latents, pixels, dtype)
