"""The EMA archive of a run: array files and an index of facts.

    RUN/snapshots/index.jsonl   one row per array file: nimg, std, file, dtype, sha256
    RUN/snapshots/*.npz         members params/… and buffers/…; one file per (nimg, std)

Facts come from the index, never from file names; of two rows with the same (nimg, std) the later
one holds. An array file is written before its row and never changed after, so a reader of the index
finds whole files even if the writer was killed. sha256 is that of the stored arrays (names, dtypes,
shapes, values), not of the file.
"""

import collections.abc
import dataclasses
import functools
import hashlib
import math
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from autoguide_jax import ema, files

DTYPES = ('float32', 'float16')


@dataclasses.dataclass(frozen=True, order=True)
class Snapshot:
    """One stored EMA: images seen, EMA std, array file in its folder, dtype, hash of content."""

    nimg: int
    std: float
    file: str
    dtype: str
    sha256: str


def list_snapshots(run_dir, folder: str = 'snapshots') -> list[Snapshot]:
    """Return the snapshots of a run, sorted by (nimg, std); [] if there are none.

    Errors: ValueError naming the index if a row lacks a fact.
    """
    index = files.path(run_dir) / folder / 'index.jsonl'
    latest = {}
    for row in files.read_jsonl(index):
        try:
            found = Snapshot(**{f.name: row[f.name] for f in dataclasses.fields(Snapshot)})
        except KeyError as error:
            raise ValueError(f'{index}: a row has no {error}: {row}') from error
        latest[found.nimg, found.std] = found
    return sorted(latest.values())


def flatten(tree: Any, prefix: str = '') -> dict[str, Any]:
    """Return a nested dict as name → leaf, names joined by '/', sorted.

    Errors: ValueError for a node that is not a dict, or a key that holds '/'.
    """
    leaves = {}
    for key in sorted(tree):
        if not isinstance(key, str) or '/' in key:
            raise ValueError(f'{prefix}{key!r}: names of weights must be strings without "/"')
        if isinstance(tree[key], collections.abc.Mapping):
            leaves |= flatten(tree[key], f'{prefix}{key}/')
        elif isinstance(tree[key], (list, tuple)):
            raise ValueError(f'{prefix}{key}: weights must be a nested dict, not a list')
        else:
            leaves[prefix + key] = tree[key]
    return leaves


def unflatten(leaves: collections.abc.Mapping) -> dict:
    """Return the nested dict that flatten made into leaves."""
    tree = {}
    for name, leaf in leaves.items():
        *folders, last = name.split('/')
        functools.reduce(lambda node, key: node.setdefault(key, {}), folders, tree)[last] = leaf
    return tree


class Digest:
    """sha256 of (name, array) pairs that pass through."""

    def __init__(self):
        self._sha = hashlib.sha256()

    def __call__(self, pairs):
        for name, array in pairs:
            array = np.asarray(array, order='C')
            self._sha.update(f'{name} {array.dtype.str} {array.shape} '.encode())
            self._sha.update(array.reshape(-1).view(np.uint8))
            yield name, array

    def hex(self):
        return self._sha.hexdigest()


def content_hash(leaves: collections.abc.Mapping) -> str:
    """The sha256 that an array file with these leaves, name → array, has in the index."""
    digest = Digest()
    collections.deque(digest(leaves.items()), maxlen=0)
    return digest.hex()


@jax.jit
def _pick(leaf, j):
    return jax.lax.dynamic_index_in_dim(leaf, j, keepdims=False)


def _fetch(leaf) -> np.ndarray:
    """Return an array on the host; one that spans processes is gathered, by all of them."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


def _stored(pairs, dtype):
    """Yield float leaves in the stored dtype; refuse what it cannot hold."""
    for name, leaf in pairs:
        with np.errstate(over='ignore'):
            array = leaf.astype(dtype)
        if not np.array_equal(np.isfinite(array), np.isfinite(leaf)):
            raise ValueError(f"{name}: weights exceed {dtype}; store the snapshots as 'float32'")
        yield name, array


def save(run_dir, nimg: int, stds, ema_tree, buffers, dtype='float32', write=True) -> None:
    """Store the EMAs of one moment: one array file per std, then its row in the index.

    nimg: images seen. stds: [n_std], the leading axis of every leaf of ema_tree. buffers: frozen
    arrays, stored as they are. dtype: of the weights, 'float32' or 'float16'. write: False on all
    processes but one; all of them must call. Saving the same (nimg, std) again replaces it.
    Errors: ValueError for another dtype, nimg ≤ 0, or a leading axis that is not [n_std].
    """
    if dtype not in DTYPES:
        raise ValueError(f'snapshot dtype ({dtype}) must be one of {", ".join(DTYPES)}')
    if nimg <= 0:
        raise ValueError(f'nimg ({nimg}) must be above 0: an EMA of no image does not exist')
    stds = [float(s) for s in stds]
    ema.std_to_gamma(stds)
    leaves = flatten(ema_tree, 'params/')
    for name, leaf in leaves.items():
        if leaf.shape[:1] != (len(stds),):
            raise ValueError(f'{name}: shape {leaf.shape} must start with n_std ({len(stds)})')
    folder = files.path(run_dir) / 'snapshots'
    for j, std in enumerate(stds):
        weights = ((name, _fetch(_pick(leaf, j))) for name, leaf in leaves.items())
        frozen = ((name, _fetch(leaf)) for name, leaf in flatten(buffers, 'buffers/').items())
        pairs = (pair for group in (_stored(weights, dtype), frozen) for pair in group)
        if write:
            write_arrays(folder, {'nimg': int(nimg), 'std': std, 'dtype': dtype}, pairs)
        else:
            collections.deque(pairs, maxlen=0)


def write_arrays(folder, facts: dict, pairs) -> None:
    """Write (name, array) pairs as one file, then its row {**facts, file, sha256} in the index.

    facts: at least nimg, std, dtype. Files that the index no longer names are removed last.
    """
    index = folder / 'index.jsonl'
    key = facts['nimg'], facts['std']
    taken = {r['file'] for r in files.read_jsonl(index) if same((r['nimg'], r['std']), key)}
    stem = f'{key[0]:013d}-{key[1]:.6f}'
    candidates = [f'{stem}.npz', *(f'{stem}.{k}.npz' for k in range(1, len(taken) + 1))]
    name = next(c for c in candidates if c not in taken)
    digest = Digest()
    files.save_npz(folder / name, digest(pairs))
    files.append_jsonl(index, {**facts, 'file': name, 'sha256': digest.hex()})
    for old in taken:
        (folder / old).unlink(missing_ok=True)


def same(a: tuple[int, float], b: tuple[int, float]) -> bool:
    """Tell whether two (nimg, std) are the same EMA; std up to the rounding of its text."""
    return a[0] == b[0] and math.isclose(a[1], b[1], rel_tol=1e-9)
