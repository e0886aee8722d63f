"""The table of docs/published.md, made from the presets.

PYTHONPATH=. python tests/published_table.py
"""

import pathlib
import runpy

from autoguide_jax import config, generate
from autoguide_jax.generation import calls_per_image

ROOT = pathlib.Path(__file__).parents[1]
FILE = ROOT / 'configs' / 'published.py'
PAGE = ROOT / 'docs' / 'published.md'
MODULE = runpy.run_path(str(FILE))
PRESETS = MODULE['PRESETS']
HEAD = ('preset', 'main', 'guide', 'w', 'EMA main / guide', 'acts in', 'calls', 'FLOPs', 'score')


def settings(name):
    return config.parse(generate.Settings, config.load(f'{FILE}:{name}'))


def calls(name):
    """(evaluations of main, of the guide) per image."""
    found = settings(name)
    rules = [rule for _, _, rule in found.rules()]
    counted = calls_per_image(config.build(found.sampler), rules)
    return counted['main'], sum(counted['guides'])


def relative_flops(name):
    """FLOPs per image in units of those of main alone, by the published counts."""
    preset, (main, guide) = PRESETS[name], calls(name)
    if not preset.role:
        return 1.0
    gmac = MODULE['gmac']
    return 1 + guide * gmac(preset.guide[0]) / (main * gmac(preset.main[0]))


def network(public):
    return f'{public[0].removeprefix("edm2-")} at {public[1]} Mi'


def row(name):
    p, (main, guide) = PRESETS[name], calls(name)
    stds = f'{p.main_std:.3f}' + (f' / {p.guide_std:.3f}' if p.role else '')
    lo, hi = p.interval
    where = f'({lo:.2f}, {hi:.2f}]' if lo else 'all σ'
    guided = [network(p.guide), f'{p.weight:.2f}'] if p.role else ['–', '–']
    cells = [f'`{name}`', network(p.main), *guided, stds, where if p.role else '–']
    cells += [f'{main} + {guide}', f'{relative_flops(name):.2f}', f'{p.metric} {p.score:.2f}']
    return f'| {" | ".join(cells)} |'


def table():
    lines = [f'| {" | ".join(HEAD)} |', '|' + '---|' * len(HEAD), *map(row, PRESETS)]
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    head = PAGE.read_text().partition('| preset')[0]
    PAGE.write_text(head + table())
