"""EMA snapshots of a run, and the network of any EMA length made from them after training."""

from autoguide_jax.snapshots.archive import Snapshot, list_snapshots, save
from autoguide_jax.snapshots.network import (
    Network,
    build_denoiser,
    load_network,
    sample_shape,
)
from autoguide_jax.snapshots.posthoc import Report, assess, reconstruct, save_reconstruction

__all__ = [
    'Network', 'Report', 'Snapshot', 'assess', 'build_denoiser', 'list_snapshots', 'load_network',
    'reconstruct', 'sample_shape', 'save', 'save_reconstruction',
]  # fmt: skip
