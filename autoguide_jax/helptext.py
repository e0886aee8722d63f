"""What --help prints: verbs, flags, and the settings of one verb with their meanings."""

import shutil
import textwrap

from autoguide_jax import tables

_HEAD = 46  # columns of '--name=default'
_MAX_DEFAULT = 40


def overview(verbs, flags, examples):
    """Return the text of --help. verbs, flags: name → help; examples: complete commands."""
    return '\n'.join(
        [
            'autoguide_jax: guide a diffusion model with a bad version of itself.\n',
            'usage: python -m autoguide_jax VERB --config=FILE.py:ARG --workdir=FOLDER '
            '[--config.NAME=VALUE …]\n',
            tables.align([[f'  {name}', text] for name, text in verbs.items()]),
            '',
            listing(flags),
            '\nexamples:',
            *[f'  {example}' for example in examples],
            '\nVERB --help lists the settings of a verb. Numbers may be written 128Ki, 8Mi or 2Gi, '
            'lists a,b,c or a,b,…,c.',
        ]
    )


def listing(flags):
    """Return flags, name → help, as lines."""
    return tables.align([[f'  --{name}', text] for name, text in flags.items()])


def settings(rows):
    """Return Rows as lines '--name=default  meaning [type]', folded to the terminal's width."""
    width = max(shutil.get_terminal_size((100, 24)).columns - _HEAD, 40)
    lines = []
    for row in rows:
        cut = len(row.default) > _MAX_DEFAULT
        head = f'  --{row.name}={row.default[:_MAX_DEFAULT]}{"…" if cut else ""}'
        if len(head) > _HEAD - 2:
            lines.append(head)
            head = ''
        texts = textwrap.wrap(f'{row.meaning} [{row.type}]'.strip(), width)
        lines.append(f'{head:<{_HEAD}}{texts[0]}')
        lines += [' ' * _HEAD + text for text in texts[1:]]
    return '\n'.join(lines)
