"""State dicts come back as they were written; what is damaged says so."""

import json
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from bucket import bucket  # noqa: F401

from autoguide_jax import files, state_dicts

ARRAYS = {
    'unet.out_gain': np.float32(0.25).reshape(()),
    'unet.enc.8x8_conv.weight': np.arange(24, dtype=np.float16).reshape(2, 3, 2, 2),
    'flipped': np.arange(6.0).reshape(2, 3).T,
    'none': np.zeros((0, 3), np.int64),
    'odd': np.arange(3, dtype=np.uint8),
    'yes': np.array([True, False]),
}
SUFFIXES = pytest.mark.parametrize('suffix', state_dicts.SUFFIXES)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, name
        np.testing.assert_array_equal(a[name], b[name])


@pytest.fixture(params=['local', 'bucket'])
def folder(request, tmp_path):
    if request.param == 'local':
        return files.path(tmp_path)
    return files.path(request.getfixturevalue('bucket')) / tmp_path.name


@SUFFIXES
def test_names_types_and_values_come_back(folder, suffix):
    state_dicts.write(folder / f'a{suffix}', ARRAYS)
    same(state_dicts.read(folder / f'a{suffix}'), ARRAYS)


def test_safetensors_are_those_of_the_library(tmp_path):
    facts = {'network': 'µ'}
    state_dicts.write(tmp_path / 'a.safetensors', ARRAYS, facts)
    same(safetensors.numpy.load_file(tmp_path / 'a.safetensors'), ARRAYS)
    assert state_dicts.read_metadata(tmp_path / 'a.safetensors') == facts
    ready = {name: np.asarray(value, order='C') for name, value in ARRAYS.items()}
    safetensors.numpy.save_file(ready, tmp_path / 'b.safetensors', metadata=facts)
    same(state_dicts.read(tmp_path / 'b.safetensors'), ARRAYS)
    assert state_dicts.read_metadata(tmp_path / 'b.safetensors') == facts


@SUFFIXES
@pytest.mark.parametrize('harm', ['cut', 'empty', 'other', 'longer'])
def test_a_damaged_file_is_named(tmp_path, suffix, harm):
    file = tmp_path / f'a{suffix}'
    state_dicts.write(file, ARRAYS)
    data = file.read_bytes()
    harmed = {
        'cut': data[:-20],
        'empty': b'',
        'other': b'\x80\x04}.' * 9,
        'longer': data + b'0' * 8,
    }
    if (suffix, harm) == ('.npz', 'longer'):
        return  # zip files may have more behind them
    file.write_bytes(harmed[harm])
    with pytest.raises(ValueError, match=rf'a\{suffix} is damaged'):
        state_dicts.read(file)
    if suffix == '.safetensors' and harm in ('empty', 'other'):
        with pytest.raises(ValueError, match='is damaged'):
            state_dicts.read_metadata(file)


def member(header, data=b''):
    text = repr(header).encode()
    return b'\x93NUMPY\x01\x00' + len(text).to_bytes(2, 'little') + text + data


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (
            {'a.npy': member({'descr': '<f4', 'fortran_order': False, 'shape': (10**12,)})},
            r"'a' is not as long as its shape \(1000000000000,\)",
        ),
        ({'a.npy': member({'descr': '|O', 'fortran_order': False, 'shape': (1,)})}, 'objects'),
        ({'a.npy': b'\x80\x04.'}, 'magic'),
        ({'a.txt': b''}, "'a.txt' is no array"),
    ],
)
def test_an_npz_that_claims_too_much_is_refused(tmp_path, content, message):
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=message):
        state_dicts.read(tmp_path / 'a.npz')


def test_safetensors_that_claim_too_much_are_refused(tmp_path):
    entry = {'dtype': 'F32', 'shape': [10**12], 'data_offsets': [0, 4 * 10**12]}
    text = json.dumps({'a': entry}).encode()
    (tmp_path / 'a.safetensors').write_bytes(len(text).to_bytes(8, 'little') + text)
    with pytest.raises(ValueError, match='is damaged'):
        state_dicts.read(tmp_path / 'a.safetensors')


def test_what_a_format_cannot_hold_is_refused_and_nothing_is_written(tmp_path):
    for suffix in state_dicts.SUFFIXES:
        with pytest.raises(ValueError, match=r"'a'.*object|object.*'a'"):
            state_dicts.write(tmp_path / f'a{suffix}', {'a': np.array([None])})
    with pytest.raises(ValueError, match=r'must end with \.npz or \.safetensors'):
        state_dicts.write(tmp_path / 'a.pth', {})
    assert not list(tmp_path.iterdir())


@SUFFIXES
def test_texts_come_back_and_are_no_array(tmp_path, suffix):
    file, texts = tmp_path / f'a{suffix}', {'network': 'µ', 'empty': ''}
    state_dicts.write(file, ARRAYS, texts)
    assert state_dicts.read_metadata(file) == texts
    same(state_dicts.read(file), ARRAYS)
    state_dicts.write(file, ARRAYS)
    assert state_dicts.read_metadata(file) == {}
    with pytest.raises(ValueError, match='__metadata__'):
        state_dicts.write(file, {'__metadata__': np.zeros(3)})


@pytest.mark.parametrize('data', [b'[]', b'{"a": 1}', b'{', b'\xff'])
def test_metadata_that_are_no_texts_are_refused(tmp_path, data):
    files.save_npz(tmp_path / 'a.npz', {'__metadata__': np.frombuffer(data, np.uint8)})
    with pytest.raises(ValueError, match=r'a\.npz is damaged'):
        state_dicts.read_metadata(tmp_path / 'a.npz')


def test_a_small_npz_does_not_fill_the_memory(tmp_path):
    zeros = np.zeros(state_dicts.MAX_MORE + 2**22, np.uint8)
    files.save_npz(tmp_path / 'a.npz', {'a': zeros}, compressed=True)
    for read in (state_dicts.read, state_dicts.read_metadata):
        with pytest.raises(ValueError, match=r'would unpack to 71303296 bytes, more than'):
            read(tmp_path / 'a.npz')
    files.save_npz(tmp_path / 'a.npz', {'a': zeros[: 2**20]}, compressed=True)
    assert state_dicts.read(tmp_path / 'a.npz')['a'].size == 2**20
