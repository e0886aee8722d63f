"""A bucket that fails: a proxy on loopback before fake-gcs-server, which injects faults by rule.

What a request meets depends on the seed, the rule, the kind of request, the object and how often it
was asked for before: not on the order in which threads ask. `log` tells every fault, `asked` counts
the requests that came. Two things are as the real service has them and the emulator has not: a part
of a resumable upload that is sent again, since its answer was lost, is answered again and not
stored twice; and a listing may lag behind what was written (rule 'hide'). `stored` counts how often
each object was written.
"""

import collections
import contextlib
import dataclasses
import http.client
import http.server
import json
import random
import re
import socket
import threading
import time
import urllib.parse

import pytest
from bucket import environment, free_port, serve

STATUS = {'500': 500, '503': 503, '403': 403, '404': 404}
WRITES = ('write', 'part')


@dataclasses.dataclass
class Fault:
    """One rule.

    kind: '500', '503', '403', '404': this answer; the request does not reach the bucket
          'drop': the connection closes without an answer; the request does not reach the bucket
          'lost': the request is carried out, then the connection closes without an answer
          'cut': the answer stops after half of its body
          'slow': the request waits `seconds` first
          'hang': no answer for `seconds`, then the connection closes
          'stall': the proxy takes half of an upload and waits `seconds` for the rest
          'corrupt': one byte of an upload changes on its way
          'hide': objects younger than `seconds` are missing from listings
    rate: share of the requests that are hit. ops: which kinds of request (see `describe`), all if
    empty. match: regular expression for the object's name. limit: hits in all. row: hits in
    succession on the same request, so that a client that tries again a few times comes through.
    """

    kind: str
    rate: float = 1.0
    ops: tuple = ()
    match: str = ''
    limit: float = float('inf')
    row: float = 2
    seconds: float = 0.0


def describe(method, target, body=b''):
    """Return (what a request does, object name) for every request of the JSON API that we send.

    What: read, stat, list, write (an object in one request), begin and part (of a resumable
    upload), delete, copy, bucket, other.
    """
    url = urllib.parse.urlsplit(target)
    query = dict(urllib.parse.parse_qsl(url.query))
    found = re.search(r'/b/([^/]+)(/o(?:/([^/]+))?(/.*)?)?$', url.path)
    if not found:
        return 'other', url.path
    name = urllib.parse.unquote(found[3] or query.get('name', ''))
    if url.path.startswith('/upload/'):
        if 'upload_id' in query:
            return 'part', name
        if query.get('uploadType') == 'resumable':
            return 'begin', name
        inner = re.search(rb'"name": ?("(?:[^"\\]|\\.)*")', body[:4000])
        return 'write', name or (json.loads(inner[1]) if inner else '')
    if found[2] is None:
        return 'bucket', found[1]
    if not found[3]:
        return 'list', query.get('prefix', '')
    if found[4]:
        return 'copy', urllib.parse.unquote(found[4].rsplit('/', 1)[-1])
    if method == 'DELETE':
        return 'delete', name
    return ('read' if query.get('alt') == 'media' else 'stat'), name


