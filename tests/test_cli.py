"""The command line as a user meets it: real processes, exit codes, one-line errors."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from autoguide_jax import __main__ as cli
from autoguide_jax import arguments, registry, schema

ROOT = pathlib.Path(cli.__file__).parent.parent

# A program like train or evaluate, and the command line with it in place of the real verbs.
PROGRAM = '''
import dataclasses, os, pathlib, time
from autoguide_jax import config, stop

@dataclasses.dataclass(frozen=True)
class Settings:
    """A program.

    Settings:
      size: how large
      mode: what to do
    """
    size: int
    mode: str = 'rows'

def main(settings, workdir):
    pathlib.Path(workdir, 'mark').write_text(str(settings.size))
    if settings.mode == 'wait':
        print('ready', flush=True)
        stop.interruptible(lambda: time.sleep(60), doing='compiling')
    if settings.mode == 'jax':
        import jax
        keys = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
        return {'devices': jax.device_count(), **{k: getattr(jax.config, k) for k in keys}}
    if settings.mode == 'ValueError':
        raise ValueError('no images')
    if settings.mode == 'bug':
        raise KeyError('bug')
    return [{'arm': 'a', 'score': settings.size / 3}]

def follow(workdir):
    print('followed', pathlib.Path(workdir, 'mark').read_text())
'''
STARTER = """
import sys
from autoguide_jax import __main__ as cli
from autoguide_jax.verbs import Verb
cli.VERBS.update(
    work=Verb('program:Settings', 'program:main', 'work', '--config.size=1', then='follow'),
    follow=Verb(None, 'program:follow', 'follow', '--workdir=out'),
)
code = cli.main(sys.argv[1:])
if sys.argv[-1] == '--debug':
    print('jax' in sys.modules, 'flax' in sys.modules)
sys.exit(code)
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts the command line with the verb 'work', in an empty folder."""
    (tmp_path / 'program.py').write_text(PROGRAM)
    (tmp_path / 'starter.py').write_text(STARTER)
    (tmp_path / 'sized.py').write_text('def get_config(arg=None): return {"size": "2Ki"}')
    environment = {k: v for k, v in os.environ.items() if not k.startswith(('JAX_', 'AUTOGUIDE'))}
    environment |= {'PYTHONPATH': f'{ROOT}:{tmp_path}', 'JAX_PLATFORMS': 'cpu', 'COLUMNS': '100'}

    def start(*args, **more):
        return subprocess.Popen(
            [sys.executable, 'starter.py', *args],
            cwd=tmp_path,
            env=environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def run(start):
    """Return a function that runs a command line: (exit code, stdout, stderr)."""

    def run(*args, **more):
        process = start(*args, **more)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    return run


def test_a_program_gets_its_settings_prints_and_writes_its_table(run, tmp_path):
    code, output, errors = run('work', '--config.size', '2', '--workdir=out', '--json=rows.json')
    assert (code, errors) == (0, '')
    assert output.splitlines() == ['followed 2', 'arm    score', '---  -------', 'a    0.66667']
    assert json.loads((tmp_path / 'rows.json').read_text()) == [{'arm': 'a', 'score': 2 / 3}]


def test_module_help_lists_verbs_and_three_examples():
    done = subprocess.run(
        [sys.executable, '-m', 'autoguide_jax', '--help'], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert all(f'\n  {name} ' in done.stdout for name in cli.VERBS)
    assert done.stdout.count('\n  python -m autoguide_jax ') == 3


# A module that aborts its process when Python takes it apart, as threads of C++ libraries may.
ABORTING = """
import atexit, os, sys, types

class Abort:
    def __del__(self):
        os.abort()

sys.modules['kept'] = types.ModuleType('kept')
sys.modules['kept'].abort = Abort()
atexit.register(print, 'exit functions ran')

def get_config(arg=None):
    return {'network': {'name': arg}}
