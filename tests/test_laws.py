"""Laws of the house: who may import whom, sizes, tables that resolve, configs that parse."""

import ast
import dataclasses
import inspect
import pathlib
import re

import pytest

from autoguide_jax import bench, config, registry, schema, study
from autoguide_jax.__main__ import VERBS, settings_class

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'autoguide_jax'
FLOORS = (
    'contracts registry',
    'config config_file schema values arguments helptext tables files machine mesh progress stop '
    'provenance processes claims buckets disks health npy published state_dicts inert budget',
    'backbones denoiser loss optim ema guidance samplers frozen search mixture seeds guide_theory',
    'data latents checkpoints snapshots metrics sample_sets foreign_images generation pairs refs '
    'guidance_settings '
    'placement scorer evaluator train_step run_settings trainer recent copying autoencoder '
    'likeness',
    'train generate evaluate',
    'sweep study export report reconstruct bench importers doctor plan encode latent_stats stats '
    'guides',
    '__main__ verbs',
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
# Files of one floor that build on each other, in one direction.
WITHIN = {
    (1, 'arguments', 'values'), (1, 'config', 'schema'), (1, 'config', 'values'),
    (1, 'config', 'config_file'), (1, 'config_file', 'values'),
    (1, 'schema', 'values'), (1, 'helptext', 'tables'),
    (1, 'processes', 'stop'), (1, 'claims', 'files'), (1, 'claims', 'stop'),
    (1, 'claims', 'buckets'),
    (1, 'state_dicts', 'files'), (1, 'state_dicts', 'buckets'), (1, 'state_dicts', 'npy'),
    (1, 'inert', 'files'), (1, 'inert', 'buckets'),
    (1, 'files', 'buckets'), (1, 'files', 'disks'), (1, 'buckets', 'disks'), (1, 'buckets', 'stop'),
    (1, 'health', 'files'), (1, 'health', 'mesh'), (1, 'health', 'provenance'),
    (1, 'health', 'stop'), (1, 'health', 'processes'), (1, 'health', 'buckets'),
    (2, 'denoiser', 'backbones'), (2, 'backbones', 'mixture'),
    (3, 'pairs', 'generation'), (3, 'pairs', 'snapshots'), (3, 'pairs', 'refs'),
    (3, 'pairs', 'guidance_settings'),
    (3, 'refs', 'snapshots'), (6, '__main__', 'verbs'),
    (3, 'generation', 'latents'), (3, 'scorer', 'pairs'), (3, 'scorer', 'generation'),
    (3, 'recent', 'train_step'), (3, 'trainer', 'train_step'), (3, 'trainer', 'snapshots'),
    (3, 'generation', 'snapshots'), (3, 'generation', 'placement'), (3, 'placement', 'snapshots'),
    (3, 'foreign_images', 'data'), (3, 'foreign_images', 'sample_sets'),
    (3, 'copying', 'data'), (3, 'pairs', 'autoencoder'),
    (3, 'run_settings', 'latents'), (3, 'metrics', 'data'),
    (3, 'evaluator', 'metrics'), (3, 'evaluator', 'foreign_images'),
    (3, 'likeness', 'metrics'), (3, 'likeness', 'foreign_images'),
}  # fmt: skip
ONLY = {'ml_collections': {'config', '__main__'}, 'flax': {'backbones', 'denoiser'}}
INHERITED = {'estimate'}  # documented where the contract is
NOWHERE = {'tensorflow', 'torch'}
FILES = sorted(PACKAGE.rglob('*.py'))


def room_of(path):
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix('.py')


def imports(source):
    """Dotted names that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def violations(room, source):
    """What the import law says against a source in this room."""
    found = []
    if room not in FLOOR:
        return [f'{room}: has no floor. Add it to FLOORS in tests/test_laws.py']
    for name in imports(source):
        top, _, rest = name.partition('.')
        if top in NOWHERE or room not in ONLY.get(top, {room}):
            found.append(f'{room} imports {top}')
        other = rest.partition('.')[0]
        if top != 'autoguide_jax' or other == room or other not in FLOOR:
            continue
        above = FLOOR[other] > FLOOR[room]
        beside = FLOOR[other] == FLOOR[room] and (FLOOR[room], room, other) not in WITHIN
        if above or beside:
            found.append(f'{room} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[other]})')
        if room == 'report' and other != 'files':
            found.append(f'report imports {other}')
    return found


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_import_law(path):
    if path == PACKAGE / '__init__.py':
        assert not list(imports(path.read_text()))
        return
    assert not violations(room_of(path), path.read_text())


@pytest.mark.parametrize(
    'room, source',
    [
        ('samplers', 'from autoguide_jax import denoiser'),
        ('guidance', 'from autoguide_jax.backbones import mp'),
        ('train', 'from autoguide_jax.generate import main'),
        ('files', 'import autoguide_jax.data.order'),
        ('report', 'from autoguide_jax.metrics import table'),
        ('data', 'def f():\n    import tensorflow as tf'),
        ('loss', 'from flax import linen'),
        ('new_room', ''),
    ],
)
def test_the_law_can_be_broken(room, source):
    assert violations(room, source)


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_sizes_and_docstrings(path):
    text = path.read_text()
    assert text.count('\n') <= 300
    assert not re.search(r'\b(TODO|FIXME|XXX)\b(?!\(#\d+)', text)
    assert not re.search(r'/(work|root|home)/', text)
    for node, local in functions(ast.parse(text)):
        length = node.end_lineno - node.lineno + 1
        assert length <= 60, node.name
        public = not node.name.startswith('_') and not local and node.name not in INHERITED
        assert length <= 8 or not public or ast.get_docstring(node), node.name


def functions(tree, local=False):
    """(function, whether it is local to another one) of a syntax tree."""
    for child in ast.iter_child_nodes(tree):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function:
            yield child, local
        yield from functions(child, local or is_function)


def tables():
    """Every Registry of the package."""
    import importlib

    for path in FILES:
        named = re.search(r'\b(Registry|Kinds)\(', path.read_text())
        if named and path.stem not in ('registry', '__main__'):
            parts = path.relative_to(ROOT).with_suffix('').parts
            module = importlib.import_module('.'.join(parts).removesuffix('.__init__'))
            for value in list(vars(module).values()):
                if isinstance(value, registry.Registry):
                    yield value


def test_every_name_of_every_table_resolves():
    found = {(table.room, name): table.get(name) for table in tables() for name in table.names()}
    assert len(found) >= 15
    for key, component in found.items():
        assert inspect.getdoc(component), key


def settings_classes():
    """Every settings dataclass of the command line: some verbs choose theirs by the config file."""
    targets = [registry.resolve(verb.settings) for verb in VERBS.values() if verb.settings]
    chosen = [table.get(k) for table in (study.table, bench.table) for k in table.names()]
    return [t for t in targets if inspect.isclass(t)] + chosen


@pytest.mark.parametrize('cls', settings_classes(), ids=lambda cls: cls.__module__)
def test_every_setting_has_a_meaning(cls):
    rows = schema.describe(cls)
    assert rows
    assert not [row.name for row in rows if not row.meaning]


CONFIGS = [
    ('train', 'digits.py:main'),
    ('train', 'digits.py:guide'),
    ('train', 'digits.py:uncond'),
    ('search', 'search.py'),
    ('search', 'search.py:paper'),
    ('study', 'digits.py'),
    ('train', 'fashion_mnist.py:big'),
    ('train', 'fashion_mnist.py:reduced-narrow'),
    ('study', 'fashion_mnist.py'),
    ('study', 'fashion_mnist.py:reduced'),
    ('study', 'toy.py'),
    ('study', 'toy.py:quick'),
    ('train', 'toy.py:main'),
    ('sample', 'pair.py'),
    ('sweep', 'sweep.py'),
    ('sweep', 'two_guides.py'),
    ('sample', 'two_guides.py:sample'),
    ('bench', 'bench.py:net_a'),
    ('bench', 'bench.py:digits'),
    ('bench', 'bench.py:img64-s'),
    ('bench', 'bench.py:toy'),
    ('bench', 'bench.py:input'),
    ('plan', 'imagenet512.py:xxl'),
    ('train', 'imagenet512.py:xxl-guide'),
    ('train', 'imagenet64.py:xs-uncond-main'),
    ('plan', 'imagenet64.py:s'),
    ('sample', 'published.py:img512-s-autog-fid'),
    ('sweep', 'published.py:img64-s-autog-fid:sweep'),
]


def test_every_config_is_tried():
    tried = {name.partition(':')[0] for _, name in CONFIGS}
    assert tried == {path.name for path in (ROOT / 'configs').glob('*.py')}


@pytest.mark.parametrize('verb, name', CONFIGS)
def test_configs_parse(verb, name):
    cls = settings_class(VERBS[verb], str(ROOT / 'configs' / name))
    settings = config.parse(cls, config.load(str(ROOT / 'configs' / name)))
    assert dataclasses.is_dataclass(settings)
    assert config.from_dict(cls, config.to_dict(settings)) == settings


@pytest.mark.parametrize('name', ['main', 'guide', 'uncond'])
def test_training_configs_step_once(name, tmp_path):
    from autoguide_jax import files, run_settings, train

    tree = config.load(str(ROOT / 'configs' / f'digits.py:{name}'))
    lengths = ('total_nimg', 'snapshot_nimg', 'checkpoint_nimg', 'log_nimg')
    tree['train'].update(dict.fromkeys(lengths, 32))
    tree['network'].update(model_channels=8, channels_per_head=8)
    result = train.main(config.parse(run_settings.Settings, tree), tmp_path)
    assert result['nimg'] == 32
    assert [row['nimg'] for row in files.read_jsonl(tmp_path / 'metrics.jsonl')] == [32]
