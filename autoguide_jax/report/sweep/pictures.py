"""The kept examples of the settings as small PNG mosaics, within a budget of bytes."""

import base64
from typing import NamedTuple

import numpy as np
from PIL import Image

from autoguide_jax import files
from autoguide_jax.report.strips import arrange, mosaic, png
from autoguide_jax.report.sweep import views

BUDGET = 5_000_000  # bytes of all mosaics of a page
FEWEST = 8  # images that a mosaic keeps before settings are left out
LARGEST = 128  # pixels


class Pictures(NamedTuple):
    """mosaics: index of the entry → PNG; heads: of the columns; note: what was left out, ''."""

    mosaics: dict[int, bytes]
    heads: list[str]
    note: str


def gather(sweep):
    """The Pictures of a sweep; the settings of its first slider before others, best first."""
    wanted = [i for i in _order(sweep) if _file(sweep.entries[i], sweep).exists()]
    if not wanted:
        return Pictures({}, [], '')
    first, seeds, labels = _read(sweep, wanted[0])
    count = _affordable(first, len(wanted))
    index, heads = arrange(labels[:count], 10, count)
    mosaics, used = {}, 0
    for i in wanted:
        images, mine, _ = _read(sweep, i)
        if not np.array_equal(mine[:count], seeds[:count]):
            continue
        drawn = _mosaic(images[:count], index)
        used += len(drawn)
        if mosaics and used > BUDGET:
            break
        mosaics[i] = drawn
    notes, size = [], max(first.shape[1:3])
    if size > LARGEST:
        notes.append(f'images are shown at {LARGEST} of {size} pixels')
    if count < len(seeds):
        notes.append(f'{count} of {len(seeds)} kept images of each setting are shown')
    if len(mosaics) < len(wanted):
        notes.append(f'{len(wanted) - len(mosaics)} of {len(wanted)} settings are left out')
    rest = ', so that the page stays small; all images are in examples/'
    return Pictures(mosaics, heads, '; '.join(notes) + rest if notes else '')


def encoded(mosaics):
    """The mosaics as JSON has them: index → base64."""
    return {str(i): base64.b64encode(drawn).decode() for i, drawn in mosaics.items()}


def _order(sweep):
    """Indices of the full entries: those on the line of the first slider, then best first."""
    slider, held = views.axes(sweep)['slider'], views.anchor(sweep).point
    number = {id(entry): i for i, entry in enumerate(sweep.entries)}

    def beside(entry):
        same = (entry.point[n] in (None, held[n]) for n in sweep.axes if n != slider)
        return not all(same)

    return [number[id(entry)] for entry in sorted(sweep.full, key=beside)]


def _file(entry, sweep):
    first = sweep.score['first_seed']
    row = next((r for r in entry.rows if r['seeds'][0] == first), entry.rows[0])
    return sweep.workdir / 'examples' / f'{row.get("measurement")}.npz'


def _read(sweep, i):
    """(images uint8 [n, h, w, c], seeds [n], labels [n]) of the i-th entry."""
    file = _file(sweep.entries[i], sweep)
    with files.open_npz(file) as arrays:
        images, seeds = arrays['images'], arrays['seeds']
        labels = arrays['labels'] if 'labels' in arrays else np.full(len(images), -1)
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) != len(labels):
        raise ValueError(
            f'{file}: images are {images.dtype} {list(images.shape)} with {len(labels)} labels; '
            'they must be uint8 [n, height, width, channels] with one label each'
        )
    return images, seeds, labels


def _affordable(images, settings):
    """How many images of every setting the budget allows, at least FEWEST if so many are kept."""
    kept = len(images)
    one = len(_mosaic(images, arrange(np.full(kept, -1), 10, kept)[0])) / kept
    return min(kept, max(FEWEST, int(BUDGET / (one * settings))))


def _mosaic(images, index):
    size = max(images.shape[1:3])
    if size > LARGEST:
        images = np.stack([_smaller(image, size) for image in images])
    return png(mosaic(images, index, pixels=24))


def _smaller(image, size):
    grey = image.shape[-1] == 1
    height, width = (max(1, side * LARGEST // size) for side in image.shape[:2])
    picture = Image.fromarray(image[..., 0] if grey else image[..., :3])
    found = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
    return found[..., None] if grey else found
