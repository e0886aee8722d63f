"""load_network: (run directory, nimg, std) is the network that was saved, and nothing else."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bucket import bucket  # noqa: F401

from autoguide_jax import files, snapshots
from autoguide_jax.pairs import Networks, Pair
from autoguide_jax.refs import NetworkRef

STDS = (0.05, 0.10)
CONFIG = {
    'network': {
        'name': 'edm2_unet', 'resolution': 4, 'channels': 1, 'label_dim': 3, 'model_channels': 8,
        'channel_mult': [1], 'num_blocks': 1, 'attn_resolutions': [4], 'channels_per_head': 8,
    },
    'denoiser': {'sigma_data': 0.4},
}  # fmt: skip


@pytest.fixture(params=['local', 'bucket'])
def anywhere(request, tmp_path):
    if request.param == 'local':
        return tmp_path
    return files.path(request.getfixturevalue('bucket')) / tmp_path.name


@functools.cache
def two_networks():
    """One denoiser and two sets of variables, the second with the buffers of the first."""
    denoiser = snapshots.build_denoiser(CONFIG)
    x, labels = jnp.ones((2, 4, 4, 1)), jnp.array([0, -1])
    shapes = jax.eval_shape(denoiser.init, jax.random.key(0), x, jnp.ones(2), labels)
    rng = np.random.default_rng(0)
    draw = lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype)  # noqa: E731
    return denoiser, jax.tree.map(draw, shapes), jax.tree.map(draw, shapes)


def write_network(folder, n=8):
    files.write_json(folder / 'config.json', CONFIG)
    denoiser, first, second = two_networks()
    params = jax.tree.map(lambda *v: np.stack(v), first['params'], second['params'])
    for k in range(1, n + 1):
        moved = jax.tree.map(lambda p, k=k: p + np.float32(0.01 * k), params)
        snapshots.save(folder, 1024 * k, STDS, moved, first['buffers'])
    return denoiser, first


def test_a_loaded_network_is_the_network_that_was_saved(anywhere):
    denoiser, first = write_network(anywhere, n=2)
    network = snapshots.load_network(anywhere, 0.05, 1024)
    moved = jax.tree.map(lambda p: np.asarray(p) + np.float32(0.01), first['params'])
    expected = {**first, 'params': moved}
    jax.tree.map(np.testing.assert_array_equal, network.variables, expected)
    assert all(isinstance(v, jax.Array) for v in jax.tree.leaves(network.variables))
    assert network.denoiser == denoiser and network.config == CONFIG
    x = jax.random.normal(jax.random.key(9), (2, 4, 4, 1))
    given = x, jnp.array([0.5, 2.0]), jnp.array([2, -1])
    apply = jax.jit(network.apply)
    x0 = apply(network.variables, *given)
    np.testing.assert_array_equal(x0, apply(expected, *given))
    assert x0.shape == x.shape and not np.array_equal(x0, jnp.zeros_like(x0))
    [stored] = [s for s in snapshots.list_snapshots(anywhere) if (s.nimg, s.std) == (1024, 0.05)]
    assert network.content_hash == stored.sha256
    assert network.content_hash != snapshots.load_network(anywhere, 0.05, 2048).content_hash
    assert (network.nimg, network.std, network.run) == (1024, 0.05, str(anywhere))
    assert (network.fit_error, network.noise_gain) == (0, 1)


def test_variables_go_where_they_are_placed(tmp_path):
    write_network(tmp_path, n=1)
    network = snapshots.load_network(tmp_path, 0.05, place=lambda v: v)
    assert all(isinstance(v, np.ndarray) for v in jax.tree.leaves(network.variables))


def test_a_stored_reconstruction_is_used_while_its_sources_are_the_same(tmp_path):
    write_network(tmp_path)
    with pytest.warns(UserWarning, match='EMA profile'):
        path, report = snapshots.save_reconstruction(tmp_path, 0.03, max_fit_error=0.2)
    assert path.parent.name == 'posthoc' and len(snapshots.list_snapshots(tmp_path)) == 16
    with pytest.warns(UserWarning, match='EMA profile'):
        network = snapshots.load_network(tmp_path, 0.03, max_fit_error=0.2)
    assert (network.fit_error, network.noise_gain) == (report.fit_error, report.noise_gain)
    with files.open_npz(path) as arrays:
        doubled = {n: 2 * arrays[n] for n in arrays}
    files.save_npz(path, doubled)  # tells a read of this file from a new reconstruction
    with pytest.warns(UserWarning):
        marked = snapshots.load_network(tmp_path, 0.03, max_fit_error=0.2)
    gain = ('backbone', 'out_gain')
    pick = lambda v: float(v['params'][gain[0]][gain[1]])  # noqa: E731
    assert pick(marked.variables) == 2 * pick(network.variables) != 0
    assert snapshots.save_reconstruction(tmp_path, 0.03, max_fit_error=0.2)[0] == path
    with pytest.warns(UserWarning):  # another moment: not that file
        assert snapshots.load_network(tmp_path, 0.03, 7168, max_fit_error=0.2).nimg == 7168
    write_network(tmp_path, n=1)  # one source saved again, with the same content
    with pytest.warns(UserWarning):
        again = snapshots.load_network(tmp_path, 0.03, max_fit_error=0.2)
    assert again.content_hash == marked.content_hash
    changed = jax.tree.map(lambda v: jnp.stack([v, v]), network.variables['params'])
    snapshots.save(tmp_path, 1024, STDS, changed, network.variables['buffers'])
    with pytest.warns(UserWarning):
        fresh = snapshots.load_network(tmp_path, 0.03, max_fit_error=0.2)
    assert pick(fresh.variables) == pytest.approx(pick(network.variables), abs=1e-3)


def test_a_tracked_ema_is_not_stored_twice(tmp_path):
    write_network(tmp_path, n=1)
    path, report = snapshots.save_reconstruction(tmp_path, 0.05)
    assert path.parent.name == 'snapshots' and report.tracked
    assert not (tmp_path / 'posthoc').exists()


@pytest.mark.parametrize(
    ('section', 'change', 'message'),
    [
        ('network', {'model_chanels': 8}, r"config.network.model_chanels.*'model_channels'"),
        ('network', {'name': 'edm2_unit'}, r"config.network.name.*'edm2_unet'"),
        ('denoiser', {'sigma_dta': 1}, r"config.denoiser.sigma_dta.*'sigma_data'"),
    ],
)
def test_a_config_with_unknown_names_is_refused(section, change, message):
    config = CONFIG | {section: CONFIG[section] | change}
    with pytest.raises(ValueError, match=message):
        snapshots.build_denoiser(config)
    with pytest.raises(ValueError, match=r'config\.network'):
        snapshots.build_denoiser({})


@pytest.fixture
def readings(tmp_path, monkeypatch):
    """Two runs of eight snapshots, and how often each file was opened: {(run, file): count}."""
    for run in ('main', 'guide'):
        write_network(tmp_path / run, n=4)
    counts, open_npz = collections.Counter(), files.open_npz

    def counted(p):
        counts[files.path(p).parts[-3], files.path(p).name] += 1
        return open_npz(p)

    monkeypatch.setattr(files, 'open_npz', counted)
    return counts


REFS = [NetworkRef(run, std, nimg) for run in ('main', 'guide') for std, nimg in (
    (0.06, 4096), (0.07, 0), (0.08, 4096), (0.05, 0)
)]  # fmt: skip


@pytest.mark.filterwarnings('ignore:.*EMA profile')
def test_networks_that_are_prepared_read_every_snapshot_once(readings, tmp_path):
    networks = Networks()
    networks.prepare([*REFS, REFS[0]], str(tmp_path))
    assert len(readings) == 16 and set(readings.values()) == {1}
    readings.clear()
    found = [networks.get(ref, models=str(tmp_path)) for ref in REFS]
    networks.prepare(REFS[::-1], str(tmp_path))
    assert not readings
    for ref, network in zip(REFS, found):
        alone = snapshots.load_network(tmp_path / ref.run, ref.std, place=lambda v: v)
        assert network.content_hash == alone.content_hash and network.report == alone.report
        jax.tree.map(np.testing.assert_array_equal, network.variables, alone.variables)
    assert networks.get(NetworkRef('main', 0.06), models=str(tmp_path)) is found[0], 'the latest'


@pytest.mark.filterwarnings('ignore:.*EMA profile')
def test_networks_beyond_the_memory_are_loaded_in_turn(readings, tmp_path):
    one = snapshots.held_bytes(tmp_path / 'main')
    networks = Networks(max_bytes=5 * one)
    networks.prepare(REFS, str(tmp_path))  # four of main, one guide
    assert len(networks.loaded) == 5 and set(readings.values()) == {1} and len(readings) == 16
    hashes = {}
    for ref in REFS:
        readings.clear()
        network = networks.get(ref, 'main', str(tmp_path), beside=[REFS[0], ref])
        hashes[ref.run, ref.std] = network.content_hash
        assert len(networks.loaded) <= 5
        # The second guide is missed; the third and fourth come with it.
        late = ref == REFS[5]
        assert set(readings) == ({key for key in readings if key[0] == 'guide'} if late else set())
        assert set(readings.values()) == ({1} if late else set()) and len(readings) == 8 * late
    assert networks.key(REFS[0], 'main', str(tmp_path)) in networks.loaded, 'used beside the others'
    for (run, std), content in hashes.items():
        assert snapshots.load_network(tmp_path / run, std).content_hash == content
    small = Networks(max_bytes=1)
    small.prepare(REFS, str(tmp_path))
    assert not small.loaded
    assert small.get(REFS[2], models=str(tmp_path)).content_hash == hashes['main', 0.08]
    assert len(small.loaded) == 1


def test_all_faults_of_several_pairs_are_one_error(readings, tmp_path):
    bad = [NetworkRef('main', 0.01), NetworkRef('guide', 0.28), NetworkRef('guide', 0.06, 3000)]
    given = [Pair(main=REFS[0], guide=ref, models=str(tmp_path)) for ref in bad]
    given.append(Pair(main=NetworkRef('nowhere'), models=str(tmp_path)))
    for refuse in (
        lambda: Networks().check(*given),
        lambda: Networks().prepare([r for p in given for r in p.refs().values()], str(tmp_path)),
    ):
        with pytest.raises(ValueError) as refused:
            refuse()
        text = str(refused.value)
        assert text.count('the nearest reachable: 0.') == 2
        assert 'EMA std 0.01' in text and 'EMA std 0.28' in text and 'nearest: 2048, 3072' in text
        assert f'run ({tmp_path}/nowhere) is not a run directory' in text
    assert not readings