class FaultyBucket:
    """The proxy: rules to be set at any time, and the log of what they did."""

    def __init__(self, server_port, port, seed=0):
        self.server_port, self.url, self.seed = server_port, f'http://127.0.0.1:{port}', seed
        self.lock = threading.Lock()
        self.written, self.answers = {}, {}
        self.log, self.total = [], collections.Counter()
        self.set()
        handler = type('Handler', (_Handler,), {'proxy': self})
        self.server = _Server(('127.0.0.1', port), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def set(self, *faults):
        """Replace the rules; forget log and counts."""
        with self.lock:
            self.total.update(kind for kind, _, _ in self.log)
            self.faults, self.log, self.asked = list(faults), [], collections.Counter()
            self.stored = collections.Counter()
            self._tries, self._row = collections.Counter(), collections.Counter()

    def counts(self):
        """Return {kind of fault: how often it was injected}."""
        return dict(collections.Counter(kind for kind, _, _ in self.log))

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def choose(self, op, name):
        """Return the fault that hits this request, None if it is spared."""
        with self.lock:
            self.asked[op] += 1
            for i, fault in enumerate(self.faults):
                if fault.kind in ('hide', 'stall') or (fault.ops and op not in fault.ops):
                    continue
                if not re.search(fault.match, name) or fault.limit <= 0:
                    continue
                key = i, op, name
                self._tries[key] += 1
                dice = random.Random(f'{self.seed} {fault.kind} {key} {self._tries[key]}').random()
                if dice >= fault.rate or self._row[key] >= fault.row:
                    self._row[key] = 0
                    continue
                self._row[key] += 1
                fault.limit -= 1
                self.log.append((fault.kind, op, name))
                return fault
        return None

    def stall(self, target):
        """Return for how many seconds an upload to this address stops half-way."""
        rules = [f for f in self.faults if f.kind == 'stall' and f.limit > 0]
        if not rules or not target.startswith('/upload/') or describe('', target)[0] not in WRITES:
            return 0
        rules[0].limit -= 1
        self.log.append(('stall', *describe('', target)))
        return rules[0].seconds

    def note_written(self, op, name, status, content):
        """Remember when objects appear and go."""
        done = op in ('write', 'copy') or (op == 'part' and content.lstrip()[:1] == b'{')
        with self.lock:
            if done and status == 200:
                self.written.setdefault(name, time.monotonic())
                self.stored[name] += 1
            elif op == 'delete' and status < 300:
                self.written.pop(name, None)

    def hide(self, content):
        """Return a listing without the objects that a 'hide' rule covers."""
        rules = [f for f in self.faults if f.kind == 'hide']
        if not rules:
            return content
        now, page = time.monotonic(), json.loads(content)
        with self.lock:
            known = dict(self.written)
        hidden = {
            name
            for name, when in known.items()
            if any(now - when < f.seconds and re.search(f.match, name) for f in rules)
        }
        for kind in ('items', 'prefixes'):
            kept = []
            for entry in page.get(kind) or []:
                name = entry['name'] if kind == 'items' else entry
                below = {n for n in known if n.startswith(name)} if kind == 'prefixes' else {name}
                if below and below <= hidden:
                    self.log.append(('hide', 'list', name))
                else:
                    kept.append(entry)
            page[kind] = kept
        return json.dumps(page).encode()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # Clients that are killed drop their connections; that is what they are for.


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    # Without this every small answer waits for the client's delayed acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1
    upstream = None

    def log_message(self, *_):
        pass

    def handle_any(self):
        body = self._body(stall=self.proxy.stall(self.path))
        op, name = describe(self.command, self.path, body)
        fault = self.proxy.choose(op, name)
        kind = fault.kind if fault else None
        if kind in STATUS:
            text = json.dumps({'error': {'code': STATUS[kind], 'message': 'injected fault'}})
            return self._answer(STATUS[kind], [('Content-Type', 'application/json')], text.encode())
        if kind in ('slow', 'hang'):
            time.sleep(fault.seconds)
        if kind in ('drop', 'hang'):
            return self._hang_up()
        if kind == 'corrupt' and len(body) > 200:
            body = bytearray(body)
            # Beyond the JSON head of a multipart upload, before its closing line.
            body[-40 if op == 'write' else len(body) // 2] ^= 1
        status, headers, content = self._forward(op, bytes(body))
        self.proxy.note_written(op, name, status, content)
        if kind == 'lost':
            return self._hang_up()
        if op == 'list' and status == 200:
            content = self.proxy.hide(content)
        return self._answer(status, headers, content, cut=kind == 'cut')

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = handle_any

    def _body(self, stall):
        if self.headers.get('Transfer-Encoding', '').lower() == 'chunked':
            parts = []
            while size := int(self.rfile.readline().split(b';')[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b''.join(parts)
        size = int(self.headers.get('Content-Length') or 0)
        body = self.rfile.read(size // 2)
        time.sleep(stall)
        body += self.rfile.read(size - size // 2)
        if len(body) < size:
            # The client died in the middle: to the bucket this request never was.
            raise ConnectionResetError
        return body

    def _forward(self, op, body):
        again = (self.path, self.headers.get('Content-Range'))
        if op == 'part' and again in self.proxy.answers:
            return self.proxy.answers[again]
        passed = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
        if body or self.command in ('POST', 'PUT'):
            passed['Content-Length'] = str(len(body))
        if self.upstream is None:
            self.upstream = http.client.HTTPConnection('127.0.0.1', self.proxy.server_port)
            self.upstream.connect()
            self.upstream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.upstream.request(self.command, self.path, body or None, passed)
        response = self.upstream.getresponse()
        content = response.read()
        headers = [(k, v) for k, v in response.getheaders() if k.lower() not in HOP]
        result = response.status, headers, content
        if op == 'part':
            self.proxy.answers[again] = result
        return result

    def _answer(self, status, headers, content, cut=False):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.wfile.flush()
        if cut:
            self._hang_up()

    def _hang_up(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


HOP = ('connection', 'keep-alive', 'transfer-encoding', 'content-length', 'expect')


@contextlib.contextmanager
def faulty_server(seed=0, folder=None):
    """Yield a FaultyBucket before a server of its own; the environment is left as it is."""
    inner, outer = free_port(), free_port()
    with serve(inner, public_port=outer, folder=folder):
        proxy = FaultyBucket(inner, outer, seed)
        try:
            yield proxy
        finally:
            proxy.close()


@pytest.fixture(scope='session')
def _faulty_session():
    with faulty_server() as proxy:
        yield proxy
        # Shown by pytest -s.
        print(f'\nfault-injection log: {dict(sorted(proxy.total.items()))}')


@pytest.fixture
def faults(_faulty_session, monkeypatch):
    """Yield the proxy; gs://bucket goes through it during this test, without a fault at first."""
    for name, value in environment(_faulty_session.url).items():
        monkeypatch.setenv(name, value)
    _faulty_session.set()
    yield _faulty_session
    _faulty_session.set()
