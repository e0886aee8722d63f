"""A TPU API on loopback for the real gcloud, and workers for ssh that are folders of this machine.

`cloud` is what the launch tests hold: the requests that came, the slices that there are, and the
folders of their workers. ssh, scp and uv are shims on PATH which write down how they were called
and do it here: a command for a worker really runs, in that worker's folder as its home.
"""

import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAUNCH = ROOT / 'launch'

# The host is the word before the command; flags with a value are -i and -o.
SSH = """#!/bin/bash
printf '%s ' ssh "$@" | tr '\\n' ' ' >>"$WORKERS/calls"; echo >>"$WORKERS/calls"
while [ $# -gt 0 ]; do
  case $1 in -i | -o) shift 2 ;; -*) shift ;; *) break ;; esac
done
host=${1#*@}; shift
[ "$1" = -- ] && shift
mkdir -p "$WORKERS/$host" && cd "$WORKERS/$host" || exit 255
HOME=$PWD HOSTNAME=w-${host//./-} exec bash -c "$*"
"""
SCP = """#!/bin/bash
printf '%s ' scp "$@" >>"$WORKERS/calls"; echo >>"$WORKERS/calls"
while [ $# -gt 2 ]; do shift; done
host=${2#*@}
mkdir -p "$WORKERS/${host%%:*}" && cp "$1" "$WORKERS/${host%%:*}/${host#*:}"
"""
# `uv venv` makes an environment whose python is the program of the test.
UV = """#!/bin/bash
echo "uv $*" >>"$HOME/uv_calls"
[ -e "$HOME/no_network" ] && echo 'no network' >&2 && exit 1
if [ "$1" = venv ]; then
  mkdir -p "${@: -1}/bin" && ln -sf "$HOME/../python" "${@: -1}/bin/python"
fi
exit 0
"""
PYTHON = """#!/bin/bash
if [ "$1" = -c ]; then echo 'Python 3.12.0 jax 0.0'; exit; fi
echo "$*" >>"$HOME/started"
exec bash "$WORKERS/program" "$@"
"""
WORKS = 'trap "echo saved; exit 143" TERM; echo working; while :; do sleep 0.05; done'


def wait_for(condition, seconds=180):
    """Wait until condition() is true; fails after some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError('it did not happen')


class Workers:
    """Folders that stand for hosts, the shims that lead to them, and what scripts do with them."""

    def __init__(self, folder):
        self.folder, self.bin = folder / 'workers', folder / 'bin'
        self.folder.mkdir()
        self.bin.mkdir()
        for name, text in {'ssh': SSH, 'scp': SCP, 'uv': UV}.items():
            self.shim(name, text)
        self.shim('../workers/python', PYTHON)
        self.program(WORKS)
        self.env = {
            'PATH': f'{self.bin}:{os.environ["PATH"]}',
            'HOME': str(folder),
            'WORKERS': str(self.folder),
            'UNTIL_DONE_WAIT': '0',
            'TMPDIR': str(folder),
            'LANG': 'C.UTF-8',
        }

    def shim(self, name, text):
        """Put an executable on the PATH of the scripts."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def program(self, text):
        """Say, in bash, what `python -m autoguide_jax …` does on every worker from now on."""
        (self.folder / 'program').write_text(text)

    def start(self, script, *words, **more):
        """Start a script of launch/; returns its Popen."""
        command = ['bash', str(LAUNCH / script), *words]
        pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
        return subprocess.Popen(command, env=self.env | more, start_new_session=True, **pipes)

    def call(self, script, *words, code=0, **more):
        """Run a script of launch/ to its end, expect an exit code; returns all it printed."""
        process = self.start(script, *words, **more)
        try:
            said, _ = process.communicate(timeout=300)
        finally:
            process.kill()
        assert process.returncode == code, said
        return said

    def read(self, host, name):
        """Text of a file in a worker's home, '' if there is none."""
        path = self.folder / host / name
        return path.read_text() if path.exists() else ''

    def vanish(self, *hosts):
        """Take machines away: kill what runs there and empty their disks."""
        for host in hosts:
            owner = self.read(host, 'autoguide_jax/job/owner').strip()
            if owner and pathlib.Path(f'/proc/{owner}').exists():
                subprocess.run(['pkill', '-KILL', '-s', owner])
            shutil.rmtree(self.folder / host, ignore_errors=True)


@pytest.fixture
def hosts(tmp_path):
    """Workers behind ssh; all they run is killed at the end."""
    workers = Workers(tmp_path)
    yield workers
    workers.vanish(*(path.name for path in workers.folder.iterdir() if path.is_dir()))


