"""A long pass over images in blocks, each kept as soon as it is done.

Several processes share the blocks, and what is interrupted goes on with the next one. A block is
the same whoever makes it, and blocks are put together in their order: the number of processes
changes nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from autoguide_jax import files, processes, stop


def run(
    folder: Any,
    total: int,
    size: int,
    work: Callable[[int, int], dict[str, np.ndarray]],
    together: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield work(start, end) of every block of `size` of `total` rows, in order.

    folder: where they are kept, START.npz; what is there is not made again; None = in memory only.
    together: all connected processes call this, each makes its share and then has all of them.
    """
    starts = range(0, total, size)
    make = lambda start: work(start, min(start + size, total))
    if folder is None:
        yield from map(make, starts)
        return
    paths = {start: files.path(folder) / f'{start:09d}.npz' for start in starts}
    count, index = (processes.count(), processes.index()) if together else (1, 0)
    # Neighbouring blocks go to one process: many files are read in one direction only.
    for i, (start, p) in enumerate(paths.items()):
        if i * count // len(paths) == index and not p.exists():
            stop.check('working through images', saved=f'finished blocks in {folder}')
            files.save_npz(p, make(start))
    if together:
        processes.gather()
    for p in paths.values():
        with files.open_npz(p) as block:
            yield {name: block[name] for name in block}


def remove(folder: Any) -> None:
    """Delete the blocks in a folder, once what they are for is safe."""
    if files.path(folder).exists():
        files.path(folder).rmtree(missing_ok=True)
