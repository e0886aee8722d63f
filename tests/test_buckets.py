"""Buckets that fail for long or for good, and writers and exports that are killed half-way."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from faulty_bucket import Fault, _faulty_session, faults  # noqa: F401
from test_export import contents, make_set, run
from test_gcs_faults import hurry  # noqa: F401

from autoguide_jax import buckets, files

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def program(code, *arguments):
    command = [sys.executable, '-c', textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_small_write_is_one_request_and_an_append_two(faults, tmp_path):  # noqa: F811
    files.write_json(f'gs://bucket/{tmp_path.name}/a/b.json', {})
    assert dict(faults.asked) == {'write': 1}
    faults.set()
    files.append_jsonl(f'gs://bucket/{tmp_path.name}/rows.jsonl', {})
    assert dict(faults.asked) == {'read': 1, 'write': 1}


@pytest.mark.parametrize(
    'kind, path, error, fix',
    [
        ('403', 'gs://bucket/x', PermissionError, 'Storage Object User on gs://bucket'),
        ('', 'gs://no-such/x', FileNotFoundError, 'there is no bucket gs://no-such'),
    ],
)
def test_what_waiting_does_not_mend_is_an_error_at_once(faults, kind, path, error, fix):  # noqa: F811
    faults.set(*[Fault(kind, row=float('inf'))] * bool(kind))
    with pytest.raises(error, match=f'(?s)^{path}: .*{fix}'):
        files.write_text(path, 'x')
    with pytest.raises(error):
        files.read_bytes(path)
    if kind:
        with pytest.raises(error, match=f'^{path}: no permission to read'):
            files.read_jsonl(path)
        assert isinstance(buckets.explained(_raised(files.path(path).exists)), PermissionError)
    assert sum(faults.asked.values()) <= 6


def _raised(fn):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        fn()
    return caught.value


@pytest.mark.usefixtures('hurry')
def test_an_outage_longer_than_the_patience_of_gcsfs_is_sat_out(faults, tmp_path):  # noqa: F811
    path = f'gs://bucket/{tmp_path.name}/rows.jsonl'
    files.append_jsonl(path, {'i': 0})
    # gcsfs asks six times, and does so twice in vain.
    faults.set(Fault('503', limit=13, row=13))
    files.append_jsonl(path, {'i': 1})
    assert faults.counts() == {'503': 13}
    faults.set(Fault('503', row=float('inf')))
    with pytest.raises(
        OSError, match=f'(?s)^{path}: could not read it, nor on later tries.*run the same command'
    ):
        files.append_jsonl(path, {'i': 2})
    faults.set()
    assert files.read_jsonl(path) == [{'i': 0}, {'i': 1}]


def test_an_answer_that_never_comes_is_asked_for_again(faults, tmp_path):  # noqa: F811
    faults.set(Fault('hang', seconds=30, limit=2, row=1, ops=('write', 'read')))
    code = """
        import sys
        from autoguide_jax import buckets
        buckets.SILENCE_SECONDS = 1
        from autoguide_jax import files
        files.write_text(sys.argv[1], 'x')
        print(files.read_bytes(sys.argv[1]))
        import tensorstore
        store = tensorstore.KvStore.open(sys.argv[1].rpartition('/')[0] + '/').result()
        print(bytes(store['a']))
    """
    start = time.monotonic()
    process = program(code, f'gs://bucket/{tmp_path.name}/a')
    assert process.communicate()[0] == "b'x'\nb'x'\n"
    assert process.returncode == 0 and time.monotonic() - start < 25
    assert faults.counts() == {'hang': 2}


@pytest.mark.parametrize('megabytes', [24, 60])
def test_a_writer_killed_while_uploading_leaves_the_old_content(faults, tmp_path, megabytes):  # noqa: F811
    path = f'gs://bucket/{tmp_path.name}/x.npz'
    files.save_npz(path, {'a': np.zeros(10)})
    faults.set(Fault('stall', seconds=1.5, limit=1))
    code = """
        import sys
        import numpy as np
        from autoguide_jax import files
        files.save_npz(sys.argv[1], {'a': np.ones(int(sys.argv[2]) << 17)})
    """
    process = program(code, path, megabytes)
    while not faults.log:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(2)
    with files.open_npz(path) as z:
        assert np.array_equal(z['a'], np.zeros(10))
    assert files.names(files.path(path).parent) == ['x.npz']
    assert [op for _, op, _ in faults.log] == ['write' if megabytes == 24 else 'part']


def test_an_export_killed_at_random_moments_sends_only_what_is_missing(faults, tmp_path):  # noqa: F811
    source, target = tmp_path / 'set', f'gs://bucket/{tmp_path.name}'
    make_set(source, range(200))
    # Slow enough to be killed in the middle, and listings never show what was written.
    faults.set(Fault('slow', seconds=0.2, ops=('write',)), Fault('hide', seconds=1e9))
    code = """
        import sys
        from autoguide_jax import export
        export.RECORD_SECONDS = 0.3
        export.main(export.Settings(*sys.argv[1:]))
    """
    rng = random.Random()
    for part in (0.2, 0.6):
        process = program(code, source, target)
        while sum(name.endswith('.png') for name in list(faults.written)) < 200 * part:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(rng.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not files.read_json(f'{target}/export.json')['complete']
    sent = sum(n.endswith('.png') for n in faults.written)
    row = run(source, target)
    assert row['files'] == 203 and row['already there'] >= sent
    assert {faults.stored[name] for name in faults.stored if name.endswith('.png')} == {1}
    faults.set()
    found = {k: v for k, v in contents(files.path(target)).items() if 'export.parts' not in k}
    assert found == contents(source)
    assert files.read_json(f'{target}/export.json')['complete']


def test_an_object_damaged_in_the_bucket_is_noticed_and_replaced(faults, tmp_path):  # noqa: F811
    source, target = tmp_path / 'set', files.path(f'gs://bucket/{tmp_path.name}')
    make_set(source, range(20))
    run(source, target)
    name = 'images/000000/000000007.png'
    good = (source / name).read_bytes()
    files.write_bytes(target / name, good[:-1] + bytes([good[-1] ^ 1]))
    assert run(source, target)['copied'] == 1
    assert files.read_bytes(target / name) == good
    assert buckets.checksum(target / name)[0] == len(good)
