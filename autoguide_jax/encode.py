"""Make a data set of latents of any image set: the verb `encode`.

python -m autoguide_jax encode --config.data.name=folder --config.data.path=IMAGES \
    --config.vae=VAE.safetensors --workdir=data/in512-latents

The set is written in parts, each of them whole or not at all; the same command makes those that are
missing or cut short. Several processes make a share of the parts each. dataset.json comes last.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from autoguide_jax import (
    autoencoder,
    buckets,
    config,
    files,
    health,
    mesh,
    processes,
    provenance,
    stop,
)
from autoguide_jax.data import latent_parts
from autoguide_jax.data.loader import read_ahead
from autoguide_jax.progress import Progress


@dataclass(frozen=True)
class Settings:
    """What is encoded, by what.

    Settings:
      data: the images
      vae: weights of the autoencoder, .safetensors or .npz
      vae_dtype: float32, or bfloat16 between the autoencoder's norms
      batch_size: images per call, over the devices of a host
      part_images: images in a file; what is interrupted loses less than one
      threads: threads that read images, on every host
    """

    data: config.Part = config.part('autoguide_jax.data:table')
    vae: str = ''
    vae_dtype: str = 'float32'
    batch_size: int = 8
    part_images: int = 1000
    threads: int = 4

    def __post_init__(self):
        autoencoder.check_settings(self, 'batch_size', 'part_images', 'threads')


def main(settings, workdir):
    """Write the latents of settings.data to workdir, or those that are missing; returns a row.

    Errors: ValueError for a set of no images, a missing or foreign autoencoder, or a workdir with
    other latents. Raises stop.Stopped between batches; whole parts stay.
    """
    workdir = files.path(workdir)
    dataset, vae = autoencoder.open_images(settings, 'encode needs it')
    what = manifest(settings, dataset, vae)
    with stop.watch():
        health.quick(workdir, files.plain({**config.resolved(settings), 'data': what['source']}))
        with processes.main_first('the set of latents'):
            if processes.is_main():
                claim(workdir, what)
        count, size = dataset.num_images, settings.part_images
        parts = [range(i, min(i + size, count)) for i in range(0, count, size)]
        own = np.flatnonzero(processes.share(len(parts), 1))
        todo = missing(workdir, what, own)
        images = lambda chosen: sum(len(parts[part]) for part in chosen)
        total, left = images(own), images(todo)
        with Progress(total, 'img', f'encode {workdir.name}', done=total - left) as bar:
            write_parts(
                settings, dataset, vae, workdir, [(part, parts[part]) for part in todo], bar
            )
        processes.gather()
        with processes.main_first('completing the set'):
            if processes.is_main():
                finish(workdir, dataset, len(parts))
    return {'latents': str(workdir), 'images': count, 'parts': len(parts), 'encoded': left}


def manifest(settings, dataset, vae):
    """What the set is: two that differ in any of this never share a folder."""
    side, _, moments = vae.latent_shape(dataset.resolution, dataset.resolution, dataset.channels)
    return files.plain(
        {
            'format': latent_parts.FORMAT,
            'images': dataset.num_images,
            'resolution': side,
            'channels': moments // 2,
            'part_images': settings.part_images,
            'vae': vae.describe(),
            'source': dataset.describe(),
            'provenance': provenance.describe(),
        }
    )


def claim(workdir, what):
    """Write the manifest, or check that the one that is there says the same."""
    if (workdir / 'config.json').exists():
        raise ValueError(
            f'--workdir ({workdir}) is a run directory: it has a config.json. Give a folder of its '
            'own for the latents'
        )
    file = workdir / latent_parts.MANIFEST
    if not file.exists():
        files.write_json(file, what)
        return
    old = files.read_json(file)
    different = [k for k in what if k != 'provenance' and old.get(k) != what[k]]
    if different:
        told = '; '.join(f'{k}: {old.get(k)!r} there, {what[k]!r} here' for k in different)
        raise ValueError(
            f'{workdir} holds other latents ({told}). Give another --workdir, or the same settings '
            'to complete them.'
        )


def missing(workdir, what, parts):
    """Those of these parts that are not there, or cut short."""
    if files.is_remote(workdir):
        found = {name: size for name, (size, _) in buckets.checksums(workdir).items()}
    else:
        found = {n: (workdir / n).stat().length for n in files.names(workdir, '.zip')}
    length = lambda part: found.get(latent_parts.part_name(part), 0)
    return [part for part in parts if length(part) < latent_parts.least_bytes(what, part)]


def write_parts(settings, dataset, vae, workdir, parts, bar):
    """Encode and write parts [(number, rows)]; the next is encoded while one is written."""
    size = settings.batch_size
    devices = mesh.own(size, 'batch_size')
    batches = [rows[i : i + size] for _, rows in parts for i in range(0, len(rows), size)]
    images = read_ahead(dataset, batches, settings.threads)
    with ThreadPoolExecutor(1) as writer:
        written = []
        for part, rows in parts:
            found = []
            while sum(map(len, found)) < len(rows):
                stop.check('encoding', saved=f'whole parts in {workdir}')
                batch = next(images)
                found.append(vae.moments(batch, size, devices))
                bar.update(len(batch))
            data = latent_parts.pack(rows[0], np.moveaxis(np.concatenate(found), -1, 1))
            for earlier in written:
                earlier.result()
            target = workdir / latent_parts.part_name(part)
            written = [writer.submit(files.write_bytes, target, data)]
        for last in written:
            last.result()


def finish(workdir, dataset, count):
    """Write dataset.json, which tells readers that all parts are there. Errors: ValueError if not.

    A listing of a bucket may lack what was written a moment ago, so that it is not believed.
    """
    wanted = {latent_parts.part_name(part) for part in range(count)}
    unlisted = sorted(wanted - set(files.names(workdir, '.zip')))
    if missing := [name for name in unlisted if not (workdir / name).exists()]:
        raise ValueError(f'{workdir} lacks {missing[0]}: run the same command again')
    labels = dataset.labels
    if labels is not None:
        named = enumerate(labels.tolist())
        labels = [[latent_parts.member(row), label] for row, label in named]
    files.write_text(workdir / latent_parts.INDEX, json.dumps({'labels': labels}) + '\n')
