"""The TPU compiler without a TPU: devices of a slice to compile for, and what compiling found.

libtpu, an optional extra (pip install "jax[tpu]"), holds the compiler. Findings are kept in files
named by a hash of the program, the slice, versions and flags, so a second run reads them back.
"""

import contextlib
import gzip
import hashlib
import importlib.metadata
import os
import re
import sys
import threading
import time

import jax

from autoguide_jax import files, stop
from autoguide_jax.plan import hlo
from autoguide_jax.progress import duration

EVERY_SECONDS = 30.0
SCALE = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
# What a refusal counts, and how it says so.
TOO_LARGE = {
    'temporaries': (
        r'HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)'
    ),
    'all': r'Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm',
}
# What tells libtpu and XLA how to compile.
FLAGS = ('LIBTPU_INIT_ARGS', 'XLA_FLAGS')
MISSING = (
    'not compiled: the TPU compiler (libtpu) is not installed here. pip install "jax[tpu]" adds it;'
    ' no TPU is needed'
)


def version():
    """Version of libtpu, None where it is not installed."""
    try:
        return importlib.metadata.version('libtpu')
    except importlib.metadata.PackageNotFoundError:
        return None


def devices(topology):
    """The devices of a slice (chips.Slice), to compile for; none of them exists here.

    Errors: ValueError if the compiler does not know such a slice.
    """
    # Without these libtpu asks a metadata server, and one process keeps out all others.
    os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
    os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
    os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(
            platform='tpu', topology_name=topology.name, **topology.chip.options
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f'topology ({topology.name}): the compiler knows no such slice: {error}'
        ) from error
    return list(found.devices)


def key(text, topology, effort):
    """Name of the file that keeps what compiling this StableHLO for this slice found."""
    flags = [os.environ.get(name, '') for name in FLAGS]
    parts = (text, topology.name, str(float(effort)), jax.__version__, version() or '', *flags)
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:32]


def compile(lowered, topology, settings, what):
    """What the compiler finds about a lowered program; from settings.cache if it is there already.

    settings: plan.Settings, of which cache and effort count.
    Returns {seconds, cached, fits, …}: with fits, memory (bytes of one device: arguments, outputs,
    aliased, temporaries, code, peak), cost (flops, bytes, seconds: cost_analysis as it is),
    collectives and traffic (hlo.py); without, what too_large tells.
    """
    name = key(lowered.as_text(), topology, settings.effort)
    file, program = (files.path(settings.cache) / f'{name}.{kind}' for kind in ('json', 'hlo.gz'))
    if file.exists():
        return {**with_moves(files.read_json(file), program), 'cached': True}
    # Of this compilation alone: what else the process compiles keeps its own effort.
    options = {'exec_time_optimization_effort': settings.effort}
    build = lambda: lowered.compile(compiler_options=options)
    start = time.monotonic()
    with ticking(f'plan: compiling {what} for {topology.name}'):
        try:
            compiled = stop.interruptible(build, doing=f'compiling {what}')
            found, text = findings(compiled), compiled.as_text()
            files.write_bytes(program, gzip.compress(text.encode()))
        except jax.errors.JaxRuntimeError as error:
            found = too_large(str(error))
    found = {'what': what, 'topology': topology.name, 'seconds': time.monotonic() - start} | found
    files.write_json(file, found)
    return {**with_moves(found, program), 'cached': False}


def with_moves(found, program):
    """Findings with what the HLO text beside them says: collectives and traffic."""
    if not found['fits']:
        return found
    text = gzip.decompress(program.read_bytes()).decode()
    moves = {'collectives': hlo.collectives(text), 'traffic': hlo.traffic(text)}
    return {**found, **moves, 'instructions': text.count(' = ')}


def findings(compiled):
    """What a compiled program tells of itself: memory and cost_analysis, bytes and seconds."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    names = {
        'arguments': 'argument_size_in_bytes', 'outputs': 'output_size_in_bytes',
        'aliased': 'alias_size_in_bytes', 'temporaries': 'temp_size_in_bytes',
        'code': 'generated_code_size_in_bytes', 'peak': 'peak_memory_in_bytes',
    }  # fmt: skip
    return {
        'fits': True,
        'memory': {name: int(getattr(memory, field, 0)) for name, field in names.items()},
        'cost': {
            'flops': cost.get('flops'),
            'bytes': cost.get('bytes accessed'),
            'seconds': cost.get('optimal_seconds'),
        },
    }


def too_large(message):
    """What a refusal for want of memory tells. Errors: RuntimeError for any other refusal.

    {fits, counted, needed, available, error}: needed and available in bytes of one device; counted:
    what needed is, all, or temporaries alone where they are too large by themselves.
    """
    for counted, pattern in TOO_LARGE.items():
        found = re.search(pattern, message)
        if found:
            needed, available = (float(found[i]) * SCALE[found[i + 1]] for i in (1, 3))
            return {
                'fits': False, 'counted': counted, 'needed': needed, 'available': available,
                'error': found[0],
            }  # fmt: skip
    raise RuntimeError(f'the TPU compiler refused the program: {message[:2000]}')


@contextlib.contextmanager
def ticking(what):
    """Tell on stderr that this goes on, and since when: a compilation may take ten minutes."""
    done, start = threading.Event(), time.monotonic()
    say = lambda text: print(f'{what}{text}', file=sys.stderr, flush=True)

    def tick():
        while not done.wait(EVERY_SECONDS):
            say(f', elapsed {duration(time.monotonic() - start)}')

    thread = threading.Thread(target=tick, daemon=True)
    say(' …')
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        say(f', done after {duration(time.monotonic() - start)}')
