"""The guide finder: closed forms of its theory, a tiny ranking end to end, and what it refuses."""

import collections
import dataclasses
import json
import types

import jax
import numpy as np
import pytest

from autoguide_jax import __main__ as cli
from autoguide_jax import config, files, generation, guide_theory, guides, snapshots
from autoguide_jax.data.toy import Toy
from autoguide_jax.guide_theory import Moments
from autoguide_jax.guides import ranking
from autoguide_jax.guides.candidates import cast
from autoguide_jax.guides.errors import NOISE, Pass, noise_keys
from autoguide_jax.guides.held_out import HeldOut, levels_of
from autoguide_jax.pairs import Networks
from autoguide_jax.snapshots import build_denoiser

NIMG, STD = 4096, 0.1
AGES = (1024, 2048, NIMG)


def moments_of(e_m, e_i, noise=0.0):
    """Moments [n, k] of error fields [n, k, d] about a truth that differs from x0 by noise."""
    mean = lambda a, b: np.mean(a * b, axis=-1)
    lead = lambda e: mean(e - e_m, e + e_m + 2 * noise)
    main = mean(e_m + noise, e_m + noise)
    return Moments(mean(e_m, e_m), mean(e_m, e_i), mean(e_i, e_i), main, lead(e_i), lead(0 * e_m))


@pytest.mark.parametrize('r', [1.25, 2.0, 4.0])
def test_aligned_errors_give_the_weight_that_leaves_none(r):
    e_m = np.random.default_rng(0).normal(size=(50, 3, 8))
    noise = np.random.default_rng(1).normal(size=e_m.shape)
    m = guide_theory.mean(moments_of(e_m, r * e_m))
    np.testing.assert_allclose(guide_theory.ratio(m), r)
    np.testing.assert_allclose(guide_theory.cosine(m), 1)
    np.testing.assert_allclose(guide_theory.excess_ratio(m), r)
    for weight in (guide_theory.least_squares_weight(m), guide_theory.data_weight(m)):
        np.testing.assert_allclose(weight, r / (r - 1))
    np.testing.assert_allclose(guide_theory.aligned_weight(r), r / (r - 1))
    np.testing.assert_allclose(guide_theory.removable(m), 1)
    np.testing.assert_allclose(guide_theory.score(m), 1 - abs(np.log(r - 1)) / 2)
    # Irreducible noise changes the losses, but no more than its chance correlation with the errors.
    noisy = guide_theory.mean(moments_of(e_m, r * e_m, noise))
    np.testing.assert_allclose(guide_theory.data_weight(noisy), r / (r - 1), rtol=0.3)


def test_errors_that_have_nothing_in_common_leave_nothing_to_remove():
    e_m, e_i = np.zeros((2, 20, 4, 6))
    e_m[..., :3], e_i[..., 3:] = 1.0, 1.0
    m = guide_theory.mean(moments_of(e_m, e_i))
    np.testing.assert_allclose(guide_theory.cosine(m), 0)
    np.testing.assert_allclose(guide_theory.removable(m), 0)
    assert np.all(guide_theory.least_squares_weight(m) < 1)
    # With r·cosine = 1 exactly, no weight is better than none.
    m = guide_theory.mean(moments_of(e_m, e_m + e_i))
    np.testing.assert_allclose(guide_theory.least_squares_weight(m), 1)
    np.testing.assert_allclose(guide_theory.removable(m), 0)


def test_the_least_squares_weight_is_the_lowest_point_of_the_guided_error():
    rng = np.random.default_rng(2)
    e_m = rng.normal(size=(200, 3, 4))
    e_i = 1.7 * e_m + rng.normal(size=e_m.shape)
    weights = np.array([0.5, 2.0, 1.0])
    pooled = guide_theory.pooled(guide_theory.mean(moments_of(e_m, e_i)), weights)
    left = lambda w: np.sum(weights * np.mean((e_m + (w - 1) * (e_m - e_i)) ** 2, axis=(0, 2)))
    best = guide_theory.least_squares_weight(pooled)
    assert left(best) < min(left(best - 1e-3), left(best + 1e-3))
    np.testing.assert_allclose(guide_theory.removable(pooled), 1 - left(best) / left(1.0))


