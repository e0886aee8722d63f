"""The magnitude-preserving primitives and blocks against golden arrays; our own weight gradient."""

import edm2_golden as golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoguide_jax.backbones import mp
from autoguide_jax.backbones.edm2_unet import Block
from autoguide_jax.importers.edm2 import path_of, to_hwio

Z = golden.arrays('primitives')
X, B, C = (golden.nhwc(Z[name]) for name in 'xbc')


def close(ours, name, atol=1e-6):
    theirs = Z[name]
    theirs = golden.nhwc(theirs) if theirs.ndim == 4 else theirs
    np.testing.assert_allclose(ours, theirs, atol=atol, rtol=1e-6)


def test_normalize():
    close(mp.normalize(X), 'normalize_default')
    close(mp.normalize(X, (3,)), 'normalize_dim1')
    close(mp.normalize(jnp.zeros_like(X)), 'normalize_zeros')


@pytest.mark.parametrize(('name', 'kernel'), [('11', (1, 1)), ('1331', (1, 3, 3, 1))])
def test_resampling(name, kernel):
    close(mp.downsample(X, kernel), f'resample_down_{name}')
    close(mp.upsample(X, kernel), f'resample_up_{name}')


def test_silu_sum_and_concatenation():
    close(mp.silu(X), 'mp_silu')
    for t in (0.3, 0.5):
        close(mp.add(X, B, t), f'mp_sum_t{t}')
    for t in (0.5, 0.6):
        close(mp.cat(X, C, t), f'mp_cat_t{t}')


def test_fourier_features():
    buffers = {'freqs': Z['fourier_freqs'], 'phases': Z['fourier_phases']}
    close(mp.MPFourier(16).apply({'buffers': buffers}, Z['fourier_in']), 'fourier_out', 2e-6)


@pytest.mark.parametrize(
    ('name', 'kernel', 'x'), [('lin', (), X[:, 0, 0]), ('1x1', (1, 1), X), ('3x3', (3, 3), X)]
)
def test_layers_in_use_and_in_training(name, kernel, x):
    layer, w = mp.MPConv(5, kernel), to_hwio(Z[f'mpconv_{name}_w'])
    apply = lambda w, gain=1.0: layer.apply({'params': {'weight': w}}, x, gain)
    close(apply(w), f'mpconv_{name}_out')
    close(apply(w, 0.7), f'mpconv_{name}_out_gain0.7')
    # Training stores normalize(w), and the layer normalises that again.
    stored = mp.normalize_weights({'conv': {'weight': w, 'gain': 3.0}})
    assert stored['conv']['gain'] == 3
    stored = stored['conv']['weight']
    gradient = jax.grad(lambda w: jnp.sum(jnp.square(apply(w))))(stored)
    close(apply(stored), f'mpconv_{name}_train_out')
    compare = lambda ours, key, **tolerance: np.testing.assert_allclose(
        ours, to_hwio(Z[f'mpconv_{name}_{key}']), **tolerance
    )
    compare(stored, 'w_after_train_forward', atol=1e-6)
    compare(mp.normalize_weight(stored), 'w_after_2nd_train_forward', atol=1e-6)
    scale = np.abs(Z[f'mpconv_{name}_train_grad_of_sum_sq']).max()
    compare(gradient, 'train_grad_of_sum_sq', atol=5e-6 * scale)


def block(name, channels_per_head=4, **settings):
    variables = {}
    for key, value in Z.items():
        if key.startswith(f'block_{name}/weights/'):
            *folders, leaf = path_of('unet.enc.block.' + key.rsplit('/')[-1])[2:]
            node = variables
            for folder in folders:
                node = node.setdefault(folder, {})
            node[leaf] = to_hwio(value)
    features = Z[f'block_{name}/out'].shape[1]
    layer = Block(features, channels_per_head=channels_per_head, dropout=0.0, **settings)
    return lambda x, emb: layer.apply({'params': variables}, x, emb)


@pytest.mark.parametrize(
    ('name', 'flavor', 'resample', 'attention'),
    [
        ('enc', 'enc', '', False),
        ('enc_attn_skip', 'enc', '', True),
        ('enc_down', 'enc', 'down', False),
        ('dec', 'dec', '', False),
        ('dec_attn', 'dec', '', True),
        ('dec_up', 'dec', 'up', False),
    ],
)
def test_blocks(name, flavor, resample, attention):
    apply = block(name, flavor=flavor, resample=resample, attention=attention)
    close(apply(X, Z['block_emb']), f'block_{name}/out', atol=2e-6)


