"""The contracts between rooms. A room's members may be swapped for anything that keeps these.

Shapes: x, x0 [n, …] float32 in model space; sigma [] or [n], > 0; labels int32 [n], −1 = none;
keys [n], one typed PRNG key per sample; images uint8 [n, h, w, c]; nimg = images seen, Python int.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np


class Denoise(Protocol):
    """(x, sigma) → x0, labels and weights already bound."""

    def __call__(self, x, sigma) -> Any: ...


@runtime_checkable
class GuidanceRule(Protocol):
    """Denoisers → denoiser. A frozen dataclass and pytree: weights, intervals are traced leaves."""

    def __call__(self, main: Denoise, guides) -> Denoise: ...


@runtime_checkable
class Sampler(Protocol):
    """Frozen and hashable, static under jit; noise [n, …] of unit variance, keys [n]."""

    def __call__(self, denoise: Denoise, noise, keys) -> Any: ...

    def sigmas(self) -> np.ndarray: ...


@runtime_checkable
class Network(Protocol):
    """One (run, nimg, std) of a run directory; apply(variables, x, sigma, labels) → x0."""

    apply: Callable
    variables: Any
    config: dict


@runtime_checkable
class Metric(Protocol):
    """images → number; counts are exact, batches may have any size."""

    def begin(self) -> Any: ...

    def update(self, state, images, labels=None) -> Any: ...

    def finish(self, state, reference) -> float: ...


@runtime_checkable
class Search(Protocol):
    """Frozen; (space, images, seed) → generator: yields Trials, is sent values, returns a point.

    most(space, images) → (evaluations, images) at most; `autoguide_jax.search` has the details.
    """

    def __call__(self, space, images: int, seed: int = 0) -> Generator: ...

    def most(self, space, images: int) -> tuple[int, int]: ...


@runtime_checkable
class Dataset(Protocol):
    """Images by index; labels is None for an unlabelled set.

    A set of anything else says what as `holds`: 'points' or 'latents'.
    """

    name: str
    num_images: int
    resolution: int
    channels: int
    num_classes: int
    labels: Any
    fingerprint: str

    def images(self, indices: Sequence[int]) -> np.ndarray: ...

    def describe(self) -> dict: ...