def test_what_has_no_value_is_nan_and_not_a_crash():
    e = np.ones((5, 2, 3))
    m = guide_theory.mean(moments_of(e, 0.5 * e))
    assert np.isnan(guide_theory.aligned_weight(guide_theory.ratio(m))).all()
    assert np.isnan(guide_theory.score(m))
    worse = m._replace(reference=np.array([0.1, -1.0]))
    assert np.isnan(guide_theory.excess_ratio(worse)).tolist() == [True, False]
    assert np.isnan(guide_theory.least_squares_weight(guide_theory.mean(moments_of(e, e)))).all()


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(3).normal(size=(40, 2))
    m = Moments(*[values] * 6)
    found, error = guide_theory.jackknife(lambda m: m.mm, m)
    np.testing.assert_allclose(found, values.mean(0))
    np.testing.assert_allclose(error, values.std(0, ddof=1) / np.sqrt(40))


def write_run(folder, seed, width=4, scale=1.0, **more):
    """A run of the 2-D example with random weights."""
    tree = {
        'data': {'name': 'toy', 'classes': 'A', 'max_images': 0},
        'network': {'name': 'toy_mlp', 'width': width, 'channels': 2},
        'denoiser': {'name': 'log_density', 'sigma_data': 0.5},
        'latents': {'name': 'points'},
        'dataset': Toy('A').describe(),
        **more,
    }
    net = build_denoiser(tree)
    shapes = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, 2), 'f4'), np.ones(1, 'f4'))
    rng = np.random.default_rng(seed)
    files.write_json(folder / 'config.json', tree)
    for age in AGES:
        draw = lambda leaf: scale * rng.normal(size=(1, *leaf.shape)).astype(np.float32)
        snapshots.save(folder, age, (STD,), jax.tree.map(draw, shapes['params']), {})
    return str(folder)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    made = {n: write_run(folder / n, i) for i, n in enumerate(('main', 'guide', 'big'))}
    return {**made, 'folder': str(folder)}


def settings(runs, **changes):
    tree = {
        'main': runs['main'],
        'candidates': (runs['guide'],),
        'reference': 'exact',
        'images': 24,
        'batch_size': 16,
        'sampler': {'name': 'heun', 'num_steps': 3, 'sigma_max': 5.0},
        **changes,
    }
    return config.parse(guides.Settings, tree)


def test_a_ranking_end_to_end_and_again(runs, tmp_path, capsys, monkeypatch):
    flags = [f'--config.{name}={value}' for name, value in (
        ('images', 24), ('batch_size', 16), ('sampler.num_steps', 3), ('sampler.sigma_max', 5),
        ('snapshots', 2),
    )]  # fmt: skip
    names = ','.join([runs['folder'] + '/g*', runs['main']])
    line = ['guides', f'--main={runs["main"]}', f'--candidates={names}', f'--workdir={tmp_path}']
    assert cli.main([*line, '--reference=exact', *flags]) == 0
    told = capsys.readouterr()
    assert 'is the main network itself' in told.err
    assert 'next: python -m autoguide_jax sweep' in told.err
    rows = files.read_jsonl(tmp_path / 'guides.jsonl')
    tried = {(r['candidate']['run'], r['candidate']['nimg']) for r in rows}
    assert tried == {(runs['guide'], 2048), (runs['guide'], NIMG), (runs['main'], 2048)}
    paid = {(r['candidate']['run'], r['cost']['nimg']): r['cost']['training'] for r in rows}
    past = {(runs['guide'], 2048): 2048 / NIMG, (runs['guide'], NIMG): 1.0, (runs['main'], 2048): 0}
    assert paid == past, "main's own past costs no training"
    best = json.loads((tmp_path / 'guides.json').read_text())['rows']
    scores = {r['key']: r['overall']['score'] for r in rows}
    order = [-np.inf if scores[key] is None else scores[key] for key in best]
    assert sorted(order, reverse=True) == order and len(best) == 3
    for suffix in ('.png', '-dark.png', '.svg'):
        assert (tmp_path / 'figures' / f'guides{suffix}').exists()
    # Nothing is computed twice, and other noise is another ranking.
    monkeypatch.setattr(Pass, 'of', lambda *_: pytest.fail('computed again'))
    assert cli.main([*line, '--reference=exact', *flags]) == 0
    assert files.read_jsonl(tmp_path / 'guides.jsonl') == rows
    with pytest.raises(pytest.fail.Exception):
        cli.main([*line, '--reference=exact', *flags, '--config.seed=1'])


