"""The smallest change that makes a training step fit, from an estimate of its memory.

    need ≈ arguments(shards) + (activations(remat)·images + gradient) · k

where k is what the compiler needed over the same sum for the settings it has tried; 1 before.
"""

import itertools
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Option:
    """What can be changed: devices that share a copy, what is recomputed, images per pass and chip.

    images: of one device in one gradient pass; fewer = more passes (train.microbatch_size).
    """

    shards: int
    remat: str
    images: int


@dataclass(frozen=True)
class Model:
    """Bytes of one device: arguments by shards, activations per image by remat, gradient by shards.

    scale: k above.
    """

    arguments: dict[int, float]
    activations: dict[str, float]
    gradient: dict[int, float]
    scale: float = 1.0

    def temporaries(self, option):
        """Estimated bytes of temporaries."""
        kept = self.activations[option.remat] * option.images
        return self.scale * (kept + self.gradient[option.shards])

    def need(self, option):
        """Estimated bytes in all."""
        return self.arguments[option.shards] + self.temporaries(option)

    def calibrated(self, option, temporaries):
        """The model that gives these temporaries for this option, as a compiler found them."""
        return replace(self, scale=temporaries / replace(self, scale=1.0).temporaries(option))


def options(model, now):
    """Every option from this one on, the smallest change first: by what it adds to a step.

    Splitting the state adds communication; recomputing what is elementwise, traffic; more passes,
    traffic of weights and gradients; recomputing blocks, a forward pass.
    """
    cost = {'none': 0, 'products': 2, 'block': 5}
    halves = [now.images // 2**k for k in range(12) if now.images % 2**k == 0]
    remats = [remat for remat in model.activations if cost[remat] >= cost[now.remat]]
    shards = [n for n in model.arguments if n >= now.shards]
    ranked = []
    for n, remat, (passes, images) in itertools.product(shards, remats, enumerate(halves)):
        changed = (n != now.shards) + (remat != now.remat) + (images != now.images)
        extra = (n != now.shards) + cost[remat] + 1.5 * passes
        ranked.append((changed > 0, extra, changed, n, Option(n, remat, images)))
    return [option for *_, option in sorted(ranked, key=lambda row: row[:-1])]


def smallest(model, now, available):
    """The first of `options` whose estimate is within the available bytes; None if none is."""
    return next((o for o in options(model, now) if model.need(o) <= available), None)


def words(option, now, devices):
    """The settings that lead from one option to another, as they are typed: name → value."""
    found = {}
    if option.shards != now.shards:
        found['mesh.params'], found['mesh.shards'] = 'fsdp', option.shards
    if option.remat != now.remat:
        found['network.remat'] = option.remat
    if option.images != now.images:
        found['train.microbatch_size'] = option.images * devices
    return found
