"""Studies: campaigns with a report. The setting `kind` says which of this table.

python -m autoguide_jax study --config=configs/digits.py --workdir=runs/digits
python -m autoguide_jax study --config=configs/toy.py    --workdir=runs/toy
"""

from autoguide_jax.registry import Registry, resolve

# kind → the dataclass of its settings, whose attribute `program` names the main of the kind.
table = Registry(
    'study',
    {
        'comparison': 'autoguide_jax.study.settings:Settings',
        'toy': 'autoguide_jax.study.toy.settings:Settings',
    },
)


def settings_of(tree):
    """The settings class of a config tree. Errors: ValueError for an unknown kind."""
    return table.get(tree.get('kind', 'comparison'))


def main(settings, workdir):
    """Run the study of these settings in workdir, or what is left of it; returns its table."""
    return resolve(settings.program)(settings, workdir)
