"""How fast, for a named pair of networks.

    python -m autoguide_jax bench --config=configs/bench.py:net_a    16×16×3, 32 and 16 channels
    python -m autoguide_jax bench --config=configs/bench.py:digits   8×8×1, 32 and 16 channels
    python -m autoguide_jax bench --config=configs/bench.py:toy      the 2-D example and its score
    python -m autoguide_jax bench --config=configs/bench.py:img64-s  EDM2-S guided by XS; TPU or GPU
    python -m autoguide_jax bench --config=configs/bench.py:input    reading images, and what a
        training step needs; --config.run.data.name=… as in training, folders, zips, TFDS, gs://
    python -m autoguide_jax bench --config=configs/bench.py:metrics  scoring images: the detector
        alone, and the share of time outside it; --config.features.name=…, --config.data.name=…

Cost: net_a, digits, toy, input and metrics about one minute on 2 cores.
"""

from ml_collections import ConfigDict


def run(channels, batch_size, microbatch_size=0, **network):
    network = {'name': 'edm2_unet', 'model_channels': channels, **network}
    lengths = ('total_nimg', 'batch_size', 'snapshot_nimg', 'checkpoint_nimg', 'log_nimg')
    train = dict.fromkeys(lengths, batch_size) | {'microbatch_size': microbatch_size}
    return {'network': network, 'train': train}


def toy(width):
    return run(None, 4096) | {
        'network': {'name': 'toy_mlp', 'width': width},
        'data': {'name': 'toy'},
        'latents': {'name': 'points'},
        'denoiser': {'name': 'log_density'},
        'loss': {'name': 'score_matching'},
        'ema': {'stds': (0.01,)},
    }


def get_config(arg='net_a'):
    if arg == 'net_a':
        small = {
            'channel_mult': (1, 2),
            'num_blocks': 1,
            'attn_resolutions': (8,),
            'channels_per_head': 32,
        }
        pair = run(32, 64, 32, **small), run(16, 64, 32, **small)
        image, sample = {'resolution': 16, 'channels': 3, 'label_dim': 10}, 64
    elif arg == 'digits':
        small = {'channel_mult': (1, 2), 'num_blocks': 1, 'attn_resolutions': (4,)}
        pair = (
            run(32, 128, channels_per_head=32, **small),
            run(16, 128, channels_per_head=16, **small),
        )
        image, sample = {'resolution': 8, 'channels': 1, 'label_dim': 10}, 250
    elif arg == 'toy':
        pair, image, sample = (toy(64), toy(32)), {'label_dim': 0}, 8192
    elif arg == 'img64-s':
        pair = run(192, 2048, dtype='bfloat16'), run(128, 2048, dtype='bfloat16')
        image, sample = {'resolution': 64, 'channels': 3, 'label_dim': 1000}, 64
    elif arg == 'metrics':
        return ConfigDict({'kind': 'metrics', 'data': {'name': 'digits'}})
    elif arg == 'input':
        # No level with attention is named, so that images may have any even size.
        small = {'channel_mult': (1, 2), 'num_blocks': 1, 'attn_resolutions': ()}
        reader = run(16, 128, channels_per_head=16, **small) | {'data': {'name': 'digits'}}
        return ConfigDict({'kind': 'input', 'run': reader})
    else:
        raise ValueError(
            f'configs/bench.py:{arg}: known are net_a, digits, toy, img64-s, input, metrics'
        )
    return ConfigDict({'main': pair[0], 'guide': pair[1], 'image': image, 'batch_size': sample})
