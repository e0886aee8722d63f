"""The EDM2 network: golden arrays, published sizes, and what must not change its numbers."""

import edm2_golden as golden
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from autoguide_jax.backbones import EDM2UNet, mp
from autoguide_jax.backbones.edm2_unet import PRESETS
from autoguide_jax.denoiser import Denoiser

nhwc = golden.nhwc
# arXiv 2312.02696, Table 2, counted exactly: RGB and latent channels, 64×64, 1000 classes.
PUBLISHED = {
    'xxs': (31_307_877, 31_309_029),
    'xs': (124_710_949, 124_713_253),
    's': (280_209_381, 280_212_837),
    'm': (497_803_173, 497_807_781),
    'l': (777_492_325, 777_498_085),
    'xl': (1_119_276_837, 1_119_283_749),
    'xxl': (1_523_156_709, 1_523_164_773),
}


@pytest.mark.parametrize('name', ['net_a', 'net_a_guide', 'net_c'])
def test_a_network_gives_the_golden_images_and_uncertainties(name):
    z, (denoiser, variables) = golden.arrays(name), golden.network(name)
    apply = jax.jit(denoiser.apply_with_logvar)
    x0, logvar = apply(variables, nhwc(z['x']), z['sigma'], z.get('labels'))
    np.testing.assert_allclose(x0, nhwc(z['D_x']), atol=2e-5)
    np.testing.assert_allclose(logvar, z['logvar'].ravel(), atol=2e-5)
    x, scalar = nhwc(z['x_scalar_sigma_0.5']), jnp.float32(0.5)
    x0 = jax.jit(denoiser.apply)(variables, x, scalar, z.get('labels'))
    np.testing.assert_allclose(x0, nhwc(z['D_x_scalar_sigma_0.5']), atol=2e-5)


@pytest.mark.parametrize('name', ['net_a', 'net_a_guide'])
def test_soft_and_missing_labels_give_the_golden_images(name):
    z, (denoiser, variables) = golden.arrays(name), golden.network(name)
    apply = jax.jit(lambda labels: denoiser.apply(variables, nhwc(z['x']), z['sigma'], labels))
    np.testing.assert_allclose(apply(z['labels_soft']), nhwc(z['D_x_labels_soft']), atol=2e-5)
    none = apply(None)
    np.testing.assert_allclose(none, nhwc(z['D_x_label_none']), atol=2e-5)
    np.testing.assert_array_equal(apply(np.full(4, -1, np.int32)), none)
    hard = np.argmax(z['labels'], axis=1).astype(np.int32)
    np.testing.assert_allclose(apply(hard), nhwc(z['D_x']), atol=2e-5)
    mixed = apply(np.where(np.arange(4) < 2, hard, -1))
    np.testing.assert_allclose(mixed[:2], nhwc(z['D_x'])[:2], atol=2e-5)
    np.testing.assert_allclose(mixed[2:], none[2:], atol=1e-6)


@pytest.mark.parametrize('channels', [3, 4])
@pytest.mark.parametrize('preset', PUBLISHED)
def test_the_presets_have_the_published_number_of_parameters(preset, channels):
    backbone = EDM2UNet(64, channels, 1000, model_channels=PRESETS[preset])
    x = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float32)
    args = jax.random.key(0), x, jnp.ones(1), jnp.zeros(1, jnp.int32)
    variables = jax.eval_shape(Denoiser(backbone).init, *args)
    assert len(jax.tree.leaves(variables)) == 203
    count = sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
    assert count == PUBLISHED[preset][channels - 3]


def test_an_untrained_network_has_unit_weights_no_gains_and_only_shrinks_its_input():
    denoiser, (x, sigma, labels) = tiny.denoiser(), tiny.batch()
    variables = jax.jit(denoiser.init)(jax.random.key(0), x, sigma, labels)
    weights = np.concatenate([w.ravel() for w in jax.tree.leaves(variables['params']) if w.ndim])
    gains = [float(w) for w in jax.tree.leaves(variables['params']) if not w.ndim]
    assert gains == [0] * 6
    np.testing.assert_allclose([weights.mean(), weights.std()], [0, 1], atol=0.03)
    fourier = variables['buffers']['logvar_fourier']
    np.testing.assert_allclose(fourier['freqs'].std(), 2 * np.pi, rtol=0.2)
    assert 0 <= fourier['phases'].min() < 0.3 and 6 < fourier['phases'].max() < 2 * np.pi
    x0 = jax.jit(denoiser.apply)(variables, x, sigma, labels)
    c_skip = 0.25 / (0.25 + np.square(sigma))
    np.testing.assert_allclose(x0, c_skip[:, None, None, None] * x, rtol=1e-5)