"""


@pytest.mark.parametrize(('network', 'wanted'), [('edm2_unet', 0), ('no_such', 2)])
def test_what_aborts_after_the_work_does_not_make_it_fail(tmp_path, network, wanted):
    (tmp_path / 'aborting.py').write_text(ABORTING)
    command = ['train', f'--config={tmp_path}/aborting.py:{network}', '--dry_run']
    done = subprocess.run(
        [sys.executable, '-m', 'autoguide_jax', *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == wanted
    assert done.stdout.endswith('exit functions ran\n')
    assert wanted == 0 or done.stderr.startswith('error: ')


@pytest.mark.parametrize(
    ('command', 'wanted'),
    [
        ('no_such_verb >&-', 2),
        ('no_such_verb 2>&-', 2),
        ('--help >&-', 0),
        ('--help >/dev/full', 2),
    ],
)
def test_the_exit_code_does_not_depend_on_who_reads(command, wanted):
    program = f'{sys.executable} -m autoguide_jax {command}'
    done = subprocess.run(['bash', '-c', program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == wanted, done.stderr
    assert 'Traceback' not in done.stderr
    assert ('error: ' in done.stderr) == (wanted == 2 and '2>&-' not in command)


def test_a_closed_pipe_has_its_exit_code():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, '-m', 'autoguide_jax', '--help']
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, '')


def test_leaving_at_once_needs_no_stdout(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', None)
    monkeypatch.setattr(os, '_exit', sys.exit)
    with pytest.raises(SystemExit, match='143'):
        cli._leave(arguments.read(['train']), 143)


def test_verb_help_lists_settings_with_the_values_of_the_config(run):
    code, output, _ = run('work', '--help')
    assert code == 0
    assert '--config.size=required' in output
    assert 'how large [int]' in output
    _, output, _ = run('work', '--help', '--config=sized.py', '--config.mode=x')
    assert '--config.size=2Ki' in output
    assert '--config.mode=x' in output


def test_dry_run_prints_the_resolved_settings_without_jax_or_a_workdir(run, tmp_path):
    code, output, _ = run('work', '--config=sized.py', '--dry-run', '--workdir=out', '--debug')
    tree, _, modules = output.rpartition('}\n')
    assert code == 0
    assert json.loads(tree + '}') == {'size': 2048, 'mode': 'rows'}
    assert modules == 'False False\n'
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['wrok'], "error: unknown verb 'wrok'. Did you mean 'work'?"),
        (['work', '--workdri=a'], "error: --workdri: unknown flag. Did you mean 'workdir'?"),
        (['work', '--workdir'], 'error: --workdir needs a value: --workdir=…'),
        (['work', 'now'], "error: unexpected 'now': settings are written --name=value"),
        (['work', '--config.size=1'], 'error: work needs --workdir=FOLDER, local or gs://'),
        (['work', '--workdir=o'], 'error: config.size: required. Set it in the config file'),
        (['work', '--config.sise=1'], "error: config.sise: unknown setting. Did you mean 'size'?"),
        (['work', '--config=x.py'], "error: --config=x.py: no file 'x.py'."),
        (['work', '--config.size=1', '--workdir=o', '--devices=0'], 'error: --devices (0) must be'),
        (['work', '--config.size=1', '--workdir=o', '--devices=a'], "error: --devices: 'a' is not"),
        (['follow', '--config=a.py'], 'error: --config: unknown flag.'),
        (['follow', '--config.size=1'], 'error: --config.size: follow has no settings'),
        (['follow', '--dry_run'], 'error: --dry_run: unknown flag.'),
        (['prepare'], 'error: prepare what? Known: fashion_mnist.'),
        (['prepare', 'mnist'], "error: prepare: unknown data set 'mnist'. Did you mean 'fashion"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_one_line_and_exit_code_2(run, tmp_path, args, message):
    code, output, errors = run(*args)
    assert (code, output) == (2, '')
    assert errors.startswith(message)
    assert errors.count('\n') == 1
    assert not (tmp_path / 'o').exists()


def test_an_error_in_the_program_is_one_line_and_a_traceback_with_debug(run):
    args = ('work', '--config.size=1', '--config.mode=ValueError', '--workdir=out')
    assert run(*args) == (2, '', 'error: no images (--debug shows where)\n')
    code, _, errors = run(*args, '--debug')
    assert code == 1
    assert 'Traceback' in errors


def test_a_bug_shows_its_traceback(run):
    code, _, errors = run('work', '--config.size=1', '--config.mode=bug', '--workdir=out')
    assert code == 1
    assert errors.endswith("KeyError: 'bug'\n")


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_compilation_ends_with_one_line(start, signum):
    process = start('work', '--config.size=1', '--config.mode=wait', '--workdir=out')
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signum)
    output, errors = process.communicate(timeout=20)
    name = signal.Signals(signum).name
    assert process.returncode == 128 + signum
    assert errors.splitlines()[-1] == (
        f'stopped by {name} while compiling; the same command resumes'
    )
    assert output == ''


def test_devices_and_compilation_cache_reach_jax(run, tmp_path):
    args = ('work', '--config.size=1', '--config.mode=jax', '--workdir=out', '--json=o.json')

    def options(*flags, **environment):
        assert run(*args, *flags, **environment)[0] == 0
        return list(json.loads((tmp_path / 'o.json').read_text()).values())

    cache = str(tmp_path / 'cache')
    assert options('--devices=3', AUTOGUIDE_JAX_CACHE=cache) == [3, cache, 1.0]
    assert options(AUTOGUIDE_JAX_CACHE='off')[:2] == [min(os.cpu_count(), 8), None]
    own = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.5'}
    assert options(AUTOGUIDE_JAX_CACHE=cache, **own)[1:] == [cache, 0.5]
    assert options(JAX_COMPILATION_CACHE_DIR='own', AUTOGUIDE_JAX_CACHE=cache)[1] == 'own'


def test_reading_a_command_line():
    command = arguments.read(
        ['train', 'x', '--config=a.py:b', '--config.a.b=c=d', '--config.n', '-1', '--dry-run']
    )
    assert command == (
        'train',
        ['x'],
        {'config': 'a.py:b', 'dry_run': True},
        [('a.b', 'c=d'), ('n', '-1')],
    )
    assert arguments.read(['--debug=false', '-h']).flags == {'debug': False, 'help': True}


@pytest.mark.parametrize('name', [name for name in cli.VERBS if name != 'prepare'])
def test_law_every_verb_runs_something_and_explains_every_setting(name):
    verb = cli.VERBS[name]
    assert callable(registry.resolve(verb.main))
    rows = schema.describe(cli.settings_class(verb, None)) if verb.settings else []
    assert [row.name for row in rows if not row.meaning] == []


@pytest.mark.parametrize('name', cli.PREPARED.names())
def test_law_every_preparation_is_there(name):
    assert callable(cli.PREPARED.get(name))
