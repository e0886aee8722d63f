"""launch/tpu.sh: the real gcloud against an API on loopback, commands of workers run for real."""

import contextlib
import re
import shlex
import shutil
import subprocess

import pytest
from tpu_cloud import LAUNCH, WORKS, cloud, end, wait_for  # noqa: F401

TRAIN = ('--', 'train', '--config=configs/digits.py:main', '--workdir=gs://bucket/run')
RESERVED = {'reservationName': 'projects/p/locations/us-central2-b/reservations/-'}
STATES = re.compile(r'w-([\d-]+)\s+(\w+)\s+(\S+)')


@pytest.fixture
def tpu(cloud):  # noqa: F811
    """tpu(verb, *words, code=0) calls tpu.sh for the slice `a`."""
    return lambda verb, *words, **more: cloud.call('tpu.sh', verb, '--name=a', *words, **more)


def node(request):
    """What a request to create says of its one node."""
    return request['tpu']['nodeSpec'][0]


@pytest.mark.parametrize(
    'flags, accelerator, runtime, tier',
    [
        (['--type=v4-16', '--spot'], 'v4-16', 'tpu-ubuntu2204-base', {'spot': {}}),
        (['--type=v5e-16'], 'v5litepod-16', 'v2-alpha-tpuv5-lite', {}),
        (['--type=v5p-32', '--reserved'], 'v5p-32', 'v2-alpha-tpuv5', RESERVED),
        (['--type=v6e-8', '--create_flag=--network=mine'], 'v6e-8', 'v2-alpha-tpuv6e', {}),
    ],
)
def test_create_asks_for_the_slice(cloud, tpu, flags, accelerator, runtime, tier):  # noqa: F811
    tpu('create', *flags)
    [body] = cloud.asked('POST')
    assert node(body)['nodeId'] == 'a'
    assert node(body)['node']['acceleratorType'] == accelerator
    assert node(body)['node']['runtimeVersion'] == runtime
    assert node(body)['node']['networkConfig']['network'] == (
        'mine' if '--create_flag=--network=mine' in flags else 'default'
    )
    assert body == {'tpu': body['tpu'], **tier}


def test_slices_that_train_together_are_one_request(cloud, tpu):  # noqa: F811
    tpu('create', '--type=v6e-16', '--nodes=3')
    [body] = cloud.asked('POST')
    assert node(body)['multisliceParams']['nodeCount'] == 3


def test_the_life_of_a_slice(cloud, tpu):  # noqa: F811
    tpu('create', '--type=v4-16')
    assert 'ACTIVE' in (said := tpu('status')) and said.count(' new ') == 2
    assert 'not every worker is set up' in tpu('run', *TRAIN, code=2)

    said = tpu('setup')
    assert said.count('ready: Python 3.12.0') == 2
    first, second = cloud.ips('a')
    assert 'pip install' in cloud.read(second, 'uv_calls')
    assert 'jax[tpu]' in cloud.read(first, 'uv_calls')
    assert len(cloud.read(first, 'autoguide_jax/source/.commit').strip()) == 40

    tpu('run', '--env=JAX_COORDINATOR_PORT=8490', *TRAIN)
    for ip in (first, second):
        wait_for(lambda ip=ip: 'working' in cloud.read(ip, 'autoguide_jax/job/log'))
        command = '-m autoguide_jax ' + ' '.join(TRAIN[1:]) + ' --hosts=auto\n'
        assert cloud.read(ip, 'started') == command
    assert 'runs there already' in tpu('run', *TRAIN, code=2)
    assert 'Stop it first' in tpu('setup', code=1)
    assert [state for _, state, _ in STATES.findall(tpu('status'))] == ['running', 'running']
    said = tpu('logs', '--worker=1')
    assert f'[w-{second.replace(".", "-")}] working' in said and said.count('working') == 1

    assert tpu('stop').count('stopped 143') == 2
    assert 'saved' in cloud.read(first, 'autoguide_jax/job/log')
    assert [code for *_, code in STATES.findall(tpu('status'))] == ['143', '143']
    tpu('delete')
    assert cloud.asked('DELETE') == ['alt=json&force=True']
    assert 'NONE' in tpu('status')


def test_setup_fails_if_one_worker_fails(cloud, tpu):  # noqa: F811
    tpu('create', '--type=v4-16')
    broken = cloud.folder / cloud.ips('a')[1]
    broken.mkdir()
    (broken / 'no_network').touch()
    said = tpu('setup', code=1)
    assert 'no network' in said and said.count('ready: ') == 1
    assert 'not every worker is set up' in tpu('run', *TRAIN, code=2)


