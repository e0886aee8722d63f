"""Networks F(x; c_noise, labels) in Linen. One file per backbone, one line in this table.

A backbone is a Linen module with fields resolution, channels, label_dim and its own settings;
__call__(x [n,h,w,c], c_noise [n], labels int32 [n] or None, dropout_keys [n] or None) → [n,h,w,c],
and normalize_weights(params) → params, applied before every training step (identity if it has no
forced weight normalisation). Log densities over the plane (toy_*) take (x [n,2], sigma [n], …) and
return [n]; which of the two a denoiser wraps is in the table of denoiser.py.
"""

from autoguide_jax.backbones.edm2_unet import EDM2UNet
from autoguide_jax.registry import Registry

table = Registry(
    'backbones',
    {
        'edm2_unet': 'autoguide_jax.backbones.edm2_unet:EDM2UNet',
        'toy_mlp': 'autoguide_jax.backbones.toy_mlp:ToyMLP',
        'toy_exact': 'autoguide_jax.backbones.analytic:Exact',
        'toy_flat': 'autoguide_jax.backbones.analytic:Flat',
    },
)

__all__ = ['EDM2UNet', 'table']