def test_blocks_clip_at_256():
    plain = {'flavor': 'enc', 'resample': '', 'attention': False}
    # The golden block clips at 1, which is the same function below 256.
    clipped = jnp.clip(block('enc_clip', **plain)(X, Z['block_emb']), -1, 1)
    close(clipped, 'block_enc_clip/out', atol=2e-6)
    loud = block('dec', flavor='dec', resample='', attention=False)(1e4 * X, Z['block_emb'])
    assert (loud.min(), loud.max()) == (-256, 256)


SHAPES = [((1, 1), 6, 6), ((3, 3), 6, 6), ((3, 3), 5, 8), ((1, 3), 4, 6), ((5, 3), 7, 5)]


@pytest.mark.parametrize(('kernel', 'height', 'width'), SHAPES)
def test_our_weight_gradient_is_the_compilers_and_the_slope(kernel, height, width):
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    x, w, g = normal(3, height, width, 4), normal(*kernel, 4, 5), normal(3, height, width, 5)
    value = lambda conv: lambda x, w: jnp.sum(conv(x, w) * g)
    dx, dw = jax.jit(jax.grad(value(mp.conv), (0, 1)))(x, w)
    wanted_dx, wanted_dw = jax.jit(jax.grad(value(mp._lax_conv), (0, 1)))(x, w)
    np.testing.assert_allclose(dx, wanted_dx, atol=1e-5)
    np.testing.assert_allclose(dw, wanted_dw, atol=3e-5)
    np.testing.assert_allclose(mp.weight_gradient_as_conv(x, w, g), wanted_dw, atol=3e-5)
    towards = normal(*w.shape)
    rise = value(mp.conv)(x, w + towards) - value(mp.conv)(x, w - towards)  # linear in w
    np.testing.assert_allclose(rise / 2, np.sum(dw * towards), rtol=1e-4, atol=1e-3)


def test_the_weight_gradient_does_not_depend_on_the_groups(monkeypatch):
    rng = np.random.default_rng(1)
    x, g = (rng.normal(size=(48, 6, 6, c)).astype(np.float32) for c in (4, 5))
    w = np.zeros((3, 3, 4, 5), np.float32)
    programs = []
    for floats in (2**18, 48 * 36 * 5 // 3, 1):  # one group, three, and as many as there may be
        monkeypatch.setattr(mp, 'CACHED_FLOATS', floats)
        lowered = jax.jit(lambda x, g: mp.weight_gradient_as_conv(x, w, g)).lower(x, g)
        programs.append(lowered.as_text().count('stablehlo.convolution'))
        np.testing.assert_allclose(lowered.compile()(x, g), mp.weight_gradient(x, w, g), atol=1e-4)
    assert programs == [1, 3, 6]


@pytest.mark.parametrize('far', [0.0, 1e-3, 1.0, 90.0, 250.0, 256.0])
def test_the_gradients_of_our_own_are_those_of_the_formulas(far):
    rng = np.random.default_rng(2)
    x, g = (rng.normal(size=(3, 4, 4, 6)).astype(np.float32) for _ in range(2))
    x = np.sign(x) * far + x
    pairs = [
        (mp.silu, lambda x: jax.nn.silu(x) / 0.596),
        (mp.clip, lambda x: jnp.clip(x, -256, 256)),
        (
            lambda x: mp.normalize(x, (3,)),
            lambda x: x / (1e-4 + jnp.linalg.norm(x, axis=3, keepdims=True) / 6**0.5),
        ),
    ]
    for ours, plain in pairs:
        y, back = jax.vjp(ours, x)
        wanted, wanted_back = jax.vjp(plain, x)
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(back(g)[0], wanted_back(g)[0], rtol=1e-4, atol=3e-5)


def test_the_gradient_of_normalize_is_finite_at_zero():
    back = jax.grad(lambda x: jnp.sum(mp.normalize(x, (3,))))(jnp.zeros((1, 2, 2, 4)))
    np.testing.assert_allclose(back, 1 / mp.EPS)


def test_the_gradient_of_silu_keeps_its_digits_in_half_precision():
    x = jnp.linspace(-12, 12, 97)
    slope = lambda x: jax.vjp(mp.silu, x)[1](jnp.ones_like(x))[0]
    exact = jax.vmap(jax.grad(lambda x: jax.nn.silu(x) / 0.596))(x)
    half = slope(x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), exact, rtol=2**-7, atol=1e-3)
