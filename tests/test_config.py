"""Settings come out of files and command lines as meant, or the error names setting and remedy."""

import dataclasses
import json
import math
import typing

import ml_collections
import pytest

from autoguide_jax import config
from autoguide_jax.registry import Registry

ROOM = f'{__name__}:TABLE'


@dataclasses.dataclass(frozen=True)
class Slow:
    """A sampler.

    Settings:
      num_steps: number of steps
      interval: noise levels where it acts,
        from low to high
    Errors: none.
    """

    num_steps: int = 32
    interval: tuple[float, float] = (0.0, math.inf)

    def __post_init__(self):
        if self.num_steps < 1:
            raise ValueError(f'num_steps ({self.num_steps}) must be at least 1')


@dataclasses.dataclass(frozen=True)
class Net:
    """A network with settings that the data decide.

    Settings:
      channels: image channels
      width: channels inside
    """

    channels: int
    width: int = 8
    dtype: typing.Any = 'float32'


def fast(num_steps: int = 4, *, churn: float = 0.0):
    """A component that is a function."""
    return ('fast', num_steps, churn)


TABLE = Registry(
    'test', {'slow': f'{__name__}:Slow', 'fast': f'{__name__}:fast', 'net': f'{__name__}:Net'}
)


@dataclasses.dataclass(frozen=True)
class Loop:
    """The loop.

    Settings:
      batch_size: images per step
      total_nimg: length in images
    """

    batch_size: int = 48
    total_nimg: int = 96

    def __post_init__(self):
        if self.total_nimg % self.batch_size:
            raise ValueError(
                f'total_nimg ({self.total_nimg}) must be a multiple of '
                f'batch_size ({self.batch_size})'
            )


@dataclasses.dataclass(frozen=True)
class Run:
    """A run.

    Settings:
      path: its folder
      std: EMA length
    """

    path: str
    std: float = 0.1


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything.

    Settings:
      main: the main run
      sampler: how to sample
      network: what to sample from
      guide: the guide
      loop: the loop
      stds: EMA lengths
      seed: seed, or none for a random one
      mode: what to do
      arms: named runs
      metrics: named parts
      steps: runs one after the other
    """

    main: Run
    sampler: config.Part = config.part(ROOM, name='slow', num_steps=16, interval='0.1,2')
    network: config.Part | None = config.part(ROOM, name=None)
    guide: Run | None = None
    loop: Loop = Loop(batch_size=24)
    stds: tuple[float, ...] = (0.05, 0.1)
    seed: int | None = None
    mode: typing.Literal['train', 'test'] = 'train'
    arms: dict[str, Run] = dataclasses.field(default_factory=lambda: {'none': Run('none', 0.05)})
    metrics: dict[str, config.Part] = config.parts(ROOM, m=config.Part('fast', {'num_steps': 2}))
    steps: tuple[Run, ...] = ()


MAIN = ('main.path', 'runs/a')


def resolve(*overrides, tree=None):
    """Return the settings of a command line with these overrides, on top of a file's tree."""
    return config.parse(Settings, config.load(tree, overrides, Settings))


def test_defaults_are_those_of_the_outermost_section_that_gives_one():
    settings = resolve(MAIN, ('loop.total_nimg', '240'))
    assert settings.loop == Loop(batch_size=24, total_nimg=240)
    assert settings.sampler == config.Part('slow', {'num_steps': 16, 'interval': (0.1, 2.0)})
    assert settings.guide is None


