"""The features that FID, its kin and the Inception score are defined on."""

import pathlib

from autoguide_jax.frozen import inception_v3
from autoguide_jax.metrics import weights_file
from autoguide_jax.metrics.features import Extractor, bind, hash_weights

IMAGES = 50_000  # that FID is published for
# Public files → what their sha256 begins with, if it is public as well.
PUBLIC = {
    'pt_inception-2015-12-05-6726825d.pth': '6726825d',  # pytorch-fid
    'weights-inception-2015-12-05-6726825d.pth': '6726825d',  # torch-fidelity
    'inception-v3-2015-12-05.pkl': '',  # NVIDIA, as EDM2 uses it
}
# What a sha256 that is known begins with → what the row calls the weights.
KNOWN = {'6726825d': 'public pt_inception-2015-12-05'}
UNKNOWN = 'not known to be the public ones'
TRANSFORM = 'bilinear to 299×299 without antialias or half-pixel offset, (x − 128)/128'
NEEDED = (
    'features.weights ({!r}) must be the path of a file with the weights of the Inception of '
    '2015-12-05, local or gs://: pt_inception-2015-12-05-6726825d.pth (of pytorch-fid), '
    'weights-inception-2015-12-05-6726825d.pth (of torch-fidelity), inception-v3-2015-12-05.pkl '
    '(of NVIDIA; untried, its layers are known from conversions), or what one of them holds as '
    '.npz or .safetensors'
)


def read_weights(p: str) -> tuple[dict, str]:
    """Return (weights for inception_v3.apply, sha256 of the file).

    Errors: ValueError if there is no such file, if it is not the public one that it is called, or
    holds another network.
    """
    if not p:
        raise ValueError(NEEDED.format(p))
    try:
        state, sha256 = weights_file.read(p)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(f'{NEEDED.format(p)}: there is no such file') from error
    begins = PUBLIC.get(pathlib.PurePath(p).name, '')
    if not sha256.startswith(begins):
        raise ValueError(
            f'features.weights ({p}) is damaged or another file: the sha256 of the public one '
            f'begins with {begins}, not {sha256[:8]}; download it again, or name it differently'
        )
    try:
        return inception_v3.from_state_dict(state), sha256
    except ValueError as error:
        raise ValueError(f'features.weights ({p}): {error}') from error


def known(sha256: str) -> str:
    """Say which public weights have a sha256."""
    return next((name for begins, name in KNOWN.items() if sha256.startswith(begins)), UNKNOWN)


def open_inception(
    dataset=None, folder=None, /, weights: str = '', batch_size: int = 64
) -> Extractor:
    """Return the 2048 features of Inception-2015, whose Fréchet distance is FID.

    dataset, folder: not needed. Its logits have no bias, as the usual Inception scores take them;
    so the predicted classes are those of logits without bias. It is called FID for its architecture
    and preprocessing; whether the weights are the public ones is in facts['weights'], by the sha256
    of the file, whatever it is called.

    Settings:
      weights: path of the public weights file, local or gs://; there is no default
      batch_size: images per device and call; changes speed only
    """
    found, sha256 = read_weights(weights)
    return Extractor(
        name='inception',
        noun='Inception-2015',
        title='FID',
        dim=inception_v3.FEATURES,
        num_classes=inception_v3.CLASSES,
        weights_hash=hash_weights(found, logits='no bias', transform=TRANSFORM),
        apply=bind(inception_v3.apply, found),
        batch_size=batch_size,
        published=IMAGES,
        spatial_dim=inception_v3.SPATIAL,
        facts={'weights': known(sha256), 'weights_sha256': sha256, 'transform': TRANSFORM},
    )
