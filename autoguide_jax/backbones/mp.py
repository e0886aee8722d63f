"""Magnitude-preserving primitives of EDM2 (Karras et al. 2024, arXiv 2312.02696, appendix B).

    (1) normalize(x) = x / (eps + rms(x)),  eps = 1e-4                         [Eq. 47, 66]
    (2) ŵ = normalize(w over all but the output) · gain / sqrt(fan_in)         [Eq. 47, 66]
    (3) mp_silu(x) = silu(x) / 0.596                                           [Eq. 81]
    (4) mp_sum(a, b, t) = ((1−t)a + t b) / sqrt((1−t)² + t²)                   [Eq. 88]
    (5) mp_cat(a, b, t) = sqrt((Na+Nb)/((1−t)²+t²)) · [(1−t)/√Na · a, t/√Nb · b] [Eq. 103]
    (6) fourier(x) = √2 · cos(f x + φ),  f ~ 2πN(0,1), φ ~ 2πU(0,1), frozen    [Eq. 75]

Norms are float32; results return in the dtype of the input. Layout NHWC, kernels HWIO, no bias.
"""

from collections.abc import Sequence
from functools import partial
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jax.ad_checkpoint import checkpoint_name

EPS = 1e-4
NHWC = ('NHWC', 'HWIO', 'NHWC')
CACHED_FLOATS = 2**18  # of g, over all devices, in one convolution of weight_gradient_as_conv
PRODUCT = 'product'  # what the results of convolutions and linear layers are called, for remat
MIN_GROUP = 8  # images in such a convolution: one for each device of a processor


def normalize(x, axes=None):
    """Divide by eps + rms over `axes` (default: all but the first); Eq. (1)."""
    return _normalize(x, tuple(range(1, x.ndim)) if axes is None else tuple(axes))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _normalize(x, axes):
    return _normalize_fwd(x, axes)[0]


def _normalize_fwd(x, axes):
    x32 = x.astype(jnp.float32)
    rms = jnp.sqrt(jnp.mean(jnp.square(x32), axis=axes, keepdims=True))
    return (x32 / (EPS + rms)).astype(x.dtype), (x, rms)


def _normalize_bwd(axes, saved, g):
    """dx = g/(eps+r) − x·mean(g·x)/(r·(eps+r)²), in one pass over x and g; r = 0 gives g/eps."""
    x, rms = saved
    x32, g32, scale = x.astype(jnp.float32), g.astype(jnp.float32), 1 / (EPS + rms)
    along = jnp.mean(g32 * x32, axis=axes, keepdims=True) * scale**2 / jnp.maximum(rms, 1e-30)
    return ((g32 * scale - x32 * along).astype(x.dtype),)


_normalize.defvjp(_normalize_fwd, _normalize_bwd)


def normalize_weight(w):
    """Unit-rms fan-in of a kernel [..., in, out]: Eq. (1) over everything but the output axis."""
    return normalize(w, tuple(range(w.ndim - 1)))


def normalize_weights(params):
    """Forced weight normalisation: every leaf called 'weight' becomes normalize(w), gains stay."""

    def one(path, leaf):
        return normalize_weight(leaf) if path[-1].key == 'weight' else leaf

    return jax.tree_util.tree_map_with_path(one, params)


@jax.custom_vjp
def silu(x):
    """Magnitude-preserving SiLU, Eq. (3). Only x is kept for the gradient."""
    return x / (0.596 * (1 + jnp.exp(-x)))


def _silu_bwd(x, g):
    x32 = x.astype(jnp.float32)
    s = 0.5 + 0.5 * jnp.tanh(0.5 * x32)
    return ((g * s * (1 + x32 * (1 - s)) / 0.596).astype(g.dtype),)


silu.defvjp(lambda x: (silu(x), x), _silu_bwd)


@jax.custom_vjp
def clip(x):
    """x within ±256; the gradient passes where the result, as it is rounded, is inside."""
    return jnp.clip(x, -256, 256)


