"""Any EMA length from the snapshots of a run (equations in autoguide_jax/ema.py), many at once.

    RUN/posthoc/index.jsonl   reconstructions, each with the hash of the snapshots it was made from

A sum reads every snapshot up to its moment, so sixteen lengths read one after the other read the
run sixteen times. Here targets that fit in memory together are one reading: each file is opened
once for all that use it. The numbers are those of one at a time, bit for bit: same coefficients,
same order, float64.
"""

import dataclasses
import warnings

from autoguide_jax import files, stop
from autoguide_jax.snapshots import archive
from autoguide_jax.snapshots.assessment import MAX_FIT_ERROR, Report, assess, assess_many
from autoguide_jax.snapshots.reading import Sizes, Term, files_of, groups_of, read_together


@dataclasses.dataclass(frozen=True)
class ReadingPlan:
    """What it takes to read networks of one run.

    groups: Reports of the targets, those of one reading together, in the order they were given.
    opens: files opened, in all readings. read_bytes: their bytes. peak_bytes: host memory of the
    largest group while it is read. Bytes are exact where all snapshots of a dtype are equally long.
    """

    groups: tuple[tuple[Report, ...], ...]
    opens: int
    read_bytes: int
    peak_bytes: int

    @property
    def readings(self) -> int:
        """How often the snapshots are read."""
        return len(self.groups)


def reading_plan(
    run_dir, targets, max_bytes: int | None = None, max_fit_error=MAX_FIT_ERROR
) -> ReadingPlan:
    """Return what reconstruct_many will read for targets [(std, nimg or None)]; reads no weights.

    max_bytes: as there. Errors: as reconstruct_many.
    """
    return _plan(run_dir, assess_many(run_dir, targets, max_fit_error), max_bytes)


def _plan(run_dir, reports, max_bytes):
    run, sizes = files.path(run_dir), Sizes(files.path(run_dir))
    groups = groups_of(_terms(run, reports), sizes, max_bytes)
    opened = [[term for term, _ in files_of(group)] for group in groups]
    rest = iter(reports)
    return ReadingPlan(
        groups=tuple(tuple(next(rest) for _ in group) for group in groups),
        opens=sum(map(len, opened)),
        read_bytes=sum(sizes.file(term) for terms in opened for term in terms),
        peak_bytes=max((sum(map(sizes.summed, group)) for group in groups), default=0),
    )


def held_bytes(run_dir) -> int:
    """Return the bytes of any one network of a run on the host, float32, from a file's size.

    Errors: ValueError if there are no snapshots.
    """
    found = archive.list_snapshots(run_dir)
    if not found:
        raise ValueError(f'{run_dir}: no snapshots (no rows in snapshots/index.jsonl)')
    [terms] = _terms(files.path(run_dir), [assess(run_dir, found[-1].std, among=found)])
    return Sizes(files.path(run_dir)).held(terms)


def reconstruct(
    run_dir, std: float, nimg: int | None = None, max_fit_error=MAX_FIT_ERROR
) -> tuple[dict, Report]:
    """Return (params, Report) of EMA length std at nimg: nested dict of float32 numpy arrays.

    A tracked EMA is read as it is; any other is the sum of all snapshots up to nimg in float64.
    Host memory: two models and a leaf. Warns and refuses as the head of assessment.py says.
    """
    [(leaves, report)] = read_many(run_dir, [(std, nimg)], None, max_fit_error)
    return archive.unflatten(leaves)['params'], report


def reconstruct_many(run_dir, targets, max_bytes: int | None = None, max_fit_error=MAX_FIT_ERROR):
    """Yield (params, Report) of every target (std, nimg or None), in order, as reconstruct does.

    max_bytes: host memory of the sums of one reading, twice that of the networks themselves (once
    for tracked ones); targets that do not fit together are further readings, each of its own
    files alone. None = one reading. Errors: one ValueError with all that is wrong with any target,
    at the call, before any weight is read.
    """
    found = read_many(run_dir, targets, max_bytes, max_fit_error)
    return ((archive.unflatten(leaves)['params'], report) for leaves, report in found)


def read_many(run_dir, targets, max_bytes=None, max_fit_error=MAX_FIT_ERROR):
    """Yield ({'params/…': float32, 'buffers/…': …}, Report); as reconstruct_many, which see."""
    reports = assess_many(run_dir, targets, max_fit_error)
    for report in reports:
        if report.warning:
            warnings.warn(report.warning, stacklevel=3)
    return _read(run_dir, reports, max_bytes)


def _read(run_dir, reports, max_bytes):
    """Yield (leaves, Report) of every Report, in order."""
    run, rest = files.path(run_dir), iter(reports)
    groups = groups_of(_terms(run, reports), Sizes(run), max_bytes)
    for i, group in enumerate(groups):
        label = f'{run} (reading {i + 1} of {len(groups)})' if len(groups) > 1 else str(run)
        for leaves in read_together(run, group, label):
            yield leaves, next(rest)


def _terms(run, reports):
    """Return the Terms of each Report: of its stored reconstruction, or of its snapshots."""
    stored = _stored(run)
    targets = []
    for r in reports:
        if file := stored.get(r.sources_hash):
            targets.append([Term(r.nimg, r.std, file, 'float32', 1.0)])
        else:
            pairs = zip(r.sources, r.coefficients)
            targets.append(
                [Term(s.nimg, s.std, f'snapshots/{s.file}', s.dtype, c) for s, c in pairs]
            )
    return targets


def _stored(run):
    """Return sources_hash → file of the reconstructions in RUN/posthoc; the latest of each."""
    rows = files.read_jsonl(run / 'posthoc' / 'index.jsonl')
    return {row['sources']: f'posthoc/{row["file"]}' for row in rows}


def save_reconstruction(run_dir, std: float, nimg: int | None = None, max_fit_error=MAX_FIT_ERROR):
    """Store a reconstruction in RUN/posthoc, for load_network to use; return (path, Report).

    As save_reconstructions.
    """
    return save_reconstructions(run_dir, [(std, nimg)], None, max_fit_error)[0]


def save_reconstructions(
    run_dir, targets, max_bytes: int | None = None, max_fit_error=MAX_FIT_ERROR
) -> list[tuple]:
    """Store reconstructions of targets [(std, nimg)] in RUN/posthoc; return [(path, Report)].

    A tracked EMA is not stored again: its snapshot's path is returned. Nor is one that was stored
    and whose snapshots are still the same. max_bytes: as reconstruct_many; what one reading gave is
    stored before the next, so an interrupted call goes on from there.
    """
    run = files.path(run_dir)
    reports = assess_many(run_dir, targets, max_fit_error)
    stored = _stored(run)
    todo = {r.sources_hash: r for r in reports if not r.tracked and r.sources_hash not in stored}
    for report in todo.values():
        if report.warning:
            warnings.warn(report.warning, stacklevel=2)
    for done, (leaves, report) in enumerate(_read(run_dir, list(todo.values()), max_bytes)):
        stop.check('reconstructing', saved=f'{done} EMA lengths in {run}/posthoc')
        facts = {'nimg': report.nimg, 'std': report.std, 'dtype': 'float32'}
        facts |= {'sources': report.sources_hash, 'fit_error': report.fit_error}
        facts |= {'noise_gain': report.noise_gain}
        archive.write_arrays(run / 'posthoc', facts, leaves.items())
    stored = _stored(run)
    place = lambda r: f'snapshots/{r.sources[0].file}' if r.tracked else stored[r.sources_hash]
    return [(run / place(report), report) for report in reports]
