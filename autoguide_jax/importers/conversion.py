"""One network file → all that a run directory says of it; one network → its published names."""

import dataclasses
import json

import numpy as np

from autoguide_jax import state_dicts
from autoguide_jax.importers import edm2, toy
from autoguide_jax.schema import component_fields

HEADER = 'autoguide_jax'  # in a safetensors file that was exported here
LATENTS = {'StandardRGBEncoder': 'pixels', 'StabilityVAEEncoder': 'sd_vae'}
# Where neither the file nor a setting tells: what EDM2's networks of these channels work on.
BY_CHANNELS = {1: 'pixels', 3: 'pixels', 4: 'sd_vae'}


@dataclasses.dataclass(frozen=True)
class Converted:
    """A network of a file: denoiser and variables (parameters in dtype), settings, facts.

    network, denoiser, latents: as config.json has them. facts: what the file says of itself.
    """

    dtype: str
    variables: dict
    network: dict
    denoiser: dict
    latents: dict
    facts: dict


def read(p):
    """Return (state, facts) of a .pkl, .npz or .safetensors file, local or in a bucket.

    facts: {} for plain state dicts; else class, init and encoder of a pickle, or what was exported
    here. Errors: FileNotFoundError; ValueError naming a file that is damaged or of another kind.
    """
    if str(p).endswith('.pkl'):
        return edm2.read_pickle(p)
    if not str(p).endswith(state_dicts.SUFFIXES):
        raise ValueError(f'{p}: the name must end with .pkl, .npz or .safetensors')
    state, header = state_dicts.read(p), state_dicts.read_metadata(p)
    try:
        facts = json.loads(header.get(HEADER, '{}'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{p}: its header is not JSON: {error}') from error
    if not isinstance(facts, dict) or not isinstance(facts.get('init', {}), dict):
        raise ValueError(f'{p}: its header is not that of an exported network')
    return state, facts


def convert(state, facts, settings):
    """Return the Converted network of a state dict.

    settings: of the import; channels_per_head, sigma_data and latents hold where the file does not
    tell. Errors: ValueError for what is no network that is known here, or contradicts itself.
    """
    dtype = dtype_of(state)
    room = toy if toy.is_toy(state) else edm2
    told, seen = room.settings_of(facts.get('init', {}))
    given = {'sigma_data': settings.sigma_data}
    if room is edm2:
        given |= {'channels_per_head': settings.channels_per_head, 'dtype': settings.dtype}
    # A pickle leaves out what has the default of the published classes, which are those here.
    denoiser, variables = room.from_state_dict(state, **{**given, **told}, weights=None)
    edm2.compare(denoiser.backbone, seen)
    kinds = ('toy_mlp', 'log_density') if room is toy else ('edm2_unet', 'edm')
    return Converted(
        dtype=dtype,
        variables=variables,
        network=settings_in(denoiser.backbone, kinds[0]),
        denoiser=settings_in(denoiser, kinds[1]),
        latents=latents_of(denoiser.backbone, facts, settings.latents, room is toy),
        facts=facts,
    )


def dtype_of(state):
    """'float16' if all arrays are, else 'float32'. Errors: ValueError for other numbers, or NaN."""
    kinds = {str(array.dtype) for array in state.values()}
    if not state or kinds - {'float16', 'float32'}:
        wrong = sorted(kinds - {'float16', 'float32'}) or ['nothing']
        raise ValueError(f'weights must be float16 or float32; the file holds {", ".join(wrong)}')
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise ValueError(f'{name} is not finite: is the file damaged?')
    return 'float16' if kinds == {'float16'} else 'float32'


def settings_in(component, name):
    """A component's settings as config.json has them."""
    fields = component_fields(type(component))
    return {'name': name, **{f: getattr(component, f) for f in fields if f != 'backbone'}}


def latents_of(backbone, facts, wanted, points):
    """The latents of a network: what the file says, else `wanted`, else by the channels."""
    if points:
        return {'name': 'points'}
    if 'latents' in facts:
        return facts['latents']
    encoder = facts.get('encoder', {})
    kind = encoder.get('class')
    if kind is not None and kind not in LATENTS:
        raise ValueError(f'its encoder {kind!r} is unknown; known are {", ".join(LATENTS)}')
    name = LATENTS.get(kind) or wanted or BY_CHANNELS.get(backbone.channels)
    if name is None:
        raise ValueError(
            f'the file does not say what its {backbone.channels} channels are: give '
            '--config.latents=pixels or sd_vae'
        )
    if name != 'sd_vae' or kind is None:
        return {'name': name}
    found = {part: encoder.get(part) for part in ('scale', 'bias')}
    for part, values in found.items():
        numbers = isinstance(values, list) and all(isinstance(v, int | float) for v in values)
        if not numbers or len(values) != backbone.channels:
            raise ValueError(f'its encoder has {part} {values!r}, not one for each channel')
    return {'name': name, **found}


def published(network):
    """Return (state, header) of a snapshots.Network under its published names.

    Parameters have the type of the snapshot if it was tracked, else float32, and so have buffers
    that it holds exactly. header: what `read` takes for facts. Errors: ValueError.
    """
    denoiser, report = network.denoiser, network.report
    room = toy if network.config['network']['name'] == 'toy_mlp' else edm2
    dtype = np.dtype(report.sources[-1].dtype if report.tracked else 'float32')
    state = room.to_state_dict(denoiser, network.variables)
    state = {name: exactly(array, dtype) for name, array in state.items()}
    facts = {'init': room.init_of(denoiser), 'latents': network.config['latents']}
    facts |= {'nimg': network.nimg, 'std': network.std}
    return state, {HEADER: json.dumps(facts, sort_keys=True)}


def exactly(array, dtype):
    """The array in dtype, or as it is if that changes it."""
    with np.errstate(over='ignore'):
        small = array.astype(dtype)
    return small if np.array_equal(small, array) else array
