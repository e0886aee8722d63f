"""ImageNet-512 in latents of 64×64×4, by the recipe of EDM2 (arXiv 2312.02696, Table 6).

    python -m autoguide_jax plan --config=configs/imagenet512.py:xxl --topology=v5e:16x16
    python -m autoguide_jax plan --config=configs/imagenet512.py:s --topology=v4:2x2x4 --price=1.0
    python -m autoguide_jax train --config=configs/imagenet512.py:xxl-main \
        --config.data.path=data/in512-latents --workdir=runs/in512/xxl

xxs … xxl, xs-uncond, s-uncond: a main network and its guide, if it has one, for `plan`. s-main,
s-guide and so on: one training run. Those of the paper (arXiv 2406.02507, Table 1) are S by XS, of
either kind, after 1/16 of the training, and XXL by M after 1/3.5; XS by XXS and the sizes between
are our choice, with guides of 1/16 (XS, M) and 1/8 (L, XL). The recipe does not know its length: a
guide is the beginning of the full run, and a snapshot of that run is as good. xxs-main and
xs-uncond-main are runs that guides come from; xs-uncond-main is also the guide of CFG.
Names among the published networks: edm2-img512-s, edm2-img512-s-uncond, ….

Data: latents that the verb `encode` made of 1,281,167 images of 512×512, or a folder or zip of the
layout of EDM2, mean and std of the posterior in 8 channels. The plan needs shapes only; its step
has the draw from the posterior, its sampler ends with latents.

Cost: 2048 images per batch. At least, by 6 FLOPs per multiply-add at the published peak of v5e (a
bound from the roofline, of products alone, not a measurement; `plan` has the details):

    run          Mi images   chip-hours   | guide of   is         Mi images   chip-hours
    xxs-main           512           52   | xs         xxs              128           13
    xs-main           2048          817   | s, m       xs               128           51
    s-main            2048         1832   | l          s                224          200
    m-main            2048         3251   | xl         s                160          143
    l-main            1792         4441   | xxl        m                256          406
    xl-main           1280         4565   | s-uncond   xs-uncond        128           51
    xxl-main           896         4347   |
    xs-uncond-main    2048          817   |
    s-uncond-main     2048         1832   |

Expected, published and not reproduced here, FID without guidance: XS 3.53, S 2.56, M 2.25, L 2.06,
XL 1.96, XXL 1.91, S unconditional 11.67; with autoguidance S 1.34 (w = 2.10), XXL 1.25 (w = 2.05),
S unconditional 3.86 (w = 2.85). From the paper: channels, lengths, dropout, learning rates and
batch; of the unconditional networks, that S was trained for 2048 Mi. Our reading: that XS without
labels was as well, and that both have the settings of their size.
"""

from ml_collections import ConfigDict

BATCH = 2048
MI = 2**20
# channels, length of the run in Mi images (main), dropout, peak learning rate
SIZES = {
    'xxs': (64, 512, 0.0, 0.0170),
    'xs': (128, 2048, 0.0, 0.0120),
    's': (192, 2048, 0.0, 0.0100),
    'm': (256, 2048, 0.10, 0.0090),
    'l': (320, 1792, 0.10, 0.0080),
    'xl': (384, 1280, 0.10, 0.0070),
    'xxl': (448, 896, 0.10, 0.0065),
}
# size of the guide, length of its run in Mi images
GUIDES = {
    'xxs': None,
    'xs': ('xxs', 128),
    's': ('xs', 128),
    'm': ('xs', 128),
    'l': ('s', 224),
    'xl': ('s', 160),
    'xxl': ('m', 256),
    'xs-uncond': None,
    's-uncond': ('xs-uncond', 128),
}
# From here on parameters, Adam and EMAs are too much for one chip of 16 GB beside the activations.
SPLIT = {'m', 'l', 'xl', 'xxl'}


def run(name, length=None):
    size, _, uncond = name.partition('-')
    channels, full, dropout, lr = SIZES[size]
    return {
        'data': {'name': 'latents', 'labels': not uncond},
        'latents': {'name': 'sd_vae'},
        'network': {
            'name': 'edm2_unet',
            'resolution': 64,
            'channels': 4,
            'label_dim': 0 if uncond else 1000,
            'model_channels': channels,
            'dropout': dropout,
            'dtype': 'bfloat16',
        },
        'loss': {'name': 'edm2', 'p_mean': -0.4, 'p_std': 1.0},
        'optim': {'lr': lr, 'ref_batches': 70000.0, 'rampup_nimg': 10_000_000},
        'ema': {'stds': (0.05, 0.10)},
        'mesh': {'params': 'fsdp', 'shards': 16} if size in SPLIT else {},
        'train': {
            'total_nimg': (length or full) * MI,
            'batch_size': BATCH,
            'snapshot_nimg': 8 * MI,
            'checkpoint_nimg': 8 * MI,
            'log_nimg': MI // 4,
            'nonfinite': 'zero',
        },
    }


def pair(name):
    guide = GUIDES[name]
    return {'main': run(name), **({'guide': run(*guide)} if guide else {})}


RUNS = {f'{name}-{role}': one for name in GUIDES for role, one in pair(name).items()}


def get_config(arg='s'):
    if arg in GUIDES:
        return ConfigDict(pair(arg))
    if arg not in RUNS:
        raise ValueError(f'configs/imagenet512.py:{arg}: known are {", ".join([*GUIDES, *RUNS])}')
    return ConfigDict(RUNS[arg])
