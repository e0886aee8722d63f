"""Weights files of public networks as arrays, by name; nothing in them is executed.

Read are .npz and .safetensors, what torch.save writes (.pth, .pt, .bin, .ckpt): the zip that it has
written since 1.6, and the legacy stream of before; and the pickled modules of NVIDIA's detectors
(.pkl). Formats are told apart by content, whatever the file is called. Types are float16, 32, 64
and integers: bfloat16 is refused, for NumPy has no such type and no public file of the networks
here is in it. Weights that were rounded to float16 are read as they are; they are another network
than those they were made of, with another hash, and nothing here knows them as public.
"""

import hashlib
from typing import Any

import numpy as np

from autoguide_jax import files, state_dicts
from autoguide_jax.inert import pickles, torch_stream, torch_zip
from autoguide_jax.inert.records import Blob, Name, Refused, require

# Where training programs put the weights among other things.
WRAPPERS = ('state_dict', 'model', 'teacher')
# A pickle of protocol 2 that begins with torch's magic number.
LEGACY = b'\x80\x02\x8a\x0a' + torch_stream.MAGIC.to_bytes(10, 'little')
PICKLE = b'\x80'
# Names that an error shows, and characters.
MAX_SHOWN, MAX_TEXT = 5, 500


class _Tensor(tuple):
    """Arguments of a tensor, whose storage is read later."""


def _parameter(arguments):
    good = len(arguments) == 3 and type(arguments[0]) is _Tensor
    require(good, 'a parameter without a tensor')
    return arguments[0]


# OrderedDicts come without arguments; their attributes, such as versions of layers, are dropped.
WORLD = {
    name.name: name
    for name in (
        Name('collections.OrderedDict', call=lambda arguments: {}),
        Name('torch._utils._rebuild_tensor_v2', call=_Tensor),
        Name('torch._utils._rebuild_parameter', call=_parameter),
        *map(Name, torch_stream.TYPES),
    )
}


def read(p: Any) -> tuple[dict[str, np.ndarray], str]:
    """Return (name → array in the type of the file, sha256 of the file in hex).

    p: local or gs://, read once, as a whole. Arrays of a torch file are read-only views of what was
    read. A dict of tensors inside another one is taken if it is the only one there and is called
    state_dict, model or teacher.
    Errors: FileNotFoundError; ValueError naming the file if it is of no format above, damaged,
    names foreign code, or holds something else than arrays.
    """
    data = files.read_bytes(p)
    arrays = _parser(data, p)(data, p)
    for name, array in arrays.items():
        if array.dtype.newbyteorder('<') not in state_dicts.CODES:
            raise ValueError(f'{p}: {name!r} is of type {array.dtype}, which is not read')
    return arrays, hashlib.sha256(data).hexdigest()


def _parser(data, label):
    if data.startswith(LEGACY):
        return _read_stream
    if data[8:9] == b'{' and int.from_bytes(data[:8], 'little') <= len(data):
        return lambda data, label: state_dicts.parse(data, '.safetensors', label)
    if data.startswith(b'PK'):
        try:
            names = torch_zip.names(data)
        except Refused as error:
            raise ValueError(f'{label} is damaged: {error}') from error
        if any(name.endswith(torch_zip.PICKLE) for name in names):
            return _read_zip
        return lambda data, label: state_dicts.parse(data, '.npz', label)
    if data.startswith(PICKLE):
        return _read_pickle
    raise ValueError(
        f'{label} is no weights file: neither .npz nor .safetensors nor of torch.save nor a pickle '
        f'(it begins with {data[:8]!r})'
    )


def _read_stream(data, label):
    blob = Blob(memoryview(data), 0)
    return _read_torch(label, lambda: torch_stream.read(blob, WORLD, 'its pickle'))


def _read_zip(data, label):
    return _read_torch(label, lambda: torch_zip.read(data, WORLD, 'its data.pkl'))


def _read_pickle(data, label):
    try:
        return pickles.state_dict(pickles.interpret(memoryview(data), 'its pickle', pickles.LAYERS))
    except ValueError as error:
        raise ValueError(f'{label} is not a pickled module: {str(error)[:MAX_TEXT]}') from error


def _read_torch(label, load):
    try:
        found, elements = load()
        state = _state(found)
        # A legacy stream has its storages at odd bytes, where computing is slow.
        elements = {key: np.require(flat, requirements='A') for key, flat in elements.items()}
        return {name: _array(value, elements) for name, value in state.items()}
    except ValueError as error:
        raise ValueError(
            f'{label} is not a plain torch checkpoint: {str(error)[:MAX_TEXT]}'
        ) from error


def _state(found):
    """The dict of tensors that a file is, or has as the only one, under a usual name."""
    require(type(found) is dict, 'no dict of tensors')
    if _has_tensors(found):
        _check_tensors(found)
        return found
    inner = [key for key, value in found.items() if type(value) is dict and _has_tensors(value)]
    shown = ', '.join(map(repr, list(found)[:MAX_SHOWN])) or 'nothing'
    require(inner, f'no dict of tensors, but {shown}')
    good = len(inner) == 1 and inner[0] in WRAPPERS
    usual = ', '.join(WRAPPERS)
    require(good, f'tensors in {inner[:MAX_SHOWN]}; expected one of {usual}, and no others beside')
    _check_tensors(found[inner[0]])
    return found[inner[0]]


def _has_tensors(value):
    return any(type(item) is _Tensor for item in value.values())


def _check_tensors(state):
    others = [key for key, v in state.items() if type(v) is not _Tensor or type(key) is not str]
    require(not others, f'entries that are no tensors: {others[:MAX_SHOWN]}')


def _array(arguments, elements):
    storage = arguments[0] if arguments else None
    require(type(storage) is torch_stream.Announced, 'a tensor without a storage')
    return torch_stream.tensor(elements[storage.key], arguments)
