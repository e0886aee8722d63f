"""Any EMA length from the snapshots of a run (equations in autoguide_jax/ema.py), with its errors.

    RUN/posthoc/index.jsonl   reconstructions, each with the hash of the snapshots it was made from

Policy. Predicted profile errors above 1 % and rounding noise above 0.5 % are a warning; above
max_fit_error, 10 % unless set, the network is refused and what is reachable is said. Sixteen
snapshots with stds 0.05 and 0.10 reach 0.022 … 0.25 in this way, 0.042 … 0.15 without a warning.
"""

import dataclasses
import warnings

import numpy as np

from autoguide_jax import ema, files
from autoguide_jax.snapshots import archive

# Relative rms error of rounding one weight to the stored dtype, measured; 2¹³ apart.
ROUNDING = {'float32': 2.6e-8, 'float16': 2.1e-4}
WARN_FIT_ERROR, WARN_ROUNDING, MAX_FIT_ERROR = 0.01, 0.005, 0.10
# Smaller coefficients change less than float32 rounding does: their files are not even read.
NEGLIGIBLE = 1e-10


@dataclasses.dataclass(frozen=True)
class Report:
    """How well a network of EMA length std stands for the one that tracking would have given.

    fit_error: relative L2 error of the EMA profile; 0 if tracked. noise_gain: ‖coefficients‖₂.
    rounding_noise: predicted relative weight noise from the dtype of the snapshots.
    sources, coefficients: the snapshots and the weight of each. warning: '' or what to mind.
    """

    nimg: int
    std: float
    fit_error: float
    noise_gain: float
    rounding_noise: float
    sources: tuple[archive.Snapshot, ...]
    coefficients: tuple[float, ...]
    warning: str = ''

    @property
    def tracked(self) -> bool:
        """True if this very EMA was tracked in training and is read as it is."""
        return archive.same((self.sources[-1].nimg, self.sources[-1].std), (self.nimg, self.std))

    @property
    def sources_hash(self) -> str:
        """Identify the target and the contents it is made from."""
        contents = [[s.nimg, s.std, s.sha256] for s in self.sources]
        return files.content_hash([self.nimg, self.std, contents])


def _moment(run_dir, snapshots, nimg):
    """Return the nimg meant: the latest if None, otherwise one that there is."""
    known = sorted({s.nimg for s in snapshots})
    if not known:
        raise ValueError(f'{run_dir}: no snapshots (no rows in snapshots/index.jsonl)')
    if nimg is None:
        return known[-1]
    if nimg not in known:
        near = sorted(sorted(known, key=lambda k: abs(k - nimg))[:2])
        raise ValueError(
            f'{run_dir}: no snapshot at nimg {nimg}; the nearest: {", ".join(map(str, near))}'
        )
    return int(nimg)


def assess(run_dir, std: float, nimg: int | None = None, max_fit_error=MAX_FIT_ERROR) -> Report:
    """Return the Report of a network of EMA length std at nimg (None: the latest snapshot).

    Reads the index alone. Errors: ValueError for a nimg without snapshot, a std outside
    (0, 0.2887], or one that the snapshots cannot give within max_fit_error; of a single snapshot
    there is no other length than its own.
    """
    ema.std_to_gamma(std)
    snapshots = archive.list_snapshots(run_dir)
    nimg = _moment(run_dir, snapshots, nimg)
    for s in snapshots:
        if archive.same((s.nimg, s.std), (nimg, std)):
            return Report(nimg, s.std, 0.0, 1.0, ROUNDING[s.dtype], (s,), (1.0,))
    used = tuple(s for s in snapshots if s.nimg <= nimg)
    if len(used) == 1:
        raise ValueError(
            f'{run_dir}: EMA std {std:g} at nimg {nimg} cannot be made of one snapshot, of std '
            f'{used[0].std:g}. Ask for that, or add snapshots'
        )
    profiles = [s.nimg for s in used], [s.std for s in used]
    x = ema.posthoc_coefficients(*profiles, nimg, std)[:, 0]
    fit_error, gain = (float(v[0]) for v in ema.profile_error(*profiles, nimg, std))
    rounding = float(np.linalg.norm(x * [ROUNDING[s.dtype] for s in used]))
    report = Report(nimg, float(std), fit_error, gain, rounding, used, tuple(x.tolist()))
    text = _judge(run_dir, report)
    if max(fit_error, rounding) > max_fit_error:
        raise ValueError(f'{text}. {_advice(report, profiles, max_fit_error)}')
    return dataclasses.replace(report, warning=text)


