"""Named files of a folder or of a zip, read whole or in part, by many threads and processes."""

import functools
import hashlib
import os
import struct
import threading
import zipfile
import zlib

import numpy as np

from autoguide_jax import files


def _hidden(name):
    return any(part.startswith(('.', '__MACOSX')) for part in name.split('/'))


class FolderStore:
    """The files below a folder, local or gs://, by their '/'-separated relative names."""

    def __init__(self, root):
        self.root = root
        self.local = not files.is_remote(root)

    @functools.cached_property
    def names(self):
        """All names, sorted, without hidden ones."""
        # epath walks buckets, os.walk a local tree with links to folders. Both begin at the root,
        # but under a name of their own ('bucket/…' for 'gs://bucket/…').
        walk = os.walk(self.root, followlinks=True) if self.local else self.root.walk()
        root, found = None, []
        for folder, _, members in walk:
            folder = os.fspath(folder).rstrip('/')
            root = folder if root is None else root
            prefix = folder[len(root) + 1 :].replace(os.sep, '/')
            found.extend(f'{prefix}/{member}' if prefix else member for member in members)
        return sorted(name for name in found if not _hidden(name))

    def read(self, name, limit=-1):
        """Return the first limit bytes of a file, or all."""
        with (self.root / name).open('rb') as file:
            return file.read(limit)

    def signature(self, names):
        """Return a hash of names and, where a look at each costs nothing much, sizes."""
        digest = hashlib.sha256()
        for name in names:
            size = os.path.getsize(self.root / name) if self.local else ''
            digest.update(f'{name}\0{size}\n'.encode())
        return digest.hexdigest()


class _Handle:
    """One thread's open file; closed with the thread. A forked child must not share its offset."""

    def __init__(self, path):
        self.pid, self.file = os.getpid(), path.open('rb')

    def __del__(self):
        if hasattr(self, 'file'):
            self.file.close()


class ZipStore:
    """The members of a zip, local or gs://. Each thread reads through a handle of its own.

    Only four numbers per member stay in memory: zipfile's own records would take 1 GB per handle
    for a set of a million images. Errors: ValueError for a file that is no zip.
    """

    def __init__(self, path):
        self.path = path
        self.local = not files.is_remote(path)
        self._thread = threading.local()
        try:
            with path.open('rb') as file, zipfile.ZipFile(file) as archive:
                members = [m for m in archive.infolist() if not (m.is_dir() or _hidden(m.filename))]
        except zipfile.BadZipFile as error:
            raise ValueError(f'path ({path}) is not a readable zip: {error}') from None
        for m in members:
            if m.flag_bits & 1 or m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f'path ({path}): {m.filename} is encrypted or not stored/deflated')
        members.sort(key=lambda m: m.filename)
        self.names = [m.filename for m in members]
        self._where = dict(zip(self.names, range(len(members))))
        numbers = [(m.header_offset, m.compress_size, m.compress_type, m.CRC) for m in members]
        self._numbers = np.array(numbers, np.int64).reshape(-1, 4)

    def _file(self):
        handle = getattr(self._thread, 'handle', None)
        if handle is None or handle.pid != os.getpid():
            handle = self._thread.handle = _Handle(self.path)
        return handle.file

    def read(self, name, limit=-1):
        """Return the first limit bytes of a member, or all. Errors: ValueError if it is damaged."""
        offset, size, method, crc = self._numbers[self._where[name]].tolist()
        file = self._file()
        file.seek(offset)
        header = file.read(30)
        if header[:4] != b'PK\3\4' or len(header) < 30:
            raise ValueError(f'{name} is damaged: {self.path} has changed since it was opened')
        # The local header repeats the name and may have an extra field of another length.
        file.seek(sum(struct.unpack('<HH', header[26:])), os.SEEK_CUR)
        data = file.read(size if limit < 0 or method else min(limit, size))
        try:
            if method:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, max(limit, 0))
        except zlib.error as error:
            raise ValueError(f'{name} is damaged: {error}') from None
        if limit < 0 and zlib.crc32(data) != crc:
            raise ValueError(f'{name} is damaged: its checksum differs')
        return data

    def signature(self, names):
        """Return a hash of names, sizes and checksums."""
        rows = [self._where[name] for name in names]
        digest = hashlib.sha256('\n'.join(names).encode())
        digest.update(self._numbers[rows][:, 3].tobytes())
        return digest.hexdigest()


def open_store(path):
    """Return the store of a folder or zip. Errors: ValueError if there is nothing at the path."""
    path = files.path(path)
    if not path.exists():
        raise ValueError(f'path ({path}) does not exist; give a folder or a zip of images')
    return FolderStore(path) if path.is_dir() else ZipStore(path)
