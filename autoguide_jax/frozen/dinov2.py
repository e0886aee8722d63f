"""DINOv2 ViT-S, B and L of patches of 14 pixels as a pure function (weights, images) → Output.

Oquab et al. 2023 (arXiv:2304.07193); registers: Darcet et al. 2023 (arXiv:2309.16588).
(1) x: bicubic resize with antialias (a = −1/2) to 224×224, aspect ignored, neither rounded nor
    clipped; x ← (x/255 − mean)/std of ImageNet.
(2) tokens: class token + p_0;  registers, if any;  16×16 patches, W·patch + b + p.
(3) block: x ← x + γ₁·proj(attention(norm(x)));  x ← x + γ₂·fc2(gelu(fc1(norm(x)))).
    Heads of 64; softmax(q·k/8)·v; gelu with erf; LayerNorm with ε = 1e-6.
(4) features: the class token of the last LayerNorm.

The positions p are published for 37×37 patches and interpolated at loading, by one of FORMULAS.
'hub', the default, is that of torch.hub's facebookresearch/dinov2: bicubic with a = −3/4, without
antialias, at (i + 1/2)·37/16.1 − 1/2, as the scale (16 + 0.1)/37 is given to torch and not the
size; with registers by size, with antialias and a = −1/2. 'transformers' is that of transformers'
Dinov2Model: by size in both cases, the former with a = −3/4 and without antialias.

Known: FD-DINOv2's authors (Stein et al. 2023, arXiv:2306.04675, dgm-eval) take the hub's model; the
hub's formula stands in its vision_transformer.py, offset 0.1 (dinov2 issue 8 of its ancestor dino
says why), 0.0 for registers. Assumed: that EDM2's published numbers come of the same one, and that
both ran in float32. dgm-eval resizes with Pillow, which rounds; (1) is what EDM2's metrics do.
"""

import functools
import itertools
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from autoguide_jax import frozen

SIZE, PATCH, HEAD = 224, 14, 64
GRID = SIZE // PATCH
PRECISION = jax.lax.Precision.HIGHEST
EPSILON = 1e-6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FORMULAS = ('hub', 'transformers')
OFFSET = 0.1  # of the hub's scale
# (width, depth) of what is published; g/14 has (1536, 40) and other layers.
NAMES = {(384, 12): 'ViT-S/14', (768, 12): 'ViT-B/14', (1024, 24): 'ViT-L/14'}
SWIGLU = re.compile(r'\.mlp\.(w12|w3|weights_in|weights_out)\.')
# transformers' names → the original ones.
RENAMED = (
    (r'^dinov2(_with_registers)?\.', ''),
    (r'^embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.', ''),
    (r'^encoder\.layer\.', 'blocks.'),
    (r'\.attention\.attention\.', '.attn.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.layer_scale([12])\.lambda1$', r'.ls\1.gamma'),
    (r'^layernorm\.', 'norm.'),
)
QKV = ('query', 'key', 'value')


def from_state_dict(state: Mapping[str, np.ndarray], formula: str = 'hub') -> dict:
    """Return weights for `apply` from arrays under the original names or transformers'.

    formula: of FORMULAS. The blocks' arrays are stacked, [depth, …]; width and depth are those of
    the arrays. Errors: ValueError for another formula, a missing or misshapen array, names left
    over, and ViT-g/14.
    """
    if formula not in FORMULAS:
        raise ValueError(f'dinov2: formula {formula!r} must be one of {", ".join(FORMULAS)}')
    state = _original(state)
    if any(map(SWIGLU.search, state)):
        raise ValueError('dinov2: ViT-g/14 (SwiGLU layers) is not supported; take S, B or L/14')
    unused = set(state) - {'mask_token'}

    def take(name, *shape):
        found = np.shape(state[name]) if name in state else 'nothing'
        if found != shape:
            raise ValueError(f'dinov2: expected {name!r} {shape}, found {found}')
        unused.discard(name)
        return np.asarray(state[name], np.float32)

    depth, width, hidden, registers, side = _sizes(state)
    positions = take('pos_embed', 1, 1 + side * side, width)[0]
    kernel = take('patch_embed.proj.weight', width, 3, PATCH, PATCH)
    weights = {
        'class': take('cls_token', 1, 1, width)[0] + positions[:1],
        'registers': np.zeros((0, width), np.float32),
        'positions': _positions(positions[1:], side, formula, bool(registers)),
        'patch': {
            'weight': kernel.transpose(0, 2, 3, 1).reshape(width, -1),
            'bias': take('patch_embed.proj.bias', width),
        },
        'norm': {part: take(f'norm.{part}', width) for part in ('weight', 'bias')},
    }
    if registers:
        weights['registers'] = take('register_tokens', 1, registers, width)[0]
    weights['blocks'] = {
        name: np.stack([take(f'blocks.{i}.{name}', *shape) for i in range(depth)])
        for name, shape in _block_shapes(width, hidden).items()
    }
    if unused:
        raise ValueError(f'dinov2: unexpected arrays {sorted(unused)[:4]}')
    return weights


