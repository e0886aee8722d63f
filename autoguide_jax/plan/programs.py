"""The programs that are planned: the real training step and the real guided sampler, as shapes."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from autoguide_jax import config, mesh, registry, schema, snapshots
from autoguide_jax.backbones import edm2_unet
from autoguide_jax.denoiser import with_ready_weights
from autoguide_jax.generation import Call, Programs
from autoguide_jax.guidance import Guidance
from autoguide_jax.plan import analytic
from autoguide_jax.trainer import Trainer


@dataclass(frozen=True)
class Abstract:
    """A network of shapes without numbers, as the sampler wants it."""

    denoiser: object
    variables: dict
    config: dict


def stand_ins(topology, run):
    """A mesh of so many devices that are nowhere: enough for shapes and shardings."""
    shards, kinds = run.shards(topology), (AxisType.Auto,) * 2
    shape = topology.chips // shards, shards
    return jax.sharding.AbstractMesh(shape, (mesh.COPIES, mesh.SHARDS), axis_types=kinds)


class Run:
    """One training run of a plan: its network and state as shapes.

    settings: of the run (run_settings.Settings), whose network names resolution, channels and
    label_dim itself, for there is no data set to ask.
    """

    def __init__(self, settings):
        self.settings, self.tree = settings, config.resolved(settings)
        self.denoiser = snapshots.build_denoiser(self.tree)
        self.shape = snapshots.sample_shape(self.tree)
        trainer = Trainer(settings, self.tree, mesh.over(jax.devices('cpu')[:1]))
        self.state = trainer.abstract
        spec, n = jax.ShapeDtypeStruct, settings.train.batch_size
        self.batch = spec(trainer.batch_shape, trainer.latents.dtype), spec((n,), jnp.int32)
        self.params = sum(leaf.size for leaf in jax.tree.leaves(self.state['params']))
        self.variables = {'params': self.state['params'], 'buffers': self.state['buffers']}

    @property
    def network(self):
        return Abstract(self.denoiser, self.variables, self.tree)

    @functools.cached_property
    def forward_flops(self):
        """FLOPs of one evaluation of one image."""
        return analytic.forward_flops(self.denoiser, self.variables, self.shape)

    def activations(self, remat):
        """Bytes per image kept for the gradient under a policy of network.remat."""
        denoiser = self.denoiser
        if 'remat' in self.tree['network']:
            network = {**self.tree['network'], 'remat': remat}
            denoiser = snapshots.build_denoiser({**self.tree, 'network': network})
        return analytic.activation_bytes(denoiser, self.variables, self.shape)

    def shards(self, topology):
        """Devices that share one copy of the state; mesh.shards = 0 means all of the slice."""
        mesh_settings = self.settings.mesh
        return (mesh_settings.shards or topology.chips) if mesh_settings.params == 'fsdp' else 1

    def remats(self):
        """The policies of rematerialisation that the network has."""
        return tuple(edm2_unet.REMAT) if 'remat' in self.tree['network'] else ('none',)

    def step(self, devices):
        """The training step traced for a mesh, or for a list of devices."""
        if isinstance(devices, list):
            fsdp = self.settings.mesh.params == 'fsdp'
            devices = mesh.over(devices, self.settings.mesh.shards if fsdp else 1)
        return Trainer(self.settings, self.tree, devices).trace()

    def changed(self, **settings):
        """The same run with other settings, as changed(**{'network.remat': 'block'})."""
        tree = config.to_dict(self.settings)
        for name, value in settings.items():
            section, _, field = name.partition('.')
            tree[section] = {**tree[section], field: value}
        return Run(config.parse(type(self.settings), tree))


def ready_variables(run):
    """The variables of a run, as shapes, as the sampler takes them."""
    make = functools.partial(with_ready_weights, run.denoiser, shape=run.shape)
    return jax.eval_shape(make, run.variables)


def sampler(runs, rule, batch, device):
    """The guided sampler of (main, guide) traced for one device, with batch images on it.

    Sampling splits images over devices with all weights on each, so one device tells for all.
    """
    programs = Programs(rule, batch, stack='off', devices=mesh.over([device]))
    calls = [Call(run.network) for run in runs]
    guidance = jax.tree.map(np.float32, tuple(Guidance(2.0) for _ in runs[1:]))
    spec = jax.ShapeDtypeStruct
    variables = tuple(ready_variables(run) for run in runs)
    given = variables, guidance, spec((batch,), jnp.uint32), spec((batch,), jnp.int32)
    return programs.jit(calls, stacked=False).trace(*given)


def check(name, settings):
    """Refuse a run whose network does not say what it is built for. Errors: ValueError."""
    part = settings.network
    known = schema.component_fields(registry.resolve(part.room).get(part.name))
    for field, kind in known.items():
        if kind.default is schema.MISSING and field not in part.settings:
            raise ValueError(
                f'{name}.network.{field}: a plan has no data set to ask; give it in the config or '
                f'as --config.{name}.network.{field}=…'
            )
