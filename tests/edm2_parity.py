"""Our EDM2 network against tests/edm2_reference.py at full width, random weights, float32.

    PYTHONPATH=. python tests/edm2_parity.py xs img64
    PYTHONPATH=. python tests/edm2_parity.py s img512

Width by its published name; img64 (64×64×3) or img512 (latents 64×64×4), 1000 classes. One image at
each of three noise levels, with a label and without one; then the unconditional network. The error
is the largest difference over the largest value. XS takes about 2 minutes and 3 GB on 2 cores.
"""

import sys
import time

import edm2_reference as reference
import jax
import numpy as np

from autoguide_jax.importers.edm2 import from_state_dict

SIGMAS = (0.05, 0.7, 20.0)
CHANNELS = {'img64': 3, 'img512': 4}


def ours(state, head):
    """(x [n, c, h, w], sigma, labels or None) → (x0 [n, c, h, w], logvar [n]), compiled once."""
    denoiser, variables = from_state_dict(state, channels_per_head=head)
    apply = jax.jit(denoiser.apply_with_logvar)

    def call(x, sigma, labels):
        x = np.transpose(x, (0, 2, 3, 1)).astype(np.float32)
        labels = np.full(len(x), -1) if labels is None else np.argmax(labels, axis=1)
        x0, logvar = apply(variables, x, np.float32(sigma), labels.astype(np.int32))
        return np.transpose(x0, (0, 3, 1, 2)), np.asarray(logvar)

    return call


def inputs(side, channels, classes, sigma, seed=0):
    """One noisy image x [1, c, h, w], sigma [1], and a one-hot label [1, classes] or None."""
    rng = np.random.default_rng(seed)
    x = (0.5 + sigma) * rng.standard_normal((1, channels, side, side))
    # The float32 network gets the same number, not one that rounds to it.
    x = x.astype(np.float32)
    label = np.eye(classes)[[rng.integers(classes)]] if classes else None
    return x, np.asarray([sigma], np.float32), label


def errors(state, side, channels, classes, head, sigmas=SIGMAS):
    """Yield (sigma, labelled, relative error of D, of its network part F, error of u)."""
    call = ours(state, head)
    for sigma in sigmas:
        x, s, label = inputs(side, channels, classes, sigma)
        for given in (label, None) if classes else (None,):
            want, u = reference.denoise(state, x, s, given, head)
            have, logvar = call(x, s, given)
            skip = 0.25 / (0.25 + s[:, None, None, None].astype(np.float64) ** 2) * x
            gap = np.abs(have - want).max()
            scales = np.abs(want).max(), np.abs(want - skip).max()
            yield sigma, given is not None, gap / scales[0], gap / scales[1], abs(logvar - u).max()


def main(width, data):
    """Print the errors of one size, conditional and unconditional."""
    for classes in (1000, 0):
        channels = CHANNELS[data]
        state = reference.random_state(64, channels, classes, reference.WIDTHS[width])
        count = sum(v.size for k, v in state.items() if not k.endswith(('freqs', 'phases')))
        print(f'{data} {width}, {classes or "no"} classes: {count:,} parameters', flush=True)
        start = time.monotonic()
        for sigma, labelled, of_d, of_f, of_u in errors(state, 64, channels, classes, 64):
            told = 'label' if labelled else 'none '
            text = f'sigma {sigma:<5g} {told}  D {of_d:.1e}  F {of_f:.1e}  logvar {of_u:.1e}'
            print(f'  {text}  {time.monotonic() - start:4.0f} s', flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