# What is kept is the result, which the next layer keeps anyway; x may go.
clip.defvjp(lambda x: (clip(x),) * 2, lambda y, g: (jnp.where(jnp.abs(y) < 256, g, 0),))


def add(a, b, t=0.5):
    """Magnitude-preserving sum, Eq. (4)."""
    return ((1 - t) * a + t * b) / float(np.sqrt((1 - t) ** 2 + t**2))


def cat(a, b, t=0.5):
    """Magnitude-preserving concatenation over channels (last axis), Eq. (5)."""
    na, nb = a.shape[-1], b.shape[-1]
    scale = np.sqrt((na + nb) / ((1 - t) ** 2 + t**2))
    wa, wb = float(scale / np.sqrt(na) * (1 - t)), float(scale / np.sqrt(nb) * t)
    return jnp.concatenate([wa * a, wb * b], axis=-1)


def downsample(x, kernel=(1, 1)):
    """Halve [n, h, w, c] with a separable even-length filter; [1, 1] is the 2×2 mean."""
    f = _resample_kernel(kernel, x.dtype, x.shape[-1])
    return _resample(x, f, len(kernel), window_strides=(2, 2))


def upsample(x, kernel=(1, 1)):
    """Double [n, h, w, c]: the transpose of `downsample` times 4; [1, 1] repeats pixels."""
    if tuple(kernel) == (1, 1):
        return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    f = _resample_kernel(kernel, x.dtype, x.shape[-1])[::-1, ::-1] * 4
    n = len(kernel)
    pad = n - 1 - (n - 1) // 2
    return lax.conv_general_dilated(
        x,
        f,
        (1, 1),
        [(pad, pad), (pad, pad)],
        lhs_dilation=(2, 2),
        dimension_numbers=NHWC,
        feature_group_count=x.shape[-1],
    )


def _resample(x, f, n, window_strides):
    if n == 2 and x.shape[1] % 2 == 0 and bool((f == f[0, 0]).all()):
        b, h, w, c = x.shape
        return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    pad = (n - 1) // 2
    return lax.conv_general_dilated(
        x,
        f,
        window_strides,
        [(pad, pad), (pad, pad)],
        dimension_numbers=NHWC,
        feature_group_count=x.shape[-1],
    )


def _resample_kernel(kernel, dtype, channels):
    f = np.asarray(kernel, np.float32)
    f = np.outer(f, f) / f.sum() ** 2
    return np.tile(f[:, :, None, None], (1, 1, 1, channels)).astype(dtype)


def precision_of(dtype):
    """HIGHEST for float32, so that a TPU does not round the inputs to bfloat16."""
    return lax.Precision.HIGHEST if dtype == jnp.float32 else lax.Precision.DEFAULT


@jax.custom_vjp
def conv(x, w):
    """Same-padded stride-1 convolution [n, h, w, in] ∗ [kh, kw, in, out] → [n, h, w, out]."""
    return _lax_conv(x, w)


def _lax_conv(x, w):
    precision = precision_of(x.dtype)
    if w.shape[:2] == (1, 1):
        return jnp.matmul(x, w[0, 0], precision=precision)
    return lax.conv_general_dilated(
        x, w, (1, 1), 'SAME', dimension_numbers=NHWC, precision=precision
    )


def _conv_bwd(saved, g):
    x, w = saved
    dx = conv(g, jnp.flip(w, (0, 1)).swapaxes(2, 3))
    if w.shape[:2] == (1, 1):
        dw = jnp.tensordot(x, g, ((0, 1, 2), (0, 1, 2)), precision=precision_of(x.dtype))
        return dx, dw[None, None]
    by_platform = {'cpu': weight_gradient_as_conv, 'default': weight_gradient}
    return dx, lax.platform_dependent(x, w, g, **by_platform)


conv.defvjp(lambda x, w: (conv(x, w), (x, w)), _conv_bwd)


def weight_gradient(x, w, g):
    """The gradient of ⟨conv(x, w), g⟩ with respect to w, as JAX derives it."""
    return jax.linear_transpose(lambda w: _lax_conv(x, w), w)(g)[0]


