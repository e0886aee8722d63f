"""snapshots: what was tracked comes back bit for bit, anything else as the equations say."""

import collections
import json
import math
import pathlib
import subprocess
import sys
import textwrap
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bucket import bucket  # noqa: F401

from autoguide_jax import ema, files, snapshots
from autoguide_jax.snapshots import reading

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'phema.npz'
STDS = (0.05, 0.10)


def tree(seed, shape=(3, 4)):
    rng = np.random.default_rng(seed)
    return {'net': {'w': rng.normal(size=shape), 'gain': rng.normal()}, 'head': rng.normal(size=5)}


def stacked(*trees):
    return jax.tree.map(lambda *v: jnp.asarray(np.stack(v), jnp.float32), *trees)


BUFFERS = {'net': {'freqs': np.linspace(0, 1, 7, dtype=np.float32)}}


def write_run(folder, n=4, stds=STDS, spacing=1024, **options):
    """A run of n moments, every EMA random; returns (nimg, std) → params."""
    kept = {}
    for k in range(1, n + 1):
        trees = [tree(100 * k + j) for j in range(len(stds))]
        snapshots.save(folder, k * spacing, stds, stacked(*trees), BUFFERS, **options)
        kept |= {(k * spacing, std): t for std, t in zip(stds, trees)}
    return kept


def assert_trees_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, np.float32(y)), a, b)


@pytest.fixture(params=['local', 'bucket'])
def anywhere(request, tmp_path):
    if request.param == 'local':
        return tmp_path
    return files.path(request.getfixturevalue('bucket')) / tmp_path.name


def test_tracked_emas_come_back_bit_for_bit(anywhere):
    kept = write_run(anywhere, n=2)
    found = snapshots.list_snapshots(anywhere)
    assert [(s.nimg, s.std) for s in found] == sorted(kept)
    assert all(s.dtype == 'float32' and len(s.sha256) == 64 for s in found)
    for (nimg, std), expected in kept.items():
        params, report = snapshots.reconstruct(anywhere, std, nimg)
        assert_trees_equal(params, expected)
        assert report.tracked and report.fit_error == 0 and report.noise_gain == 1
    latest, report = snapshots.reconstruct(anywhere, 0.1)
    assert report.nimg == 2048
    assert_trees_equal(latest, kept[2048, 0.1])


def test_negative_zero_and_large_nimg_survive(tmp_path):
    params = {'w': jnp.array([[-0.0, 1e-38, np.inf]])}
    snapshots.save(tmp_path, 2**31 + 6, [0.05], params, {})
    got, _ = snapshots.reconstruct(tmp_path, 0.05)
    assert got['w'].tobytes() == np.asarray(params['w'][0]).tobytes()
    assert snapshots.list_snapshots(tmp_path)[0].nimg == 2**31 + 6


def test_any_other_ema_is_the_weighted_sum(anywhere):
    kept = write_run(anywhere, n=3)
    with pytest.warns(UserWarning, match='EMA profile .*% off'):
        params, report = snapshots.reconstruct(anywhere, 0.07, 2048, max_fit_error=0.5)
    used = [key for key in sorted(kept) if key[0] <= 2048]
    assert [(s.nimg, s.std) for s in report.sources] == used
    x = ema.posthoc_coefficients([k[0] for k in used], [k[1] for k in used], 2048, 0.07)[:, 0]
    np.testing.assert_array_equal(report.coefficients, x)
    for path in (('net', 'w'), ('net', 'gain'), ('head',)):
        leaf = [kept[key] for key in used]
        got = params
        for name in path:
            leaf, got = [t[name] for t in leaf], got[name]
        expected = sum(c * np.float64(np.float32(v)) for c, v in zip(x, leaf))
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected.astype(np.float32))


