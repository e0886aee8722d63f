"""launch/slurm.sh, run as slurmd runs it; srun, squeue and scontrol are shims, tasks are real."""

import os
import re
import signal
import subprocess

import pytest
from tpu_cloud import LAUNCH, ROOT, WORKS, end, wait_for

# Every task of the step; SIGTERM goes on to all of them, and the worst exit code comes back.
SRUN = """#!/bin/bash
echo "srun $*" >>"$CALLS"
tasks=''
trap 'kill -TERM $tasks' TERM
shift # --kill-on-bad-exit
for ((i = 0; i < SLURM_NTASKS; i++)); do
  SLURM_PROCID=$i "$@" &
  tasks="$tasks $!"
done
worst=0
for task in $tasks; do
  while kill -0 "$task" 2>/dev/null; do wait "$task"; done
  wait "$task"; code=$?
  [ "$code" -gt "$worst" ] && worst=$code
done
exit "$worst"
"""
PYTHON = '#!/bin/bash\necho "$*" >>"$CALLS"\nexec bash "$PROGRAM"\n'


@pytest.fixture
def job(tmp_path):
    """job(program, state='RUNNING', **environment): a Popen of the script on two nodes."""
    shims = {
        'srun': SRUN,
        'squeue': '#!/bin/bash\necho "$STATE"\n',
        'scontrol': '#!/bin/bash\necho "scontrol $*" >>"$CALLS"\n',
        'env/bin/python': PYTHON,
    }
    for name, text in shims.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    # slurmd runs a copy of the script, from its spool.
    spool = tmp_path / 'slurm_script'
    spool.write_text((LAUNCH / 'slurm.sh').read_text())
    program = tmp_path / 'program'
    started = []

    def start(text, state='RUNNING', words=('train', '--workdir=gs://b/x'), **more):
        program.write_text(text)
        env = {
            'PATH': f'{tmp_path}:/usr/bin:/bin',
            'VENV': os.path.relpath(tmp_path / 'env', ROOT),
            'CALLS': str(tmp_path / 'calls'),
            'PROGRAM': str(program),
            'STATE': state,
            'UNTIL_DONE_WAIT': '0',
            'SLURM_SUBMIT_DIR': str(ROOT),
            'SLURM_JOB_ID': '17',
            'SLURM_NTASKS': '2',
        }
        pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
        command = ['bash', str(spool), *words]
        process = subprocess.Popen(command, env=env | more, start_new_session=True, **pipes)
        started.append(process)
        return process

    start.calls = lambda: (tmp_path / 'calls').read_text() if (tmp_path / 'calls').exists() else ''
    yield start
    for process in started:
        end(process)
        process.stdout.close()


def stopped(job, state='RUNNING', code=143):
    """Exit code of a job whose time is up, by the signal that --signal=B:TERM sends."""
    program = WORKS.replace('echo working', 'echo works >>"$CALLS"')
    process = job(program.replace('exit 143', f'exit {code}'), state)
    wait_for(lambda: job.calls().count('works') == 2)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert said.count('saved') == 2
    return process.returncode


def test_one_task_per_node_runs_the_command_until_it_is_done(job):
    process = job('exit 0')
    assert process.wait(60) == 0
    task = '-m autoguide_jax train --workdir=gs://b/x --hosts=auto\n'
    assert job.calls() == f'srun --kill-on-bad-exit=1 python {task}{task}{task}'


@pytest.mark.parametrize('code', [143, 75])
def test_a_job_whose_time_is_up_saves_and_queues_again(job, code):
    assert stopped(job, code=code) == code
    assert job.calls().endswith('scontrol requeue 17\n')


@pytest.mark.parametrize('state', ['CANCELLED', 'COMPLETING', 'PENDING', ''])
def test_a_job_that_was_cancelled_does_not_come_back(job, state):
    assert stopped(job, state) == 143
    assert 'scontrol' not in job.calls()


def test_what_the_user_must_mend_ends_the_job(job):
    assert job('exit 2').wait(60) == 2
    assert job.calls().count('srun') == 1 and 'scontrol' not in job.calls()


@pytest.mark.parametrize('end, code', [('kill -9 $$', 137), ('exit 75', 75)])
def test_a_crash_starts_all_tasks_again_but_not_for_ever(job, end, code):
    assert job(end, RESTARTS='2').wait(60) == code
    assert job.calls().count('srun') == 3


def test_a_task_gets_all_gpus_of_its_node(job):
    process = job('echo "gpus $JAX_LOCAL_DEVICE_IDS"', SLURM_GPUS_ON_NODE='4')
    assert process.communicate(timeout=60)[0].count('gpus 0,1,2,3') == 2
    process = job('echo "gpus $JAX_LOCAL_DEVICE_IDS"', JAX_LOCAL_DEVICE_IDS='1')
    assert process.communicate(timeout=60)[0].count('gpus 1') == 2


@pytest.mark.parametrize(
    'words, more, reason',
    [
        ((), {}, 'a command is needed'),
        (('train',), {'SLURM_SUBMIT_DIR': '/'}, 'submit from the repository'),
        (('train',), {'SLURM_SUBMIT_DIR': ''}, 'submit this script with sbatch'),
    ],
)
def test_a_wrong_call_is_explained(job, words, more, reason):
    process = job('exit 0', words=words, **more)
    assert reason in process.communicate(timeout=60)[0]
    assert process.returncode and not job.calls()


def test_the_flags_for_sbatch_come_before_the_first_command():
    lines = (LAUNCH / 'slurm.sh').read_text().splitlines()
    flags = [line for line in lines if line.startswith('#SBATCH')]
    assert lines[1 : 1 + len(flags)] == flags
    assert all(re.fullmatch(r'#SBATCH --[a-z-]+(=\S+)?', line) for line in flags)