def test_the_moments_are_those_of_the_definition(runs):
    """Of networks that are evaluated directly on the held-out points, with noise of their own."""
    chosen = settings(runs, reference=runs['big'], nimg=(str(NIMG),))
    people, sigmas = cast(chosen), levels_of(chosen)
    data = HeldOut(chosen, people.main)
    bar = types.SimpleNamespace(update=lambda count: None)
    found = Pass(chosen, data, sigmas, people).of(people.candidates[0], bar)
    x0 = data.encoding.encode(data.dataset.images(data.order), None)
    keys = [noise_keys(0, np.arange(24), NOISE, level) for level in range(len(sigmas))]
    draw = jax.vmap(lambda key: jax.random.normal(key, (2,)))
    noise = np.stack([draw(of_level) for of_level in keys], axis=1)
    assert len(np.unique(noise)) == noise.size, 'every image and level has its own'
    x = np.asarray(x0)[:, None] + sigmas[:, None].astype('f4') * noise

    def denoised(name):
        net = snapshots.load_network(runs[name], STD)
        labels = np.full(24, -1, np.int32)
        levels = [net.apply(net.variables, x[:, k], s, labels) for k, s in enumerate(sigmas)]
        return np.stack(levels, axis=1).astype(np.float64)

    truth = denoised('big')
    errors = denoised('main') - truth, denoised('guide') - truth
    expected = moments_of(*errors, truth - np.asarray(x0)[:, None])
    for name, mine, theirs in zip(Moments._fields, found, expected):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4, err_msg=name)


def test_what_is_kept_is_not_read_again_and_costs_are_those_of_the_networks(
    runs, tmp_path, monkeypatch
):
    wide = write_run(tmp_path / 'wide', 7, width=8)
    asked, get = collections.Counter(), Networks.get
    count = lambda self, ref, role, *more: asked.update([role]) or get(self, ref, role, *more)
    monkeypatch.setattr(Networks, 'get', count)
    chosen = settings(runs, candidates=(runs['guide'], wide), reference=runs['big'], nimg=('all',))
    guides.main(chosen, tmp_path / 'out')
    assert asked == {'main': 1, 'reference': 1, 'candidates': 6}
    rows = files.read_jsonl(tmp_path / 'out' / 'guides.jsonl')
    found = {(r['candidate']['run'], r['cost']['evaluation']) for r in rows}
    flops = {
        run: generation.flops(snapshots.load_network(run, STD)) for run in (runs['main'], wide)
    }
    assert found == {(runs['guide'], 1.0), (wide, flops[wide] / flops[runs['main']])}


NO_LEVELS = {'sigma': [], 'excess_ratio': []}


def test_errors_that_reference_and_guide_share_are_told():
    """The data know the truth, whatever the reference is: the two estimates of w part."""
    rng = np.random.default_rng(4)
    truth, e_m = rng.normal(size=(2, 300, 2, 8))
    e_i = 2 * e_m + 0.3 * rng.normal(size=e_m.shape)
    told = lambda shared: list(
        ranking.notes({'levels': NO_LEVELS, 'overall': ranking.overall(shared, np.ones(2))})
    )
    assert told(moments_of(e_m, e_i, truth)) == []
    off = 0.5 * e_i
    assert 'shares errors' in ' '.join(told(moments_of(e_m - off, e_i - off, truth + off)))


def test_neither_batches_nor_the_cache_change_what_is_measured(runs, tmp_path):
    found = []
    for i, changes in enumerate(({}, {'batch_size': 24, 'cache_mib': 0})):
        chosen = settings(runs, nimg=(str(NIMG),), reference=runs['big'], **changes)
        guides.main(chosen, tmp_path / str(i))
        found.append(files.read_jsonl(tmp_path / str(i) / 'guides.jsonl')[0])
    assert found[0]['key'] == found[1]['key']
    for name in ('ratio', 'cosine', 'loss_main', 'loss_reference'):
        values = [row['levels'][name] for row in found]
        np.testing.assert_allclose(*values, rtol=1e-4)
    levels = found[0]['levels']
    excess = np.subtract(levels['loss_main'], levels['loss_reference'])
    np.testing.assert_allclose(excess, -np.array(levels['reference_lead']), rtol=1e-9)
    squares = np.sqrt(np.divide(levels['ii'], levels['mm']))
    np.testing.assert_allclose(levels['ratio'], squares)


