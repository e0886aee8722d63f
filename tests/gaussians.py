"""A world of Gaussian classes in which the spread of every metric can be seen by drawing again.

`PYTHONPATH=. python tests/gaussians.py [REPEATS]` prints, for every metric, the standard deviation
of its values over independent sets of samples beside the standard error that it states.
"""

import sys

import numpy as np
from dots import make_extractor

from autoguide_jax import metrics
from autoguide_jax.frozen import Output
from autoguide_jax.metrics.frechet import moments
from autoguide_jax.metrics.metric import Bank
from autoguide_jax.metrics.reference import Reference

DIM = 4
# Not even: at its largest value the entropy has no slope, and its error is of second order.
SHARES = (0.5, 0.3, 0.2)


def draw(rng, n, shift=0.0, scale=1.0):
    """(features float32 [n, 4], classes int32 [n]) of a mixture; the first three are the logits."""
    classes = rng.choice(3, n, p=SHARES)
    features = 3 * np.eye(3, DIM)[classes] + shift + scale * rng.normal(size=(n, DIM))
    return features.astype(np.float32), classes.astype(np.int32)


def bank(features, classes=None, keep=('logits', 'spatial')):
    found = Bank(keep)
    found.add(Output(features, features[:, :3], features[:, :2]), classes)
    return found


def reference(features, classes):
    mu, sigma = moments(features).gaussian()
    mu_s, sigma_s = moments(features[:, :2]).gaussian()
    predicted = features[:, :3].argmax(1)
    return Reference(mu, sigma, mu_s, sigma_s, features, classes, predicted)


def spread(repeats, n, real, seed=0, shift=0.4, scale=0.9):
    """{metric: (standard deviation of the values, mean of the stated errors)}."""
    rng = np.random.default_rng(seed)
    truth = reference(*draw(rng, real))
    settings = {'kid': {'subset_size': n // 10}}
    extractor = make_extractor(dim=DIM)
    members = [
        metrics.table.get(k)(extractor, **settings.get(k, {})) for k in metrics.table.names()
    ]
    found = {metric.name: [] for metric in members}
    for _ in range(repeats):
        samples = bank(*draw(rng, n, shift, scale))
        for metric in members:
            found[metric.name].append(metric.estimate(samples, truth)[:2])
    table = {name: np.array(values, np.float64) for name, values in found.items()}
    return {name: (v[:, 0].std(ddof=1), v[:, 1].mean()) for name, v in table.items()}


if __name__ == '__main__':
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for name, (seen, stated) in spread(repeats, n=1000, real=3000).items():
        print(f'{name:22s} seen {seen:.5f}  stated {stated:.5f}  ratio {stated / seen:.2f}')
