"""DINOv2 with random weights from seeds, and what torch and transformers make of it.

    python tests/dinov2_weights.py

writes golden/dinov2.npz; needs torch and transformers.
"""

import importlib
import pathlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parent / 'golden/dinov2.npz'
NETWORKS = {'plain': (128, 2, 0), 'registers': (128, 2, 4)}  # width, depth, registers
SIZES = [(64, 64, 3), (224, 224, 3), (300, 260, 3), (512, 512, 3)]
SIDE, KEPT = 37, 31  # of the positions; every so many pixels are kept
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def shapes(width, depth, registers=0):
    """The published arrays by their original names."""
    found = {
        'cls_token': (1, 1, width),
        'pos_embed': (1, 1 + SIDE**2, width),
        'mask_token': (1, width),
        'patch_embed.proj.weight': (width, 3, 14, 14),
        'patch_embed.proj.bias': (width,),
        'norm.weight': (width,),
        'norm.bias': (width,),
    }
    if registers:
        found['register_tokens'] = (1, registers, width)
    layers = {'attn.qkv': (3, 1), 'attn.proj': (1, 1), 'mlp.fc1': (4, 1), 'mlp.fc2': (1, 4)}
    for i in range(depth):
        for name, (outs, ins) in layers.items():
            found[f'blocks.{i}.{name}.weight'] = (outs * width, ins * width)
            found[f'blocks.{i}.{name}.bias'] = (outs * width,)
        for name in ('norm1.weight', 'norm1.bias', 'norm2.weight', 'norm2.bias'):
            found[f'blocks.{i}.{name}'] = (width,)
        found |= {f'blocks.{i}.ls{j}.gamma': (width,) for j in (1, 2)}
    return found


def state(width, depth, registers=0, seed=0):
    """Random float32 arrays that keep the signal at the scale of the published network."""
    rng, found = np.random.default_rng(seed), {}
    for name, shape in shapes(width, depth, registers).items():
        if 'norm' in name and name.endswith('weight') or name.endswith('gamma'):
            value = rng.uniform(0.5, 1.5, shape)
        elif name.endswith('bias'):
            value = 0.1 * rng.standard_normal(shape, np.float32)
        else:
            fan_in = np.prod(shape[1:]) if name.endswith('weight') else 1
            value = rng.standard_normal(shape, np.float32) / np.sqrt(fan_in)
        if not name.startswith(('blocks', 'norm')):
            value *= 0.02  # as published; so small that the norms' epsilon shows
        found[name] = np.float32(value)
    return found


def transformers_names(arrays):
    """The arrays under transformers' names."""
    found = {}
    for name, array in arrays.items():
        if name in ('cls_token', 'mask_token', 'register_tokens'):
            found[f'embeddings.{name}'] = array
        elif name == 'pos_embed':
            found['embeddings.position_embeddings'] = array
        elif '.attn.qkv.' in name:
            for part, value in zip(('query', 'key', 'value'), np.split(array, 3)):
                new = name.replace('blocks', 'encoder.layer')
                found[new.replace('.attn.qkv.', f'.attention.attention.{part}.')] = value
        else:
            for old, new in {
                'blocks.': 'encoder.layer.',
                '.attn.proj.': '.attention.output.dense.',
                '.ls1.gamma': '.layer_scale1.lambda1',
                '.ls2.gamma': '.layer_scale2.lambda1',
                'patch_embed.proj.': 'embeddings.patch_embeddings.projection.',
            }.items():
                name = name.replace(old, new)
            found[name.replace('norm.', 'layernorm.') if name.startswith('norm.') else name] = array
    return found


def images(shape, count=1, seed=1):
    """Random uint8 images with large and small structure."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 8, 8, shape[2]))
    rows, columns = (np.arange(side) * 8 // side for side in shape[:2])
    noise = rng.integers(-40, 41, (count, *shape))
    return np.clip(coarse[:, rows][:, :, columns] + noise, 0, 255).astype(np.uint8)


def pixels_by_torch(torch, some, dtype='float64'):
    """What the network is given, [n, 3, 224, 224]."""
    x = torch.from_numpy(some).permute(0, 3, 1, 2).to(getattr(torch, dtype))
    x = torch.nn.functional.interpolate(x, (224, 224), mode='bicubic', antialias=True)
    mean, std = (torch.from_numpy(v).to(x.dtype)[:, None, None] for v in (MEAN, STD))
    return (x / 255 - mean) / std


def features_by_transformers(arrays, some, dtype='float64'):
    """The class token of transformers' model with these weights."""
    torch = importlib.import_module('torch')
    transformers = importlib.import_module('transformers')
    registers = arrays['register_tokens'].shape[1] if 'register_tokens' in arrays else 0
    kind = 'Dinov2WithRegisters' if registers else 'Dinov2'
    width = arrays['cls_token'].shape[-1]
    config = getattr(transformers, f'{kind}Config')(
        hidden_size=width,
        num_hidden_layers=sum(name.endswith('ls1.gamma') for name in arrays),
        num_attention_heads=width // 64,
        image_size=14 * SIDE,
        patch_size=14,
        **({'num_register_tokens': registers} if registers else {}),
    )
    # Not by load_state_dict: names in files are not those in memory.
    tensors = {name: torch.from_numpy(a) for name, a in transformers_names(arrays).items()}
    model = getattr(transformers, f'{kind}Model').from_pretrained(
        None, config=config, state_dict=tensors
    )
    model = model.eval().to(getattr(torch, dtype))
    with torch.no_grad():
        x = pixels_by_torch(torch, some).to(getattr(torch, dtype))
        return model(x).last_hidden_state[:, 0].numpy()


def positions_by_torch(torch, square, registers):
    """The hub's positions of 16×16 patches from [37, 37, d]."""
    x = torch.from_numpy(square).permute(2, 0, 1)[None]
    scale = (16 + 0.1) / SIDE
    how = {'size': (16, 16), 'antialias': True} if registers else {'scale_factor': (scale, scale)}
    return torch.nn.functional.interpolate(x, mode='bicubic', **how)[0].permute(1, 2, 0).numpy()


def positions(width=4):
    return np.random.default_rng(3).standard_normal((SIDE, SIDE, width))


def references():
    """The arrays of the golden file."""
    torch = importlib.import_module('torch')
    found = {}
    for name, (width, depth, registers) in NETWORKS.items():
        arrays = state(width, depth, registers)
        for shape in SIZES[:3]:
            key = f'{name}_{shape[0]}'
            found[key] = features_by_transformers(arrays, images(shape))[0].astype(np.float64)
        found[f'{name}_positions'] = positions_by_torch(torch, positions(), bool(registers))
    for shape in SIZES:
        x = pixels_by_torch(torch, images(shape)).permute(0, 2, 3, 1)[0, ::KEPT, ::KEPT]
        found[f'pixels_{shape[0]}'] = x.numpy()
    return found


if __name__ == '__main__':
    np.savez_compressed(GOLDEN, **references())