def _judge(run_dir, report):
    """Return what is wrong with a reconstruction, '' if nothing is worth saying."""
    faults = []
    if report.fit_error > WARN_FIT_ERROR:
        faults.append(f'EMA profile {report.fit_error:.1%} off')
    if report.rounding_noise > WARN_ROUNDING:
        faults.append(f'{report.rounding_noise:.1%} weight noise from the dtype of the snapshots')
    if not faults:
        return ''
    stds = sorted({s.std for s in report.sources})
    return (
        f'{run_dir}: EMA std {report.std:g} at nimg {report.nimg} from {len(report.sources)} '
        f'snapshots (tracked stds {", ".join(f"{s:g}" for s in stds)}): {" and ".join(faults)}'
    )


def _advice(report, profiles, limit):
    ranges = ema.reachable(*profiles, report.nimg, limit)
    spans = ', '.join(f'{low:.3g} to {high:.3g}' for low, high in ranges)
    return (
        f'The limit is {limit:.0%} (max_fit_error); within it: '
        f'{spans or "only the tracked stds"}. Save snapshots more often (train.snapshot_nimg), or '
        f'track a third std near {report.std:g}'
    )


def reconstruct(
    run_dir, std: float, nimg: int | None = None, max_fit_error=MAX_FIT_ERROR
) -> tuple[dict, Report]:
    """Return (params, Report) of EMA length std at nimg: nested dict of float32 numpy arrays.

    A tracked EMA is read as it is; any other is the sum of all snapshots up to nimg in float64.
    Host memory: two models and a leaf. Warns and refuses as the head of this file says.
    """
    leaves, report = read(run_dir, std, nimg, max_fit_error)
    return archive.unflatten(leaves)['params'], report


def read(run_dir, std, nimg=None, max_fit_error=MAX_FIT_ERROR) -> tuple[dict, Report]:
    """Return ({'params/…': float32, 'buffers/…': …}, Report); as reconstruct, which see."""
    report = assess(run_dir, std, nimg, max_fit_error)
    if report.warning:
        warnings.warn(report.warning, stacklevel=3)
    if (done := _saved(run_dir, report)) is not None:
        return _sum([done], [1.0]), report
    folder = files.path(run_dir) / 'snapshots'
    return _sum([folder / s.file for s in report.sources], report.coefficients), report


def _sum(paths, coefficients):
    """Return Σ coefficient·file, leaf by leaf in float64, rounded once to float32."""
    if list(coefficients) == [1.0]:
        with files.open_npz(paths[0]) as arrays:
            return {n: _as_stored(n, arrays[n]) for n in arrays}
    total = {}
    for path, c in zip(paths, coefficients):
        if abs(c) < NEGLIGIBLE:
            continue
        with files.open_npz(path) as arrays:
            names = [n for n in arrays if n.startswith('params/')]
            if total and names != list(total):
                raise ValueError(f'{path}: other weights than in the snapshots before it')
            for name in names:
                leaf = arrays[name]
                if name not in total:
                    total[name] = np.zeros(leaf.shape)
                if total[name].shape != leaf.shape:
                    raise ValueError(f'{path}: {name} has another shape than before, {leaf.shape}')
                _add(total[name], leaf, c)
    for name in total:
        total[name] = total[name].astype(np.float32)
    with files.open_npz(paths[-1]) as arrays:
        return total | {n: arrays[n] for n in arrays if n.startswith('buffers/')}


def _as_stored(name, array):
    return array.astype(np.float32, copy=False) if name.startswith('params/') else array


def _add(total, leaf, c, block=1 << 17):
    """total += c·leaf in float64, without a float64 copy of the leaf."""
    total, leaf = total.reshape(-1), leaf.reshape(-1)
    for i in range(0, leaf.size, block):
        total[i : i + block] += np.multiply(leaf[i : i + block], c, dtype=np.float64)


def _saved(run_dir, report):
    """Return the file of a reconstruction made from the very same snapshots, or None."""
    folder = files.path(run_dir) / 'posthoc'
    rows = files.read_jsonl(folder / 'index.jsonl')
    found = [r['file'] for r in rows if r['sources'] == report.sources_hash]
    return folder / found[-1] if found else None


def save_reconstruction(run_dir, std: float, nimg: int | None = None, max_fit_error=MAX_FIT_ERROR):
    """Store a reconstruction in RUN/posthoc, for load_network to use; return (path, Report).

    A tracked EMA is not stored again: its snapshot's path is returned. Nor is one that was stored
    and whose snapshots are still the same.
    """
    report = assess(run_dir, std, nimg, max_fit_error)
    if report.tracked:
        return files.path(run_dir) / 'snapshots' / report.sources[0].file, report
    if _saved(run_dir, report) is None:
        leaves, report = read(run_dir, std, report.nimg, max_fit_error)
        facts = {'nimg': report.nimg, 'std': report.std, 'dtype': 'float32'}
        facts |= {'sources': report.sources_hash, 'fit_error': report.fit_error}
        facts |= {'noise_gain': report.noise_gain}
        archive.write_arrays(files.path(run_dir) / 'posthoc', facts, leaves.items())
    return _saved(run_dir, report), report
