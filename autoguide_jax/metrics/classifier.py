"""The classifier of a data set: trained once on the real images, then frozen as a feature space.

The recipe is fixed, so that a data set has one classifier: the small CNN; Adam (0.9, 0.999) with a
cosine from learning_rate to 0; softmax cross-entropy; each image shifted at random by up to 1 pixel
per 16 (at least 1, edges repeated) and given Gaussian noise of a random strength up to `noise`.
It is trained twice: on 80 % of the images, for the held-out accuracy that is reported, and again on
all of them, which gives the weights that are kept. At the end the features are scaled once, so that
their variances over the real images sum to 64, the dimension: the unit of the Fréchet distance does
not depend on the training.
"""

import dataclasses
import functools
import json
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from autoguide_jax import files, stop
from autoguide_jax.frozen import small_cnn
from autoguide_jax.metrics.features import Extractor, bind, hash_weights
from autoguide_jax.metrics.metric import choose
from autoguide_jax.progress import Progress

BATCH = 256
NOUNS = {'digits': 'digit'}
TRANSFORM = 'x/127.5 − 1 at the size of the data'


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the classifier is trained; a change makes another classifier.

    Settings:
      network: name of the architecture
      epochs: passes over the images, within min_steps and max_steps
      min_steps: fewest optimiser steps
      max_steps: most optimiser steps
      batch_size: images per step
      learning_rate: at the start
      noise: largest standard deviation of the added noise, in units of 0…255
      held_out: share of the images that tells the accuracy
      max_images: of larger data sets this many images, a fixed random subset, are used
      seed: of weights, order and augmentation
    """

    network: str = 'small_cnn'
    epochs: int = 25
    min_steps: int = 300
    max_steps: int = 4000
    batch_size: int = 128
    learning_rate: float = 2e-3
    noise: float = 25.0
    held_out: float = 0.2
    max_images: int = 100_000
    seed: int = 0


RECIPE = Recipe()


def _augment(recipe, key, images):
    """Shift and perturb uint8 images; returns float pixels."""
    n, h, w, c = images.shape
    reach = max(1, min(h, w) // 16)
    keys = jax.random.split(key, 3)
    padded = jnp.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), 'edge')
    corners = jax.random.randint(keys[0], (n, 2), 0, 2 * reach + 1)

    def cut(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (h, w, c))

    strength = jax.random.uniform(keys[1], (n, 1, 1, 1), maxval=recipe.noise)
    noise = strength * jax.random.normal(keys[2], images.shape)
    return jax.vmap(cut)(padded, corners).astype(jnp.float32) + noise


@functools.partial(jax.jit, static_argnums=0)
def _step(recipe, state, images, labels, step, steps):
    weights, moments = state
    key = jax.random.fold_in(jax.random.key(recipe.seed + 1), step)
    pixels = _augment(recipe, key, images)

    def loss(weights):
        _, logits = small_cnn.apply_pixels(weights, pixels)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    gradient = jax.grad(loss)(weights)
    updates, moments = optax.scale_by_adam().update(gradient, moments)
    rate = recipe.learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * step / steps))
    return jax.tree.map(lambda w, u: w - rate * u, weights, updates), moments


def _fit(images, labels, classes, recipe, label):
    """Train on all the images given; return the weights."""
    weights = small_cnn.init(jax.random.key(recipe.seed), images.shape[1:], classes)
    state = weights, optax.scale_by_adam().init(weights)
    batch = recipe.batch_size
    steps = math.ceil(recipe.epochs * len(images) / batch)
    steps = min(max(steps, recipe.min_steps), recipe.max_steps)
    rng = np.random.default_rng(recipe.seed)
    order = np.concatenate(
        [rng.permutation(len(images)) for _ in range(math.ceil(steps * batch / len(images)))]
    )
    with Progress(steps, 'steps', label) as progress:
        for step in range(steps):
            stop.check('training the classifier')
            rows = order[step * batch : (step + 1) * batch]
            args = recipe, state, images[rows], labels[rows], np.float32(step), np.float32(steps)
            run = functools.partial(_step, *args)
            state = stop.interruptible(run, 'compiling the classifier') if step == 0 else run()
            progress.update(1)
        return jax.block_until_ready(state[0])


def _read(dataset, recipe):
    """Return images, labels and number of classes. Errors: ValueError if there are no labels."""
    if dataset is None:
        raise ValueError("the extractor 'classifier' needs the data set that it is trained on")
    if dataset.labels is None or dataset.num_classes < 2:
        raise ValueError(
            f'data set {dataset.name!r} has no labels to train a classifier on; open it with '
            "labels=True, or use the extractor 'efficientnet_lite0'"
        )
    rows = choose(dataset.num_images, recipe.max_images)
    labels = np.asarray(dataset.labels)[rows].astype(np.int32)
    parts = np.array_split(rows, math.ceil(len(rows) / 1024))
    images = np.concatenate([dataset.images(part) for part in parts])
    return images[labels >= 0], labels[labels >= 0], dataset.num_classes


def train(dataset, recipe: Recipe = RECIPE) -> tuple[dict, dict]:
    """Return (weights, header) of the data set's classifier; deterministic on one machine.

    header: recipe, data, image_shape, num_classes, held_out_accuracy and the number of images it
    was measured on. Errors: ValueError for a data set without labels or of unsuitable size.
    """
    images, labels, classes = _read(dataset, recipe)
    order = np.random.default_rng(recipe.seed).permutation(len(images))
    split = round(len(images) * recipe.held_out)
    test, rest = order[:split], order[split:]
    noun = f'{NOUNS.get(dataset.name, dataset.name)} classifier'
    trial = _fit(images[rest], labels[rest], classes, recipe, f'{noun}, held-out trial')
    logits = _extractor(trial, images.shape[1:], noun, classes)(images[test]).logits
    accuracy = float((logits.argmax(1) == labels[test]).mean())
    weights = _fit(images, labels, classes, recipe, f'{noun}, all images')
    features = _extractor(weights, images.shape[1:], noun, classes)(images).features
    variance = features.var(0, dtype=np.float64).sum()
    weights['dense']['scale'] = np.float32(math.sqrt(small_cnn.FEATURES / variance))
    weights = jax.tree.map(np.asarray, weights)
    header = {
        'recipe': dataclasses.asdict(recipe),
        'data': dataset.describe(),
        'data_fingerprint': dataset.fingerprint,
        'name': dataset.name,
        'image_shape': list(images.shape[1:]),
        'num_classes': classes,
        'held_out_accuracy': accuracy,
        'held_out_images': split,
        'trained_on': len(images),
        'weights_hash': hash_weights(weights),
    }
    return weights, header


def _extractor(weights, image_shape, noun, classes, header=None) -> Extractor:
    header = header or {}
    known = ('held_out_accuracy', 'held_out_images', 'trained_on', 'data_fingerprint')
    return Extractor(
        name='classifier',
        noun=noun,
        title=f'FD ({noun})',
        dim=small_cnn.FEATURES,
        num_classes=classes,
        weights_hash=hash_weights(weights, transform=TRANSFORM) if header else '',
        apply=bind(small_cnn.apply, weights),
        batch_size=BATCH,
        image_shape=tuple(image_shape),
        facts={
            **{key: header[key] for key in known if key in header},
            'transform': TRANSFORM,
        },
    )


def save(p: Any, weights: dict, header: dict) -> None:
    """Write a classifier as npz: arrays 'conv0/kernel' … and its header as JSON."""
    arrays = {f'{l}/{part}': a for l, layer in weights.items() for part, a in layer.items()}
    files.save_npz(p, {'header': np.array(json.dumps(files.plain(header))), **arrays})


def load(p: Any, dataset=None) -> tuple[dict, dict]:
    """Return (weights, header) of a saved classifier.

    Errors: ValueError, naming both sides, if it was trained on other data than `dataset`, or if the
    weights are not those that the header describes.
    """
    with files.open_npz(p) as arrays:
        if 'header' not in arrays:
            raise ValueError(f'{p} is not a classifier: it has no header')
        header = json.loads(str(arrays['header']))
        weights = {}
        for name in arrays:
            if name != 'header':
                layer, _, part = name.partition('/')
                weights.setdefault(layer, {})[part] = arrays[name]
    if hash_weights(weights) != header['weights_hash']:
        raise ValueError(f'{p} is damaged: its weights are not {header["weights_hash"]}')
    if dataset is not None and header['data_fingerprint'] != dataset.fingerprint:
        raise ValueError(
            f'{p} was trained on {header["name"]!r} ({header["data_fingerprint"]}), the data set '
            f'is {dataset.name!r} ({dataset.fingerprint}). Train another, in another folder.'
        )
    return weights, header


def open_classifier(dataset, folder: Any = None, /, recipe: Recipe = RECIPE) -> Extractor:
    """Return the classifier of a data set as an extractor: read from the folder, or trained now.

    folder: kept there for the next time; None = not kept.

    Settings:
      recipe: how it is trained
    """
    if dataset is None:
        raise ValueError("the extractor 'classifier' needs the data set that it is trained on")
    p = None
    if folder is not None:
        recipe_and_data = [dataclasses.asdict(recipe), dataset.fingerprint]
        name = re.sub(r'\W+', '-', dataset.name)
        p = files.path(folder) / f'classifier-{name}-{files.content_hash(recipe_and_data)}.npz'
    if p is not None and p.exists():
        weights, header = load(p, dataset)
    else:
        weights, header = train(dataset, recipe)
        if p is not None:
            save(p, weights, header)
    noun = f'{NOUNS.get(header["name"], header["name"])} classifier'
    return _extractor(weights, header['image_shape'], noun, header['num_classes'], header)
