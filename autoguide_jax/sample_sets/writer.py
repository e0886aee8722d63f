"""Writing sample sets so that they can be killed at any moment and gone on with."""

import contextlib
import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from autoguide_jax import config, files, stop
from autoguide_jax.progress import Progress
from autoguide_jax.sample_sets import storage
from autoguide_jax.sample_sets.reader import SampleSet, is_set

# Keys of the manifest that belong to the writer, not to its caller.
RESERVED = ('seeds', 'formats', 'complete', 'image_shape', 'content_hash')
# What of the provenance decides the pixels.
CODE = ('git_commit', 'versions')
# Assembling a smaller npz takes no time worth a progress bar.
SHOWN_IMAGES = 5_000


def _refuse(folder, name, there, here, fix='Give another folder, or the same settings.'):
    raise ValueError(
        f'{folder} holds another sample set: {name} is {there!r} there, {here!r} here. {fix}'
    )


def _check_seeds(seeds) -> np.ndarray:
    seeds = np.asarray(seeds)
    if seeds.ndim != 1 or seeds.dtype.kind not in 'iu' or not seeds.size or seeds.min() < 0:
        raise ValueError(f'seeds must be one or more whole numbers ≥ 0, not {seeds!r}')
    unique = np.unique(seeds.astype(np.int64))
    if len(unique) < len(seeds):
        raise ValueError(f'seeds: {len(seeds) - len(unique)} of {len(seeds)} are given twice')
    return unique


def create(folder: Any, manifest: dict, seeds, formats: tuple[str, ...] = ('png',)) -> 'Writer':
    """Return the writer of a sample set, new or gone on with.

    manifest: JSON-able; all that decides the pixels of a seed, and its 'provenance'. seeds: whole
    numbers ≥ 0. formats: 'png', 'npz' or both.
    A folder is taken up again if its manifest is the same, apart from provenance; more seeds than
    before extend the set. Images by different commits or versions are never mixed in one set.
    Errors: ValueError naming the first difference, and for a folder with images of unknown origin.
    """
    folder, seeds = files.path(folder), _check_seeds(seeds)
    if not formats or set(formats) - set(storage.FORMATS) or len(set(formats)) < len(formats):
        raise ValueError(f'formats ({formats}) must be png, npz or both')
    for key in RESERVED:
        if key in manifest:
            raise ValueError(f'manifest: {key!r} is written by the sample set itself')
    formats = [f for f in storage.FORMATS if f in formats]
    new = files.plain({**manifest, 'formats': formats, 'seeds': storage.pack(seeds)})
    old = _claimed(folder, new)
    writer = Writer(folder, {**new, 'complete': False})
    if old is None or not writer.recorded:
        files.write_json(folder / storage.MANIFEST, writer.manifest)
    elif len(writer.missing()) or old['seeds'] != new['seeds']:
        _check_code(folder, old, new)
        # The images that are there stay with what made them.
        writer.manifest |= {k: old[k] for k in ('provenance', 'image_shape') if k in old}
        files.write_json(folder / storage.MANIFEST, writer.manifest)
    else:
        writer.manifest = old
    return writer


def join(folder: Any) -> 'Writer':
    """Return another writer of a set that `create` has begun: to share the work, or complete it."""
    folder = files.path(folder)
    return Writer(folder, files.read_json(folder / storage.MANIFEST))


def _claimed(folder, new):
    """Return the manifest that a folder has, checked against the new one; None if it has none."""
    if not is_set(folder):
        own = (storage.MANIFEST, storage.INDEX, storage.NPZ, storage.PARTS, 'images')
        for name in own:
            if (folder / name).exists():
                raise ValueError(
                    f'{folder} already has {name} of other origin (no manifest of a sample set). '
                    'Give another folder.'
                )
        return None
    old = files.read_json(folder / storage.MANIFEST)
    ignored = {*RESERVED, 'provenance'} - {'formats'}
    trees = [{k: v for k, v in tree.items() if k not in ignored} for tree in (old, new)]
    for name, there, here in config.differences(*trees):
        _refuse(folder, name, there, here)
    lost = np.setdiff1d(storage.unpack(old['seeds']), storage.unpack(new['seeds']))
    if len(lost):
        fix = 'Give another folder, or all these seeds and more.'
        _refuse(folder, 'seeds [first, count]', old['seeds'], new['seeds'], fix)
    return old


