"""A tiny run on 1, 2, 4 and 8 devices, replicated and split; run by test_pods.py in a process.

usage: eight_devices.py WORKDIR → one JSON line: losses, held and away by 'devices/shards', …
"""

import dataclasses
import hashlib
import json
import sys
import types

import jax
import numpy as np

from autoguide_jax import config, mesh
from autoguide_jax.checkpoints import Checkpoints
from autoguide_jax.generation import Call, Programs
from autoguide_jax.guidance import Guidance
from autoguide_jax.run_settings import Settings, resolve
from autoguide_jax.samplers import Heun
from autoguide_jax.seeds import CHURN, NOISE, sample_labels, stream, unit_noise
from autoguide_jax.train_step import sample_keys
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


def trainer_on(settings, dataset, devices, shards, microbatch_size=0):
    train = dataclasses.replace(settings.train, microbatch_size=microbatch_size)
    settings = dataclasses.replace(settings, train=train)
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


def bits(tree):
    """A hash of every bit of a tree of arrays."""
    leaves = [
        np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(jax.device_get(tree))
    ]
    return hashlib.sha256(b''.join(leaves)).hexdigest()


def randomness(devices):
    """Bits of noise, labels and keys of training and sampling, drawn on so many devices."""
    part = mesh.over(jax.devices()[:devices])
    split, whole = mesh.by_sample(part), mesh.replicated(part)
    seeds = jax.device_put(np.arange(16, dtype=np.uint32), split)

    def draw(seeds):
        keys = [jax.vmap(lambda s: stream(s, purpose))(seeds) for purpose in (NOISE, CHURN)]  # noqa: B023
        return unit_noise(keys[0], (8, 8, 1)), [jax.random.key_data(k) for k in keys]

    step = jax.jit(lambda step: jax.tree.map(jax.random.key_data, sample_keys(0, step, 16)))
    drawn = jax.jit(draw, in_shardings=split, out_shardings=split)(seeds)
    return bits((drawn, step(jax.device_put(np.int32(7), whole)), sample_labels(range(16), 10)))


def images(trainer, state, devices, batch_size):
    """uint8 [16, 8, 8, 1] of a guided sampler on so many devices, batch_size at a time."""
    tree = resolve(trainer.settings, config.build(trainer.settings.data))
    networks = []
    for k in range(2):
        ema = jax.tree.map(lambda leaf: leaf[k], state['ema'])  # noqa: B023
        variables = {'params': ema, 'buffers': state['buffers']}
        made = {'denoiser': trainer.denoiser, 'variables': variables, 'config': tree}
        networks.append(Call(types.SimpleNamespace(**made)))
    over = mesh.over(jax.devices()[:devices])
    programs = Programs(Heun(4), batch_size, stack='off', devices=over)
    labels = sample_labels(range(16), 10)
    return programs.all_images(networks, (Guidance(1.7),), np.arange(16), labels)


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
    accumulated = trainer_on(settings, dataset, 4, 2, microbatch_size=8)
    losses['4/2 by 8'] = train(accumulated, accumulated.init(), dataset, range(3))[1]
    drawn = {
        f'{n} by {size}': images(trainers['1/1'], ends['1/1'], n, size)
        for n, size in [(1, 2), (2, 4), (8, 16), (4, 16)]
    }
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
    pictures = {
        name: [bits(found), int(np.abs(found.astype(int) - drawn['1 by 2']).max())]
        for name, found in drawn.items()
    }
    found = {
        'randomness': {n: randomness(n) for n in (1, 2, 4, 8)},
        'images': pictures,
        'spread': float(np.std(drawn['1 by 2'])),
    } | {'losses': losses, 'held': shares, 'away': away, 'restored': moved, 'next': goes_on}
    print(json.dumps(found))


if __name__ == '__main__':
    main(sys.argv[1])
