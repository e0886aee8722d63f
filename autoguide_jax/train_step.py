"""One training step.

Order (arXiv 2312.02696, appendix B): normalise stored weights → loss and gradient → Adam → every
EMA of the raw weights. Noise at step k is a function of (seed, k, place in the batch), and so is
what a VAE's posterior gives, from a stream of its own.
"""

import jax
import jax.numpy as jnp
import optax

from autoguide_jax import ema

SIGMA_BINS = (0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
# Folded into a sample's key; 0 and 1 are those that split gives for noise and dropout.
POSTERIOR = 2


def make_step(settings, denoiser, loss, latents):
    """The training step: (state, images, labels int32 [n], seed uint32) → (state, metrics).

    images: what the data set gives: uint8 [n,h,w,c], points float32 [n,d], or mean and std of
    latents, float32 [n,h,w,2l].
    state: params, buffers, opt (optax), ema (leading axis [n_std]) and step (int32, 0-based).
    metrics: scalars loss (per image), lr, grad_norm, bad (index of the first leaf with a non-finite
    gradient, −1 if none), bad_sigma; error_sum and count [bins]: weighted error by noise level.
    """
    loop = settings.train
    adam = settings.optim.build(loop.batch_size)
    edges = jnp.asarray(SIGMA_BINS, jnp.float32)

    def summed_loss(params, buffers, images, labels, keys):
        def denoise(x, sigma):
            variables = {'params': params, 'buffers': buffers}
            return denoiser.apply_with_logvar(variables, x, sigma, labels, keys['dropout'])

        each, error, sigma = loss(denoise, latents.encode(images, keys['latents']), keys['noise'])
        return jnp.sum(each), (each, error, sigma)

    def step(state, images, labels, seed):
        params = denoiser.normalize_weights(state['params'])
        keys = sample_keys(seed, state['step'], images.shape[0])
        batch = images, labels, keys
        parts = loop.batch_size // (loop.microbatch_size or loop.batch_size)
        given = params, state['buffers']
        grads, (each, error, sigma) = gradient(summed_loss, given, batch, parts)
        grads = jax.tree.map(lambda g: g / images.shape[0], grads)
        bad = first_nonfinite(grads)
        if loop.nonfinite == 'zero':
            grads = jax.tree.map(lambda g: jnp.nan_to_num(g, nan=0, posinf=0, neginf=0), grads)
        updates, opt = adam.update(grads, state['opt'])
        params = optax.apply_updates(params, updates)
        averages = ema.update(state['ema'], params, ema.rates(state['step'], settings.ema.stds))
        new = {**state, 'params': params, 'opt': opt, 'ema': averages, 'step': state['step'] + 1}
        if loop.nonfinite == 'stop':
            new = jax.tree.map(lambda a, b: jnp.where(bad < 0, a, b), new, state)
        metrics = {
            'loss': jnp.mean(each),
            'lr': settings.optim.learning_rate(state['step'], loop.batch_size),
            'grad_norm': optax.tree.norm(grads),
            'bad': bad,
            'bad_sigma': sigma[jnp.argmax(jnp.where(jnp.isfinite(each), each, jnp.inf))],
            'error_sum': jnp.zeros(len(edges) + 1).at[jnp.digitize(sigma, edges)].add(error),
            'count': jnp.zeros(len(edges) + 1).at[jnp.digitize(sigma, edges)].add(1.0),
        }
        return new, metrics

    return step


def gradient(summed_loss, given, batch, parts):
    """(Σ gradient over the batch, auxiliary [n, …]) of summed_loss(*given, *batch).

    In `parts` microbatches that each hold every parts-th image, so that a batch that is split over
    devices stays where it is. given: (params, buffers); the gradient is that of params.
    """
    grad = jax.grad(summed_loss, has_aux=True)
    if parts == 1:
        return grad(*given, *batch)
    strided = lambda a: jnp.moveaxis(a.reshape(-1, parts, *a.shape[1:]), 1, 0)
    back = lambda a: jnp.moveaxis(a, 0, 1).reshape(-1, *a.shape[2:])

    def one(total, microbatch):
        grads, seen = grad(*given, *microbatch)
        return jax.tree.map(jnp.add, total, grads), seen

    zeros = jax.tree.map(jnp.zeros_like, given[0])
    grads, seen = jax.lax.scan(one, zeros, jax.tree.map(strided, batch))
    return grads, jax.tree.map(back, seen)


def sample_keys(seed, step, n):
    """One key per sample [n] for noise, dropout and latents: a function of (seed, step, place)."""
    at_step = jax.random.fold_in(jax.random.key(seed), step)
    own = jax.vmap(lambda i: jax.random.fold_in(at_step, i))(jnp.arange(n))
    keys = jax.vmap(jax.random.split)(own)
    posterior = jax.vmap(lambda key: jax.random.fold_in(key, POSTERIOR))(own)
    return {'noise': keys[:, 0], 'dropout': keys[:, 1], 'latents': posterior}


def first_nonfinite(tree):
    """Index of the first leaf with a non-finite entry, −1 if there is none; int32."""
    bad = jnp.stack([~jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)])
    return jnp.where(jnp.any(bad), jnp.argmax(bad), -1).astype(jnp.int32)


def leaf_names(tree):
    """Names of the leaves in the order of `first_nonfinite`."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in paths]
