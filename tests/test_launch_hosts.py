"""launch/gpu.sh and launch/worker.sh: hosts behind ssh are folders, what runs there is real."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from tpu_cloud import LAUNCH, WORKS, hosts, wait_for  # noqa: F401

LOG = 'autoguide_jax/job/log'


@pytest.fixture
def gpu(hosts):  # noqa: F811
    """gpu(verb, *words, code=0) calls gpu.sh for the host `one`."""
    return lambda verb, *words, **more: hosts.call('gpu.sh', verb, '--host=me@one', *words, **more)


@pytest.fixture
def worker(hosts, gpu):  # noqa: F811
    """worker(verb, *words) calls worker.sh in the home of the host `one`, which is set up."""
    gpu('setup')

    def start(verb, *words):
        script = 'autoguide_jax/source/launch/worker.sh'
        command = ['bash', script, verb, 'autoguide_jax', *words]
        home = hosts.folder / 'one'
        env = hosts.env | {'HOME': str(home), 'HOSTNAME': 'one'}
        pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
        return subprocess.Popen(command, cwd=home, env=env, **pipes)

    return start


def said(process):
    """What a worker.sh printed, and its exit code."""
    text, _ = process.communicate(timeout=60)
    return text, process.returncode


def state(worker):
    """STATE and CODE of the host."""
    return said(worker('status'))[0].split('\t')[2:4]


# Trains for real: the python of the worker is the one that runs the tests.
def test_a_training_that_is_stopped_saves_and_resumes(hosts, gpu, tmp_path):  # noqa: F811
    hosts.shim('../workers/python', f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    work = tmp_path / 'run'
    train = ['train', '--config=configs/toy.py:guide', '--config.train.total_nimg=64Mi']
    gpu('setup')
    gpu('run', '--env=JAX_PLATFORMS=cpu', '--', *train, f'--workdir={work}')
    metrics = work / 'metrics.jsonl'
    wait_for(lambda: metrics.exists() and metrics.read_text())
    assert 'running' in gpu('status')
    assert 'stopped 143' in gpu('stop')
    assert 'SIGTERM' in (log := hosts.read('one', LOG)) and 'saved' in log, log
    assert int(re.findall(r'saved .* at (\d+) images', log)[-1]) > 0
    described = json.loads((work / 'config.json').read_text())
    commit = hosts.read('one', 'autoguide_jax/source/.commit').strip()
    assert commit in str(described)

    gpu('run', '--env=JAX_PLATFORMS=cpu', '--', *train, f'--workdir={work}')
    wait_for(lambda: 'resum' in hosts.read('one', LOG))
    gpu('stop')


def test_several_hosts_run_as_one(hosts):  # noqa: F811
    words = ('--host=me@one,me@two', '--ssh_flag=-q')
    hosts.call('gpu.sh', 'setup', *words)
    hosts.call('gpu.sh', 'run', *words, '--', 'train')
    for index, host in enumerate(('one', 'two')):
        wait_for(lambda host=host: hosts.read(host, 'started'))
        assert hosts.read(host, 'started').split()[-1] == f'--hosts=one:8476,{index},2'
    assert hosts.call('gpu.sh', 'status', *words).count('running') == 2
    assert hosts.call('gpu.sh', 'logs', *words, '--worker=1').startswith('[w-two]')
    assert hosts.call('gpu.sh', 'stop', *words).count('stopped 143') == 2
    assert hosts.read('.', 'calls').count('ssh -q me@two') == 6


def test_hosts_that_know_the_first_by_another_name_get_it(hosts):  # noqa: F811
    words = ('run', '--dry_run', '--host=me@one,two', '--coordinator=one.internal', '--', 'train')
    said = hosts.call('gpu.sh', *words, JAX_COORDINATOR_PORT='8490')
    assert said.count(' --hosts=one.internal:8490,') == 2 and 'ssh me@one ' in said


@pytest.mark.parametrize(
    'words, reason',
    [
        (['--host=one', '--coordinator=10.0.0.1', '--', 'train'], 'one host needs none'),
        (['--host=one,two', '--coordinator=h:1', '--', 'train'], 'JAX_COORDINATOR_PORT is its'),
        (['--host=one,two', '--coordinator=h', '--', 'train', '--hosts=auto'], 'Leave one out'),
    ],
)
def test_a_coordinator_that_would_not_be_used_is_refused(hosts, words, reason):  # noqa: F811
    assert reason in hosts.call('gpu.sh', 'run', *words, code=2)
    assert not hosts.read('.', 'calls')


def test_a_host_that_does_not_answer_is_a_failure(hosts, gpu):  # noqa: F811
    gpu('setup')
    hosts.shim('ssh', '#!/bin/bash\necho no route to host >&2; exit 255\n')
    assert 'not every host answers' in gpu('status', code=2)
    assert 'no route' in gpu('run', '--', 'train', code=1)


def test_follow_ends_with_the_command(hosts, gpu):  # noqa: F811
    gpu('setup')
    hosts.program('for i in 1 2 3; do echo "step $i"; sleep 0.3; done')
    assert 'step 3' in gpu('run', '--follow', '--', 'train')


def test_a_crash_is_restarted_and_the_exit_code_recorded(hosts, worker):  # noqa: F811
    hosts.program('[ "$(wc -l <"$HOME/started")" -gt 2 ] && exit 0; kill -9 $$')
    assert said(worker('start', '5', 'python', '-m', 'x'))[1] == 0
    wait_for(lambda: state(worker) == ['ended', '0'])
    assert len(hosts.read('one', 'started').splitlines()) == 3
    hosts.program('exit 2')
    said(worker('start', '5', 'python'))
    wait_for(lambda: state(worker) == ['ended', '2'])


def test_of_many_starts_at_once_one_starts(hosts, worker):  # noqa: F811
    started = [worker('start', '0', 'python', '-m', 'x') for _ in range(6)]
    codes = [said(process)[1] for process in started]
    assert sorted(codes) == [0, 1, 1, 1, 1, 1]
    wait_for(lambda: hosts.read('one', 'started'))
    assert len(hosts.read('one', 'started').splitlines()) == 1
    assert said(worker('resume', '0', 'python')) == ('[one] runs\n', 0)


def test_what_does_not_save_in_time_is_killed_only_by_force(hosts, worker):  # noqa: F811
    hosts.program('trap "" TERM; echo working; while :; do sleep 0.05; done')
    said(worker('start', '0', 'python'))
    wait_for(lambda: 'working' in hosts.read('one', LOG))
    text, code = said(worker('stop', '1'))
    assert code == 1 and 'still running after 1 s' in text
    assert state(worker) == ['running', '-']
    assert 'killed' in said(worker('stop', '1', 'force'))[0]
    assert state(worker) == ['stopped', '137']


def test_a_command_that_ends_as_it_is_stopped_is_no_failure(hosts, worker):  # noqa: F811
    hosts.program('echo working; until [ -e "$HOME/enough" ]; do sleep 0.05; done')
    said(worker('start', '0', 'python'))
    wait_for(lambda: 'working' in hosts.read('one', LOG))
    gone = subprocess.Popen(['true'])
    gone.wait()
    (hosts.folder / 'one/autoguide_jax/job/pid').write_text(str(gone.pid))
    stop = worker('stop', '60')
    wait_for(lambda: (hosts.folder / 'one/autoguide_jax/job/asked').exists())
    (hosts.folder / 'one/enough').touch()
    text, code = said(stop)
    assert code == 0 and 'stopped 0' in text, text


def test_a_machine_that_went_down_lost_its_command(hosts, worker):  # noqa: F811
    said(worker('start', '0', 'python'))
    wait_for(lambda: 'working' in hosts.read('one', LOG))
    subprocess.run(['pkill', '-KILL', '-s', hosts.read('one', 'autoguide_jax/job/owner').strip()])
    wait_for(lambda: state(worker) == ['lost', '-'])
    assert said(worker('resume', '0', 'python'))[1] == 0
    assert state(worker) == ['running', '-']


def test_new_code_replaces_the_old_and_keeps_the_environment(hosts, gpu):  # noqa: F811
    gpu('setup')
    stale = hosts.folder / 'one/autoguide_jax/source/stale'
    stale.touch()
    gpu('setup', '--jax=cpu', '--ref=HEAD')
    assert not stale.exists()
    calls = hosts.read('one', 'uv_calls')
    assert calls.count('uv venv --python 3.12') == 1
    assert 'jax[cuda13]' in calls and 'jax[cpu]' in calls


def test_code_can_be_cloned_at_a_commit(hosts, gpu):  # noqa: F811
    root = LAUNCH.parent
    ref = subprocess.check_output(['git', '-C', root, 'rev-parse', 'HEAD'], text=True).strip()
    gpu('setup', f'--repo=file://{root}', f'--ref={ref}')
    head = hosts.folder / 'one/autoguide_jax/source/.git'
    found = subprocess.check_output(['git', '--git-dir', head, 'rev-parse', 'HEAD'], text=True)
    assert found.strip() == ref


def documented():
    """The commands for tpu.sh and gpu.sh of both READMEs, as words, to be run dry."""
    text = (LAUNCH / 'README.md').read_text() + (LAUNCH.parent / 'README.md').read_text()
    for line in re.findall(r'^    launch/((?:tpu|gpu)\.sh .*)', text, re.MULTILINE):
        script, verb, *words = shlex.split(line.replace('…', 'x'), comments=True)
        yield [script, verb, '--dry_run', *words]


@pytest.mark.parametrize('words', list(documented()), ids=' '.join)
def test_the_commands_of_the_readme_are_understood(hosts, words):  # noqa: F811
    known = {'TPU_PROJECT': 'p', 'TPU_ZONE': 'us-west4-a', 'TPU_NAME': 'pod', 'GPU_HOST': 'me@one'}
    lines = hosts.call(*words, **known).splitlines()
    assert any(line.startswith(('gcloud ', 'ssh ')) for line in lines)
    assert not hosts.read('.', 'calls')
