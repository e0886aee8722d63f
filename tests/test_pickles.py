"""Published pickles are read without running anything; whatever is else in one is refused."""

import json
import pathlib
import pickle
import struct
import sys
import types

import edm2_golden as golden
import fuzz_importer
import numpy as np
import published_files as pf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoguide_jax.importers import edm2, toy
from autoguide_jax.inert import pickles
from autoguide_jax.inert.machine import MAX_OPCODES

WEIGHT = np.arange(6, dtype=np.float16).reshape(2, 3)


def half(name):
    return {k: v.astype(np.float16) for k, v in golden.state_dict(name).items()}


def init_of(name):
    """Arguments of the published class, as a published file tells them."""
    config = json.loads(str(golden.arrays(name)['config_json']))
    return {**config, 'use_fp16': True, 'dropout': 0.1}


def read(value, tmp_path):
    """What read_pickle makes of a value that the writer writes, or of bytes."""
    file = tmp_path / 'net.pkl'
    file.write_bytes(value if isinstance(value, bytes) else pf.dump(value))
    return edm2.read_pickle(file)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize(
    ('name', 'encoder'),
    [
        ('net_a', pf.rgb_encoder()),
        ('net_c', pf.vae_encoder()),
        ('net_c', pf.vae_encoder('numpy._core.multiarray')),
    ],
)
def test_a_published_file_gives_its_state_dict_and_settings(name, encoder, tmp_path):
    state, init = half(name), init_of(name)
    data = pf.network_file(state, init, encoder, source='raise SystemExit("ran")\n' * 100)
    found, facts = read(data, tmp_path)
    same(found, state)
    assert facts['class'] == 'Precond' and facts['init'] == init
    assert facts['dataset_kwargs'] == {'path': 'images.zip', 'use_labels': True}
    assert facts['loss_fn'] == {'class': 'EDM2Loss', 'P_mean': -0.4}
    wanted = {'class': 'StandardRGBEncoder'}
    if name == 'net_c':
        wanted = {'class': 'StabilityVAEEncoder', 'vae_name': 'a name'}
        wanted |= {'scale': [1, 2, 3, 4], 'bias': [5, 6, 7, 8]}
    assert facts['encoder'] == wanted
    told, seen = edm2.settings_of(facts['init'])
    denoiser, _ = edm2.from_state_dict(found, **told)
    edm2.compare(denoiser.backbone, seen)
    assert denoiser.backbone.dropout == 0.1
    with pytest.raises(ValueError, match=r'read-only'):
        found['unet.out_gain'][...] = 1


def test_a_toy_pickle_gives_the_network_of_the_2d_example(tmp_path):
    with np.load(pathlib.Path(__file__).parent / 'golden/toy_model_dim32_f64.npz') as arrays:
        state = {k[8:]: arrays[k] for k in arrays if k.startswith('weights/')}
    found, facts = read(pf.toy_file(state), tmp_path)
    same(found, state)
    assert facts == {'class': 'ToyModel', 'init': {'num_layers': 4, 'hidden_dim': 32}}
    denoiser, variables = toy.from_state_dict(found)
    assert (denoiser.backbone.width, denoiser.backbone.layers) == (32, 4)
    same(toy.to_state_dict(denoiser, variables), state)


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_other_protocols_are_read_if_they_hold_nothing_else(protocol, tmp_path):
    # From 3 on there are bytes, from 4 on sets: older files name a function for them.
    value = {'ema': pf.persistent('Net', {'_parameters': {}, 'size': 3})}
    assert read(pf.dump(value, protocol), tmp_path) == ({}, {'class': 'Net', 'init': {}})


def test_the_source_code_in_a_file_is_not_even_decoded(tmp_path):
    source = pf.Raw(b'X' + struct.pack('<I', 4) + b'\xff\xfe\xfd\xfc')
    assert read(pf.persistent('Net', {}, source), tmp_path)[1]['class'] == 'Net'
    # Elsewhere such a text is an error.
    with pytest.raises(ValueError, match='not utf-8'):
        read(pf.persistent('Net', {'x': source}), tmp_path)


