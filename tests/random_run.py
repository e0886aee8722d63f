"""A run directory with a network of published shape and random weights: what the real ones cost.

    PYTHONPATH=. python tests/random_run.py runs/random/main xs img64 0
    PYTHONPATH=. python tests/random_run.py runs/random/guide xs img64 1
    /usr/bin/time -v python -m autoguide_jax sample --config=configs/pair.py \
        --config.main.run=runs/random/main --config.guide.run=runs/random/guide \
        --config.guidance.weight=1.7 --config.sample.seeds=0-1 --config.sample.batch_size=1 \
        --workdir=runs/random/images

Arguments: folder, width by its published name, img64 or img512, seed. Samples show noise.
"""

import sys

import edm2_parity
import edm2_reference as reference
import jax

from autoguide_jax import files, snapshots
from autoguide_jax.importers.edm2 import from_state_dict

NIMG, STD = 2**20, 0.10


def write(folder, denoiser, variables):
    """Store a network as the only snapshot of a run, in float16 as the published ones are."""
    names = ('resolution', 'channels', 'label_dim', 'model_channels', 'channel_mult')
    names += ('num_blocks', 'attn_resolutions', 'channels_per_head')
    network = {name: getattr(denoiser.backbone, name) for name in names}
    tree = {
        'network': {'name': 'edm2_unet', **network},
        'denoiser': {'name': 'edm', 'sigma_data': denoiser.sigma_data},
        'latents': {'name': 'pixels'},
    }
    files.write_json(files.path(folder) / 'config.json', files.plain(tree))
    averages = jax.tree.map(lambda leaf: leaf[None], variables['params'])
    snapshots.save(folder, NIMG, [STD], averages, variables['buffers'], 'float16')


def main(folder, width, data, seed):
    """Write the run and say where."""
    shape = 64, edm2_parity.CHANNELS[data], 1000, reference.WIDTHS[width]
    write(folder, *from_state_dict(reference.random_state(*shape, seed=int(seed))))
    print(f'wrote {folder}: {[s.file for s in snapshots.list_snapshots(folder)]}')


if __name__ == '__main__':
    main(*sys.argv[1:])
