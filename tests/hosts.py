"""The command line on several local processes that are connected like the hosts of a pod."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tiny import RECIPE

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TINY = (
    '--config=configs/digits.py:main', '--config.network.model_channels=8',
    '--config.network.channels_per_head=8', '--config.network.channel_mult=1',
    '--config.network.num_blocks=1', '--config.network.attn_resolutions=8',
    '--config.train.total_nimg=1024', '--config.train.snapshot_nimg=512',
    '--config.train.checkpoint_nimg=256', '--config.train.log_nimg=256',
)  # fmt: skip
# A classifier, for programs that score, whose training takes no time to speak of.
QUICK = ('--config.features.name=classifier',)
QUICK += tuple(f'--config.features.recipe.{name}={value}' for name, value in RECIPE.items())


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def begin(verb, *settings, count=1, devices=2, workdirs=None, **environment):
    """Start one command as `count` connected processes of so many devices each."""
    port, started = free_port(), []
    for i in range(count):
        command = [sys.executable, '-m', 'autoguide_jax', verb, *settings, f'--devices={devices}']
        command += [f'--hosts=127.0.0.1:{port},{i},{count}'] if count > 1 else []
        command += [f'--workdir={workdirs[i]}'] if workdirs else []
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(
                command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment
            )
        )
    return started


def end(processes, code=0):
    """Wait for them, check their exit codes, and return what each wrote to (stdout, stderr)."""
    try:
        # All at once: one that nobody reads from stops where its pipe is full.
        with ThreadPoolExecutor(len(processes)) as pool:
            texts = list(pool.map(lambda process: process.communicate(timeout=600), processes))
    finally:
        for process in processes:
            process.kill()
    for process, (_, err) in zip(processes, texts):
        assert process.returncode == code, err
    return texts


def run(verb, *settings, code=0, **options):
    """Begin and end."""
    return end(begin(verb, *settings, **options), code)
