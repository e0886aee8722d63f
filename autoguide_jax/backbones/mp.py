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
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

EPS = 1e-4
NHWC = ('NHWC', 'HWIO', 'NHWC')


def normalize(x, axes=None):
    """Divide by eps + rms over `axes` (default: all but the first); Eq. (1)."""
    axes = tuple(range(1, x.ndim)) if axes is None else axes
    x32 = x.astype(jnp.float32)
    rms = jnp.sqrt(jnp.mean(jnp.square(x32), axis=axes, keepdims=True))
    return (x32 / (EPS + rms)).astype(x.dtype)


def normalize_weight(w):
    """Unit-rms fan-in of a kernel [..., in, out]: Eq. (1) over everything but the output axis."""
    return normalize(w, tuple(range(w.ndim - 1)))


def normalize_weights(params):
    """Forced weight normalisation: every leaf called 'weight' becomes normalize(w), gains stay."""

    def one(path, leaf):
        return normalize_weight(leaf) if path[-1].key == 'weight' else leaf

    return jax.tree_util.tree_map_with_path(one, params)


def silu(x):
    """Magnitude-preserving SiLU, Eq. (3)."""
    return nn.silu(x) / 0.596


def add(a, b, t=0.5):
    """Magnitude-preserving sum, Eq. (4)."""
    return ((1 - t) * a + t * b) / np.sqrt((1 - t) ** 2 + t**2).astype(np.float32)


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


def conv(x, w):
    """Same-padded stride-1 convolution [n, h, w, in] ∗ [kh, kw, in, out] → [n, h, w, out]."""
    return _conv(x, w)


def _lax_conv(x, w):
    if w.shape[:2] == (1, 1):
        return jnp.matmul(x, w[0, 0], precision=precision_of(x.dtype))
    return lax.conv_general_dilated(
        x, w, (1, 1), 'SAME', dimension_numbers=NHWC, precision=precision_of(x.dtype)
    )


@jax.custom_vjp
def _conv(x, w):
    return _lax_conv(x, w)


def _conv_fwd(x, w):
    return _lax_conv(x, w), (x, w)


def _conv_bwd(saved, g):
    x, w = saved
    dx = jax.vjp(lambda x: _lax_conv(x, w), x)[1](g)[0]
    dw = lax.platform_dependent(x, w, g, cpu=weight_gradient_by_rows, default=weight_gradient)
    return dx, dw


_conv.defvjp(_conv_fwd, _conv_bwd)


def weight_gradient(x, w, g):
    return jax.vjp(lambda w: _lax_conv(x, w), w)[1](g)[0]


def weight_gradient_by_rows(x, w, g):
    """The same gradient as kh matrix products, kw shifts of g side by side.

    XLA's CPU backend runs its own form of this gradient 1.2 to 4 times slower (`bench`). The
    barrier keeps it from repeating the arithmetic that made x and g inside a transposing copy.
    """
    x, g = lax.optimization_barrier((x, g))
    kh, kw, c_in, c_out = w.shape
    height, width = x.shape[1:3]
    xs = jnp.pad(x, ((0, 0), (kh // 2, kh // 2), (0, 0), (0, 0)))
    gs = jnp.pad(g, ((0, 0), (0, 0), (kw // 2, kw // 2), (0, 0)))
    gs = jnp.concatenate([gs[:, :, kw - 1 - j : kw - 1 - j + width] for j in range(kw)], axis=-1)
    gs = gs.reshape(-1, kw * c_out)
    over_pixels = (((0,), (0,)), ((), ()))
    rows = [
        lax.dot_general(xs[:, i : i + height].reshape(-1, c_in), gs, over_pixels) for i in range(kh)
    ]
    return jnp.stack(rows).reshape(kh, c_in, kw, c_out).transpose(0, 2, 1, 3)


def dropout(x, rate, keys, layer):
    """Inverted dropout with one key per sample [n], so a mask never depends on the batch split.

    `layer` is a name that tells the layers of one network apart.
    """

    def keep(key):
        key = jax.random.fold_in(key, crc32(layer.encode()) & 0x7FFFFFFF)
        return jax.random.bernoulli(key, 1 - rate, x.shape[1:])

    return jnp.where(jax.vmap(keep)(keys), x / (1 - rate), 0).astype(x.dtype)


class MPConv(nn.Module):
    """Convolution or, with kernel=(), linear layer with the effective weight of Eq. (2)."""

    features: int
    kernel: Sequence[int] = ()

    @nn.compact
    def __call__(self, x, gain=1.0):
        shape = (*self.kernel, x.shape[-1], self.features)
        w = self.param('weight', nn.initializers.normal(1.0), shape, jnp.float32)
        w = normalize_weight(w) * (gain / np.sqrt(np.prod(shape[:-1])).astype(np.float32))
        w = w.astype(x.dtype)
        return conv(x, w) if self.kernel else jnp.matmul(x, w, precision=precision_of(x.dtype))


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
