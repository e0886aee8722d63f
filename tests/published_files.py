"""Network files as EDM2 publishes them, written byte by byte: no torch, no pickle, no foreign code.

`dump` writes Python values, and what the classes below stand for, as a pickle; `network_file` the
whole of a published file from a state dict with published names.
"""

import struct
from typing import Any, NamedTuple

import numpy as np

CONTAINERS = {'enc', 'dec'}
HOOKS = ('_backward_hooks', '_forward_hooks', '_forward_pre_hooks', '_state_dict_hooks')


class Global(NamedTuple):
    module: str
    name: str


class Reduce(NamedTuple):
    function: Global
    arguments: tuple
    state: Any = None
    items: dict = {}


class New(NamedTuple):
    cls: Global
    state: Any = None
    items: dict = {}


class Raw(NamedTuple):
    """Opcodes as they are."""

    data: bytes


EASY_DICT = Global('dnnlib.util', 'EasyDict')
PERSISTENT = Global('torch_utils.persistence', '_reconstruct_persistent_obj')
LOAD = Global('torch.storage', '_load_from_bytes')


def text(value):
    data = value.encode()
    return b'\x8c' + bytes([len(data)]) + data if len(data) < 256 else b'X' + sized(data)


def sized(data, code='<I'):
    return struct.pack(code, len(data)) + data


def integer(value):
    if 0 <= value < 256:
        return b'K' + bytes([value])
    if 0 <= value < 65536:
        return b'M' + struct.pack('<H', value)
    if -(2**31) <= value < 2**31:
        return b'J' + struct.pack('<i', value)
    data = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
    return b'\x8a' + sized(data, '<B')


class Writer:
    """Emits one pickle; texts are memoized and fetched again, as pickle does it."""

    def __init__(self, protocol=4):
        self.protocol, self.memo, self.known = protocol, 0, {}

    def memoize(self):
        self.memo += 1
        if self.protocol >= 4:
            return b'\x94'
        return (
            b'q' + bytes([self.memo - 1])
            if self.memo <= 256
            else b'r' + struct.pack('<I', self.memo - 1)
        )

    def text(self, value):
        if value in self.known:
            at = self.known[value]
            return b'h' + bytes([at]) if at < 256 else b'j' + struct.pack('<I', at)
        self.known[value] = self.memo
        data = value.encode()
        short = text(value) if self.protocol >= 4 else b'X' + sized(data)
        return short + self.memoize()

    def items(self, items):
        pairs = b''.join(self(k) + self(v) for k, v in items.items())
        return b'(' + pairs + b'u' if items else b''

    def __call__(self, value):
        """The opcodes of a value."""
        if isinstance(value, Raw):
            return value.data
        if isinstance(value, Global):
            if self.protocol >= 4:
                return self.text(value.module) + self.text(value.name) + b'\x93' + self.memoize()
            return f'c{value.module}\n{value.name}\n'.encode() + self.memoize()
        if isinstance(value, Reduce | New):
            made, code = (value.arguments, b'R') if isinstance(value, Reduce) else ((), b'\x81')
            head = self(value[0]) + self(made) + code + self.memoize() + self.items(value.items)
            return head + (b'' if value.state is None else self(value.state) + b'b')
        if value is None or isinstance(value, bool):
            return {None: b'N', True: b'\x88', False: b'\x89'}[value]
        if isinstance(value, int):
            return integer(value)
        if isinstance(value, float):
            return b'G' + struct.pack('>d', value)
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            short = len(value) < 256
            head = b'C' + sized(value, '<B') if short else b'B' + sized(value)
            return head + self.memoize()
        return self.container(value)

    def container(self, value):
        if isinstance(value, dict):
            return b'}' + self.memoize() + self.items(value)
        if isinstance(value, set):
            return b'\x8f' + self.memoize()
        inner = b''.join(map(self, value))
        if isinstance(value, list):
            return b']' + self.memoize() + (b'(' + inner + b'e' if value else b'')
        if not value:
            return b')'
        code = {1: b'\x85', 2: b'\x86', 3: b'\x87'}
        return (
            inner + code[len(value)] if len(value) < 4 else b'(' + inner + b't'
        ) + self.memoize()


def dump(value, protocol=4):
    """A pickle of the value; from protocol 4 on in one frame."""
    body = Writer(protocol)(value) + b'.'
    frame = b'\x95' + struct.pack('<Q', len(body)) if protocol >= 4 else b''
    return b'\x80' + bytes([protocol]) + frame + body


def ordered(items=None):
    return Reduce(Global('collections', 'OrderedDict'), (), items=items or {})


