"""Train one denoiser. Main model, guide and unconditional model differ only in their settings.

The images are a function of (seed, images seen), the noise of (seed, step): a run that was killed
and resumed is bit-identical to one that was not. The same command starts, resumes, or finds that
all is done. Several seeds are trained side by side: one program, one checkpoint, and a run
directory WORKDIR/seed-N for each.
"""

import contextlib
import time

import jax
import numpy as np

from autoguide_jax import (
    config,
    data,
    disks,
    files,
    health,
    mesh,
    processes,
    provenance,
    snapshots,
    stop,
)
from autoguide_jax.checkpoints import Checkpoints
from autoguide_jax.data.loader import batches
from autoguide_jax.progress import Progress
from autoguide_jax.recent import Recent
from autoguide_jax.run_settings import Settings, open_data, resolve
from autoguide_jax.train_step import leaf_names
from autoguide_jax.trainer import Trainer

__all__ = ['Settings', 'main']

# What may change when a run is resumed: nothing that the weights at a given nimg depend on. Where
# the data lie is free, what they are is not: the fingerprint in `dataset` tells.
MAY_CHANGE = ('train.total_nimg', 'train.log_nimg', 'train.checkpoint_nimg')
MAY_CHANGE += ('mesh.params', 'mesh.shards', 'data.path', 'data.data_dir', 'data.cache_mib')
MAY_CHANGE += ('network.remat', 'read.threads', 'read.ahead')
# Settings that came later, with what the runs before them had.
BEFORE = {'seeds': [], 'train.snapshot_at': []}
BEFORE |= {'denoiser.name': 'edm', 'denoiser.logvar_channels': 128}


def main(settings, workdir):
    """Train to train.total_nimg in workdir; return {'run', 'nimg', 'loss', …}, a list if seeds.

    Errors: ValueError if workdir holds another run, and what health.quick finds;
    FloatingPointError at a non-finite gradient.
    Raises stop.Stopped, after saving, when a signal asks for it.
    """
    workdir = files.path(workdir)
    dataset = open_data(settings)
    tree = resolve(settings, dataset)
    # Where the data lie may differ between hosts; what they are is in the fingerprint.
    health.quick(workdir, files.plain({**tree, 'data': None}))
    devices = settings.mesh.make(settings.train.batch_size)
    runs = {workdir: settings.seed}
    if settings.seeds:
        runs = {workdir / f'seed-{seed}': seed for seed in settings.seeds}
    for seed in runs.values():
        data.indices(seed, settings.train.total_nimg, 0, dataset.num_images)
    claimed = []
    with stop.watch(), disks.telling_if_gone(claimed):
        checkpoints = Checkpoints(workdir)
        try:
            seen = (checkpoints.latest() or 0) * settings.train.batch_size
            strange = [str(folder) for folder in runs if not (folder / 'config.json').exists()]
            if seen and strange:
                raise ValueError(
                    f'{workdir} holds checkpoints of other seeds: {strange[0]} has no config.json. '
                    'Give another --workdir, or the same seeds to resume them.'
                )
            for folder, seed in runs.items():
                claim(folder, {**tree, 'seed': seed}, seen)
                claimed.append(folder)
            if seen < settings.train.total_nimg:
                run(settings, tree, dataset, devices, runs, checkpoints, seen)
        finally:
            checkpoints.close()
    rows = [summary(folder, settings.train.total_nimg) for folder in runs]
    return rows if settings.seeds else rows[0]


def claim(workdir, tree, seen):
    """Write config.json, or check that the one that is there is this run's; seen: images so far."""
    file = workdir / 'config.json'
    if file.exists():
        old = files.read_json(file)
        different = [
            f'{name}: {a!r} there, {b!r} here'
            for name, a, b in config.differences(old, files.plain(tree))
            if name not in MAY_CHANGE and not name.startswith('provenance')
            if a is not None or name not in BEFORE or b != BEFORE[name]
        ]
        if different:
            raise ValueError(
                f'{workdir} holds another run ({"; ".join(different[:3])}). '
                'Give another --workdir, or the same settings to resume it.'
            )
        if tree['train']['total_nimg'] < seen:
            raise ValueError(
                f'train.total_nimg ({tree["train"]["total_nimg"]}) is below the {seen} images that '
                f'{workdir} has seen. Give another --workdir for a shorter run.'
            )
        tree = {**tree, 'provenance': old.get('provenance', provenance.describe())}
        if files.plain(tree) == old:
            return
    if processes.is_main():
        files.write_json(file, {'provenance': provenance.describe(), **tree})


