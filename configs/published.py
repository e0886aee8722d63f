"""The rows of the paper's Table 1 (arXiv 2406.02507) with the published EDM2 networks, as presets.

    python -m autoguide_jax sample --config=configs/published.py:img512-s-autog-fid \
        --config.models=models --config.vae=vae.safetensors --workdir=out/img512-s-autog-fid
    python -m autoguide_jax sweep --config=configs/published.py:img64-s-autog-fid:sweep \
        --config.models=models --config.data.path=imagenet64.zip --workdir=out/sweep

models: a folder, local or gs://, of imported networks by their public names, models/edm2-img512-s
and so on; where one lacks, the error names its file. vae: the autoencoder, for ImageNet-512.
`…-fid` and `…-dino` are the settings found best for FID and for FD_DINOv2. docs/published.md lists
all presets. After `:sweep` the same pair for the verb sweep, its weight and four around it.
Sampler: 32 Heun steps, σ from 80 to 0.002, ρ 7.
Classes are drawn uniformly at random from each seed, as in the paper;
--config.sample.classes=balanced has each equally often. The manifest records which.

From the papers: weights, EMA lengths, scores, intervals (2404.07724); that the guide of CFG on
ImageNet-512 is always the unconditional XS, of autoguidance XS after 1/16 (IN-512 S, both kinds)
or 1/8 (IN-64 S) of main's training, M after 1/3.5 (XXL); which unconditional networks there are.
Our reading, where they are silent: that the guides of CFG are fully trained, on IN-64 XS too;
that the intervals have the same guides; and the guides of the ablations: `same-ema` has the guide
of autoguidance, `training-only` is guided by S itself after 1/16, `capacity-only` by XS fully
trained. Of the ablations' guides we do not know that files at these lengths are published; raw
snapshots, imported, give any. Row RIN of the table is not an EDM2 network and left out.

Cost: 63 evaluations of main per image and, but in an interval, 63 of the guide. 50000 images in
chip-hours of v5e at least (products at the published peak, no decoding): S 0.9 alone, 1.3 guided;
XXL 4.9 alone, 5.3 by XS-uncond (CFG), 6.5 by M.
Expected: the published scores in PRESETS, the best of three evaluations each; not reproduced here.
"""

import difflib
from typing import NamedTuple

from ml_collections import ConfigDict

MI = 2**20
EVERYWHERE = (0.0, float('inf'))
# Thousands of millions of multiply-adds per evaluation (arXiv 2312.02696, Table 6).
GMAC = {'img512': {'xs': 45.5, 's': 102.2, 'm': 180.8, 'xxl': 552.1}}
GMAC['img64'] = {'xs': 45.5, 's': 101.9}


class Preset(NamedTuple):
    """One entry of Table 1; networks are (public name, images seen in Mi).

    role: of the guide, 'guide' (autoguidance) or 'uncond' (CFG); metric, score: as published.
    """

    title: str
    main: tuple[str, int]
    role: str | None
    guide: tuple[str, int] | None
    metric: str
    score: float
    weight: float
    main_std: float
    guide_std: float | None
    interval: tuple[float, float] = EVERYWHERE


