"""A damaged newest checkpoint is told of and passed over; nothing else is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoguide_jax.checkpoints import Checkpoints, checksums


def state(seed):
    draw = lambda i, *shape: np.random.default_rng([seed, i]).normal(size=shape).astype('f4')
    return {'w': jnp.asarray(draw(0, 3, 3, 32, 64)), 'b': jnp.asarray(draw(1, 64)), 'step': seed}


def saved(folder, *steps):
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, jax.tree.map(jnp.asarray, state(step)), {'nimg': 32 * step})
    return jax.tree.map(jnp.asarray, state(0))


def files_of(folder, step):
    found = [p for p in (folder / f'checkpoints/{step}').rglob('*') if p.is_file()]
    return sorted(found, key=lambda p: p.stat().st_size, reverse=True)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def named(path):
    return 'META' in path.name


HARMS = {
    'a bit of the arrays': lambda folder: flip_arrays(folder),
    'half of every file': lambda folder: [cut(path) for path in files_of(folder, 3)],
    'no arrays': lambda folder: [path.unlink() for path in files_of(folder, 3)[:2]],
    'no list of arrays': lambda folder: [
        p.unlink() for p in files_of(folder, 3) if 'META' in p.name
    ],
    'facts that are no JSON': lambda folder: cut(folder / 'checkpoints/3/meta/metadata'),
}


def flip_arrays(folder):
    """One bit in each large file: TensorStore reads them without complaint, or unpacks nonsense."""
    large = [path for path in files_of(folder, 3) if path.stat().st_size > 10_000]
    assert large
    for path in large:
        flip(path)


@pytest.mark.parametrize('harm', HARMS)
def test_the_one_before_takes_its_place(tmp_path, harm, capsys):
    target = saved(tmp_path, 2, 3)
    HARMS[harm](tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        back, meta = checkpoints.restore(target)
        assert meta == {'nimg': 64} and np.array_equal(back['w'], state(2)['w'])
        assert f'{tmp_path}/checkpoints/3 cannot be read: ' in capsys.readouterr().err
        # The run goes on, comes to the same step, and what it saves there is good.
        assert checkpoints.save(3, jax.tree.map(jnp.asarray, state(3)), {'nimg': 96})
    with Checkpoints(tmp_path) as checkpoints:
        back, meta = checkpoints.restore(target)
    assert meta == {'nimg': 96} and np.array_equal(back['w'], state(3)['w'])
    assert not capsys.readouterr().err


def test_a_damaged_step_that_is_asked_for_and_a_run_without_a_good_one_are_errors(tmp_path):
    target = saved(tmp_path, 3)
    flip_arrays(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        for step in (3, None):
            with pytest.raises(ValueError, match=r'no checkpoint can be read, of \[3\]'):
                checkpoints.restore(target, step)


@pytest.mark.parametrize('dtype', ['float32', 'int32', 'uint32', 'float16', 'bfloat16', 'bool'])
def test_a_checksum_hears_every_bit_and_every_place(dtype):
    bits = np.random.default_rng(0).integers(0, 2, 24 * 4 * 8)
    size = jnp.dtype(dtype).itemsize
    data = np.packbits(bits)[: 24 * size] & (1 if dtype == 'bool' else 255)
    array = jnp.asarray(data.view(np.dtype(jnp.dtype(dtype))).reshape(4, 6))
    one = checksums({'a': array})
    for place in (0, 7, 23):
        other = data.copy()
        other[place * size] ^= 1
        other = jnp.asarray(other.view(array.dtype).reshape(4, 6))
        assert checksums({'a': other}) != one
    assert checksums({'a': array[::-1]}) != one and checksums({'a': array[:, ::-1]}) != one
    assert np.array_equal(checksums({'a': array}), one)


def test_it_is_the_same_however_the_array_is_split():
    devices = jax.devices()[:2]
    array = jnp.arange(48.0).reshape(6, 8)
    mesh = jax.make_mesh((2,), ('x',), devices=devices)
    for spec in (jax.P('x'), jax.P(None, 'x')):
        split = jax.device_put(array, jax.NamedSharding(mesh, spec))
        assert checksums([split]) == checksums([array])
