"""Images → number. Each metric is a frozen dataclass: begin, update, finish.

`score` runs several in one pass; `open_extractor` and `open_reference` give what they need.
"""

from autoguide_jax.metrics.building import open_reference
from autoguide_jax.metrics.features import open_extractor
from autoguide_jax.metrics.frechet import frechet_distance
from autoguide_jax.metrics.scoring import score
from autoguide_jax.registry import Registry

__all__ = ['frechet_distance', 'minimised', 'open_extractor', 'open_reference', 'score', 'table']

table = Registry(
    'metrics',
    {
        'class_accuracy': 'autoguide_jax.metrics.classes:ClassAccuracy',
        'class_entropy': 'autoguide_jax.metrics.classes:ClassEntropy',
        'class_frechet': 'autoguide_jax.metrics.class_frechet:ClassFrechet',
        'class_variance': 'autoguide_jax.metrics.classes:ClassVariance',
        'class_variance_ratio': 'autoguide_jax.metrics.classes:ClassVarianceRatio',
        'coverage': 'autoguide_jax.metrics.manifold:Coverage',
        'density': 'autoguide_jax.metrics.manifold:Density',
        'frechet': 'autoguide_jax.metrics.frechet:Frechet',
        'frechet_infinity': 'autoguide_jax.metrics.frechet_infinity:FrechetInfinity',
        'inception_score': 'autoguide_jax.metrics.inception_score:InceptionScore',
        'kid': 'autoguide_jax.metrics.kid:KernelDistance',
        'precision': 'autoguide_jax.metrics.manifold:Precision',
        'recall': 'autoguide_jax.metrics.manifold:Recall',
        'sfid': 'autoguide_jax.metrics.frechet:SpatialFrechet',
    },
)


def minimised(names):
    """The first of several metrics: what searches minimise and tables are sorted by.

    Errors: ValueError unless it is a distance.
    """
    distances = [name for name in table.names() if hasattr(table.get(name), 'is_distance')]
    if not names or names[0] not in distances:
        raise ValueError(
            f'metrics ({", ".join(names)}) must begin with a distance, which is minimised: '
            f'{", ".join(distances)}'
        )
    return names[0]
