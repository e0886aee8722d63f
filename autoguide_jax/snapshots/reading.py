"""Weighted sums of array files: many of them from one reading of each file."""

import collections
import contextlib
import dataclasses

import numpy as np

from autoguide_jax import files, processes, stop
from autoguide_jax.progress import Progress

# Smaller coefficients change less than float32 rounding does: their files are not even read.
NEGLIGIBLE = 1e-10
# Bytes per weight of a file's dtype, of a network on the host, and of a sum while files are read.
STORED, HELD, SUMMED = {'float32': 4, 'float16': 2}, 4, 8


@dataclasses.dataclass(frozen=True, order=True)
class Term:
    """One array file and its coefficient in a sum; files are read in the order of (nimg, std)."""

    nimg: int
    std: float
    file: str
    dtype: str
    coefficient: float


class Sum:
    """Σ coefficient·file, leaf by leaf in float64, rounded once to float32.

    The only file of a sum, with coefficient 1, is kept as it is. Buffers are the last file's.
    Errors: ValueError naming the file if its weights are others than those before it.
    """

    def __init__(self, terms):
        self.as_is = [t.coefficient for t in terms] == [1.0]
        self.last, self.weights, self.buffers = terms[-1].file, {}, {}
        self.names = None

    def open(self, file, names, c):
        """Note the names of a file's arrays; refuse other weights than before."""
        names = [n for n in names if n.startswith('params/')]
        if abs(c) >= NEGLIGIBLE:
            if self.names not in (None, names):
                raise ValueError(f'{file}: other weights than in the snapshots before it')
            self.names = names

    def wants(self, file, name, c):
        """Whether this array of a file enters the sum."""
        if name.startswith('params/'):
            return abs(c) >= NEGLIGIBLE
        return self.as_is or (file == self.last and name.startswith('buffers/'))

    def add(self, file, name, leaf, c):
        """Take one array of a file in."""
        if not name.startswith('params/'):
            self.buffers[name] = leaf
        elif self.as_is:
            self.weights[name] = leaf.astype(np.float32, copy=False)
        else:
            if name not in self.weights:
                self.weights[name] = np.zeros(leaf.shape)
            total = self.weights[name]
            if total.shape != leaf.shape:
                raise ValueError(f'{file}: {name} has another shape than before, {leaf.shape}')
            _add(total, leaf, c)

    def leaves(self):
        """{'params/…': float32, 'buffers/…': …}; the float64 leaves go one by one."""
        for name in self.weights:
            self.weights[name] = self.weights[name].astype(np.float32, copy=False)
        return self.weights | self.buffers


def _add(total, leaf, c, block=1 << 17):
    """total += c·leaf in float64, without a float64 copy of the leaf."""
    total, leaf = total.reshape(-1), leaf.reshape(-1)
    for i in range(0, leaf.size, block):
        total[i : i + block] += np.multiply(leaf[i : i + block], c, dtype=np.float64)


def files_of(targets):
    """[(Term, [(index of a target, coefficient)])] of the files to open for lists of Terms.

    Sorted, so that a target's files come in the same order whatever else is read with them.
    """
    users = collections.defaultdict(list)
    for k, terms in enumerate(targets):
        for term in terms:
            if abs(term.coefficient) >= NEGLIGIBLE or term is terms[-1]:
                one = dataclasses.replace(term, coefficient=0.0)
                users[one].append((k, term.coefficient))
    return sorted(users.items())


def read_together(folder, targets, label):
    """Yield the leaves of each target, a list of Terms, in order; every file is opened once.

    folder: what the files' names are relative to. label: shown with the progress. Host memory:
    `summed_bytes` of all targets, and a leaf. Interrupted cleanly between two files.
    """
    sums = [Sum(terms) for terms in targets]
    todo = files_of(targets)
    bar = Progress(len(todo), 'files', label, delay=10) if processes.is_main() else None
    with bar or contextlib.nullcontext():
        for term, users in todo:
            stop.check(f'reading {label}')
            _read_file(folder / term.file, term.file, [(sums[k], c) for k, c in users])
            if bar:
                bar.update(1)
    while sums:
        yield sums.pop(0).leaves()


def _read_file(path, file, users):
    with files.open_npz(path) as arrays:
        for total, c in users:
            total.open(path, arrays, c)
        for name in arrays:
            takers = [(total, c) for total, c in users if total.wants(file, name, c)]
            if takers:
                leaf = arrays[name]
                for total, c in takers:
                    total.add(path, name, leaf, c)


class Sizes:
    """Bytes of files by dtype, from one file of each: a run's snapshots have the same weights."""

    def __init__(self, folder):
        self.folder, self.known = folder, {}

    def file(self, term):
        """Bytes of a Term's file."""
        if term.dtype not in self.known:
            self.known[term.dtype] = (self.folder / term.file).stat().length
        return self.known[term.dtype]

    def held(self, terms):
        """Bytes of the network of these Terms on the host, float32; up to headers and buffers."""
        return self.file(terms[-1]) * HELD // STORED[terms[-1].dtype]

    def summed(self, terms):
        """Bytes that its sum takes while files are read."""
        return self.held(terms) * (1 if len(terms) == 1 else SUMMED // HELD)


def groups_of(targets, sizes, max_bytes):
    """Split targets, lists of Terms, into runs of neighbours whose sums fit max_bytes together.

    max_bytes: None = no limit. A target that is larger than that alone is a group of its own.
    """
    groups, used = [], 0
    for terms in targets:
        size = 0 if max_bytes is None else sizes.summed(terms)
        if not groups or (max_bytes is not None and used + size > max_bytes):
            groups.append([])
            used = 0
        groups[-1].append(terms)
        used += size
    return groups
