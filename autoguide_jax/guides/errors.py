"""The pass over held-out data: what main, reference and a candidate make of the same noisy images.

Noise is a function of (seed, image number, noise level) alone, never of the batch.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax import mesh, stop
from autoguide_jax.generation import Call, bind
from autoguide_jax.guide_theory import Moments
from autoguide_jax.guides.held_out import exact
from autoguide_jax.pairs import Networks
from autoguide_jax.placement import Placement

ENCODE, NOISE = 0, 1


def noise_keys(seed, numbers, purpose, level):
    """Keys [n] of images, one for each."""
    base = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), purpose), level)
    return jax.vmap(lambda number: jax.random.fold_in(base, number))(numbers)


def moments(main, reference, guide, x0):
    """The six Moments of every image, float32 [6, n]: the means of elements of denoised [n, …]."""
    mean = lambda a, b: jnp.mean((a * b).reshape(len(x0), -1), axis=1)
    e_m, e_i = main - reference, guide - reference
    away = main - x0
    # L_i − L_m = E⟨D_i − D_m, D_i + D_m − 2x0⟩, which does not cancel as the losses would.
    more = lambda other: mean(other - main, other + main - 2 * x0)
    errors = mean(e_m, e_m), mean(e_m, e_i), mean(e_i, e_i)
    return jnp.stack([*errors, mean(away, away), more(guide), more(reference)])


class Pass:
    """Moments of candidates over the held-out images; outputs of main and reference are kept.

    settings: of the guide finder; data: HeldOut; sigmas [k]; cast: who main and reference are.
    """

    def __init__(self, settings, data, sigmas, cast):
        self.settings, self.data, self.sigmas, self.cast = settings, data, sigmas, cast
        self.size = min(settings.batch_size, data.count)
        self.devices = mesh.dividing(self.size)
        self.networks, self.placement = Networks(), Placement(self.devices)
        self.programs, self.kept, self.batches, self.room = {}, {}, None, settings.cache_mib << 20
        whole, split = mesh.replicated(self.devices), mesh.by_sample(self.devices)
        self.sharding = (whole, split, split, split, whole, whole)
        self.encode = jax.jit(self.encoded, in_shardings=(split, split), out_shardings=split)
        self.moments = jax.jit(moments)

    def encoded(self, images, numbers):
        """x0 [n, …] in model space."""
        return self.data.encoding.encode(images, noise_keys(self.settings.seed, numbers, ENCODE, 0))

    def of(self, ref, progress):
        """Moments [n, k] float64 of every image and level for one candidate.

        Errors: ValueError if main, reference or candidate give what is no finite number.
        """
        roles = {'main': self.cast.main, 'reference': self.cast.reference, 'candidates': ref}
        # Called where an output is not kept: a network whose outputs all are is not read again.
        load = lambda role: roles[role] and Call(self.networks.get(roles[role], role))
        call = functools.cache(load)
        found = np.empty((6, self.data.count, len(self.sigmas)))
        for at, (numbers, images, labels, count) in enumerate(self.data.batches(self.size)):
            given = mesh.put_batch(self.devices, (images, numbers, labels))
            x0 = self.encode(*given[:2])
            first = at * self.size
            for level in range(len(self.sigmas)):
                stop.check('the ranking', saved='finished candidates')
                seen = [self.seen(role, call, at, level, x0, given) for role in roles]
                values = np.asarray(self.moments(*seen, x0), np.float64)
                found[:, first : first + count, level] = values[:, :count]
            progress.update(count)
        if not np.isfinite(found).all():
            raise ValueError(
                f'candidates ({ref.run}, nimg {ref.nimg}, std {ref.std:g}): it, main or the '
                'reference gives NaN or infinity on these images. If that is so of every '
                'candidate it is not this one; otherwise leave it out'
            )
        return Moments(*found)

    def seen(self, role, call, at, level, x0, given):
        """D of one batch at one level; that of main and reference is computed once, if it fits."""
        if (role, at, level) in self.kept:
            return jax.device_put(self.kept[role, at, level], mesh.by_sample(self.devices))
        _, numbers, labels = given
        network = call(role)
        key = network.architecture()[0] if network else None
        if key not in self.programs:
            self.programs[key] = self.compile(network)
        variables = self.placement.get(network) if network else ()
        sigma = np.float32(self.sigmas[level])
        made = self.programs[key](variables, x0, numbers, labels, sigma, np.uint32(level))
        if role != 'candidates' and made.nbytes <= self.room:
            self.room -= made.nbytes
            self.kept[role, at, level] = np.asarray(made)
        return made

    def compile(self, call):
        """The program of an architecture: (variables, x0, numbers, labels, σ, level) → D [n, …]."""
        score, seed = getattr(self.data.dataset, 'score', None), self.settings.seed

        def run(variables, x0, numbers, labels, sigma, level):
            keys = noise_keys(seed, numbers, NOISE, level)
            noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(keys)
            bound = bind(call.network.denoiser, variables, labels, call) if call else exact(score)
            return bound(x0 + sigma * noise, sigma)

        split = self.sharding[1]
        return jax.jit(run, in_shardings=self.sharding, out_shardings=split)
