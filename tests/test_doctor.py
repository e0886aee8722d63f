"""The doctor as a user meets it: the table, exit codes, and several hosts that differ or hang."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from bucket import bucket  # noqa: F401
from hosts import ROOT, run
from together import together

from autoguide_jax import doctor

# The command line on one host; sys.argv[4:]: workdir, table. Each step of it may take 4 s.
HOST = """
from autoguide_jax import __main__ as cli
from autoguide_jax import doctor, processes

whole = doctor.main
doctor.main = lambda workdir: whole(workdir, seconds=4)
workdir = sys.argv[4].replace('OWN', sys.argv[2])
processes.connect = lambda text: None
sys.exit(cli.main(['doctor', '--hosts=auto', f'--workdir={workdir}', f'--json={sys.argv[5]}']))
"""


def rows_of(file):
    """{(check, hosts): row} of the table that process 0 wrote."""
    rows = json.loads(file.read_text())
    return {(row['check'], row['hosts'].split(' ')[0]): row for row in rows}


def command_line(*args, before=(), **variables):
    """(exit code, stdout, stderr) of the doctor's own command."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(('TPU_', 'SLURM_'))}
    done = subprocess.run(
        [sys.executable, *before, '-m', 'autoguide_jax', 'doctor', *args],
        env=kept | variables, capture_output=True, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_healthy_host_has_a_table_and_exit_code_0(tmp_path):
    code, table, errors = command_line(f'--workdir={tmp_path}/new', f'--json={tmp_path}/rows.json')
    assert (code, errors) == (0, '')
    head, _, *lines = table.splitlines()
    assert head.split() == ['check', 'hosts', 'state', 'found']
    rows = json.loads((tmp_path / 'rows.json').read_text())
    assert len(lines) == len(rows)
    checks = {row['check'] for row in rows}
    assert checks >= {'processes', 'python', 'jax', 'commit', 'disk', 'memory', 'clock', 'devices'}
    assert {row['state'] for row in rows if row['check'] in ('workdir', 'collective')} == {'ok'}
    assert not os.listdir(tmp_path / 'new')


def test_a_fault_has_its_fix_in_the_table_and_exit_code_2(tmp_path):
    (tmp_path / 'file').touch()
    code, table, errors = command_line(f'--workdir={tmp_path}/file/x')
    assert code == 2 and errors == 'error: at fault: workdir; the table says what to do\n'
    line = next(line for line in table.splitlines() if line.startswith('workdir '))
    assert 'A file is in the way: give another folder.' in line


# Gives up root's right to write everywhere (CAP_DAC_OVERRIDE), then becomes the program.
AS_ANYBODY = """
import ctypes, os, sys
drop_from_bounding_set, override = 24, 1
if os.geteuid() == 0:
    assert ctypes.CDLL(None).prctl(drop_from_bounding_set, override, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='rights are dropped by a call of Linux')
def test_a_locked_folder_is_a_fault(tmp_path):
    folder = tmp_path / 'locked'
    folder.mkdir()
    folder.chmod(0o555)
    cache = str(folder / 'cache')
    code, table, errors = command_line(
        f'--workdir={folder}', before=('-c', AS_ANYBODY), AUTOGUIDE_JAX_CACHE=cache
    )
    assert code == 2 and 'at fault: workdir;' in errors
    assert 'Give this user the right to write there, or give another folder.' in table
    line = next(line for line in table.splitlines() if line.startswith('compilation cache'))
    assert ' warning ' in line and 'AUTOGUIDE_JAX_CACHE' in line


def test_a_bucket_is_tried(bucket):  # noqa: F811
    rows = {row['check']: row for row in doctor.main(f'{bucket}/doctor')}
    assert rows['workdir']['state'] == 'ok' and rows['workdir']['found'].startswith('gs://bucket/')
    doctor.judge(list(rows.values()))
    bad = doctor.main('gs://nobody-made-this/runs')
    with pytest.raises(ValueError, match='at fault: workdir;'):
        doctor.judge(bad)


def test_hosts_that_agree_have_one_table(tmp_path):
    shared = f'--workdir={tmp_path}/run', f'--json={tmp_path}/rows.json'
    (table, _), (nothing, _) = run('doctor', *shared, count=2)
    assert 'collective' in table and 'collective' not in nothing
    rows = rows_of(tmp_path / 'rows.json')
    assert {hosts for _, hosts in rows} == {'all'}
    assert {row['state'] for row in rows.values()} <= {'ok', 'warning'}
    assert rows['processes', 'all']['found'] == '2 together'
    assert rows['devices', 'all']['found'] == '4 × cpu, 2 of them here'
    assert rows['collective', 'all']['found'] == 'sum over 4 devices is 10'
    assert rows['shared workdir', 'all']['state'] == 'ok'
    assert 's from process 0' in rows['clock', 'all']['found']
    assert not os.listdir(tmp_path / 'run')


@pytest.fixture
def other_setup(tmp_path):
    """The variables of a host with another libtpu, and with the program from another place."""
    shutil.copytree(f'{ROOT}/autoguide_jax', tmp_path / 'copy' / 'autoguide_jax')
    info = tmp_path / 'copy' / 'libtpu-9.9.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: libtpu\nVersion: 9.9\n')
    return {'PYTHONPATH': str(tmp_path / 'copy')}


def test_hosts_of_other_versions_and_folders_are_faults(tmp_path, other_setup):
    args = tmp_path / 'run-OWN', tmp_path / 'rows.json'
    found = together(HOST, *args, each=({}, other_setup))
    assert [code for code, _, _ in found] == [2, 2], found
    rows = rows_of(args[1])
    assert rows['libtpu', '1']['state'] == 'fault' and rows['libtpu', '1']['found'] == '9.9'
    assert rows['libtpu', '0']['found'] == 'absent'
    assert rows['commit', '0']['state'] == 'ok' and rows['commit', '1']['state'] == 'fault'
    assert 'the same setup' in rows['commit', '1']['fix']
    assert {'0', '1'} == {hosts for check, hosts in rows if check == 'shared workdir'}
    assert rows['shared workdir', '0']['state'] == 'fault'
    assert 'gs://' in rows['shared workdir', '0']['fix']
    assert rows['collective', 'all']['state'] == 'ok'
    for _, _, errors in found:
        assert 'at fault: commit, same workdir, shared workdir, libtpu; the table' in errors


def test_a_hang_becomes_a_fault_with_its_likely_causes(tmp_path):
    """Process 1 never asks for its devices, for which those of process 0 wait."""
    away = "whole = doctor.main\nif sys.argv[2] == '1': doctor.united = lambda *_: []"
    code = HOST.replace('whole = doctor.main', away)
    found = together(code, tmp_path / 'run', tmp_path / 'rows.json')
    assert [code for code, _, _ in found] == [2, 2], found
    rows = rows_of(tmp_path / 'rows.json')
    hung = rows['devices', '0']
    assert (
        hung['state'] == 'fault'
        and hung['found'] == 'no devices found within 4 s: was the command started on every host?'
    )
    assert 'JAX_COORDINATOR_PORT' in hung['fix'] and 'https_proxy' in hung['fix']
    assert rows['workdir', 'all']['state'] == 'ok'
    assert all('at fault: devices; ' in errors for _, _, errors in found)


QUICK = """
from autoguide_jax import health
from autoguide_jax.health import hosts
index = int(sys.argv[2])
health.quick(sys.argv[4], {'lr': 0.1})
for settings in ({'lr': 0.1 + index}, {}):
    try:
        health.quick(sys.argv[4] + ('' if settings else str(index)), settings)
    except ValueError as error:
        print(error)
"""


def test_training_stops_where_hosts_differ(tmp_path):
    found = together(QUICK, tmp_path / 'run')
    assert [code for code, _, _ in found] == [0, 0], found
    for _, output, errors in found:
        settings, *shared = [line for line in output.splitlines() if 'Gloo' not in line]
        shared = shared[0]
        assert settings.startswith('settings on process 1 (') and 'the same command' in settings
        assert shared.startswith('shared workdir') and 'not the same folder on all 2' in shared
        assert 'warning' not in errors


def test_a_silent_host_is_named():
    code = """
from autoguide_jax.health import hosts
if sys.argv[2] == '0':
    try:
        hosts.gather('here', seconds=2)
    except OSError as error:
        print(error)
"""
    (code, output, _), _ = together(code)
    assert code == 0 and output.startswith('no answer from process 1 of 2 within 2 s. Likely: ')
