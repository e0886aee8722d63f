"""Published pickles → plain values, instances and arrays; nothing in them is executed.

The closed world is that of EDM2's network files: EasyDict and OrderedDict become dicts, persistent
and torch modules become `Instance`s (class name and state; their source code is not even decoded),
tensors and numpy arrays become read-only views of the file. Everything else is an error that names
it. The file is mapped, not read: memory is what the caller copies. A feature detector of the same
publisher has torch's own layers too: LAYERS, which a caller allows by name.
"""

import dataclasses
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from autoguide_jax import buckets, files
from autoguide_jax.inert import arrays, torch_stream
from autoguide_jax.inert.arrays import Array
from autoguide_jax.inert.machine import MAX_OPCODES, Machine
from autoguide_jax.inert.records import Blob, Name, Record, Refused, described, require

MAX_DEPTH, MAX_PLAIN = 16, 200_000
MAX_NESTED, MAX_MODULES = 32, 20_000
CONTAINERS = ('torch.nn.modules.container.ModuleDict', 'torch.nn.modules.container.Sequential')
LAYERS = (
    *CONTAINERS, 'torch.nn.modules.activation.ReLU', 'torch.nn.modules.linear.Linear',
    'torch.nn.modules.pooling.AvgPool2d', 'torch.nn.modules.pooling.MaxPool2d',
)  # fmt: skip
STORAGES = {name: Name(name) for name in ('torch.HalfStorage', 'torch.FloatStorage')}


@dataclasses.dataclass(frozen=True)
class Storage:
    """Elements of one type: a read-only view [count] of the file."""

    elements: np.ndarray


@dataclasses.dataclass
class Instance(Record):
    """An object of a class that is only named: class_name, state (its attributes)."""

    class_name: str = ''

    def build(self, state: Any) -> None:
        """Take the attributes. Errors: Refused unless they are a dict."""
        require(type(state) is dict, f'{self.class_name} with a state that is {described(state)}')
        super().build(state)


def _persistent(arguments):
    require(len(arguments) == 1 and type(arguments[0]) is dict, 'a persistent object of no dict')
    meta = arguments[0]
    name, state = meta.get('class_name'), meta.get('state')
    good = type(name) is type(meta.get('type')) is str and meta['type'] == 'class'
    require(good, 'a persistent object of no class')
    found = Instance(class_name=name)
    if state is not None:
        found.build(state)
    return found


def _parameter(arguments):
    good = len(arguments) == 3 and type(arguments[0]) is np.ndarray
    require(good, 'a parameter without a tensor')
    return arguments[0]


def _empty_dict(arguments):
    require(not arguments, 'an OrderedDict that is made of something')
    return {}


class _Totals:
    """Tensors and storages of one file, counted while they are made."""

    def __init__(self, label, size):
        # None of the published tensors share elements, so they cannot be more than the file.
        self.label, self.left, self.budget = label, size, [MAX_OPCODES]

    def storage(self, arguments):
        require(len(arguments) == 1, 'a tensor storage of several arguments')
        require(type(arguments[0]) is Blob, 'a tensor storage that is not of bytes')
        found, elements = torch_stream.read(arguments[0], STORAGES, self.label, self.budget)
        require(type(found) is torch_stream.Announced, 'a torch stream without a storage')
        return Storage(elements[found.key])

    def tensor(self, arguments):
        good = arguments and type(arguments[0]) is Storage
        require(good, 'a tensor without a storage')
        found = torch_stream.tensor(arguments[0].elements, arguments)
        self.left -= found.nbytes
        require(self.left >= 0, 'tensors that are together larger than the file')
        return found


def world(totals, modules=CONTAINERS) -> dict[str, Name]:
    """Every name that may stand in a file, with the inert record that it makes.

    modules: torch's own modules that are allowed.
    """
    names = [
        Name('dnnlib.util.EasyDict', new=dict),
        Name('torch_utils.persistence._reconstruct_persistent_obj', call=_persistent),
        Name('collections.OrderedDict', call=_empty_dict),
        Name('torch._utils._rebuild_parameter', call=_parameter),
        Name('torch._utils._rebuild_tensor_v2', call=totals.tensor),
        Name('torch.storage._load_from_bytes', call=totals.storage),
    ]
    for name in modules:
        make = lambda name=name: Instance(class_name=name.rpartition('.')[2])
        names.append(Name(name, new=make))
    return {**arrays.world(), **{name.name: name for name in names}}


