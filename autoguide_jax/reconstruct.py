"""Make EMA lengths that were not tracked, after training, and say how exact they are.

    python -m autoguide_jax reconstruct --config.run=runs/digits/main --config.stds=0.05,0.06,…,0.10

`sample`, `sweep` and `study` reconstruct what they need by themselves; this verb stores the result
in RUN/posthoc, so that a large model's snapshots are read once, and prints the table of errors.
"""

from dataclasses import dataclass

from autoguide_jax import snapshots, stop
from autoguide_jax.progress import Progress


@dataclass(frozen=True)
class Settings:
    """Which EMA lengths of which run.

    Settings:
      run: run directory
      stds: relative EMA lengths to make
      nimg: images seen; 0 = the latest snapshot
      max_fit_error: refuse a length whose EMA profile is missed by more than this
      store: write the results to RUN/posthoc; false = only print how exact they would be
    """

    run: str
    stds: tuple[float, ...] = (0.05, 0.10, 0.15, 0.20)
    nimg: int = 0
    max_fit_error: float = 0.10
    store: bool = True


def main(settings, workdir=None):
    """Reconstruct and store; returns one row per EMA length."""
    assessed = [
        snapshots.assess(settings.run, std, settings.nimg or None, settings.max_fit_error)
        for std in settings.stds
    ]
    rows = []
    with stop.watch(), Progress(len(assessed), 'EMA', 'reconstruct') as bar:
        for report in assessed:
            stop.check('reconstructing', saved=f'{len(rows)} EMA lengths in {settings.run}/posthoc')
            row = {
                'std': report.std,
                'nimg': report.nimg,
                'snapshots': len(report.sources),
                'fit_error': report.fit_error,
                'noise_gain': report.noise_gain,
            }
            if settings.store:
                path, _ = snapshots.save_reconstruction(
                    settings.run, report.std, report.nimg, settings.max_fit_error
                )
                row['file'] = str(path)
            rows.append(row)
            bar.update(1)
    return rows
