"""Whether the folder for results can be written, read, listed and cleaned, and is everybody's."""

import time
import uuid

from autoguide_jax import files, stop
from autoguide_jax.health.finding import FAULT, OK, fault, fine, warning

SECONDS = 60  # a bucket without rights or network is asked again and again by its library
SHARED_SECONDS = 3  # network disks tell of files of others late
LATE = 'none is needed to train; what others write there may be found late'
# What errors of file systems and buckets say, and what helps.
FIXES = (
    ('no space left', 'the disk is full: free space or give another --workdir'),
    ('quota', 'the quota is used up: free space or give another --workdir'),
    ('too large', 'the limit of file sizes (ulimit -f) is too low: ulimit -f unlimited'),
    ('read-only file system', 'give a --workdir that can be written'),
    ('not a directory', 'a file is in the way: give another --workdir'),
    ('file exists', 'a file is in the way: give another --workdir'),
    ('anonymous caller', 'gcloud auth application-default login; on a TPU VM give it a service '
     'account'),
    ('credentials', 'gcloud auth application-default login; on a TPU VM give it a service account'),
    ('gcsfs', 'pip install gcsfs'),
)  # fmt: skip


def fix_of(error, workdir):
    """What to do about an error of the workdir."""
    text = f'{type(error).__name__} {error}'.lower()
    for words, fix in FIXES:
        if words in text:
            return fix
    remote = files.is_remote(workdir)
    bucket = f'gs://{str(workdir).partition("gs:/")[2].strip("/").partition("/")[0]}'
    if isinstance(error, PermissionError) or 'forbidden' in text or '403' in text:
        return (
            f'gcloud storage buckets add-iam-policy-binding {bucket} '
            '--role=roles/storage.objectAdmin --member=serviceAccount:THAT_OF_THIS_MACHINE'
            if remote
            else 'give a --workdir that this user can write, or chown it'
        )
    if remote and (isinstance(error, FileNotFoundError) or '404' in text or 'not found' in text):
        return f'gcloud storage buckets create {bucket}, or correct the name in --workdir'
    return 'correct --workdir'


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
            said = str(error).strip().splitlines() or [type(error).__name__]
            return fault('workdir', f'{self.workdir}: {said[0]}', fix_of(error, self.workdir))

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
