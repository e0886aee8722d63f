"""A small program on eight devices, compiled; run by test_plan.py in a process of its own.

A matrix that each four devices share is gathered inside a loop of five turns, and a sum is taken
over all eight. Prints the HLO text.
"""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from autoguide_jax import mesh

devices = mesh.over(jax.devices(), 4)
rows = NamedSharding(devices, PartitionSpec(mesh.SHARDS))
images = NamedSharding(devices, PartitionSpec((mesh.COPIES, mesh.SHARDS)))


def program(w, x):
    def turn(x, i):
        whole = jax.lax.with_sharding_constraint(jnp.sin(w * i), mesh.replicated(devices))
        return jnp.tanh(x @ whole), None

    return jnp.sum(jax.lax.scan(turn, x, jnp.arange(5.0))[0], 0)


spec = jax.ShapeDtypeStruct
given = spec((64, 64), jnp.float32, sharding=rows), spec((16, 64), jnp.float32, sharding=images)
print(jax.jit(program, out_shardings=mesh.replicated(devices)).lower(*given).compile().as_text())