def run(settings, tree, dataset, devices, runs, checkpoints, seen):
    """The loop: batch → step → log → snapshot → checkpoint, until total_nimg or a signal.

    runs: {run directory: seed}; seen: images of the newest checkpoint.
    """
    loop = settings.train
    trainer = Trainer(settings, tree, devices, score=getattr(dataset, 'score', None))
    recent = Recent(loop.batch_size, list(runs), stop_at_nonfinite=loop.nonfinite == 'stop')
    health.check_room(checkpoints.folder.parent, *trainer.storage(seen))
    state, nimg = begin(trainer, checkpoints, recent)
    step = stop.interruptible(trainer.compile, doing='compiling the training step')
    names = leaf_names(trainer.abstract['params'])
    rows = mesh.rows(devices, loop.batch_size)
    title = title_of(runs)
    with (
        Progress(loop.total_nimg, 'img', f'train {title}', done=nimg) as bar,
        contextlib.ExitStack() as stack,
    ):
        ahead = {'workers': settings.read.threads, 'prefetch': settings.read.ahead}
        each = (batches(dataset, s, nimg, loop.batch_size, rows, **ahead) for s in runs.values())
        streams = [stack.enter_context(stream) for stream in each]
        intervals, asked = (loop.log_nimg, loop.snapshot_nimg, loop.checkpoint_nimg), False
        while nimg < loop.total_nimg:
            start = time.monotonic()
            batch = next_batch(streams, settings.seeds)
            recent.waited += time.monotonic() - start
            state, metrics = step(state, *trainer.put(*batch, bool(stop.requested())))
            # What any process asked for in the step before, which is done by now.
            stopping, asked = bool(asked), metrics.pop('asked')
            nimg += loop.batch_size
            recent.add(nimg, metrics, names)
            bar.update(loop.batch_size)
            done = nimg >= loop.total_nimg
            due = any(nimg % n == 0 for n in intervals)
            if due or done or stopping:
                disks.still_there(runs)
            if nimg % loop.log_nimg == 0 or done:
                bar.note(loss=recent.write())
            if nimg % loop.snapshot_nimg == 0 or nimg in loop.snapshot_at or done:
                recent.check(names)
                save_snapshots(settings, state, nimg, runs)
            if nimg % loop.checkpoint_nimg == 0 or done or stopping:
                recent.check(names)
                meta = {'nimg': nimg, 'unlogged': recent.unlogged()}
                checkpoints.save(nimg // loop.batch_size, state, meta, wait=stopping)
            if stopping:
                stop.end('training', saved=f'{", ".join(map(str, runs))} at {nimg} images')


def title_of(runs):
    """What the progress bar calls the runs."""
    names = [folder.name for folder in runs]
    return names[0] if len(names) == 1 else f'{next(iter(runs)).parent.name}/{{{",".join(names)}}}'


def next_batch(streams, seeds):
    """(images, labels) of one step; with a leading axis [seeds] if there are several."""
    found = [next(stream) for stream in streams]
    if not seeds:
        return found[0]['image'], found[0]['label']
    return tuple(np.stack([batch[kind] for batch in found]) for kind in ('image', 'label'))


def begin(trainer, checkpoints, recent):
    """(state, nimg): from the newest checkpoint, or from the seeds.

    What the checkpoint knows of steps that no row has told yet goes back into `recent`; rows of
    metrics.jsonl that are later than the checkpoint are cut off.
    """
    if checkpoints.latest() is None:
        state = stop.interruptible(trainer.init, doing='compiling the initial state')
        nimg = 0
    else:
        state, meta = checkpoints.restore(trainer.target())
        nimg = int(meta['nimg'])
        recent.go_on(**meta['unlogged'])
    for folder in recent.folders:
        rows = files.read_jsonl(folder / 'metrics.jsonl')
        kept = [row for row in rows if row['nimg'] <= nimg]
        if len(kept) < len(rows) and processes.is_main():
            files.write_jsonl(folder / 'metrics.jsonl', kept)
    return state, nimg


def save_snapshots(settings, state, nimg, runs):
    """Write every EMA of every run at this point, for ever."""
    for i, folder in enumerate(runs):
        ema, buffers = state['ema'], state['buffers']
        if settings.seeds:
            ema, buffers = jax.tree.map(lambda a: a[i], (ema, buffers))  # noqa: B023
        write = processes.is_main()
        snapshots.save(folder, nimg, settings.ema.stds, ema, buffers, write=write)


def summary(workdir, nimg):
    """What the verb prints of one run."""
    log = files.read_jsonl(workdir / 'metrics.jsonl')
    last = log[-1] if log else {}
    keys = ('loss', 'error', 'images_per_second')
    return {'run': str(workdir), 'nimg': nimg, **{k: last[k] for k in keys if k in last}}
