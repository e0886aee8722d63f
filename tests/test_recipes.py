"""Training recipes of ImageNet: every published row is a run, its head says what it costs."""

import ast
import pathlib
import re

import image_sets
import pytest
from test_data_latents import edm2 as latent_files

from autoguide_jax import config, files, plan, run_settings, train
from autoguide_jax.__main__ import main as command_line
from autoguide_jax.plan import chips, programs

ROOT = pathlib.Path(__file__).parents[1]
MI = 2**20
# Table 6 of arXiv 2312.02696: 10⁹ multiply-adds, millions of images as published, learning rate.
GMAC = {'xxs': 11.5, 'xs': 45.5, 's': 102.2, 'm': 180.8, 'l': 282.2, 'xl': 405.9, 'xxl': 552.1}
ROWS = {
    512: {
        'xs': (2147.5, 0.0120), 's': (2147.5, 0.0100), 'm': (2147.5, 0.0090),
        'l': (1879.0, 0.0080), 'xl': (1342.2, 0.0070), 'xxl': (939.5, 0.0065),
        'xxs': (536.9, 0.0170), 'xs-uncond': (2147.5, 0.0120), 's-uncond': (2147.5, 0.0100),
    },
    64: {
        'xs': (536.9, 0.0120), 's': (1073.7, 0.0100), 'm': (2147.5, 0.0090), 'l': (1073.7, 0.0080),
        'xl': (671.1, 0.0070), 'xs-uncond': (2147.5, 0.0120),
    },
}  # fmt: skip
RUNS = [(pixels, name) for pixels, rows in ROWS.items() for name in rows]


def file(pixels):
    return ROOT / 'configs' / f'imagenet{pixels}.py'


def load(pixels, arg):
    tree = config.load(f'{file(pixels)}:{arg}')
    return config.parse(run_settings.Settings, tree)


@pytest.mark.parametrize('pixels, name', RUNS)
def test_every_published_row_is_a_run(pixels, name):
    millions, lr = ROWS[pixels][name]
    found = load(pixels, f'{name}-main')
    network = found.network.settings
    assert round(found.train.total_nimg / 1e6, 1) == pytest.approx(millions, abs=0.06)
    assert found.train.total_nimg % (128 * MI) == 0
    assert found.optim.lr == lr and found.train.batch_size == 2048
    assert network['label_dim'] == (0 if 'uncond' in name else 1000)
    assert network['dropout'] == (0.1 if name in ('m', 'l', 'xl', 'xxl') else 0.0)
    assert network['model_channels'] == 64 * (1 + [*GMAC].index(name.partition('-')[0]))
    noise = {512: (-0.4, 1.0, 70000, 4), 64: (-0.8, 1.6, 35000, 3)}[pixels]
    loss = found.loss.settings
    assert noise[:2] == (loss['p_mean'], loss['p_std']) and loss['sigma_data'] == 0.5
    assert noise[2:] == (found.optim.ref_batches, network['channels'])


@pytest.mark.parametrize(
    'pixels, pair, size, nimg',
    [(512, 's', 'xs', 2**27), (512, 'xxl', 'm', 2**28), (512, 's-uncond', 'xs-uncond', 2**27),
     (64, 's', 'xs', 2**27)],
)  # fmt: skip
def test_a_guide_of_the_paper_is_the_beginning_of_the_full_run(pixels, pair, size, nimg):
    guide, full = config.load(f'{file(pixels)}:{pair}')['guide'], load(pixels, f'{size}-main')
    assert guide['train']['total_nimg'] == nimg and nimg in full.train.snapshots()
    guide['train']['total_nimg'] = full.train.total_nimg
    assert config.parse(run_settings.Settings, guide) == full