def test_a_node_that_gcloud_leaves_out_is_a_failure(cloud, tpu):  # noqa: F811
    tpu('create', '--type=v4-16')
    cloud.node_state = 'PREEMPTED'
    assert 'terminal state "PREEMPTED"' in tpu('setup', code=1)


def test_several_slices_run_the_same_command(cloud, tpu):  # noqa: F811
    names = '--name=a,b'
    cloud.call('tpu.sh', 'create', names, '--type=v6e-8', '--spot')
    cloud.call('tpu.sh', 'setup', names, '--repo=https://example.org/x', '--dry_run')
    cloud.call('tpu.sh', 'setup', names)
    said = cloud.call('tpu.sh', 'run', names, '--', 'sweep', '--workdir=gs://bucket/sweep')
    assert '[a] ' in said and '[b] ' in said
    for ip in cloud.ips('a') + cloud.ips('b'):
        wait_for(lambda ip=ip: 'sweep --workdir=gs://bucket/sweep' in cloud.read(ip, 'started'))


@contextlib.contextmanager
def watching(cloud, *flags):  # noqa: F811
    """A running `tpu.sh watch` of the slice `a`; yields finish() → (exit code, what it said)."""
    words = ('--name=a', '--type=v5e-16', '--spot', '--poll=1', *flags, *TRAIN)
    process = cloud.start('tpu.sh', 'watch', *words)

    def finish():
        said, _ = process.communicate(timeout=300)
        return process.returncode, said

    try:
        yield finish
    except AssertionError as error:
        end(process)
        raise AssertionError(process.stdout.read()) from error
    finally:
        end(process)
        process.stdout.close()


def works(cloud):  # noqa: F811
    """Whether the command runs on both workers of the slice `a`."""
    logs = [cloud.read(ip, 'autoguide_jax/job/log') for ip in cloud.ips('a')]
    return all('working' in log for log in logs)


def let_fail(cloud, *calls):  # noqa: F811
    """Let the calls of gcloud that have these numbers fail at once, as without a network."""
    script = """#!/bin/bash
echo x >>"$HOME/gcloud_calls"
call=$(wc -l <"$HOME/gcloud_calls")
case " CALLS " in *" $call "*) echo 'no route to Google' >&2; exit 1 ;; esac
exec GCLOUD "$@"
"""
    numbers = ' '.join(map(str, calls))
    cloud.shim('gcloud', script.replace('CALLS', numbers).replace('GCLOUD', shutil.which('gcloud')))


def test_watch_makes_a_preempted_slice_anew_and_resumes(cloud):  # noqa: F811
    let_fail(cloud, 1, 3, 8, 14)
    cloud.next_state = 'WAITING_FOR_RESOURCES'
    with watching(cloud, '--then_delete') as finish:
        wait_for(lambda: 'a' in cloud.slices)
        cloud.next_state = cloud.slices['a']['state'] = 'ACTIVE'
        wait_for(lambda: works(cloud))
        cloud.program('echo resumed')  # and done
        cloud.preempt('a')
        code, said = finish()
    assert code == 0, said
    first, second = cloud.asked('POST')
    assert first == second
    assert cloud.asked('DELETE') == ['alt=json&force=True'] * 2
    assert 'no route to Google' in said
    order = ['NONE', 'create', 'ACTIVE', 'setup', 'start', 'SUSPENDED', 'delete']
    order += ['NONE', 'create', 'ACTIVE', 'setup', 'start', 'done']
    steps = iter(re.findall(r'Z a: (\w+)', said))
    assert all(step in steps for step in order), said
    assert not cloud.slices


def test_watch_ends_with_what_the_user_must_mend(cloud):  # noqa: F811
    cloud.program(f'case $HOME in *.1) exit 2 ;; *) {WORKS} ;; esac')
    with watching(cloud) as finish:
        code, said = finish()
    assert code == 2 and 'ended 2: to be mended' in said
    assert 'saved' in cloud.read(cloud.ips('a')[1], 'autoguide_jax/job/log')
    assert 'a' in cloud.slices


