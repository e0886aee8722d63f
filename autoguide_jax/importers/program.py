"""Make run directories of published network files, whose snapshots are guides like any others.

    python -m autoguide_jax import --src=edm2-img512-s-2147483-0.070.pkl --workdir=runs/pub/s
    python -m autoguide_jax import --src='raw/edm2-img512-s-*.pkl' --workdir=runs/raw/s
    python -m autoguide_jax import --src=DOWNLOADS --workdir=models          # one run per network

Nothing in a file is executed. The same command again adds what is missing only.
"""

import contextlib
import dataclasses
import fnmatch
import hashlib
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from autoguide_jax import buckets, config, ema, files, provenance, published, snapshots, stop
from autoguide_jax.importers import conversion, edm2
from autoguide_jax.progress import Progress
from autoguide_jax.snapshots import archive

COMPARED = ('network', 'denoiser', 'latents')
LATENTS = ('', 'pixels', 'sd_vae')


@dataclass(frozen=True)
class Settings:
    """Which files become run directories.

    Settings:
      src: network file (.pkl, .npz, .safetensors), a glob or several files of one network, or a
        folder of files with public names, of which each network becomes WORKDIR/NETWORK
      nimg: images seen, where neither the name nor the header of the file says; 0 = they do
      std: relative EMA length, where neither the name nor the header of the file says; 0 = they do
      dtype: activations inside the network when it is used, float32 or bfloat16
      channels_per_head: channels of one attention head, where the file does not say; 0 = 64
      sigma_data: standard deviation of the data in model space, where the file does not say; 0 =
        0.5
      latents: what the channels are, pixels or sd_vae, where the file does not say; empty = 1 or 3
        channels are pixels, 4 are sd_vae
    """

    src: tuple[str, ...]
    nimg: int = 0
    std: float = 0.0
    dtype: str = 'float32'
    channels_per_head: int = 0
    sigma_data: float = 0.0
    latents: str = ''

    def __post_init__(self):
        if not self.src or not all(self.src):
            raise ValueError('src is empty: give a file, a glob or a folder, --src=FILE.pkl')
        if self.nimg < 0 or self.std < 0:
            raise ValueError(f'nimg ({self.nimg}) and std ({self.std}) must not be below 0')
        if self.latents not in LATENTS:
            raise ValueError(f'latents ({self.latents}) must be pixels or sd_vae, or empty')


@dataclass(frozen=True)
class Source:
    """A file, the run directory it belongs to, and its size in bytes; nimg, std: 0 = unknown."""

    file: Any
    run: Any
    size: int
    nimg: int = 0
    std: float = 0.0


def main(settings, workdir):
    """Import; returns one row per file.

    Errors: FileNotFoundError; ValueError for a file that is damaged or no network, or a workdir
    that holds another network. What was complete before it stays.
    """
    sources, rows = find(settings, files.path(workdir)), []
    total = sum(source.size for source in sources)
    with stop.watch(), Progress(2 * total, 'bytes', 'import') as bar:
        for source in sources:
            stop.check('importing', saved=f'{len(rows)} of {len(sources)} files in {workdir}')
            bar.note(file=source.file.name)
            rows.append(import_file(source, settings, bar))
    return rows


def find(settings, workdir):
    """The Sources that settings.src means, each checked to be there."""
    found = []
    for src in settings.src:
        path = files.path(src)
        if any(sign in path.name for sign in '*?['):
            names = fnmatch.filter(files.names(path.parent), path.name)
            if not names:
                raise FileNotFoundError(f'src ({src}): no file has such a name')
            found += [source(path.parent / name, workdir, settings) for name in names]
        elif path.is_dir():
            found += in_folder(path, workdir, settings)
        else:
            if not path.exists():
                raise FileNotFoundError(f'src ({src}): there is no such file')
            found.append(source(path, workdir, settings))
    for run in {s.run for s in found}:
        mates = [s for s in found if s.run == run]
        one_network([s.file for s in mates], run)
        apart([s for s in mates if s.nimg and s.std])
    return found


def in_folder(folder, workdir, settings):
    """Every file of a folder that has a public name, each in the run of its network."""
    networks = {}
    for name in files.names(folder):
        with contextlib.suppress(ValueError):
            networks[name] = published.read(name).network
    if not networks:
        raise ValueError(
            f'src ({folder}) holds no file with a public name, such as '
            'edm2-img512-s-2147483-0.070.pkl; give other files by name, and --config.nimg and std'
        )
    return [source(folder / name, workdir / run, settings) for name, run in networks.items()]


def source(file, run, settings):
    """A Source with what its name, or the settings, say of nimg and std."""
    try:
        said = published.read(file.name)
    except ValueError:
        return Source(file, run, file.stat().length, settings.nimg, settings.std)
    for name in ('nimg', 'std'):
        given = getattr(settings, name)
        if given and given != getattr(said, name):
            raise ValueError(f'{name} ({given}): the name of {file} says {getattr(said, name)}')
    return Source(file, run, file.stat().length, said.nimg, said.std)


def one_network(paths, run):
    """Refuse files whose names tell that they are of several networks."""
    networks = {}
    for path in paths:
        with contextlib.suppress(ValueError):
            networks.setdefault(published.read(path.name).network, path.name)
    if len(networks) > 1:
        raise ValueError(
            f'src: {" and ".join(networks.values())} are of different networks and would all go '
            f'into {run}. Give the files of one, or their folder for one run each'
        )


