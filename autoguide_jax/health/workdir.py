"""Whether the folder for results can be written, read, listed and cleaned, and is everybody's."""

import time
import uuid

from autoguide_jax import buckets, files, stop
from autoguide_jax.health.finding import FAULT, OK, fault, fine, warning

SECONDS = 60  # a bucket without rights or network is asked again and again by its library
SHARED_SECONDS = 3  # network disks tell of files of others late
LATE = 'none is needed to train; what others write there may be found late'


class Mark:
    """A small file of this process in the workdir, under a name of its own.

    `finding` tells how writing, reading, listing it went, or how long it took. What a listing
    says may be late, so it proves that a file is there but never that it is not.
    """

    def __init__(self, workdir, seconds=SECONDS):
        self.workdir, self.seconds = files.path(workdir), seconds
        self.name = f'.doctor-{uuid.uuid4().hex}'
        self.finding = self._guarded(self._try)

    def _guarded(self, act, *args):
        late = f'no answer within {self.seconds} s'
        try:
            return stop.limited(lambda: act(*args), self.seconds, late, 'testing the workdir')
        except stop.Stopped:
            raise
        # Libraries of buckets raise errors of their own kinds; each is a finding, not a crash.
        except Exception as error:  # noqa: BLE001
            clear = buckets.explained(error)
            said = str(clear).strip().splitlines() or [type(clear).__name__]
            fix = ' '.join(getattr(clear, '__notes__', ())) or 'correct --workdir'
            return fault('workdir', f'{self.workdir}: {said[0]}', fix)

    def _try(self):
        start, file = time.perf_counter(), self.workdir / self.name
        files.write_bytes(file, self.name.encode())
        if files.read_bytes(file) != self.name.encode():
            raise OSError('what is read is not what was written')
        if self.name not in self._listed():
            return warning('workdir', f'{self.workdir}: a new file is not listed at once', LATE)
        seconds = time.perf_counter() - start
        text = f'{self.workdir}: written, read and listed in {{}} ms'
        return fine('workdir', text, amount=round(1e3 * seconds, 1))

    def _listed(self):
        """Names of marks, as a listing has them: it may be late."""
        return {path.name for path in self.workdir.glob('.doctor-*')}

    def _readable(self, name):
        try:
            return files.read_bytes(self.workdir / name) == name.encode()
        except FileNotFoundError:
            return False

    def see(self, names):
        """Finding: whether the marks of all processes are seen from here. names: by process."""
        return self._guarded(self._see, names)

    def _see(self, names):
        end = time.monotonic() + SHARED_SECONDS
        # One listing first: of many hosts, each would read the marks of all.
        unseen = set(names) - self._listed()
        while (unseen := {n for n in unseen if not self._readable(n)}) and time.monotonic() < end:
            time.sleep(0.2)
        if not unseen:
            return fine('shared workdir', f'all {len(names)} processes see the same')
        return fault(
            'shared workdir',
            f'{self.workdir} is not the same folder on all {len(names)} hosts',
            'give one in a bucket (gs://…) or on a shared disk',
        )

    def remove(self):
        """Delete the mark; return the finding of the whole test."""
        if self.finding.state != FAULT:
            self.finding = self._guarded(self._remove)
        return self.finding

    def _remove(self):
        (self.workdir / self.name).unlink(missing_ok=True)
        if self._readable(self.name):
            raise OSError('a deleted file can still be read')
        if self.finding.state == OK and self.name in self._listed():
            text = f'{self.workdir}: a deleted file is still listed for a while'
            return warning('workdir', text, LATE)
        return self.finding
