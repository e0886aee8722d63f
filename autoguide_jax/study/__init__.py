"""Studies: campaigns with a report. The setting `kind` says which of this table.

python -m autoguide_jax study --config=configs/digits.py --workdir=runs/digits
python -m autoguide_jax study --config=configs/toy.py    --workdir=runs/toy
"""

from autoguide_jax.registry import Kinds

table = Kinds(
    'study',
    {
        'comparison': 'autoguide_jax.study.settings:Settings',
        'toy': 'autoguide_jax.study.toy.settings:Settings',
    },
    default='comparison',
)
settings_of, main = table.settings_of, table.main