def test_published_reconstruction_from_float16(tmp_path):
    """Six float16 snapshots of a real run → 0.075, and how far the tracked EMA is from it."""
    with np.load(GOLDEN) as z:
        golden = dict(z)
    names = sorted(k.removeprefix('expected/') for k in golden if k.startswith('expected/'))
    frozen = [n for n in names if 'fourier' in n]
    learned = [n for n in names if n not in frozen]
    moments = {'0000008': 8192, '0000016': 16384, '0000024': 24576}
    for label, nimg in moments.items():
        both = [{n: golden[f'{label}/{s}/{n}'] for n in learned} for s in ('0.050', '0.100')]
        fixed = {n: golden[f'{label}/0.050/{n}'] for n in frozen}
        trees = jax.tree.map(lambda *v: np.stack(v), *both)
        snapshots.save(tmp_path, nimg, STDS, trees, fixed, dtype='float16')
    with pytest.warns(UserWarning, match='EMA profile'):
        params, report = snapshots.reconstruct(tmp_path, 0.075)
    np.testing.assert_allclose(report.coefficients, golden['coefs'], rtol=1e-6)
    for n in learned:
        np.testing.assert_allclose(params[n], golden[f'expected/{n}'], rtol=1e-6, atol=1e-7)

    def distance(other):
        gap = sum(np.sum((np.float64(params[n]) - other[n]) ** 2) for n in learned)
        return math.sqrt(gap / sum(np.sum(np.float64(other[n]) ** 2) for n in learned))

    # All 63 arrays of the run are 5.199e-4 apart; the few stored with this test are 6.277e-4.
    assert distance({n: golden[f'tracked/{n}'] for n in learned}) == pytest.approx(
        6.277e-4, rel=1e-3
    )
    with files.open_npz(tmp_path / 'snapshots' / report.sources[-1].file) as arrays:
        assert arrays[f'params/{learned[0]}'].dtype == np.float16
        np.testing.assert_array_equal(
            arrays[f'buffers/{frozen[0]}'], golden[f'expected/{frozen[0]}'].astype(np.float16)
        )


def test_saving_again_replaces_and_leaves_no_stale_file(tmp_path):
    write_run(tmp_path, n=2)
    for k in range(3):
        newer = [tree(7 + k), tree(8 + k)]
        snapshots.save(tmp_path, 1024, STDS, stacked(*newer), BUFFERS)
        found = snapshots.list_snapshots(tmp_path)
        assert len(found) == 4
        assert files.names(tmp_path / 'snapshots', '.npz') == sorted(s.file for s in found)
        assert_trees_equal(snapshots.reconstruct(tmp_path, 0.05, 1024)[0], newer[0])


def test_facts_come_from_the_index_not_from_names(tmp_path):
    kept = write_run(tmp_path, n=2)
    index = tmp_path / 'snapshots' / 'index.jsonl'
    rows = files.read_jsonl(index)
    for k, row in enumerate(rows):
        (tmp_path / 'snapshots' / row['file']).rename(tmp_path / 'snapshots' / f'{k}-0.9.npz')
        row['file'] = f'{k}-0.9.npz'
    index.write_text(''.join(json.dumps(r) + '\n' for r in reversed(rows)))
    assert_trees_equal(snapshots.reconstruct(tmp_path, 0.1, 1024)[0], kept[1024, 0.1])


def test_an_array_file_without_its_row_is_not_a_snapshot(tmp_path):
    """What is left by a writer killed between array file and row."""
    write_run(tmp_path, n=2)
    index = tmp_path / 'snapshots' / 'index.jsonl'
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b''.join(lines[:-1]) + lines[-1][:20])
    assert len(snapshots.list_snapshots(tmp_path)) == 3
    newer = [tree(7), tree(8)]
    snapshots.save(tmp_path, 2048, STDS, stacked(*newer), BUFFERS)
    assert len(snapshots.list_snapshots(tmp_path)) == 4
    assert_trees_equal(snapshots.reconstruct(tmp_path, 0.1)[0], newer[1])


