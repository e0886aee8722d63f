"""Presets of the published networks: what they say, and sampling from a folder of models."""

import dataclasses
import shutil

import jax
import published_table
import pytest
import tiny
from published_table import FILE, PAGE, PRESETS, calls, settings

from autoguide_jax import config, files, generate, pairs, published, snapshots, sweep
from autoguide_jax.__main__ import main as command_line
from autoguide_jax.denoiser import Denoiser
from autoguide_jax.pairs import NetworkRef, Pair
from autoguide_jax.refs import run_of

one_conv = tiny.one_conv  # a fixture
NAME = 'img64-s-autog-fid'
MAIN, GUIDE = 'edm2-img64-s-1073741-0.045.pkl', 'edm2-img64-xs-0134217-0.110.pkl'


@pytest.mark.parametrize('name', PRESETS)
def test_every_preset_names_public_files_on_the_grid_that_the_paper_searched(name):
    preset, found = PRESETS[name], settings(name)
    on_grid = lambda value, step: round(value / step) * step == pytest.approx(value)
    for ref in found.refs().values():
        assert published.is_network(ref.run)
        said = published.read(published.file_name(ref.run, ref.nimg, ref.std))
        assert said == (ref.run, ref.nimg, ref.std)
        assert 0.01 <= ref.std <= 0.25 and on_grid(ref.std, 0.005)
    assert (found.guidance.weight == 1) == (preset.role is None)
    assert 1 <= found.guidance.weight <= 3.5 and on_grid(found.guidance.weight, 0.05)
    assert found.sample.classes == 'random' and found.sample.seeds == '0-49999'


def test_an_interval_is_as_many_steps_as_its_paper_says():
    """Two evaluations a step: 7 of 32 steps, and 6 (arXiv 2404.07724)."""
    steps = {'s-interval-fid': 7, 's-interval-dino': 7, 'xxl-interval-fid': 6}
    for name, count in steps.items():
        assert calls(f'img512-{name}') == (63, 2 * count)
    assert calls('img512-s-guid-fid') == (63, 63) and calls('img512-s-fid') == (63, 0)


def test_the_page_of_presets_is_what_the_presets_say():
    said = PAGE.read_text()
    assert said[said.index('| preset') :] == published_table.table(), 'make it anew'


@pytest.mark.parametrize('name', PRESETS)
def test_every_preset_is_resolved_without_any_file(name, capsys):
    for verb, arg in (('sample', name), ('sweep', f'{name}:sweep')):
        words = [verb, f'--config={FILE}:{arg}', '--config.models=nowhere', '--dry_run']
        assert command_line(words) == 0, capsys.readouterr().err
    grid = sweep.Grid(config.parse(sweep.Settings, config.load(f'{FILE}:{arg}')))
    pairs_of_sweep = [setting for _, setting in grid.points()]
    assert settings(name).guidance in [pair.guidance for pair in pairs_of_sweep]
    assert len(pairs_of_sweep) == (5 if PRESETS[name].role else 1)


@pytest.mark.parametrize(
    'arg, expected',
    [('', 'name a preset'), (':img512-s-autg-fid', "Did you mean 'img512-s-autog-fid'?")],
)
def test_without_a_known_name_the_presets_are_listed(arg, expected, capsys):
    assert command_line(['sample', f'--config={FILE}{arg}', '--workdir=never']) == 2
    said = capsys.readouterr().err
    assert expected in said and all(name in said for name in PRESETS)


def publish(folder, name, seed):
    """Make the run directory that importing a public file of a tiny network would."""
    network, nimg, std = published.read(name)
    net = Denoiser(tiny.OneConv(4, 3, 3))
    made = {'name': 'one_conv', 'resolution': 4, 'channels': 3, 'label_dim': 3}
    tree = {'network': made, 'denoiser': {'name': 'edm'}, 'latents': {'name': 'pixels'}}
    files.make_folder(folder / network)
    files.write_json(folder / network / 'config.json', tree)
    variables = tiny.variables(net, seed)
    params = jax.tree.map(lambda leaf: leaf[None], variables['params'])
    snapshots.save(folder / network, nimg, [std], params, variables.get('buffers', {}), 'float16')


@pytest.fixture
def models(tmp_path, one_conv):
    folder = tmp_path / 'models'
    publish(folder, MAIN, 0)
    publish(folder, GUIDE, 1)
    return folder


def preset(models, **changes):
    few = {'sample.seeds': '0-5', 'sample.batch_size': '6', 'sampler.num_steps': '3'}
    few['sample.stack'] = 'off'  # nothing to time
    overrides = {'models': str(models), **few, **changes}.items()
    tree = config.load(f'{FILE}:{NAME}', overrides, generate.Settings)
    return config.parse(generate.Settings, tree)


