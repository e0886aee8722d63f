"""Where a result came from: versions, git commit, devices."""

import functools
import importlib.metadata
import pathlib
import platform
import subprocess

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


@functools.cache
def git_commit():
    """Commit of the source tree, with '+changes' if it has uncommitted ones; '' if unknown.

    A tree that launch/ sent to a worker is no repository: its commit is in the file .commit.
    """
    root = pathlib.Path(__file__).resolve().parents[1]

    def git(*words):
        done = subprocess.run(['git', '-C', str(root), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ''

    if not (root / '.git').exists():
        sent = root / '.commit'
        return sent.read_text().strip() if sent.exists() else ''
    try:
        return git('rev-parse', 'HEAD') + ('+changes' if git('status', '--porcelain') else '')
    except OSError:  # no git on this machine
        return ''


def versions():
    """Package → version, Python's included."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {'python': platform.python_version(), **found}


def describe():
    """What a run directory and a manifest say of their origin."""
    import jax

    device = jax.devices()[0]
    return {
        'git_commit': git_commit(),
        'versions': versions(),
        'device': device.device_kind,
        'platform': device.platform,
        'num_devices': jax.device_count(),
        'num_processes': jax.process_count(),
    }
