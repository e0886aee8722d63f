"""EMA snapshots of a run, and the network of any EMA length made from them after training."""

from autoguide_jax.snapshots.archive import Snapshot, list_snapshots, save
from autoguide_jax.snapshots.assessment import Refused, Report, assess, assess_many, refuse_all
from autoguide_jax.snapshots.network import (
    Network,
    build_denoiser,
    load_network,
    load_networks,
    sample_shape,
)
from autoguide_jax.snapshots.posthoc import (
    ReadingPlan,
    held_bytes,
    reading_plan,
    reconstruct,
    reconstruct_many,
    save_reconstruction,
    save_reconstructions,
)

__all__ = [
    'Network', 'ReadingPlan', 'Refused', 'Report', 'Snapshot', 'assess', 'assess_many',
    'build_denoiser', 'held_bytes', 'list_snapshots', 'load_network', 'load_networks',
    'reading_plan', 'reconstruct', 'reconstruct_many', 'refuse_all', 'sample_shape', 'save',
    'save_reconstruction', 'save_reconstructions',
]  # fmt: skip
