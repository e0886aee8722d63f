"""Batches of a data set in the order of order.py, read ahead by threads."""

import collections
import concurrent.futures

import numpy as np

from autoguide_jax.data.order import indices


class Batches:
    """Endless iterator over {'image': [local, …], 'label': int32 [local], −1 = none}.

    Also a context manager; close() (or the end of the block, or an error) ends its threads. What
    goes wrong in a thread is raised by the next() that would have returned that batch.
    """

    def __init__(self, read, nimg, batch_size, workers, prefetch):
        self._read, self._nimg, self._batch_size = read, nimg, batch_size
        self._ahead = collections.deque()
        self._depth = prefetch if workers else 0
        self._threads = workers and concurrent.futures.ThreadPoolExecutor(workers, 'data')
        self._closed = False

    def _take(self):
        nimg = self._nimg
        self._nimg += self._batch_size
        return nimg

    def __iter__(self):
        return self

    def __next__(self):
        if self._closed:
            raise StopIteration
        try:
            if not self._threads:
                return self._read(self._take())
            # One more than the depth: the batch asked for now, and depth others behind it.
            while len(self._ahead) <= self._depth:
                self._ahead.append(self._threads.submit(self._read, self._take()))
            return self._ahead.popleft().result()
        except BaseException:
            self.close()
            raise

    def close(self):
        """End the threads; what they are reading now is finished and dropped. May be repeated."""
        self._closed = True
        self._ahead.clear()
        if self._threads:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def batches(
    dataset,
    seed: int,
    nimg: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 4,
    prefetch: int = 4,
) -> Batches:
    """Return the batches of the stream from image number nimg on, this process's rows of each.

    batch_size is global: process p has rows p·local … (p+1)·local−1 of it, so the processes' parts
    in order are the same batch for any process count. workers: threads that read, 0 = none;
    prefetch: batches read ahead. Errors: ValueError for settings out of range.
    """
    if process_count < 1 or not 0 <= process_index < process_count:
        raise ValueError(f'process_index ({process_index}) must be in 0…{process_count - 1}')
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f'batch_size ({batch_size}) must be a positive multiple of the number of processes '
            f'({process_count})'
        )
    if workers < 0 or prefetch < 1:
        raise ValueError(f'workers ({workers}) must be ≥ 0 and prefetch ({prefetch}) ≥ 1')
    local, nimg = batch_size // process_count, int(nimg)
    indices(seed, nimg, 0, dataset.num_images)

    def read(first):
        rows = indices(seed, first + process_index * local, local, dataset.num_images)
        image, label = dataset.examples(rows)
        return {'image': np.ascontiguousarray(image), 'label': label}

    return Batches(read, nimg, batch_size, workers, prefetch)
