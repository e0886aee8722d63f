"""Networks on the devices that sample, as their evaluations take them."""

import functools

import jax

from autoguide_jax import mesh, snapshots
from autoguide_jax.denoiser import with_ready_weights

KEEP_ON_DEVICE = 3


class Placement:
    """The variables of Calls, replicated; the last few stay on the devices for batches to come."""

    def __init__(self, devices):
        self.everywhere = mesh.replicated(devices)
        self.held, self.programs = {}, {}

    def get(self, call):
        """Variables of a generation.Call on the devices."""
        key = id(call.network), call.degrade
        # The network is kept beside them, for another one may get its id once it is gone.
        held = self.held.pop(key, None) or (call.network, self.make(call))
        self.held[key] = held
        while len(self.held) > KEEP_ON_DEVICE:
            self.held.pop(next(iter(self.held)))
        return held[1]

    def make(self, call):
        """The variables with all done that is the same in every evaluation.

        A degradation gets them as they are, for it may change the stored weights. Networks of one
        architecture share one compiled program.
        """
        network, key = call.network, call.architecture()[0]
        placed = jax.device_put(network.variables, self.everywhere)
        if call.degrade:
            return placed
        if key not in self.programs:
            shape = snapshots.sample_shape(network.config)
            make = functools.partial(with_ready_weights, network.denoiser, shape=shape)
            self.programs[key] = jax.jit(make, out_shardings=self.everywhere)
        return self.programs[key](placed)
