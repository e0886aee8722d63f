"""The held-out images of a ranking, and the noise levels at which they are looked at."""

import dataclasses
import sys

import jax.numpy as jnp
import numpy as np

from autoguide_jax import config
from autoguide_jax.data.order import ENDLESS, permutation
from autoguide_jax.generation import latents_of
from autoguide_jax.guides.settings import EXACT
from autoguide_jax.refs import described


@dataclasses.dataclass(frozen=True)
class _Data:
    """The data section of a run.

    Settings:
      data: the data set
    """

    data: config.Part = config.part('autoguide_jax.data:table')


def part_of(settings, tree):
    """The Part of the data set: the settings' own, or main's with `held_out` put in."""
    if settings.data is not None:
        return settings.data
    if not tree.get('data'):
        raise ValueError(
            f'data (none): main ({settings.main}) does not say what it was trained on; give held-'
            'out images as --config.data.name=…'
        )
    given = [item.partition('=') for item in settings.held_out]
    overrides = [(f'data.{name.strip()}', value) for name, _, value in given]
    return config.parse(_Data, config.load({'data': tree['data']}, overrides, _Data)).data


class HeldOut:
    """Images by their number 0 … n − 1 in a random choice that settings.seed makes."""

    def __init__(self, settings, main):
        tree = described(main.run).config
        self.dataset = data = config.build(part_of(settings, tree))
        self.encoding, self.tree = latents_of(tree), tree
        holds = getattr(data, 'holds', 'images')
        sides = [(n, tree['network'].get(n)) for n in ('resolution', 'channels')]
        wrong = [n for n, side in sides if holds != 'latents' and side != getattr(data, n)]
        if wrong or self.encoding.holds != holds:
            raise ValueError(
                f'data ({data.name}: {holds}, resolution {data.resolution}, {data.channels} '
                f'channels) does not fit main ({settings.main}): {self.encoding.holds}, '
                + ', '.join(f'{n} {side}' for n, side in sides)
            )
        classes = tree['network'].get('label_dim', 0)
        if classes and data.num_classes != classes:
            raise ValueError(
                f'data ({data.name}) has {data.num_classes} classes; main ({settings.main}) has '
                f'{classes}'
            )
        if settings.reference == EXACT and not hasattr(data, 'score'):
            raise ValueError(
                f'reference ({EXACT}) needs data that know their score, such as data.name=toy; '
                f'{data.name} does not: give a stronger run'
            )
        self.labelled, self.count = bool(classes), min(settings.images, data.num_images)
        if self.count < 2:
            raise ValueError(f'data ({data.name}) has {self.count} image; errors need two or more')
        self.order = self.choice(settings.seed, data.num_images)

    def choice(self, seed, total):
        """Indices [n] of the images; of an endless set, stretch `seed` of 2²⁰ stretches at its end.

        Trainings with a seed below 2²² − 2¹² never reach those (data/order.py, 1).
        """
        if total == ENDLESS:
            return ENDLESS - (seed + 1) * 2**32 + np.arange(self.count)
        return permutation(seed, 0, total)[: self.count]

    def notes(self, asked):
        """Lines about what the choice of data does to the result."""
        known = (self.tree.get('dataset') or {}).get('fingerprint')
        if self.count < asked:
            yield f'data has {self.count} images, fewer than images ({asked})'
        endless = self.dataset.num_images == ENDLESS
        if not endless and known == self.dataset.fingerprint:
            yield (
                'the images are those that main was trained on: its errors look smaller than they '
                'are, and those of the longest trained most; give held-out ones, as '
                '--held_out=split=test'
            )

    def batches(self, size):
        """(numbers [size], images, labels [size], count) over all images, the last filled up."""
        for first in range(0, self.count, size):
            numbers = np.arange(first, min(first + size, self.count))
            images, labels = self.dataset.examples(self.order[numbers])
            labels = labels if self.labelled else np.full(len(labels), -1, np.int32)
            full = lambda a: np.resize(a, (size, *np.shape(a)[1:]))
            filled = full(numbers.astype(np.uint32)), full(images), full(labels)
            yield *filled, len(numbers)

    def describe(self):
        """What decides the images."""
        return self.dataset.describe()


def levels_of(settings):
    """Noise levels float64 [k], from high to low: those given, or the steps of the sampler."""
    if settings.levels:
        return np.sort(np.asarray(settings.levels, np.float64))[::-1]
    sampler = config.build(settings.sampler)
    return np.asarray(sampler.schedule()[:-1], np.float64)


def exact(score):
    """D*(x; σ) = x + σ²∇log p(x; σ): (x [n, …], sigma []) → x0, of data that know their score."""
    return lambda x, sigma: x + sigma**2 * score(x, jnp.broadcast_to(sigma, x.shape[:1]))


def say(line):
    """Print a line beside the progress."""
    print(line, file=sys.stderr, flush=True)
