"""The golden EDM2 networks and arrays of tests/golden, in our layout."""

import functools
import pathlib

import numpy as np

from autoguide_jax.importers.edm2 import from_state_dict

FOLDER = pathlib.Path(__file__).parent / 'golden'


@functools.cache
def arrays(name):
    """All arrays of golden/edm2_{name}.npz."""
    with np.load(FOLDER / f'edm2_{name}.npz') as file:
        return dict(file)


def nhwc(array):
    return np.transpose(array, (0, 2, 3, 1))


def state_dict(name):
    """Published name → float32 weight of net_a, net_a_guide or net_c."""
    weights = {k[8:]: v for k, v in arrays(name).items() if k.startswith('weights/')}
    return {k: v / np.float32(32) if v.dtype == np.int8 else v for k, v in weights.items()}


@functools.cache
def network(name):
    """(Denoiser, variables)."""
    return from_state_dict(state_dict(name), channels_per_head=32)
