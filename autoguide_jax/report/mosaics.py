"""Many grids of samples in one page: small PNG mosaics within a budget of bytes."""

import base64

import numpy as np
from PIL import Image

from autoguide_jax.report.strips import arrange, mosaic, png

BUDGET = 4_000_000  # bytes of all mosaics of a page
FEWEST = 8  # images that a mosaic keeps before whole mosaics are left out
SIZES = (128, 64, 32)  # pixels of an image at most: the first that lets FEWEST in everywhere


def affordable(images, mosaics):
    """Return (images, pixels): how many each of so many mosaics may have, and how large at most.

    images: uint8 [k, h, w, c], those of one mosaic, which the others are like.
    """
    kept = len(images)
    index = arrange(np.full(kept, -1), 10, kept)[0]
    for pixels in SIZES:
        one = len(small(images, index, pixels)) / kept
        count = min(kept, int(BUDGET / (one * mosaics)))
        if count >= min(kept, FEWEST):
            break
    return max(count, min(kept, FEWEST)), pixels


def small(images, index, pixels):
    """Return strips.mosaic as the bytes of a PNG, with images of at most so many pixels."""
    if max(images.shape[1:3]) > pixels:
        images = np.stack([_smaller(image, pixels) for image in images])
    return png(mosaic(images, index, pixels=24))


def _smaller(image, pixels):
    grey, size = image.shape[-1] == 1, max(image.shape[:2])
    height, width = (max(1, side * pixels // size) for side in image.shape[:2])
    picture = Image.fromarray(image[..., 0] if grey else image[..., :3])
    found = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
    return found[..., None] if grey else found


def text(drawn):
    """Return a PNG as base64."""
    return base64.b64encode(drawn).decode()


def note(images, shown, what, left_out, where):
    """Return what the page does not show of the kept images, '' if it shows all.

    images: those of one mosaic; shown: (how many of them, pixels); left_out: (mosaics left out, of
    all); what: a mosaic stands for; where: all images lie.
    """
    (count, pixels), notes, size = shown, [], max(images.shape[1:3])
    if size > pixels:
        notes.append(f'images are shown at {pixels} of {size} pixels')
    if count < len(images):
        notes.append(f'{count} of {len(images)} kept images of each grid are shown')
    if left_out[0]:
        notes.append(f'{left_out[0]} of {left_out[1]} {what} are left out')
    rest = f', so that the page stays small; all images are in {where}'
    return '; '.join(notes) + rest if notes else ''