def test_a_guide_that_is_the_reference_has_no_error_of_its_own(runs, tmp_path):
    chosen = dataclasses.replace(settings(runs), reference=runs['guide'], nimg=('all',))
    guides.main(chosen, tmp_path)
    tried = [r['candidate']['nimg'] for r in files.read_jsonl(tmp_path / 'guides.jsonl')]
    assert tried == [1024, 2048]


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    other = write_run(tmp_path / 'other', 5, latents={'name': 'pixels'})
    broken = write_run(tmp_path / 'broken', 6, scale=np.nan)
    wide = {'name': 'edm2_unet', 'resolution': 8, 'channels': 1, 'model_channels': 8}
    files.write_json(tmp_path / 'wide' / 'config.json', {'network': wide, 'latents': {}})
    refused = {
        'candidates is empty': {'candidates': ()},
        'reference is empty': {'reference': ''},
        'not a run directory': {'candidates': (f'{tmp_path}/none',)},
        'no run directory has such a name': {'candidates': (f'{tmp_path}/none*',)},
        'reference.run': {'reference': f'{tmp_path}/none'},
        'is the main network itself': {'reference': runs['main'] + '/'},
        'there is none': {'candidates': (runs['main'],), 'nimg': (str(NIMG),)},
        'nimg \\(3000\\): no candidate has it': {'nimg': ('3000',)},
        'std \\(0.01\\): no candidate has it': {'std': (0.01,)},
        'name pixels differs': {'candidates': (other,)},
        'resolution 8 differs': {'candidates': (f'{tmp_path}/wide',)},
        'held_out': {'held_out': ('split',)},
        'data.splt: unknown setting': {'held_out': ('splt=test',)},
        'does not fit main': {'data': {'name': 'digits'}},
        'levels': {'levels': (0.0, 1.0)},
        'seed': {'seed': 2**20},
        'has 1 image': {'held_out': ('max_images=1',)},
        'gives NaN': {'candidates': (broken,), 'nimg': (str(NIMG),)},
        'must be 0': {'sampler': {'name': 'heun', 'sigma_min': 9.0, 'sigma_max': 5.0}},
    }
    for text, changes in refused.items():
        with pytest.raises(ValueError, match=text):
            guides.main(settings(runs, **changes), tmp_path / 'out')
    assert not (tmp_path / 'out' / 'guides.jsonl').exists()


def test_data_that_main_was_trained_on_and_a_weak_reference_are_said(runs, tmp_path, capsys):
    data = {'name': 'toy', 'classes': 'A', 'max_images': 24}
    fixed = Toy('A', max_images=24).describe()
    main = write_run(tmp_path / 'main', 0, data=data, dataset=fixed)
    guides.main(settings(runs, main=main, reference=runs['big']), tmp_path / 'out')
    told = capsys.readouterr().err
    assert 'the images are those that main was trained on' in told
    facts = files.read_json(tmp_path / 'out' / 'guides.json')
    assert any('trained on' in line for line in facts['warnings'])
    again = settings(runs, main=main, held_out=('max_images=40',), images=100)
    guides.main(again, tmp_path / 'other')
    told = capsys.readouterr().err
    assert 'trained on' not in told and 'data has 40 images' in told
    # A reference is weak where it is no better than main: here main stands in its place.
    swapped = settings(runs, main=runs['big'], reference=main, levels=(0.5,))
    guides.main(settings(runs, main=main, reference=runs['big'], levels=(0.5,)), tmp_path / 'a')
    guides.main(swapped, tmp_path / 'b')
    weak = [files.read_json(tmp_path / f / 'guides.json')['warnings'] for f in 'ab']
    assert any('not clearly below' in line for line in [*weak[0], *weak[1]])
