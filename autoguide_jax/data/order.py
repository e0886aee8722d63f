"""Which image is number nimg of the endless training stream: a pure function of the seed.

    (1) image(nimg) = π_e[nimg mod n],   e = ⌊nimg / n⌋,   n images in the set
        of an endless set:  image(nimg) = seed·2⁴⁰ + nimg, a stretch of its own for every seed
    (2) π_e = argsort of n 64-bit words of Philox4x64-10 with key (seed, e), ties by position

Philox: Salmon et al., 'Parallel random numbers: as easy as 1, 2, 3', SC 2011. NumPy keeps the raw
words of a bit generator fixed for ever but not what Generator.permutation makes of them (NEP 19);
hence the argsort: a run resumed under another NumPy sees the same images.
"""

import functools

import numpy as np
from jaxtyping import Int

ENDLESS = 2**62  # num_images of a set that is drawn, not stored
STRETCH = 2**40


# Two, because a batch at the seam of two epochs needs both.
@functools.lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, num_images: int) -> Int[np.ndarray, ' n']:
    """Return π_epoch (2), read-only. Errors: ValueError for a seed outside 0…2⁶⁴−1."""
    if not 0 <= seed < 2**64:
        raise ValueError(f'seed ({seed}) must be in 0…2**64-1')
    words = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(num_images)
    order = np.argsort(words, kind='stable')
    order.setflags(write=False)
    return order


def indices(seed: int, nimg: int, count: int, num_images: int) -> Int[np.ndarray, ' count']:
    """Return the images number nimg … nimg+count−1 of the stream (1), int64.

    nimg is a Python int without bound; the range may span any number of epochs. Errors: ValueError
    for an empty set or a negative nimg or count.
    """
    nimg, count, num_images = int(nimg), int(count), int(num_images)
    if num_images < 1:
        raise ValueError(f'num_images ({num_images}) must be at least 1: the data set is empty')
    if nimg < 0 or count < 0:
        raise ValueError(f'nimg ({nimg}) and count ({count}) must not be negative')
    if num_images == ENDLESS:
        if not 0 <= seed < ENDLESS // STRETCH or nimg + count > STRETCH:
            raise ValueError(
                f'an endless set needs seed ({seed}) in 0…2**22-1 and nimg ({nimg}) below 2**40'
            )
        return int(seed) * STRETCH + np.arange(nimg, nimg + count)
    parts, end = [np.empty(0, np.int64)], nimg + count
    while nimg < end:
        epoch, first = divmod(nimg, num_images)
        last = min(num_images, first + end - nimg)
        parts.append(permutation(int(seed), epoch, num_images)[first:last])
        nimg += last - first
    return np.concatenate(parts).astype(np.int64)


def in_turns(order: Int[np.ndarray, ' n'], labels: Int[np.ndarray, ' n']) -> Int[np.ndarray, ' n']:
    """Return the images of an order with their classes in turns, as long as a class has images.

    labels: of all images, by index; −1, none, counts as a class. The first k images then hold every
    class equally often, to one.
    """
    own = labels[order]
    by_class = np.argsort(own, kind='stable')
    _, first, counts = np.unique(own[by_class], return_index=True, return_counts=True)
    turn = np.empty_like(by_class)
    turn[by_class] = np.arange(len(order)) - np.repeat(first, counts)
    return order[np.argsort(turn, kind='stable')]
