"""Which EMA lengths the snapshots of a run can give, how exactly, and what to ask for instead.

Policy. Predicted profile errors above 1 % and rounding noise above 0.5 % are a warning; above
max_fit_error, 10 % unless set, the network is refused and what is reachable is said. Sixteen
snapshots with stds 0.05 and 0.10 reach 0.022 … 0.25 in this way, 0.042 … 0.15 without a warning.
"""

import dataclasses
import functools

import numpy as np

from autoguide_jax import ema, files
from autoguide_jax.snapshots import archive

# Relative rms error of rounding one weight to the stored dtype, measured; 2¹³ apart.
ROUNDING = {'float32': 2.6e-8, 'float16': 2.1e-4}
WARN_FIT_ERROR, WARN_ROUNDING, MAX_FIT_ERROR = 0.01, 0.005, 0.10
# What one would type: two digits below 0.01, three decimals above, up to ema.MAX_STD.
TYPED = np.concatenate([np.arange(10, 100) / 1e4, np.arange(10, 289) / 1e3])


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


class Refused(ValueError):
    """Networks that cannot be had: faults of each, and advice that several may have in common."""

    def __init__(self, faults, advice=()):
        self.faults, self.advice = tuple(faults), tuple(advice)
        super().__init__('. '.join(['; '.join(self.faults), *self.advice]))


def refuse_all(errors) -> None:
    """Raise one Refused with what all these ValueErrors say, each thing once; none: return."""
    parts = [e if isinstance(e, Refused) else Refused([str(e)]) for e in errors]
    if parts:
        faults = dict.fromkeys(fault for part in parts for fault in part.faults)
        advice = dict.fromkeys(text for part in parts for text in part.advice)
        raise Refused(faults, advice) from errors[0]


def assess(
    run_dir, std: float, nimg: int | None = None, max_fit_error=MAX_FIT_ERROR, among=None
) -> Report:
    """Return the Report of a network of EMA length std at nimg (None: the latest snapshot).

    Reads the index alone; among: the run's list_snapshots, where that is known. Errors: ValueError
    for a nimg without snapshot, a std outside (0, 0.2887], or one that the snapshots cannot give
    within max_fit_error; of a single snapshot there is no other length than its own. The nearest
    that can be had are named.
    """
    snapshots = archive.list_snapshots(run_dir) if among is None else among
    nimg = _moment(run_dir, snapshots, nimg)
    used = tuple(s for s in snapshots if s.nimg <= nimg)
    for s in used:
        if archive.same((s.nimg, s.std), (nimg, std)):
            return Report(nimg, s.std, 0.0, 1.0, ROUNDING[s.dtype], (s,), (1.0,))
    if len(used) == 1:
        raise ValueError(
            f'{run_dir}: EMA std {std:g} at nimg {nimg} cannot be made of one snapshot, of std '
            f'{used[0].std:g}. Ask for that, or add snapshots'
        )
    try:
        ema.std_to_gamma(std)
        x, fit_error, gain = _solve(_profiles(used), nimg, float(std))
    except ValueError as error:
        near = _nearest_text(used, nimg, std, max_fit_error)
        raise Refused([f'{run_dir}: {error} {near}']) from error
    rounding = float(np.linalg.norm(np.multiply(x, [ROUNDING[s.dtype] for s in used])))
    report = Report(nimg, float(std), fit_error, gain, rounding, used, x)
    text = _judge(run_dir, report)
    if max(fit_error, rounding) > max_fit_error:
        near = _nearest_text(used, nimg, std, max_fit_error)
        raise Refused([f'{text} {near}'], _advice(report, max_fit_error))
    return dataclasses.replace(report, warning=text)


def assess_many(run_dir, targets, max_fit_error=MAX_FIT_ERROR) -> list[Report]:
    """Return the Reports of targets [(std, nimg)]; the index is read once.

    Errors: one ValueError with the faults of all of them; as assess, which see.
    """
    snapshots = archive.list_snapshots(run_dir)
    reports, errors = [], []
    for std, nimg in targets:
        try:
            reports.append(assess(run_dir, std, nimg, max_fit_error, snapshots))
        except ValueError as error:
            errors.append(error)
    refuse_all(errors)
    return reports


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


def _profiles(used):
    return tuple(s.nimg for s in used), tuple(s.std for s in used)


@functools.lru_cache(maxsize=1024)
def _solve(profiles, nimg, std):
    """Return (coefficients, fit error, noise gain); one target at a time, for the same digits."""
    x = ema.posthoc_coefficients(*profiles, nimg, std)[:, 0]
    fit_error, gain = (float(v[0]) for v in ema.profile_error(*profiles, nimg, std))
    return tuple(x.tolist()), fit_error, gain


def nearest(used, nimg: int, std: float, max_fit_error=MAX_FIT_ERROR) -> list[float]:
    """Return the reachable EMA lengths next to std, below and above, as one would type them.

    used: the Snapshots up to nimg, some of them at nimg. At least one number, at most two.
    """
    found = [s.std for s in used if s.nimg == nimg]
    if len(used) > 1:
        profiles = _profiles(used)
        try:
            x = ema.posthoc_coefficients(*profiles, nimg, TYPED)
            fit_error, _ = ema.profile_error(*profiles, nimg, TYPED)
        except ValueError:  # too alike to solve for: there are only the tracked ones
            return _neighbours(found, std)
        rounding = np.linalg.norm(x * np.array([[ROUNDING[s.dtype]] for s in used]), axis=0)
        found += TYPED[np.maximum(fit_error, rounding) <= max_fit_error].tolist()
    return _neighbours(found, std)


def _neighbours(found, std):
    below, above = [v for v in found if v < std], [v for v in found if v > std]
    return sorted(below)[-1:] + sorted(above)[:1]


def _nearest_text(used, nimg, std, limit):
    return f'(the nearest reachable: {" and ".join(map(repr, nearest(used, nimg, std, limit)))})'


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


def _advice(report, limit):
    ranges = ema.reachable(*_profiles(report.sources), report.nimg, limit)
    spans = ', '.join(f'{low:.3g} to {high:.3g}' for low, high in ranges)
    return (
        f'The limit is {limit:.0%} (max_fit_error); within it at nimg {report.nimg}: '
        f'{spans or "only the tracked stds"}',
        'Save snapshots more often (train.snapshot_nimg), or track a third std near those missed',
    )
