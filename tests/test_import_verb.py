"""`import` makes run directories that everything else takes; `export-network` is its inverse."""

import pathlib

import fuzz_importer
import jax
import numpy as np
import published_files as pf
import pytest
import tiny
from bucket import bucket  # noqa: F401

from autoguide_jax import ema, files, reconstruct, snapshots, state_dicts
from autoguide_jax.__main__ import main as command_line
from autoguide_jax.importers import edm2, export, program
from autoguide_jax.snapshots import posthoc

MI = 2**20
INIT = {**fuzz_importer.INIT, 'img_channels': 3, 'dropout': 0.1}
VARIANTS = {
    'labelled': {'channels': 3},
    'unconditional': {'channels': 3, 'label_dim': 0},
    'attention': {
        'channels': 4, 'resolution': 8, 'channel_mult': (1, 2), 'attn_resolutions': (8, 4)
    },
}  # fmt: skip


def state_of(seed=0, **changes):
    denoiser = tiny.denoiser(**{'channels': 3, **changes})
    state = edm2.to_state_dict(denoiser, tiny.variables(denoiser, seed))
    return {name: value.astype(np.float16) for name, value in state.items()}


def published_file(folder, name='edm2-img4-xs-0001048-0.050.pkl', seed=0, init=INIT, **more):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(pf.network_file(state_of(seed), init, **more))
    return folder / name


def run(*src, workdir, **settings):
    names = tuple(str(s) for s in src)
    return program.main(program.Settings(src=names, **settings), workdir)


def arrays_of(run_dir, std=0.05, nimg=None):
    return snapshots.load_network(run_dir, std, nimg, place=lambda v: v)


def test_a_published_file_becomes_a_run_directory(tmp_path, capsys):
    file = published_file(tmp_path)
    workdir = tmp_path / 'run'
    words = ['import', f'--src={file}', f'--workdir={workdir}']
    assert command_line(words) == 0
    out = capsys.readouterr()
    assert file.name in out.out and 'now' in out.out and 'warning' not in out.err.lower()
    config = files.read_json(workdir / 'config.json')
    assert config['latents'] == {'name': 'pixels'}
    assert config['network']['dropout'] == 0.1 and config['network']['label_dim'] == 3
    assert config['denoiser'] == {'name': 'edm', 'sigma_data': 0.5, 'logvar_channels': 128}
    told = config['imported']
    facts = {'name': file.name, 'sha256': files.sha256(file), 'nimg': MI, 'std': 0.05}
    assert told['files'] == [facts]
    assert told['encoder'] == {'class': 'StandardRGBEncoder'}
    assert told['dataset_kwargs']['path'] == 'images.zip' and told['init'] == INIT
    assert [s.dtype for s in snapshots.list_snapshots(workdir)] == ['float16']

    network = arrays_of(workdir)
    denoiser, variables = edm2.from_state_dict(state_of(), 8, dropout=0.1)
    assert network.denoiser == denoiser
    jax.tree.map(np.testing.assert_array_equal, network.variables, variables)
    assert command_line(words) == 0
    assert 'before' in capsys.readouterr().out


@pytest.mark.parametrize('core', ['numpy.core.multiarray', 'numpy._core.multiarray'])
def test_the_statistics_of_a_vae_are_those_of_the_file(core, tmp_path):
    state = state_of(channels=4)
    file = tmp_path / 'edm2-img8-s-0001048-0.100.pkl'
    init = {**INIT, 'img_channels': 4}
    file.write_bytes(pf.network_file(state, init, pf.vae_encoder(core)))
    assert run(file, workdir=tmp_path / 'run')[0]['latents'] == 'sd_vae'
    latents = files.read_json(tmp_path / 'run/config.json')['latents']
    assert latents == {'name': 'sd_vae', 'scale': [1, 2, 3, 4], 'bias': [5, 6, 7, 8]}
    file.write_bytes(pf.network_file(state, init, pf.vae_encoder(core, scale=(1, 2))))
    with pytest.raises(ValueError, match=r'file\.latents\.scale \(\(1\.0, 2\.0\)\)'):
        run(file, workdir=tmp_path / 'other')


