"""export: every byte arrives, nothing foreign is touched, and what is there is not sent again."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from bucket import bucket  # noqa: F401

from autoguide_jax import export, files, sample_sets, stop


def image_of(seed):
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)


def make_set(folder, seeds=range(990, 1010), formats=('png',)):
    writer = sample_sets.create(folder, {'weight': 2.0}, seeds, formats)
    seeds = writer.missing()
    writer.write(seeds, seeds % 10, np.stack([image_of(s) for s in seeds.tolist()]))
    return writer.finish()


def contents(folder):
    """Every file of a folder with its bytes, the record of the export left out."""
    found, stack = {}, [files.path(folder)]
    while stack:
        for p in stack.pop().iterdir():
            if p.is_dir():
                stack.append(p)
            elif p.name != 'export.json':
                found[os.fspath(p)[len(os.fspath(folder)) + 1 :]] = p.read_bytes()
    return found


def run(source, target, **more):
    return export.main(export.Settings(str(source), str(target), **more))


@pytest.fixture
def source(tmp_path):
    make_set(tmp_path / 'set')
    files.append_jsonl(tmp_path / 'set' / 'results.jsonl', {'frechet': 1.0})
    return tmp_path / 'set'


@pytest.fixture(params=['local', 'bucket'])
def target(request, tmp_path):
    if request.param == 'local':
        return files.path(tmp_path / 'target')
    return files.path(request.getfixturevalue('bucket')) / tmp_path.name / 'target'


def test_every_byte_arrives_and_is_recorded(source, target):
    row = run(source, target)
    assert contents(target) == contents(source)
    record = files.read_json(target / 'export.json')
    assert record['complete'] and record['count'] == row['files'] == row['copied'] == 24
    assert record['bytes'] == sum(map(len, contents(source).values()))
    for name, entry in record['files'].items():
        assert entry == {
            'size': (source / name).stat().st_size,
            'sha256': files.sha256(source / name),
        }
    assert sample_sets.open_set(target).content_hash == record['content_hash']
    again = run(source, target)
    assert again['copied'] == 0 and again['already there'] == 24
    assert again['sha256'] == row['sha256'] and files.names(target, 'parts') == []


def test_from_a_bucket_back_to_the_disk(source, target, tmp_path):
    run(source, target)
    back = run(target, tmp_path / 'back')
    assert contents(tmp_path / 'back') == contents(source) and back['files'] == 24


def test_what_changed_is_sent_again_and_only_that(source, target):
    run(source, target)
    files.append_jsonl(source / 'results.jsonl', {'frechet': 2.0})
    files.write_text(source / 'new.txt', 'new')
    # A damaged copy is replaced too.
    files.write_bytes(target / 'grid.png', b'short')
    assert run(source, target)['copied'] == 3
    assert contents(target) == contents(source)


@pytest.mark.parametrize(
    'made, wanted',
    [(['png'], ['npz']), (['npz'], ['png']), (['png'], ['png', 'npz']), (['png', 'npz'], ['png'])],
)
def test_other_formats_are_those_of_a_set_made_so(tmp_path, made, wanted):
    make_set(tmp_path / 'set', formats=tuple(made))
    make_set(tmp_path / 'direct', formats=tuple(wanted))
    files.write_text(tmp_path / 'set' / 'note.txt', 'kept')
    run(tmp_path / 'set', tmp_path / 'out', formats=tuple(wanted))
    found = contents(tmp_path / 'out')
    assert found.pop('note.txt') == b'kept'
    assert found == contents(tmp_path / 'direct')
    assert run(tmp_path / 'set', tmp_path / 'out', formats=tuple(wanted))['copied'] == 0


def test_any_folder_and_any_file(tmp_path):
    for name in ('runs/main/config.json', 'runs/main/empty', 'report.html'):
        files.write_text(tmp_path / 'study' / name, '' if 'empty' in name else name)
    files.write_text(tmp_path / 'study' / '.report.html.1.tmp', 'unfinished')
    assert run(tmp_path / 'study', tmp_path / 'a')['files'] == 3
    assert contents(tmp_path / 'a').keys() == {
        'runs/main/config.json',
        'runs/main/empty',
        'report.html',
    }
    run(tmp_path / 'study' / 'report.html', tmp_path / 'b')
    assert contents(tmp_path / 'b') == {'report.html': b'report.html'}


def test_a_target_with_something_else_is_left_alone(source, target, tmp_path):
    files.write_text(target / 'thesis.txt', 'mine')
    with pytest.raises(ValueError, match='holds something else: thesis.txt.*overwrite=True'):
        run(source, target)
    assert contents(target) == {'thesis.txt': b'mine'} and not (target / 'export.json').exists()
    run(source, target, overwrite=True)
    assert contents(target) == {**contents(source), 'thesis.txt': b'mine'}


def test_another_export_and_another_file_of_the_same_name_are_refused(source, tmp_path):
    files.write_text(tmp_path / 'a' / 'grid.png', 'other')
    with pytest.raises(ValueError, match='holds another grid.png'):
        run(source, tmp_path / 'a')
    run(source, tmp_path / 'b')
    make_set(tmp_path / 'second', seeds=range(20))
    before = contents(tmp_path / 'b')
    with pytest.raises(ValueError, match='holds the export of .*set'):
        run(tmp_path / 'second', tmp_path / 'b')
    assert contents(tmp_path / 'b') == before


def test_refusals_come_before_anything_is_written(source, tmp_path):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        run(tmp_path / 'nowhere', tmp_path / 'out')
    with pytest.raises(ValueError, match='lies in the source'):
        run(source, source / 'copy')
    with pytest.raises(ValueError, match='lies in the source'):
        run(source, source)
    with pytest.raises(ValueError, match='must be png, npz or both'):
        run(source, tmp_path / 'out', formats=('jpg',))
    (tmp_path / 'plain').mkdir()
    with pytest.raises(ValueError, match='is empty'):
        run(tmp_path / 'plain', tmp_path / 'out')
    files.write_text(tmp_path / 'plain' / 'x', 'x')
    with pytest.raises(ValueError, match='is not a sample set; leave it out'):
        run(tmp_path / 'plain', tmp_path / 'out', formats=('png',))
    sample_sets.create(tmp_path / 'part', {}, range(3))
    with pytest.raises(ValueError, match='incomplete: 0 of 3'):
        run(tmp_path / 'part', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_stop_records_what_is_done_and_the_next_call_sends_the_rest(source, target, monkeypatch):
    calls = []

    def check(doing, saved=''):
        calls.append(saved)
        if len(calls) == 5:
            raise stop.Stopped(doing, saved)

    monkeypatch.setattr(stop, 'check', check)
    with pytest.raises(stop.Stopped, match='saved 5 of 24 files'):
        run(source, target)
    assert not files.read_json(target / 'export.json')['complete']
    # Five are recorded, and others may have arrived with them; those are checked, and accepted.
    row = run(source, target)
    assert row['already there'] >= 5 and row['copied'] + row['already there'] == 24
    assert contents(target) == contents(source)
    assert files.read_json(target / 'export.json')['complete']


def test_a_copy_that_reads_back_otherwise_is_an_error(source, tmp_path, monkeypatch):
    write = files.writing

    @contextlib.contextmanager
    def forgetful(p, new=False):
        with write(p, new) as file:
            yield file
            if p.name == 'grid.png':
                file.seek(10)
                file.write(b'x')

    monkeypatch.setattr(files, 'writing', forgetful)
    with pytest.raises(OSError, match='grid.png: what was read back is not what was written'):
        run(source, tmp_path / 'out')
    assert not files.read_json(tmp_path / 'out' / 'export.json')['complete']


# The thirteenth file never gets done, and every file is recorded as soon as it is.
STUCK = """
import sys, time
from autoguide_jax import copying, export, files
write, names = files.writing, []
def stuck(p, new=False):
    if p.name != 'export.json' and p.parent.name != 'export.parts':
        names.append(p.name)
        if len(names) == 13:
            print('stuck', flush=True)
            time.sleep(600)
    return write(p, new)
files.writing = stuck
copying.Disk.threads = 1
export.RECORD_SECONDS = 0
export.main(export.Settings(*sys.argv[1:]))
"""


def test_a_killed_export_goes_on(source, tmp_path):
    command = [sys.executable, '-c', STUCK, str(source), str(tmp_path / 'out')]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'stuck\n'
    for _ in range(600):
        if files.names(tmp_path / 'out' / 'export.parts'):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not files.read_json(tmp_path / 'out' / 'export.json')['complete']
    row = run(source, tmp_path / 'out')
    assert 0 < row['already there'] <= 12 and row['copied'] >= 12
    left = {k: v for k, v in contents(tmp_path / 'out').items() if not k.endswith('.tmp')}
    assert left == contents(source)
