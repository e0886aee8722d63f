"""Weights of InceptionV3 from a NumPy seed, in files; the same network of two torch packages."""

import sys

import numpy as np
import published_files as pf

from autoguide_jax.frozen import inception_graph, inception_v3

SIZES = [(32, 32), (64, 64), (299, 299), (512, 384)]
# Other channels than the first of a feature map are far from the spatial ones.
SHOWN = {'features': slice(None, None, 64), 'logits': slice(None, None, 32),
         'logits_bias': slice(None, None, 32), 'spatial': slice(None, None, 61)}  # fmt: skip


def state(seed=0):
    """State dict under PyTorch's names; scales such that no layer dies or explodes."""
    rng, found = np.random.default_rng(seed), {}
    for layer, inputs in inception_graph.layers():
        count, height, width = layer.conv[:3]
        shape = (count, inputs, height, width)
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        found[f'{layer.torch}.conv.weight'] = scale * rng.standard_normal(shape, np.float32)
        for part in ('weight', 'running_var'):
            found[f'{layer.torch}.bn.{part}'] = 0.5 + rng.random(count, np.float32)
        for part in ('bias', 'running_mean'):
            found[f'{layer.torch}.bn.{part}'] = rng.standard_normal(count, np.float32) / 10
        found[f'{layer.torch}.bn.num_batches_tracked'] = np.zeros((), np.int64)
    shape = inception_v3.CLASSES, inception_v3.FEATURES
    found['fc.weight'] = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[1]))
    found['fc.bias'] = rng.standard_normal(shape[0], np.float32)
    return found


def detector_names(arrays):
    """The same under the names of NVIDIA's detector: γ, which it does not have, is left out."""
    found = {}
    for layer, _ in inception_graph.layers():
        name = f'layers.{layer.name.replace("/", ".")}'
        if layer.name.startswith(('mixed_9/', 'mixed_10/')):
            block, _, inner = layer.name.partition('/')
            name = f'layers.{block}.{inner.replace("/", "_")}'
        for part, torch in zip(inception_v3.TF_PARTS, inception_v3.TORCH_PARTS):
            found[f'{name}.{part}'] = arrays[f'{layer.torch}.{torch}']
    return found | {f'output.{part}': arrays[f'fc.{part}'] for part in ('weight', 'bias')}


def images(size, n=2, seed=1):
    """Images uint8 [n, h, w, 3]: gratings and noise of several strengths."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]][..., None, None]
    at = y * rng.normal(size=(n, 3)) / 4 + x * rng.normal(size=(n, 3)) / 4
    values = np.sin(at) * rng.uniform(20, 110, (n, 3)) + rng.uniform(60, 200, (n, 3))
    values += rng.normal(size=values.shape) * rng.uniform(0, 40, (n, 1))
    return np.clip(np.moveaxis(values, 2, 0), 0, 255).astype(np.uint8)


def outputs(weights, pixels):
    """What the torch packages are asked for, from this one; everything in it is float32."""
    found = inception_v3.apply(weights, pixels)
    biased = inception_v3.apply(weights, pixels, bias=True)
    return {**found._asdict(), 'logits_bias': biased.logits}


def known_to_torch():
    """Let torchvision be imported whose compiled part does not fit torch: it is not used here."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith('torchvision')]:
            del sys.modules[name]
        library = torch.library.Library('torchvision', 'DEF')
        for name in ('nms', 'qnms'):
            library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        import torchvision  # noqa: F401

        known_to_torch.library = library  # it ends with the last reference


def fidelity_outputs(arrays, pixels, folder):
    """{'features', 'logits', 'logits_bias', 'spatial'} from torch-fidelity, its resize included."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    file = folder / 'weights.pth'
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, file)
    wanted = ['2048', 'logits_unbiased', 'logits']
    model = FeatureExtractorInceptionV3('inception', wanted, str(file))
    seen = hooked(model)
    with torch.no_grad():
        found = model(torch.from_numpy(np.moveaxis(pixels, -1, 1).copy()))
    named = dict(zip(('features', 'logits', 'logits_bias'), (t.numpy() for t in found)))
    return named | {'spatial': spatial(seen[0])}


def fid_outputs(arrays, pixels):
    """{'features', 'logits_bias', 'spatial'} from pytorch-fid's network; the resize is ours."""
    import torch
    from pytorch_fid import inception

    given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    inception.load_state_dict_from_url = lambda *a, **k: given
    model = inception.fid_inception_v3().eval()
    seen, pooled = hooked(model), []
    model.avgpool.register_forward_hook(lambda module, args, out: pooled.append(out.numpy()))
    x = np.asarray(inception_v3.resize(pixels.astype(np.float32)))
    with torch.no_grad():
        logits = model(torch.from_numpy(np.moveaxis((x - 128) / 128, -1, 1).copy()))
    named = {'features': pooled[0][:, :, 0, 0], 'logits_bias': logits.numpy()}
    return named | {'spatial': spatial(seen[0])}


def hooked(model):
    """A list that gets what Mixed_6d.branch1x1 puts out."""
    seen = []
    model.Mixed_6d.branch1x1.register_forward_hook(lambda module, args, out: seen.append(out))
    return seen


def spatial(tensor):
    """Equation 6 of a feature map [n, c, h, w]."""
    found = np.moveaxis(tensor.numpy(), 1, -1)[..., :7]
    return found.reshape(len(found), -1)


def detector_file(arrays, protocol=4, **pools):
    """The bytes of a pickled detector with arrays under its names; its pools have none."""
    tree = {}
    for name, array in arrays.items():
        *path, leaf = name.split('.')
        inner = tree
        for part in path:
            inner = inner.setdefault(part, {})
        inner[leaf] = array
    for name, kind in (pools or {'pool0': 'MaxPool2d', 'pool2': 'AvgPool2d'}).items():
        torch = pf.Global('torch.nn.modules.pooling', kind)
        tree['layers'][name] = pf.New(torch, pf.attributes(kernel_size=3, stride=2))
    return pf.dump(_module('InceptionV3', tree), protocol)


def _module(name, members):
    parts = {False: {}, True: {}}
    for key, value in members.items():
        parts[isinstance(value, np.ndarray)][key] = value
    weight = {k: pf.parameter(v) for k, v in parts[True].items() if k == 'weight'}
    buffers = {k: pf.tensor(v) for k, v in parts[True].items() if k != 'weight'}
    inner = {k: _module(k, v) if isinstance(v, dict) else v for k, v in parts[False].items()}
    made = pf.attributes(weight, buffers, inner)
    if name == 'layers' or name in ('tower', 'tower_1', 'tower_2'):
        return pf.New(pf.Global('torch.nn.modules.container', 'Sequential'), made)
    if name == 'output':
        return pf.New(pf.Global('torch.nn.modules.linear', 'Linear'), made)
    return pf.persistent('Conv2dLayer' if weight else name, made)


def write_golden(path, sizes=((32, 32), (512, 384))):
    """Store what torch-fidelity says of two images of each size, thinned out."""
    import pathlib
    import tempfile

    known_to_torch()
    kept, arrays = {}, state()
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            found = fidelity_outputs(arrays, images(size), pathlib.Path(folder))
            for name, values in found.items():
                kept[f'{size[0]}x{size[1]}/{name}'] = values[:, SHOWN[name]]
    np.savez_compressed(path, **kept)


if __name__ == '__main__':
    write_golden(sys.argv[1])
