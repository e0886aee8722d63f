"""Reference statistics that other programs published, read as data: nothing in them is executed.

    EDM2    pickle of dicts: {'fid': {'mu', 'sigma'}, 'fd_dinov2': {'mu', 'sigma'}, 'num_images'}
    EDM     npz of mu and sigma
    ADM     npz of mu, sigma, mu_s, sigma_s (spatial features) and arr_0, some of the real images

Formats are told apart by content. None says which data set it is of, at which resolution, and by
which weights of the detector: every one carries a warning that says so.
"""

import dataclasses
import errno
import zipfile
from typing import Any

import numpy as np

from autoguide_jax import files, npy
from autoguide_jax.inert import arrays as inert
from autoguide_jax.inert.machine import Machine
from autoguide_jax.inert.records import Blob, Name, require
from autoguide_jax.metrics.frechet import gaussian

# What EDM2's files call the features of an extractor.
DETECTORS = {'fid': 'inception', 'fd_dinov2': 'dinov2'}
# Whose features they are, if they are as many.
DIMENSIONS = {2048: 'inception', 1024: 'dinov2'}
MOMENTS = (('mu', 'sigma'), ('mu_s', 'sigma_s'))
IMAGES = 'arr_0'
# A header, and a float64 covariance of 8192 dimensions.
MAX_BYTES = 8192**2 * 8 + 1024
# A covariance of rounded sums may be off its transpose by this much of its largest entry.
ASYMMETRY = 1e-4
UNKNOWN = 'the data set, its resolution and the weights of the detector'
CANNOT = 'are not recorded and cannot be checked; only the Fréchet distance can use it'


@dataclasses.dataclass(frozen=True, eq=False)
class Foreign:
    """Statistics in a foreign file.

    spaces: extractor ('' = not recorded) → mu, sigma, mu_s, sigma_s float64; count: images behind
    them, None = not recorded; warning: what is not recorded; images: the npz that has some of the
    real images, None = it has none.
    """

    label: str
    spaces: dict[str, dict[str, np.ndarray]]
    count: int | None
    warning: str
    images: Any = None

    @property
    def extractors(self) -> list[str]:
        """Names of the extractors whose features it has, by what they are called or how many."""
        dimensions = lambda name: self.spaces[name]['mu'].size
        return [name or DIMENSIONS.get(dimensions(name), '') for name in self.spaces]

    def of(self, extractor: str | None) -> tuple[str, dict[str, np.ndarray]]:
        """Return (recorded name or '', arrays) for an extractor, None = the first one there.

        Errors: ValueError that names what the file holds.
        """
        name = next(iter(self.spaces)) if extractor is None else extractor
        for candidate in (name, ''):
            if candidate in self.spaces:
                return candidate, self.spaces[candidate]
        held = ', '.join(f'{k} ({v["mu"].size} dimensions)' for k, v in self.spaces.items())
        raise ValueError(
            f'{self.label} holds statistics of the features of {held}, none of {name!r}. Compare '
            'in those features, or build a reference for these with the verb stats'
        )


def read(p: Any) -> Foreign:
    """Return the statistics in a foreign file, local or gs://.

    Errors: FileNotFoundError; ValueError naming the file for other formats, damaged files, code,
    and statistics that are none: not finite, not symmetric, of shapes that do not fit.
    """
    with files.path(p).open('rb') as file:
        start = file.read(4)
    if start.startswith(b'PK'):
        return _read_npz(p)
    if start.startswith(b'\x80'):
        return _read_pickle(p)
    raise ValueError(f'{p} is no file of reference statistics: neither npz nor pickle')


