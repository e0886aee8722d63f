"""Images with labels by index, or latents. One file per kind of set, one line in this table.

A data set is a frozen dataclass whose fields are its settings; what it answers is the Dataset of
contracts.py. The order in which training sees it is order.py; batches of it come from loader.py.
"""

import inspect

from autoguide_jax.data.loader import batches
from autoguide_jax.data.order import indices
from autoguide_jax.registry import Registry, suggest

table = Registry(
    'data',
    {
        'digits': 'autoguide_jax.data.digits:Digits',
        'tfds': 'autoguide_jax.data.tfds:Tfds',
        'folder': 'autoguide_jax.data.folder:Folder',
        'latents': 'autoguide_jax.data.latents:Latents',
        'toy': 'autoguide_jax.data.toy:Toy',
    },
)


def open_dataset(name: str, **settings):
    """Return the data set of the table under this name, opened and checked.

    Errors: ValueError for an unknown name or setting, and for whatever is wrong with the data.
    """
    kind = table.get(name)
    known = inspect.signature(kind).parameters
    for setting in settings:
        if setting not in known:
            raise ValueError(f'data.{setting}: unknown setting of {name}.{suggest(setting, known)}')
    for setting, parameter in known.items():
        if parameter.default is parameter.empty and setting not in settings:
            raise ValueError(f'data.{setting}: required by {name}; give {setting}=…')
    return kind(**settings)


__all__ = ['batches', 'indices', 'open_dataset', 'table']
