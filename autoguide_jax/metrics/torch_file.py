"""Read a legacy (pre-zip) torch checkpoint of plain tensors, executing nothing of what it names."""

from typing import Any

import numpy as np

from autoguide_jax import files
from autoguide_jax.inert import torch_stream
from autoguide_jax.inert.records import Blob, Name, require


class _Tensor(tuple):
    """Arguments of a tensor, whose storage follows later in the file."""


# OrderedDicts come without arguments; their attributes, such as versions of layers, are dropped.
WORLD = {
    name.name: name
    for name in (
        Name('collections.OrderedDict', call=lambda arguments: {}),
        Name('torch._utils._rebuild_tensor_v2', call=_Tensor),
        *map(Name, torch_stream.TYPES),
    )
}


def _array(arguments, elements):
    storage = arguments[0] if arguments else None
    require(type(storage) is torch_stream.Announced, 'a tensor without a storage')
    return torch_stream.tensor(elements[storage.key], arguments).copy()


def read_state_dict(p: Any) -> dict[str, np.ndarray]:
    """Return name → array of a legacy torch checkpoint.

    Errors: ValueError naming the file for anything that is not one, or that names foreign code.
    """
    data = memoryview(files.read_bytes(p))
    try:
        state, elements = torch_stream.read(Blob(data, 0), WORLD, 'its pickle')
        require(type(state) is dict, 'no dict of tensors')
        return {k: _array(v, elements) for k, v in state.items() if type(v) is _Tensor}
    except ValueError as error:
        raise ValueError(f'{p} is not a plain torch checkpoint: {error}') from error
