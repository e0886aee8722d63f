"""A tiny run on 1, 2, 4 and 8 devices, replicated and split; run by test_pods.py in a process.

usage: eight_devices.py WORKDIR → one JSON line: losses, held and away by 'devices/shards', …
"""

import json
import sys

import jax
import numpy as np

from autoguide_jax import config, mesh
from autoguide_jax.checkpoints import Checkpoints
from autoguide_jax.train_step import Settings, resolve
from autoguide_jax.trainer import Trainer

TOPOLOGIES = [(1, 1), (2, 1), (4, 2), (8, 8)]
TREE = {
    'network': {
        'name': 'edm2_unet', 'model_channels': 16, 'channel_mult': [1], 'num_blocks': 1,
        'attn_resolutions': [8], 'channels_per_head': 8,
    },
    'optim': {'lr': 0.01, 'rampup_nimg': 0},
    'train': {
        'total_nimg': 64, 'batch_size': 16, 'snapshot_nimg': 64, 'checkpoint_nimg': 64,
        'log_nimg': 64,
    },
}  # fmt: skip


def trainer_on(settings, dataset, devices, shards):
    devices = mesh.over(jax.devices()[:devices], shards)
    return Trainer(settings, resolve(settings, dataset), devices)


def train(trainer, state, dataset, steps):
    """(state, losses) after these steps, each on images of its own."""
    losses = []
    for step in steps:
        chosen = np.arange(16 * step, 16 * step + 16)
        batch = trainer.put(dataset.images(chosen), dataset.labels[chosen])
        state, metrics = trainer.jitted(state, *batch, trainer.seeds)
        losses.append(float(metrics['loss']))
    return state, losses


def held(state):
    """Share of the state's bytes that the first device holds."""
    leaves = jax.tree.leaves(state)
    own = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
    return own / sum(leaf.nbytes for leaf in leaves)


def main(workdir):
    settings = config.parse(Settings, TREE)
    dataset = config.build(settings.data)
    mesh.SMALLEST_SPLIT = 64
    losses, shares, ends, trainers = {}, {}, {}, {}
    for devices, shards in TOPOLOGIES:
        trainer = trainer_on(settings, dataset, devices, shards)
        name = f'{devices}/{shards}'
        trainers[name] = trainer
        state, losses[name] = train(trainer, trainer.init(), dataset, range(3))
        shares[name], ends[name] = held(state), jax.device_get(state)
    moved = []
    # The last one, on eight devices, goes on on one, then on four.
    for name in ('1/1', '4/2'):
        with Checkpoints(f'{workdir}/{name[0]}') as checkpoints:
            checkpoints.save(3, state, {'nimg': 48}, wait=True)
            restored, _ = checkpoints.restore(trainers[name].target())
        same = jax.tree.map(np.array_equal, jax.device_get(restored), jax.device_get(state))
        moved.append(all(jax.tree.leaves(same)) and abs(held(restored) - shares[name]) < 1e-6)
        state = restored
    goes_on = [train(trainers[n], ends[n], dataset, [3])[1][0] for n in ('1/1', '4/2')]
    goes_on.append(train(trainers['4/2'], state, dataset, [3])[1][0])
    far = lambda a, b: float(np.max(np.abs(np.subtract(a, b, dtype=np.float64)), initial=0))
    away = {
        name: max(jax.tree.leaves(jax.tree.map(far, end['params'], ends['1/1']['params'])))
        for name, end in ends.items()
    }
    found = {'losses': losses, 'held': shares, 'away': away, 'restored': moved, 'next': goes_on}
    print(json.dumps(found))


if __name__ == '__main__':
    main(sys.argv[1])