S, XXL = ('edm2-img512-s', 2048), ('edm2-img512-xxl', 896)
XS, XS_16, S_16 = ('edm2-img512-xs', 2048), ('edm2-img512-xs', 128), ('edm2-img512-s', 128)
UNCOND, UNCOND_XS = ('edm2-img512-s-uncond', 2048), ('edm2-img512-xs-uncond', 2048)
S64, UNCOND_XS64 = ('edm2-img64-s', 1024), ('edm2-img64-xs-uncond', 2048)
M_256, UNCOND_XS_16 = ('edm2-img512-m', 256), ('edm2-img512-xs-uncond', 128)
CFG, AUTO = 'uncond', 'guide'
# name: title, main, role, guide, then (score, w, EMA of main, EMA of the guide[, interval]) that is
# best for FID, for FD_DINOv2
ROWS = {
    'img512-s': ('EDM2-S', S, None, None,
        (2.56, 1.0, 0.130, None), (68.64, 1.0, 0.190, None)),
    'img512-s-guid': ('EDM2-S, CFG', S, CFG, UNCOND_XS,
        (2.23, 1.40, 0.025, 0.025), (52.32, 1.90, 0.085, 0.085)),
    'img512-s-interval': ('EDM2-S, CFG in an interval', S, CFG, UNCOND_XS,
        (1.68, 2.10, 0.025, 0.025, (0.28, 2.90)), (46.25, 3.20, 0.085, 0.085, (0.60, 5.00))),
    'img512-s-autog': ('EDM2-S, autoguidance', S, AUTO, XS_16,
        (1.34, 2.10, 0.070, 0.125), (36.67, 2.45, 0.120, 0.165)),
    'img512-s-autog-same-ema': ('… same EMA for both', S, AUTO, XS_16,
        (1.53, 1.95, 0.050, 0.050), (40.81, 2.25, 0.115, 0.115)),
    'img512-s-autog-training-only': ('… reduced training only', S, AUTO, S_16,
        (1.51, 2.20, 0.090, 0.130), (42.27, 2.55, 0.130, 0.170)),
    'img512-s-autog-capacity-only': ('… reduced capacity only', S, AUTO, XS,
        (2.13, 1.80, 0.120, 0.160), (59.89, 1.90, 0.140, 0.085)),
    'img512-xxl': ('EDM2-XXL', XXL, None, None,
        (1.91, 1.0, 0.070, None), (42.84, 1.0, 0.150, None)),
    'img512-xxl-guid': ('EDM2-XXL, CFG', XXL, CFG, UNCOND_XS,
        (1.81, 1.20, 0.015, 0.015), (33.09, 1.70, 0.015, 0.015)),
    'img512-xxl-interval': ('EDM2-XXL, CFG in an interval', XXL, CFG, UNCOND_XS,
        (1.40, 2.00, 0.015, 0.015, (0.19, 1.61)), (29.16, 2.90, 0.015, 0.015, (0.60, 5.00))),
    'img512-xxl-autog': ('EDM2-XXL, autoguidance', XXL, AUTO, M_256,
        (1.25, 2.05, 0.075, 0.155), (24.18, 2.30, 0.130, 0.205)),
    'img512-s-uncond': ('EDM2-S unconditional', UNCOND, None, None,
        (11.67, 1.0, 0.145, None), (209.53, 1.0, 0.170, None)),
    'img512-s-uncond-autog': ('EDM2-S unconditional, autoguidance', UNCOND, AUTO, UNCOND_XS_16,
        (3.86, 2.85, 0.070, 0.110), (90.39, 2.90, 0.090, 0.125)),
    'img64-s': ('EDM2-S', S64, None, None,
        (1.58, 1.0, 0.075, None), (58.52, 1.0, 0.160, None)),
    'img64-s-guid': ('EDM2-S, CFG', S64, CFG, UNCOND_XS64,
        (1.48, 1.15, 0.030, 0.030), (41.84, 1.85, 0.040, 0.040)),
    'img64-s-autog': ('EDM2-S, autoguidance', S64, AUTO, ('edm2-img64-xs', 128),
        (1.01, 1.70, 0.045, 0.110), (31.85, 2.20, 0.105, 0.175)),
}  # fmt: skip
METRICS = {'fid': 'FID', 'dino': 'FD_DINOv2'}
PRESETS = {
    f'{name}-{short}': Preset(*row[:4], metric, *numbers)
    for name, row in ROWS.items()
    for (short, metric), numbers in zip(METRICS.items(), row[4:])
}


def gmac(network):
    """Multiply-adds of one evaluation, 10⁹, of a public name."""
    _, images, size, *_ = network.split('-')
    return GMAC[images][size]


def network(public, std):
    name, seen = public
    return {'run': name, 'nimg': seen * MI, 'std': std}


def pair(preset):
    found = {
        'models': '',
        'main': network(preset.main, preset.main_std),
        'guidance': {'weight': preset.weight, 'interval': preset.interval},
        'sampler': {
            'name': 'heun',
            'num_steps': 32,
            'sigma_min': 0.002,
            'sigma_max': 80.0,
            'rho': 7.0,
        },
    }
    return found | ({preset.role: network(preset.guide, preset.guide_std)} if preset.role else {})


def sample():
    return {'seeds': '0-49999', 'classes': 'random', 'batch_size': 64}


def grid_of(preset):
    """Weights around the published one, compared in the features that are at hand: no FID."""
    weights = [round(preset.weight + step, 2) for step in (-0.1, -0.05, 0.0, 0.05, 0.1)]
    return {
        'sweep': {'weight': tuple(weights) if preset.role else ()},
        'score': {'images': 50_000, 'batch_size': 64, 'metrics': ('frechet',)},
        'data': {'name': 'folder'},
        'features': {'name': 'efficientnet_lite0'},
    }


def get_config(arg=None):
    name, _, verb = (arg or '').partition(':')
    if name not in PRESETS or verb not in ('', 'sweep'):
        near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.5)
        guess = f' Did you mean {near[0]!r}?' if near else ''
        wrong = f'no preset {arg!r}.{guess}' if arg else 'name a preset, as in published.py:NAME.'
        raise ValueError(f'{wrong} With :sweep after it, for that verb; known are {known()}')
    preset = PRESETS[name]
    return ConfigDict(pair(preset) | (grid_of(preset) if verb else {'sample': sample()}))


def known():
    return ', '.join(PRESETS)
