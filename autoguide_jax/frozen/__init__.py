"""Pretrained networks as pure functions (weights, images) → Output."""

from typing import NamedTuple

from jaxtyping import Array, Float

from autoguide_jax.registry import Registry


class Output(NamedTuple):
    """What a network tells of images: features, class logits, and features that keep places.

    spatial: of an early layer, flattened, for sFID; None where a network has none.
    """

    features: Float[Array, 'n d']
    logits: Float[Array, 'n k'] | None = None
    spatial: Float[Array, 'n s'] | None = None


table = Registry(
    'frozen',
    {
        'dinov2': 'autoguide_jax.frozen.dinov2:apply',
        'efficientnet_lite0': 'autoguide_jax.frozen.efficientnet_lite0:apply',
        'inception_v3': 'autoguide_jax.frozen.inception_v3:apply',
        'small_cnn': 'autoguide_jax.frozen.small_cnn:apply',
    },
)
