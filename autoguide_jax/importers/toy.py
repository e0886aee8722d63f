"""The 2-D example's network (arXiv 2406.02507, App. C) ↔ log density and variables.

Published names: gain, layers.0.weight (input), layers.2.weight, layers.4.weight … (hidden) [o, i].
"""

import re

import jax
import numpy as np

from autoguide_jax.backbones.toy_mlp import ToyMLP
from autoguide_jax.denoiser import LogDensity

LAYER = re.compile(r'layers\.(\d{1,3})\.weight')
# Arguments of the published class and their names here.
SEEN = {'in_dim': 'channels', 'hidden_dim': 'width', 'num_layers': 'layers'}


def is_toy(state):
    """Tell whether a state dict has the names of the 2-D example."""
    return 'gain' in state and 'layers.0.weight' in state


def from_state_dict(state, sigma_data=0.5, *, weights='float32'):
    """Build (LogDensity, variables) from a mapping name → array.

    weights: type of the parameters, None = as they are. Errors: ValueError for names or shapes
    that do not form such a network.
    """
    state = {name: np.asarray(value) for name, value in state.items()}
    matrices = {int(m[1]): state[m[0]] for m in map(LAYER.fullmatch, state) if m}
    layers = len(matrices) - 1
    first = state['layers.0.weight']
    good = layers >= 1 and first.ndim == 2 and first.shape[1] > 2 and first.shape[0]
    width, inputs = first.shape if good else (0, 0)
    expected = {'gain': (), 'layers.0.weight': (width, inputs)}
    expected |= {f'layers.{2 * i}.weight': (width, width) for i in range(1, layers + 1)}
    for name in sorted(expected.keys() | state.keys()):
        found = state[name].shape if name in state else 'missing'
        if not good or found != expected.get(name):
            raise ValueError(
                f'not a network of the 2-D example: {name}: {found}, '
                f'expected {expected.get(name, "nothing")}'
            )
    params = {'gain': state['gain']}
    for i in range(layers + 1):
        params['in' if i == 0 else f'hidden_{i - 1}'] = {
            'weight': state[f'layers.{2 * i}.weight'].T
        }
    keep = lambda a: np.asarray(a, weights, order='C')
    net = ToyMLP(channels=inputs - 2, width=width, layers=layers, sigma_data=sigma_data)
    variables = {'params': {'backbone': jax.tree.map(keep, params)}, 'buffers': {}}
    return LogDensity(net, sigma_data), variables


def to_state_dict(denoiser, variables):
    """The inverse of from_state_dict: published name → numpy array, types kept."""
    params = variables['params']['backbone']
    state = {'gain': np.asarray(params['gain'])}
    for i in range(denoiser.backbone.layers + 1):
        weight = params['in' if i == 0 else f'hidden_{i - 1}']['weight']
        state[f'layers.{2 * i}.weight'] = np.ascontiguousarray(np.asarray(weight).T)
    return state


def settings_of(init):
    """(settings of from_state_dict, {setting of ToyMLP: value the shapes must show}).

    Errors: ValueError for an unknown argument.
    """
    init = dict(init)
    told = {'sigma_data': init.pop('sigma_data')} if 'sigma_data' in init else {}
    if unknown := sorted(init.keys() - SEEN.keys()):
        raise ValueError(f'the network was made with {unknown[0]}={init[unknown[0]]!r}, unknown')
    return told, {SEEN[name]: value for name, value in init.items()}


def init_of(denoiser):
    """The keyword arguments of the published class that make this network."""
    init = {name: getattr(denoiser.backbone, here) for name, here in SEEN.items()}
    return {**init, 'sigma_data': denoiser.sigma_data}
