"""The second implementation of the EDM2 network: right by the golden arrays, then ours by it."""

import edm2_golden as golden
import edm2_parity as parity
import edm2_reference as reference
import numpy as np
import pytest
from test_backbones import PUBLISHED


@pytest.mark.parametrize('name', ['net_a', 'net_a_guide', 'net_c'])
def test_the_reference_gives_the_golden_images_and_uncertainties(name):
    z, state = golden.arrays(name), golden.state_dict(name)
    x0, logvar = reference.denoise(state, z['x'], z['sigma'], z.get('labels'), head=32)
    np.testing.assert_allclose(x0, z['D_x'], atol=5e-7)
    np.testing.assert_allclose(logvar, z['logvar'].ravel(), atol=5e-7)
    if 'labels_soft' in z:
        soft = reference.denoise(state, z['x'], z['sigma'], z['labels_soft'], head=32)[0]
        np.testing.assert_allclose(soft, z['D_x_labels_soft'], atol=5e-7)
        none = reference.denoise(state, z['x'], z['sigma'], None, head=32)[0]
        np.testing.assert_allclose(none, z['D_x_label_none'], atol=5e-7)


@pytest.mark.parametrize('channels', [3, 4])
@pytest.mark.parametrize('width', PUBLISHED)
def test_its_shapes_are_those_of_the_published_networks(width, channels):
    shapes = reference.shapes(64, channels, 1000, reference.WIDTHS[width])
    assert len(shapes) == 203 == len(reference.shapes(64, channels, 0, 64)) + 1
    trained = [v for k, v in shapes.items() if not k.endswith(('freqs', 'phases'))]
    assert sum(int(np.prod(shape)) for shape in trained) == PUBLISHED[width][channels - 3]


def test_our_network_is_the_reference_on_all_levels():
    """Four levels of three blocks, attention at 16 and 8, as published, but narrow.

    The full width is the same comparison: PYTHONPATH=. python tests/edm2_parity.py xs img64
    """
    state = reference.random_state(64, 3, 1000, width=16)
    found = list(parity.errors(state, 64, 3, 1000, head=16, sigmas=(0.7,)))
    assert [labelled for _, labelled, *_ in found] == [True, False]
    for _, _, of_d, of_f, of_logvar in found:
        assert max(of_d, of_f, of_logvar) < 4e-6


def test_every_part_of_the_state_dict_counts():
    """What no number depends on, the comparison would pass over."""
    state = reference.random_state(8, 2, 3, width=4)
    x, sigma, label = parity.inputs(8, 2, 3, 0.7)
    x0, logvar = reference.denoise(state, x, sigma, label, head=4)
    rng = np.random.default_rng(1)
    for name, value in state.items():
        other = np.float32(value + (rng.standard_normal(value.shape) if value.ndim else 1))
        changed = reference.denoise({**state, name: other}, x, sigma, label, head=4)
        moved = max(np.abs(changed[0] - x0).max(), np.abs(changed[1] - logvar).max())
        assert moved > 1e-6, name
