"""Guided sampling as one compiled program per architecture; no files.

Sample i is a function of its seed alone: noise, label and churn come from fold_in(key(seed), ·).
Weights of the networks, guidance weights, intervals and knots are arguments of the program, so a
sweep over EMA lengths, weights and intervals compiles once.
"""

import copy
import hashlib
import json
import time
import types
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax import latents, mesh, snapshots, stop
from autoguide_jax.guidance import Guidance
from autoguide_jax.placement import Placement
from autoguide_jax.seeds import CHURN, NOISE, stream, unit_noise

# A network this large fills a device alone, and stacking would copy its weights.
MAX_STACKED_BYTES = 2**26


@dataclass(frozen=True)
class Call:
    """One network of a guided denoiser: its Network, whether it is told the label, what harms it.

    degrade: a degradation of guidance/degradation.py, None for the network as it is.
    """

    network: object
    labelled: bool = True
    degrade: object = None

    def architecture(self):
        """Hashable description of the program this call compiles to."""
        config = self.network.config
        net = json.dumps([config['network'], config['denoiser']], sort_keys=True, default=str)
        return net, self.labelled, self.degrade


def check_stack(stack):
    """Refuse what Programs cannot do with networks of equal architecture."""
    if stack not in ('auto', 'on', 'off'):
        raise ValueError(f"stack ({stack!r}) must be 'auto', 'on' or 'off'")


