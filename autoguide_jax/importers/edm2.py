"""EDM2's networks (names of arXiv 2312.02696's release, OIHW) ↔ Denoiser and variables (HWIO)."""

import re

import jax
import numpy as np

from autoguide_jax import registry
from autoguide_jax.backbones.edm2_unet import EDM2UNet
from autoguide_jax.denoiser import Denoiser
from autoguide_jax.importers import module_tree

BUFFERS = ('freqs', 'phases')
# Arguments of the published classes: what the shapes tell as well, and its name here.
SEEN = {
    'img_resolution': 'resolution', 'img_channels': 'channels', 'label_dim': 'label_dim',
    'model_channels': 'model_channels', 'channel_mult': 'channel_mult',
    'num_blocks': 'num_blocks', 'attn_resolutions': 'attn_resolutions',
}  # fmt: skip
# What only the file tells.
TOLD = ('channels_per_head', 'dropout', 'sigma_data')
# What our network has in one form; and what shapes that fit have settled, or precision.
FIXED = {
    'label_balance': 0.5, 'concat_balance': 0.5, 'res_balance': 0.3, 'attn_balance': 0.3,
    'clip_act': 256, 'resample_filter': [1, 1],
}  # fmt: skip
FREE = ('use_fp16', 'logvar_channels', 'channel_mult_noise', 'channel_mult_emb')
MANY = 2**63  # no number that a file tells comes near


def read_pickle(p):
    """Return (state, metadata) of a published pickle, local or in a bucket; executes nothing.

    state: published name → read-only array, in the type of the file (float16). metadata: class and
    init, the class name and keyword arguments of the network; encoder, dataset_kwargs and loss_fn,
    if the file has them, as plain values. Errors: FileNotFoundError; ValueError naming file, byte
    and offender for everything that is not such a file.
    """
    return module_tree.read(p)


def from_state_dict(
    state, channels_per_head=64, sigma_data=0.5, *, dropout=0.0, dtype='float32', weights='float32'
):
    """Build (Denoiser, variables) from a mapping name → array; the rest is inferred from it.

    dropout, dtype: of the backbone. weights: type of the parameters, None = as they are; Fourier
    buffers are float32. Errors: ValueError for names or shapes that do not form an EDM2 network.
    """
    state = {name: np.asarray(value) for name, value in state.items()}
    backbone = infer_backbone(state, channels_per_head, dropout, dtype)
    freqs = state.get('logvar_fourier.freqs', np.zeros(128))
    denoiser = Denoiser(backbone, sigma_data, logvar_channels=freqs.size)
    variables = {'params': {}, 'buffers': {}}
    for name, value in state.items():
        kind = 'buffers' if name.rsplit('.', 1)[-1] in BUFFERS else 'params'
        *folders, leaf = [kind, *path_of(name)]
        node = variables
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise ValueError(f'not an EDM2 network: {name} lies within another weight')
        node[leaf] = to_hwio(value, weights if kind == 'params' else 'float32')
    check(denoiser, variables)
    return denoiser, variables


def to_state_dict(denoiser, variables):
    """The inverse of from_state_dict: published name → numpy array, kernels OIHW, types kept.

    Errors: ValueError for another network than EDM2's.
    """
    if not isinstance(getattr(denoiser, 'backbone', None), EDM2UNet):
        raise ValueError(f'{type(denoiser.backbone).__name__} has no published names')
    state = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        state[name_of([part.key for part in path][1:])] = to_oihw(np.asarray(leaf))
    return state


def settings_of(init):
    """What the keyword arguments of a published network tell beyond its shapes.

    Returns (settings of from_state_dict, {setting of EDM2UNet: value that the shapes must show}).
    Errors: ValueError for an argument that is unknown, or that our network has in one form only.
    """
    known = [*SEEN, *TOLD, *FIXED, *FREE]
    # Arguments of all blocks may stand together.
    init = dict(init)
    blocks = init.pop('block_kwargs', {})
    if not isinstance(blocks, dict):
        raise ValueError(f'block_kwargs ({blocks!r:.80}) must be settings by name')
    told, seen = {}, {}
    for name, value in [*init.items(), *blocks.items()]:
        if name not in known:
            hint = registry.suggest(name, known)
            raise ValueError(f'the network was made with {name}={value!r:.80}, unknown here.{hint}')
        for item in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(item, bool | None) and not is_number(item):
                raise ValueError(f'{name} ({value!r:.80}) must be a number, or numbers')
        if name in FIXED and value != FIXED[name]:
            raise ValueError(f'{name} ({value!r}) is {FIXED[name]!r} in the network here')
        if name in TOLD:
            told[name] = value
        elif name in SEEN and value is not None:
            seen[SEEN[name]] = value
    return told, seen


