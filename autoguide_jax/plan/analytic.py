"""What follows from shapes alone: FLOPs, bytes of the state, of activations and of files.

FLOPs are those of convolutions and matrix products, 2 per multiply-add, padding included; what is
elementwise is not counted, as is the custom for MFU.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from autoguide_jax import mesh


def flops(jaxpr):
    """FLOPs of all convolutions and matrix products of a jaxpr; loops as often as they run.

    Of a choice (lax.cond, platform_dependent) the cheapest branch counts, as all are equal here but
    for a guide that is switched off. Errors: ValueError for a while loop of unknown length.
    """
    total = 0
    for eqn in jaxpr.eqns:
        name, inner = eqn.primitive.name, [_open(j) for j in jaxprs_in_params(eqn.params)]
        if name == 'dot_general':
            (contracted, _), _ = eqn.params['dimension_numbers']
            left = eqn.invars[0].aval.shape
            total += 2 * eqn.outvars[0].aval.size * math.prod(left[i] for i in contracted)
        elif name == 'conv_general_dilated':
            kernel = eqn.invars[1].aval
            features = kernel.shape[eqn.params['dimension_numbers'].rhs_spec[0]]
            total += 2 * eqn.outvars[0].aval.size * kernel.size // features
        elif name == 'cond':
            total += min(flops(branch) for branch in inner)
        elif name == 'while' and any(flops(body) for body in inner):
            raise ValueError('FLOPs of a while loop of unknown length cannot be counted')
        else:
            times = eqn.params['length'] if name == 'scan' else 1
            total += times * sum(flops(body) for body in inner)
    return total


def _open(jaxpr):
    return getattr(jaxpr, 'jaxpr', jaxpr)


def inputs(shape, n):
    """Shapes of what a denoiser takes for n samples: (x, sigma, labels)."""
    spec = jax.ShapeDtypeStruct
    return spec((n, *shape), jnp.float32), spec((n,), jnp.float32), spec((n,), jnp.int32)


def forward_flops(denoiser, variables, shape):
    """FLOPs of one evaluation of one sample."""
    return flops(jax.make_jaxpr(denoiser.apply)(variables, *inputs(shape, 1)).jaxpr)


def activation_bytes(denoiser, variables, shape):
    """Bytes per image that the forward pass keeps for the gradient, as JAX derives it.

    An upper bound of what a compiler keeps: it may recompute what is cheap. What does not grow with
    the batch, such as the weights in bfloat16, is not in it.
    """
    frozen = {name: tree for name, tree in variables.items() if name != 'params'}

    def kept(params, frozen, x, sigma, labels, keys):
        def summed(params):
            given = {**frozen, 'params': params}
            return jnp.sum(denoiser.apply_with_logvar(given, x, sigma, labels, keys)[0])

        return jax.vjp(summed, params)[1]

    def total(n):
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), n))
        found = jax.eval_shape(kept, variables['params'], frozen, *inputs(shape, n), keys)
        return sum(bytes_of(leaf) for leaf in jax.tree.leaves(found))

    return total(2) - total(1)


def bytes_of(leaf):
    """Bytes of an array of this shape and dtype; a random key is two words."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf.size * 8
    return leaf.size * np.dtype(leaf.dtype).itemsize


def tree_bytes(tree):
    """Bytes of all arrays of a tree, whole."""
    return sum(bytes_of(leaf) for leaf in jax.tree.leaves(tree))


def shard_bytes(tree, shards):
    """Bytes of a tree that each device holds when a copy is split over this many (mesh.split)."""

    def own(leaf):
        split = any(axis is not None for axis in mesh.split(leaf.shape, shards))
        return bytes_of(leaf) // (shards if split else 1)

    return sum(own(leaf) for leaf in jax.tree.leaves(tree))


def whole_share(tree, shards):
    """Share of a tree's bytes that stay whole on every device, because nothing divides them."""
    whole = lambda leaf: not any(axis is not None for axis in mesh.split(leaf.shape, shards))
    held = sum(bytes_of(leaf) for leaf in jax.tree.leaves(tree) if whole(leaf))
    return held / tree_bytes(tree)
