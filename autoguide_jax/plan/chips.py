"""TPU chips as their makers describe them, and slices of them such as v5e:16x16.

Figures are those of Google Cloud's documentation of each version (cloud.google.com/tpu/docs/v4,
v5e, v5p, v6e; "System architecture"): peak bfloat16, capacity and bandwidth of the HBM, bandwidth
of the interconnect (half of the bidirectional figure where that is what is given), chips of a host.
1 TFLOP/s = 10¹², 1 GB/s = 10⁹ bytes/s; capacities are GiB. A chip is one device to JAX.
"""

import math
import re
from dataclasses import dataclass, field

from autoguide_jax.registry import suggest

TERA, GIGA, GIB = 1e12, 1e9, 2**30
PER_HOST = 4  # chips on each host of a slice of several hosts


@dataclass(frozen=True)
class Chip:
    """One chip: FLOP/s in bfloat16, HBM bytes and bytes/s, interconnect bytes/s one way.

    largest_host: chips of the largest slice that is one host (larger ones have PER_HOST on each);
    options: what the compiler must be told of it.
    """

    flops: float
    hbm: float
    bandwidth: float
    interconnect: float
    largest_host: int
    options: dict = field(default_factory=dict)


# The two cores of a chip as one device, as JAX runs on v4; v5p is so by default.
MEGACORE = {'chip_config_name': 'megacore'}
CHIPS = {
    'v4': Chip(275 * TERA, 32 * GIB, 1228 * GIGA, 300 * GIGA, 4, MEGACORE),
    'v5e': Chip(197 * TERA, 16 * GIB, 819 * GIGA, 200 * GIGA, 8),
    'v5p': Chip(459 * TERA, 95 * GIB, 2765 * GIGA, 600 * GIGA, 4),
    'v6e': Chip(918 * TERA, 32 * GIB, 1638 * GIGA, 400 * GIGA, 8),
}


@dataclass(frozen=True)
class Slice:
    """Chips in a grid: name such as 'v5e:16x16', the kind of its chips, and its sides."""

    name: str
    chip: Chip
    sides: tuple[int, ...]

    @property
    def chips(self):
        return math.prod(self.sides)

    @property
    def hosts(self):
        return 1 if self.chips <= self.chip.largest_host else -(-self.chips // PER_HOST)

    @property
    def per_host(self):
        return PER_HOST if self.hosts > 1 else self.chips


def read(name):
    """'v5e:16x16' → Slice. Errors: ValueError naming the setting and what is known."""
    found = re.fullmatch(r'(\w+):(\d+(?:x\d+){1,2})', name)
    if not found:
        raise ValueError(f'topology ({name!r}) must look like v5e:16x16 or v5p:4x4x4')
    kind, sides = found[1], tuple(int(n) for n in found[2].split('x'))
    if kind not in CHIPS:
        raise ValueError(f'topology ({name}): unknown chip {kind!r}.{suggest(kind, CHIPS)}')
    wanted = 3 if kind in ('v4', 'v5p') else 2
    if len(sides) != wanted or 0 in sides:
        example = '2x2x4' if wanted == 3 else '4x4'
        raise ValueError(f'topology ({name}): slices of {kind} have {wanted} sides, as {example}')
    return Slice(name, CHIPS[kind], sides)