class Canary:
    """Pickles as a call of whatever it is given."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


CALLS = {
    'os.system': lambda f: (__import__('os').system, (f'touch {f}',)),
    'builtins.eval': lambda f: (eval, (f'open({str(f)!r}, "w")',)),
    'builtins.exec': lambda f: (exec, (f'open({str(f)!r}, "w")',)),
    'subprocess.Popen': lambda f: (__import__('subprocess').Popen, (['touch', str(f)],)),
    'builtins.getattr': lambda f: (getattr, (f, 'touch')),
}


@pytest.mark.parametrize('name', CALLS)
@pytest.mark.parametrize('protocol', [2, 4])
def test_no_call_is_ever_made(name, protocol, tmp_path):
    canary = tmp_path / 'canary'
    data = pickle.dumps({'ema': Canary(*CALLS[name](canary))}, protocol)
    with fuzz_importer.Audit() as events, pytest.raises(ValueError, match='no place') as error:
        read(data, tmp_path)
    assert name.rpartition('.')[2] in str(error.value) and 'net.pkl, byte ' in str(error.value)
    assert not canary.exists()
    assert set(events) <= {'open', 'mmap.__new__', 'os.listdir', 'pathlib.Path.glob', 'exec'}


def test_source_code_that_would_run_does_not(tmp_path):
    canary = tmp_path / 'canary'
    source = f'open({str(canary)!r}, "w")\n'
    read(pf.network_file({'gain': np.float16(1)}, {}, source=source), tmp_path)
    assert not canary.exists()


NAMES = [
    'torch.load', 'torch.nn.modules.linear.Linear', 'numpy.load', 'functools.partial',
    'dnnlib.util.construct_class_by_name', 'torch_utils.persistence.import_hook',
    'numpy.core.multiarray.scalar', 'builtins.set', '_codecs.encode', 'torch.HalfStorage',
]  # fmt: skip


@pytest.mark.parametrize('name', NAMES)
def test_every_other_name_is_refused_by_name(name, tmp_path):
    module, _, leaf = name.rpartition('.')
    with pytest.raises(ValueError, match=rf'byte \d+: {name} has no place'):
        read({'ema': pf.Global(module, leaf)}, tmp_path)


def lie(**options):
    return pf.tensor(WEIGHT, data=pf.stream(WEIGHT, **options))


def around(tensor):
    return {'ema': pf.persistent('Net', {'_parameters': {'w': tensor}})}


def chain(depth, value=None):
    for _ in range(depth):
        value = pf.persistent('Net', {'_modules': {'inner': value}})
    return value


# A module that is its own child; settings of 8^14 values in 14 lists; a list within itself.
SELF = b'\x80\x04' + pf.Writer(4)(pf.Global('torch.nn.modules.container', 'Sequential'))
SELF += b')\x81\x94}(\x8c\x08_modules}(\x8c\x01ah\x03uub.'
LAUGHS = b']q\x00' + b''.join(
    b'0]q' + bytes([i]) + b'(' + bytes([ord('h'), i - 1]) * 8 + b'e' for i in range(1, 15)
)
LOOP = b']q\x00h\x00a'


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (around(lie(numel=7)), 'needs 14 bytes, but 12 are left'),
        (around(lie(numel=2**61, announced=2**61)), 'but 12 are left'),
        (around(lie(announced=7)), '6 elements, 7 announced'),
        (around(lie(kind='DoubleStorage')), r'torch\.DoubleStorage has no place'),
        (around(lie(keys=['94', '95'])), 'keys'),
        (around(lie(magic=7)), 'magic'),
        (around(lie(key=7)), 'persistent id'),
        (around(pf.tensor(WEIGHT, size=(2, 4))), 'ends at 7 of 6'),
        (around(pf.tensor(WEIGHT, offset=1)), 'ends at 7 of 6'),
        (around(pf.tensor(WEIGHT, offset=-1)), 'negative'),
        (around(pf.tensor(WEIGHT, stride=(3, -1))), 'negative'),
        (around(pf.tensor(WEIGHT, size=(2**40, 2**40), stride=(0, 0))), 'elements'),
        (around(pf.tensor(WEIGHT, size=(1,) * 9, stride=(1,) * 9)), 'do not fit'),
        (around(pf.tensor(WEIGHT, data=b'')), 'truncated'),
        (around(pf.Reduce(pf.LOAD, (7,))), 'not of bytes'),
        (around(pf.Reduce(pf.Global('torch._utils', '_rebuild_parameter'), (1, 2, 3))), 'tensor'),
        (around(pf.Reduce(pf.EASY_DICT, ())), r'REDUCE of dnnlib\.util\.EasyDict'),
        (around(pf.New(pf.LOAD)), r'NEWOBJ of torch\.storage\._load_from_bytes'),
        (around(pf.New(pf.EASY_DICT, state={'a': 1})), 'BUILD of'),
        (around(pf.Reduce(pf.PERSISTENT, (7,))), 'no dict'),
        (around('no tensor'), '_parameters|w is a str'),
        (around(pf.Raw(b'\x82\x01')), 'opcode EXT1 has no place'),
        (around(pf.Raw(b'(ios\nsystem\n')), 'opcode INST has no place'),
        (around(pf.Raw(b'(o')), 'opcode OBJ has no place'),
        (around(pf.Raw(b'K\x01Q')), 'persistent id outside'),
        (around(pf.Raw(b'P1\n')), 'opcode PERSID has no place'),
        (around(pf.Raw(b'\x97')), 'opcode NEXT_BUFFER has no place'),
        (around(pf.Raw(b'\xfe')), 'opcode 0xfe has no place'),
        (around(pf.Raw(b'B\xff\xff\xff\xff')), 'needs 4294967295 bytes'),
        (around(pf.Raw(b'\x8e' + b'\xff' * 8)), 'needs 18446744073709551615 bytes'),
        (around(pf.Raw(b'\x8b\xff\xff\xff\x7f')), 'integer of 2147483647 bytes'),
        (around(pf.Raw(b'h\x77')), 'memo 119 is not set'),
        (around(pf.Raw(b'e')), 'no MARK|needs a list'),
        (around(pf.Raw(pf.text('x' * 70_000))), 'a text of 70000 bytes'),
        (chain(40), 'nested more than 32 deep'),
        (pf.persistent('Net', {'_init_kwargs': {'a': pf.Raw(LAUGHS)}}), 'more than 200000'),
        (pf.persistent('Net', {'_init_kwargs': {'a': pf.Raw(LOOP)}}), 'deep'),
        (pf.persistent('Net', {'_init_args': (1,)}), 'unnamed'),
        ({'net_g': 1}, 'no network file'),
        (b'', 'is empty'),
        (b'\x80\x04}.}', 'byte 4: 1 bytes after the end'),
        (b'\x80\x01}.', 'protocol 1'),
        (b'\x80\x04' + b'(' * 50 + b'.', 'STOP too early'),
        (b'\x80\x04' + b'}0' * MAX_OPCODES + b'.', f'more than {MAX_OPCODES} opcodes'),
        (SELF, 'holds itself'),
        (b'PK\x03\x04' + bytes(30), 'byte 0: opcode'),
    ],
    ids=lambda v: v if isinstance(v, str) else '',
)
def test_what_lies_or_leads_astray_is_refused_by_name(value, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        read(value, tmp_path)
    assert 'net.pkl' in str(error.value)


@pytest.mark.parametrize('name', ['shape', 'data'])
def test_a_numpy_array_of_another_size_is_refused(name, tmp_path):
    lies = {'shape': (2**60,), 'data': b'\0' * 5}
    array = pf.numpy_array(np.ones(3, np.float32), **{name: lies[name]})
    with pytest.raises(ValueError, match='a numpy array of .* bytes in'):
        read({'ema': pf.persistent('Net', {'scale': array})}, tmp_path)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    data = pf.network_file({'gain': np.float16(1)}, {}, pf.vae_encoder())
    read(data, tmp_path)
    for end in range(1, len(data), 7):
        with pytest.raises(ValueError, match=r'net\.pkl'):
            read(data[:end], tmp_path)


def test_tensors_that_share_their_elements_cannot_outgrow_the_file(tmp_path):
    big = np.zeros(5000, np.float16)
    read(around(pf.tensor(big)), tmp_path)
    storage = pf.Writer(4)(pf.Reduce(pf.LOAD, (pf.stream(big),)))
    rebuild = b'ctorch._utils\n_rebuild_tensor_v2\n'
    view = rebuild + b'(h\x64K\x00' + b'M\x88\x13\x85K\x01\x85\x89}tR'
    many = storage + b'q\x640' + b']' + (view + b'a') * 5
    with pytest.raises(ValueError, match='together larger than the file'):
        read({'ema': pf.Raw(many)}, tmp_path)


FILES = fuzz_importer.fixtures()
FILES += [fuzz_importer.unframed(data) for data in FILES]
KNOWN = {}


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_mutated_files_are_read_or_refused_and_nothing_runs(data):
    def choose(n):
        return data.draw(st.integers(0, n - 1))

    file = FILES[choose(len(FILES))]
    for _ in range(1 + choose(3)):
        file = fuzz_importer.mutate(file, FILES, choose)
    fuzz_importer.outcome(file, KNOWN)


def test_a_short_fuzz_run():
    counts, _ = fuzz_importer.run(400, seed=0)
    assert sum(counts.values()) == 404  # and four headers
    assert counts['refused: no place'] > 20 and counts['refused: truncated'] > 20


def test_interpreting_needs_no_file():
    assert pickles.interpret(memoryview(pf.dump({'a': [1, -2, 2**70, 1.5, None]})), 'x') == {
        'a': [1, -2, 2**70, 1.5, None]
    }


@pytest.mark.parametrize('kind', ['float16', 'float32'])
def test_what_torch_and_pickle_themselves_write_is_read(kind, tmp_path, monkeypatch):
    torch = pytest.importorskip('torch')
    easy_dict = type('EasyDict', (dict,), {'__module__': 'dnnlib.util'})
    known = {'dnnlib.util': easy_dict, 'torch_utils.persistence': pf.persistent}
    for name, value in known.items():
        module = types.ModuleType(name)
        attribute = pf.PERSISTENT.name if value is pf.persistent else 'EasyDict'
        setattr(module, attribute, value)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ('dnnlib', 'torch_utils'):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    function = types.FunctionType(pf.persistent.__code__, {}, pf.PERSISTENT.name)
    function.__module__, function.__qualname__ = pf.PERSISTENT.module, pf.PERSISTENT.name
    sys.modules['torch_utils.persistence']._reconstruct_persistent_obj = function

    class Net(torch.nn.Module):
        def __reduce__(self):
            meta = easy_dict(type='class', version=6, module_src='exit()', class_name='Net')
            meta['state'] = self.__dict__
            return function, (meta,), None, None, None

    net, inner = Net(), Net()
    weight = np.arange(24).reshape(2, 3, 2, 2).astype(kind)
    inner.weight = torch.nn.Parameter(torch.from_numpy(weight).permute(1, 0, 2, 3), False)
    inner.register_buffer('freqs', torch.from_numpy(np.arange(3).astype(kind)))
    net.enc = torch.nn.ModuleDict({'4x4_conv': inner})
    net.gain = torch.nn.Parameter(torch.tensor(0.5, dtype=getattr(torch, kind)), False)
    net.emb_label, net._init_kwargs = None, easy_dict(label_dim=0)
    encoder = Net()
    encoder.scale = np.arange(4, dtype=np.float32)
    state, facts = read(pickle.dumps(easy_dict(ema=net, encoder=encoder), 4), tmp_path)
    wanted = {'enc.4x4_conv.weight': weight.transpose(1, 0, 2, 3), 'gain': np.array(0.5, kind)}
    same(state, wanted | {'enc.4x4_conv.freqs': np.arange(3).astype(kind)})
    assert facts['init'] == {'label_dim': 0} and facts['encoder']['scale'] == [0, 1, 2, 3]
