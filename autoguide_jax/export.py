"""Copy a sample set, a run or a report to any folder, local or in a bucket, and prove the copy.

    python -m autoguide_jax export --config.source=out/a --config.target=gs://bucket/a

target/export.json lists every file with size and sha256. It is there, marked incomplete, before the
first file; while copying, export.parts/ records what is done, so that the same command goes on.
A file counts as copied when it was read back from a disk with the sha256 of the source, or when the
bucket tells its md5.
"""

import concurrent.futures
import hashlib
import math
import os
import tempfile
import time
from dataclasses import dataclass

from autoguide_jax import copying, files, provenance, sample_sets, snapshots, stop
from autoguide_jax.data.archive import FolderStore
from autoguide_jax.progress import Progress

RECORD, PARTS = 'export.json', 'export.parts'
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
    incomplete sample set; OSError if a copy cannot be proven. Raises stop.Stopped between files.
    """
    source, target = files.path(settings.source), files.path(settings.target)
    if not (sample_sets.is_set(source) or source.exists()):
        raise FileNotFoundError(f'source ({source}) does not exist')
    with tempfile.TemporaryDirectory(prefix='export-') as scratch:
        plan, facts = _plan(source, settings.formats, scratch)
        if not plan:
            raise ValueError(f'source ({source}) is empty: there is nothing to export')
        facts = {'source': str(source), **facts}
        known, place = _known(target), copying.open_target(target)
        sizes = copying.sizes(source, plan)
        replace = settings.overwrite or _unfinished(target, facts)
        if not settings.overwrite:
            _check_target(place, plan, sizes, {*known, *plan} if replace else known, facts)
        return Export(place, known, facts, replace).run(plan, sizes)


def _plan(source, formats, scratch):
    """Return (relative name → file to copy, facts for the record)."""
    is_set = sample_sets.is_set(source)
    if not is_set and not source.is_dir():
        if formats:
            raise ValueError(f'formats: source ({source}) is a file, not a sample set')
        return {source.name: source}, {'kind': 'file'}
    found = {name for name in FolderStore(source).names if not _mine(name)}
    if not is_set:
        if formats:
            raise ValueError(f'formats: source ({source}) is not a sample set; leave it out')
        return {name: source / name for name in sorted(found | _indexed(source, found))}, {
            'kind': 'folder'
        }
    samples = sample_sets.open_set(source)
    plan = {name: source / name for name in sorted(found.union(samples.file_names))}
    facts = {'kind': 'sample set', 'content_hash': samples.content_hash}
    if formats and set(formats) != set(samples.manifest['formats']):
        rest = {name: p for name, p in plan.items() if not _of_set(name)}
        folder = _convert(samples, formats, files.path(scratch) / 'set')
        plan = rest | {name: folder / name for name in FolderStore(folder).names}
    return plan, facts


def _indexed(source, names):
    """Names of the snapshots that the indices among some files tell of: a listing may lag."""
    suffix = 'snapshots/index.jsonl'
    runs = [name.removesuffix(suffix) for name in names if f'/{name}'.endswith(f'/{suffix}')]
    return {
        f'{run}snapshots/{s.file}' for run in runs for s in snapshots.list_snapshots(source / run)
    }


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


def _unfinished(target, facts):
    """True if this export began earlier: what differs in the target is what it left half done."""
    if not (target / RECORD).exists():
        return False
    old = files.read_json(target / RECORD)
    return not old['complete'] and old['source'] == facts['source']


def _check_target(place, plan, sizes, known, facts):
    """Raise ValueError if the target holds another export, or files that no export put there."""
    target, fix = place.folder, 'Give an empty target, or set overwrite=True.'
    if not files.is_remote(target) and target.exists() and not target.is_dir():
        raise ValueError(f'target ({target}) is a file; give a folder')
    if (target / RECORD).exists():
        old = files.read_json(target / RECORD)
        same = facts.get('content_hash', '') == old.get('content_hash')
        if not same and old['source'] != facts['source']:
            raise ValueError(f'target ({target}) holds the export of {old["source"]}. {fix}')
    for name in place.names():
        if _mine(name) or name in known:
            continue
        if name not in plan:
            raise ValueError(f'target ({target}) holds something else: {name}. {fix}')
        with copying.Source(plan[name], sizes[name]) as source:
            if not place.holds(name, source.content):
                raise ValueError(f'target ({target}) holds another {name}. {fix}')


class Export:
    """Copies files to a place and keeps the record of it."""

    def __init__(self, place, known, facts, replace):
        self.place, self.known, self.facts, self.replace = place, known, facts, replace
        self.target = place.folder
        self.unsaved, self.parts = {}, set(files.names(self.target / PARTS, '.json'))

    def run(self, plan, sizes):
        """Copy what is missing of a plan, name → path; return the facts for the user."""
        start = saved_at = time.monotonic()
        _record(self.target, self.facts, self.known, complete=False)
        done, copied, mb = {}, 0, 0.0
        total = sum(math.ceil(size / 1000) for size in sizes.values())
        pool = concurrent.futures.ThreadPoolExecutor(self.place.threads, 'export')
        with Progress(total, 'kB', f'export to {self.target}') as progress, pool:
            futures = [pool.submit(self.copy, n, p, sizes[n]) for n, p in plan.items()]
            try:
                for future in concurrent.futures.as_completed(futures):
                    name, entry, fresh = future.result()
                    done[name] = self.unsaved[name] = entry
                    copied, mb = copied + fresh, mb + entry['size'] / 1e6 * fresh
                    rates = _rates(copied, mb, time.monotonic() - start)
                    progress.note(files=f'{len(done)}/{len(plan)}', **rates)
                    progress.update(math.ceil(sizes[name] / 1000))
                    if time.monotonic() - saved_at > RECORD_SECONDS:
                        saved_at = self.save_part()
                    stop.check('exporting', f'{len(done)} of {len(plan)} files in {self.target}')
            finally:
                pool.shutdown(cancel_futures=True)
                # Also on a stop or an error: what is done need not be done again.
                if self.unsaved and len(done) < len(plan):
                    self.save_part()
        record = _record(self.target, self.facts, dict(sorted(done.items())), complete=True)
        self.remove_parts()
        seconds = time.monotonic() - start
        return {
            'source': self.facts['source'],
            'target': str(self.target),
            'files': record['count'],
            'bytes': record['bytes'],
            'copied': copied,
            'already there': len(done) - copied,
            'sha256': record['sha256'],
            'seconds': round(seconds, 3),
            **_rates(copied, mb, seconds),
        }

    def copy(self, name, p, size):
        """Copy a file unless it is there; return (name, {size, sha256}, whether it was copied)."""
        with copying.Source(p, size) as source:
            entry = {'size': source.content.size, 'sha256': source.content.sha256}
            try:
                fresh = self.place.put(name, source, name in self.known, self.replace)
            except FileExistsError as error:
                fix = 'Give an empty target, or set overwrite=True.'
                raise ValueError(f'target ({self.target}) holds another {name}. {fix}') from error
        return name, entry, fresh

    def save_part(self):
        """Record copied files in a file of their own: no append in buckets. Return the time."""
        name = f'{files.content_hash(self.unsaved)}.json'
        files.write_json(self.target / PARTS / name, self.unsaved)
        self.parts.add(name)
        self.unsaved = {}
        return time.monotonic()

    def remove_parts(self):
        """Remove the records that export.json has made superfluous."""
        if not files.is_remote(self.target):
            (self.target / PARTS).rmtree(missing_ok=True)
            return
        for name in self.parts:
            (self.target / PARTS / name).unlink(missing_ok=True)


def _rates(count, mb, seconds):
    seconds = max(seconds, 1e-9)
    return {'MB/s': round(mb / seconds, 2), 'files/s': round(count / seconds, 1)}


def _record(target, facts, listing, complete):
    """Write export.json: what is in the target, or, while incomplete, what earlier exports put."""
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
