"""DINOv2 is the network that torch and transformers have, from the bytes of an image on."""

import dinov2_weights as dw
import jax
import numpy as np
import pytest

from autoguide_jax import files, metrics, state_dicts
from autoguide_jax.frozen import dinov2
from autoguide_jax.metrics import dinov2 as extractor

BOTH = pytest.mark.parametrize('name', dw.NETWORKS)


@pytest.fixture(scope='module')
def golden():
    return dict(np.load(dw.GOLDEN))


@pytest.fixture(scope='module')
def states():
    return {name: dw.state(*sizes) for name, sizes in dw.NETWORKS.items()}


@pytest.mark.parametrize('shape', dw.SIZES, ids=str)
def test_pixels_are_those_of_torch(golden, shape):
    """Larger, smaller and of the size; in units of the standardised pixels, of order 1."""
    found = np.asarray(dinov2.preprocess(dw.images(shape)))[0, :: dw.KEPT, :: dw.KEPT]
    np.testing.assert_allclose(found, golden[f'pixels_{shape[0]}'], atol=3e-6)


def test_pixels_are_neither_rounded_nor_clipped():
    """A step overshoots under a cubic kernel: pixels below black, above white, between integers."""
    step = np.zeros((1, 32, 32, 3), np.uint8)
    step[:, :, 16:] = 255
    raw = np.asarray(dinov2.preprocess(step)) * np.float32(dinov2.STD) + np.float32(dinov2.MEAN)
    assert raw.min() < -0.02 and raw.max() > 1.02
    assert np.abs(raw * 255 - np.round(raw * 255)).max() > 0.3


@BOTH
def test_positions_are_interpolated_as_the_hub_does(golden, name):
    square, registers = dw.positions(), bool(dw.NETWORKS[name][2])
    found = dinov2._positions(square.reshape(-1, 4), dw.SIDE, 'hub', registers)
    np.testing.assert_allclose(found.reshape(16, 16, 4), golden[f'{name}_positions'], atol=1e-6)


@BOTH
@pytest.mark.parametrize('shape', dw.SIZES[:3], ids=str)
def test_features_are_those_of_transformers(golden, states, name, shape):
    weights = dinov2.from_state_dict(states[name], 'transformers')
    found = dinov2.apply(weights, dw.images(shape)).features
    np.testing.assert_allclose(found[0], golden[f'{name}_{shape[0]}'], atol=2e-5)


def test_the_formulas_differ_without_registers_only(states):
    """The hub's scale of 16.1 instead of 16 moves features by per cents of their size."""
    images = dw.images((64, 64, 3))
    for name, differ in (('plain', True), ('registers', False)):
        found = [
            np.asarray(dinov2.apply(dinov2.from_state_dict(states[name], f), images).features)
            for f in dinov2.FORMULAS
        ]
        assert (np.abs(found[0] - found[1]).max() > 1e-2) == differ


@BOTH
@pytest.mark.parametrize('prefix', ['', 'dinov2.', 'dinov2_with_registers.'])
def test_both_namings_give_the_same_weights(states, name, prefix):
    renamed = {prefix + n: a for n, a in dw.transformers_names(states[name]).items()}
    one, other = (dinov2.from_state_dict(s) for s in (states[name], renamed))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def test_grey_is_rgb_and_each_image_is_seen_alone(states):
    weights = dinov2.from_state_dict(states['registers'])
    grey = dw.images((40, 30, 1), count=2)
    features, logits, spatial = dinov2.apply(weights, grey)
    assert features.shape == (2, 128) and logits is None and spatial is None
    same = dinov2.apply(weights, grey.repeat(3, -1)).features
    np.testing.assert_allclose(features, same, atol=1e-5)
    swapped = dinov2.apply(weights, grey[::-1]).features
    np.testing.assert_allclose(features[0], swapped[1], atol=1e-5)
    assert np.abs(features[0] - features[1]).max() > 0.1
    with pytest.raises(ValueError, match='1 or 3 channels, not 4'):
        dinov2.apply(weights, np.zeros((1, 8, 8, 4), np.uint8))


@pytest.mark.parametrize(
    'sizes, name, parameters',
    [
        ((384, 12, 0), 'ViT-S/14', 22_056_576),
        ((768, 12, 0), 'ViT-B/14', 86_580_480),
        ((1024, 24, 0), 'ViT-L/14', 304_368_640),
        ((1024, 24, 4), 'ViT-L/14 with 4 registers', 304_372_736),
    ],
)
def test_names_and_numbers_of_parameters(sizes, name, parameters):
    """dinov2_vitl14_pretrain.pth has 1,217,586,395 bytes: 4 × 304,368,640 and 0.1 MB of zip."""
    assert sum(map(np.prod, dw.shapes(*sizes).values())) == parameters
    width, depth, registers = sizes
    arrays = {'blocks': {'ls1.gamma': np.zeros((depth, width))}}
    assert dinov2.name_of({**arrays, 'registers': np.zeros((registers, width))}) == name


