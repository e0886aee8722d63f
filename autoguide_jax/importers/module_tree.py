"""The modules of a pickle as a flat state dict, and what the file says of itself."""

from typing import Any

import numpy as np

from autoguide_jax.inert import pickles
from autoguide_jax.inert.records import Refused, described, require

# Members of a network file that describe it.
FACTS = ('dataset_kwargs', 'loss_fn')


def read(p: Any) -> tuple[dict[str, np.ndarray], dict]:
    """Return (state, metadata) of a pickled network; edm2.read_pickle says what they are."""
    root = pickles.read(p)
    try:
        return state_of(root)
    except Refused as error:
        raise ValueError(f'{p}: {error}') from None


def state_of(root: Any) -> tuple[dict[str, np.ndarray], dict]:
    """Return (state, metadata) of what a pickle holds: a dict with 'ema', or a network itself."""
    whole = root if type(root) is dict else {'ema': root}
    network = whole.get('ema', whole.get('net'))
    good = type(network) is pickles.Instance
    require(good, 'no network file: it is no dict with a module called ema, and no module itself')
    state = pickles.state_dict(network)
    made = (network.state or {}).get('_init_args', ())
    require(type(made) in (tuple, list) and not made, 'a network made with unnamed arguments')
    init = pickles.plain(network)
    metadata = {'class': init.pop('class'), 'init': init}
    if whole.get('encoder') is not None:
        metadata['encoder'] = _encoder(whole['encoder'])
    for name in FACTS:
        if whole.get(name) is not None:
            metadata[name] = _plain_or_why(whole[name])
    return state, metadata


def _encoder(encoder):
    """Class, settings and statistics of an encoder."""
    require(type(encoder) is pickles.Instance, f'an encoder that is {described(encoder)}')
    state = encoder.state or {}
    facts = {name: state[name] for name in ('vae_name', 'scale', 'bias') if name in state}
    return {'class': encoder.class_name} | pickles.plain(facts)


def _plain_or_why(value):
    """A plain value, or why it is none: such facts decide nothing."""
    try:
        return pickles.plain(value)
    except Refused as error:
        return f'left out: {error}'
