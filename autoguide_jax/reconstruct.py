"""Make EMA lengths that were not tracked, after training, and say how exact they are.

    python -m autoguide_jax reconstruct --config.run=runs/digits/main --config.stds=0.05,0.06,…,0.10

`sample`, `sweep` and `study` reconstruct what they need by themselves; this verb stores the result
in RUN/posthoc, so that a large model's snapshots are read once, and prints the table of errors.
All lengths that fit in max_bytes together are made from one reading of the snapshots.
"""

import sys
from dataclasses import dataclass

from autoguide_jax import snapshots, stop


@dataclass(frozen=True)
class Settings:
    """Which EMA lengths of which run.

    Settings:
      run: run directory
      stds: relative EMA lengths to make
      nimg: images seen; 0 = the latest snapshot
      max_fit_error: refuse a length whose EMA profile is missed by more than this
      max_bytes: host memory for the sums of one reading, 8 bytes per weight and length; lengths
        that do not fit are further readings
      store: write the results to RUN/posthoc; false = only print how exact they would be
    """

    run: str
    stds: tuple[float, ...] = (0.05, 0.10, 0.15, 0.20)
    nimg: int = 0
    max_fit_error: float = 0.10
    max_bytes: int = 2**33
    store: bool = True

    def __post_init__(self):
        if not self.stds or self.max_bytes < 1:
            raise ValueError(
                f'stds ({self.stds}) must name an EMA length, max_bytes ({self.max_bytes}) be ≥ 1'
            )


def main(settings, workdir=None):
    """Reconstruct and store; returns one row per EMA length."""
    s, targets = settings, [(std, settings.nimg or None) for std in settings.stds]
    plan = snapshots.reading_plan(s.run, targets, s.max_bytes, s.max_fit_error)
    rows = [
        {
            'std': report.std,
            'nimg': report.nimg,
            'snapshots': len(report.sources),
            'fit_error': report.fit_error,
            'noise_gain': report.noise_gain,
        }
        for group in plan.groups
        for report in group
    ]
    if not s.store:
        return rows
    print(
        f'{len(rows)} EMA lengths from {plan.readings} reading(s) of the snapshots at most, '
        f'{plan.read_bytes / 1e9:.3g} GB; host memory {plan.peak_bytes / 1e9:.3g} GB',
        file=sys.stderr,
    )
    with stop.watch():
        found = snapshots.save_reconstructions(s.run, targets, s.max_bytes, s.max_fit_error)
    return [{**row, 'file': str(path)} for row, (path, _) in zip(rows, found)]
