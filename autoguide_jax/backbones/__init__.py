"""Networks F(x; c_noise, labels) in Linen. One file per backbone, one line in this table.

A backbone is a Linen module with fields resolution, channels, label_dim and its own settings;
__call__(x [n,h,w,c], c_noise [n], labels int32 [n] or None, dropout_keys [n] or None) → [n,h,w,c],
and normalize_weights(params) → params, applied before every training step (identity if it has no
forced weight normalisation).
"""

from autoguide_jax.backbones.edm2_unet import EDM2UNet
from autoguide_jax.registry import Registry

table = Registry('backbones', {'edm2_unet': 'autoguide_jax.backbones.edm2_unet:EDM2UNet'})

__all__ = ['EDM2UNet', 'table']
