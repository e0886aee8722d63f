"""Copy a sample set, a run or a report to any folder, local or in a bucket, and prove the copy.

    python -m autoguide_jax export --config.source=out/a --config.target=gs://bucket/a

target/export.json lists every file with size and sha256. It is there, marked incomplete, before the
first file; while copying, export.parts/ records what is done, so that the same command goes on.
A file counts as copied when it was read back from the target with the sha256 of the source.
"""

import concurrent.futures
import contextlib
import hashlib
import math
import os
import tempfile
import time
from dataclasses import dataclass

from autoguide_jax import files, provenance, sample_sets, stop
from autoguide_jax.data.archive import FolderStore
from autoguide_jax.progress import Progress

RECORD, PARTS = 'export.json', 'export.parts'
THREADS = 16
RECORD_SECONDS = 5
CONVERT_BATCH = 256
# Of a sample set these belong to its format; everything else is copied as it is.
SET_FILES = ('manifest.json', 'labels.npz', 'samples.npz', 'grid.png')


@dataclass(frozen=True)
class Settings:
    """What is copied where.

    Settings:
      source: folder of a sample set, run, study or report, or a single file; local or gs://
      target: folder that the files are put into, local or gs://
      formats: of a sample set: png, npz or both; empty = as it is. What is not there is made
      overwrite: replace files of the target that come from elsewhere; others are left alone
    """

    source: str
    target: str
    formats: tuple[str, ...] = ()
    overwrite: bool = False

    def __post_init__(self):
        if not self.source or not self.target:
            raise ValueError(f'source ({self.source!r}) and target ({self.target!r}) are required')
        if set(self.formats) - set(sample_sets.FORMATS):
            raise ValueError(f'formats ({", ".join(self.formats)}) must be png, npz or both')
        if _absolute(self.target).startswith(_absolute(self.source)):
            raise ValueError(f'target ({self.target}) lies in the source ({self.source})')


def _absolute(p):
    text = str(files.path(p))
    return (text if files.is_remote(p) else os.path.realpath(text)).rstrip('/') + '/'


def main(settings, workdir=None):
    """Copy settings.source to settings.target; return how many files and bytes were copied.

    Errors: ValueError before anything is written if the target holds something else, or for an
    incomplete sample set; OSError if what is read back is not what was written. Raises
    stop.Stopped between files.
    """
    source, target = files.path(settings.source), files.path(settings.target)
    if not source.exists():
        raise FileNotFoundError(f'source ({source}) does not exist')
    with tempfile.TemporaryDirectory(prefix='export-') as scratch:
        plan, facts = _plan(source, settings.formats, scratch)
        if not plan:
            raise ValueError(f'source ({source}) is empty: there is nothing to export')
        facts = {'source': str(source), **facts}
        known = _known(target)
        if not settings.overwrite:
            _check_target(target, plan, known, facts)
        return _copy_all(plan, target, known, facts)


def _plan(source, formats, scratch):
    """Return (relative name → file to copy, facts for the record)."""
    if not source.is_dir():
        if formats:
            raise ValueError(f'formats: source ({source}) is a file, not a sample set')
        return {source.name: source}, {'kind': 'file'}
    plan = {name: source / name for name in FolderStore(source).names if not _mine(name)}
    if not sample_sets.is_set(source):
        if formats:
            raise ValueError(f'formats: source ({source}) is not a sample set; leave it out')
        return plan, {'kind': 'folder'}
    samples = sample_sets.open_set(source)
    facts = {'kind': 'sample set', 'content_hash': samples.content_hash}
    if formats and set(formats) != set(samples.manifest['formats']):
        rest = {name: p for name, p in plan.items() if not _of_set(name)}
        folder = _convert(samples, formats, files.path(scratch) / 'set')
        plan = rest | {name: folder / name for name in FolderStore(folder).names}
    return plan, facts


def _mine(name):
    return name == RECORD or name.startswith(f'{PARTS}/')


def _of_set(name):
    return name in SET_FILES or name.startswith(('images/', 'parts/'))


def _convert(samples, formats, folder):
    """Write a sample set in other formats to a local folder; the same bytes whenever it is done."""
    mine = ('seeds', 'formats', 'complete', 'image_shape', 'content_hash')
    manifest = {k: v for k, v in samples.manifest.items() if k not in mine}
    writer = sample_sets.create(folder, manifest, samples.seeds, formats)
    done = 0
    with Progress(samples.num_images, 'images', f'export: making {", ".join(formats)}') as progress:
        for images, labels in samples.batches(CONVERT_BATCH):
            stop.check('converting images')
            seeds = samples.seeds[done : done + len(images)]
            writer.write(seeds, labels, images)
            done += len(images)
            progress.update(len(images))
    return writer.finish().folder


