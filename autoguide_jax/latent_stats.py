"""Mean and deviation of every channel of latents, and what brings them to model space.

python -m autoguide_jax latent-stats --config.data.path=data/in512-latents

Training draws z = mean + std·ε, so that over n images and all places
    (1) E[z] = E[mean]        (2) Var[z] = E[mean²] + E[std²] − E[z]²
and x = scale·z + bias has mean 0 and deviation ½ for
    (3) scale = ½ / √Var[z],  bias = −scale·E[z].
"""

from dataclasses import dataclass

import numpy as np

from autoguide_jax import autoencoder, config, mesh, stop
from autoguide_jax.data.loader import read_ahead
from autoguide_jax.latents import FINAL_STD
from autoguide_jax.progress import Progress


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Settings:
      data: a set of latents, or images, which `vae` encodes
      vae: weights of the autoencoder, .safetensors or .npz; for images alone
      vae_dtype: float32, or bfloat16 between the autoencoder's norms; for images alone
      batch_size: images per call
      threads: threads that read
    """

    data: config.Part = config.part('autoguide_jax.data:table', name='latents')
    vae: str = ''
    vae_dtype: str = 'float32'
    batch_size: int = 8
    threads: int = 4

    def __post_init__(self):
        autoencoder.check_settings(self, 'batch_size', 'threads')


def main(settings, workdir=None):
    """Print the settings to type; return a row per channel, from every image once."""
    dataset, encode = open_source(settings)
    count, size = dataset.num_images, settings.batch_size
    batches = [range(i, min(i + size, count)) for i in range(0, count, size)]
    sums, places = 0, 0
    with stop.watch(), Progress(count, 'img', 'latent-stats') as bar:
        for found in read_ahead(dataset, batches, settings.threads):
            stop.check('measuring')
            moments = encode(found)
            sums = sums + moments_of(moments)
            places += moments[..., 0].size
            bar.update(len(found))
    mean, std, scale, bias = statistics(sums / places)
    exact = lambda values: ','.join(f'{value:.6g}' for value in values)
    print(f'--config.latents.scale={exact(scale)} --config.latents.bias={exact(bias)}')
    columns = {'mean': mean, 'std': std, 'scale': scale, 'bias': bias}
    return [
        {'channel': i, **{k: float(v[i]) for k, v in columns.items()}, 'images': count}
        for i in range(len(mean))
    ]


def open_source(settings):
    """(data set, its samples → mean and std [n,h,w,2l]). Errors: ValueError for images, no vae."""
    name, size = settings.data.name, settings.batch_size
    if name == 'latents':
        autoencoder.check_unused(settings, f'data.name ({name}) holds latents')
        return config.build(settings.data), lambda moments: moments
    dataset, vae = autoencoder.open_images(settings, f'data.name ({name}) holds images')
    devices = mesh.own(size, 'batch_size')
    return dataset, lambda images: vae.moments(images, size, devices)


def moments_of(moments):
    """Sums of mean and of mean² + std² over images and places, float64 [2, l]."""
    mean, std = np.split(np.asarray(moments, np.float64), 2, -1)
    return np.stack([mean.sum((0, 1, 2)), (mean**2 + std**2).sum((0, 1, 2))])


def statistics(means):
    """(mean, std, scale, bias) [l] each from E[mean] and E[mean² + std²]: (1) to (3).

    Errors: ValueError for a channel that is the same everywhere, but for rounding.
    """
    mean, square = means
    variance = square - mean**2
    if constant := np.flatnonzero(~(variance > 1e-12 * square)).tolist():
        raise ValueError(
            f'data: channels {constant} are constant ({mean[constant]}), so that no scale brings '
            'them to deviation ½; give a set of more, or other, images'
        )
    std = np.sqrt(variance)
    scale = FINAL_STD / std
    return mean, std, scale, -scale * mean