def interpret(data: memoryview, label: str, modules: Sequence[str] = CONTAINERS) -> Any:
    """Return the object of a pickle that fills data.

    modules: torch's own modules that are allowed. Errors: ValueError naming label and byte.
    """
    totals = _Totals(label, len(data))
    machine = Machine(Blob(data, 0), world(totals, modules), label, budget=totals.budget)
    root = machine.load()
    if machine.at != len(data):
        rest = len(data) - machine.at
        raise ValueError(f'{label}, byte {machine.at}: {rest} bytes after the end of the pickle')
    return root


def read(p: Any) -> Any:
    """Return the object of a pickle file, local or in a bucket; views of it keep it mapped.

    Errors: FileNotFoundError; ValueError naming the file, the byte and what is not allowed there.
    """
    with buckets.on_disk(files.path(p)) as local, open(local, 'rb') as file:
        if not file.seek(0, 2):
            raise ValueError(f'{p} is empty')
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return interpret(data, str(p))


def plain(value: Any, depth: int = 0, budget: list[int] | None = None) -> Any:
    """Return a value as JSON has it; instances as {'class': …, settings it was made with}.

    budget: how much it may hold; the same value counts wherever it stands. Errors: Refused for
    what is not plain: tensors, bytes, nesting beyond MAX_DEPTH, more than MAX_PLAIN characters.
    """
    budget = [MAX_PLAIN] if budget is None else budget
    inner = lambda item: plain(item, depth + 1, budget)
    if isinstance(value, Array) and value.value is not None:
        budget[0] -= 8 * value.value.size
    budget[0] -= 8 + (len(value) if type(value) is str else 0)
    require(depth <= MAX_DEPTH, f'settings that are nested more than {MAX_DEPTH} deep')
    require(budget[0] >= 0, f'settings of more than {MAX_PLAIN} characters')
    if isinstance(value, Array) and value.value is not None:
        return value.value.tolist()
    if type(value) is Instance:
        made = (value.state or {}).get('_init_kwargs', {})
        require(type(made) is dict, f'{value.class_name} was made with {described(made)}')
        return {'class': value.class_name, **inner(made)}
    if type(value) is dict:
        return {inner(str(key)): inner(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [inner(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise Refused(f'{described(value)} among settings')


def state_dict(module: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a module and those in it by dotted name, as torch's state_dict has them.

    Errors: Refused for what is no tree of modules, or has a name twice.
    """
    require(type(module) is Instance, f'{described(module)} where a module should be')
    found = {}
    for name, array in _arrays(module, '', (), [MAX_MODULES]):
        require(name not in found, f'{name} is there twice')
        found[name] = array
    return found


def _arrays(module, prefix, path, budget):
    budget[0] -= 1
    require(budget[0] >= 0, f'more than {MAX_MODULES} modules')
    require(id(module) not in path, f'module {prefix or "ema"} holds itself')
    require(len(path) < MAX_NESTED, f'modules that are nested more than {MAX_NESTED} deep')
    state = module.state or {}
    for kind, wanted in (('_parameters', np.ndarray), ('_buffers', np.ndarray), ('_modules', None)):
        members = state.get(kind, {})
        require(type(members) is dict, f'{prefix}{kind} is {described(members)}')
        for name, value in members.items():
            require(type(name) is str, f'{prefix}{kind} has a name that is no text')
            wanted_here = wanted or Instance
            if value is None:
                continue
            require(type(value) is wanted_here, f'{prefix}{name} is {described(value)}')
            if wanted is None:
                yield from _arrays(value, f'{prefix}{name}.', (*path, id(module)), budget)
            else:
                yield f'{prefix}{name}', value
