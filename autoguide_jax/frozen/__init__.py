"""Pretrained networks as pure functions (weights, images) → (features, logits)."""

from autoguide_jax.registry import Registry

table = Registry(
    'frozen',
    {
        'efficientnet_lite0': 'autoguide_jax.frozen.efficientnet_lite0:apply',
        'small_cnn': 'autoguide_jax.frozen.small_cnn:apply',
    },
)