def test_watch_starts_again_where_a_machine_came_back(cloud, tpu):  # noqa: F811
    with watching(cloud) as finish:
        wait_for(lambda: 'a' in cloud.slices)
        wait_for(lambda: works(cloud))
        ip = cloud.ips('a')[1]
        subprocess.run(['pkill', '-KILL', '-s', cloud.read(ip, 'autoguide_jax/job/owner').strip()])
        wait_for(lambda: cloud.read(ip, 'started').count('train') == 2)
        assert cloud.read(cloud.ips('a')[0], 'started').count('train') == 1
        tpu('stop')
        code, said = finish()
    assert code == 143 and 'stopped by hand' in said
    # A new watch begins anew, and leaves another command alone.
    with watching(cloud) as finish:
        wait_for(lambda: cloud.read(ip, 'started').count('train') == 3)
        other = cloud.call('tpu.sh', 'watch', '--name=a', '--type=v5e-16', '--', 'sweep', code=2)
        assert 'another command runs there' in other
        cloud.program('exit 0')
        tpu('stop')
        assert finish()[0] == 143


@pytest.mark.parametrize('state, node', [('FAILED', 'READY'), ('ACTIVE', 'PREEMPTED')])
def test_watch_makes_a_broken_slice_anew_but_not_for_ever(cloud, state, node):  # noqa: F811
    cloud.next_state, cloud.node_state = state, node
    with watching(cloud, '--max_failures=1') as finish:
        code, said = finish()
    assert code == 1 and 'gave up after 1 failures' in said
    assert len(cloud.asked('POST')) == len(cloud.asked('DELETE')) == 2


VERBS = ['create', 'setup', 'run', 'watch', 'status', 'logs', 'stop', 'delete']
WRONG = [
    (['create', '--name=a', '--type=tpu7x-8'], 'instance-groups managed create'),
    (['create', '--name=a', '--type=v3-8'], 'Known are v4-'),
    (['create', '--name=a', '--type=v4'], '--type=v4'),
    (['create', '--name=a', '--type=v4-8', '--spot', '--reserved'], 'exclude each other'),
    (['create', '--type=v4-8'], '--name is needed'),
    (['create', '--name=a'], '--type is needed'),
    (['create', '--name=A', '--type=v4-8'], 'lower-case'),
    (['run', '--name=a'], 'needs a command after --'),
    (['run', '--name=a', 'train'], 'the command comes after --'),
    (['run', '--name=a', '--env=x', '--', 'train'], 'must be NAME=VALUE'),
    (['stop', '--name=a', '--wait=soon'], '--wait=soon must be a whole number'),
    (['status', '--name=a', '--spot'], '--spot: unknown flag'),
    (['setup', '--name=a', '--ref=nowhere'], '--ref=nowhere is no commit'),
    (['logs', '--name=a', '--worker=last'], 'must be all or a number'),
    (['restart'], "unknown verb 'restart'"),
]


@pytest.mark.parametrize('words, reason', WRONG, ids=lambda v: ' '.join(v) if v is list else None)
def test_a_wrong_call_is_explained_before_anything_is_done(cloud, words, reason):  # noqa: F811
    assert reason in cloud.call('tpu.sh', *words, code=2)
    assert not cloud.requests


@pytest.mark.parametrize('verb', VERBS)
def test_a_dry_run_prints_what_a_shell_understands_and_does_nothing(cloud, tpu, verb):  # noqa: F811
    flags = ['--type=v4-16', '--spot'] if verb in ('create', 'watch') else []
    job = ['--', 'train', "--config.data.path=it's a b"] if verb in ('run', 'watch') else []
    said = tpu(verb, *flags, '--dry_run', *job)
    lines = [line for line in said.splitlines() if not line.startswith(('#', 'note'))]
    words = [shlex.split(line) for line in lines]
    assert lines and all(line[0] in ('gcloud', 'git') for line in words)
    if job:
        [start] = [line for line in words if 'autoguide_jax train' in line[-1]]
        assert shlex.split(start[-1])[-2:] == ["--config.data.path=it's a b", '--hosts=auto']
    assert not cloud.requests and not cloud.read('.', 'calls')


def commands_for_tpu7x():
    """The gcloud commands of the README's section, as words."""
    section = (LAUNCH / 'README.md').read_text().partition('## TPU7x')[2].partition('\n## ')[0]
    return [shlex.split(line) for line in section.splitlines() if line.startswith('    gcloud')]


@pytest.mark.parametrize('words', commands_for_tpu7x(), ids=lambda words: ' '.join(words[2:5]))
def test_gcloud_understands_the_commands_for_tpu7x(cloud, words):  # noqa: F811
    subprocess.run([*words, '--quiet'], env=cloud.env, capture_output=True, timeout=300)
    assert any(path.startswith('/compute/v1/') for _, path, _ in cloud.requests)
