"""The graph of InceptionV3 of 2015-12-05: its convolutions and pools, with both names of each.

Blocks hold branches side by side, whose outputs are concatenated; a branch holds steps one after
the other; a step is a pool or a list of convolutions side by side. Names as TensorFlow's
classify_image_graph_def.pb has them, 'mixed_6/tower/conv_1', and as PyTorch's copies of it
have them, 'Mixed_6d.branch7x7_2' (torch-fidelity's converter lists the pairs).
Pools: 'halve' 3×3 maximum with stride 2; 'mean' and 'max' 3×3 with stride 1, of pixels inside.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Conv(NamedTuple):
    """A convolution: channels out, kernel, stride, padding."""

    channels: int
    height: int = 1
    width: int = 1
    stride: int = 1
    padding: str = 'SAME'


class Layer(NamedTuple):
    """A convolution under its name in the graph, 'mixed_6/tower/conv_1', and in PyTorch."""

    name: str
    torch: str
    conv: Conv


def _branch(at, torch, steps):
    """Name the convolutions of a branch; several side by side are a fork, 'mixed' in the graph."""
    named = []
    count = sum(not isinstance(step, str) for step in steps)
    for step in steps:
        number = sum(not isinstance(before, str) for before in named)
        after, later = f'_{number}' if number else '', f'_{number + 1}' if count > 1 else ''
        if isinstance(step, list):
            names = zip((f'{at}/mixed/conv', f'{at}/mixed/conv_1'), 'ab', step)
            step = [Layer(name, f'{torch}{later}{side}', conv) for name, side, conv in names]
        elif isinstance(step, Conv):
            step = [Layer(f'{at}/conv{after}', f'{torch}{later}', step)]
        named.append(step)
    return named


def _block(name, torch, **branches):
    """Name branches, given under PyTorch's names: of one step they are 'conv', else towers."""
    towers = [branch for branch, steps in branches.items() if len(steps) > 1]
    place = {branch: f'/tower_{i}' if i else '/tower' for i, branch in enumerate(towers)}
    return [
        _branch(f'{name}{place.get(branch, "")}', f'{torch}.{branch}', steps)
        for branch, steps in branches.items()
    ]


def _a(name, torch, pool):
    triple = [Conv(64), Conv(96, 3, 3), Conv(96, 3, 3)]
    return _block(
        name, torch, branch1x1=[Conv(64)], branch5x5=[Conv(48), Conv(64, 5, 5)],
        branch3x3dbl=triple, branch_pool=['mean', Conv(pool)],
    )  # fmt: skip


def _b(name, torch):
    triple = [Conv(64), Conv(96, 3, 3), Conv(96, 3, 3, 2, 'VALID')]
    return _block(
        name, torch, branch3x3=[Conv(384, 3, 3, 2, 'VALID')], branch3x3dbl=triple, pool=['halve']
    )


def _c(name, torch, inner):
    row, column = Conv(inner, 1, 7), Conv(inner, 7, 1)
    return _block(
        name, torch, branch1x1=[Conv(192)], branch7x7=[Conv(inner), row, Conv(192, 7, 1)],
        branch7x7dbl=[Conv(inner), column, row, column, Conv(192, 1, 7)],
        branch_pool=['mean', Conv(192)],
    )  # fmt: skip


def _d(name, torch):
    cross = [Conv(192), Conv(192, 1, 7), Conv(192, 7, 1), Conv(192, 3, 3, 2, 'VALID')]
    return _block(
        name, torch, branch3x3=[Conv(192), Conv(320, 3, 3, 2, 'VALID')], branch7x7x3=cross,
        pool=['halve'],
    )  # fmt: skip


def _e(name, torch, pool):
    fork = [Conv(384, 1, 3), Conv(384, 3, 1)]
    return _block(
        name, torch, branch1x1=[Conv(320)], branch3x3=[Conv(384), fork],
        branch3x3dbl=[Conv(448), Conv(384, 3, 3), fork], branch_pool=[pool, Conv(192)],
    )  # fmt: skip


STEM = [
    [Layer('conv', 'Conv2d_1a_3x3', Conv(32, 3, 3, 2, 'VALID'))],
    [Layer('conv_1', 'Conv2d_2a_3x3', Conv(32, 3, 3, 1, 'VALID'))],
    [Layer('conv_2', 'Conv2d_2b_3x3', Conv(64, 3, 3))],
    'halve',
    [Layer('conv_3', 'Conv2d_3b_1x1', Conv(80))],
    [Layer('conv_4', 'Conv2d_4a_3x3', Conv(192, 3, 3, 1, 'VALID'))],
    'halve',
]
BLOCKS = {
    'stem': [STEM],
    'mixed': _a('mixed', 'Mixed_5b', 32),
    'mixed_1': _a('mixed_1', 'Mixed_5c', 64),
    'mixed_2': _a('mixed_2', 'Mixed_5d', 64),
    'mixed_3': _b('mixed_3', 'Mixed_6a'),
    'mixed_4': _c('mixed_4', 'Mixed_6b', 128),
    'mixed_5': _c('mixed_5', 'Mixed_6c', 160),
    'mixed_6': _c('mixed_6', 'Mixed_6d', 160),
    'mixed_7': _c('mixed_7', 'Mixed_6e', 192),
    'mixed_8': _d('mixed_8', 'Mixed_7a'),
    'mixed_9': _e('mixed_9', 'Mixed_7b', 'mean'),
    'mixed_10': _e('mixed_10', 'Mixed_7c', 'max'),
}


def layers() -> Iterator[tuple[Layer, int]]:
    """Yield every convolution with the number of its input channels, in the order of the graph."""
    inputs = 3
    for branches in BLOCKS.values():
        outputs = 0
        for steps in branches:
            channels = inputs
            for step in steps:
                if not isinstance(step, str):
                    yield from ((layer, channels) for layer in step)
                    channels = sum(layer.conv.channels for layer in step)
            outputs += channels
        inputs = outputs
