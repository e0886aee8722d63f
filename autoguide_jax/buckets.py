"""Objects in a bucket (gs://…): whole reads and writes, patience, errors that say what to do.

One upload writes one object, which appears whole or not at all: no temporary object, no rename. Its
md5, as the bucket computed it, must be that of what was sent. Listings may lag behind what was
written: none is cached, and nobody may conclude from one that an object does not exist.

gcsfs repeats a request five times within half a minute after 408, 429, 500–504, dropped connections
and answers cut short; tensorstore, which writes the arrays of checkpoints, 32 times. `patiently`
repeats what they give up or do not repeat: longer outages, an upload that arrived damaged, an
upload in parts whose session was lost. Errors that waiting does not mend are raised at once.
"""

import base64
import contextlib
import functools
import logging
import mmap
import os
import re
import tempfile
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from autoguide_jax import disks, stop

# Seconds to wait before `patiently` tries again; half a minute of gcsfs's own tries lies between.
PAUSES = (2, 8, 32)
CONNECT_SECONDS, SILENCE_SECONDS = 30, 60
LIBRARIES = ('gcsfs', 'google', 'aiohttp', 'requests', 'asyncio')


@functools.cache
def prepare() -> None:
    """Set the libraries up for buckets; once, before any of them opens one."""
    # The JSON interface is what every bucket has and what is tested here.
    os.environ.setdefault('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')
    # tensorstore would wait for ever for an answer that was lost.
    os.environ.setdefault('TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS', str(CONNECT_SECONDS))
    os.environ.setdefault('TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS', str(SILENCE_SECONDS))
    os.environ.setdefault('TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES', '1')
    import aiohttp
    from fsspec.config import conf

    # By default one limit covers a whole transfer, and gcsfs does not try again after it.
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
    )
    ours = {'use_listings_cache': False, 'consistency': 'md5', 'requests_timeout': timeout}
    conf['gcs'] = {**ours, **conf.get('gcs', {})}
    # It logs a traceback for every error that it raises as well.
    logging.getLogger('gcsfs').setLevel(logging.CRITICAL)


@functools.cache
def _shared(protocol, pid):
    # fsspec itself would make one for every thread, with connections and credentials of its own.
    import fsspec

    return fsspec.filesystem(protocol)


def _filesystem(p):
    """Return (file system, name in it) of a path."""
    text = os.fspath(p)
    return _shared(text.partition('://')[0], os.getpid()), text.partition('://')[2].rstrip('/')


def read(p: Any) -> bytes:
    """Return an object's bytes. Errors: FileNotFoundError."""
    fs, name = _filesystem(p)
    return patiently('read', p, lambda: fs.cat_file(name))


def write(p: Any, data, new: bool = False) -> None:
    """Write an object from bytes or a mmap.

    new: FileExistsError if there is one, decided by the bucket; it may be the one of an earlier
    try whose answer was lost.
    """
    from gcsfs.retry import ChecksumError

    fs, name = _filesystem(p)
    more = {'mode': 'create'} if new else {}

    def upload():
        try:
            fs.pipe_file(name, data, **more)
        except ChecksumError:
            # What arrived damaged was written by this call, so it is not another's.
            more.clear()
            raise

    patiently('write', p, upload)


def download(p: Any, local: Any) -> None:
    """Copy an object to a local file. Errors: FileNotFoundError."""
    fs, name = _filesystem(p)
    patiently('read', p, lambda: fs.get_file(name, os.fspath(local), consistency='none'))


@contextlib.contextmanager
def on_disk(p: Any) -> Iterator[str]:
    """Yield the path of a local file: p itself, or a copy of the object p for as long as needed."""
    if '://' not in os.fspath(p):
        yield os.fspath(p)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, os.fspath(p).rpartition('/')[2])
        with disks.advising(folder):
            download(p, local)
        yield local


