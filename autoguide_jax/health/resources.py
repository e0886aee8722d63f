"""What a host has: software, disk, memory, limits."""

import importlib.metadata
import os
import pathlib
import platform
import shutil
import tempfile

from autoguide_jax import files, provenance
from autoguide_jax.health.finding import fault, fine, warning

PACKAGES = (*provenance.PACKAGES, 'tensorstore')
PLUGINS = ('libtpu', 'jax-cuda12-plugin', 'jax-cuda13-plugin')
LITTLE = 2**30  # bytes of disk or memory that any run soon uses up
FEW_FILES = 1024


def versions():
    """name → version of Python, of what results depend on, of plugins, and the project's commit."""
    found = {'python': platform.python_version()}
    for name in (*PACKAGES, *PLUGINS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found |= {} if name in PLUGINS else {name: 'absent'}
    return {**found, 'commit': provenance.git_commit() or 'unknown'}


def check_versions():
    """One Finding for each version."""
    return [
        fault(name, version, 'pip install -r requirements.txt', same=True)
        if version == 'absent'
        else fine(name, version, same=True)
        for name, version in versions().items()
    ]


def gib(count):
    """Bytes in GiB."""
    return count / 2**30


def free_disk(folder):
    """Free bytes where a local folder is, or will be."""
    place = pathlib.Path(os.path.abspath(os.fspath(files.path(folder))))
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def check_disk(workdir):
    """Free disk of the workdir; of the temporary folder if the workdir is in a bucket."""
    local = workdir and not files.is_remote(workdir)
    free, where = free_disk(workdir if local else tempfile.gettempdir()), 'workdir'
    found = f'{{}} GiB free ({where if local else "temporary files"})'
    if free < LITTLE:
        return warning('disk', found, 'free some space', amount=gib(free))
    return fine('disk', found, amount=gib(free))


def free_memory(proc='/proc/meminfo', group='/sys/fs/cgroup'):
    """Free bytes of host memory, within a container's limit; None where the system is silent."""
    try:
        lines = dict(line.split(':') for line in pathlib.Path(proc).read_text().splitlines())
        free = int(lines['MemAvailable'].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit, used = (
            int(pathlib.Path(group, name).read_text()) for name in ('memory.max', 'memory.current')
        )
        # Files that were read count as used, but go when memory is needed.
        stat = pathlib.Path(group, 'memory.stat').read_text().split()
        used -= int(stat[stat.index('inactive_file') + 1])
        return min(free, max(limit - used, 0))
    except (OSError, ValueError):  # no limit ('max'), or no such file
        return free


def check_memory():
    """Free memory of the host."""
    free = free_memory()
    if free is None:
        return fine('memory', 'unknown')
    if free < LITTLE:
        return warning('memory', '{} GiB free', 'end other programs', amount=gib(free))
    return fine('memory', '{} GiB free', amount=gib(free))


def check_open_files():
    """The limit of open files: buckets and data sets hold many."""
    try:
        import resource
    except ImportError:  # not on Windows
        return fine('open files', 'no limit known')
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and limit < FEW_FILES:
        return warning('open files', f'at most {limit}', f'ulimit -n {64 * FEW_FILES}')
    return fine('open files', f'at most {limit}')


def check_huge_pages(chips, file='/sys/kernel/mm/transparent_hugepage/enabled'):
    """Huge pages: TPU runtimes from v5e on start slowly without, and CPU training loses a fifth."""
    try:
        text = pathlib.Path(file).read_text().strip()
    except OSError:
        return fine('huge pages', 'unknown')
    mode = text.partition('[')[2].partition(']')[0]
    if mode == 'never' or (chips and mode != 'always'):
        best = 'always' if chips else 'madvise'
        return warning('huge pages', mode, f"sudo sh -c 'echo {best} > {file}'")
    return fine('huge pages', mode)


def check_cache(folder):
    """Whether the cache of compiled programs can be written; folder: None = it is off."""
    if not folder:
        return fine('compilation cache', 'off')
    change = 'set AUTOGUIDE_JAX_CACHE to a folder that can be written, or to off'
    if not files.is_remote(folder):
        try:
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            return warning('compilation cache', f'{folder}: {error.strerror or error}', change)
    return fine('compilation cache', str(folder))


def check_room(workdir, checkpoint, run):
    """Whether the disk holds one checkpoint, and all that a run writes. Both in bytes."""
    if files.is_remote(workdir):
        return fine('room', 'a bucket')
    free = free_disk(workdir)
    found = f'{{}} GiB free in {workdir}; '
    if free < checkpoint:
        needs = f'one checkpoint takes {gib(checkpoint):.4g} GiB'
        return fault(
            'room', found + needs, 'free space or give another --workdir', amount=gib(free)
        )
    if free < run:
        needs = f'checkpoints and snapshots of this run take about {gib(run):.4g} GiB'
        less = 'free space, give another --workdir, or raise train.snapshot_nimg'
        return warning('room', found + needs, less, amount=gib(free))
    return fine('room', found + 'enough', amount=gib(free))
