"""Truths about the pretrained networks."""

import jax
import numpy as np
import pytest

from autoguide_jax import frozen
from autoguide_jax.frozen import efficientnet_lite0, small_cnn


def _random_state(seed=0):
    """Return a state dict of EfficientNet-Lite0's published names, with random values."""
    rng = np.random.default_rng(seed)
    state = {}

    def conv(name, norm, *shape):
        scale = np.sqrt(2 / np.prod(shape[1:]))
        state[f'{name}.weight'] = (scale * rng.normal(size=shape)).astype(np.float32)
        for part in ('weight', 'running_var'):
            state[f'{norm}.{part}'] = rng.uniform(0.5, 1.5, shape[0]).astype(np.float32)
        for part in ('bias', 'running_mean'):
            state[f'{norm}.{part}'] = (0.1 * rng.normal(size=shape[0])).astype(np.float32)
        state[f'{norm}.num_batches_tracked'] = np.zeros((), np.int64)

    conv('_conv_stem', '_bn0', 32, 3, 3, 3)
    for i, b in enumerate(efficientnet_lite0.BLOCKS):
        at, inner = f'_blocks.{i}', b.inputs * b.expand
        if b.expand != 1:
            conv(f'{at}._expand_conv', f'{at}._bn0', inner, b.inputs, 1, 1)
        conv(f'{at}._depthwise_conv', f'{at}._bn1', inner, 1, b.kernel, b.kernel)
        conv(f'{at}._project_conv', f'{at}._bn2', b.outputs, inner, 1, 1)
    conv('_conv_head', '_bn1', 1280, 320, 1, 1)
    state['_fc.weight'] = rng.normal(size=(1000, 1280)).astype(np.float32)
    state['_fc.bias'] = rng.normal(size=1000).astype(np.float32)
    return state


@pytest.fixture(scope='module')
def state():
    return _random_state()


def test_every_name_in_the_table_resolves():
    for name in frozen.table.names():
        assert callable(frozen.table.get(name))


def test_efficientnet_has_the_published_number_of_parameters(state):
    """4,652,008 parameters: the published 4.65 M of EfficientNet-Lite0, buffers not counted."""
    parameters = [a for name, a in state.items() if 'running' not in name and a.ndim]
    assert sum(a.size for a in parameters) == 4_652_008


def test_efficientnet_folds_the_normalisation_into_the_convolution(state):
    """Stem at one place: γ·(w∗x − m)/√(v + ε) + β, written out in numpy."""
    weights = efficientnet_lite0.from_state_dict(state)
    patch = np.random.default_rng(1).normal(size=(3, 3, 3))
    raw = np.einsum('hwi,oihw->o', patch, state['_conv_stem.weight'])
    scale = state['_bn0.weight'] / np.sqrt(state['_bn0.running_var'] + 1e-3)
    expected = (raw - state['_bn0.running_mean']) * scale + state['_bn0.bias']
    folded = np.einsum('hwi,hwio->o', patch, weights['stem']['kernel']) + weights['stem']['bias']
    np.testing.assert_allclose(folded, expected, rtol=1e-5, atol=1e-5)


def test_efficientnet_sees_grey_as_rgb_and_each_image_alone(state):
    weights = efficientnet_lite0.from_state_dict(state)
    grey = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    features, logits, _ = efficientnet_lite0.apply(weights, grey, size=32)
    assert features.shape == (2, 1280) and logits.shape == (2, 1000)
    same, _, _ = efficientnet_lite0.apply(weights, grey.repeat(3, -1), size=32)
    np.testing.assert_allclose(features, same, rtol=1e-5, atol=1e-5)
    swapped, _, _ = efficientnet_lite0.apply(weights, grey[::-1], size=32)
    np.testing.assert_allclose(features[0], swapped[1], rtol=1e-4, atol=1e-4)
    assert np.abs(features[0] - features[1]).max() > 1e-2


def test_efficientnet_refuses_foreign_weights(state):
    with pytest.raises(ValueError, match=r"'_fc.bias' \(1000,\), found nothing"):
        efficientnet_lite0.from_state_dict({k: v for k, v in state.items() if k != '_fc.bias'})
    with pytest.raises(ValueError, match='unexpected arrays .*extra'):
        efficientnet_lite0.from_state_dict({**state, 'extra': np.zeros(3)})
    with pytest.raises(ValueError, match='1 or 3 channels, not 4'):
        weights = efficientnet_lite0.from_state_dict(state)
        efficientnet_lite0.apply(weights, np.zeros((1, 8, 8, 4), np.uint8), size=32)


@pytest.mark.parametrize('shape', [(8, 8, 1), (28, 28, 1), (32, 32, 3), (4, 4, 3)])
def test_small_cnn_has_64_features_and_one_logit_per_class(shape):
    weights = small_cnn.init(jax.random.key(0), shape, 7)
    images = np.random.default_rng(0).integers(0, 256, (5, *shape)).astype(np.uint8)
    features, logits, _ = small_cnn.apply(weights, images)
    assert features.shape == (5, 64) and logits.shape == (5, 7)
    # Random weights keep the signal within a factor of a few: no layer is dead or explodes.
    assert 0.02 < float(np.std(features)) < 5


def test_small_cnn_scale_acts_on_features_only():
    weights = small_cnn.init(jax.random.key(0), (8, 8, 1), 3)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    features, logits, _ = small_cnn.apply(weights, images)
    weights['dense']['scale'] = np.float32(2)
    doubled, same, _ = small_cnn.apply(weights, images)
    np.testing.assert_allclose(doubled, 2 * features, rtol=1e-6)
    np.testing.assert_array_equal(same, logits)


def test_small_cnn_refuses_what_it_cannot_see():
    with pytest.raises(ValueError, match='4 to 64 pixels a side, not 256×256'):
        small_cnn.init(jax.random.key(0), (256, 256, 3), 10)
    with pytest.raises(ValueError, match='at least 2 classes, not 0'):
        small_cnn.init(jax.random.key(0), (8, 8, 1), 0)
