"""Many grids of samples in one page: small PNG mosaics within a budget of bytes."""

import base64

import numpy as np
from PIL import Image

from autoguide_jax.report.strips import arrange, mosaic, png

BUDGET = 4_000_000  # bytes of all mosaics of a page
FEWEST = 8  # images that a mosaic keeps before whole mosaics are left out
LARGEST = 128  # pixels of an image


def affordable(images, mosaics):
    """Return how many images each of so many mosaics may have, at least FEWEST if there are.

    images: uint8 [k, h, w, c], those of one mosaic, which the others are like.
    """
    kept = len(images)
    one = len(small(images, arrange(np.full(kept, -1), 10, kept)[0])) / kept
    return min(kept, max(FEWEST, int(BUDGET / (one * mosaics))))


def small(images, index):
    """Return strips.mosaic as the bytes of a PNG, with images of at most LARGEST pixels."""
    if max(images.shape[1:3]) > LARGEST:
        images = np.stack([_smaller(image) for image in images])
    return png(mosaic(images, index, pixels=24))


def _smaller(image):
    grey, size = image.shape[-1] == 1, max(image.shape[:2])
    height, width = (max(1, side * LARGEST // size) for side in image.shape[:2])
    picture = Image.fromarray(image[..., 0] if grey else image[..., :3])
    found = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
    return found[..., None] if grey else found


def text(drawn):
    """Return a PNG as base64."""
    return base64.b64encode(drawn).decode()


def note(images, count, what, left_out, where):
    """Return what the page does not show of the kept images, '' if it shows all.

    images: those of one mosaic, of which count are shown; left_out: (mosaics left out, of all);
    what: a mosaic stands for; where: all images lie.
    """
    notes, size = [], max(images.shape[1:3])
    if size > LARGEST:
        notes.append(f'images are shown at {LARGEST} of {size} pixels')
    if count < len(images):
        notes.append(f'{count} of {len(images)} kept images of each grid are shown')
    if left_out[0]:
        notes.append(f'{left_out[0]} of {left_out[1]} {what} are left out')
    rest = f', so that the page stays small; all images are in {where}'
    return '; '.join(notes) + rest if notes else ''
