"""Checkpoints to resume from: the whole training state and its clock, in RUN/checkpoints (Orbax).

A step is there completely or not at all, whatever kills the writer; the newest two are kept, and if
the newest turns out to be damaged, the one before takes its place. What is for ever, the EMAs, goes
to snapshots.
"""

import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax import lax
from orbax.checkpoint import checkpoint_managers

from autoguide_jax import files, processes


class Changed(ValueError):
    """A checkpoint holds another training state than the one asked for."""


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
        self._damaged = set()
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
        if step in self._damaged:
            self._manager.delete(step)
            self._damaged.remove(step)
        if step in self._manager.all_steps():
            saved = False
        else:
            meta = {'meta': meta, 'checksums': checksums(state)}
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
        """Return (state, meta) of a step, the latest good one if None, bit for bit as saved.

        abstract_state: pytree of jax.ShapeDtypeStruct with shardings (or of arrays) that gives
        structure, shapes, dtypes and where the arrays go. A damaged step is told of and passed over
        where no step is asked for; it stays until the same step is saved again.
        Errors: ValueError if there is no such step, none that can be read, or if it holds another
        state (changed config).
        """
        self.latest()
        known = sorted(self._manager.all_steps(), reverse=True)
        if not known or step not in (None, *known):
            raise ValueError(f'{self.folder}: no checkpoint {step or ""}; there are {known[::-1]}')
        target, first = jax.tree.map(_abstract, abstract_state), None
        for candidate in known if step is None else [step]:
            found, fault = None, None
            try:
                found = self._read(candidate, target)
            except Changed:
                raise
            except Exception as error:  # noqa: BLE001 - damaged files raise anything
                fault = error
            # Only what every process could read is looked at by all devices together.
            if not any(processes.gather(fault is not None)):
                fault = _unlike(found[0], found[2])
                if fault is None:
                    return found[:2]
            first = first or fault
            self._damaged.add(candidate)
            reason = ' '.join(str(fault or 'on another host').split())[:300]
            print(f'{self.folder / str(candidate)} cannot be read: {reason}', file=sys.stderr)
        raise ValueError(
            f'{self.folder}: no checkpoint can be read, of {known[::-1]}. Give another --workdir'
        ) from first

    def _read(self, step, target):
        """(state, meta, checksums, None if there are none): this process's part, without others."""
        folder = self.folder / str(step)
        _check(folder, self._manager.item_metadata(step)['state'], target)
        # The manager's own restore ends with a barrier, which a process that fails never reaches.
        read = ocp.StandardCheckpointHandler().restore
        state = read(folder / 'state', args=ocp.args.StandardRestore(target))
        meta = ocp.JsonCheckpointHandler().restore(folder / 'meta', args=ocp.args.JsonRestore())
        if 'checksums' not in meta:  # a checkpoint of before they were kept
            return state, meta, None
        return state, meta['meta'], meta['checksums']

    def close(self) -> None:
        """Wait for the save in the background and release the manager."""
        self._manager.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def checksums(tree) -> np.ndarray:
    """Return uint32 [leaves], each a sum over the bits of an array weighted by their place.

    The same wherever the array lies and however it is split. Without it a flipped bit in a file
    would go unnoticed: TensorStore's own checksums do not cover the arrays.
    """
    return jax.device_get(_checksums(tree))


def _unlike(state, expected):
    """An error that names the first array that is not what was saved; None if all are."""
    if expected is None:
        return None
    differ = np.flatnonzero(np.asarray(expected) != checksums(state))
    name = list(_shapes(state))[differ[0]] if len(differ) else None
    return name and ValueError(f'{name} is not what was saved (checksum)')


@jax.jit
def _checksums(tree):
    return jnp.stack([_checksum(leaf) for leaf in jax.tree.leaves(tree)])


def _checksum(leaf):
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = leaf.view(unsigned).astype(jnp.uint32)
    place = jnp.ones((), jnp.uint32)
    for axis in range(leaf.ndim):
        scale = np.uint32(2 * 2654435761 ** (axis + 1) % 2**32)  # even: places stay odd
        place = place + scale * lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
    return jnp.sum(bits * place, dtype=jnp.uint32)


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
    if not there:
        raise ValueError(f'{where} has lost its list of arrays')
    names = sorted(n for n in there.keys() | here.keys() if there.get(n) != here.get(n))
    if names:
        shown = [
            f'{n}: {there.get(n, "absent")} there, {here.get(n, "absent")} here' for n in names
        ]
        more = f'; and {len(names) - 4} more' if len(names) > 4 else ''
        raise Changed(
            f'{where} holds another training state: {"; ".join(shown[:4])}{more}. The config has '
            'changed since: undo the change, or start in another --workdir'
        )
