"""A long pass over images in blocks, each kept as soon as it is done.

Several processes share the blocks, and what is interrupted goes on with the next one. A block is
the same whoever makes it, and blocks are put together in their order: the number of processes
changes nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from autoguide_jax import files, processes, stop


class Blocks:
    """The blocks of `size` of `total` rows.

    folder: where they are kept, START-END.npz; what is there is not made again; None = in memory
    only. together: all connected processes have these, each makes its share of those in a folder,
    and the first has all of them in the end.
    """

    def __init__(self, folder: Any, total: int, size: int, together: bool = False):
        self.folder = None if folder is None else files.path(folder)
        self.all = [(start, min(start + size, total)) for start in range(0, total, size)]
        self.together = together and folder is not None
        count, index = (processes.count(), processes.index()) if self.together else (1, 0)
        # Neighbouring blocks go to one process: many files are read in one direction only.
        mine = [b for i, b in enumerate(self.all) if i * count // len(self.all) == index]
        self.todo = [block for block in mine if folder is None or not self._path(block).exists()]

    def _path(self, block):
        return self.folder / f'{block[0]:09d}-{block[1]:09d}.npz'

    @property
    def rows(self) -> int:
        """How many rows this process has to work through."""
        return sum(end - start for start, end in self.todo)

    @property
    def here(self) -> bool:
        """Whether this process has all blocks in the end."""
        return not self.together or processes.is_main()

    def run(self, work: Callable[[int, int], dict]) -> Iterator[dict[str, np.ndarray]]:
        """Make work(start, end) of the blocks that are missing; yield all in order, if `here`."""
        if self.folder is None:
            yield from (work(*block) for block in self.todo)
            return
        for block in self.todo:
            stop.check('working through images', saved=f'finished blocks in {self.folder}')
            files.save_npz(self._path(block), work(*block))
        if self.together:
            processes.gather()
        for block in self.all if self.here else ():
            yield self._read(block) or work(*block)

    def _read(self, block):
        try:
            with files.open_npz(self._path(block)) as arrays:
                return {name: arrays[name] for name in arrays}
        except FileNotFoundError:  # another job that made the same blocks is done with them
            return None


def remove(folder: Any) -> None:
    """Delete the blocks in a folder, once what they are for is safe."""
    files.path(folder).rmtree(missing_ok=True)
