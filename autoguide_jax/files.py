"""Files on a local disk or in a bucket (gs://…), through etils.epath.

Every write is atomic: a reader sees the old content or the new, never half of it. A killed writer
leaves at most a hidden '.name.….tmp' file on a disk, and nothing in a bucket. JSON is always valid
JSON: non-finite floats are stored as the strings 'nan', 'inf', '-inf', so float(value) reads them
back. Errors of a full or unwritable disk, and of a bucket, say what to do.
"""

import contextlib
import hashlib
import json
import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from etils import epath

from autoguide_jax import buckets, disks

BLOCK = 1 << 20
# What a damaged npz raises. RuntimeError: an unknown method; MemoryError: a size that is a lie.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, MemoryError)


def path(p: Any) -> epath.Path:
    """Return the epath of a string or path, '~' expanded; local and bucket paths alike."""
    found = epath.Path(p).expanduser()
    if '://' in os.fspath(found):
        buckets.prepare()
    return found


def is_remote(p: Any) -> bool:
    """True for a path in a bucket (gs://…), where there is no append, no fsync and no folder."""
    return '://' in os.fspath(path(p)) or os.fspath(path(p)).startswith('/gs/')


def make_folder(p: Any) -> None:
    """Make a folder with those above it; buckets have none and need none."""
    if not is_remote(p):
        with disks.advising(p):
            path(p).mkdir(parents=True, exist_ok=True)


def names(folder: Any, suffix: str = '') -> list[str]:
    """Return the sorted names in a folder that end with suffix; [] if the folder does not exist.

    Hidden names (unfinished writes among them) are left out. In a bucket, what was written a moment
    ago may be missing.
    """
    folder = path(folder)
    listing = lambda: [child.name for child in folder.iterdir()]
    try:
        found = buckets.patiently('list', folder, listing) if is_remote(folder) else listing()
    except FileNotFoundError:
        return []
    return sorted(n for n in found if n.endswith(suffix) and not n.startswith('.'))