def test_only_the_writer_writes(tmp_path):
    snapshots.save(tmp_path, 8, STDS, stacked(tree(0), tree(1)), BUFFERS, write=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match='no snapshots'):
        snapshots.reconstruct(tmp_path, 0.05)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'dtype': 'bfloat16'}, 'bfloat16.*float32, float16'),
        ({'nimg': 0}, r'nimg \(0\)'),
        ({'stds': (0.05,)}, r'n_std \(1\)'),
        ({'stds': (0.05, 0.3)}, r'EMA std \(0.3\)'),
        ({'ema_tree': {'a/b': np.zeros((2, 1))}}, 'without "/"'),
        ({'ema_tree': {'a': [np.zeros((2, 1))]}}, 'nested dict'),
        ({'ema_tree': {'a': np.full((2, 1), 1e5)}, 'dtype': 'float16'}, "a: .*'float32'"),
    ],
)
def test_bad_snapshots_are_refused_and_leave_nothing(tmp_path, change, message):
    given = {'nimg': 8, 'stds': STDS, 'ema_tree': stacked(tree(0), tree(1)), 'buffers': BUFFERS}
    with pytest.raises(ValueError, match=message):
        snapshots.save(tmp_path, **(given | change))
    assert not files.names(tmp_path / 'snapshots')


def test_policy_for_a_demo_of_sixteen_snapshots(tmp_path):
    write_run(tmp_path, n=16)
    for std, fit in ((0.03, 0.039), (0.075, 0.0035), (0.15, 0.009), (0.2, 0.023), (0.25, 0.079)):
        report = snapshots.assess(tmp_path, std)
        assert report.fit_error == pytest.approx(fit, rel=0.02)
        assert bool(report.warning) == (fit > 0.01)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            snapshots.reconstruct(tmp_path, std)
        assert [str(w.message) for w in caught] == [report.warning] * (fit > 0.01)
        assert all(w.filename == __file__ for w in caught)
    with pytest.raises(ValueError) as refused:
        snapshots.assess(tmp_path, 0.01)
    text = str(refused.value)
    assert 'off (the nearest reachable: 0.022). ' in text
    assert snapshots.assess(tmp_path, 0.022).fit_error < 0.1
    with pytest.raises(ValueError):
        snapshots.assess(tmp_path, 0.021)
    assert '36.3% off' in text and '0.0218 to 0.252' in text and 'max_fit_error' in text
    assert 'snapshot_nimg' in text and 'third std' in text
    assert snapshots.assess(tmp_path, 0.01, max_fit_error=0.4).warning
    with pytest.raises(ValueError, match=r'0\.2887'):
        snapshots.assess(tmp_path, 0.3)


