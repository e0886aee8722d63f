"""Pictures of the samples that are most like a training image, beside that image."""

import contextlib
import io
import math
import sys

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from autoguide_jax import files
from autoguide_jax.foreign_images import NpzImages
from autoguide_jax.metrics import memorisation
from autoguide_jax.metrics.reading import Reader

PAIRS, COLUMNS = 16, 4
SMALL, LARGE, TEXT, GAP = 96, 256, 13, 14


def show(evaluator, banks, samples, p) -> dict[str, dict]:
    """Write PNGs of the samples nearest to training images; return what a row says of them.

    banks: {extractor: Bank} of samples; p: where the PNG of features without a name goes, those of
    further features get it as a suffix. Returned for each such metric: copies, searched and
    training_images, pairs [[sample, row of the data set or None, distance, ratio]], picture or
    no_picture (why).
    """
    found = {}
    for name, metric in evaluator.metrics.items():
        if metric.name == memorisation.Authenticity.name:
            prefix = name.rpartition(':')[0]
            target = p.with_name(f'{p.stem}-{prefix}{p.suffix}') if prefix else p
            found[name] = _show(evaluator, prefix, metric, banks, samples, target)
            if why := found[name].get('no_picture'):
                print(f'{name}: no picture: {why}', file=sys.stderr)
    return found


def _show(evaluator, prefix, metric, banks, samples, target):
    reference = evaluator.references[prefix]
    nearest = memorisation.find(banks[metric.features], reference)
    closest = nearest.closest(PAIRS)
    rows = None if reference.rows is None else reference.rows[nearest.row[closest]]
    facts = {
        'copies': int((nearest.distance == 0).sum()),
        'searched': len(reference.features),
        'training_images': reference.count,
        'pairs': [
            [
                int(sample),
                None if rows is None else int(rows[i]),
                float(nearest.distance[sample]),
                float(nearest.ratio[sample]),
            ]
            for i, sample in enumerate(closest)
        ],
    }
    if rows is None:
        why = 'does not say which images its features are of; delete it, and it is made anew'
        return {**facts, 'no_picture': f'{reference.source} {why}'}
    if reference.images is not None:
        real = chosen(NpzImages(files.path(reference.images)), rows)
    elif evaluator.dataset is not None:
        real = evaluator.dataset.images(rows)
    else:
        return {**facts, 'no_picture': 'data is none: the training images are not at hand'}
    captions = [
        f'{ratio:.3f}   sample {sample}, image {row}' for sample, row, _, ratio in facts['pairs']
    ]
    title = f'{metric.features.noun}: distance to the nearest image / its own to the next one'
    if part := searched(facts):
        title += f', of {part}'
    files.write_bytes(target, draw(chosen(samples, closest), real, captions, title))
    return {**facts, 'picture': target.name}


def chosen(images, rows: np.ndarray) -> UInt8[np.ndarray, 'k h w c']:
    """Return some images of those that have batches, in any order, in one pass over the file."""
    order = np.argsort(rows, kind='stable')
    with contextlib.closing(Reader(images)) as reader:
        found = np.concatenate([part for part, _ in reader.read(np.asarray(rows)[order])])
    return found[np.argsort(order)]


def searched(facts: dict) -> str:
    """Say which part of the training images was searched, '' for all of them."""
    total = facts['training_images']
    if total == facts['searched']:
        return ''
    return f'{facts["searched"]} images of {total or "a number that is not recorded"}'


def draw(
    made: UInt8[np.ndarray, 'n h w c'],
    real: UInt8[np.ndarray, 'n h w c'],
    captions: list[str],
    title: str,
) -> bytes:
    """Return a PNG of pairs of images (sample left, training image right), captions under them."""
    height, width = _fitted(made[0]).size[::-1]
    font = ImageFont.load_default(TEXT)
    cell = max(2 * width + 2, *(math.ceil(font.getlength(text)) for text in captions)) + GAP
    line = TEXT + 6
    rows = math.ceil(len(made) / COLUMNS)
    across = max(COLUMNS * cell, math.ceil(font.getlength(title)) + GAP)
    sheet = Image.new('RGB', (across + GAP, line + GAP + rows * (height + line + GAP)), 'white')
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP // 2), title, 'black', font)
    for k, caption in enumerate(captions):
        x, y = GAP + k % COLUMNS * cell, line + GAP + k // COLUMNS * (height + line + GAP)
        sheet.paste(_fitted(made[k]), (x, y))
        sheet.paste(_fitted(real[k]), (x + width + 2, y))
        pen.text((x, y + height + 2), caption, 'black', font)
    file = io.BytesIO()
    sheet.save(file, 'PNG')
    return file.getvalue()


def _fitted(image):
    """An image enlarged to whole pixels if it is small, reduced if it is large."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert('RGB')
    most = max(picture.size)
    if most > LARGE:
        picture.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS)
        return picture
    times = math.ceil(SMALL / most)
    return picture.resize([side * times for side in picture.size], Image.Resampling.NEAREST)