def _original(state):
    """The arrays under the original names, where q, k and v are one."""
    renamed = {}
    for name, array in state.items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise ValueError(f'dinov2: two arrays for {name!r}')
        renamed[name] = array
    for name in [name for name in renamed if '.attn.query.' in name]:
        names = [name.replace('.query.', f'.{part}.') for part in QKV]
        if all(part in renamed for part in names):
            joined = np.concatenate([renamed.pop(part) for part in names])
            renamed[name.replace('.query.', '.qkv.')] = joined
    return renamed


def _sizes(state):
    """(depth, width, hidden width, registers, side of the positions) as the arrays have them."""

    def size(name, axis, ndim):
        if np.ndim(state.get(name)) != ndim:
            found = np.shape(state[name]) if name in state else 'nothing'
            raise ValueError(f'dinov2: expected {name!r} of {ndim} axes, found {found}')
        return np.shape(state[name])[axis]

    depth = sum(
        1 for _ in itertools.takewhile(lambda i: f'blocks.{i}.norm1.weight' in state, range(1000))
    )
    width, positions = size('cls_token', 2, 3), size('pos_embed', 1, 3) - 1
    side = round(max(positions, 0) ** 0.5)
    if width < HEAD or width % HEAD or side < 1 or side * side != positions:
        raise ValueError(
            f'dinov2: width {width} must be a multiple of {HEAD}, positions {positions} a square'
        )
    registers = size('register_tokens', 1, 3) if 'register_tokens' in state else 0
    return depth, width, size('blocks.0.mlp.fc1.weight', 0, 2), registers, side


def _block_shapes(width, hidden):
    layers = {
        'attn.qkv': (3 * width, width), 'attn.proj': (width, width),
        'mlp.fc1': (hidden, width), 'mlp.fc2': (width, hidden),
    }  # fmt: skip
    shapes = {f'{name}.weight': shape for name, shape in layers.items()}
    shapes |= {f'{name}.bias': shape[:1] for name, shape in layers.items()}
    vectors = ('norm1.weight', 'norm1.bias', 'norm2.weight', 'norm2.bias', 'ls1.gamma', 'ls2.gamma')
    return shapes | dict.fromkeys(vectors, (width,))


def name_of(weights: Mapping) -> str:
    """Return what the network is called: 'ViT-L/14', 'ViT-B/14 with 4 registers', …"""
    depth, width = np.shape(weights['blocks']['ls1.gamma'])
    name = NAMES.get((width, depth), f'ViT of {depth} blocks of {width}')
    registers = len(weights['registers'])
    return f'{name} with {registers} registers' if registers else name


def _cubic(x, a):
    """Keys's kernel, which is 0 from 2 on."""
    x = np.abs(x)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


@functools.cache
def resampling(
    inputs: int, outputs: int, antialias: bool = True, scale: float | None = None
) -> Float[np.ndarray, 'outputs inputs']:
    """Return the matrix of torch's bicubic interpolation of a line, float64.

    antialias: a = −1/2, a kernel as wide as the spacing of the outputs, weights of what is outside
    shared among the rest; otherwise a = −3/4 and the edges repeated. scale: inputs per output, None
    = that of the sizes.
    """
    scale = inputs / outputs if scale is None else scale
    centres = (np.arange(outputs)[:, None] + 0.5) * scale - 0.5
    if antialias:
        matrix = _cubic((np.arange(inputs) - centres) / max(scale, 1.0), -0.5)
        return matrix / matrix.sum(1, keepdims=True)
    taps = np.floor(centres).astype(int) + np.arange(-1, 3)
    matrix = np.zeros((outputs, inputs))
    at = (np.arange(outputs)[:, None], np.clip(taps, 0, inputs - 1))
    np.add.at(matrix, at, _cubic(taps - centres, -0.75))
    return matrix