def equations(jaxpr):
    """Every equation of a jaxpr, inner ones too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_a_network_in_half_precision_is_close_and_answers_in_float32():
    z, (denoiser, variables) = golden.arrays('net_a'), golden.network('net_a')
    dtype = 'bfloat16'
    half = denoiser.clone(backbone=denoiser.backbone.clone(dtype=dtype))
    x0 = jax.jit(half.apply)(variables, nhwc(z['x']), z['sigma'], z['labels'])
    assert x0.dtype == jnp.float32
    relative = np.linalg.norm(x0 - nhwc(z['D_x'])) / np.linalg.norm(z['D_x'])
    epsilon = float(jnp.finfo(dtype).eps)
    assert epsilon / 30 < relative < 5 * epsilon
    given = variables, nhwc(z['x']), z['sigma'], z['labels']
    products = [
        (e.primitive.name, e.outvars[0].aval.dtype == dtype)
        for e in equations(jax.make_jaxpr(half.apply)(*given).jaxpr)
        if e.primitive.name in ('conv_general_dilated', 'dot_general')
    ]
    assert all(is_half for name, is_half in products if name == 'conv_general_dilated')
    # In float32 stay the embedding of noise and label, and the uncertainty head.
    assert sum(not is_half for _, is_half in products) == 3
    assert len(products) > 40


KEYS = jax.random.split(jax.random.key(7), 4)


@pytest.mark.parametrize('remat', ['products', 'block', True])
def test_recomputing_changes_no_value_and_no_gradient(remat):
    variables = tiny.variables(tiny.denoiser())

    def value_and_gradient(remat):
        denoiser = tiny.denoiser(dropout=0.3, remat=remat)
        given = lambda params: {**variables, 'params': params}
        images = lambda params: denoiser.apply(given(params), *tiny.batch(), KEYS)
        loss = lambda params: jnp.mean(jnp.square(images(params)))
        return jax.jit(jax.value_and_grad(loss))(variables['params'])

    (plain, slope), (again, slope_again) = value_and_gradient('none'), value_and_gradient(remat)
    np.testing.assert_allclose(plain, again, rtol=1e-6)
    scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(slope))
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6 * scale)
    jax.tree.map(close, slope, slope_again)


def test_dropout_of_a_sample_depends_on_its_key_alone():
    variables, batch = tiny.variables(tiny.denoiser()), tiny.batch()
    apply = jax.jit(tiny.denoiser(dropout=0.3).apply)
    whole = apply(variables, *batch, KEYS)
    parts = [apply(variables, *(a[i : i + 2] for a in (*batch, KEYS))) for i in (0, 2)]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-5)
    off = apply(variables, *batch)
    np.testing.assert_allclose(off, jax.jit(tiny.denoiser().apply)(variables, *batch), atol=1e-5)
    others = apply(variables, *batch, jax.random.split(jax.random.key(8), 4))
    assert min(np.abs(whole - off).max(), np.abs(whole - others).max()) > 0.1


def test_dropout_keeps_the_mean_and_tells_layers_apart():
    keys = jax.random.split(jax.random.key(0), 16)
    x = jnp.ones((16, 8, 8, 32))
    a, b = (np.asarray(mp.dropout(x, 0.25, keys, layer)) for layer in ('a/b', 'a/c'))
    assert set(np.unique(a)) == {0, np.float32(1 / 0.75)}
    assert abs(a.mean() - 1) < 5 * np.sqrt(0.25 / 0.75 / a.size)
    agreement = np.mean((a > 0) == (b > 0))
    assert abs(agreement - (0.75**2 + 0.25**2)) < 0.02


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'resolution': 12, 'channel_mult': (1, 1, 1, 1)}, r'resolution \(12\) must be divisible'),
        ({'channels_per_head': 64}, r'channels_per_head \(64\) must divide.*16'),
        ({'channels_per_head': 6}, r'channels_per_head \(6\).*at resolution 4'),
        (
            {'attn_resolutions': (8,), 'channels_per_head': 16},
            r'channels_per_head \(16\).*8.*resolution 8',
        ),
        ({'dtype': 'int8'}, r'dtype \(int8\) must be float32'),
        ({'dropout': 1.0}, r'dropout \(1.0\)'),
        ({'channel_mult': ()}, 'channel_mult'),
        ({'num_blocks': 0}, 'num_blocks'),
    ],
)
def test_an_architecture_that_cannot_be_built_is_refused_at_once(change, message):
    fine = {
        'resolution': 8, 'channels': 1, 'label_dim': 0, 'model_channels': 8,
        'channel_mult': (1, 2), 'num_blocks': 1, 'attn_resolutions': (4,), 'channels_per_head': 8,
    }  # fmt: skip
    EDM2UNet(**fine)
    with pytest.raises(ValueError, match=message):
        EDM2UNet(**fine | change)
