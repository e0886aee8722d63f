"""Files of sample images."""

import numpy as np

from autoguide_jax import files


def images_of(file):
    """Return (images uint8 [k,h,w,c], labels int [k], −1 = none) of a sample file.

    Errors: ValueError that says what the file holds instead.
    """
    with files.open_npz(file) as arrays:
        if 'images' not in arrays:
            raise ValueError(f'{file} holds no array images: it is not a sample file')
        images = arrays['images']
        labels = arrays['labels'] if 'labels' in arrays else np.full(len(images), -1)
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) != len(labels):
        raise ValueError(
            f'{file}: images are {images.dtype} {list(images.shape)} with {len(labels)} '
            'labels; they must be uint8 [k, height, width, channels] with one label each'
        )
    return images, labels