def _known(target):
    """Return name → {size, sha256} of what earlier exports recorded in a target."""
    known = {}
    if (target / RECORD).exists():
        known |= files.read_json(target / RECORD)['files']
    for name in files.names(target / PARTS, '.json'):
        known |= files.read_json(target / PARTS / name)
    return known


def _check_target(target, plan, known, facts):
    """Raise ValueError if the target holds another export, or files that no export put there.

    A file that was copied but not yet recorded when a process was killed has the right content.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f'target ({target}) is a file; give a folder')
    fix = 'Give an empty target, or set overwrite=True.'
    if (target / RECORD).exists():
        old = files.read_json(target / RECORD)
        same = facts.get('content_hash', '') == old.get('content_hash')
        if not same and old['source'] != facts['source']:
            raise ValueError(f'target ({target}) holds the export of {old["source"]}. {fix}')
    for name in FolderStore(target).names:
        if _mine(name):
            continue
        if name not in plan:
            raise ValueError(f'target ({target}) holds something else: {name}. {fix}')
        if name not in known and files.sha256(target / name) != files.sha256(plan[name]):
            raise ValueError(f'target ({target}) holds another {name}. {fix}')


def _size(p):
    return p.stat().length


def _copy_all(plan, target, known, facts):
    start = time.monotonic()
    _record(target, facts, {}, complete=False, old=known)
    sizes = dict(zip(plan, _threaded(lambda p: _size(p), plan.values())))
    total = sum(math.ceil(size / 1000) for size in sizes.values())
    done, copied, unsaved, saved_at = {}, [], {}, start
    with Progress(total, 'kB', f'export to {target}') as progress, _Pool() as pool:
        futures = [pool.submit(_copy, n, p, target / n, known.get(n)) for n, p in plan.items()]
        try:
            for future in concurrent.futures.as_completed(futures):
                name, entry, fresh = future.result()
                done[name] = unsaved[name] = entry
                copied += [name] * fresh
                progress.note(files=f'{len(done)}/{len(plan)}')
                progress.update(math.ceil(sizes[name] / 1000))
                if time.monotonic() - saved_at > RECORD_SECONDS:
                    saved_at, unsaved = _record_part(target, unsaved), {}
                stop.check('exporting', f'{len(done)} of {len(plan)} files in {target}')
        finally:
            pool.shutdown(cancel_futures=True)
            # Also on a stop or an error: what is done need not be done again.
            if unsaved and len(done) < len(plan):
                _record_part(target, unsaved)
    listing = {name: done[name] for name in sorted(done)}
    record = _record(target, facts, listing, complete=True)
    if (target / PARTS).exists():
        (target / PARTS).rmtree()
    return {
        'source': facts['source'],
        'target': str(target),
        'files': record['count'],
        'bytes': record['bytes'],
        'copied': len(copied),
        'already there': len(done) - len(copied),
        'sha256': record['sha256'],
        'seconds': round(time.monotonic() - start, 3),
    }


def _Pool():
    return concurrent.futures.ThreadPoolExecutor(THREADS, 'export')


def _threaded(fn, items):
    with _Pool() as pool:
        return list(pool.map(fn, items))


def _record(target, facts, listing, complete, old=None):
    """Write export.json: what is in the target, or, while incomplete, what earlier exports put."""
    listing = listing if complete else old
    text = ''.join(f'{name}\0{entry["sha256"]}\n' for name, entry in sorted(listing.items()))
    record = {
        **facts,
        'complete': complete,
        'count': len(listing),
        'bytes': sum(entry['size'] for entry in listing.values()),
        'sha256': hashlib.sha256(text.encode()).hexdigest(),
        'provenance': {'git_commit': provenance.git_commit(), 'versions': provenance.versions()},
        'files': listing,
    }
    files.write_json(target / RECORD, record)
    return record


def _record_part(target, entries):
    """Record copied files in a file of their own, since a bucket has no append; return the time."""
    files.write_json(target / PARTS / f'{files.content_hash(entries)}.json', entries)
    return time.monotonic()


def _copy(name, source, target, known):
    """Copy a file unless it is there as recorded; return (name, {size, sha256}, copied)."""
    there = known is not None and _same_size(target, known['size'])
    if there and files.sha256(source) == known['sha256']:
        return name, known, False
    digest, size = hashlib.sha256(), 0
    with source.open('rb') as read, files.writing(target) as write:
        while block := read.read(files.BLOCK):
            digest.update(block)
            size += len(block)
            write.write(block)
    entry = {'size': size, 'sha256': digest.hexdigest()}
    if files.sha256(target) != entry['sha256']:
        raise OSError(f'{target}: what was read back is not what was written from {source}')
    return name, entry, True


def _same_size(p, size):
    with contextlib.suppress(FileNotFoundError):
        return _size(p) == size
    return False