def stream(array, numel=None, announced=None, kind=None, key='94', keys=None, magic=None):
    """The legacy stream of a tensor storage; the options tell lies."""
    kind = kind or {'float16': 'HalfStorage', 'float32': 'FloatStorage'}[str(array.dtype)]
    numel = array.size if numel is None else numel
    announced = numel if announced is None else announced
    pid = ('storage', Global('torch', kind), key, 'cpu', announced, None)
    sizes = {'short': 2, 'int': 4, 'long': 4}
    system = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': sizes}
    parts = [
        dump(0x1950A86A20F9469CFC6C if magic is None else magic, 2),
        dump(1001, 2),
        dump(system, 2),
        b'\x80\x02' + Writer(2)(pid) + b'Q.',
        dump([key] if keys is None else keys, 2),
        struct.pack('<q', numel) + array.tobytes(),
    ]
    return b''.join(parts)


def tensor(array, size=None, stride=None, offset=0, data=None):
    """The options tell lies."""
    array = np.asarray(array, order='C')
    stride = tuple(s // array.itemsize for s in array.strides) if stride is None else stride
    storage = Reduce(LOAD, (stream(array) if data is None else data,))
    size = array.shape if size is None else size
    rebuild = Global('torch._utils', '_rebuild_tensor_v2')
    return Reduce(rebuild, (storage, offset, size, stride, False, ordered()))


def parameter(array):
    return Reduce(Global('torch._utils', '_rebuild_parameter'), (tensor(array), False, ordered()))


def numpy_array(array, core='numpy.core.multiarray', **lies):
    code = array.dtype.str[1:]
    dtype = Reduce(
        Global('numpy', 'dtype'), (code, False, True), (3, '<', None, None, None, -1, -1, 0)
    )
    facts = {'shape': array.shape, 'data': array.tobytes()} | lies
    state = (1, facts['shape'], dtype, False, facts['data'])
    start = (Global('numpy', 'ndarray'), (0,), b'b')
    return Reduce(Global(core, '_reconstruct'), start, state)


def attributes(parameters=None, buffers=None, modules=None, **more):
    """The state of a torch module."""
    hooks = {name: ordered() for name in HOOKS}
    return {
        'training': False,
        '_parameters': ordered(parameters),
        '_buffers': ordered(buffers),
        '_non_persistent_buffers_set': set(),
        **hooks,
        '_modules': ordered(modules),
        **more,
    }


def persistent(class_name, state, source=''):
    meta = {
        'type': 'class', 'version': 6, 'module_src': source, 'class_name': class_name,
        'state': state,
    }  # fmt: skip
    return Reduce(PERSISTENT, (New(EASY_DICT, items=meta),))


def modules_of(state, init, class_name, source='', containers=CONTAINERS, container='ModuleDict'):
    """The tree of modules of a state dict, as published."""

    def build(name, entries, more):
        inner, leaves = {}, {}
        for key, value in entries.items():
            first, _, rest = key.partition('.')
            if rest:
                inner.setdefault(first, {})[rest] = value
            else:
                leaves[key] = value
        modules = {k: build(k, v, {'skip': None}) for k, v in inner.items()}
        frozen = {k: tensor(v) for k, v in leaves.items() if k in ('freqs', 'phases')}
        learned = {k: parameter(v) for k, v in leaves.items() if k not in frozen}
        made = attributes(learned, frozen, modules, **({} if name in containers else more))
        if name in containers:
            return New(Global('torch.nn.modules.container', container), made)
        return persistent(name or class_name, made, source)

    return build('', state, {'_init_args': (), '_init_kwargs': New(EASY_DICT, items=init)})


def rgb_encoder():
    return persistent('StandardRGBEncoder', {'_init_args': (), '_init_kwargs': {}})


def vae_encoder(core='numpy.core.multiarray', scale=(1, 2, 3, 4), bias=(5, 6, 7, 8)):
    arrays = {'scale': np.float32(scale), 'bias': np.float32(bias)}
    state = {'vae_name': 'a name', 'batch_size': 8, '_vae': None}
    state |= {k: numpy_array(v, core) for k, v in arrays.items()}
    return persistent('StabilityVAEEncoder', state)


def network_file(state, init, encoder=None, source='', protocol=4, **more):
    """The bytes of a published network file."""
    loss = persistent('EDM2Loss', {'P_mean': -0.4, '_init_kwargs': {'P_mean': -0.4}})
    members = {'encoder': encoder or rgb_encoder()}
    members |= {'dataset_kwargs': New(EASY_DICT, items={'path': 'images.zip', 'use_labels': True})}
    members |= {'loss_fn': loss, 'ema': modules_of(state, init, 'Precond', source), **more}
    return dump(New(EASY_DICT, items=members), protocol)


def toy_file(state, init=None, protocol=4):
    """The bytes of a pickle of the 2-D example: the network itself."""
    init = {'num_layers': 4, 'hidden_dim': len(state['layers.0.weight'])} if init is None else init
    net = modules_of(state, init, 'ToyModel', containers={'layers'}, container='Sequential')
    return dump(net, protocol)
