"""Who does what: workers on any hosts and slices share pieces of work through one folder.

A claim is a file that only one worker can create, NAME.0.json. Its worker renews it every few
seconds; when another one has not seen it change for a while, by its own clock, the worker is taken
for dead and the piece is claimed anew as NAME.1.json, and so on. Clocks are never compared.
"""

import contextlib
import itertools
import json
import os
import socket
import sys
import threading
import time
import uuid

from autoguide_jax import buckets, files, stop

BEAT_SECONDS = 10.0
PATIENCE_SECONDS = 60.0


class Claims:
    """The claims in a folder, as one worker sees them; a context manager that stops renewing.

    beat: seconds between renewals; patience: seconds without one after which a claim is void.
    """

    def __init__(self, folder, beat=BEAT_SECONDS, patience=PATIENCE_SECONDS):
        self.folder, self.beat, self.patience = files.path(folder), beat, patience
        self.worker = f'{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}'
        self.held, self.seen = {}, {}
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._renew, name='claims', daemon=True)

    def take(self, name):
        """Whether this worker is now the one to do a piece of work."""
        attempts = (self.folder / f'{name}.{attempt}.json' for attempt in itertools.count())
        file = next(attempts)
        while found := self._read(file):
            if not self._dead(file, found):
                return False
            file = next(attempts)
        mine = create(file, self._entry())
        if mine:
            with self._lock:
                self.held[name] = file
        return mine

    def release(self, name):
        """Give a piece of work back: what came of it is where the others look, or it is undone."""
        with self._lock:
            file = self.held.pop(name)
        file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def taking(self, name):
        """Yield whether this worker is the one; its claim ends with the body."""
        mine = self.take(name)
        try:
            yield mine
        finally:
            if mine:
                self.release(name)

    def once(self, name, make):
        """make(), by one worker first and only then by the others, who find what it left."""
        while not (mine := self.take(name)) and not self._done(name):
            pause(f'waiting for {name} of another worker')
        value = make()
        if mine:
            with self._lock:
                file = self.held.pop(name)
            files.write_bytes(file, self._entry(done=True))
        return value

    def _done(self, name):
        found = (self._read(self.folder / f'{name}.{k}.json') for k in itertools.count())
        return any(entry['done'] for entry in itertools.takewhile(bool, found))

    def _entry(self, done=False):
        entry = {'worker': self.worker, 'done': done, 'beat': uuid.uuid4().hex[:8]}
        return json.dumps(entry).encode()

    def _read(self, file):
        with contextlib.suppress(FileNotFoundError):
            return files.read_json(file)

    def _dead(self, file, found):
        beat, since = self.seen.get(file, (None, 0))
        if beat != found['beat']:
            self.seen[file] = found['beat'], time.monotonic()
            return False
        return not found['done'] and time.monotonic() - since > self.patience

    def _renew(self):
        while not self._ended.wait(self.beat):
            with self._lock:
                for file in self.held.values():
                    self._renew_one(file)

    def _renew_one(self, file):
        try:
            files.write_bytes(file, self._entry())
        except Exception as error:  # noqa: BLE001 - the next renewal may succeed
            print(f'{file} could not be renewed: {error}', file=sys.stderr, flush=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


def pause(doing, seconds=1.0):
    """Sleep, but stop cleanly at a signal."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stop.check(doing)
        time.sleep(0.1)


def decisions(folder):
    """(name, decide) → what decide() said when it was first asked here, by any worker, ever."""

    def settle(name, decide):
        file = files.path(folder) / f'{name}.json'
        if not file.exists():
            create(file, json.dumps(decide()).encode())
        return files.read_json(file)

    return settle


def create(p, data):
    """Write bytes unless the file exists; tell whether they were written.

    Of any number of writers, on any hosts, exactly one gets True.
    """
    target = files.path(p)
    if files.is_remote(target):
        try:
            buckets.write(target, data, new=True)
            return True
        except FileExistsError:
            # It may be this one, from a try whose answer was lost.
            return files.read_bytes(target) == data
    temporary = target.parent / f'.{target.name}.{uuid.uuid4().hex[:12]}.tmp'
    try:
        files.write_bytes(temporary, data)
        os.link(temporary, target)
        return True
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
