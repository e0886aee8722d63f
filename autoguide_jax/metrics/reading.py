"""Rows of images for a long pass, of what is read at random and of what is read from its start."""

import math

import numpy as np

from autoguide_jax.data.loader import read_ahead

READ, THREADS = 64, 8


class Reader:
    """Rows of a set of images, ascending; what follows the last ones goes on in the open file.

    images: has images(rows), read ahead by threads, or batches(size, start), a stream; and labels,
    int [n] or None. progress: counts the images that are asked for, if given.
    """

    def __init__(self, images, progress=None):
        self.source, self.progress = images, progress
        self._stream, self._first, self._held = None, 0, ((), None)

    def read(self, rows: np.ndarray):
        """Yield (images uint8 [n, h, w, c], labels int [n] or None) of some rows, ascending."""
        found = self._chosen(rows) if hasattr(self.source, 'images') else self._streamed(rows)
        for images, labels in found:
            yield images, labels
            if self.progress:
                self.progress.update(len(images))

    def _chosen(self, rows):
        parts = np.array_split(rows, math.ceil(len(rows) / READ))
        labels = self.source.labels
        for images, part in zip(read_ahead(self.source, parts, THREADS), parts):
            yield images, None if labels is None else np.asarray(labels)[part]

    def _streamed(self, rows):
        while len(rows):
            if self._stream is None or rows[0] < self._first:
                self._open(int(rows[0]))
            images, labels = self._held
            here = rows[rows < self._first + len(images)] - self._first
            rows = rows[len(here) :]
            if len(here):
                yield images[here], None if labels is None else labels[here]
            if len(rows):
                self._first += len(images)
                self._held = next(self._stream)

    def _open(self, start):
        self.close()
        self._stream, self._first = self.source.batches(READ, start), start
        self._held = next(self._stream)

    def close(self):
        """End the threads that read ahead."""
        if hasattr(self._stream, 'close'):
            self._stream.close()
        self._stream = None