class Programs:
    """Compiled samplers by architecture; the count of compilations is what a sweep costs once.

    stack: 'on' evaluates networks of equal architecture in one vmapped call, 'off' one after the
    other, 'auto' times both on this machine for each architecture and batch, and keeps the faster
    (networks above MAX_STACKED_BYTES are not stacked, and not timed).
    The two differ in rounding, so that what is resumed must not choose again: settle(name, choose)
    gives the choice made earlier under this name, or choose().
    start: (keys [n], shape) → noise [n, *shape] of unit variance, where another one than Gaussian
    noise is wanted. devices: the mesh; None = over the devices of this process. autoencoder: the
    autoencoder.Autoencoder that makes images of latents; None where networks draw none.
    """

    def __init__(
        self,
        sampler,
        batch_size,
        stack='auto',
        start=None,
        settle=None,
        devices=None,
        autoencoder=None,
    ):
        self.sampler, self.stack, self.start = sampler, stack, start or unit_noise
        self.settle = settle or (lambda name, choose: choose())
        self.devices = devices or mesh.own(batch_size)
        self.batch_size, self.autoencoder = batch_size, autoencoder
        self.placement = Placement(self.devices)
        self.compiled, self.seconds, self.stacked, self.flops = {}, 0.0, {}, {}

    def smaller(self, batch_size):
        """Programs for few images, which do not fill a batch, on the same networks and devices."""
        found, count = copy.copy(self), self.devices.size
        found.batch_size = min(-(-batch_size // count) * count, self.batch_size)
        found.stack, found.compiled = 'off', {}
        return found

    @property
    def count(self):
        """Number of programs compiled so far."""
        return len(self.compiled)

    def images(self, calls, guidance, seeds, labels):
        """uint8 [n, h, w, c] for seeds [n] and labels int32 [n].

        calls: Call of the main network, then of each guide; guidance: one rule per guide, whose
        numbers may be arrays [n], one for each sample.
        """
        drawn = self.draw(calls, guidance, seeds, labels)
        if (encoding := latents_of(calls[0].network.config)).needs_vae:
            if self.autoencoder is None:
                raise ValueError(f'vae: {calls[0].network.run} draws latents, which it decodes')
            drawn = self.autoencoder.images(encoding, drawn, self.devices)
        return np.asarray(drawn)[: len(seeds)]

    def draw(self, calls, guidance, seeds, labels):
        """What the sampler ends with, a whole batch on the devices: images, or latents of a VAE."""
        n, size = len(seeds), self.batch_size
        if not n <= size:
            raise ValueError(f'{n} seeds in a batch of {size}')
        fill = lambda a, dtype: np.resize(np.asarray(a, dtype), size)
        batch = mesh.put_batch(self.devices, (fill(seeds, np.uint32), fill(labels, np.int32)))
        each = lambda v: mesh.put_batch(self.devices, fill(v, np.float32)) if np.ndim(v) else v
        rules = jax.tree.map(lambda v: each(np.asarray(v, np.float32)), tuple(guidance))
        args = (tuple(self.placement.get(call) for call in calls), rules, *batch)
        return self.program(calls, args)(*args)

    def all_images(self, calls, guidance, seeds, labels):
        """The same for any number of seeds, batch after batch."""
        parts = [slice(i, i + self.batch_size) for i in range(0, len(seeds), self.batch_size)]
        return np.concatenate([self.images(calls, guidance, seeds[p], labels[p]) for p in parts])

    def cost(self, call):
        """FLOPs of one sample in one evaluation of a Call, with all that a degradation asks."""
        network = call.network
        key = call.architecture()[0]
        if key not in self.flops:
            self.flops[key] = flops(network)
        shape = snapshots.sample_shape(network.config)
        return self.flops[key] * (call.degrade.evaluations(shape) if call.degrade else 1)

    def program(self, calls, args):
        """The compiled sampler for these architectures."""
        key = program_key(calls, args[1])
        if key not in self.compiled:
            stacked = self.stack_or_not(key, calls, args)
            start = time.monotonic()
            fn = lambda: self.jit(calls, stacked, rules=args[1]).lower(*args).compile()
            self.compiled[key] = stop.interruptible(fn, doing='compiling the sampler')
            self.seconds += time.monotonic() - start
        return self.compiled[key]

    def jit(self, calls, stacked, sampler=None, rules=()):
        """The sampler of these architectures, to be compiled: (variables, rules, seeds, labels).

        rules: those to come, where they have numbers of their own for each sample.
        """
        sampler = sampler or self.sampler
        denoisers = [call.network.denoiser for call in calls]
        shape = snapshots.sample_shape(calls[0].network.config)
        encoding = latents_of(calls[0].network.config)

        def sample(variables, guidance, seeds, labels):
            bound = [bind(d, v, labels, c) for d, v, c in zip(denoisers, variables, calls)]
            together = bind_together(denoisers[0], variables, labels, calls) if stacked else None
            denoise = guided(guidance, bound[0], bound[1:], together)
            noise = self.start(jax.vmap(lambda s: stream(s, NOISE))(seeds), shape)
            keys = jax.vmap(lambda s: stream(s, CHURN))(seeds)
            x = sampler(denoise, noise, keys)
            return x if encoding.needs_vae else encoding.decode(x)

        whole, split = mesh.replicated(self.devices), mesh.by_sample(self.devices)
        told = jax.tree.map(lambda v: split if np.ndim(v) else whole, tuple(rules)) or whole
        return jax.jit(sample, in_shardings=(whole, told, split, split), out_shardings=split)

    def stack_or_not(self, key, calls, args):
        """Whether to evaluate main network and guide in one vmapped call: possible if alike.

        Several guides have intervals of their own, and none is evaluated outside its own.
        """
        architectures = [call.architecture()[::2] for call in calls]
        alike = len(calls) == 2 and len(set(architectures)) == 1 and calls[0].degrade is None
        alike = alike and all(hasattr(rule, 'excess') for rule in args[1])
        if self.stack == 'on' and len(calls) > 1 and not alike:
            raise ValueError('stack (on): only a main network and one guide that is alike can be')
        if not alike or self.stack == 'off':
            return False
        if self.stack == 'on':
            return True
        small = sum(a.nbytes for a in jax.tree.leaves(args[0][0])) <= MAX_STACKED_BYTES
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:12]
        return self.settle(f'stacked-{name}', lambda: small and self.faster(key, calls, args))

    def faster(self, key, calls, args):
        """Whether stacked networks are faster here, measured."""
        short = type(self.sampler)(num_steps=2)
        seconds = {}
        for stacked in (False, True):
            always = jax.tree.map(np.float32, tuple(Guidance(2.0) for _ in calls[1:]))
            given = (args[0], always, *args[2:])
            build = lambda: self.jit(calls, stacked, short).lower(*given).compile()  # noqa: B023
            program = stop.interruptible(build, doing='timing stacked networks')
            seconds[stacked] = min(timed(program, given) for _ in range(4))
        self.stacked[key] = seconds
        return seconds[True] < seconds[False]


def bind(denoiser, variables, labels, call):
    """(x, sigma) → x0 with weights and labels bound; −1 everywhere where the label is withheld."""
    given = labels if call.labelled else jnp.full_like(labels, -1)
    if call.degrade is not None:
        return call.degrade(denoiser, variables, given)
    return lambda x, sigma: denoiser.apply(variables, x, sigma, given)


def bind_together(denoiser, variables, labels, calls):
    """(x, sigma) → (D_m, [D_i]) in one call, for networks of one architecture."""
    told = jnp.array([call.labelled for call in calls])
    given = jnp.where(told[:, None], labels[None], -1)

    def together(x, sigma):
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables)
        x0 = jax.vmap(lambda v, y: denoiser.apply(v, x, sigma, y))(stacked, given)
        return x0[0], list(x0[1:])

    return together