def weight_gradient_as_conv(x, w, g):
    """The same as a plain convolution: images play the channels, g plays the kernel.

    XLA's CPU backend runs its own form 1.2 to 4 times slower, and 20 times inside a loop, which
    microbatches are. The images are taken in k groups, so that the g of one stays in the cache.
    """
    kh, kw, _, c_out = w.shape
    n, height, width = x.shape[:3]
    counts = [k for k in range(1, n + 1) if n % k == 0 and n // k >= MIN_GROUP] or [1]
    fitting = (k for k in counts if height * width * c_out * n // k <= CACHED_FLOATS)
    k = next(fitting, counts[-1])
    x, g = (a.reshape(n // k, k, *a.shape[1:]) for a in (x, g))
    pad = ((kh // 2, kh // 2), (kw // 2, kw // 2))
    total = 0
    for i in range(k):
        images_last, kernel = x[:, i].transpose(3, 1, 2, 0), g[:, i].transpose(1, 2, 0, 3)
        total += lax.conv_general_dilated(images_last, kernel, (1, 1), pad, dimension_numbers=NHWC)
    return total.transpose(1, 2, 0, 3)


def dropout(x, rate, keys, layer):
    """Inverted dropout with one key per sample [n], so a mask never depends on the batch split.

    `layer` is a name that tells the layers of one network apart. keys may be (keys, turn): the
    masks at the turns 0, 1/k, …, (k−1)/k drop every unit equally often (systematic sampling).
    """
    keys, turn = keys if isinstance(keys, tuple) else (keys, 0.0)

    def keep(key):
        key = jax.random.fold_in(key, crc32(layer.encode()) & 0x7FFFFFFF)
        return (jax.random.uniform(key, x.shape[1:]) + turn) % 1 < 1 - rate

    return jnp.where(jax.vmap(keep)(keys), x / (1 - rate), 0).astype(x.dtype)


class MPConv(nn.Module):
    """Convolution or, with kernel=(), linear layer with the effective weight of Eq. (2).

    parts > 1: the weight stores the outputs of that many parts in turn; they come out part by part.
    The collection 'ready' (denoiser.with_ready_weights) holds effective weights that are made
    already: a sampler makes them once, not in every evaluation.
    """

    features: int
    kernel: Sequence[int] = ()
    parts: int = 1

    @nn.compact
    def __call__(self, x, gain=1.0):
        if self.has_variable('ready', 'weight'):
            w = self.get_variable('ready', 'weight')
        else:
            shape = (*self.kernel, x.shape[-1], self.features)
            w = self.param('weight', nn.initializers.normal(1.0), shape, jnp.float32)
            w = self.effective(w, gain).astype(x.dtype)
        if self.is_mutable_collection('ready') and not self.is_initializing():
            self.put_variable('ready', 'weight', w)
        product = conv if self.kernel else partial(jnp.matmul, precision=precision_of(x.dtype))
        return checkpoint_name(product(x, w), PRODUCT)

    def effective(self, w, gain):
        """Eq. (2), float32."""
        shape = w.shape
        w = normalize_weight(w) * (gain / np.sqrt(np.prod(shape[:-1])).astype(np.float32))
        return jnp.swapaxes(w.reshape(*shape[:-1], -1, self.parts), -1, -2).reshape(shape)


class MPFourier(nn.Module):
    """Random Fourier features of a scalar [n] → [n, features], Eq. (6); frozen buffers."""

    features: int

    @nn.compact
    def __call__(self, x):
        def draw(sampler):
            return lambda: 2 * np.pi * sampler(self.make_rng('params'), (self.features,))

        freqs = self.variable('buffers', 'freqs', draw(jax.random.normal)).value
        phases = self.variable('buffers', 'phases', draw(jax.random.uniform)).value
        return np.sqrt(2).astype(np.float32) * jnp.cos(x[:, None] * freqs + phases)
