"""claims.py: one worker for a piece of work, whoever else wants it and whoever dies."""

import concurrent.futures
import json
import subprocess
import sys
import time

import pytest
from bucket import bucket  # noqa: F401

from autoguide_jax import files
from autoguide_jax.claims import Claims, create, decisions


@pytest.fixture(params=['local', 'bucket'])
def folder(request, tmp_path):
    if request.param == 'local':
        return tmp_path / 'claims'
    return files.path(request.getfixturevalue('bucket')) / tmp_path.name


def test_of_many_writers_one_creates_a_file(folder):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: create(folder / 'a.json', b'%d' % i), range(16)))
    assert sum(won) == 1
    assert (folder / 'a.json').read_bytes() == b'%d' % won.index(True)
    assert files.names(folder) == ['a.json']


def test_what_one_holds_the_other_does_not_get_until_it_is_released(folder):
    with Claims(folder) as one, Claims(folder) as other:
        assert one.take('row') and not other.take('row') and other.take('another')
        one.release('row')
        assert other.take('row')


WORKER = """
import sys, time
from autoguide_jax.claims import Claims
with Claims(sys.argv[1], beat=0.05) as claims:
    print(claims.take('row'), flush=True)
    time.sleep(60)
"""


def test_a_worker_that_lives_keeps_its_claim_and_a_killed_one_loses_it(tmp_path):
    command = [sys.executable, '-c', WORKER, str(tmp_path)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout.readline() == 'True\n'
        with Claims(tmp_path, patience=1.0) as claims:
            for _ in range(15):
                assert not claims.take('row')
                time.sleep(0.1)
            worker.kill()
            killed = time.monotonic()
            while not claims.take('row'):
                time.sleep(0.05)
            assert time.monotonic() - killed > 0.9
    finally:
        worker.kill()
        worker.communicate()


def test_clocks_are_not_compared(tmp_path, monkeypatch):
    """A claim whose file is from next year, or from last, is neither kept nor dropped for it."""
    import os

    with Claims(tmp_path, patience=0.5) as one, Claims(tmp_path, patience=0.5) as other:
        assert one.take('row')
        for year in (-1, 1):
            when = time.time() + year * 365 * 24 * 3600
            os.utime(tmp_path / 'row.0.json', (when, when))
            assert not other.take('row')
        monkeypatch.setattr(time, 'time', lambda: 0.0)
        time.sleep(0.6)
        assert other.take('row')


def test_once_is_done_by_one_and_found_by_the_others(tmp_path):
    made = []

    def work(claims):
        claims.once('reference', lambda: made.append(not (tmp_path / 'made').exists()) or touch())

    def touch():
        time.sleep(0.2)
        (tmp_path / 'made').touch()

    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(work, [one, other]))
        work(other)
    assert made == [True, False, False]
    assert json.loads((tmp_path / 'reference.0.json').read_text())['done']


def test_the_first_decision_holds(folder):
    settle = decisions(folder)
    assert settle('stacked', lambda: True) is True
    assert decisions(folder)('stacked', lambda: False) is True
    assert settle('other', lambda: False) is False