def program_key(calls, guidance):
    """What a compiled sampler depends on: architectures and rules, not their numbers."""
    rules, structure = jax.tree.flatten(tuple(guidance))
    by_sample = tuple(i for i, leaf in enumerate(rules) if np.ndim(leaf))
    key = tuple(call.architecture() for call in calls), structure
    return (*key, by_sample) if by_sample else key


def guided(rules, main, guides, together):
    """The guided denoiser of one rule per guide; without guides, main itself."""
    if not rules:
        return main
    extra = () if together is None else (together,)
    if len(rules) == 1:
        return rules[0](main, guides[0], *extra)
    return type(rules[0]).combine(rules)(main, guides, *extra)


def timed(program, args):
    start = time.perf_counter()
    jax.block_until_ready(program(*args))
    return time.perf_counter() - start


def calls_per_image(sampler, guidance):
    """Evaluations of D_m and of each D_i per image: {'main': n, 'guides': [n, …]}, exact.

    A degraded network counts as one, however often it asks the network that it harms.
    A rule that cannot tell where it acts (no `excess`) counts as acting everywhere.
    """
    sigmas = sampler.sigmas().astype(np.float32)
    excess = [g.excess(sigmas) if hasattr(g, 'excess') else np.ones(len(sigmas)) for g in guidance]
    acts = [int(np.sum(np.asarray(e) != 0)) for e in excess]
    return {'main': len(sigmas), 'guides': acts}


def flops(network):
    """FLOPs of one evaluation of one sample, as XLA counts them before optimisation."""
    shape = snapshots.sample_shape(network.config)
    spec = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), network.variables)
    x, label = jax.ShapeDtypeStruct((1, *shape), 'f4'), jax.ShapeDtypeStruct((1,), 'i4')
    lowered = jax.jit(network.denoiser.apply).lower(spec, x, jax.ShapeDtypeStruct((), 'f4'), label)
    return float(lowered.cost_analysis()['flops'])


def forward_flops(tree):
    """The same of the network of a config.json, whose weights are not asked for."""
    denoiser, shape = snapshots.build_denoiser(tree), snapshots.sample_shape(tree)
    x, sigma, labels = jnp.zeros((1, *shape)), jnp.ones(1), jnp.zeros(1, jnp.int32)
    variables = jax.eval_shape(lambda: denoiser.init(jax.random.key(0), x, sigma, labels))
    return flops(types.SimpleNamespace(config=tree, variables=variables, denoiser=denoiser))


def latents_of(run_config):
    """The latents member that a run was trained with."""
    settings = dict(run_config['latents'])
    return latents.table.get(settings.pop('name'))(**settings)
