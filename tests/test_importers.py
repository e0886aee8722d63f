"""Published EDM2 state dicts become our networks, and nothing else does."""

import json

import edm2_golden as golden
import jax
import numpy as np
import pytest
import tiny

from autoguide_jax.importers.edm2 import from_state_dict, name_of, path_of


def to_state_dict(variables):
    """The published form: dotted names, kernels [out, in, kh, kw]."""
    state = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim, ())
        state[name_of([k.key for k in path][1:])] = np.transpose(leaf, order or None)
    return state


@pytest.mark.parametrize('name', ['net_a', 'net_a_guide', 'net_c'])
def test_names_shapes_and_architecture_are_read_from_the_state_dict(name):
    state, (denoiser, variables) = golden.state_dict(name), golden.network(name)
    back = to_state_dict(variables)
    assert back.keys() == state.keys()
    for key in state:
        np.testing.assert_array_equal(back[key], state[key])
    wanted, net = json.loads(str(golden.arrays(name)['config_json'])), denoiser.backbone
    assert net.resolution == wanted['img_resolution'] and net.channels == wanted['img_channels']
    for setting in ('label_dim', 'model_channels', 'num_blocks', 'channels_per_head'):
        assert getattr(net, setting) == wanted[setting]
    for setting in ('channel_mult', 'attn_resolutions'):
        assert list(getattr(net, setting)) == wanted[setting]
    assert set(variables['buffers']) == {'backbone', 'logvar_fourier'}
    assert set(variables['buffers']['backbone']) == {'emb_fourier'}


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'label_dim': 0, 'channels': 4},
        {'resolution': 16, 'channel_mult': (1, 1, 2), 'attn_resolutions': (8,)},
        {'resolution': 8, 'channel_mult': (1, 2), 'attn_resolutions': (), 'num_blocks': 3},
        {'resolution': 8, 'channel_mult': (2, 1), 'attn_resolutions': (8, 4)},
    ],
)
def test_any_architecture_survives_the_round_trip(changes):
    denoiser = tiny.denoiser(**changes)
    variables = tiny.variables(denoiser)
    again, back = from_state_dict(to_state_dict(variables), channels_per_head=8)
    assert again == denoiser
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_names_go_there_and_back():
    name = 'unet.enc.8x8_block0.attn_qkv.weight'
    assert path_of(name) == ['backbone', 'enc_8x8_block0', 'attn', 'attn_qkv', 'weight']
    for name in golden.state_dict('net_a'):
        assert name_of(path_of(name)) == name


def test_half_precision_weights_become_float32():
    state = {k: v.astype(np.float16) for k, v in golden.state_dict('net_a_guide').items()}
    _, variables = from_state_dict(state, channels_per_head=32, sigma_data=0.7)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        assert leaf.dtype == np.float32
        wanted = state[name_of([k.key for k in path][1:])]
        np.testing.assert_array_equal(np.sort(leaf.ravel()), np.sort(wanted.ravel()))


def test_sigma_data_is_the_denoisers():
    state = golden.state_dict('net_a_guide')
    assert from_state_dict(state, 32, sigma_data=0.7)[0].sigma_data == 0.7


def without(name):
    return lambda state: state.pop(name)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (dict.clear, r'no unet\.enc'),
        (without('unet.out_gain'), r'1 entries differ.*out_gain.*missing, expected \(\)'),
        (without('unet.enc.8x8_down.conv_res0.weight'), r'enc_8x8_down.*missing'),
        (without('logvar_fourier.freqs'), r'logvar_fourier.*freqs.*missing'),
        (without('unet.enc.16x16_conv.weight'), r'enc\.16x16_conv'),
        (lambda s: s.update({'unet.extra.weight': np.ones(3)}), r'extra.*\(3,\), expected nothing'),
        (lambda s: s.update({'unet.emb_noise.weight': np.ones((3, 3))}), r'emb_noise.*\(3, 3\)'),
    ],
)
def test_what_is_not_an_edm2_network_is_refused(spoil, message):
    state = golden.state_dict('net_a_guide')
    spoil(state)
    with pytest.raises(ValueError, match=message):
        from_state_dict(state, channels_per_head=32)


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r'channels_per_head \(64\)'):
        from_state_dict(golden.state_dict('net_a_guide'))