def test_a_preset_draws_from_a_folder_of_models_wherever_it_lies(models, tmp_path):
    out = tmp_path / 'out'
    assert generate.main(preset(models), out)['drawn'] == 6
    manifest = files.read_json(out / 'manifest.json')
    networks = manifest['networks']
    assert [networks[r]['run'] for r in networks] == ['edm2-img64-s', 'edm2-img64-xs']
    assert [networks[r]['nimg'] for r in networks] == [2**30, 2**27]
    assert manifest['classes'] == 'random' and str(models) not in str(networks)
    moved = tmp_path / 'moved'
    shutil.move(models, moved)
    assert generate.main(preset(moved), out)['drawn'] == 0
    with pytest.raises(ValueError, match='classes'):
        generate.main(preset(moved, **{'sample.classes': 'balanced'}), out)
    publish(moved, GUIDE, 2)
    with pytest.raises(ValueError, match='content_hash'):
        generate.main(preset(moved), out)


def test_what_decides_the_numbers_of_a_pair_does_not_depend_on_its_place(models, tmp_path):
    there = tmp_path / 'copy'
    shutil.copytree(models, there)
    pair = lambda folder: Pair(*(getattr(preset(folder), f.name) for f in dataclasses.fields(Pair)))
    identities = [pairs.identity(pairs.settled(pair(folder))) for folder in (models, there)]
    assert identities[0] == identities[1] and str(tmp_path) not in str(identities[0])
    assert str(tmp_path) not in str(pairs.setting_row(pairs.settled(pair(models))))
    publish(there, GUIDE, 2)
    assert pairs.identity(pair(there)) != identities[0]


def test_without_models_the_error_names_files_and_commands(models, tmp_path):
    with pytest.raises(ValueError) as caught:
        generate.main(preset(''), tmp_path / 'out')
    said = str(caught.value)
    assert 'models is empty' in said and '--config.models=FOLDER' in said
    for file in (MAIN, GUIDE):
        network = published.read(file).network
        assert f'import --src={file} --workdir=FOLDER/{network}' in said
    assert not (tmp_path / 'out').exists()


def test_an_empty_folder_of_models_is_told_with_all_that_lacks(tmp_path, one_conv):
    with pytest.raises(ValueError) as caught:
        generate.main(preset(tmp_path), tmp_path / 'out')
    for file in (MAIN, GUIDE):
        folder = tmp_path / published.read(file).network
        assert f'import --src={file} --workdir={folder}' in str(caught.value)
    assert 'models is empty' not in str(caught.value)


@pytest.mark.parametrize('other', ['0268435-0.110', '0134217-0.060'])
def test_another_snapshot_of_the_guide_is_not_it(other, models, tmp_path):
    shutil.rmtree(models / 'edm2-img64-xs')
    publish(models, f'edm2-img64-xs-{other}.pkl', 1)
    with pytest.raises(ValueError) as caught:
        generate.main(preset(models), tmp_path / 'out')
    said = str(caught.value)
    assert f'import --src={GUIDE} --workdir={models}/edm2-img64-xs' in said
    assert MAIN not in said  # which is there
    if other == '0134217-0.060':
        assert said.index('import --src') < said.index('one snapshot, of std 0.06')


def test_a_run_that_is_not_published_gets_no_such_advice(models):
    with pytest.raises(ValueError, match='config.json') as caught:
        pairs.settled(preset(models, **{'guide.run': 'mine'}))
    assert 'import' not in str(caught.value) and f'{models}/mine' in str(caught.value)


def test_the_folder_of_models_is_for_relative_paths():
    run = lambda name, models: run_of(NetworkRef(name), models)
    assert run('edm2-img64-s', 'gs://bucket/models') == 'gs://bucket/models/edm2-img64-s'
    assert run('gs://other/s', 'gs://bucket/models') == 'gs://other/s'
    assert run('/runs/s', 'models') == run('/runs/s', '') == '/runs/s'
    assert run('s', 'models/') == 'models/s' and run('s', '') == 's' and run('', 'models') == ''


def test_the_costs_in_the_head_are_those_of_its_networks():
    gmac = published_table.MODULE['gmac']
    s, xs, xxl, m = (f'edm2-img512-{size}' for size in ('s', 'xs', 'xxl', 'm'))
    hours = lambda *names: f'{sum(map(gmac, names)) * 1e9 * 2 * 63 * 50_000 / 197e12 / 3600:.1f}'
    said = f'S {hours(s)} alone, {hours(s, xs)} guided;\nXXL {hours(xxl)} alone, '
    said += f'{hours(xxl, xs)} by XS-uncond (CFG), {hours(xxl, m)} by M.'
    assert said in published_table.MODULE['__doc__']
