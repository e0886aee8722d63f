"""How values of axes are written: EMA lengths, images seen, ends of intervals."""

import math

from autoguide_jax.report.drawing import images_seen
from autoguide_jax.report.sweep.read import TITLES, is_number

NONE = '–'


def title(axis):
    """What an axis is called."""
    return TITLES.get(axis) or axis.replace('_', ' ')


def text(axis, value):
    """A value of an axis in a few characters, '–' where the axis says nothing."""
    if value is None:
        return NONE
    if not is_number(value):
        return str(value)
    if axis.endswith('_nimg'):
        return images_seen(value)
    return '∞' if math.isinf(value) else f'{value:g}'


def told(axis, value):
    """'w = 1.5', 'guide trained on 4 Ki images'."""
    if axis.endswith('_nimg'):
        return f'{title(axis)} on {text(axis, value)} images'
    return f'{title(axis)} = {text(axis, value)}'


def point(entry):
    """The point of an entry in words."""
    return ', '.join(told(a, v) for a, v in entry.point.items() if v is not None) or 'all settings'


def scale(axis, values):
    """'log2' for images seen, 'log' or 'linear' for numbers, 'ordinal' for all else."""
    if not all(map(is_number, values)) or any(map(math.isinf, values)):
        return 'ordinal'
    if min(values) > 0 and axis.endswith('_nimg'):
        return 'log2'
    return 'log' if min(values) > 0 and max(values) / min(values) > 30 else 'linear'