@contextlib.contextmanager
def uploading(p: Any, new: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes the object p on a clean exit; otherwise p stays as it is.

    It is written to the local disk first, so that the upload can be tried again as a whole.
    """
    with tempfile.TemporaryFile() as file:
        with disks.advising(tempfile.gettempdir()):
            yield file
            file.flush()
        size = file.seek(0, os.SEEK_END)
        # Not closed here: parts of an upload that failed may still refer to it.
        write(p, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b'', new)


def checksums(folder: Any) -> dict[str, tuple[int, str | None]]:
    """Return relative name → (size, md5 in hex, or None if the bucket has none) below a folder.

    From listings, which may lag: what is here is true, what is not here may exist.
    """
    fs, top = _filesystem(folder)
    found = patiently('list', folder, lambda: fs.find(top, detail=True))
    top = top.rstrip('/') + '/'
    return {name.removeprefix(top): _checksum(info) for name, info in found.items()}


def checksum(p: Any) -> tuple[int, str | None]:
    """Return (size, md5) of one object, as it is now. Errors: FileNotFoundError."""
    fs, name = _filesystem(p)
    bucket, _, key = name.partition('/')
    # Not fs.info(), which also lists what may lie below an object of this name.
    look = lambda: fs.call('GET', 'b/{}/o/{}', bucket, key, json_out=True)
    return _checksum(patiently('look at', p, look))


def _checksum(info):
    md5 = info.get('md5Hash')
    return int(info['size']), base64.b64decode(md5).hex() if md5 else None


def patiently(doing: str, p: Any, fn):
    """Return fn(), trying again while errors pass; then raise what `explain` makes of the last."""
    pauses = iter(PAUSES)
    while True:
        try:
            return fn()
        except FileExistsError:
            raise
        except Exception as error:
            if isinstance(error, FileNotFoundError) and doing != 'write':
                raise
            pause = next(pauses, None)
            if pause is None or not _passes(error):
                raise (explain(error, doing, p) or error) from error
            time.sleep(pause)


def _passes(error):
    """Tell whether waiting may mend an error."""
    import aiohttp
    from gcsfs import retry

    known = (TimeoutError, ConnectionError, aiohttp.ClientError)
    return isinstance(error, known) or retry.is_retriable(error) or _code(error) == 410


def _code(error):
    code = getattr(error, 'code', None)
    return int(code) if str(code).isdigit() else None


def explain(error: Exception, doing: str = 'use', p: Any = '') -> OSError | None:
    """Return an OSError for an error of a bucket, with a note that says what to do about it.

    None if it is an error of something else.
    """
    text = str(error)
    if not p and (found := re.search(r'/b/([^/?]+)(?:/o/([^/?\s]+))?', text)):
        p = f'gs://{found[1]}/{found[2] or ""}'.replace('%2F', '/')
    where, bucket = os.fspath(p) or 'the bucket', '/'.join(os.fspath(p).split('/')[:3])
    if not isinstance(error, OSError) and type(error).__module__.split('.')[0] not in LIBRARIES:
        return None
    if text.startswith('Forbidden') or _code(error) == 403:
        fix = f"Give this machine's account the role Storage Object User on {bucket}."
        return _noted(PermissionError(f'{where}: no permission to {doing} it (403).'), fix)
    if _code(error) == 401 or type(error).__module__.startswith('google.auth'):
        fix = 'Run `gcloud auth application-default login`, or give the machine a service account.'
        return _noted(PermissionError(f'{where}: no valid credentials ({text[:200]}).'), fix)
    if isinstance(error, FileNotFoundError) and doing == 'write':
        fix = f'Create it with `gcloud storage buckets create {bucket}`, or give another path.'
        return _noted(FileNotFoundError(f'{where}: there is no bucket {bucket} (404).'), fix)
    if isinstance(error, OSError) and not _passes(error):
        return None
    kind = type(error).__name__
    said = f'{where}: could not {doing} it, nor on later tries ({kind}: {text[:200]}).'
    return _noted(stop.Passing(said), disks.AGAIN)


def _noted(error, fix):
    error.add_note(fix)
    return error


def explained(error: Exception) -> Exception:
    """Return an error with what to do about it, if it comes from a bucket or a disk."""
    return explain(error) or disks.advise(error)
