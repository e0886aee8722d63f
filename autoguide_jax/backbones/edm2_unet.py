"""The EDM2 U-Net, config G (Karras et al. 2024, arXiv 2312.02696, Fig. 21 and Table 6).

One block:  x → [resample] → (enc: [1×1] → pixel norm) → y = conv(silu(x)) → · (1 + linear(e))
            → silu → dropout → conv → (dec: [1×1]) → mp_sum(x, y, 0.3) → [attention] → clip ±256
Encoder: conv, then per level [down] + num_blocks; every output is a skip. Decoder: in0, in1 at the
lowest level, `up` at the others, then num_blocks + 1 blocks that each take one skip.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from autoguide_jax.backbones import mp

PRESETS = {'xxs': 64, 'xs': 128, 's': 192, 'm': 256, 'l': 320, 'xl': 384, 'xxl': 448}
# What of a block is kept for the gradient; the rest is computed again.
REMAT = {
    'none': jax.checkpoint_policies.everything_saveable,
    'products': jax.checkpoint_policies.save_only_these_names(mp.PRODUCT),
    'block': jax.checkpoint_policies.nothing_saveable,
}


class Attention(nn.Module):
    """Multi-head self-attention with unit-norm q, k, v; [n, h, w, c] → same shape."""

    channels_per_head: int

    @nn.compact
    def __call__(self, x):
        n, h, w, c = x.shape
        heads = c // self.channels_per_head
        qkv = mp.MPConv(3 * c, (1, 1), parts=3, name='attn_qkv')(x)
        qkv = mp.normalize(qkv.reshape(n, h * w, 3, heads, self.channels_per_head), (4,))
        q, k, v = (qkv[:, :, i] for i in range(3))
        y = checkpoint_name(attend(q, k, v).reshape(n, h, w, c), mp.PRODUCT)
        return mp.add(x, mp.MPConv(c, (1, 1), name='attn_proj')(y), 0.3)


def attend(q, k, v):
    """softmax(q·kᵀ/√d)·v for [n, tokens, heads, d]; fused by cuDNN on a GPU in bfloat16.

    On TPU and CPU, and in float32, XLA's own fusion is used: no fused kernel exists for them in
    jax.nn.dot_product_attention, which looks for cuDNN as soon as it is traced.
    """
    if q.dtype == jnp.bfloat16 and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128 and on_cuda():
        return jax.nn.dot_product_attention(q, k, v, implementation='cudnn')
    return attend_plainly(q, k, v)


@jax.checkpoint
def attend_plainly(q, k, v):
    """The same in XLA's own operations.

    The gradient computes the weights [n, heads, tokens, tokens] again instead of keeping them, as
    FlashAttention does (arXiv 2205.14135): they take more memory than all else in the block.
    """
    precision = mp.precision_of(q.dtype)
    logits = jnp.einsum('nqhd,nkhd->nhqk', q, k, precision=precision)
    weights = jax.nn.softmax(logits.astype(jnp.float32) / np.sqrt(q.shape[-1]), axis=-1)
    return jnp.einsum('nhqk,nkhd->nqhd', weights.astype(q.dtype), v, precision=precision)


def on_cuda():
    """Whether programs of this process run on NVIDIA GPUs."""
    return 'cuda' in jax.devices()[0].client.platform_version.lower()


class Block(nn.Module):
    """One residual block; flavor 'enc' or 'dec', resample '', 'down' or 'up'."""

    features: int
    flavor: str
    resample: str
    attention: bool
    channels_per_head: int
    dropout: float

    @nn.compact
    def __call__(self, x, emb, dropout_keys=None):
        if self.resample:
            x = mp.downsample(x) if self.resample == 'down' else mp.upsample(x)
        if self.flavor == 'enc':
            x = mp.normalize(self.skip(x), (3,))
        y = mp.MPConv(self.features, (3, 3), name='conv_res0')(mp.silu(x))
        gain = self.param('emb_gain', nn.initializers.zeros, (), jnp.float32)
        c = mp.MPConv(self.features, name='emb_linear')(emb, gain) + 1
        y = mp.silu(y * c[:, None, None, :])
        if dropout_keys is not None and self.dropout > 0:
            y = mp.dropout(y, self.dropout, dropout_keys, '/'.join(self.path))
        y = mp.MPConv(self.features, (3, 3), name='conv_res1')(y)
        if self.flavor == 'dec':
            x = self.skip(x)
        x = mp.add(x, y, 0.3)
        if self.attention:
            x = Attention(self.channels_per_head, name='attn')(x)
        return mp.clip(x)

    def skip(self, x):
        if x.shape[-1] == self.features:
            return x
        return mp.MPConv(self.features, (1, 1), name='conv_skip')(x)


class EDM2UNet(nn.Module):
    """F(x; c_noise, labels): x [n, resolution, resolution, channels] → the same shape, float32.

    Settings:
      resolution: height and width of the images in model space, pixels
      channels: image channels (3 for RGB, 4 for latents)
      label_dim: number of classes; 0 = unconditional
      model_channels: width of the highest resolution; presets xxs 64 … s 192 … xxl 448
      channel_mult: width of each level over model_channels, highest resolution first
      num_blocks: residual blocks per level in the encoder (one more in the decoder)
      attn_resolutions: resolutions whose blocks have self-attention
      channels_per_head: channels of one attention head
      dropout: dropout rate inside the blocks, training only
      dtype: activations inside the network, float32 or bfloat16; parameters stay float32
      remat: what the backward pass recomputes, for less memory: none (only the weights of
        attention, which all of them do); products (all but what
        convolutions and matrix products give: no more FLOPs that count); block (each whole block
        from its input: one more forward pass). true and false of older runs mean block and none
    Errors: ValueError for sizes that do not halve evenly, or attention with zero heads.
    Source: arXiv 2312.02696, config G.
    """

    resolution: int
    channels: int
    label_dim: int
    model_channels: int = 192
    channel_mult: Sequence[int] = (1, 2, 3, 4)
    num_blocks: int = 3
    attn_resolutions: Sequence[int] = (16, 8)
    channels_per_head: int = 64
    dropout: float = 0.0
    dtype: str = 'float32'
    remat: str | bool = 'none'

    def __post_init__(self):
        if isinstance(self.remat, bool):
            object.__setattr__(self, 'remat', 'block' if self.remat else 'none')
        self.check()
        super().__post_init__()

    def check(self):
        """Refuse an architecture that cannot be built, before any device work."""
        levels = len(self.channel_mult)
        if not levels or self.model_channels < 1 or self.num_blocks < 1:
            raise ValueError('channel_mult, model_channels and num_blocks must not be empty or 0')
        if self.resolution % 2 ** (levels - 1):
            raise ValueError(
                f'resolution ({self.resolution}) must be divisible by {2 ** (levels - 1)}: '
                f'{levels} levels in channel_mult; use fewer levels'
            )
        if self.dtype not in ('float32', 'bfloat16'):
            raise ValueError(f'dtype ({self.dtype}) must be float32 or bfloat16')
        if self.remat not in REMAT:
            raise ValueError(f'remat ({self.remat}) must be one of {", ".join(REMAT)}')
        if self.channels_per_head < 1:
            raise ValueError(f'channels_per_head ({self.channels_per_head}) must be at least 1')
        sizes = [self.resolution >> level for level in range(levels)]
        for size in self.attn_resolutions:
            if size not in sizes:
                raise ValueError(f'attn_resolutions ({size}) is none of the levels, {sizes}')
        if not 0 <= self.dropout < 1:
            raise ValueError(f'dropout ({self.dropout}) must be in [0, 1)')
        for level, mult in enumerate(self.channel_mult):
            width = self.model_channels * mult
            if self.has_attention(level) and width % self.channels_per_head:
                raise ValueError(
                    f'channels_per_head ({self.channels_per_head}) must divide {width}, the width '
                    f'at resolution {self.resolution >> level}, which has attention'
                )

    def has_attention(self, level):
        lowest = level == len(self.channel_mult) - 1
        return lowest or (self.resolution >> level) in tuple(self.attn_resolutions)

    @staticmethod
    def normalize_weights(params):
        """Forced weight normalisation before a training step (arXiv 2312.02696, Eq. 66)."""
        return mp.normalize_weights(params)

    @nn.compact
    def __call__(self, x, c_noise, labels=None, dropout_keys=None):
        dtype = jnp.dtype(self.dtype)
        emb = self.embed(c_noise, labels).astype(dtype)
        x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1).astype(dtype)
        x, skips = self.encode(x, emb, dropout_keys)
        x = self.decode(x, skips, emb, dropout_keys)
        gain = self.param('out_gain', nn.initializers.zeros, (), jnp.float32)
        return mp.MPConv(self.channels, (3, 3), name='out_conv')(x, gain).astype(jnp.float32)

    def embed(self, c_noise, labels):
        """Embedding [n, cemb] of noise level and label."""
        width = self.model_channels * max(self.channel_mult)
        fourier = mp.MPFourier(self.model_channels * self.channel_mult[0], name='emb_fourier')
        emb = mp.MPConv(width, name='emb_noise')(fourier(c_noise))
        if self.label_dim:
            labels = one_hot(labels, self.label_dim, c_noise.shape[0])
            labels = labels * np.sqrt(self.label_dim).astype(np.float32)
            emb = mp.add(emb, mp.MPConv(width, name='emb_label')(labels), 0.5)
        return mp.silu(emb)

    def block(self, level, flavor, kind, resample='', attention=None):
        """The block of a level, named as in the published state dicts."""
        size = self.resolution >> level
        source = {'down': level - 1, 'up': level + 1}.get(resample, level)
        width = self.model_channels * self.channel_mult[source]
        if attention is None:
            attention = size in tuple(self.attn_resolutions)
        make = Block if self.remat == 'none' else nn.remat(Block, policy=REMAT[self.remat])
        return make(
            features=width,
            flavor=flavor,
            resample=resample,
            attention=attention,
            channels_per_head=self.channels_per_head,
            dropout=self.dropout,
            name=f'{flavor}_{size}x{size}_{kind}',
        )

    def encode(self, x, emb, keys):
        """(x at the lowest level, all skips)."""
        width = self.model_channels * self.channel_mult[0]
        size = self.resolution
        x = mp.MPConv(width, (3, 3), name=f'enc_{size}x{size}_conv')(x)
        skips = [x]
        for level in range(len(self.channel_mult)):
            if level:
                x = self.block(level, 'enc', 'down', 'down', attention=False)(x, emb, keys)
                skips.append(x)
            for i in range(self.num_blocks):
                x = self.block(level, 'enc', f'block{i}')(x, emb, keys)
                skips.append(x)
        return x, skips

    def decode(self, x, skips, emb, keys):
        """x at the full resolution; uses up the skips."""
        lowest = len(self.channel_mult) - 1
        for level in range(lowest, -1, -1):
            if level == lowest:
                x = self.block(level, 'dec', 'in0', attention=True)(x, emb, keys)
                x = self.block(level, 'dec', 'in1', attention=False)(x, emb, keys)
            else:
                x = self.block(level, 'dec', 'up', 'up', attention=False)(x, emb, keys)
            for i in range(self.num_blocks + 1):
                x = mp.cat(x, skips.pop(), 0.5)
                x = self.block(level, 'dec', f'block{i}')(x, emb, keys)
        return x


def one_hot(labels, label_dim, n):
    """int32 [n] → [n, label_dim], −1 or None → zeros; float [n, label_dim] passes through."""
    if labels is None:
        return jnp.zeros((n, label_dim), jnp.float32)
    labels = jnp.asarray(labels)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return labels.astype(jnp.float32)
    return jax.nn.one_hot(labels, label_dim, dtype=jnp.float32)