def test_a_raw_series_gives_new_ema_lengths(tmp_path):
    moments, stds, states = [MI * n for n in range(1, 5)], (0.05, 0.1), {}
    frozen = {k: v for k, v in state_of().items() if k.endswith(('freqs', 'phases'))}
    for i, nimg in enumerate(moments):
        for j, std in enumerate(stds):
            states[nimg, std] = state_of(seed=2 * i + j) | frozen
            name = f'edm2-img4-xs-{nimg // 1000:07d}-{std:.3f}.pkl'
            (tmp_path / name).write_bytes(pf.network_file(states[nimg, std], INIT))
    rows = run(tmp_path / 'edm2-img4-xs-*.pkl', workdir=tmp_path / 'run')
    assert [(row['nimg'], row['std']) for row in rows] == sorted(states)
    settings = reconstruct.Settings(str(tmp_path / 'run'), stds=(0.08,))
    with pytest.warns(match='EMA profile .* off'):
        [row] = reconstruct.main(settings)
    assert row['snapshots'] == 8 and row['fit_error'] < 0.05
    with pytest.warns(match='EMA profile .* off'):
        network = arrays_of(tmp_path / 'run', 0.08)
    source = list(zip(*sorted(states)))
    x = ema.posthoc_coefficients(*source, moments[-1], 0.08)[:, 0]
    name = 'unet.enc.4x4_conv.weight'
    wanted = sum(c * states[key][name].astype(np.float64) for c, key in zip(x, sorted(states)))
    found = edm2.to_state_dict(network.denoiser, network.variables)
    np.testing.assert_allclose(found[name], wanted, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(found['logvar_fourier.freqs'], frozen['logvar_fourier.freqs'])


def test_what_was_interrupted_is_finished_by_the_same_command(tmp_path, monkeypatch):
    names = [f'edm2-img4-xs-0001048-{std}.pkl' for std in ('0.050', '0.100')]
    for name in names:
        published_file(tmp_path, name)
    save, done = snapshots.save, []

    def save_once(*args):
        if done:
            raise KeyboardInterrupt
        done.append(save(*args))

    monkeypatch.setattr(snapshots, 'save', save_once)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / '*.pkl', workdir=tmp_path / 'run')
    monkeypatch.undo()
    assert len(snapshots.list_snapshots(tmp_path / 'run')) == 1
    rows = run(tmp_path / '*.pkl', workdir=tmp_path / 'run')
    assert [row['imported'] for row in rows] == ['before', 'now']
    told = files.read_json(tmp_path / 'run/config.json')['imported']['files']
    assert [entry['name'] for entry in told] == names
    assert len(snapshots.list_snapshots(tmp_path / 'run')) == 2


def test_a_folder_gives_a_run_for_each_network(tmp_path):
    folder = tmp_path / 'downloads'
    for size, seed in (('xs', 0), ('s', 1)):
        published_file(folder, f'edm2-img4-{size}-0002097-0.050.pkl', seed)
    (folder / 'notes.txt').write_text('not a network')
    rows = run(folder, workdir=tmp_path / 'models')
    runs = sorted(pathlib.Path(row['run']).name for row in rows)
    assert runs == ['edm2-img4-s', 'edm2-img4-xs']
    assert arrays_of(tmp_path / 'models/edm2-img4-xs').nimg == 2 * MI
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='no file with a public name'):
        run(tmp_path / 'empty', workdir=tmp_path / 'models')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'label_dim': 0}, r'network\.label_dim: 3 there, 0 here'),
        ({'seed': 5}, r'buffers/backbone/emb_fourier/freqs has other values'),
        ({'seed': 0, 'again': True}, r'nimg 1048576, std 0\.05 came from'),
    ],
)
def test_a_run_of_another_network_is_refused(change, message, tmp_path):
    run(published_file(tmp_path / 'a'), workdir=tmp_path / 'run')
    again = change.pop('again', False)
    name = f'edm2-img4-xs-0001048-{"0.050" if again else "0.100"}.pkl'
    state = state_of(**change)
    if again:
        state['unet.out_gain'] = np.float16(3)
    (tmp_path / name).write_bytes(pf.network_file(state, INIT))
    before = sorted(tmp_path.glob('run/**/*'))
    with pytest.raises(ValueError, match=message):
        run(tmp_path / name, workdir=tmp_path / 'run')
    assert sorted(tmp_path.glob('run/**/*')) == before