def _read_pickle(p):
    data = files.read_bytes(p)
    world = inert.wide_world(len(data))
    # Plain dicts are what is published; their two usual subclasses are read as such.
    for name in (
        Name('dnnlib.util.EasyDict', new=dict),
        Name('collections.OrderedDict', call=_empty),
    ):
        world[name.name] = name
    # Protocol 2 has arrays as text; it is no longer than the file.
    machine = Machine(Blob(memoryview(data), 0), world, str(p), max_text=len(data))
    root = machine.load()
    if machine.at != len(data):
        raise ValueError(f'{p}: {len(data) - machine.at} bytes after the end of the pickle')
    if type(root) is not dict:
        raise ValueError(f'{p} holds a {type(root).__name__}, no dict of statistics')
    spaces = {}
    for key, name in DETECTORS.items():
        if key in root:
            value = root[key]
            if type(value) is not dict:
                raise ValueError(f'{p}: {key!r} is no dict of mu and sigma')
            found = {k: v.value if type(v) is inert.Array else v for k, v in value.items()}
            spaces[name] = _checked(found, f'{p}: {key!r}')
    if not spaces:
        held = ', '.join(map(repr, list(root)[:8]))
        raise ValueError(f'{p} holds {held[:200] or "nothing"}; {" or ".join(DETECTORS)} is needed')
    count = root.get('num_images')
    if count is not None and (type(count) is not int or count < 2):
        raise ValueError(f'{p}: num_images must be a whole number of at least 2')
    unknown = UNKNOWN if count else f'the number of images, {UNKNOWN}'
    return Foreign(str(p), spaces, count, f"EDM2's pickle without a header: {unknown} {CANNOT}")


def _empty(arguments):
    require(not arguments, 'an OrderedDict that is made of something')
    return {}


def _read_npz(p):
    try:
        with files.path(p).open('rb') as file, zipfile.ZipFile(file) as archive:
            names = [pair for moments in MOMENTS for pair in moments]
            members = {info.filename: info for info in archive.infolist()}
            there = [name for name in names if f'{name}.npy' in members]
            found = {n: _member(archive, members[f'{n}.npy'], n) for n in there}
    except files.BROKEN as error:
        raise ValueError(f'{p} is damaged, or no npz: {error}') from error
    except ValueError as error:
        raise ValueError(f'{p}: {error}') from error
    except OSError as error:
        # A place before the start of the file, to which no stream can go.
        if error.errno != errno.EINVAL:
            raise
        raise ValueError(f'{p} is damaged, or no npz: {error}') from error
    space = _checked(found, str(p))
    adm = f'{IMAGES}.npy' in members
    name = 'inception' if 'mu_s' in space else ''
    warning = f'plain npz without a header: the number of images, {UNKNOWN} '
    if not name:
        warning = warning.replace('weights of the detector', 'extractor with its weights')
    if adm:
        warning += (
            'are not recorded and cannot be checked; metrics that compare single images have '
            'those of the real images that are in the file, not all of them'
        )
    else:
        warning += CANNOT
    return Foreign(str(p), {name: space}, None, warning, p if adm else None)


def _member(archive, info, name):
    """One array of an npz whose size is what its shape says: nothing is allotted on its word."""
    if info.file_size > MAX_BYTES:
        raise ValueError(f'{name} has {info.file_size} bytes, more than any covariance')
    with archive.open(info) as stream:
        npy.check_claims(stream, name, info.file_size)
    with archive.open(info) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _checked(found, label):
    """The moments among some values as float64. Errors: ValueError for what is no Gaussian."""
    if 'mu' not in found or 'sigma' not in found:
        raise ValueError(f'{label} holds no mu and sigma: not reference statistics')
    checked = {}
    for mean, covariance in MOMENTS:
        pair = [name for name in (mean, covariance) if name in found]
        if len(pair) == 1:
            raise ValueError(f'{label} holds {pair[0]} without its other half')
        if pair:
            values = [_floats(found[name], f'{label}: {name}') for name in pair]
            try:
                mu, sigma = gaussian(*values, (mean, covariance), ASYMMETRY)
            except ValueError as error:
                raise ValueError(f'{label}: {error}') from None
            if (np.diag(sigma) < 0).any():
                raise ValueError(f'{label}: {covariance}: a variance is negative')
            checked |= {mean: mu, covariance: sigma}
    return checked


def _floats(value, label):
    if not isinstance(value, np.ndarray) or value.dtype.kind != 'f':
        what = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f'{label} is {what}, no array of numbers with a fraction')
    return np.array(value, np.float64)
