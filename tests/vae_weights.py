"""A narrow autoencoder with weights from a NumPy seed, in files, and the same one of diffusers."""

import numpy as np

from autoguide_jax import state_dicts
from autoguide_jax.frozen import sd_vae

WIDTHS, BLOCKS = (32, 64), 1
OLD = {new: old for old, new in sd_vae.OLD_NAMES.items()}


def state(widths=WIDTHS, blocks=BLOCKS, seed=0, old=False):
    """State dict under the published names; variances such that no layer dies or explodes."""
    rng, found = np.random.default_rng(seed), {}
    for name, shape in sorted(sd_vae.shapes(widths, blocks).items()):
        fan = max(1, np.prod(shape[1:]))
        centre = float('norm' in name and name.endswith('weight'))
        draw = centre + rng.normal(size=shape) * (0.2 if len(shape) == 1 else fan**-0.5)
        found[name] = draw.astype(np.float32)
    # Latents of unit variance with small deviations, as those of a trained one.
    found['quant_conv.bias'][4:] -= 3
    if old:
        found = {_old(name): array for name, array in found.items()}
    return found


def _old(name):
    for new, old in OLD.items():
        name = name.replace(f'.attentions.0.{new}.', f'.attentions.0.{old}.')
    return name


def write(path, **settings):
    """Write state(…) to a file and return its path as text."""
    state_dicts.write(path, state(**settings))
    return str(path)


def images(n, size=16, seed=1):
    """Pixels in 0…1, float32 [n, size, size, 3]."""
    return np.random.default_rng(seed).random((n, size, size, 3), dtype=np.float32)


def latents(n, size=6, seed=2):
    """Latents, float32 [n, size, size, 4]."""
    return np.random.default_rng(seed).standard_normal((n, size, size, 4), dtype=np.float32)


def diffusers_model(**settings):
    """AutoencoderKL of diffusers with the weights of state(…), loaded by diffusers itself."""
    import torch
    from diffusers import AutoencoderKL

    arrays = state(**settings)
    widths = settings.get('widths', WIDTHS)
    model = AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=settings.get('blocks', BLOCKS),
        down_block_types=['DownEncoderBlock2D'] * len(widths),
        up_block_types=['UpDecoderBlock2D'] * len(widths),
    )
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return model.eval()


def diffusers_outputs(model, pixels, z):
    """{'mean', 'std', 'pixels'} of images and latents [n, …, c], from diffusers."""
    import torch

    to = lambda array: torch.from_numpy(np.moveaxis(array, -1, 1).copy())
    back = lambda tensor: np.moveaxis(tensor.numpy(), 1, -1)
    with torch.no_grad():
        posterior = model.encode(to(pixels)).latent_dist
        decoded = model.decode(to(z)).sample
    return {
        'mean': back(posterior.mean),
        'std': back(posterior.std),
        'pixels': back(decoded),
    }