def _check_code(folder, old, new):
    old, new = old.get('provenance', {}), new.get('provenance', {})
    common = [key for key in CODE if key in old and key in new]
    for name, there, here in config.differences(*({k: t[k] for k in common} for t in (old, new))):
        fix = 'Finish the set with that code, or give another folder.'
        _refuse(folder, f'provenance.{name}', there, here, fix)


class Writer:
    """Writes a sample set: write() what is missing(), in any order and batches, then finish()."""

    def __init__(self, folder, manifest: dict):
        self.folder, self.manifest = folder, manifest
        self.seeds = storage.unpack(manifest['seeds'])
        records = storage.Records(folder)
        self._done = set(storage.present(folder, manifest, records).tolist())
        self.recorded = len(records.seeds)
        self.own = []
        self._next_part = 1 + max((int(p.name.split('-')[0]) for p in records.parts), default=-1)

    def missing(self) -> Int[np.ndarray, ' n']:
        """Return the seeds, ascending, whose images are not yet on disk."""
        return np.array([s for s in self.seeds.tolist() if s not in self._done], np.int64)

    def write(self, seeds, labels, images: UInt8[np.ndarray, 'n h w c']) -> None:
        """Put some images on disk; once this returns, a kill cannot take them away.

        labels: int [n], −1 = none, or None. Errors: ValueError for seeds that are not of the set,
        and for images of another shape or type than the set's.
        """
        seeds, images = np.asarray(seeds), np.asarray(images)
        labels = np.full(len(seeds), -1) if labels is None else np.asarray(labels)
        self._check(seeds, labels, images)
        if 'image_shape' not in self.manifest:
            self.manifest['image_shape'] = list(images.shape[1:])
            files.write_json(self.folder / storage.MANIFEST, self.manifest)
        if 'png' in self.manifest['formats']:
            storage.parallel(self._write_png, zip(seeds.tolist(), images))
        part = {
            'seeds': seeds.astype(np.int64),
            'labels': labels.astype(np.int32),
            'digests': np.stack([storage.digest(image) for image in images]),
        }
        if 'npz' in self.manifest['formats']:
            part['images'] = images
        name = f'{self._next_part:06d}-{int(seeds[0]):09d}.npz'
        files.save_npz(self.folder / storage.PARTS / name, part)
        self.own.append(name)
        self._next_part += 1
        self._done.update(seeds.tolist())

    def adopt(self, parts) -> None:
        """Count in the parts of that name, which other writers of the set have written."""
        if others := sorted({*parts} - {*self.own}):
            self.own += others
            self.manifest = {**files.read_json(self.folder / storage.MANIFEST), **self.manifest}
            records = storage.Records(self.folder, self.own)
            self._done |= set(storage.present(self.folder, self.manifest, records).tolist())

    def _write_png(self, item):
        seed, image = item
        files.write_bytes(self.folder / storage.png_name(seed), storage.encode_png(image))

    def _check(self, seeds, labels, images):
        if len(strange := np.setdiff1d(_check_seeds(seeds), self.seeds)):
            raise ValueError(f'seed {int(strange[0])} is not of the set in {self.folder}')
        if labels.shape != seeds.shape or labels.dtype.kind not in 'iu':
            raise ValueError(f'labels must be int [{len(seeds)}]: {labels.dtype} {labels.shape}')
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(seeds):
            raise ValueError(
                f'images must be uint8 [{len(seeds)}, h, w, c]: {images.dtype} {images.shape}'
            )
        shape = self.manifest.get('image_shape', list(images.shape[1:]))
        if list(images.shape[1:]) != shape:
            raise ValueError(
                f'{self.folder} holds images {tuple(shape)}, not {tuple(images.shape[1:])}'
            )
        if 'png' in self.manifest['formats'] and shape[2] not in (1, 3):
            raise ValueError(f'PNG takes 1 or 3 channels, not {shape[2]}: use formats=npz')

    def finish(self) -> SampleSet:
        """Assemble npz, labels and preview, mark the manifest complete, and return the set.

        Errors: ValueError if images are missing.
        """
        if len(missing := self.missing()):
            raise ValueError(
                f'{self.folder} lacks {len(missing)} of {len(self.seeds)} images, the first is '
                f'that of seed {int(missing[0])}'
            )
        records = storage.settled_records(self.folder, self.own, self.seeds)
        if self.manifest['complete'] and not records.parts:
            return SampleSet(self.folder, self.manifest, records)
        labels, digests = records.select(self.seeds)
        if 'npz' in self.manifest['formats'] and records.parts:
            self._save_npz(labels, records)
        table = {'seeds': self.seeds, 'labels': labels, 'digests': digests}
        files.save_npz(self.folder / storage.INDEX, table)
        found = SampleSet(self.folder, self.manifest, records)
        with contextlib.closing(found.batches(storage.GRID_SIDE**2)) as batches:
            grid = storage.make_grid(next(batches)[0])
        if grid.shape[2] in (1, 3):
            files.write_bytes(self.folder / storage.GRID, storage.encode_png(grid))
        everything = hashlib.sha256(repr(found.image_shape).encode())
        for array in table.values():
            everything.update(array.tobytes())
        self.manifest |= {'complete': True, 'content_hash': everything.hexdigest()[:12]}
        files.write_json(self.folder / storage.MANIFEST, self.manifest)
        self._remove(records.parts)
        return found

    def _remove(self, parts):
        """Remove what the index has made superfluous, by name: listings may lag."""
        self.own.clear()
        if files.is_remote(self.folder):
            storage.parallel(lambda part: part.unlink(missing_ok=True), parts)
        else:
            (self.folder / storage.PARTS).rmtree(missing_ok=True)

    def _save_npz(self, labels, records):
        shown = len(self.seeds) >= SHOWN_IMAGES
        target = self.folder / storage.NPZ
        with contextlib.ExitStack() as stack:
            images = stack.enter_context(contextlib.closing(self._in_order(records)))
            if shown:
                progress = Progress(len(self.seeds), 'images', f'assembling {storage.NPZ}')
                images = _counted(images, stack.enter_context(progress))
            storage.save_npz_images(
                target, self.seeds, labels, self.manifest['image_shape'], images
            )

    def _in_order(self, records) -> Iterator[np.ndarray]:
        """Yield the images by seed, from the parts and, if the set grew, from the old npz."""
        where = {}
        for part in records.parts:
            where.update(
                {
                    seed: (part, row)
                    for row, seed in enumerate(storage.read_array(part, 'seeds').tolist())
                }
            )
        load = functools.lru_cache(maxsize=8)(lambda part: storage.read_array(part, 'images'))
        old = self.folder / storage.NPZ
        with contextlib.ExitStack() as stack:
            known = iter(())
            if old.exists():
                _, images = stack.enter_context(storage.open_npz_images(old))
                known = zip(storage.read_array(old, 'seeds').tolist(), images)
            for seed in self.seeds.tolist():
                if seed in where:
                    part, row = where[seed]
                    yield load(part)[row]
                else:
                    yield next(image for s, image in known if s == seed)


def _counted(images, progress):
    for image in images:
        stop.check(f'assembling {storage.NPZ}', 'all images')
        yield image
        progress.update(1)
