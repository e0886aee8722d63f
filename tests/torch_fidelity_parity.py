"""The metrics that torch-fidelity has too, on the same 2 × 1,000 images with the same weights.

    PYTHONPATH=.:tests python tests/torch_fidelity_parity.py [--images 1000]

Needs torch and torch-fidelity; some minutes. The images are pieces of scikit-learn's photographs,
as they are and disturbed; the weights are random, scaled so that no layer dies. Exits with 1 if a
metric differs by more than its bound. KID is bounded on one and the same features, this package's:
on its own torch-fidelity subtracts large numbers in float32, which is shown.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time

import inception_weights
import numpy as np
from sklearn import datasets

from autoguide_jax import metrics
from autoguide_jax.metrics import building, kid, scoring

SIDE = 64


def pieces(count, disturbed):
    """uint8 [count, 64, 64, 3]: pieces of photographs; disturbed: noisy and darker."""
    rng = np.random.default_rng(disturbed)
    photographs = np.stack(datasets.load_sample_images().images)
    found = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for image in found:
        y, x = rng.integers(0, [427 - SIDE, 640 - SIDE])
        piece = photographs[rng.integers(2), y : y + SIDE, x : x + SIDE].astype(float)
        if disturbed:
            piece = 0.9 * piece + rng.normal(0, 8, piece.shape)
        image[:] = piece.clip(0, 255)
    return found


class Pictures:
    """What building.build takes."""

    name, labels, num_classes, fingerprint = 'pieces', None, 0, 'pieces'

    def __init__(self, images):
        self._images, self.num_images = images, len(images)

    def images(self, rows):
        return self._images[rows]

    def describe(self):
        return {'name': self.name}


def theirs(fakes, reals, weights):
    """What torch-fidelity says of two sets."""
    inception_weights.known_to_torch()
    import torch
    import torch_fidelity

    torch.save({k: torch.tensor(v) for k, v in inception_weights.state().items()}, weights)
    tensors = [torch.tensor(np.moveaxis(x, 3, 1).copy()) for x in (fakes, reals)]
    found = torch_fidelity.calculate_metrics(
        input1=_plain(tensors[0]),
        input2=_plain(tensors[1]),
        cuda=False,
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        feature_extractor='inception-v3-compat',
        feature_extractor_weights_path=str(weights),
        feature_layer_prc='2048',
        isc_splits=1,
        kid_subsets=1,
        kid_subset_size=len(fakes),
        batch_size=50,
        cache=False,
        verbose=False,
    )
    return {key: float(value) for key, value in found.items()}


def _plain(tensor):
    import torch

    class Plain(torch.utils.data.Dataset):
        def __len__(self):
            return len(tensor)

        def __getitem__(self, i):
            return tensor[i]

    return Plain()


def ours(fakes, reals, weights):
    """What this package says of them."""
    extractor = metrics.open_extractor('inception', weights=str(weights))
    reference = building.build(Pictures(reals), extractor)
    settings = {'frechet': {}, 'inception_score': {'splits': 1}, 'precision': {}, 'recall': {}}
    members = [metrics.table.get(name)(extractor, **given) for name, given in settings.items()]
    batches = [(fakes[i : i + 250], None) for i in range(0, len(fakes), 250)]
    found = scoring.banks(members, batches)
    bank = found[extractor]
    estimates = {m.name: m.estimate(bank, reference).value for m in members}
    # Ours takes the mean over disjoint subsets; of one subset it is this.
    found = kid.discrepancy(bank.features, reference.features)
    alike = their_kid(bank.features, reference.features)
    return {**estimates, 'kid': found, 'kid_alike': found}, {'kid_alike': alike}


def their_kid(samples, real):
    """torch-fidelity's KID of features [n, d] of ours, of which all are one subset."""
    import torch
    from torch_fidelity import metric_kid

    given = [torch.from_numpy(np.asarray(x, np.float64)) for x in (samples, real)]
    found = metric_kid.kid_features_to_metric(
        *given, kid_subsets=1, kid_subset_size=len(samples), verbose=False
    )
    return found[metric_kid.KEY_METRIC_KID_MEAN]


# Ours → theirs, and by how much they may differ, relatively; None = shown.
PAIRS = {
    'frechet': ('frechet_inception_distance', 1e-4),
    'inception_score': ('inception_score_mean', 1e-6),
    'kid': ('kernel_inception_distance_mean', None),
    'kid_alike': ('kid_alike', 1e-9),
    'precision': ('precision', 1e-6),
    'recall': ('recall', 1e-6),
}


def main(count):
    """Print one row per metric; return whether all are within their bounds."""
    fakes, reals = pieces(count, disturbed=1), pieces(count, disturbed=0)
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder) / 'inception.pth'
        start = time.monotonic()
        other = theirs(fakes, reals, weights)
        middle = time.monotonic()
        mine, more = ours(fakes, reals, weights)
        end = time.monotonic()
    print(f'torch-fidelity {middle - start:.0f} s, autoguide_jax {end - middle:.0f} s')
    other, good = {**other, **more}, True
    for name, (key, bound) in PAIRS.items():
        value, expected = mine[name], other[key]
        apart = abs(value / expected - 1)
        within = bound is None or apart <= bound
        good = good and within
        of = 'no bound' if bound is None else f'{"within" if within else "NOT WITHIN"} {bound:g}'
        print(f'{name:16} {value:.9g} {expected:.9g} relative {apart:.2e}, {of}')
    print(json.dumps(other))
    return good


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=1000)
    sys.exit(0 if main(parser.parse_args().images) else 1)
