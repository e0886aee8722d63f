"""A finite space of settings: named axes, each with its values.

A *point* is one value of every axis, {axis: value}; a *place* is the same as indices, one per axis:
hashable, and what methods count with. The *unit* of a place is where it lies in [0, 1]^d: guidance
weights and shares linearly, EMA lengths, noise levels and images in the logarithm, anything else
(and what has no logarithm, as an interval that begins at 0) by index.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

LINEAR = ('weight', 'alpha')
OF_GUIDES = ('guide', 'guidance.', 'uncond', 'interval', 'alpha')  # how these axes' names begin


@dataclass(frozen=True)
class Space:
    """Every combination of the values of its axes.

    axes: name → values. Numbers are put in ascending order, and neighbours are next to each other;
    other values (names of runs) keep their order and are all neighbours of each other.
    Errors: ValueError that names the axis without values, or with one twice, or with NaN.
    """

    axes: dict[str, tuple]

    def __post_init__(self):
        if not self.axes:
            raise ValueError('axes ({}): the space is empty. Give an axis a list of values')
        axes = {name: _ordered(name, values) for name, values in self.axes.items()}
        object.__setattr__(self, 'axes', axes)

    @cached_property
    def shape(self):
        """How many values each axis has."""
        return tuple(map(len, self.axes.values()))

    @cached_property
    def size(self):
        """How many points there are."""
        return math.prod(self.shape)

    @cached_property
    def distinct(self):
        """How many settings there are: with weight 1 the axes of guides change nothing."""
        shape = dict(zip(self.axes, self.shape))
        off = self.size // shape['weight'] if 1 in self.axes.get('weight', ()) else 0
        idle = math.prod(n for name, n in shape.items() if name.startswith(OF_GUIDES))
        return self.size - off + off // idle

    @cached_property
    def numeric(self):
        """Of each axis, whether its values are numbers."""
        return tuple(all(map(_is_number, values)) for values in self.axes.values())

    @cached_property
    def units(self):
        """Of each axis, where its values lie in [0, 1], float64 [values]."""
        return tuple(_units(name, values) for name, values in self.axes.items())

    def places(self):
        """All places, the last axis fastest."""
        return itertools.product(*map(range, self.shape))

    def points(self):
        """All points, in the order of `places`."""
        return map(self.point, self.places())

    def point(self, place):
        """The point {axis: value} of a place."""
        return {name: values[i] for (name, values), i in zip(self.axes.items(), place, strict=True)}

    def place(self, point, where='point'):
        """The place of a point. Errors: ValueError for an axis or a value that is not there."""
        if point.keys() != self.axes.keys():
            raise ValueError(f'{where} ({point}): the axes are {", ".join(self.axes)}')
        for name, value in point.items():
            if value not in self.axes[name]:
                raise ValueError(f'{where}.{name} ({value!r}) is not one of {self.axes[name]}')
        return tuple(values.index(point[name]) for name, values in self.axes.items())

    def unit(self, place):
        """Where a place lies in the unit cube, float64 [axes]."""
        return np.array([units[i] for units, i in zip(self.units, place)])

    def nearest(self, unit):
        """The place that is nearest to a position [axes] in the unit cube, or outside of it."""
        return tuple(int(np.argmin(np.abs(units - u))) for units, u in zip(self.units, unit))

    def middle(self):
        """The place in the middle of every axis."""
        return tuple((n - 1) // 2 for n in self.shape)

    def beside(self, axis, i):
        """Indices that are next to the index i on an axis, which is given by its number."""
        if not self.numeric[axis]:
            return [j for j in range(self.shape[axis]) if j != i]
        return [j for j in (i - 1, i + 1) if 0 <= j < self.shape[axis]]

    def neighbours(self, place):
        """The places that differ from this one in one axis, there by one step."""
        return [
            (*place[:axis], j, *place[axis + 1 :])
            for axis, i in enumerate(place)
            for j in self.beside(axis, i)
        ]

    def box(self, place):
        """The places that differ by at most one step in every axis, without this one."""
        choices = [(i, *self.beside(axis, i)) for axis, i in enumerate(place)]
        return list(itertools.product(*choices))[1:]


def _is_number(value):
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _ordered(name, values):
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f'{name} ({values!r}): give the axis a list of values')
    values = tuple(values)
    if not values:
        raise ValueError(f'{name} (): the axis is empty. Give it values, or leave it out')
    if any(value != value for value in values):
        raise ValueError(f'{name} ({values}): NaN is no value')
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f'{name} ({values}): {value!r} is there twice. Give it once')
    return tuple(sorted(values)) if all(map(_is_number, values)) else values


def _units(name, values):
    if len(values) == 1:
        return np.array([0.5])
    scaled = np.arange(len(values), dtype=np.float64)
    finite = all(_is_number(value) and math.isfinite(value) for value in values)
    if finite and name in LINEAR:
        scaled = np.array(values, np.float64)
    elif finite and values[0] > 0:
        scaled = np.log(np.array(values, np.float64))
    return (scaled - scaled[0]) / (scaled[-1] - scaled[0])
