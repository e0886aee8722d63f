"""Training in a failing bucket, killed and resumed, equals training on a disk without a fault."""

import signal
import time

import jax
import numpy as np
import pytest
from faulty_bucket import Fault, _faulty_session, faults  # noqa: F401
from test_checkpoints import abstract, assert_same_bits, training_state
from test_resume import SETTINGS, TIMES, begin, final_state, finish

from autoguide_jax import files, snapshots
from autoguide_jax.checkpoints import Checkpoints

SMALL = (
    *SETTINGS,
    '--config.train.total_nimg=512',
    '--config.train.snapshot_nimg=128',
    '--config.train.checkpoint_nimg=64',
    '--config.train.log_nimg=64',
)
# Two of each: a second and more of waiting for every one.
FAULTS = [Fault(kind, rate=0.2, limit=2) for kind in ('500', '503', 'drop', 'lost')]
FAULTS += [Fault('cut', rate=0.3, limit=2, ops=('read', 'list')), Fault('slow', 0.1, seconds=0.05)]
FAULTS += [Fault('corrupt', rate=0.2, limit=2, ops=('write',), match='metrics|snapshots')]


def science(run):
    """What a run directory holds, whatever the time it took and the names of its files."""
    rows = files.read_jsonl(run / 'metrics.jsonl')
    state, facts = final_state(run)
    return {
        'rows': [{k: v for k, v in row.items() if k not in TIMES} for row in rows],
        'nimg': facts['nimg'],
        'snapshots': [(s.nimg, s.std, s.sha256) for s in snapshots.list_snapshots(run)],
        'state': state,
    }


def test_training_killed_in_a_failing_bucket_equals_one_on_a_disk(faults, tmp_path):  # noqa: F811
    local, remote = tmp_path / 'local', f'gs://bucket/{tmp_path.name}'
    finish(begin('train', local, *SMALL))
    faults.set(*FAULTS)
    process = begin('train', remote, *SMALL)
    # Killed when the second moment's first snapshot is in the bucket, and its row may not be.
    while not any('snapshots/0000000000256' in name for name in list(faults.written)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish(begin('train', remote, *SMALL))
    print('fault-injection log:', faults.counts())
    assert faults.counts().keys() >= {'500', '503', 'drop', 'lost', 'slow'}
    faults.set()
    found, expected = science(files.path(remote)), science(local)
    jax.tree.map(np.testing.assert_array_equal, found.pop('state'), expected.pop('state'))
    assert found == expected
    assert len(found['rows']) == 8 and len(found['snapshots']) == 8


def test_a_listing_that_lags_costs_a_save_but_no_checkpoint(faults, tmp_path):  # noqa: F811
    """Orbax believes listings, as the real service allows; if one lagged, it would say so."""
    folder = f'gs://bucket/{tmp_path.name}'
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, training_state(1), {'nimg': 1})
    faults.set(Fault('hide', seconds=60, match='checkpoints/2/'))
    with pytest.raises(ValueError, match='checkpoints/2/state'), Checkpoints(folder) as checkpoints:
        checkpoints.save(2, training_state(2), {'nimg': 2})
    faults.set()
    for step in (1, 2):
        with Checkpoints(folder) as checkpoints:
            assert checkpoints.latest() == step
            restored, meta = checkpoints.restore(abstract(training_state()))
            assert meta['nimg'] == step
            assert_same_bits(jax.device_get(restored), jax.device_get(training_state(step)))
            checkpoints.save(2, training_state(2), {'nimg': 2})
