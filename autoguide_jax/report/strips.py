"""Sample images side by side: the same seed in the same place for every method."""

import io
import math
import textwrap

import numpy as np
from PIL import Image

from autoguide_jax.report import style
from autoguide_jax.report.drawing import WIDE, new

MOST_CLASSES = 20


def arrange(labels, columns, rows):
    """Return (index [rows, columns] of samples, −1 = empty; heading of each column).

    With few classes a column is a class, row r its r-th sample; otherwise the samples run in order
    and headings are ''. labels: int [k], −1 = none.
    """
    labels = np.asarray(labels)
    classes = sorted({int(c) for c in labels if c >= 0})
    if not 1 < len(classes) <= MOST_CLASSES:
        rows = min(rows, math.ceil(len(labels) / columns))
        index = np.arange(rows * columns)
        return np.where(index < len(labels), index, -1).reshape(rows, columns), [''] * columns
    members = [np.flatnonzero(labels == c) for c in classes]
    rows = min(rows, max(map(len, members)))
    index = np.full((rows, len(classes)), -1)
    for column, found in enumerate(members):
        index[: min(rows, len(found)), column] = found[:rows]
    return index, [str(c) for c in classes]


def layout(study, rows, columns=10):
    """Return arrange() of the first arm with labels, which goes for all: they share the seeds."""
    if not study.samples:
        return np.zeros((0, 0), int), []
    labelled = [labels for _, labels in study.samples.values() if (labels >= 0).any()]
    return arrange((labelled or [next(iter(study.samples.values()))[1]])[0], columns, rows)


def mosaic(images, index, pixels=96):
    """Return uint8 [H, W, 4]: images enlarged to whole pixels, transparent gaps between them.

    images: uint8 [k, h, w, 1 or 3]; index [rows, columns], −1 or beyond k = empty; pixels: how
    large an image should be at least.
    """
    _, height, width, _ = images.shape
    scale = max(1, math.ceil(pixels / max(height, width)))
    gap = max(2, scale * max(height, width) // 12)
    rows, columns = index.shape
    cell = height * scale + gap, width * scale + gap
    sheet = np.zeros((rows * cell[0] - gap, columns * cell[1] - gap, 4), np.uint8)
    for (i, j), k in np.ndenumerate(index):
        if not 0 <= k < len(images):
            continue
        colour = np.repeat(images[k], 3, -1) if images.shape[-1] == 1 else images[k][..., :3]
        colour = colour.repeat(scale, 0).repeat(scale, 1)
        place = sheet[i * cell[0] : i * cell[0] + len(colour), j * cell[1] :][:, : colour.shape[1]]
        place[..., :3], place[..., 3] = colour, 255
    return sheet


def png(sheet):
    """Return an image array as the bytes of a PNG, with a palette if few colours make it small."""
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, 'PNG', optimize=True)
    return file.getvalue()


def trio(study):
    """Return the arms of the opening strip: none, CFG, autoguidance, as far as there are."""
    arms = [study.role(role) for role in ('baseline', 'cfg', 'autoguidance')]
    return [arm for arm in arms if arm]


def hero(study, look):
    """The opening strip as a figure: the same seeds under none, CFG and autoguidance."""
    return _sheet(study, look, trio(study))


def samples(study, look):
    """All arms as a figure: the same seeds, a column per class."""
    return _sheet(study, look, list(study.arms))


def _sheet(study, look, arms):
    """Draw a row of images per arm, its title and score at the left."""
    arms = [arm for arm in arms if arm in study.samples]
    index, heads = layout(study, 1)
    if not arms or not index.size:
        return None
    left, top, gap = 0.23, 0.28, 0.14
    _, tall, wide, _ = study.samples[arms[0]][0].shape
    row = WIDE * (0.995 - left) / len(heads) * tall / wide
    height = top + len(arms) * (row + gap)
    margins = {'left': left, 'right': 0.995, 'top': 1 - top / height, 'bottom': gap / height}
    figure, axes = new(WIDE, height, {**margins, 'hspace': gap / row}, nrows=len(arms))
    colours = style.colours(study, look)
    for panel, arm in zip(axes.flat, arms):
        sheet = mosaic(study.samples[arm][0], index, pixels=64)
        panel.imshow(sheet, interpolation='nearest')
        panel.set_axis_off()
        title, stat = textwrap.fill(study.title(arm), 26), study.stat(arm)
        options = {'transform': panel.transAxes, 'ha': 'right'}
        panel.text(-0.02, 0.52, title, va='bottom', color=colours[arm], weight='bold', **options)
        if stat:
            score = f'{study.metric_title} {stat.mean:.{study.places()}f}'
            score = textwrap.fill(score, 30)
            panel.text(-0.02, 0.46, score, va='top', color=look.muted, **options)
    cell = sheet.shape[1] / len(heads)
    for j, head in enumerate(heads):
        axes[0, 0].text((j + 0.47) * cell, -6, head, ha='center', va='bottom', color=look.muted)
    return figure