def costs(pixels):
    """run → (Mi images, chip-hours) in the head of a recipe; guides as size@Mi."""
    head = ast.get_docstring(ast.parse(file(pixels).read_text()))
    table = head[head.index('run   ') :].split('\n\n')[0]
    found = {}
    for line in table.splitlines()[1:]:
        left, _, right = line.partition('|')
        name, nimg, hours = left.split()
        found[name] = int(nimg), int(hours)
        if right.strip():
            *_, size, nimg, hours = right.split()
            found[f'{size}@{nimg}'] = int(nimg), int(hours)
    return found


@pytest.mark.parametrize('pixels', ROWS)
def test_chip_hours_in_the_head_are_six_flops_per_multiply_add(pixels):
    """By the published counts, which have what is elementwise as well: 1.5 % more."""
    found, peak = costs(pixels), chips.CHIPS['v5e'].flops
    assert {name for name in found if name.endswith('-main')} == {f'{n}-main' for n in ROWS[pixels]}
    for name, (mi, hours) in found.items():
        size = re.match(r'[a-z]+', name)[0]
        least = 6 * GMAC[size] * 1e9 * mi * MI / peak / 3600
        assert hours == pytest.approx(least, rel=0.03, abs=0.5), name
        if name.endswith('-main'):
            assert mi * MI == load(pixels, name).train.total_nimg
    pairs = {name: config.load(f'{file(pixels)}:{name}') for name in ROWS[pixels]}
    guides = {p['guide']['train']['total_nimg'] // MI for p in pairs.values() if 'guide' in p}
    assert guides == {mi for name, (mi, _) in found.items() if '@' in name}


@pytest.mark.parametrize('size, parameters', [('s', 280_209_381), ('xl', 1_119_276_837)])
def test_parameters_of_imagenet_64_are_those_published(size, parameters):
    run = programs.Run(load(64, f'{size}-main'))
    assert run.params == parameters
    assert run.shape == (64, 64, 3)


@pytest.mark.parametrize('pixels, name', RUNS)
def test_every_pair_is_fit_for_a_plan(pixels, name):
    found = config.parse(plan.Settings, config.load(f'{file(pixels)}:{name}'))
    assert found.guide is None or found.guide.network.settings['label_dim'] in (0, 1000)


@pytest.mark.parametrize(
    'pixels, name', [(64, 'm-main'), (64, 'xs-uncond-main'), (512, 's-uncond-guide')]
)
def test_a_narrow_copy_of_a_recipe_steps_once(pixels, name, tmp_path):
    """With labels, dropout and split parameters; without any of them; and in latents."""
    side = {64: 8, 512: 4}[pixels]
    contents = {64: image_sets.official, 512: latent_files}[pixels](6)
    path = image_sets.store(tmp_path / 'data', contents, zipped=True)
    tree = config.load(f'{file(pixels)}:{name}', [('data.path', path)], run_settings.Settings)
    lengths = ('total_nimg', 'batch_size', 'snapshot_nimg', 'checkpoint_nimg', 'log_nimg')
    tree['train'].update(dict.fromkeys(lengths, 4))
    classes = 0 if 'uncond' in name else 3
    assert tree['network']['label_dim'] == (1000 if classes else 0)
    tree['network'].update(
        resolution=side, model_channels=8, channels_per_head=8, channel_mult=(1,), num_blocks=1,
        attn_resolutions=(side,), label_dim=classes, dtype='float32',
    )  # fmt: skip
    tree['mesh'].update({'shards': 2} if 'shards' in tree['mesh'] else {})
    assert train.main(config.parse(run_settings.Settings, tree), tmp_path / 'run')['nimg'] == 4
    made = files.read_json(tmp_path / 'run' / 'config.json')
    assert made['dataset']['num_classes'] == made['network']['label_dim'] == classes
    assert made['dataset']['channels'] == {64: 3, 512: 4}[pixels]


def test_a_recipe_without_a_path_of_images_says_so(tmp_path, capsys):
    words = ['train', f'--config={file(64)}:s-main', f'--workdir={tmp_path}']
    assert command_line(words) == 2
    assert 'data.path' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
