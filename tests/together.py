"""Several real processes of one program on this machine, connected over loopback."""

import os
import subprocess
import sys

from hosts import ROOT, free_port

CONNECT = """
import json, sys
import jax
jax.distributed.initialize(
    coordinator_address=sys.argv[1], process_id=int(sys.argv[2]), num_processes=int(sys.argv[3])
)
"""
# As the program itself ends, so that only what the code does decides the exit code.
PROGRAM = """
from autoguide_jax import machine
machine.leave_after(lambda: exec({code!r}, globals()) or 0)
"""


def together(code, *args, count=2, each=(), timeout=120):
    """Run code, after CONNECT, in `count` processes; [(exit code, stdout, stderr), …].

    args: sys.argv[4:] of all; each: for a process the environment variables that it has besides.
    """
    program = PROGRAM.format(code=CONNECT + code)
    address = f'127.0.0.1:{free_port()}'
    common = {k: v for k, v in os.environ.items() if not k.startswith(('TPU_', 'SLURM_'))}
    common |= {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '2', 'PYTHONPATH': str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', program, address, str(i), str(count), *map(str, args)],
            env=common | (each[i] if i < len(each) else {}),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=f'{ROOT}/tests',
        )
        for i in range(count)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs)]
