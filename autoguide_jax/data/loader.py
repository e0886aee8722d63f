"""Batches of a data set in the order of order.py, or in a given one, read ahead by threads."""

import collections
import concurrent.futures

import numpy as np

from autoguide_jax.data.order import indices


def read_ahead(dataset, batches, threads):
    """Yield dataset.images(rows) of every batch, read by threads before they are asked for."""
    with concurrent.futures.ThreadPoolExecutor(threads, 'data') as pool:
        ahead = collections.deque()
        try:
            for rows in batches:
                ahead.append(pool.submit(dataset.images, np.asarray(rows)))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


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
    rows: np.ndarray | None = None,
    workers: int = 4,
    prefetch: int = 4,
) -> Batches:
    """Return the batches of the stream from image number nimg on, this process's rows of each.

    batch_size is that of all processes together; rows, int [local]: places in it that are read
    here, None = all. Together the processes have the same batch, however many they are. workers:
    threads that read, 0 = none; prefetch: batches read ahead.
    Errors: ValueError for settings out of range.
    """
    if batch_size < 1:
        raise ValueError(f'batch_size ({batch_size}) must be at least 1')
    rows = np.arange(batch_size) if rows is None else np.asarray(rows)
    if not rows.size or rows.min() < 0 or rows.max() >= batch_size:
        raise ValueError(f'rows ({rows}) must be places in a batch of {batch_size}')
    if workers < 0 or prefetch < 1:
        raise ValueError(f'workers ({workers}) must be ≥ 0 and prefetch ({prefetch}) ≥ 1')
    nimg = int(nimg)
    indices(seed, nimg, 0, dataset.num_images)

    def read(first):
        chosen = indices(seed, first, batch_size, dataset.num_images)[rows]
        image, label = dataset.examples(chosen)
        return {'image': np.ascontiguousarray(image), 'label': label}

    return Batches(read, nimg, batch_size, workers, prefetch)