class Cloud(Workers):
    """Workers of TPU slices. Every slice has two, 127.0.SLICE.1 and 127.0.SLICE.2."""

    def __init__(self, folder):
        super().__init__(folder)
        self.requests, self.slices, self.numbers = [], {}, {}
        self.next_state, self.node_state = 'ACTIVE', 'READY'
        cloud = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *words):
                pass

            def answer(self):
                size = int(self.headers.get('Content-Length') or 0)
                body = json.loads(self.rfile.read(size) or b'null')
                code, said = cloud.reply(self.command, self.path, body)
                data = json.dumps(said).encode()
                self.send_response(code)
                self.send_header('Content-Type', 'application/json')
                self.send_header('Content-Length', str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PATCH = answer

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        (folder / 'token').write_text('no account')
        url = f'http://127.0.0.1:{self.server.server_port}/'
        self.env |= {
            'CLOUDSDK_CONFIG': str(folder / 'gcloud'),
            'CLOUDSDK_AUTH_ACCESS_TOKEN_FILE': str(folder / 'token'),
            'CLOUDSDK_CORE_PROJECT': 'p',
            'CLOUDSDK_CORE_DISABLE_USAGE_REPORTING': 'true',
            'CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK': 'true',
            'CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU': url,
            'CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE': url + 'compute/v1/',
            'TPU_ZONE': 'us-central2-b',
        }

    def reply(self, verb, path, body):
        """Status and JSON for one request, as the TPU API v2 answers it."""
        place, _, query = path.partition('?')
        kind, name = place.split('/')[-2:]
        self.requests.append((verb, path, body))
        # An operation is named after its node: that is what gcloud asks for next.
        home = 'projects/p/locations/us-central2-b'
        done = {'response': {'name': f'{home}/nodes/{name}'}, 'done': True}
        operation = {'name': f'{home}/operations/{name}', **done}
        if verb == 'POST' and name == 'queuedResources':
            name = re.search(r'queuedResourceId=([\w-]+)', query)[1]
            self.slices[name] = {'state': self.next_state, **body}
            self.numbers.setdefault(name, len(self.numbers))
            return 200, operation
        if kind == 'queuedResources' and name in self.slices:
            if verb == 'DELETE':
                del self.slices[name]
                return 200, operation
            slice = self.slices[name]
            known = {'name': place[4:], 'state': {'state': slice['state']}}
            return 200, {'tpu': slice['tpu'], **known}
        if kind == 'nodes' and name in self.slices and verb == 'GET':
            ends = [{'accessConfig': {'externalIp': ip}, 'ipAddress': ip} for ip in self.ips(name)]
            slice = self.slices[name]
            known = {'state': self.node_state, 'metadata': slice.get('keys', {})}
            return 200, {'name': place[4:], 'networkEndpoints': ends, **known}
        if verb == 'PATCH':
            self.slices[name]['keys'] = body['metadata']
            return 200, operation
        if place == '/compute/v1/projects/p':
            return 200, {'name': 'p'}
        if (kind == 'nodes' and ':' not in name) or kind == 'operations':
            return 200, operation
        error = {'code': 404, 'status': 'NOT_FOUND', 'message': f'Resource {path} was not found'}
        return 404, {'error': error}

    def ips(self, name):
        """Addresses of a slice's workers, which are also the names of their folders."""
        return [f'127.0.{self.numbers[name]}.{i}' for i in (1, 2)]

    def preempt(self, name):
        """Do what Google does to a spot slice."""
        self.slices[name]['state'] = 'SUSPENDED'
        self.vanish(*self.ips(name))

    def asked(self, verb):
        """The bodies of the requests of one kind, the query for those without."""
        found = [(path, body) for method, path, body in self.requests if method == verb]
        found = [(p, body) for p, body in found if 'queuedResources' in p]
        return [body or path.partition('?')[2] for path, body in found]


@pytest.fixture
def cloud(tmp_path):
    """A Cloud; skips where gcloud or the tools of a worker are absent."""
    for tool in ('gcloud', 'flock', 'setsid', 'ssh-keygen', 'git'):
        if shutil.which(tool) is None:
            pytest.skip(f'needs {tool}')
    found = Cloud(tmp_path)
    yield found
    found.vanish(*(path.name for path in found.folder.iterdir() if path.is_dir()))
    found.server.shutdown()


def end(process):
    """End a script that was started, and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
