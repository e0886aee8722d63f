"""EDM2 state dicts (names of arXiv 2312.02696's release, OIHW) → Denoiser and variables (HWIO)."""

import re

import jax
import numpy as np

from autoguide_jax.backbones.edm2_unet import EDM2UNet
from autoguide_jax.denoiser import Denoiser

BUFFERS = ('freqs', 'phases')


def from_state_dict(state, channels_per_head=64, sigma_data=0.5):
    """Build (Denoiser, variables) from a mapping name → array; the rest is inferred from it.

    Errors: ValueError for names or shapes that do not form an EDM2 network.
    """
    state = {name: np.asarray(value) for name, value in state.items()}
    denoiser = Denoiser(infer_backbone(state, channels_per_head), sigma_data)
    variables = {'params': {}, 'buffers': {}}
    for name, value in state.items():
        kind = 'buffers' if name.rsplit('.', 1)[-1] in BUFFERS else 'params'
        *folders, leaf = [kind, *path_of(name)]
        node = variables
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = to_hwio(value)
    check(denoiser, variables)
    return denoiser, variables


def path_of(name):
    """'unet.enc.8x8_block0.attn_qkv.weight' → ['backbone', 'enc_8x8_block0', 'attn', …]."""
    name = re.sub(r'^unet\.', 'backbone.', name)
    name = re.sub(r'\.(enc|dec)\.', r'.\1_', name)
    return re.sub(r'\.(attn_\w+)\.', r'.attn.\1.', name).split('.')


def name_of(path):
    """The inverse of `path_of`."""
    name = '.'.join(path).replace('.attn.', '.')
    return re.sub(r'\.(enc|dec)_', r'.\1.', re.sub(r'^backbone\.', 'unet.', name))


def to_hwio(value):
    """[o, i, kh, kw] → [kh, kw, i, o]; [o, i] → [i, o]; float32."""
    order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim)
    value = value.astype(np.float32)
    return np.ascontiguousarray(value.transpose(order)) if order else value


def infer_backbone(state, channels_per_head):
    """The architecture, read from names and shapes."""
    sizes = {}
    for name, value in state.items():
        found = re.match(r'unet\.enc\.(\d+)x\1_block(\d+)\.conv_res1\.weight', name)
        if found:
            blocks = sizes.setdefault(int(found[1]), {})
            blocks[int(found[2])] = value.shape[0]
    if not sizes:
        raise ValueError('no unet.enc.{R}x{R}_block{i}.conv_res1.weight in this state dict')
    order = sorted(sizes, reverse=True)
    name = f'unet.enc.{order[0]}x{order[0]}_conv.weight'
    if name not in state:
        raise ValueError(f'no {name} in this state dict')
    first = state[name]
    width = np.gcd.reduce([first.shape[0], *(sizes[r][0] for r in order)])
    label = state.get('unet.emb_label.weight')
    found = map(re.compile(r'unet\.enc\.(\d+)x\d+_block0\.attn_qkv\.weight').match, state)
    at = [int(match[1]) for match in found if match]
    return EDM2UNet(
        resolution=order[0],
        channels=first.shape[1] - 1,
        label_dim=0 if label is None else label.shape[1],
        model_channels=int(width),
        channel_mult=tuple(int(sizes[r][0] // width) for r in order),
        num_blocks=len(sizes[order[0]]),
        attn_resolutions=tuple(sorted(at, reverse=True)),
        channels_per_head=channels_per_head,
    )


def check(denoiser, variables):
    """Compare with the shapes that the denoiser itself would create."""
    net = denoiser.backbone
    x = jax.ShapeDtypeStruct((1, net.resolution, net.resolution, net.channels), np.float32)
    want = jax.eval_shape(denoiser.init, jax.random.key(0), x, np.ones(1, np.float32))
    want = {jax.tree_util.keystr(k): v.shape for k, v in jax.tree_util.tree_leaves_with_path(want)}
    have = jax.tree_util.tree_leaves_with_path(variables)
    have = {jax.tree_util.keystr(k): v.shape for k, v in have}
    wrong = sorted(k for k in want.keys() | have.keys() if want.get(k) != have.get(k))
    if wrong:
        k = wrong[0]
        raise ValueError(
            f'not an EDM2 network: {len(wrong)} entries differ, first {k}: '
            f'{have.get(k, "missing")}, expected {want.get(k, "nothing")}'
        )