@pytest.mark.parametrize(
    'change, message',
    [
        ({'norm.bias': None}, r"expected 'norm.bias' \(128,\), found nothing"),
        ({'blocks.1.mlp.fc2.bias': np.zeros(3)}, r"'blocks.1.mlp.fc2.bias' \(128,\), found \(3,\)"),
        ({'blocks.0.mlp.fc1.weight': None}, r"'blocks.0.mlp.fc1.weight' of 2 axes, found nothing"),
        ({'cls_token': np.zeros(128)}, r"expected 'cls_token' of 3 axes, found \(128,\)"),
        ({'cls_token': np.zeros((1, 1, 100))}, 'width 100 must be a multiple of 64'),
        ({'pos_embed': np.zeros((1, 1000, 128))}, 'positions 999 a square'),
        ({'head.weight': np.zeros((9, 128))}, r"unexpected arrays \['head.weight'\]"),
        ({'blocks.3.norm1.bias': np.zeros(128)}, r"unexpected arrays \['blocks.3.norm1.bias'\]"),
        ({'layernorm.bias': np.zeros(128)}, "two arrays for 'norm.bias'"),
        ({'blocks.0.mlp.w12.weight': np.zeros((9, 9))}, r'ViT-g/14 \(SwiGLU layers\) is not'),
        ({'encoder.layer.0.mlp.weights_in.bias': np.zeros(9)}, 'ViT-g/14'),
    ],
)
def test_foreign_weights_are_refused(states, change, message):
    arrays = {k: v for k, v in {**states['plain'], **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        dinov2.from_state_dict(arrays)


def test_an_unknown_formula_is_refused(states):
    with pytest.raises(ValueError, match="'timm' must be one of hub, transformers"):
        dinov2.from_state_dict(states['plain'], 'timm')


def test_the_extractor_says_what_it_is(tmp_path, states, monkeypatch):
    """That of another network than the published one says so; names in the file do not matter."""
    named = dw.transformers_names(states['registers'])
    state_dicts.write(tmp_path / 'a.safetensors', named)
    state_dicts.write(tmp_path / 'b.npz', states['registers'])
    one, other = (
        metrics.open_extractor('dinov2', weights=str(tmp_path / n), batch_size=2)
        for n in ('a.safetensors', 'b.npz')
    )
    assert one.title == 'FD-DINOv2 (ViT of 2 blocks of 128 with 4 registers)'
    assert one.noun == 'DINOv2 ViT of 2 blocks of 128 with 4 registers'
    assert one.weights_hash == other.weights_hash
    assert one.facts['weights_sha256'] == files.sha256(tmp_path / 'a.safetensors')
    images = dw.images((50, 50, 3), count=3)
    features, logits, spatial = one(images)
    assert features.shape == (3, one.dim) and logits is None and spatial is None
    assert one.published is None
    assert one.facts['weights'].startswith('not known to be the public ones')
    monkeypatch.setattr(extractor, 'TRANSFORM', 'another')
    changed = metrics.open_extractor('dinov2', weights=str(tmp_path / 'b.npz'))
    assert changed.weights_hash != one.weights_hash
    weights = dinov2.from_state_dict(states['registers'])
    expected = dinov2.apply(weights, images).features
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_absent_weights_name_the_public_files(tmp_path):
    for weights in ('', str(tmp_path / 'none.pth')):
        with pytest.raises(
            ValueError, match=r'dinov2_vitl14_pretrain\.pth .* facebook/dinov2-large'
        ):
            metrics.open_extractor('dinov2', weights=weights)
    state_dicts.write(tmp_path / 'a.npz', {'w': np.zeros(3)})
    with pytest.raises(ValueError, match=r'a\.npz: dinov2: .* what serves is'):
        metrics.open_extractor('dinov2', weights=str(tmp_path / 'a.npz'))


def test_the_golden_file_is_what_torch_and_transformers_say(golden):
    pytest.importorskip('torch')
    pytest.importorskip('transformers')
    fresh = dw.references()
    assert fresh.keys() == golden.keys()
    for key, value in fresh.items():
        np.testing.assert_allclose(value, golden[key], atol=1e-9, err_msg=key)


@pytest.mark.parametrize('registers', [0, 4])
def test_a_network_of_published_size_agrees(registers):
    """ViT-S/14, both in float32."""
    pytest.importorskip('torch')
    pytest.importorskip('transformers')
    arrays, images = dw.state(384, 12, registers), dw.images((256, 256, 3), count=2)
    expected = dw.features_by_transformers(arrays, images, 'float32')
    found = dinov2.apply(dinov2.from_state_dict(arrays, 'transformers'), images).features
    np.testing.assert_allclose(found, expected, atol=1e-4)
