"""launch/until_done.sh with small commands in place of training."""

import pathlib
import signal
import subprocess
import time

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / 'launch' / 'until_done.sh'
# Counts its starts in the file 'starts', then ends with the code of that line of 'codes'.
SCRIPTED = 'echo x >>starts; exit "$(sed -n "$(wc -l <starts)p" codes)"'
KILLED = 'echo x >>starts; [ "$(wc -l <starts)" -gt 1 ] && exit 0; kill -9 $$'
# Ends, saying so, at the first SIGTERM or SIGINT.
SAVING = """
trap 'echo saved >>saves; exit 143' TERM
trap 'echo saved >>saves; exit 130' INT
echo x >>starts
for i in {1..600}; do sleep 0.05; done
"""


@pytest.fixture
def run(tmp_path):
    """start(shell command, *options) → Popen of the script in an empty folder."""
    started = []

    def start(command, *options, wait='0'):
        words = ['bash', str(SCRIPT), *options, *(['bash', '-c', command] if command else [])]
        environment = {'PATH': '/usr/bin:/bin', 'UNTIL_DONE_WAIT': wait}
        started.append(
            subprocess.Popen(
                words,
                cwd=tmp_path,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
                # A shell that runs the tests in the background has them ignore SIGINT.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.stderr.close()
        process.wait()


def starts(folder):
    """How often the command was started."""
    file = folder / 'starts'
    return file.read_text().count('x') if file.exists() else 0


def wait_for(condition):
    """Wait until condition() is true; fails after 20 s."""
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError('it did not happen')


@pytest.mark.parametrize(
    'codes, count, code',
    [
        ([0], 1, 0),
        ([143, 1, 137, 75, 0], 5, 0),
        ([143, 2, 0], 2, 2),
        ([130, 0], 1, 130),
    ],
)
def test_restarts_until_done_or_until_the_user_is_needed(tmp_path, run, codes, count, code):
    (tmp_path / 'codes').write_text('\n'.join(map(str, codes)))
    process = run(SCRIPTED)
    assert process.wait(30) == code
    assert starts(tmp_path) == count


def test_a_command_that_is_killed_is_restarted(tmp_path, run):
    assert run(KILLED).wait(30) == 0
    assert starts(tmp_path) == 2


def test_gives_up_with_the_last_exit_code(tmp_path, run):
    (tmp_path / 'codes').write_text('143\n143\n137\n0')
    process = run(SCRIPTED, '-n', '2')
    assert process.wait(30) == 137
    assert 'gave up after 2 restarts' in process.stderr.read()
    assert starts(tmp_path) == 3


@pytest.mark.parametrize('signum, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_command_once_and_ends_the_script_with_it(tmp_path, run, signum, code):
    process = run(SAVING)
    wait_for(lambda: starts(tmp_path))
    process.send_signal(signum)
    assert process.wait(30) == code
    assert (tmp_path / 'saves').read_text() == 'saved\n'
    assert starts(tmp_path) == 1


def test_a_signal_between_two_starts_ends_the_script(tmp_path, run):
    (tmp_path / 'codes').write_text('137\n0')
    process = run(SCRIPTED, wait='600')
    assert 'restart 1' in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 137
    assert starts(tmp_path) == 1


@pytest.mark.parametrize('options', [(), ('-n',), ('-n', 'many', 'true'), ('-n', '3')])
def test_a_wrong_call_is_explained(run, options):
    process = run(None, *options)
    assert process.wait(30) == 2
    assert 'usage' in process.stderr.read()
