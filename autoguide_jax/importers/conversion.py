"""One network file → all that a run directory says of it; one network → its published names."""

import dataclasses
import json

import numpy as np

from autoguide_jax import config, latents, snapshots, state_dicts
from autoguide_jax.importers import edm2, toy
from autoguide_jax.schema import component_fields

HEADER = 'autoguide_jax'  # in a file that was exported here
FACTS = ('init', 'latents', 'nimg', 'std', 'fit_error')  # what that header tells
LATENTS = {'StandardRGBEncoder': 'pixels', 'StabilityVAEEncoder': 'sd_vae'}
# Where neither the file nor a setting tells: what EDM2's networks of these channels work on.
BY_CHANNELS = {1: 'pixels', 3: 'pixels', 4: 'sd_vae'}


@dataclasses.dataclass(frozen=True)
class _Told:
    """What a file says that is a setting here.

    Settings:
      latents: what the channels are
    """

    latents: config.Part = config.part('autoguide_jax.latents:table')


@dataclasses.dataclass(frozen=True)
class Converted:
    """A network of a file: variables (parameters in dtype), settings, facts.

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
        return state, facts_of(header.get(HEADER, '{}'))
    except ValueError as error:
        raise ValueError(f'{p}: {error}') from error


def facts_of(text):
    """The facts in the header of an exported network. Errors: ValueError for anything else."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'its header is not JSON: {error}') from error
    if not isinstance(facts, dict) or facts.keys() - set(FACTS):
        raise ValueError('its header is not that of an exported network')
    return facts


def convert(state, facts, settings):
    """Return the Converted network of a state dict.

    settings: of the import; channels_per_head, sigma_data and latents hold where the file does not
    tell. Errors: ValueError for what is no network that is known here, or contradicts itself or
    the settings.
    """
    dtype = dtype_of(state)
    room = toy if toy.is_toy(state) else edm2
    told, seen = room.settings_of(section(facts, 'init'))
    # A pickle leaves out what has the default of the published classes, which are those here.
    given = chosen(told, settings, room is toy)
    try:
        denoiser, variables = room.from_state_dict(state, **given, weights=None)
    except ValueError as error:
        heads = 'channels_per_head'
        hint = f'. If the network has other heads, give --config.{heads}=…'
        if heads in told or not str(error).startswith(heads):
            raise
        raise ValueError(f'{error}{hint}') from error
    edm2.compare(denoiser.backbone, seen)
    kinds = ('toy_mlp', 'log_density') if room is toy else ('edm2_unet', 'edm')
    tree = {'network': settings_in(denoiser.backbone, kinds[0])}
    return Converted(
        dtype=dtype,
        variables=variables,
        network=tree['network'],
        denoiser=settings_in(denoiser, kinds[1]),
        latents=latents_of(tree, facts, settings.latents),
        facts=facts,
    )


def section(facts, name):
    """A part of the facts that has parts itself, {} if the file does not have it."""
    found = facts.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f'its {name} ({found!r:.80}) must be settings by name')
    return found


def chosen(told, settings, points):
    """What from_state_dict takes beside the weights: of the file, else of the settings.

    Errors: ValueError for what is no such number, contradicts the file, or does not apply.
    """
    asked = {name: getattr(settings, name) for name in ('channels_per_head', 'sigma_data')}
    asked = {name: value for name, value in asked.items() if value}
    for name, value in [*told.items(), *asked.items()]:
        whole = name == 'channels_per_head'
        good = edm2.is_number(value) and not (whole and isinstance(value, float))
        if not good or value < 0 or (value == 0 and name != 'dropout'):
            kind = 'whole number' if whole else 'number'
            raise ValueError(f'{name} ({value!r:.80}) must be a {kind} above 0')
        if told.get(name, value) != value:
            raise ValueError(f'{name} ({value}): the file says {told[name]}')
    if not points:
        return {'dtype': settings.dtype, **asked, **told}
    if 'channels_per_head' in asked or settings.dtype != 'float32':
        raise ValueError(
            f'channels_per_head ({settings.channels_per_head}) and dtype ({settings.dtype}) do not '
            'apply to a network of the 2-D example: leave them out'
        )
    return {**asked, **told}


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


def latents_of(tree, facts, wanted):
    """The latents of a network: what the file says, else `wanted`, else by the channels.

    tree: {'network': …} as config.json has it. Errors: ValueError for what no such network has.
    """
    channels, points = tree['network']['channels'], tree['network']['name'] == 'toy_mlp'
    said = facts['latents'] if 'latents' in facts else encoder_of(section(facts, 'encoder'))
    if said == {}:
        said = 'points' if points else wanted or BY_CHANNELS.get(channels)
        if said is None:
            raise ValueError(
                f'the file does not say what its {channels} channels are: give '
                '--config.latents=pixels or sd_vae'
            )
    part = config.parse(_Told, {'latents': said}, 'file').latents
    if wanted and wanted != part.name:
        raise ValueError(f'latents ({wanted}): the network draws {part.name}')
    if (latents.table.get(part.name).holds == 'points') != points:
        raise ValueError(f'file.latents ({part.name}) are none of such a network')
    config.build(part).stored_shape(snapshots.sample_shape(tree))
    return config.resolved(part)


def encoder_of(encoder):
    """The latents that the encoder of a pickle makes; {} if the file has none."""
    kind = encoder.get('class')
    if kind is None:
        return {}
    if kind not in list(LATENTS):
        raise ValueError(f'its encoder {kind!r:.80} is unknown; known are {", ".join(LATENTS)}')
    found = {part: encoder.get(part) for part in ('scale', 'bias')}
    return {'name': LATENTS[kind], **(found if LATENTS[kind] == 'sd_vae' else {})}


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
    facts |= {} if report.tracked else {'fit_error': report.fit_error}
    return state, {HEADER: json.dumps(facts, sort_keys=True)}


def exactly(array, dtype):
    """The array in dtype, or as it is if that changes it."""
    with np.errstate(over='ignore'):
        small = array.astype(dtype)
    return small if np.array_equal(small, array) else array
