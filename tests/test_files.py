"""files.py: nothing is ever half written, and what was written is what is read."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest
from bucket import bucket  # noqa: F401

from autoguide_jax import files


@pytest.fixture(params=['local', 'bucket'])
def folder(request, tmp_path):
    if request.param == 'local':
        return files.path(tmp_path)
    return files.path(request.getfixturevalue('bucket')) / tmp_path.name


def test_everything_reads_back_local_and_in_a_bucket(folder):
    files.write_text(folder / 'deep' / 'a.txt', 'first ü')
    files.write_text(folder / 'deep' / 'a.txt', 'second ü')
    assert (folder / 'deep' / 'a.txt').read_text() == 'second ü'
    files.write_json(folder / 'c.json', {'b': (1, 2.5), 'a': float('inf'), 'n': np.float32(0.5)})
    back = files.read_json(folder / 'c.json')
    assert back == {'b': [1, 2.5], 'a': 'inf', 'n': 0.5}
    assert list(back) == ['b', 'a', 'n'], 'key order is kept for the reader'
    for i in range(3):
        files.append_jsonl(folder / 'rows.jsonl', {'i': i, 'x': float('nan')})
    assert [r['i'] for r in files.read_jsonl(folder / 'rows.jsonl')] == [0, 1, 2]
    arrays = {'params/w': np.arange(6.0).reshape(2, 3), 'n': np.int64(2**40), 'h': jnp.ones(2)}
    files.save_npz(folder / 'x.npz', arrays)
    with files.open_npz(folder / 'x.npz') as z:
        assert list(z) == list(arrays) and len(z) == 3 and 'params/w' in z and 'w' not in z
        for name, array in arrays.items():
            np.testing.assert_array_equal(z[name], array)
            assert z[name].dtype == np.asarray(array).dtype and z[name].shape == np.shape(array)
    assert files.names(folder) == ['c.json', 'deep', 'rows.jsonl', 'x.npz']
    assert files.names(folder, '.json') == ['c.json'] and files.names(folder / 'none') == []
    assert len(files.sha256(folder / 'x.npz')) == 64


def test_failed_write_leaves_the_old_file_and_no_other(folder):
    files.save_npz(folder / 'x.npz', {'a': np.ones(3)})
    before = files.sha256(folder / 'x.npz')

    def pairs():
        yield 'a', np.zeros(3)
        raise RuntimeError('disk on fire')

    with pytest.raises(RuntimeError, match='on fire'):
        files.save_npz(folder / 'x.npz', pairs())
    assert files.sha256(folder / 'x.npz') == before
    assert [c.name for c in folder.iterdir()] == ['x.npz']


def test_npz_bytes_depend_on_content_alone_and_numpy_reads_them(tmp_path):
    arrays = {'a/b': np.arange(100, dtype=np.float16), 'c': np.array(True)}
    for compressed in (False, True):
        files.save_npz(tmp_path / '1.npz', arrays, compressed)
        files.save_npz(tmp_path / '2.npz', iter(arrays.items()), compressed)
        assert files.sha256(tmp_path / '1.npz') == files.sha256(tmp_path / '2.npz')
        with np.load(tmp_path / '1.npz', allow_pickle=False) as z:
            assert sorted(z.files) == ['a/b', 'c'] and z['c'].shape == ()
            np.testing.assert_array_equal(z['a/b'], arrays['a/b'])


def test_npz_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match='bfloat16'):
        files.save_npz(tmp_path / 'x.npz', {'w': jnp.ones(2, jnp.bfloat16)})
    with pytest.raises(ValueError, match='object'):
        files.save_npz(tmp_path / 'x.npz', {'w': np.array([{}])})
    with pytest.raises(ValueError, match='twice'):
        files.save_npz(tmp_path / 'x.npz', [('w', np.ones(1)), ('w', np.ones(1))])
    assert files.names(tmp_path) == []


def test_damaged_files_are_named(tmp_path):
    files.save_npz(tmp_path / 'x.npz', {'w': np.ones(1000)})
    data = bytearray((tmp_path / 'x.npz').read_bytes())
    data[4000] ^= 1
    (tmp_path / 'flipped.npz').write_bytes(data)
    with (
        files.open_npz(tmp_path / 'flipped.npz') as z,
        pytest.raises(ValueError, match=r'flipped\.npz.*w.*damaged'),
    ):
        z['w']
    (tmp_path / 'cut.npz').write_bytes(data[:5000])
    with pytest.raises(ValueError, match=r'cut\.npz'), files.open_npz(tmp_path / 'cut.npz'):
        pass
    (tmp_path / 'c.json').write_text('{"a": ')
    with pytest.raises(ValueError, match=r'c\.json'):
        files.read_json(tmp_path / 'c.json')
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / 'none.json')
    with pytest.raises(TypeError, match='set'):
        files.write_json(tmp_path / 'd.json', {'a': {1}})


@pytest.mark.parametrize('cut', range(1, 12))
def test_a_torn_last_line_is_left_out_and_then_repaired(folder, cut):
    whole, torn = b'{"i": 0}\n', b'{"i": 1}\n'
    files.write_bytes(folder / 'r.jsonl', whole + torn[:cut])
    complete = cut >= 8
    expected = [0, 1] if complete else [0]
    assert [r['i'] for r in files.read_jsonl(folder / 'r.jsonl')] == expected
    files.append_jsonl(folder / 'r.jsonl', {'i': 2})
    lines = (folder / 'r.jsonl').read_bytes().splitlines()
    assert [json.loads(line)['i'] for line in lines] == [*expected, 2]


def test_a_bad_line_elsewhere_is_an_error(tmp_path):
    (tmp_path / 'r.jsonl').write_text('{"i": 0}\n{"i":\n{"i": 2}\n')
    with pytest.raises(ValueError, match=r'r\.jsonl, line 2'):
        files.read_jsonl(tmp_path / 'r.jsonl')
    assert files.read_jsonl(tmp_path / 'none.jsonl') == []


def test_a_killed_writer_leaves_whole_files(tmp_path):
    """A process that rewrites one file over and over is killed: the file is whole each time."""
    code = """
        import sys
        from autoguide_jax import files
        for i in range(10**9):
            files.write_json(sys.argv[1], {'fill': [i] * 20000})
            print(i, flush=True)
    """
    command = [sys.executable, '-c', textwrap.dedent(code), str(tmp_path / 'f.json')]
    for _ in range(3):
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        for _ in range(3):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        fill = files.read_json(tmp_path / 'f.json')['fill']
        assert len(fill) == 20000 and len(set(fill)) == 1
    assert files.names(tmp_path) == ['f.json']


def test_content_hash_sees_content_and_nothing_else():
    a = files.content_hash({'x': 1.0, 'y': (1, 2), 'w': {'b': 0.1, 'a': None}})
    assert a == files.content_hash({'w': {'a': None, 'b': 0.1}, 'y': [1, 2], 'x': 1.0})
    assert len(a) == 12 and int(a, 16) >= 0
    others = [{'x': 1}, {'x': 1.0}, {'x': 1.0000000000000002}, {'x': '1'}, {'x': True}, {'x': [1]}]
    assert len({files.content_hash(o) for o in others}) == len(others)
