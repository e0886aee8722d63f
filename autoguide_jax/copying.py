"""Copies that are proven: to a disk by reading them back, to a bucket by the bucket's own md5.

A bucket tells size and md5 of every object in its listings and in its answer to an upload, so that
a proof costs no traffic. A listing may lag: what it has is there, what it lacks may be there.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass

from autoguide_jax import buckets, files
from autoguide_jax.data.archive import FolderStore

# Larger files are not held in memory.
LARGE = 32 << 20


@dataclass(frozen=True)
class Content:
    """What identifies the content of a file: size in bytes, sha256 and md5 in hex."""

    size: int
    sha256: str
    md5: str


def content_of(blocks) -> Content:
    """Return the Content of bytes that come in blocks."""
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for block in blocks:
        size += len(block)
        sha256.update(block)
        md5.update(block)
    return Content(size, sha256.hexdigest(), md5.hexdigest())


def blocks_of(p):
    """Yield the bytes of a file in blocks."""
    with p.open('rb') as file:
        while block := file.read(files.BLOCK):
            yield block


class Source:
    """A file to be copied, which is fetched once; a context manager."""

    def __init__(self, p, size: int):
        self._stack = contextlib.ExitStack()
        self._small = files.read_bytes(p) if size < LARGE else None
        self._path = p
        if self._small is None and files.is_remote(p):
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix='export-'))
            self._path = files.path(folder) / 'large'
            buckets.download(p, self._path)
        self.content = content_of(self._blocks())

    def _blocks(self):
        return blocks_of(self._path) if self._small is None else iter((self._small,))

    def write(self, target, new: bool) -> None:
        """Write it to another path. new: FileExistsError if there is one."""
        if self._small is not None and files.is_remote(target):
            buckets.write(target, self._small, new)
            return
        with files.writing(target, new) as file:
            for block in self._blocks():
                file.write(block)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()


class Disk:
    """A folder on a disk that files are copied to."""

    threads = 16

    def __init__(self, folder):
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of all files in it."""
        return FolderStore(self.folder).names

    def holds(self, name: str, content: Content) -> bool:
        """Tell whether a file is there with this content, by reading it."""
        target = self.folder / name
        try:
            same_size = os.path.getsize(target) == content.size
            return same_size and content_of(blocks_of(target)) == content
        except FileNotFoundError:
            return False

    def put(self, name: str, source: Source, known: bool, replace: bool) -> bool:
        """Copy a file unless it is there; return whether that was needed.

        known: it has been there before. replace: also in place of another file of that name.
        Errors: FileExistsError for such a file; OSError if what is read back is not what was
        written.
        """
        if self.holds(name, source.content):
            return False
        source.write(self.folder / name, new=not (known or replace))
        if not self.holds(name, source.content):
            raise OSError(f'{self.folder / name}: what was read back is not what was written')
        return True


class Bucket:
    """A folder in a bucket that files are copied to."""

    # What counts is the time that a request takes, not the processor.
    threads = 64

    def __init__(self, folder):
        self.folder = folder
        self._listed = buckets.checksums(folder)

    def names(self) -> list[str]:
        """Return the names of all objects in it that are listed."""
        return sorted(self._listed)

    def holds(self, name: str, content: Content) -> bool:
        """Tell whether an object is there with this content, by its size and md5."""
        found = self._listed.get(name)
        if found is None:
            with contextlib.suppress(FileNotFoundError):
                found = buckets.checksum(self.folder / name)
        if found is None or found[0] != content.size:
            return False
        # Objects that were composed of others have no md5.
        md5 = found[1] or content_of(blocks_of(self.folder / name)).md5
        return md5 == content.md5

    def put(self, name: str, source: Source, known: bool, replace: bool) -> bool:
        """Upload a file unless it is there, as Disk.put; the bucket's answer proves it.

        An object that is neither listed nor known of before is not looked for: the bucket refuses
        to replace one, also the one of an earlier try whose answer was lost.
        """
        target, listed = self.folder / name, name in self._listed
        if (known or listed) and self.holds(name, source.content):
            return False
        try:
            source.write(target, new=not known and not (listed and replace))
            return True
        except FileExistsError:
            self._listed.pop(name, None)
            if self.holds(name, source.content):
                return False
            if not replace:
                raise
        source.write(target, new=False)
        return True


def open_target(folder) -> Disk | Bucket:
    """Return the place to copy to at a path, local or in a bucket."""
    return Bucket(folder) if files.is_remote(folder) else Disk(folder)


def sizes(folder, plan: dict) -> dict[str, int]:
    """Return name → bytes of the files of a plan, name → path, most of which lie in a folder."""
    if not any(files.is_remote(p) for p in plan.values()):
        return {name: os.path.getsize(p) for name, p in plan.items()}
    listed = buckets.checksums(folder)

    def size(name):
        if not files.is_remote(plan[name]):
            return os.path.getsize(plan[name])
        return listed[name][0] if name in listed else buckets.checksum(plan[name])[0]

    with concurrent.futures.ThreadPoolExecutor(Bucket.threads, 'sizes') as pool:
        return dict(zip(plan, pool.map(size, plan)))