def apart(sources):
    """Refuse two files of one run that are the same moment and EMA length."""
    seen = {}
    for s in sources:
        other = seen.setdefault((s.nimg, s.std), s)
        if other is not s:
            raise ValueError(
                f'src: {other.file.name} and {s.file.name} are both nimg {s.nimg}, std {s.std:g}'
            )


def import_file(source, settings, bar):
    """Import one file into its run, unless it is there; the row that tells of it."""
    with buckets.on_disk(source.file) as local:
        try:
            sha256 = digest(local, bar)
            state, facts = conversion.read(local)
            source = settled(source, facts)
            network = conversion.convert(state, facts, settings)
        except (ValueError, RecursionError) as error:  # lists in lists in lists
            where = str(source.file)
            text = str(error).replace(local, where)
            raise ValueError(text if where in text else f'{where}: {text}') from error
        fresh = claim(source, network, sha256)
        if fresh:
            lead = jax.tree.map(lambda leaf: leaf[None], network.variables['params'])
            buffers = network.variables['buffers']
            snapshots.save(source.run, source.nimg, [source.std], lead, buffers, network.dtype)
    bar.update(source.size)
    return {
        'run': str(source.run),
        'file': source.file.name,
        'nimg': source.nimg,
        'std': source.std,
        'parameters': sum(leaf.size for leaf in jax.tree.leaves(network.variables['params'])),
        'dtype': network.dtype,
        'latents': network.latents['name'],
        'imported': 'now' if fresh else 'before',
    }


def digest(local, bar):
    """sha256 of a file, in hex, telling the bar."""
    found = hashlib.sha256()
    with open(local, 'rb') as file:
        while block := file.read(64 * files.BLOCK):
            found.update(block)
            bar.update(len(block))
    return found.hexdigest()


def settled(source, facts):
    """The Source with nimg and std, from the header of the file if nothing else says them."""
    found = {}
    for name, kinds in (('nimg', [int]), ('std', [int, float])):
        found[name] = value = getattr(source, name) or facts.get(name, 0)
        if value == 0:
            raise ValueError(
                f'neither the name of {source.file} nor its header says {name}: give '
                f'--config.{name}=…, or a public name such as edm2-img512-s-2147483-0.070.pkl'
            )
        if type(value) not in kinds or not 0 < value < edm2.MANY:
            raise ValueError(f'{name} ({value!r:.80}) must be {kinds[-1].__name__}, above 0')
    ema.std_to_gamma(found['std'])
    return dataclasses.replace(source, nimg=found['nimg'], std=float(found['std']))


def claim(source, network, sha256):
    """Write config.json with the file in it, or check that it is of this network.

    Returns whether the snapshot is still missing. Errors: ValueError naming the first difference.
    """
    facts = {'name': source.file.name, 'sha256': sha256}
    entry = {**facts, 'nimg': source.nimg, 'std': source.std}
    if 'fit_error' in network.facts:  # no EMA of training, but a reconstruction
        entry['fit_error'] = network.facts['fit_error']
    tree = {part: getattr(network, part) for part in COMPARED}
    tree = {'provenance': provenance.describe(), **tree}
    tree['imported'] = {**network.facts, 'files': [entry]}
    tree, file = files.plain(tree), source.run / 'config.json'
    snapshots.build_denoiser(tree)
    if not file.exists():
        files.write_json(file, tree)
        return True
    old = files.read_json(file)
    if 'imported' not in old:
        raise ValueError(f'{source.run} holds a run that was not imported. Give another --workdir')
    known = old['imported']['files']
    same = [e for e in known if e['nimg'] == entry['nimg'] and e['std'] == entry['std']]
    there, here = ({part: t[part] for part in COMPARED} for t in (old, tree))
    different = config.differences(there, here)
    wrong = next((f'{name}: {a!r} there, {b!r} here' for name, a, b in different), None)
    wrong = wrong or buffers_differ(source.run, network.variables['buffers'])
    stored = {(s.nimg, s.std): s.sha256 for s in snapshots.list_snapshots(source.run)}
    found = stored.get((source.nimg, source.std))
    # Another container, or compression, may hold the same arrays.
    other = bool(same) and same[0]['sha256'] != sha256 and found != content_of(network)
    if not wrong and other:
        wrong = f'nimg {entry["nimg"]}, std {entry["std"]:g} came from {same[0]["name"]}'
    if wrong:
        raise ValueError(
            f'{source.run} holds another network than {source.file}: {wrong}. Give another '
            '--workdir, or the settings of the first import'
        )
    if not same:
        old['imported']['files'].append(entry)
        files.write_json(file, old)
    return found is None


def content_of(network):
    """The hash that the snapshot of a Converted network has in the index."""
    weights = archive.flatten(network.variables['params'], 'params/')
    weights = {name: leaf.astype(network.dtype) for name, leaf in weights.items()}
    frozen = archive.flatten(network.variables['buffers'], 'buffers/')
    return archive.content_hash({**weights, **frozen})


def buffers_differ(run, buffers):
    """Name the first frozen array that the run's snapshots have otherwise, '' if none.

    They are drawn at the start of training: another network of the same shape has others.
    """
    stored = snapshots.list_snapshots(run)
    if not stored:
        return ''
    ours = archive.flatten(buffers, 'buffers/')
    with files.open_npz(files.path(run) / 'snapshots' / stored[0].file) as arrays:
        for name, value in ours.items():
            if name not in arrays or not np.array_equal(arrays[name], value):
                return f'{name} has other values'
    return ''
