"""checkpoints.py: what is resumed is what was saved, bit for bit, whatever killed the writer."""

import random
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bucket import bucket  # noqa: F401
from jax.sharding import NamedSharding, PartitionSpec

from autoguide_jax import files
from autoguide_jax.checkpoints import Checkpoints


def training_state(seed=0):
    rng = np.random.default_rng(seed)
    params = {
        'net': {'w': rng.normal(size=(8, 3)), 'gain': np.array(-0.0)},
        'tiny': np.array([1e-45, np.inf, np.nan, np.pi]),
    }
    params = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), params)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    ema = jax.tree.map(lambda v: jnp.stack([v, 2 * v]), params)
    count = jnp.int32(2**31 - 1)
    return {'params': params, 'opt': optimiser.init(params), 'ema': ema, 'step': count}


def abstract(tree):
    return jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=v.sharding), tree)


def assert_same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture(params=['local', 'bucket'])
def anywhere(request, tmp_path):
    if request.param == 'local':
        return tmp_path
    return files.path(request.getfixturevalue('bucket')) / tmp_path.name


def test_state_and_meta_come_back_bit_for_bit(anywhere):
    state, meta = training_state(), {'nimg': 2**31 + 2**40, 'config': {'lr': 0.1, 'b': [1, None]}}
    with Checkpoints(anywhere) as checkpoints:
        assert checkpoints.latest() is None
        assert checkpoints.save(7, state, meta)
    with Checkpoints(anywhere) as checkpoints:
        assert checkpoints.latest() == 7
        restored, back = checkpoints.restore(abstract(state))
    assert_same_bits(restored, state)
    assert back == meta and type(back['nimg']) is int


def test_the_newest_two_are_kept_and_any_of_them_restored(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (5, 10, 15):
            assert checkpoints.save(step, training_state(step), {'nimg': 8 * step})
        assert checkpoints.save(15, training_state(0), {'nimg': 0}, wait=True) is False
        assert checkpoints.latest() == 15
        for step in (10, 15):
            state, meta = checkpoints.restore(abstract(training_state()), step)
            assert_same_bits(state, training_state(step))
            assert meta == {'nimg': 8 * step}
        with pytest.raises(ValueError, match=r'no checkpoint 5; there are \[10, 15\]'):
            checkpoints.restore(abstract(training_state()), 5)


def test_nothing_to_restore_is_said(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match='no checkpoint'):
        checkpoints.restore(abstract(training_state()))


def test_waiting_means_that_it_is_on_disk(tmp_path):
    writer = Checkpoints(tmp_path)
    writer.save(1, training_state(), {'nimg': 1}, wait=True)
    with Checkpoints(tmp_path) as reader:
        assert reader.latest() == 1
    writer.close()


def test_the_state_may_be_donated_while_it_is_being_saved(tmp_path):
    add = jax.jit(lambda tree: jax.tree.map(lambda v: v + 1, tree), donate_argnums=0)
    state = {'w': jnp.zeros((2000, 4000))}
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, 4):
            state = add(state)
            checkpoints.save(step, state, {'nimg': step})
            state = add(state)
        restored, _ = checkpoints.restore(abstract(state))
    np.testing.assert_array_equal(restored['w'], np.full((2000, 4000), 5, np.float32))


def test_arrays_go_where_the_abstract_state_says(tmp_path):
    mesh = jax.make_mesh((1,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    there = NamedSharding(mesh, PartitionSpec('data'))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {'w': np.arange(8.0, dtype=np.float32)}, {}, wait=True)
        target = {'w': jax.ShapeDtypeStruct((8,), jnp.float32, sharding=there)}
        restored, _ = checkpoints.restore(target)
    assert restored['w'].sharding == there
    np.testing.assert_array_equal(restored['w'], np.arange(8))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s['params']['net'].update(w=jnp.ones((8, 4))), r'params/net/w: .*\[8,3\] there'),
        (lambda s: s['params'].update(b=jnp.ones(2)), r'params/b: absent there, float32\[2\] here'),
        (lambda s: s.pop('ema'), r'ema/net/gain: float32\[2\] there, absent here'),
        (lambda s: s.update(step=jnp.float32(1)), r'step: int32\[\] there, float32\[\] here'),
        (lambda s: s.update(opt=optax.sgd(0.1).init({})), 'opt/.*count.* absent here'),
    ],
)
def test_a_state_of_another_config_is_refused_by_name(tmp_path, change, message):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, training_state(), {'nimg': 3}, wait=True)
        other = training_state()
        change(other)
        with pytest.raises(ValueError, match=message) as refused:
            checkpoints.restore(abstract(other))
    assert 'checkpoints/3 holds another training state' in str(refused.value)
    assert '--workdir' in str(refused.value)


WRITER = """
    import sys
    import jax, jax.numpy as jnp
    from autoguide_jax.checkpoints import Checkpoints

    def state(step):
        return {f'w{i}': jnp.full((300, 300), step + i, jnp.float32) for i in range(20)}

    checkpoints = Checkpoints(sys.argv[1])
    start = checkpoints.latest() or 0
    if start:
        restored, meta = checkpoints.restore(state(0))
        same = all((restored[k] == v).all() for k, v in state(start).items())
        print('restored', start, bool(same and meta == {'nimg': start << 32}), flush=True)
    for step in range(start + 1, start + 1 + int(sys.argv[2])):
        checkpoints.save(step, state(step), {'nimg': step << 32})
        print('saved', step, flush=True)
    checkpoints.close()
"""


def test_kill_9_never_leaves_half_a_checkpoint(tmp_path):
    """Three writers are killed at random moments of a save; each successor finds a whole step."""
    rng = random.Random(0)
    restored, last_begun, before = [], 0, 0
    for trial in range(4):
        steps = '1' if trial == 3 else '100000'
        command = [sys.executable, '-c', textwrap.dedent(WRITER), str(tmp_path), steps]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            begun = 0
            for line in writer.stdout:
                word, *facts = line.split()
                if word == 'restored':
                    step, consistent = int(facts[0]), facts[1] == 'True'
                    assert consistent and before < step <= last_begun
                    restored.append(step)
                    before = step
                begun += word == 'saved'
                if trial < 3 and begun == 5:
                    break
            if trial < 3:
                time.sleep(rng.uniform(0, 0.15))
                writer.send_signal(signal.SIGKILL)
                rest = writer.stdout.read().split()
                last_begun = int((rest or facts)[-1]) + 1
        assert writer.returncode == (0 if trial == 3 else -signal.SIGKILL)
    assert len(restored) == 3
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == restored[-1] + 1
    assert len(files.names(tmp_path / 'checkpoints')) == 2, 'no debris is left'
