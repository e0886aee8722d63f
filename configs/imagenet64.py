"""ImageNet-64 in pixels of 64×64×3, by the recipe of EDM2 (arXiv 2312.02696, Table 6).

    python -m autoguide_jax train --config=configs/imagenet64.py:s-main \
        --config.data.path=imagenet-64x64.zip --workdir=runs/in64/s
    python -m autoguide_jax train --config=configs/imagenet64.py:s-guide \
        --config.data.path=imagenet-64x64.zip --workdir=runs/in64/xs
    python -m autoguide_jax plan --config=configs/imagenet64.py:s --topology=v5e:16x16

s, m, l, xl, xs, xs-uncond: a main network and its guide, if it has one, for `plan`. s-main, s-guide
and so on: one training run. S by XS after 1/8 of the training of S is the pair of the paper
(arXiv 2406.02507, Table 1). The recipe does not know its length: the guide is the beginning of
xs-main, and a snapshot of that is as good. xs-uncond-main is the guide of CFG. Names among the
published networks: edm2-img64-s, edm2-img64-xs-uncond, ….

Data: a folder or zip of 1,281,167 RGB images of 64×64, classes from dataset.json or subfolders, or
--config.data.name=tfds --config.data.dataset=imagenet_resized/64x64, which is resized in another
way than the data of the paper: its FIDs are not to be compared with the published ones.

Cost: 2048 images per batch. At least, by 6 FLOPs per multiply-add at the published peak of v5e (a
bound from the roofline, of products alone, not a measurement; `plan` has the details):

    run          Mi images   chip-hours   | guide of   is         Mi images   chip-hours
    xs-main            512          204   | s          xs               128           51
    s-main            1024          916   |
    m-main            2048         3251   |
    l-main            1024         2537   |
    xl-main            640         2282   |
    xs-uncond-main    2048          817   |

Expected, published and not reproduced here, FID without guidance: S 1.58, M 1.43, L 1.33, XL 1.33;
S with autoguidance 1.01 (w = 1.70). From the papers: lengths, channels, learning rates, noise
levels; dropout but that of XS. Our reading: XS has the dropout of S, and XS without labels all
other settings of XS.
"""

from ml_collections import ConfigDict

BATCH = 2048
MI = 2**20
# channels, length of the run in Mi images (main), dropout, peak learning rate
SIZES = {
    'xs': (128, 512, 0.0, 0.0120),
    's': (192, 1024, 0.0, 0.0100),
    'm': (256, 2048, 0.10, 0.0090),
    'l': (320, 1024, 0.10, 0.0080),
    'xl': (384, 640, 0.10, 0.0070),
    'xs-uncond': (128, 2048, 0.0, 0.0120),
}
# size of the guide, length of its run in Mi images
GUIDES = {'s': ('xs', 128)}
# From here on parameters, Adam and EMAs are too much for one chip of 16 GB beside the activations.
SPLIT = {'m', 'l', 'xl'}


def run(name, length=None):
    channels, full, dropout, lr = SIZES[name]
    labels = not name.endswith('-uncond')
    return {
        'data': {'name': 'folder', 'labels': labels},
        'network': {
            'name': 'edm2_unet',
            'resolution': 64,
            'channels': 3,
            'label_dim': 1000 if labels else 0,
            'model_channels': channels,
            'dropout': dropout,
            'dtype': 'bfloat16',
        },
        'loss': {'name': 'edm2', 'p_mean': -0.8, 'p_std': 1.6},
        'optim': {'lr': lr, 'ref_batches': 35000.0, 'rampup_nimg': 10_000_000},
        'ema': {'stds': (0.05, 0.10)},
        'mesh': {'params': 'fsdp', 'shards': 16} if name in SPLIT else {},
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
    guide = GUIDES.get(name)
    return {'main': run(name), **({'guide': run(*guide)} if guide else {})}


RUNS = {f'{name}-{role}': one for name in SIZES for role, one in pair(name).items()}


def get_config(arg='s'):
    if arg in SIZES:
        return ConfigDict(pair(arg))
    if arg not in RUNS:
        raise ValueError(f'configs/imagenet64.py:{arg}: known are {", ".join([*SIZES, *RUNS])}')
    return ConfigDict(RUNS[arg])
