"""Files on a local disk: replaced atomically, and errors that say what to do."""

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Iterator
from typing import BinaryIO

AGAIN = 'Nothing complete is lost; then run the same command again.'
# What no waiting mends, and its fix. EDQUOT is a full disk to its user.
FIXES = {
    errno.ENOSPC: 'The disk is full: free some space.',
    errno.EDQUOT: 'The disk quota is used up: free some space.',
    errno.EFBIG: 'The file is larger than this process may write: raise `ulimit -f`.',
    errno.EACCES: 'Give this user the right to write there, or give another folder.',
    errno.EPERM: 'Give this user the right to write there, or give another folder.',
    errno.EROFS: 'The file system is read-only: mount it for writing, or give another folder.',
    errno.ENOTDIR: 'A file is in the way: give another folder.',
    errno.EEXIST: 'A file is in the way: give another folder.',
    errno.EIO: 'The disk fails: look at its log with dmesg.',
    errno.ESTALE: 'The file server lost this folder: mount it again.',
}


def advise(error: Exception) -> Exception:
    """Return an error of a disk with a note that says what to do about it, if that is known."""
    number = getattr(error, 'errno', None)
    if found := re.search(r"os_error_code='(\d+)'", str(error)):
        # As tensorstore tells it, which writes the arrays of checkpoints.
        number = int(found[1])
    if fix := FIXES.get(number):
        note = f'{fix} {AGAIN}'
        if note not in getattr(error, '__notes__', ()):
            error.add_note(note)
    return error


@contextlib.contextmanager
def advising(p) -> Iterator[None]:
    """Let errors of a full, read-only or failing disk name the path and say what to do."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno:
            # Writing to an open file and syncing it do not tell which.
            error.filename = os.fspath(p)
        advise(error)
        raise


def _sync_folder(folder) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(os.fspath(folder), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(target, new: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file that replaces target on a clean exit; folders are made as needed.

    The temporary file lies in the same folder, so that the final rename is atomic. new:
    FileExistsError if there is one.
    """
    if new and target.exists():
        raise FileExistsError(f'{target} exists already')
    temporary = target.parent / f'.{target.name}.{uuid.uuid4().hex[:12]}.tmp'
    with advising(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open('wb') as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def still_there(runs) -> None:
    """Raise FileNotFoundError if a run directory has gone: it must not be begun anew elsewhere."""
    for folder in runs:
        if not (folder / 'config.json').exists():
            raise FileNotFoundError(
                f'{folder} has gone while the program ran: it has no config.json any more. Bring '
                'it back (is it mounted?), then run the same command again; it goes on from what '
                'was complete.'
            )


@contextlib.contextmanager
def telling_if_gone(runs) -> Iterator[None]:
    """Tell that a run directory has gone instead of whatever error came of it."""
    try:
        yield
    except Exception:
        still_there(runs)
        raise
