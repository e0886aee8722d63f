"""The training step: golden steps, the clock, splits of the batch, and the guard against NaN."""

import functools

import edm2_golden as golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import one_conv  # noqa: F401

from autoguide_jax import config, ema, files, mesh, snapshots, train
from autoguide_jax.importers.edm2 import name_of, to_hwio
from autoguide_jax.loss import EDM2Loss
from autoguide_jax.optim import Adam
from autoguide_jax.run_settings import LoopSettings, Settings, resolve
from autoguide_jax.train_step import first_nonfinite, leaf_names, make_step, sample_keys
from autoguide_jax.trainer import Trainer

pytestmark = pytest.mark.usefixtures('one_conv')


class Packed:
    """Latents of golden 'images' that carry their own noise and noise level."""

    encode = staticmethod(lambda packed, keys: packed)


class GivenNoise:
    """The EDM2 loss at the noise that comes with the images."""

    def __call__(self, denoise, packed, keys):
        images, noise, sigma = packed[..., :3], packed[..., 3:6], packed[:, 0, 0, 6]
        return EDM2Loss().at(denoise, images, sigma, noise)


def pack(step):
    z = {k: v for k, v in golden.arrays('train_a').items() if k.startswith(f'step{step}/')}
    get = lambda name: z[f'step{step}/{name}']
    sigma = np.broadcast_to(get('sigma'), (8, 1, 16, 16))
    packed = np.concatenate([get('images'), get('noise_unit'), sigma], axis=1)
    return golden.nhwc(packed), get('labels')


