"""Checkpoints to resume from: the whole training state and its clock, in RUN/checkpoints (Orbax).

A step is there completely or not at all, whatever kills the writer; the newest two are kept. What
is for ever, the EMAs, goes to snapshots.
"""

import os
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from autoguide_jax import files


class Checkpoints:
    """The checkpoints of one run directory, local or in a bucket; a context manager.

    With several processes all must make the same calls. Saving goes on in the background: close,
    or the with statement, waits for it.
    """

    def __init__(self, run_dir, keep: int = 2):
        # Orbax tells every stage of every save at this level.
        logging.set_verbosity(min(logging.get_verbosity(), logging.WARNING))
        folder = files.path(run_dir) / 'checkpoints'
        self.folder = folder if files.is_remote(folder) else files.path(os.path.abspath(folder))
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_handlers={
                'state': ocp.StandardCheckpointHandler(),
                'meta': ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.LatestN(keep),
                cleanup_tmp_directories=True,
            ),
        )

    def save(self, step: int, state: Any, meta: dict, wait: bool = False) -> bool:
        """Save a pytree of arrays and JSON-able facts (nimg among them) as one atomic step.

        state may be donated as soon as this returns. wait: return when it is on disk. Returns False
        if the step is there already. Errors of a save in the background show in the next call.
        """
        if step in self._manager.all_steps():
            saved = False
        else:
            items = ocp.args.Composite(
                state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(files.plain(meta))
            )
            saved = self._manager.save(step, args=items, force=True)
        if wait:
            self._manager.wait_until_finished()
        return saved

    def latest(self) -> int | None:
        """Return the newest complete step, None if there is none; waits for one being saved."""
        # Orbax counts a step from the moment its saving begins.
        self._manager.wait_until_finished()
        return self._manager.latest_step()

    def restore(self, abstract_state: Any, step: int | None = None) -> tuple[Any, dict]:
        """Return (state, meta) of a step, the latest if None, bit for bit as saved.

        abstract_state: pytree of jax.ShapeDtypeStruct with shardings (or of arrays) that gives
        structure, shapes, dtypes and where the arrays go.
        Errors: ValueError if there is no such step, or if it holds another state (changed config).
        """
        latest = self.latest()
        known = sorted(self._manager.all_steps())
        step = latest if step is None else step
        if step not in known:
            raise ValueError(f'{self.folder}: no checkpoint {step or ""}; there are {known}')
        target = jax.tree.map(_abstract, abstract_state)
        _check(self.folder / str(step), self._manager.item_metadata(step)['state'], target)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(target), meta=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=items)
        return restored['state'], restored['meta']

    def close(self) -> None:
        """Wait for the save in the background and release the manager."""
        self._manager.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _abstract(leaf):
    sharding = getattr(leaf, 'sharding', None)
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _shapes(tree):
    """Return name → 'float32[2,3]'; dicts, tuples and named tuples give the same names."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): (
            f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'
        )
        for path, leaf in leaves
    }


def _check(where, stored, target):
    """Compare names, shapes and dtypes before Orbax, which would convert dtypes without a word."""
    there, here = _shapes(getattr(stored, 'tree', stored)), _shapes(target)
    names = sorted(n for n in there.keys() | here.keys() if there.get(n) != here.get(n))
    if names:
        shown = [
            f'{n}: {there.get(n, "absent")} there, {here.get(n, "absent")} here' for n in names
        ]
        more = f'; and {len(names) - 4} more' if len(names) > 4 else ''
        raise ValueError(
            f'{where} holds another training state: {"; ".join(shown[:4])}{more}. The config has '
            'changed since: undo the change, or start in another --workdir'
        )
