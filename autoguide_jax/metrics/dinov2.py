"""DINOv2 features, in which FD-DINOv2 is measured (Stein et al. 2023, arXiv:2306.04675)."""

import numpy as np

from autoguide_jax.frozen import dinov2
from autoguide_jax.metrics import weights_file
from autoguide_jax.metrics.features import Extractor, bind, hash_weights

# The network and the images of the published numbers; other networks are other metrics.
PUBLISHED, IMAGES = 'ViT-L/14', 50_000
TRANSFORM = 'bicubic with antialias to 224×224, /255, minus the mean of ImageNet over its deviation'
PUBLIC_FILES = (
    'dinov2_vitl14_pretrain.pth (1.2 GB, Apache-2.0) of '
    'https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/, or model.safetensors of '
    'facebook/dinov2-large on Hugging Face, the same network'
)


def open_dinov2(dataset=None, folder=None, /, weights: str = '', batch_size: int = 32) -> Extractor:
    """Return the class token of DINOv2 ViT-L/14, 1024 features, or that of S/14 or B/14.

    dataset, folder: not needed. The title says which network it is unless it is the published one,
    by its architecture; of the public files no checksum is known here.

    Settings:
      weights: path of the published weights of DINOv2, .pth or .safetensors, on a disk or gs://
      batch_size: images per device and call; changes speed only
    """
    if not weights:
        raise ValueError(f"the extractor 'dinov2' needs its weights: set weights to {PUBLIC_FILES}")
    try:
        state, sha256 = weights_file.read(weights)
    except FileNotFoundError as error:
        raise ValueError(
            f'dinov2.weights ({weights}) is no file; what serves is {PUBLIC_FILES}'
        ) from error
    try:
        arrays = dinov2.from_state_dict(state)
    except ValueError as error:
        raise ValueError(f'{weights}: {error}; what serves is {PUBLIC_FILES}') from error
    name = dinov2.name_of(arrays)
    return Extractor(
        name='dinov2',
        noun=f'DINOv2 {name}',
        title='FD-DINOv2' if name == PUBLISHED else f'FD-DINOv2 ({name})',
        dim=np.shape(arrays['class'])[-1],
        num_classes=None,
        weights_hash=hash_weights(arrays, size=dinov2.SIZE, positions='hub', transform=TRANSFORM),
        apply=bind(dinov2.apply, arrays),
        batch_size=batch_size,
        published=IMAGES if name == PUBLISHED else None,
        facts={
            'network': name,
            'weights': 'not known to be the public ones: no checksum of theirs is known here',
            'weights_sha256': sha256,
            'transform': TRANSFORM,
        },
    )