def test_a_run_that_was_trained_is_refused(tmp_path):
    files.write_json(tmp_path / 'run/config.json', {'network': {}, 'train': {}})
    with pytest.raises(ValueError, match='was not imported'):
        run(published_file(tmp_path), workdir=tmp_path / 'run')


@pytest.mark.parametrize(
    ('init', 'message'),
    [
        ({'model_channels': 16}, r'model_channels \(16\) in the file, but its weights show 8'),
        ({'label_dim': 1000}, r'label_dim \(1000\)'),
        ({'attn_resolutions': []}, r'attn_resolutions \(\[\]\)'),
        ({'channels_per_head': 3}, r'channels_per_head \(3\)'),
        ({'channels_per_head': 0}, r'channels_per_head'),
        ({'dropout': '0.1'}, r'dropout .* must be a number'),
        ({'res_balance': 0.5}, r'res_balance \(0\.5\) is 0\.3'),
        ({'colour': 1}, r'colour=1, unknown'),
    ],
)
def test_settings_that_contradict_the_weights_are_refused(init, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(published_file(tmp_path, init=INIT | init), workdir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_damaged_file_leaves_nothing(tmp_path):
    file = published_file(tmp_path)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r'0\.050\.pkl, byte \d+: .*truncated'):
        run(file, workdir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
    state = state_of()
    state['unet.out_gain'] = np.float16('nan')
    file.write_bytes(pf.network_file(state, INIT))
    with pytest.raises(ValueError, match='out_gain is not finite'):
        run(file, workdir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_what_the_name_does_not_say_must_be_given(tmp_path):
    file = published_file(tmp_path, 'network.pkl')
    with pytest.raises(ValueError, match=r'says nimg: give --config\.nimg'):
        run(file, workdir=tmp_path / 'run')
    run(file, workdir=tmp_path / 'run', nimg=7 * MI, std=0.2)
    assert arrays_of(tmp_path / 'run', 0.2).nimg == 7 * MI
    named = published_file(tmp_path)
    with pytest.raises(ValueError, match=r'std \(0\.2\): the name of .* says 0\.05'):
        run(named, workdir=tmp_path / 'run', std=0.2)
    other = published_file(tmp_path, 'edm2-img4-s-0001048-0.050.pkl')
    with pytest.raises(ValueError, match='of different networks'):
        run(named, other, workdir=tmp_path / 'run')
    with pytest.raises(FileNotFoundError, match='no such file'):
        run(tmp_path / 'nothing.pkl', workdir=tmp_path / 'run')
    with pytest.raises(FileNotFoundError, match='no file has such a name'):
        run(tmp_path / 'nothing*.pkl', workdir=tmp_path / 'run')


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize('suffix', state_dicts.SUFFIXES)
@pytest.mark.parametrize('variant', VARIANTS)
def test_import_export_import_is_exact(variant, suffix, tmp_path):
    state = state_of(**VARIANTS[variant])
    first, out = tmp_path / f'edm2-img-0001048-0.050{suffix}', tmp_path / f'out{suffix}'
    state_dicts.write(first, state)
    run(first, workdir=tmp_path / 'a', channels_per_head=8)
    export.main(export.Settings(str(tmp_path / 'a'), 0.05, str(out)))
    same(state_dicts.read(out), state)
    # The header tells what the name and the shapes do not.
    run(out, workdir=tmp_path / 'b')
    a, b = (files.read_json(tmp_path / name / 'config.json') for name in 'ab')
    assert [a[part] for part in program.COMPARED] == [b[part] for part in program.COMPARED]
    assert arrays_of(tmp_path / 'a').content_hash == arrays_of(tmp_path / 'b').content_hash
    sources = [posthoc.assess(tmp_path / name, 0.05).sources[0].sha256 for name in 'ab']
    assert sources[0] == sources[1]


def test_the_2d_example_goes_there_and_back(tmp_path):
    rng = np.random.default_rng(0)
    state = {'gain': np.float32(0.5).reshape(())}
    shapes = {'layers.0.weight': (8, 4), 'layers.2.weight': (8, 8), 'layers.4.weight': (8, 8)}
    state |= {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    file = tmp_path / 'iter0512.pkl'
    file.write_bytes(pf.toy_file(state, {'num_layers': 2, 'hidden_dim': 8}))
    run(file, workdir=tmp_path / 'a', nimg=512 * 4096, std=0.01)
    config = files.read_json(tmp_path / 'a/config.json')
    assert config['network']['name'] == 'toy_mlp' and config['latents'] == {'name': 'points'}
    out = tmp_path / 'out.safetensors'
    export.main(export.Settings(str(tmp_path / 'a'), 0.01, str(out)))
    same(state_dicts.read(out), state)
    run(out, workdir=tmp_path / 'b')
    a, b = (arrays_of(tmp_path / name, 0.01) for name in 'ab')
    assert a.denoiser == b.denoiser and a.content_hash == b.content_hash
    bad = {**state, 'layers.4.weight': state['layers.4.weight'][:4]}
    file.write_bytes(pf.toy_file(bad, {'num_layers': 2, 'hidden_dim': 8}))
    with pytest.raises(ValueError, match=r'layers\.4\.weight: \(4, 8\), expected \(8, 8\)'):
        run(file, workdir=tmp_path / 'c', nimg=1, std=0.01)


def test_weights_of_other_types_are_refused(tmp_path):
    file = tmp_path / 'edm2-img-0001048-0.050.npz'
    state_dicts.write(file, {k: v.astype(np.float64) for k, v in state_of().items()})
    with pytest.raises(ValueError, match='holds float64'):
        run(file, workdir=tmp_path / 'run')
    with pytest.raises(ValueError, match=r'target: .* must end with \.npz or \.safetensors'):
        export.Settings('run', 0.1, 'a.pkl')


def test_an_imported_network_is_sampled_by_the_command_line(tmp_path):
    run(published_file(tmp_path), workdir=tmp_path / 'run')
    out, config = tmp_path / 'out', pathlib.Path(__file__).parents[1] / 'configs/pair.py'
    words = ['sample', f'--config={config}', f'--workdir={out}', '--config.sample.seeds=0-1']
    words += [f'--config.main.run={tmp_path}/run', '--config.main.std=0.05']
    words += ['--config.sampler.num_steps=4', '--config.sample.batch_size=2']
    assert command_line(words) == 0
    assert len(list(out.glob('images/*/*.png'))) == 2


def test_from_a_bucket_into_a_bucket(tmp_path, bucket):  # noqa: F811
    root = files.path(bucket) / tmp_path.name
    for std in ('0.050', '0.100'):
        local = published_file(tmp_path, f'edm2-img4-xs-0001048-{std}.pkl')
        files.write_bytes(root / 'files' / local.name, local.read_bytes())
    rows = run(root / 'files', workdir=root / 'models')
    assert len(rows) == 2 and rows[0]['run'] == str(root / 'models/edm2-img4-xs')
    network = arrays_of(root / 'models/edm2-img4-xs')
    state = edm2.to_state_dict(network.denoiser, network.variables)
    np.testing.assert_array_equal(state['unet.out_gain'], state_of()['unet.out_gain'])
    files.write_bytes(root / 'files/edm2-img4-xs-0001048-0.070.pkl', b'\x80\x04')
    with pytest.raises(ValueError, match=r'gs://.*0\.070\.pkl, byte 2'):
        run(root / 'files/edm2-img4-xs-0001048-0.070.pkl', workdir=root / 'other')
