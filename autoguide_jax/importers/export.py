"""Write a network of a run under its published names, for other programs.

    python -m autoguide_jax export-network --config.run=runs/pub/s --config.std=0.07 \\
        --config.target=edm2-img512-s-2147483-0.070.safetensors
"""

from dataclasses import dataclass

from autoguide_jax import files, snapshots, state_dicts, stop
from autoguide_jax.importers import conversion
from autoguide_jax.progress import Progress


@dataclass(frozen=True)
class Settings:
    """Which network goes where.

    Settings:
      run: run directory, trained or imported
      std: relative EMA length; one that was not tracked is reconstructed
      target: file to write, .safetensors or .npz; it tells all settings of the network
      nimg: images seen; 0 = the run's latest snapshot
    """

    run: str
    std: float
    target: str
    nimg: int = 0

    def __post_init__(self):
        try:
            state_dicts.suffix_of(self.target)
        except ValueError as error:
            raise ValueError(f'target: {error}') from None


def main(settings, workdir=None):
    """Export; returns what was written. Arrays are kernels [out, in, h, w], in the stored type."""
    if not (files.path(settings.run) / 'config.json').exists():
        raise ValueError(f'run ({settings.run}) is not a run directory: it has no config.json')
    with stop.watch(), Progress(2, 'step', 'export-network') as bar:
        network = snapshots.load_network(
            settings.run, settings.std, settings.nimg or None, place=lambda variables: variables
        )
        bar.update(1)
        stop.check('exporting a network', saved='nothing yet')
        state, header = conversion.published(network)
        state_dicts.write(settings.target, state, header)
        bar.update(1)
    return {
        'file': str(settings.target),
        'nimg': network.nimg,
        'std': network.std,
        'arrays': len(state),
        'dtype': ', '.join(sorted({str(array.dtype) for array in state.values()})),
        'sha256': files.sha256(settings.target),
    }