def by_name(tree):
    """Published name → float64 array in our layout."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {name_of([k.key for k in path]): np.asarray(leaf, np.float64) for path, leaf in leaves}


def train_golden():
    """Weights after each of: normalisation, Adam; gradients; EMAs; losses, of three steps."""
    denoiser, variables = golden.network('net_a')
    loop = LoopSettings(24, 8, snapshot_nimg=24, checkpoint_nimg=24, log_nimg=24)
    settings = Settings(optim=Adam(0.01, ref_batches=0, rampup_nimg=0), train=loop)
    params = variables['params']
    state = {
        **variables,
        'opt': settings.optim.build(8).init(params),
        'ema': ema.init(params, 2),
        'step': jnp.zeros((), jnp.int32),
    }
    step = jax.jit(make_step(settings, denoiser, GivenNoise(), Packed()))
    normalize = jax.jit(denoiser.normalize_weights)
    moment = jax.tree.map(np.zeros_like, params)
    for k in range(3):
        normalised = normalize(state['params'])
        # On the host: arithmetic on the device would compile once per shape.
        state, metrics = jax.device_get(step(state, *pack(k), np.uint32(0)))
        before, moment = moment, state['opt'][0].mu
        # Adam's first moment holds the gradient that was used.
        gradient = jax.tree.map(lambda new, old: (new - 0.9 * old) / 0.1, moment, before)
        pick = lambda j: jax.tree.map(lambda leaf: leaf[j], state['ema'])  # noqa: B023
        yield metrics, *map(by_name, (normalised, gradient, state['params'], pick(0), pick(1)))


def test_three_steps_are_the_golden_ones():
    z = golden.arrays('train_a')
    whole = {key.split('/', 1)[1] for key in z if key.startswith('grad_step0/')}
    outliers = 0

    def compare(prefix, ours, **tolerance):
        nonlocal outliers
        for name in whole:
            wanted = to_hwio(z[f'{prefix}/{name}'])
            allowed = tolerance['atol'] + tolerance.get('scale', 0) * np.abs(wanted).max()
            outliers += np.sum(np.abs(ours[name] - wanted) > allowed)

    def norms(key, ours, rtol):
        found = [np.linalg.norm(ours[name]) for name in z['param_names']]
        np.testing.assert_allclose(found, z[key], rtol=rtol)

    for k, (metrics, normalised, gradient, params, short, long) in enumerate(train_golden()):
        np.testing.assert_allclose(metrics['loss'], z[f'step{k}/loss_sum_over_batch'], rtol=2e-6)
        assert metrics['bad'] == -1
        norms(f'step{k}/weight_norms_after_forward', normalised, 1e-6)
        # Later gradients are differences of moments, which costs digits where they are small.
        norms(f'step{k}/grad_norms', gradient, 5e-4 if k else 2e-6)
        norms(f'step{k}/weight_norms_after_adam', params, 1e-6)
        norms(f'step{k}/ema0.05_norms', short, 1e-6)
        norms(f'step{k}/ema0.10_norms', long, 1e-6)
        total = np.linalg.norm(z[f'step{k}/grad_norms'])
        np.testing.assert_allclose(metrics['grad_norm'], total, rtol=2e-5)
        sums = [gradient[name].sum() for name in z['param_names']]
        np.testing.assert_allclose(sums, z[f'step{k}/grad_sum'], atol=2e-5 * total)
        if k == 0:
            compare('grad_step0', gradient, atol=1e-6, scale=2e-5)
            compare('weights_after_forward_step0', normalised, atol=2e-6)
            assert outliers == 0
            compare('weights_after_adam_step0', params, atol=1e-5)
        if k == 2:
            compare('weights_after_adam_step2', params, atol=1e-5)
            compare('ema0.05_after3', short, atol=1e-5)
            compare('ema0.10_after3', long, atol=1e-5)
    assert outliers <= 1  # the sign of a gradient near 0 decides a whole step of Adam


def test_the_learning_rate_ramps_up_stays_and_decays():
    nimg = np.array([0, 2048, 1048576, 10**7, 10485760, 143360000, 573440000, 2**31])
    default = [0, 2.048e-6, 1.048576e-3, 0.01, 0.01, 0.01, 0.005, 2.58374151e-3]
    xs = [0, 2.4576e-6, 1.2582912e-3, 0.012, 0.012, 8.48528137e-3, 4.24264069e-3, 2.19237738e-3]
    rates = lambda adam: [adam.learning_rate(n / 2048, 2048) for n in nimg]
    np.testing.assert_allclose(rates(Adam()), default, rtol=1e-6)
    np.testing.assert_allclose(rates(Adam(0.012, 35000)), xs, rtol=1e-6)
    assert rates(Adam(ref_batches=0, rampup_nimg=0)) == [0.01] * 8
    toy = [Adam(0.01, 512, 0).learning_rate(k, 4096) for k in (0, 511, 512, 513, 1024, 4095)]
    np.testing.assert_allclose(toy, [0.01, 0.01, 0.01, 9.99025e-3, 7.07107e-3, 3.53597e-3], 1e-5)
    traced = jax.jit(lambda k: Adam().learning_rate(k, 2048))(jnp.int32(280000))
    np.testing.assert_allclose(traced, 0.005, rtol=1e-6)


def test_noise_levels_are_log_normal_and_the_loss_of_a_perfect_denoiser_is_its_uncertainty():
    keys = sample_keys(3, 5, 4096)['noise']
    x0 = jax.random.normal(jax.random.key(0), (4096, 2, 2, 1))
    perfect = lambda x, sigma: (x0, jnp.log(sigma))
    each, error, sigma = EDM2Loss(p_mean=-0.8, p_std=1.6)(perfect, x0, keys)
    levels = np.log(np.asarray(sigma))
    np.testing.assert_allclose([levels.mean(), levels.std()], [-0.8, 1.6], atol=0.1)
    np.testing.assert_allclose(each, 4 * levels, rtol=1e-5, atol=1e-5)
    assert not np.any(error)
    # A denoiser that answers c_skip·x on data of variance σ_d² has weighted error 1 (λ c_out² = 1).
    skip = lambda x, s: (x * (0.25 / (0.25 + s**2))[:, None, None, None], jnp.zeros(4096))
    error = EDM2Loss()(skip, 0.5 * x0, keys)[1]
    np.testing.assert_allclose(error.mean(), 1, atol=0.05)


def run_settings(**sections):
    base = {
        'network': {'name': 'one_conv'},
        'optim': {'lr': 0.02, 'rampup_nimg': 0},
        'train': {
            'total_nimg': 64, 'batch_size': 16, 'snapshot_nimg': 32, 'checkpoint_nimg': 32,
            'log_nimg': 16,
        },
    }  # fmt: skip
    return config.parse(Settings, {k: base.get(k, {}) | sections.get(k, {}) for k in base})


def steps(settings, devices, batches, shards=1):
    """States and metrics after each of the batches, on the first `devices` devices."""
    dataset = config.build(settings.data)
    part = mesh.over(jax.devices()[:devices], shards)
    trainer = Trainer(settings, resolve(settings, dataset), part)
    state, seen, states = trainer.init(), [], []
    for images, labels in batches:
        state, metrics = trainer.jitted(state, *trainer.put(images, labels), trainer.seeds)
        seen.append(jax.device_get(metrics))
        states.append(jax.tree.map(np.array, state))  # copies: the next step takes its memory
    return states, seen


def random_batches(count=3):
    rng = np.random.default_rng(0)
    for _ in range(count):
        images = rng.integers(0, 255, (16, 8, 8, 1)).astype(np.uint8)
        yield images, rng.integers(-1, 10, 16).astype(np.int32)


def assert_same(a, b):
    """Equal up to the rounding of sums that run in another order."""
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5)
    jax.tree.map(close, a, b)


DROPOUT = {'name': 'one_conv', 'dropout': 0.3}


@functools.cache
def unsplit():
    states, seen = steps(run_settings(network=DROPOUT), 1, random_batches())
    return states[-1], seen


@pytest.mark.parametrize(('devices', 'microbatch'), [(2, 0), (1, 4), (2, 8)])
def test_splitting_the_batch_changes_nothing_but_rounding(devices, microbatch):
    whole, seen = unsplit()
    settings = run_settings(network=DROPOUT, train={'microbatch_size': microbatch})
    states, seen_split = steps(settings, devices, random_batches())
    split = states[-1], seen_split
    assert whole['step'] == 3
    assert_same((whole, seen), split)
    # These tolerances are far below what the steps did.
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), whole['params'], split[0]['ema'])
    assert min(jax.tree.leaves(moved)) > 5e-4


def poisoned(monkeypatch):
    """Images whose first pixel is 255 become NaN in model space."""

    def encode(images, keys):
        x = images / np.float32(127.5) - 1
        return jnp.where(images[:, :1, :1] == 255, jnp.nan, x)

    monkeypatch.setattr('autoguide_jax.latents.Pixels.encode', staticmethod(encode))


def poisoned_batches():
    for k, (images, labels) in enumerate(random_batches()):
        if k == 1:
            images[5, 0, 0] = 255
        yield images, labels


def test_stop_leaves_the_whole_state_as_it_was_and_names_the_noise_level(monkeypatch):
    poisoned(monkeypatch)
    (before, after), metrics = steps(run_settings(), 1, list(poisoned_batches())[:2])
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert metrics[0]['bad'] == -1 and metrics[1]['bad'] == 0
    normal = lambda key: jax.random.normal(jax.random.split(key)[0])
    sigma = np.exp(normal(sample_keys(0, 1, 16)['noise'][5]) - 0.4)
    np.testing.assert_allclose(metrics[1]['bad_sigma'], sigma, rtol=1e-5)


def test_zero_replaces_what_is_not_finite_and_goes_on(monkeypatch):
    poisoned(monkeypatch)
    states, metrics = steps(run_settings(train={'nonfinite': 'zero'}), 1, poisoned_batches())
    state = states[-1]
    assert [m['bad'] for m in metrics] == [-1, 0, -1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert state['step'] == 3 and np.isnan(metrics[1]['loss']) and metrics[1]['grad_norm'] == 0


def test_the_first_bad_leaf_is_named():
    tree = {'a': {'x': jnp.ones(2), 'y': jnp.array([0, jnp.inf])}, 'b': jnp.array(jnp.nan)}
    assert leaf_names(tree)[first_nonfinite(tree)] == 'a/y'
    assert first_nonfinite({'a': jnp.ones(3)}) == -1


def test_a_run_stops_at_a_gradient_that_is_not_finite(tmp_path):
    settings = run_settings(optim={'lr': 1e38})
    message = (
        r'step 1 \(image 16\), first in backbone/conv/weight, with the largest, '
        r'finite loss at noise level [\d.]+\. .*'
        r'Lower optim.lr, or set train.nonfinite=zero'
    )
    with pytest.raises(FloatingPointError, match=message):
        train.main(settings, tmp_path)
    assert snapshots.list_snapshots(tmp_path) == []


def test_a_run_that_zeroes_goes_on_to_its_end(tmp_path):
    settings = run_settings(optim={'lr': 1e38}, train={'nonfinite': 'zero'})
    assert train.main(settings, tmp_path)['nimg'] == 64
    rows = files.read_jsonl(tmp_path / 'metrics.jsonl')
    assert [(row['nimg'], row['nonfinite_steps']) for row in rows] == [
        (16, 0), (32, 1), (48, 1), (64, 1),
    ]  # fmt: skip
    assert len(snapshots.list_snapshots(tmp_path)) == 4


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'batch_size': 48}, r'total_nimg \(64\) must be a multiple of batch_size \(48\).*48'),
        ({'snapshot_nimg': 40}, r'snapshot_nimg \(40\) must be a multiple .* nearest: 32'),
        ({'microbatch_size': 5}, r'microbatch_size \(5\) must divide batch_size \(16\)'),
        ({'nonfinite': 'warn'}, r"nonfinite \('warn'\) must be 'stop' or 'zero'"),
        ({'total_nimg': 8}, r'total_nimg \(8\) must be at least batch_size \(16\)'),
    ],
)
def test_a_loop_that_cannot_run_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        run_settings(train=change)


def test_latents_are_drawn_from_a_stream_of_their_own():
    """Noise and dropout have the keys they always had; a third one differs from them."""
    found = sample_keys(3, 5, 4)
    at_step = jax.random.fold_in(jax.random.key(3), 5)
    for i in range(4):
        noise, dropout = jax.random.split(jax.random.fold_in(at_step, i))
        assert found['noise'][i] == noise and found['dropout'][i] == dropout
    data = np.concatenate([jax.random.key_data(keys) for keys in found.values()])
    assert len({tuple(key) for key in data.tolist()}) == 12
    longer = sample_keys(3, 5, 9)
    assert all((longer[name][:4] == keys).all() for name, keys in found.items())
