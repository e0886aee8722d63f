"""A denoiser with its compiled training step, on a mesh; no files. Used by `train` and `bench`.

Several seeds can be trained side by side: state, batch and metrics then have a leading axis
[seeds], and the same step runs under vmap.
"""

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax import config, ema, mesh, snapshots
from autoguide_jax.train_step import make_step


class Trainer:
    """Network, initial state and step of a run with these settings and this config.json.

    score: ∇log p(x; σ) of the data, for losses that need it; None where nobody knows it.
    """

    def __init__(self, settings, tree, devices, score=None):
        self.settings, self.devices = settings, devices
        self.denoiser = snapshots.build_denoiser(tree)
        self.latents = config.build(settings.latents)
        self.seeds = np.asarray(settings.seeds or settings.seed, np.uint32)
        n, shape = settings.train.batch_size, snapshots.sample_shape(tree)
        self.shape = shape
        self.batch_shape = (*self.seeds.shape, n, *self.latents.stored_shape(shape))
        side_by_side = for_all(self.seeds)
        self.fresh = side_by_side(self.fresh_of)
        self.abstract = jax.eval_shape(self.fresh, self.seeds)
        self.shardings = mesh.place(devices, self.abstract)
        self.split = mesh.by_sample(devices, axis=self.seeds.ndim)
        known = {'sigma_data': self.denoiser.sigma_data, 'score': score}
        loss = config.build(settings.loss, **{k: v for k, v in known.items() if v is not None})
        step = side_by_side(make_step(settings, self.denoiser, loss, self.latents))

        def heard(state, images, labels, asked, seeds):
            state, metrics = step(state, images, labels, seeds)
            return state, {**metrics, 'asked': jnp.any(asked)}

        each, whole = mesh.by_sample(devices), mesh.replicated(devices)
        self.jitted = jax.jit(
            heard,
            in_shardings=(self.shardings, self.split, self.split, each, whole),
            out_shardings=(self.shardings, whole),
            donate_argnums=0,
        )

    def fresh_of(self, seed):
        """Initial state of one seed; the first step, whose β is 0, overwrites the EMAs."""
        x = jnp.zeros((1, *self.shape))
        variables = self.denoiser.init(
            jax.random.key(seed), x, jnp.ones(1), jnp.zeros(1, jnp.int32)
        )
        params = variables['params']
        return {
            'params': params,
            'buffers': variables.get('buffers', {}),
            'opt': self.settings.optim.build(self.settings.train.batch_size).init(params),
            'ema': ema.init(params, len(self.settings.ema.stds)),
            'step': jnp.zeros((), jnp.int32),
        }

    def init(self):
        """The initial state of every seed, placed on the mesh."""
        return jax.jit(self.fresh, out_shardings=self.shardings)(self.seeds)

    def target(self):
        """Shapes, dtypes and shardings of the state, to restore a checkpoint into."""
        spec = lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s)
        return jax.tree.map(spec, self.abstract, self.shardings)

    def storage(self, nimg):
        """Bytes of one checkpoint, and of all that the run writes from image number nimg on."""
        size = lambda tree: sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(tree))
        whole = size(self.abstract)
        snapshot = size((self.abstract['ema'], self.abstract['buffers']))
        later = sum(moment > nimg for moment in self.settings.train.snapshots())
        # Two checkpoints are kept while the third is written; after a resume they are there.
        return whole, later * snapshot + (1 if nimg else 3) * whole

    def put(self, images, labels, asked=False):
        """A batch of host arrays, [seeds, …] if there are several, placed on the mesh.

        asked: whether this process was asked to stop; metrics['asked'] tells if any was.
        """
        flags = mesh.put_batch(self.devices, np.full(len(self.split.addressable_devices), asked))
        return *mesh.put_batch(self.devices, (images, labels), axis=self.seeds.ndim), flags

    def trace(self):
        """The step (state, images, labels, asked, seeds) traced for the mesh, from shapes alone."""
        spec = jax.ShapeDtypeStruct
        images = spec(self.batch_shape, self.latents.dtype, sharding=self.split)
        labels = spec(self.batch_shape[: self.seeds.ndim + 1], jnp.int32, sharding=self.split)
        asked = spec((self.devices.size,), jnp.bool_, sharding=mesh.by_sample(self.devices))
        seeds = spec(self.seeds.shape, jnp.uint32, sharding=mesh.replicated(self.devices))
        return self.jitted.trace(self.target(), images, labels, asked, seeds)

    def compile(self):
        """Ahead-of-time compiled step: (state, *put(…)) → (state, metrics)."""
        compiled = self.trace().lower().compile()
        seeds = jax.device_put(self.seeds, mesh.replicated(self.devices))
        return lambda state, *batch: compiled(state, *batch, seeds)


def for_all(seeds):
    """f of one seed → f of all: itself for a scalar, under vmap for several.

    A single seed in a list is not vmapped: batched products of one are slower on CPU.
    """
    if seeds.ndim == 0:
        return lambda f: f
    if len(seeds) > 1:
        return jax.vmap
    first = lambda tree: jax.tree.map(lambda a: a[0], tree)
    back = lambda tree: jax.tree.map(lambda a: a[None], tree)
    return lambda f: lambda *args: back(f(*map(first, args)))
