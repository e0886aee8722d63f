"""Checkpoints as torch.save writes them, byte by byte: no torch, no pickle, no foreign code."""

import io
import struct
import zipfile
from typing import NamedTuple

import numpy as np
import published_files as pf

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
KINDS = {'f2': 'Half', 'f4': 'Float', 'f8': 'Double', 'i4': 'Int', 'i8': 'Long'}
DICT, REBUILD = pf.Global('collections', 'OrderedDict'), '_rebuild_tensor_v2'


class Id(NamedTuple):
    """A persistent id."""

    value: tuple


class Writer(pf.Writer):
    def __call__(self, value):
        return (
            super().__call__(value.value) + b'Q'
            if isinstance(value, Id)
            else super().__call__(value)
        )


def ordered(items):
    """An OrderedDict with the attribute that state dicts have."""
    return pf.Reduce(
        DICT, (), {'_metadata': pf.Reduce(DICT, (), None, {'': {'version': 1}})}, items
    )


def tensor(array, key, legacy=False, **changes):
    """A tensor that is its storage whole; changes: offset, size, stride, count, kind."""
    stride = tuple(step // array.itemsize for step in np.empty(array.shape, array.dtype).strides)
    said = {'offset': 0, 'size': array.shape, 'stride': stride, 'count': array.size}
    said |= {'kind': KINDS[array.dtype.str[1:]], **changes}
    kind = pf.Global('torch', said['kind'] + 'Storage')
    storage = Id(('storage', kind, key, 'cpu', said['count'], *([None] if legacy else [])))
    rest = (said['offset'], said['size'], said['stride'], False, pf.Reduce(DICT, ()))
    return pf.Reduce(pf.Global('torch._utils', REBUILD), (storage, *rest))


def tensors(arrays, legacy=False, **changes):
    """Tensors of arrays by name, with keys '0', '1', …; changes are those of the first."""
    rows = enumerate(arrays.items())
    return {
        name: tensor(array, str(i), legacy, **(changes if i == 0 else {}))
        for i, (name, array) in rows
    }


def pickled(value):
    return b'\x80\x02' + Writer(2)(value) + b'.'


def zip_file(arrays, wrap=ordered, root='archive', changes=(), entries=(), **claims):
    """The zip of a state dict. wrap: what is made of its tensors, by name; claims: of `tensor`.

    changes, entries: (name, bytes, None = without it) within the root, that replace, or are more.
    """
    contents = {
        'data.pkl': pickled(wrap(tensors(arrays, **claims))),
        'byteorder': b'little',
        **{f'data/{i}': array.tobytes() for i, array in enumerate(arrays.values())},
        'version': b'3\n',
        **dict(changes),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name, data in [*contents.items(), *entries]:
            if data is not None:
                archive.writestr(zipfile.ZipInfo(f'{root}/{name}'), data)
    return file.getvalue()


def stream(arrays, wrap=ordered, counts=None, **claims):
    """The legacy stream of a state dict; counts: elements that the storages say they have."""
    system = {'protocol_version': PROTOCOL, 'little_endian': True}
    keys = [str(i) for i in range(len(arrays))]
    parts = [MAGIC, PROTOCOL, system, wrap(tensors(arrays, legacy=True, **claims)), keys]
    data = b''.join(map(pickled, parts))
    for i, array in enumerate(arrays.values()):
        data += struct.pack('<q', array.size if counts is None else counts[i]) + array.tobytes()
    return data
