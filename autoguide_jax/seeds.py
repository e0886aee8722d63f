"""What a seed decides: noise, label and churn of one sample, whatever batch or device draws it."""

import functools

import jax
import numpy as np

NOISE, LABEL, CHURN = 0, 1, 2


def seed_list(text):
    """'0-3,7' → int64 [0, 1, 2, 3, 7]. Errors: ValueError for anything else, or a seed twice."""
    found = []
    for piece in str(text).split(','):
        first, dash, last = piece.strip().partition('-')
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < 2**32):
            raise ValueError(f"seeds ({text!r}) must look like '0-49999' or '0,7,100-199'")
        found.extend(range(int(first), int(last) + 1))
    if len(set(found)) < len(found):
        raise ValueError(f'seeds ({text!r}) names a seed twice')
    return np.asarray(found, np.int64)


def check_classes(classes):
    """Refuse labels of samples that are compared with real images: these have every class."""
    if classes not in ('random', 'balanced'):
        raise ValueError(f"classes ({classes!r}) must be 'random' or 'balanced'")


def sample_labels(seeds, num_classes, classes='random'):
    """int32 [n] labels, each a function of its seed; −1 for none.

    classes: 'random' (uniform, from each seed), 'balanced' (seed mod num_classes: contiguous seeds
    have every class equally often: no noise of class counts in small sets), 'none',
    or one class number.
    """
    if not num_classes or classes == 'none':
        return np.full(len(seeds), -1, np.int32)
    if classes == 'balanced':
        return (np.asarray(seeds) % num_classes).astype(np.int32)
    if classes != 'random':
        return np.full(len(seeds), int(classes), np.int32)
    return np.asarray(_random_labels(np.asarray(seeds, np.uint32), num_classes), np.int32)


@functools.partial(jax.jit, static_argnums=1)
def _random_labels(seeds, num_classes):
    draw = lambda seed: jax.random.randint(stream(seed, LABEL), (), 0, num_classes)
    return jax.vmap(draw)(seeds)


def stream(seed, purpose):
    """The key of one sample for one purpose."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


def unit_noise(keys, shape):
    """Gaussian noise [n, *shape], each sample's from its own key."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