def test_settings_survive_json():
    settings = resolve(
        MAIN,
        ('guide.path', 'runs/b'),
        ('sampler.interval', '0.5,inf'),
        ('network.name', 'net'),
        ('network.channels', '3'),
        ('stds', '0.1,0.2,…,0.5'),
        ('arms.none.std', '0.2'),
        ('metrics.m.churn', '1'),
        ('seed', '2Gi'),
    )
    settings = dataclasses.replace(settings, steps=(Run('x'), Run('y', 0.3)))
    tree = json.loads(json.dumps(config.to_dict(settings), allow_nan=False))
    assert config.from_dict(Settings, tree) == settings
    assert tree['sampler'] == {'name': 'slow', 'num_steps': 16, 'interval': [0.5, 'inf']}
    assert tree['stds'] == [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize(
    ('dotted', 'text', 'message'),
    [
        ('stsd', '1', "config.stsd: unknown setting. Did you mean 'stds'?"),
        ('loop.batchsize', '1', "config.loop.batchsize: unknown setting. Did you mean 'batch_si"),
        ('lop.batch_size', '1', "config.lop: unknown setting. Did you mean 'loop'?"),
        ('loop', '1', 'config.loop is a section: set one of its settings, as in --config.loop.…=…'),
        ('loop', 'none', 'config.loop is a section'),
        ('seed.x', '1', "config.seed is a single value: it has no setting 'x'"),
        ('steps.path', 'a', 'config.steps is a list of sections: set it in a config file'),
        ('loop.batch_size', '4.5', "config.loop.batch_size: '4.5' is not a whole number"),
        ('loop.total_nimg', '100', 'config.loop.total_nimg (100) must be a multiple of batch_size'),
        ('stds', '0.1,0.2,…,0.35', 'config.stds: 0.35 is not on the progression'),
        ('mode', 'tran', "config.mode: 'tran' is not one of the choices. Did you mean 'train'?"),
        ('guide.std', '0.1', 'config.guide.path: required. Set it in the config file or with'),
        ('arms.cfg.std', '0.1', "config.arms.cfg: unknown entry. Known: none."),
        ('sampler', 'fast', 'config.sampler is a section'),
        ('sampler.name', 'fats', "config.sampler.name: unknown name 'fats'. Did you mean 'fast'?"),
        ('sampler.nm_steps', '1', "config.sampler.nm_steps: unknown setting of 'slow'. Did you"),
        ('sampler.interval', '1', "config.sampler.interval: '1' has 1 items instead of 2"),
        ('network.width', '1', 'config.network.name: required. Known: fast, net, slow.'),
        ('metrics.m.chrn', '1', "config.metrics.m.chrn: unknown setting of 'fast'. Did you"),
    ],
)  # fmt: skip
def test_a_bad_override_is_refused(dotted, text, message):
    with pytest.raises(ValueError) as caught:
        resolve(MAIN, (dotted, text))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ('tree', 'message'),
    [
        ({}, 'config.main.path: required'),
        ({'main': 'a'}, "config.main: 'a' is not a section of settings"),
        ({'main': None}, 'config.main: None is not a section of settings'),
        ({'main': {'path': 3}}, 'config.main.path: 3 is not text'),
        ({'man': {'path': 'a'}}, "config.man: unknown setting. Did you mean 'main'?"),
        ({'sampler': 3}, 'config.sampler: 3 is not a section of settings'),
        ({'sampler': {'name': 'slow', 'chrn': 1}}, "config.sampler.chrn: unknown setting of 'sl"),
        ({'arms': {'x': {'st': 1}}}, "config.arms.x.st: unknown setting. Did you mean 'std'?"),
        ({'arms': 'x'}, "config.arms: 'x' is not a section of settings"),
        ({'steps': 'x'}, "config.steps: 'x' is not a list of sections"),
        ({'steps': [{'path': 'a'}, {}]}, 'config.steps[1].path: required'),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused(tree, message):
    tree = {'main': {'path': 'a'}, **tree} if 'main' not in tree and tree else tree
    with pytest.raises(ValueError) as caught:
        config.parse(Settings, ml_collections.ConfigDict(tree))
    assert str(caught.value).startswith(message)


def test_a_file_part_with_its_name_is_whole_and_without_changes_the_default():
    whole = resolve(MAIN, tree={'sampler': {'name': 'slow', 'num_steps': 3}})
    assert whole.sampler.settings == {'num_steps': 3}
    changed = resolve(MAIN, tree={'sampler': {'num_steps': 3}})
    assert changed.sampler.settings == {'num_steps': 3, 'interval': (0.1, 2.0)}
    named = resolve(MAIN, tree={'sampler': 'slow'})
    assert named.sampler.settings == {}


def test_switching_the_name_leaves_defaults_behind_but_never_what_a_user_wrote():
    assert resolve(MAIN, ('sampler.name', 'fast')).sampler == config.Part('fast')
    kept = resolve(MAIN, ('sampler.num_steps', '8'), ('sampler.name', 'fast'))
    assert kept.sampler == config.Part('fast', {'num_steps': 8})
    same = resolve(MAIN, ('sampler.name', 'slow'))
    assert same.sampler.settings == {'num_steps': 16, 'interval': (0.1, 2.0)}
    with pytest.raises(ValueError, match="config.sampler.interval: unknown setting of 'fast'"):
        tree = {'sampler': {'name': 'slow', 'interval': (0, 1)}}
        resolve(MAIN, ('sampler.name', 'fast'), tree=tree)


def test_an_optional_section_can_be_entered_and_left():
    file = {'guide': {'path': 'b', 'std': 0.3}}
    assert resolve(MAIN, ('guide.std', '0.2'), tree=file).guide == Run('b', 0.2)
    assert resolve(MAIN, ('guide', 'none'), tree=file).guide is None
    assert resolve(MAIN, ('guide.path', 'c'), tree={'guide': None}).guide == Run('c')


def test_build_makes_the_component_from_settings_and_inferred_facts():
    settings = resolve(MAIN, ('network.name', 'net'), ('network.width', '16'))
    assert config.build(settings.network, channels=3, resolution=8) == Net(3, 16)
    assert config.build(settings.sampler) == Slow(16, (0.1, 2.0))
    assert config.build(config.Part('fast', {'churn': 1.0}, ROOM)) == ('fast', 4, 1.0)


@pytest.mark.parametrize(
    ('overrides', 'inferred', 'message'),
    [
        ([('network.name', 'net')], {}, "config.network.channels: required by 'net'"),
        (
            [('network.name', 'net'), ('network.channels', '1')],
            {'channels': 3},
            'config.network.channels (1) contradicts 3, which this run infers. Leave it out.',
        ),
        (
            [('network.name', 'slow'), ('network.num_steps', '0')],
            {},
            'config.network.num_steps (0) must be at least 1',
        ),
    ],
)
def test_build_refuses(overrides, inferred, message):
    network = resolve(MAIN, *overrides).network
    with pytest.raises(ValueError) as caught:
        config.build(network, **inferred)
    assert str(caught.value) == message


def test_complete_writes_out_what_build_would_use():
    network = resolve(MAIN, ('network.name', 'net'), ('network.width', '16')).network
    whole = config.complete(network, channels=3, resolution=8)
    assert config.to_dict(whole) == {'name': 'net', 'channels': 3, 'width': 16, 'dtype': 'float32'}
    assert config.build(whole) == config.build(network, channels=3)


def test_resolved_shows_all_values_and_parses_to_the_same_components():
    tree = config.resolved(resolve(MAIN, ('network.name', 'net')))
    assert tree['sampler'] == {'name': 'slow', 'num_steps': 16, 'interval': [0.1, 2.0]}
    assert tree['network'] == {'name': 'net', 'width': 8, 'dtype': 'float32'}
    assert tree['metrics'] == {'m': {'name': 'fast', 'num_steps': 2, 'churn': 0.0}}
    assert config.build(resolve(tree=tree).metrics['m']) == ('fast', 2, 0.0)


def test_differences_are_named_where_they_are():
    a = {'same': [1], 'deep': {'x': 1, 'gone': 2, 'part': {'y': 0}}, 'kind': {'z': 3}}
    b = {'same': [1], 'deep': {'x': 5, 'new': None, 'part': {'y': 0.5}}, 'kind': 3}
    found = list(config.differences(a, b))
    assert found == [
        ('deep.gone', 2, None),
        ('deep.part.y', 0, 0.5),
        ('deep.x', 1, 5),
        ('kind', {'z': 3}, 3),
    ]
    assert not list(config.differences(a, a))


def test_describe_lists_every_setting_with_type_default_and_meaning():
    rows = {row.name: row[1:] for row in config.describe(Settings)}
    assert rows['config.main.path'] == ('str', 'required', 'its folder')
    assert rows['config.loop.batch_size'] == ('int', '24', 'images per step')
    assert rows['config.sampler.name'] == ('fast | net | slow', 'slow', 'how to sample')
    meaning = 'noise levels where it acts, from low to high'
    assert rows['config.sampler.interval'] == ('float,float', '0.1,2', meaning)
    assert rows['config.network.name'][1:] == ('required', 'what to sample from')
    assert rows['config.guide'] == ('section | none', 'none', 'the guide')
    assert rows['config.guide.std'] == ('float', '0.1', 'EMA length')
    assert rows['config.arms.none.std'] == ('float', '0.05', 'EMA length')
    assert rows['config.metrics.m.num_steps'][1] == '2'
    assert rows['config.seed'] == ('int | none', 'none', 'seed, or none for a random one')
    sections = {name.split('.')[1] for name in rows}
    assert sections == {f.name for f in dataclasses.fields(Settings)}


def test_describe_shows_the_values_of_a_file_and_the_settings_of_its_components():
    tree = {'sampler': {'name': 'fast'}, 'network': 'net', 'guide': {'path': 'b'}, 'arms': {}}
    rows = {row.name: row[1:] for row in config.describe(Settings, tree=tree)}
    assert rows['config.sampler.num_steps'][1] == '4'
    assert 'config.sampler.interval' not in rows
    assert rows['config.network.channels'] == ('int', '–', 'image channels')
    assert rows['config.guide.path'][1] == 'b'
    assert 'config.guide' not in rows
    assert 'config.arms.<name>.path' in rows


def test_load_runs_the_file_with_its_argument(tmp_path):
    file = tmp_path / 'pair.py'
    file.write_text("""
import ml_collections
def get_config(arg=None):
    sizes = {None: 24, 'big': 48}
    config = ml_collections.ConfigDict({'main': {'path': 'a'}})
    config.loop = {'batch_size': sizes[arg], 'total_nimg': '96Ki'}
    config.stds = '0.1,0.2,…,0.4'
    return config
""")
    assert config.parse(Settings, config.load(str(file))).loop == Loop(24, 98304)
    tree = config.load(f'{file}:big', [('stds', '1')], Settings)
    settings = config.parse(Settings, tree)
    assert (settings.loop, settings.stds) == (Loop(48, 98304), (1.0,))
    with pytest.raises(ValueError, match=f"--config={file}:huge: {file} has no 'huge'"):
        config.load(f'{file}:huge')


@pytest.mark.parametrize(
    ('text', 'arg', 'message'),
    [
        ('x = 1', '', 'defines no get_config'),
        ('def get_config(): return {}', ':a', 'takes no argument; leave out :a'),
        ('def get_config(arg): raise ValueError(f"no {arg}; give b")', ':a', 'no a; give b'),
    ],
)
def test_load_refuses_a_file_that_is_no_config(tmp_path, text, arg, message):
    file = tmp_path / 'x.py'
    file.write_text(text)
    with pytest.raises(ValueError) as caught:
        config.load(f'{file}{arg}')
    assert str(caught.value).startswith(f'--config={file}{arg}: ')
    assert message in str(caught.value)


def test_load_refuses_a_missing_file():
    with pytest.raises(ValueError, match="--config=configs/nowhere.py:a: no file 'configs/nowhere"):
        config.load('configs/nowhere.py:a')


def test_a_file_error_that_is_not_about_the_argument_is_not_hidden(tmp_path):
    file = tmp_path / 'x.py'
    file.write_text("def get_config(arg=None): return {}['typo']")
    with pytest.raises(KeyError, match='typo'):
        config.load(f'{file}:a')


def test_load_leaves_a_given_tree_alone():
    tree = {'main': {'path': 'a'}}
    assert config.load(tree, [('main.path', 'b')], Settings) == {'main': {'path': 'b'}}
    assert tree == {'main': {'path': 'a'}}