def test_rounding_noise_of_float16_is_predicted(tmp_path):
    """FACTS 4: 64 snapshots in float16, target 0.015: 0.7 % of noise; float32 has none."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(2, 20000)).astype(np.float32)
    for k in range(1, 65):
        # Slightly different weights each time, so that the rounding is independent.
        drift = {'w': np.float32(truth * (1 + 1e-2 * rng.normal(size=truth.shape)))}
        for dtype in ('float16', 'float32'):
            snapshots.save(tmp_path / dtype, k, STDS, drift, {}, dtype=dtype)
    with pytest.warns(UserWarning, match=r'0\.7% weight noise'):
        rounded, report = snapshots.reconstruct(tmp_path / 'float16', 0.015)
    with pytest.warns(UserWarning, match=r'EMA profile 2\.3% off$'):
        exact, _ = snapshots.reconstruct(tmp_path / 'float32', 0.015)
    assert report.rounding_noise == pytest.approx(0.007, abs=5e-4)
    noise = np.linalg.norm(rounded['w'] - exact['w']) / np.linalg.norm(truth[0])
    assert noise == pytest.approx(report.rounding_noise, rel=0.1)


def test_all_that_is_impossible_is_one_error(tmp_path):
    write_run(tmp_path, n=16)
    targets = [(0.07, None), (0.01, None), (0.28, None), (0.07, 3000), (0.3, None), (0.01, 16384)]
    with pytest.raises(ValueError) as refused:
        snapshots.reconstruct_many(tmp_path, targets)
    text = str(refused.value)
    assert text.count('EMA std 0.01 at') == 1 and text.count('max_fit_error') == 1
    for part in (
        'EMA std 0.28 at nimg 16384 from 32 snapshots',
        '% off (the nearest reachable: 0.022); ',
        '% off (the nearest reachable: 0.257); ',
        'no snapshot at nimg 3000; the nearest: 2048, 3072',
        'EMA std (0.3) must lie in (0, 0.2887]',
    ):
        assert part in text, text
    snapshots.assess_many(tmp_path, [(0.022, None), (0.257, None)])


def test_the_nearest_reachable_on_both_sides(tmp_path):
    write_run(tmp_path, n=1, stds=(0.05, 0.2))
    with pytest.raises(ValueError, match=r'the nearest reachable: 0\.\d+ and 0\.\d+') as refused:
        snapshots.assess(tmp_path, 0.1)
    *_, low, _, high = str(refused.value).partition('. The limit')[0].split()
    low, high = float(low), float(high.rstrip(')'))
    assert 0.05 <= low < 0.1 < high <= 0.2
    snapshots.assess_many(tmp_path, [(low, None), (high, None)])
    for std in (low + 0.001, high - 0.001):
        with pytest.raises(ValueError, match='max_fit_error'):
            snapshots.assess(tmp_path, std)


@pytest.fixture
def opened(monkeypatch):
    """How often each npz file was opened."""
    counts, open_npz = collections.Counter(), files.open_npz

    def counted(p):
        counts[pathlib.Path(p).name] += 1
        return open_npz(p)

    monkeypatch.setattr(files, 'open_npz', counted)
    return counts


def bits(params):
    return [(leaf.dtype, leaf.shape, leaf.tobytes()) for leaf in jax.tree.leaves(params)]


@pytest.mark.filterwarnings('ignore:.*EMA profile')
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_many_lengths_from_one_reading_are_those_of_one_at_a_time(tmp_path, opened, dtype):
    write_run(tmp_path, n=6, dtype=dtype)
    targets = [(0.07, None), (0.05, 2048), (0.12, 5120), (0.06, None), (0.1, None), (0.09, 4096)]
    snapshots.save_reconstruction(tmp_path, 0.06)
    alone = [snapshots.reconstruct(tmp_path, *target) for target in targets]
    one_by_one = sum(opened.values())
    opened.clear()
    many = list(snapshots.reconstruct_many(tmp_path, targets))
    assert [report for _, report in many] == [report for _, report in alone]
    assert [bits(params) for params, _ in many] == [bits(params) for params, _ in alone]
    assert len(opened) == 13 and set(opened.values()) == {1} and one_by_one > 40
    plan = snapshots.reading_plan(tmp_path, targets)
    assert (plan.readings, plan.opens) == (1, 13)
    assert plan.read_bytes == pytest.approx(total_bytes(tmp_path), rel=0.05)
    limit = plan.peak_bytes // 2
    opened.clear()
    split = list(snapshots.reconstruct_many(tmp_path, targets, limit))
    assert [bits(params) for params, _ in split] == [bits(params) for params, _ in alone]
    plan = snapshots.reading_plan(tmp_path, targets, limit)
    assert plan.readings > 1 and plan.peak_bytes <= limit
    assert plan.opens == sum(opened.values()) < one_by_one
    assert max(opened.values()) <= plan.readings
    assert snapshots.reading_plan(tmp_path, targets, 1).readings == len(targets)


def total_bytes(run):
    return sum(f.stat().st_size for f in run.rglob('*.npz'))


def test_a_file_that_one_sum_leaves_out_changes_no_order(tmp_path):
    """Float sums depend on the order of their terms: it is that of the snapshots for all."""
    rng = np.random.default_rng(0)
    for name in 'abc':
        leaf = (rng.normal(size=1000) * 10.0 ** rng.integers(-3, 3, 1000)).astype(np.float32)
        files.save_npz(tmp_path / f'{name}.npz', {'params/w': leaf, f'buffers/{name}': leaf[:2]})
    weights = [(0.7, 1e-12, 0.3), (1e-12, -2.3, 3.3), (0.3, -1.4, 2.1), (0.5, 0.5, 1e-12)]
    term = lambda k, c: reading.Term(k, 0.05, f'{"abc"[k]}.npz', 'float32', c)
    targets = [[term(k, c) for k, c in enumerate(row)] for row in weights]
    together = list(reading.read_together(tmp_path, targets, 'test'))
    for terms, found in zip(targets, together):
        [alone] = reading.read_together(tmp_path, [terms], 'test')
        assert list(alone) == list(found) == ['params/w', 'buffers/c']
        assert bits(alone) == bits(found)


@pytest.mark.filterwarnings('ignore:.*EMA profile')
def test_reconstructions_are_stored_by_readings_and_go_on_from_there(tmp_path, opened, monkeypatch):
    write_run(tmp_path, n=4)
    stds = [0.06, 0.07, 0.08, 0.05, 0.07]
    targets = [(std, None) for std in stds]
    limit = snapshots.reading_plan(tmp_path, targets[:2]).peak_bytes

    def interrupted(*args):
        if len(files.read_jsonl(tmp_path / 'posthoc' / 'index.jsonl')) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(reading.stop, 'check', lambda *_, **__: interrupted())
        snapshots.save_reconstructions(tmp_path, targets, limit)
    assert set(opened.values()) == {1}, 'two lengths from one reading'
    opened.clear()
    found = snapshots.save_reconstructions(tmp_path, targets, limit)
    assert len(opened) == 8 and set(opened.values()) == {1}, 'the third length alone'
    assert [report.std for _, report in found] == stds
    assert [path.parent.name for path, _ in found] == ['posthoc'] * 3 + ['snapshots', 'posthoc']
    for path, report in found:
        params, _ = snapshots.reconstruct(tmp_path, report.std)
        with files.open_npz(path) as arrays:
            np.testing.assert_array_equal(arrays['params/head'], params['head'])


def test_a_moment_without_snapshot_names_its_neighbours(tmp_path):
    write_run(tmp_path, n=4)
    with pytest.raises(ValueError, match=r'no snapshot at nimg 3000; the nearest: 2048, 3072'):
        snapshots.reconstruct(tmp_path, 0.05, 3000)


def test_snapshots_of_another_network_are_refused(tmp_path):
    write_run(tmp_path, n=2)
    other = [tree(1, shape=(3, 5)), tree(2, shape=(3, 5))]
    snapshots.save(tmp_path, 3072, STDS, stacked(*other), BUFFERS)
    with (
        pytest.raises(ValueError, match=r'params/net/w has another shape'),
        pytest.warns(UserWarning),
    ):
        snapshots.reconstruct(tmp_path, 0.07)


@pytest.mark.skipif(not pathlib.Path('/proc/self/status').exists(), reason='needs Linux /proc')
def test_peak_host_memory_of_a_reconstruction_is_about_two_models(tmp_path):
    """10 M parameters in twenty leaves, 16 array files: no more than 2.3 models above the start."""
    code = """
        import sys, numpy as np
        from autoguide_jax import snapshots
        run, leaves, size = sys.argv[1], 20, 500_000
        ema = {f'w{i}': np.full((2, size), i, np.float32) for i in range(leaves)}
        for k in range(1, 9):
            snapshots.save(run, k, (0.05, 0.1), ema, {})
        del ema
    """
    read = """
        import re, sys, warnings
        from autoguide_jax import snapshots
        warnings.simplefilter('ignore')
        # Not ru_maxrss: a child process inherits that of its parent.
        def status(name):
            return int(re.search(name + r':\\s+(\\d+)', open('/proc/self/status').read())[1])

        before = status('VmRSS')
        params, report = snapshots.reconstruct(sys.argv[1], 0.07)
        assert len(report.sources) == 16
        assert all(abs(params[f'w{i}'] - i).max() < 1e-5 for i in range(20))
        print((status('VmHWM') - before) * 1024 / 40e6)
    """
    for text in (code, read):
        command = [sys.executable, '-c', textwrap.dedent(text), str(tmp_path)]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    models = float(run.stdout.split()[-1])
    print(f'peak host memory: {models:.2f} models')
    assert 1 < models <= 2.3