def _positions(published, side, formula, registers):
    """The positions of GRID×GRID patches [GRID², width] by a formula, see the head of the file."""
    if side == GRID:
        return published
    scale = side / (GRID + OFFSET) if formula == 'hub' and not registers else None
    line = resampling(side, GRID, antialias=registers, scale=scale)
    square = published.reshape(side, side, -1).astype(np.float64)
    found = np.einsum('ai,bj,ijd->abd', line, line, square, optimize=True)
    return found.reshape(GRID * GRID, -1).astype(np.float32)


def preprocess(images: UInt8[Array, 'n h w c']) -> Float[Array, 'n 224 224 3']:
    """Equation (1) for grey or RGB images."""
    _, height, width, channels = images.shape
    if channels not in (1, 3):
        raise ValueError(f'dinov2 takes 1 or 3 channels, not {channels}')
    x = images.astype(jnp.float32)
    if (height, width) != (SIZE, SIZE):
        rows, columns = (resampling(side, SIZE).astype(np.float32) for side in (height, width))
        x = jnp.einsum('ah,nhwc->nawc', rows, x, precision=PRECISION)
        x = jnp.einsum('bw,nawc->nabc', columns, x, precision=PRECISION)
    x = jnp.broadcast_to(x, (*x.shape[:3], 3))
    return (x / 255 - np.float32(MEAN)) / np.float32(STD)


def _dense(x, weight, bias):
    return jnp.einsum('...i,oi->...o', x, weight, precision=PRECISION) + bias


def _norm(x, weight, bias):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(x.var(-1, keepdims=True) + EPSILON) * weight + bias


def _attention(x, qkv):
    n, tokens, width = x.shape
    q, k, v = jnp.moveaxis(qkv.reshape(n, tokens, 3, width // HEAD, HEAD), 2, 0)
    scores = jnp.einsum('nqhd,nkhd->nhqk', q, k, precision=PRECISION)
    share = jax.nn.softmax(scores / HEAD**0.5)
    return jnp.einsum('nhqk,nkhd->nqhd', share, v, precision=PRECISION).reshape(x.shape)


def _block(x, w):
    """Equation (3)."""
    layer = lambda name, x: _dense(x, w[f'{name}.weight'], w[f'{name}.bias'])
    norm = lambda name, x: _norm(x, w[f'{name}.weight'], w[f'{name}.bias'])
    y = _attention(x, layer('attn.qkv', norm('norm1', x)))
    x = x + w['ls1.gamma'] * layer('attn.proj', y)
    y = jax.nn.gelu(layer('mlp.fc1', norm('norm2', x)), approximate=False)
    return x + w['ls2.gamma'] * layer('mlp.fc2', y)


def apply_pixels(weights: dict, pixels: Float[Array, 'n 224 224 3']) -> Float[Array, 'n d']:
    """Return the features, equations (2) to (4), of preprocessed pixels."""
    n, width = len(pixels), weights['class'].shape[-1]
    patches = pixels.reshape(n, GRID, PATCH, GRID, PATCH, 3).swapaxes(2, 3)
    patches = _dense(patches.reshape(n, GRID * GRID, -1), **weights['patch'])
    first = jnp.concatenate([weights['class'], weights['registers']])
    first = jnp.broadcast_to(first, (n, *first.shape[:1], width))
    x = jnp.concatenate([first, patches + weights['positions']], 1)
    x, _ = jax.lax.scan(lambda x, w: (_block(x, w), None), x, weights['blocks'])
    return _norm(x[:, 0], **weights['norm'])


@jax.jit
def apply(weights: dict, images: UInt8[Array, 'n h w c']) -> frozen.Output:
    """Return the features [n, width] of uint8 images, grey or RGB, of any size."""
    return frozen.Output(apply_pixels(weights, preprocess(images)))
