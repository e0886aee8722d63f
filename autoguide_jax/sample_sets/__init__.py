"""Sample sets: generated images by seed, with a manifest that says how they were made.

    manifest.json                      what made the images, seeds, formats, complete, content_hash
    images/000012/000012345.png        one file per seed, in folders of 1000         (format png)
    samples.npz                        arr_0 images in seed order, arr_1 labels, seeds (format npz)
    labels.npz                         seeds, labels (−1 = none), sha256 of each image's pixels
    grid.png                           the first images, at most 8 × 8
    parts/                             one file per write until finish(): what is surely on disk

A seed counts as done when its part is written, which is after its PNG. Every file is atomic, so
that a killed writer is resumed with the seeds still missing, and the same bytes come out.
"""

from autoguide_jax.sample_sets.reader import SampleSet, is_set, open_set
from autoguide_jax.sample_sets.storage import FORMATS, open_npz_images, pack, png_name, unpack
from autoguide_jax.sample_sets.writer import Writer, create, join

__all__ = ['FORMATS', 'SampleSet', 'Writer', 'create', 'is_set', 'join', 'open_set']
__all__ += ['open_npz_images', 'pack', 'png_name', 'unpack']
