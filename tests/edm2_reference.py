"""The EDM2 network once more, naively: NumPy in float64, channels first, published names.

Written from the equations (arXiv 2312.02696, App. B; 2206.00364, Table 1) without a look at the
networks of autoguide_jax, of which it imports nothing: what the two share is the paper.
"""

import math

import numpy as np

WIDTHS = {'xxs': 64, 'xs': 128, 's': 192, 'm': 256, 'l': 320, 'xl': 384, 'xxl': 448}
MULT, NUM_BLOCKS, ATTENTION = (1, 2, 3, 4), 3, (16, 8)


def normalize(x, axes):
    """x / (1e-4 + root mean square of x over axes)."""
    return x / (1e-4 + np.sqrt(np.mean(np.square(x), axis=axes, keepdims=True)))


def effective(weight, gain=1.0):
    """ŵ = normalize(w per output) · gain / √fan_in, float64 [out, in, …]."""
    weight = np.asarray(weight, np.float64)
    axes = tuple(range(1, weight.ndim))
    return normalize(weight, axes) * float(gain) / math.sqrt(weight[0].size)


def linear(x, weight, gain=1.0):
    """[n, in] → [n, out]."""
    return x @ effective(weight, gain).T


def conv(x, weight, gain=1.0):
    """[n, in, h, w] → [n, out, h, w], zeros around, one shift of the image per tap."""
    w = effective(weight, gain)
    n, _, height, width = x.shape
    ky, kx = w.shape[2:]
    around = ((0, 0), (0, 0), (ky // 2, ky // 2), (kx // 2, kx // 2))
    padded = np.pad(x, around)
    y = np.zeros((n, len(w), height, width))
    for i in range(ky):
        for j in range(kx):
            part = padded[:, :, i : i + height, j : j + width].reshape(n, x.shape[1], -1)
            y += (w[:, :, i, j] @ part).reshape(y.shape)
    return y


def silu(x):
    """x·sigmoid(x) / 0.596."""
    return x * (0.5 + 0.5 * np.tanh(x / 2)) / 0.596


def mix(a, b, t):
    """Magnitude-preserving sum."""
    return ((1 - t) * a + t * b) / math.sqrt((1 - t) ** 2 + t**2)


def join(a, b, t=0.5):
    """Magnitude-preserving concatenation over channels."""
    na, nb = a.shape[1], b.shape[1]
    c = math.sqrt((na + nb) / ((1 - t) ** 2 + t**2))
    return np.concatenate([c / math.sqrt(na) * (1 - t) * a, c / math.sqrt(nb) * t * b], axis=1)


def fourier(value, freqs, phases):
    """[n] → [n, features]."""
    freqs, phases = (np.asarray(v, np.float64) for v in (freqs, phases))
    return math.sqrt(2) * np.cos(value[:, None] * freqs + phases)


def down(x):
    """Mean of each 2×2 block."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def up(x):
    """Every pixel four times."""
    return x.repeat(2, axis=2).repeat(2, axis=3)


def attend(x, qkv, proj, head):
    """Self-attention of all pixels, head by head."""
    n, c, h, w = x.shape
    parts = conv(x, qkv).reshape(n, c // head, head, 3, h * w)
    q, k, v = (normalize(parts[:, :, :, i], (2,)) for i in range(3))
    score = np.einsum('nhcq,nhck->nhqk', q, k, optimize=True) / math.sqrt(head)
    score = np.exp(score - score.max(axis=-1, keepdims=True))
    score /= score.sum(axis=-1, keepdims=True)
    y = np.einsum('nhqk,nhck->nhcq', score, v, optimize=True)
    return mix(x, conv(y.reshape(n, c, h, w), proj), 0.3)


def block(state, name, x, e, head, resample=lambda x: x):
    """One block; its name tells encoder from decoder, its members what it has."""
    get = lambda member: state.get(f'{name}.{member}')
    encoder, skip = name.startswith('unet.enc'), get('conv_skip.weight')
    shortcut = lambda x: x if skip is None else conv(x, skip)
    x = resample(x)
    if encoder:
        x = normalize(shortcut(x), (1,))
    y = conv(silu(x), get('conv_res0.weight'))
    c = linear(e, get('emb_linear.weight'), get('emb_gain')) + 1
    y = conv(silu(y * c[:, :, None, None]), get('conv_res1.weight'))
    x = mix(x if encoder else shortcut(x), y, 0.3)
    if get('attn_qkv.weight') is not None:
        x = attend(x, get('attn_qkv.weight'), get('attn_proj.weight'), head)
    return np.clip(x, -256, 256)


def embed(state, c_noise, labels):
    """[n] and one-hot (or soft) labels [n, classes] or None → [n, c_emb]."""
    features = fourier(c_noise, state['unet.emb_fourier.freqs'], state['unet.emb_fourier.phases'])
    e = linear(features, state['unet.emb_noise.weight'])
    table = state.get('unet.emb_label.weight')
    if table is not None:
        classes = table.shape[1]
        labels = np.zeros((len(c_noise), classes)) if labels is None else labels
        told = np.asarray(labels, np.float64) * math.sqrt(classes)
        e = mix(e, linear(told, table), 0.5)
    return silu(e)


def unet(state, x, c_noise, labels, head):
    """F(x; c_noise, labels), [n, c, h, w]."""
    e = embed(state, c_noise, labels)
    side = x.shape[2]
    sides = []
    while f'unet.enc.{side}x{side}_block0.conv_res0.weight' in state:
        sides.append(side)
        side //= 2
    blocks = lambda prefix: sum(f'{prefix}{i}.conv_res0.weight' in state for i in range(99))
    x, skips = np.concatenate([x, np.ones_like(x[:, :1])], axis=1), []
    for level, side in enumerate(sides):
        at = f'unet.enc.{side}x{side}'
        if level:
            x = block(state, f'{at}_down', x, e, head, down)
        else:
            x = conv(x, state[f'{at}_conv.weight'])
        skips.append(x)
        for i in range(blocks(f'{at}_block')):
            x = block(state, f'{at}_block{i}', x, e, head)
            skips.append(x)
    for side in reversed(sides):
        at = f'unet.dec.{side}x{side}'
        if side == sides[-1]:
            x = block(state, f'{at}_in0', x, e, head)
            x = block(state, f'{at}_in1', x, e, head)
        else:
            x = block(state, f'{at}_up', x, e, head, up)
        for i in range(blocks(f'{at}_block')):
            x = block(state, f'{at}_block{i}', join(x, skips.pop()), e, head)
    assert not skips, 'the decoder must use every skip'
    return conv(x, state['unet.out_conv.weight'], state['unet.out_gain'])


def denoise(state, x, sigma, labels=None, head=64, sigma_data=0.5):
    """(D(x; σ, c) [n, c, h, w], u(σ) [n]) in float64.

    state: published name → array; x [n, c, h, w]; sigma [n]; labels [n, classes] or None = no
    label; head: channels per head.
    """
    x, sigma = np.asarray(x, np.float64), np.asarray(sigma, np.float64)
    s = sigma[:, None, None, None]
    total = s**2 + sigma_data**2
    c_noise = np.log(sigma) / 4
    out = unet(state, x / np.sqrt(total), c_noise, labels, head)
    x0 = sigma_data**2 / total * x + s * sigma_data / np.sqrt(total) * out
    buffers = state['logvar_fourier.freqs'], state['logvar_fourier.phases']
    return x0, linear(fourier(c_noise, *buffers), state['logvar_linear.weight'])[:, 0]


def shapes(side, channels, classes, width):
    """Published name → shape of the network of four levels with three blocks each."""
    widths = [width * m for m in MULT]
    emb = max(widths)
    found = {
        'unet.emb_fourier.freqs': (width,), 'unet.emb_fourier.phases': (width,),
        'unet.emb_noise.weight': (emb, width),
        **({'unet.emb_label.weight': (emb, classes)} if classes else {}),
        f'unet.enc.{side}x{side}_conv.weight': (width, channels + 1, 3, 3),
        'unet.out_conv.weight': (channels, width, 3, 3), 'unet.out_gain': (),
        'logvar_fourier.freqs': (128,), 'logvar_fourier.phases': (128,),
        'logvar_linear.weight': (1, 128),
    }  # fmt: skip

    def add(name, before, after, attention):
        encoder = name.startswith('unet.enc')
        found[f'{name}.emb_gain'] = ()
        found[f'{name}.conv_res0.weight'] = (after, after if encoder else before, 3, 3)
        found[f'{name}.emb_linear.weight'] = (after, emb)
        found[f'{name}.conv_res1.weight'] = (after, after, 3, 3)
        if before != after:
            found[f'{name}.conv_skip.weight'] = (after, before, 1, 1)
        if attention:
            found[f'{name}.attn_qkv.weight'] = (3 * after, after, 1, 1)
            found[f'{name}.attn_proj.weight'] = (after, after, 1, 1)

    skips, now = [width], width
    for level, after in enumerate(widths):
        at, attention = f'{side >> level}x{side >> level}', side >> level in ATTENTION
        if level:
            add(f'unet.enc.{at}_down', now, now, False)
            skips.append(now)
        for i in range(NUM_BLOCKS):
            add(f'unet.enc.{at}_block{i}', now, after, attention)
            skips.append(now := after)
    for level, after in reversed(list(enumerate(widths))):
        at, attention = f'{side >> level}x{side >> level}', side >> level in ATTENTION
        if level == len(widths) - 1:
            add(f'unet.dec.{at}_in0', now, now, True)
            add(f'unet.dec.{at}_in1', now, now, False)
        else:
            add(f'unet.dec.{at}_up', now, now, False)
        for i in range(NUM_BLOCKS + 1):
            add(f'unet.dec.{at}_block{i}', now + skips.pop(), after, attention)
            now = after
    return found


def random_state(side=64, channels=3, classes=1000, width=128, seed=0):
    """A state dict whose every path counts: float32, outputs of unequal norm, gains around 0.7."""
    rng = np.random.default_rng(seed)

    def draw(name, shape):
        if name.endswith('freqs'):
            return 2 * np.pi * rng.standard_normal(shape)
        if name.endswith('phases'):
            return 2 * np.pi * rng.random(shape)
        if not shape:
            return rng.normal(0.7, 0.2)
        norms = rng.lognormal(0, 0.3, (shape[0], *[1] * (len(shape) - 1)))
        return rng.standard_normal(shape, np.float32) * norms.astype(np.float32)

    found = shapes(side, channels, classes, width)
    return {name: np.asarray(draw(name, shape), np.float32) for name, shape in found.items()}