def is_number(value):
    """Whether a value of a file is a finite number, and no truth value."""
    return type(value) in (int, float) and -MANY < value < MANY


def init_of(denoiser):
    """The keyword arguments of the published class that make this network."""
    net = denoiser.backbone
    init = {name: getattr(net, here) for name, here in SEEN.items()}
    init = {name: list(v) if isinstance(v, tuple) else v for name, v in init.items()}
    told = {'channels_per_head': net.channels_per_head, 'dropout': net.dropout}
    return {**init, **told, 'sigma_data': denoiser.sigma_data}


def compare(backbone, seen):
    """Refuse a file whose settings are not those that its shapes show."""
    for name, value in seen.items():
        shown = getattr(backbone, name)
        if name == 'attn_resolutions' and isinstance(value, list):
            # Those that no level has change nothing.
            levels = [backbone.resolution // 2**i for i in range(len(backbone.channel_mult))]
            value = [level for level in levels if level in value]
        if (list(shown) if isinstance(shown, tuple) else shown) != value:
            raise ValueError(f'{name} ({value!r}) in the file, but its weights show {shown!r}')


def path_of(name):
    """'unet.enc.8x8_block0.attn_qkv.weight' → ['backbone', 'enc_8x8_block0', 'attn', …]."""
    name = re.sub(r'^unet\.', 'backbone.', name)
    name = re.sub(r'\.(enc|dec)\.', r'.\1_', name)
    return re.sub(r'\.(attn_\w+)\.', r'.attn.\1.', name).split('.')


def name_of(path):
    """The inverse of `path_of`."""
    name = '.'.join(path).replace('.attn.', '.')
    return re.sub(r'\.(enc|dec)_', r'.\1.', re.sub(r'^backbone\.', 'unet.', name))


def to_hwio(value, dtype=None):
    """[o, i, kh, kw] → [kh, kw, i, o]; [o, i] → [i, o]; dtype None = a view of the same memory."""
    order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim)
    value = value.transpose(order) if order else value
    return value if dtype is None else np.asarray(value, dtype, order='C')


def to_oihw(value):
    """The inverse of `to_hwio`."""
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim)
    return np.ascontiguousarray(value.transpose(order)) if order else value


def infer_backbone(state, channels_per_head, dropout=0.0, dtype='float32'):
    """The architecture, read from names and shapes."""
    sizes = {}
    for name, value in state.items():
        found = re.match(r'unet\.enc\.(\d{1,5})x\1_block(\d{1,3})\.conv_res1\.weight$', name)
        if found:
            blocks = sizes.setdefault(int(found[1]), {})
            blocks[int(found[2])] = kernel(name, value, 4).shape[0]
    if not sizes:
        raise ValueError('no unet.enc.{R}x{R}_block{i}.conv_res1.weight in this state dict')
    order = sorted(sizes, reverse=True)
    name = f'unet.enc.{order[0]}x{order[0]}_conv.weight'
    if name not in state:
        raise ValueError(f'no {name} in this state dict')
    first = kernel(name, state[name], 4)
    if any(0 not in sizes[r] for r in order):
        raise ValueError('an encoder level without block0')
    width = np.gcd.reduce([first.shape[0], *(sizes[r][0] for r in order)])
    label = state.get('unet.emb_label.weight')
    found = map(re.compile(r'unet\.enc\.(\d{1,5})x\1_block0\.attn_qkv\.weight$').match, state)
    at = [int(match[1]) for match in found if match]
    return EDM2UNet(
        resolution=order[0],
        channels=first.shape[1] - 1,
        label_dim=0 if label is None else kernel('unet.emb_label.weight', label, 2).shape[1],
        model_channels=int(width),
        channel_mult=tuple(int(sizes[r][0] // width) for r in order),
        num_blocks=len(sizes[order[0]]),
        attn_resolutions=tuple(sorted(at, reverse=True)),
        channels_per_head=channels_per_head,
        dropout=dropout,
        dtype=dtype,
    )


def kernel(name, value, ndim):
    """A weight of ndim axes, none empty. Errors: ValueError naming it."""
    if value.ndim != ndim or not value.size:
        raise ValueError(f'{name}: shape {value.shape} is not that of a kernel with {ndim} axes')
    return value


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
