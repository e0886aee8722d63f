"""The 2-D example's network, loss, sampler and data, against golden arrays and closed forms."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from autoguide_jax import config, data, ema
from autoguide_jax.backbones.analytic import Exact, Flat
from autoguide_jax.backbones.toy_mlp import ToyMLP
from autoguide_jax.bench import speed
from autoguide_jax.data.order import ENDLESS, STRETCH, indices
from autoguide_jax.denoiser import LogDensity
from autoguide_jax.guidance import Guidance
from autoguide_jax.loss import ScoreMatching
from autoguide_jax.mixture import mixture
from autoguide_jax.run_settings import Settings, resolve
from autoguide_jax.samplers import Heun
from autoguide_jax.train_step import make_step

GOLDEN = pathlib.Path(__file__).parent / 'golden'
LAYERS = ['in', *(f'hidden_{i}' for i in range(4))]


def golden(name):
    with np.load(GOLDEN / f'{name}.npz') as arrays:
        return {key: arrays[key] for key in arrays.files}


def params_of(arrays, prefix):
    """Golden 'layers.2i.weight' [out, in] → our parameters of LogDensity."""
    found = {
        name: {'weight': jnp.asarray(arrays[f'{prefix}layers.{2 * i}.weight'].T, jnp.float32)}
        for i, name in enumerate(LAYERS)
    }
    gain = jnp.asarray(arrays[f'{prefix}gain'], jnp.float32)
    return {'backbone': {**found, 'gain': gain}}


def network(width):
    arrays = golden(f'toy_model_dim{width}_f64')
    return LogDensity(ToyMLP(width=width)), {'params': params_of(arrays, 'weights/')}, arrays


def close(ours, theirs, tolerance):
    """Relative to the largest value, for quantities that span orders of magnitude."""
    scale = np.max(np.abs(theirs))
    np.testing.assert_allclose(np.asarray(ours) / scale, theirs / scale, atol=tolerance, rtol=0)


@pytest.mark.parametrize('width', [32, 64])
def test_log_density_and_score_are_the_golden_ones(width):
    denoiser, variables, arrays = network(width)
    x, sigma = arrays['x'], arrays['sigma']
    close(denoiser.log_density(variables, x, sigma), arrays['logp'], 1e-6)
    score = (denoiser.apply(variables, x, sigma) - x) / sigma[:, None] ** 2
    # Where x + σ²s rounds to x the score loses digits: in units of 1/σ it has them all.
    np.testing.assert_allclose(
        score * sigma[:, None], arrays['score'] * sigma[:, None], rtol=1e-4, atol=2e-4
    )


@pytest.mark.parametrize('sigma', [0.002, 0.05, 0.5, 5.0])
def test_a_scalar_sigma_is_the_golden_one(sigma):
    denoiser, variables, arrays = network(64)
    ours = denoiser.log_density(variables, arrays['x'], sigma)
    close(ours, arrays[f'scalar_sigma/{sigma}/logp'], 2e-6)


def test_the_denoiser_is_the_gradient_of_its_log_density():
    denoiser, variables, arrays = network(32)
    x, sigma = jnp.asarray(arrays['x'][:20]), 0.3
    score = jax.vmap(jax.grad(lambda y: denoiser.log_density(variables, y[None], sigma)[0]))(x)
    np.testing.assert_allclose(denoiser.apply(variables, x, sigma), x + sigma**2 * score, atol=1e-5)


class Recorded:
    """The loss at given noisy points: a batch [n, 3] holds x and sigma."""

    def __call__(self, denoise, batch, keys):
        x, sigma = batch[:, :2], batch[:, 2]
        each = ScoreMatching(score=mixture('A').score).at(denoise, x, sigma)
        return each, each, sigma


def each_of(params, batch):
    """The loss of every sample of a batch as Recorded has it, before a step."""
    denoiser = LogDensity(ToyMLP(width=32))
    params = denoiser.normalize_weights(params)
    denoise = lambda x, s: denoiser.apply_with_logvar({'params': params}, x, s)
    return Recorded()(denoise, jnp.asarray(batch, jnp.float32), None)[0]


def test_three_training_steps_are_the_golden_ones():
    arrays = golden('toy_train_steps_f64')
    tree = {'train': {'batch_size': 256}, 'ema': {'stds': [0.01]}, 'latents': {'name': 'points'}}
    tree['optim'] = {'lr': 0.01, 'ref_batches': 512.0, 'rampup_nimg': 0}
    settings = config.parse(Settings, tree)
    points = config.build(settings.latents)
    step = jax.jit(make_step(settings, LogDensity(ToyMLP(width=32)), Recorded(), points))
    params = params_of(arrays, 'init/')
    opt = settings.optim.build(256).init(params)
    state = {'params': params, 'buffers': {}, 'opt': opt, 'ema': ema.init(params, 1)}
    state['step'] = jnp.int32(0)
    moment = jax.tree.map(jnp.zeros_like, params)
    for k in range(3):
        prefix = f'step{k}/'
        batch = np.column_stack([arrays[f'{prefix}x'], arrays[f'{prefix}sigma']])
        none = np.full(len(batch), -1, np.int32)
        state, metrics = step(state, batch.astype(np.float32), none, np.uint32(0))
        close(metrics['loss'], np.mean(arrays[f'{prefix}loss']), 2e-5)
        if k == 0:
            close(each_of(params, batch), arrays['step0/loss'], 2e-5)
        grads = params_of(arrays, f'{prefix}grad/')
        moment = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * np.asarray(g), moment, grads)
        ours = optax.tree.get(state['opt'], 'mu')
        jax.tree.map(lambda a, b: close(a, np.asarray(b), 5e-5), ours, moment)
        for ours, theirs in (
            (state['params'], params_of(arrays, f'{prefix}weights_after_adam/')),
            (jax.tree.map(lambda a: a[0], state['ema']), params_of(arrays, f'{prefix}ema/')),
        ):
            # Adam's first steps are the sign of the gradient: one near 0 may round to the other.
            off = [np.abs(a - b) > 2e-5 for a, b in zip(*map(jax.tree.leaves, (ours, theirs)))]
            assert sum(int(np.sum(o)) for o in off) <= 1


def test_the_rates_of_the_short_ema_are_the_golden_ones():
    arrays = golden('toy_train_steps_f64')
    for k in range(3):
        np.testing.assert_allclose(ema.beta(0.01, k + 1, 1), arrays[f'step{k}/ema_beta'], rtol=1e-9)


@pytest.mark.parametrize('steps', [8, 32])
def test_trajectories_are_the_golden_ones(steps):
    arrays = golden('toy_heun_f64')
    sampler = Heun(num_steps=steps, sigma_max=5.0)
    start = jnp.asarray(arrays['x_init']) / 5.0
    keys = jax.random.split(jax.random.key(0), len(start))
    np.testing.assert_allclose(sampler.schedule(), arrays[f't_steps{steps}'], rtol=1e-12, atol=0)

    bind = lambda net: lambda x, s: net[0].apply(net[1], x, s)
    main, guide, exact = bind(network(64)), bind(network(32)), LogDensity(Exact())
    truth = lambda x, s: exact.apply({}, x, s)
    cases = {'gt': truth, 'fixedpair_w1': Guidance(1.0)(main, guide)}
    cases['fixedpair_w3'] = Guidance(3.0)(main, guide)
    for name, denoise in cases.items():
        ours = jax.jit(lambda x, d=denoise: sampler.trajectory(d, x, keys))(start)
        theirs = arrays[f'{name}_steps{steps}']
        # Untrained weights blow the samples up to hundreds, and w = 3 makes some paths chaotic.
        off = np.abs(ours - theirs) / (2.5 + np.abs(theirs))
        assert np.quantile(off, 0.9 if name == 'fixedpair_w3' else 1.0) < 2e-5, name
        assert off.max() < 0.1, name
        last = jax.jit(lambda x, d=denoise: sampler(d, x, keys))(start)
        np.testing.assert_array_equal(last, ours[-1])


def test_flat_is_naive_truncation():
    """A guide that knows nothing, D_0 = x, multiplies the score by w."""
    denoiser, variables, arrays = network(32)
    x = jnp.asarray(arrays['x'])
    main = lambda x, s: denoiser.apply(variables, x, s)
    flat = LogDensity(Flat())
    guide = lambda x, s: flat.apply({}, x, s)
    np.testing.assert_array_equal(guide(x, 0.5), x)
    guided = Guidance(1.4)(main, guide)(x, jnp.float32(0.5))
    np.testing.assert_allclose(guided - x, 1.4 * (main(x, 0.5) - x), atol=1e-5)


def test_points_are_a_function_of_their_index():
    toy = data.open_dataset('toy')
    some = toy.images(np.array([5, 6, 7, 100, 2, 3]))
    assert some.dtype == np.float32
    np.testing.assert_array_equal(
        some, np.concatenate([toy.images([i]) for i in (5, 6, 7, 100, 2, 3)])
    )
    few = data.open_dataset('toy', max_images=128)
    np.testing.assert_array_equal(few.images([127, 3]), toy.images([127, 3]))
    with pytest.raises(IndexError, match='0…127'):
        few.images([128])


def test_points_have_the_moments_of_the_mixture():
    parts, n = mixture('AB').components, 2**17
    points = data.open_dataset('toy', classes='AB').images(np.arange(n)).astype(np.float64)
    mean = parts['phi'] @ parts['mu']
    spread = parts['mu'] - mean
    cov = np.einsum('k,ki,kj->ij', parts['phi'], spread, spread)
    cov = cov + np.einsum('k,kij->ij', parts['phi'], parts['Sigma'])
    np.testing.assert_allclose(points.mean(0), mean, atol=5 * np.sqrt(cov.max() / n))
    np.testing.assert_allclose(np.cov(points.T), cov, atol=0.01 * cov.max())
    # The paper's normalisation: mean 0, standard deviation 0.5.
    np.testing.assert_allclose(mean, 0, atol=2e-3)
    np.testing.assert_allclose(np.sqrt(np.diag(cov)), 0.5, atol=2e-3)


def test_every_seed_reads_a_stretch_of_its_own():
    assert indices(3, 10, 4, ENDLESS).tolist() == [3 * STRETCH + i for i in range(10, 14)]
    with pytest.raises(ValueError, match='endless'):
        indices(2**22, 0, 1, ENDLESS)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'classes': 'C'}, r"classes \('C'\): no such class"),
        ({'classes': 'ab'}, 'no such class'),
        ({'max_images': -1}, 'max_images'),
    ],
)
def test_bad_settings_of_the_data_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        data.open_dataset('toy', **settings)


def test_score_matching_needs_a_data_set_that_knows_its_score():
    settings = config.parse(
        Settings, {'data': {'name': 'digits'}, 'loss': {'name': 'score_matching'}}
    )
    with pytest.raises(ValueError, match='needs a data set that knows its score.*data.name=toy'):
        resolve(settings, data.open_dataset('digits'))


def test_the_score_that_bench_compares_with_is_the_same_score():
    x = mixture('A').sample(jax.random.key(0), 256, 0.1)
    sigma = jnp.full(256, 0.1)
    found = speed.matrix_score(mixture('A'))(x, sigma)
    np.testing.assert_allclose(found, mixture('A').score(x, sigma), rtol=1e-4, atol=1e-4)