@contextlib.contextmanager
def writing(p: Any, new: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file that takes the place of p on a clean exit and leaves p alone otherwise.

    Folders are made as needed. new: FileExistsError if p is there already, in a bucket also if it
    came there meanwhile.
    """
    target = path(p)
    with buckets.uploading(target, new) if is_remote(target) else disks.replacing(target, new) as f:
        yield f


def read_bytes(p: Any) -> bytes:
    """Return a file's bytes. Errors: FileNotFoundError."""
    target = path(p)
    return buckets.read(target) if is_remote(target) else target.read_bytes()


def write_bytes(p: Any, data: bytes) -> None:
    """Write bytes atomically."""
    if is_remote(p):
        buckets.write(path(p), data)
        return
    with writing(p) as file:
        file.write(data)


def write_text(p: Any, text: str) -> None:
    """Write text atomically, as UTF-8."""
    write_bytes(p, text.encode())


def plain(obj: Any) -> Any:
    """Return obj as JSON has it: dicts with string keys, lists, str, int, finite float, bool, None.

    Errors: TypeError for anything else (numpy and jax numbers and arrays are converted).
    """
    if obj is None or isinstance(obj, (str, bool)):
        return obj
    if isinstance(obj, (int, float)) and type(obj) in (int, float):
        return obj if math.isfinite(obj) else str(obj)
    if isinstance(obj, Mapping):
        return {str(k): plain(v) for k, v in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [plain(v) for v in obj]
    if hasattr(obj, 'tolist'):
        return plain(obj.tolist())
    if isinstance(obj, os.PathLike):
        return os.fspath(obj)
    raise TypeError(f'cannot store a {type(obj).__name__} as JSON: {obj!r}')


def write_json(p: Any, obj: Any) -> None:
    """Write an object as indented JSON, atomically, with keys in the order given."""
    write_text(p, json.dumps(plain(obj), indent=2, allow_nan=False) + '\n')


def read_json(p: Any) -> Any:
    """Read a JSON file. Errors: FileNotFoundError; ValueError naming the file if not JSON."""
    try:
        return json.loads(read_bytes(p))
    except ValueError as error:
        raise ValueError(f'{p} is not valid JSON: {error}') from error


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Split a jsonl file into its whole lines and the unterminated rest (empty if none)."""
    end = data.rfind(b'\n') + 1
    return data[:end], data[end:]


def _row(line: bytes) -> dict | None:
    """Return the row that a line holds, None if it is not a complete row."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def append_jsonl(p: Any, row: Mapping) -> None:
    """Append one row to a jsonl file; for a single writer. A torn last line is repaired first.

    Local: one write and fsync. Bucket: read and rewrite, atomic, cost proportional to the file.
    """
    target = path(p)
    line = json.dumps(plain(row), allow_nan=False).encode() + b'\n'
    if is_remote(target):
        whole, rest = _split(_bytes_or_none(target) or b'')
        write_bytes(target, whole + (rest + b'\n' if _row(rest) is not None else b'') + line)
        return
    with disks.advising(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(os.fspath(target), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        with os.fdopen(descriptor, 'r+b', buffering=0) as file:
            line = _repair(file) + line
            size = file.seek(0, os.SEEK_END)
            try:
                while written := file.write(line):
                    line = line[written:]
                os.fsync(file.fileno())
            except OSError:
                # Half a line on a full disk would only keep it full.
                file.truncate(size)
                raise


def _bytes_or_none(p):
    """A file's bytes, None if there is no file; a failing bucket is an error, not an absence."""
    try:
        return read_bytes(p)
    except FileNotFoundError:
        return None


def _repair(file) -> bytes:
    """Cut a torn last line off an open jsonl file; return the newline a whole one still lacks."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return b''
    file.seek(size - 1)
    if file.read(1) == b'\n':
        return b''
    file.seek(0)
    whole, rest = _split(file.read())
    if _row(rest) is not None:
        return b'\n'
    file.truncate(len(whole))
    return b''


def read_jsonl(p: Any) -> list[dict]:
    """Read the rows of a jsonl file; [] if it does not exist.

    A last line without its newline that is no row is what a killed writer leaves: it is left out.
    Errors: ValueError naming file and line for any other line that is not a JSON object.
    """
    if (content := _bytes_or_none(p)) is None:
        return []
    whole, rest = _split(content)
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        if (row := _row(line)) is None:
            raise ValueError(f'{p}, line {number}: not a JSON object: {line[:80]!r}')
        rows.append(row)
    last = _row(rest)
    return rows if last is None else [*rows, last]


def save_npz(p: Any, arrays: Mapping | Iterable, compressed: bool = False) -> None:
    """Write arrays as npz, atomically; equal arrays give equal bytes.

    arrays: mapping, or iterable of (name, array) pairs, of which one is held at a time.
    Errors: ValueError for a repeated name and for dtypes that npz has no name for (bfloat16).
    """
    pairs = arrays.items() if isinstance(arrays, Mapping) else arrays
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    written = set()
    with writing(p) as file, zipfile.ZipFile(file, 'w', method, allowZip64=True) as archive:
        for name, value in pairs:
            array = np.asarray(value, order='C')
            if name in written:
                raise ValueError(f'{p}: array {name!r} is given twice')
            if array.dtype.kind not in 'biufcSU':
                raise ValueError(f'{p}: array {name!r} is {array.dtype}; npz cannot hold it')
            written.add(name)
            # A fixed date, so that the file depends on its content alone.
            member = zipfile.ZipInfo(f'{name}.npy', date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = method
            with archive.open(member, 'w', force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


class Npz(Mapping):
    """Lazy mapping name → array over an open npz; one member is read at a time, on access."""

    def __init__(self, archive: zipfile.ZipFile, label: str):
        self._archive = archive
        self._label = label
        found = archive.namelist()
        self._names = [n.removesuffix('.npy') for n in found if n.endswith('.npy')]
        self._known = frozenset(self._names)

    def __iter__(self):
        return iter(self._names)

    def __len__(self):
        return len(self._names)

    def __contains__(self, name):
        return name in self._known

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._known:
            raise KeyError(f'{self._label} holds no array {name!r}')
        try:
            with self._archive.open(f'{name}.npy') as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        except BROKEN as error:
            raise ValueError(f'{self._label}: array {name!r} is damaged: {error}') from error


@contextlib.contextmanager
def open_npz(p: Any) -> Iterator[Npz]:
    """Yield a lazy mapping name → array over an npz file, local or in a bucket.

    Errors: FileNotFoundError; ValueError naming the file if it is not an npz.
    """
    with contextlib.ExitStack() as stack:
        try:
            archive = zipfile.ZipFile(stack.enter_context(path(p).open('rb')))
        except BROKEN as error:
            raise ValueError(f'{p} is not an npz file: {error}') from error
        yield Npz(stack.enter_context(archive), str(p))


def sha256(p: Any) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path(p).open('rb') as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def content_hash(obj: Any) -> str:
    """Return 12 hex digits that identify an object by content.

    sha256 of canonical JSON: keys sorted, tuples as lists, floats by repr (1 and 1.0 differ).
    """
    text = json.dumps(plain(obj), sort_keys=True, separators=(',', ':'), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_jsonl(p: Any, rows: Iterable[Mapping]) -> None:
    """Replace p by one JSON line per row, atomically."""
    write_text(p, ''.join(json.dumps(plain(row), sort_keys=True) + '\n' for row in rows))
