"""Sets of latents: the layouts that people have, what `encode` writes, killed or not; their use."""

import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import hosts
import jax
import numpy as np
import pytest
import random_run
import tiny
import vae_weights
from image_sets import official, store
from PIL import Image
from tiny import one_conv  # noqa: F401

from autoguide_jax import __main__ as cli
from autoguide_jax import config, files, latent_stats, latents, mesh, placement, sample_sets
from autoguide_jax.autoencoder import Autoencoder
from autoguide_jax.backbones import EDM2UNet
from autoguide_jax.data import latent_parts, open_dataset
from autoguide_jax.denoiser import Denoiser
from autoguide_jax.frozen import sd_vae
from autoguide_jax.metrics.metric import Bank
from autoguide_jax.pairs import Pair, open_autoencoder
from autoguide_jax.refs import NetworkRef
from autoguide_jax.sweep import campaign

ROOT = pathlib.Path(cli.__file__).parent.parent
COUNT = 22


def moments(row):
    """Mean and std of sample `row`, float32 [8, 4, 4]."""
    drawn = np.random.default_rng(row).normal(size=(8, 4, 4)).astype(np.float32)
    drawn[4:] = np.exp(drawn[4:] - 2)
    return drawn


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def edm2(count=6):
    """The layout of EDM2; sample i is moments(i), its label i mod 3."""
    names = [latent_parts.member(row) for row in range(count)]
    contents = {name: npy(moments(row)) for row, name in enumerate(names)}
    labels = [[name, row % 3] for row, name in enumerate(names)]
    return contents | {'dataset.json': json.dumps({'labels': labels}).encode()}


def ours(path, count=6, size=4):
    """The same as `encode` writes it."""
    manifest = {'format': latent_parts.FORMAT, 'images': count, 'resolution': 4, 'channels': 4}
    files.write_json(path / 'manifest.json', {**manifest, 'part_images': size})
    for part, first in enumerate(range(0, count, size)):
        some = np.stack([moments(row) for row in range(first, min(first + size, count))])
        files.write_bytes(path / latent_parts.part_name(part), latent_parts.pack(first, some))
    (path / 'dataset.json').write_bytes(edm2(count)['dataset.json'])
    return str(path)


def opened(path, **settings):
    return open_dataset('latents', path=str(path), **settings)


def places(tmp_path):
    yield store(tmp_path / 'folder', edm2())
    yield store(tmp_path / 'zip', edm2(), zipped=True)
    yield ours(tmp_path / 'ours')


def test_every_layout_is_read_by_index(tmp_path):
    expected = np.stack([moments(i).transpose(1, 2, 0) for i in (5, 0, 5, 3)])
    for path in places(tmp_path):
        data = opened(path)
        assert (data.num_images, data.resolution, data.channels) == (6, 4, 4)
        assert data.holds == 'latents' and data.num_classes == 3
        found, labels = data.examples([5, 0, 5, 3])
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
        assert labels.tolist() == [2, 0, 2, 0]
        hidden = opened(path, labels=False, max_images=2)
        assert hidden.examples([1])[1].tolist() == [-1]
        assert len({data.fingerprint, hidden.fingerprint, opened(path).fingerprint}) == 2


def test_parts_unpacked_are_the_layout_of_edm2(tmp_path):
    for name in pathlib.Path(ours(tmp_path / 'ours')).glob('*.zip'):
        with zipfile.ZipFile(name) as archive:
            assert archive.testzip() is None
            archive.extractall(tmp_path / 'unpacked')
    (tmp_path / 'unpacked' / 'dataset.json').write_bytes(edm2()['dataset.json'])
    np.testing.assert_array_equal(
        opened(tmp_path / 'unpacked').images(range(6)), opened(tmp_path / 'ours').images(range(6))
    )


@pytest.mark.parametrize(
    'array, message',
    [
        (np.zeros((3, 4, 4), np.uint8), r'is uint8 \[3, 4, 4\]; latents are float32 \[2l, h, w\]'),
        (np.zeros((7, 4, 4), np.float32), r'is float32 \[7, 4, 4\]'),
        (np.zeros((8, 4, 2), np.float32), r'is 2x4 \(width x height\); latents must be square'),
        (np.full((8, 4, 4), np.nan, np.float32), 'is damaged: .* not finite'),
        (np.full((8, 4, 4), -0.1, np.float32), 'holds deviations below 0: the second half of'),
    ],
)
def test_what_is_no_latent_is_named(tmp_path, array, message):
    path = store(tmp_path / 'set', {'c/a.npy': npy(array)})
    with pytest.raises(ValueError, match=rf'path \({path}\): c/a.npy {message}'):
        opened(path).images([0])


def test_damage_is_named(tmp_path):
    path = pathlib.Path(ours(tmp_path / 'ours'))
    part = path / latent_parts.part_name(1)
    whole = part.read_bytes()
    at = whole.index(moments(5).tobytes()) + 40
    part.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    np.testing.assert_array_equal(opened(path).images([4])[0], moments(4).transpose(1, 2, 0))
    fix = 'Delete part-00001.zip and run the same `encode` command again'
    with pytest.raises(ValueError, match=rf'00000005.npy is damaged: its checksum in .*{fix}'):
        opened(path).images([5])
    data = opened(path)
    part.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ValueError, match=rf'damaged: part-00001.zip is cut short .*{fix}'):
        data.images([5])
    part.unlink()
    with pytest.raises(ValueError, match='part-00001.zip is missing: copy the whole set, or run'):
        data.images([5])


def test_unfinished_sets_are_refused(tmp_path):
    path = pathlib.Path(ours(tmp_path / 'ours'))
    (path / 'dataset.json').unlink()
    (path / latent_parts.part_name(1)).unlink()
    with pytest.raises(ValueError, match='not finished: 1 of 2 parts .* same `encode` command'):
        opened(path)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Flags of an image set with labels and of a narrow autoencoder."""
    folder = tmp_path_factory.mktemp('source')
    contents = official(COUNT)
    for name, data in contents.items():
        if name.endswith('.png'):
            file = io.BytesIO()
            Image.open(io.BytesIO(data)).resize((16, 16)).save(file, 'png')
            contents[name] = file.getvalue()
    images = store(folder / 'images', contents, zipped=True)
    vae = vae_weights.write(folder / 'vae.safetensors', old=True)
    return ['--config.data.name=folder', f'--config.data.path={images}', f'--config.vae={vae}']


def run_encode(source, workdir, *more):
    flags = ['--config.batch_size=4', '--config.part_images=6', f'--workdir={workdir}']
    return cli.main(['encode', *source, *flags, *more])


@pytest.fixture(scope='module')
def encoded(source, tmp_path_factory):
    path = tmp_path_factory.mktemp('encoded') / 'latents'
    assert run_encode(source, path) == 0
    return path


def test_encode_writes_the_posterior_of_every_image(source, encoded):
    data = opened(encoded)
    images = open_dataset('folder', path=source[1].partition('=')[2])
    assert data.labels.tolist() == images.labels.tolist() and data.num_images == COUNT
    weights = Autoencoder(source[2].partition('=')[2]).weights
    mean, std = jax.jit(sd_vae.encode)(weights, images.images([7, 21]).astype(np.float32) / 255)
    expected = np.concatenate([mean, std], -1)
    np.testing.assert_allclose(data.images([7, 21]), expected, rtol=1e-4, atol=1e-5)
    manifest = files.read_json(encoded / 'manifest.json')
    assert manifest['source']['fingerprint'] == images.fingerprint
    assert manifest['vae']['content_hash'] == Autoencoder(source[2].partition('=')[2]).content_hash


def test_killed_and_started_again_is_the_same_set(source, encoded, tmp_path):
    """Killed (-9) with a part half written: two of four parts are there, and none is half."""
    flags = [*source, '--config.batch_size=4', '--config.part_images=6', f'--workdir={tmp_path}']
    program = f"""
import os, sys
from autoguide_jax import __main__ as cli
replace, seen = os.replace, []
def killing(a, b):
    if str(b).endswith('.zip'):
        seen.append(b)
    if len(seen) == 3:
        os.kill(os.getpid(), 9)
    replace(a, b)
os.replace = killing
sys.exit(cli.main(['encode', '--devices=2', *{flags!r}]))
"""
    killed = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    parts = sorted(p.name for p in tmp_path.glob('part-*.zip'))
    assert parts == ['part-00000.zip', 'part-00001.zip']
    assert len([p for p in os.listdir(tmp_path) if p.endswith('.tmp')]) == 1
    with pytest.raises(ValueError, match='not finished: 2 of 4 parts'):
        opened(tmp_path)
    assert run_encode(source, tmp_path) == 0
    for file in encoded.iterdir():
        if file.name != 'manifest.json':
            assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name


def test_two_hosts_share_the_parts(source, encoded, tmp_path):
    flags = ['--config.batch_size=4', '--config.part_images=6', f'--workdir={tmp_path}']
    texts = hosts.run('encode', *source, *flags, count=2)
    assert ['10/10 img' in texts[1][1], '12/12 img' in texts[0][1]] == [True, True]
    for file in encoded.glob('*.zip'):
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name
    assert opened(tmp_path).fingerprint == opened(encoded).fingerprint


def test_decoding_depends_neither_on_batch_nor_on_devices(source):
    vae, encoding = Autoencoder(source[2].partition('=')[2]), latents.SDVAE()
    x = vae_weights.latents(4) / 4
    whole = np.asarray(vae.images(encoding, x, mesh.own(4))).astype(int)
    assert whole.shape == (4, 12, 12, 3) and whole.std() > 20
    for size in (1, 4):
        devices = mesh.over(jax.devices()[:1])
        parts = [vae.images(encoding, x[i : i + size], devices) for i in range(0, 4, size)]
        assert np.abs(np.concatenate(parts) - whole).max() <= 1


def test_parts_cut_short_are_made_again(source, encoded, tmp_path):
    """By the command that the reader's error names, without deleting anything by hand."""
    copy = shutil.copytree(encoded, tmp_path / 'copy')
    for name, length in (('part-00001.zip', 0.4), ('part-00003.zip', 0.99)):
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[: int(length * len(data))])
    with pytest.raises(ValueError, match='part-00001.zip is cut short'):
        opened(copy).images([11])
    stamps = {file.name: file.stat().st_mtime_ns for file in copy.glob('*.zip')}
    assert run_encode(source, copy) == 0
    for file in encoded.glob('*.zip'):
        assert file.read_bytes() == (copy / file.name).read_bytes()
    changed = {n for n, stamp in stamps.items() if (copy / n).stat().st_mtime_ns != stamp}
    assert changed == {'part-00001.zip', 'part-00003.zip'}


def test_encode_keeps_out_of_run_directories(source, tmp_path, capsys):
    files.write_json(tmp_path / 'config.json', {})
    assert run_encode(source, tmp_path) == 2
    assert f'--workdir ({tmp_path}) is a run directory' in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ['config.json']


@pytest.mark.parametrize(
    'more, message',
    [
        (['--config.part_images=5'], 'holds other latents (part_images: 6 there, 5 here)'),
        (['--config.vae='], 'vae is empty: encode needs it; give --config.vae=PATH'),
        (['--config.vae=/no/vae.npz'], 'vae (/no/vae.npz): there is no such file'),
        (['--config.data.name=digits'], 'must have sides that 2 divides and 3 channels'),
        (['--config.data.name=toy'], 'data.name (toy): it holds points; give a set of images'),
        (['--config.vae_dtype=float64'], "vae_dtype ('float64') must be 'float32' or 'bfloat16'"),
    ],
)
def test_encode_refuses(source, encoded, capsys, more, message):
    given = source[2:] if more[0].startswith('--config.data') else source
    assert run_encode(given, encoded, *more) == 2
    told = capsys.readouterr().err
    assert message in told and 'JAX' not in told


def test_constant_channels_have_no_statistics_to_type(tmp_path, capsys):
    contents = {}
    for row in range(6):
        sample = moments(row)
        sample[[2, 6]] = np.array([0.1, 0])[:, None, None]
        contents[f'{row}.npy'] = npy(sample)
    data = [f'--config.data.path={store(tmp_path / "a", contents)}', '--config.data.labels=False']
    assert cli.main(['latent-stats', *data]) == 2
    told = capsys.readouterr()
    assert 'channels [2] are constant' in told.err and '--config.latents' not in told.out


def test_statistics_are_those_of_the_draws(tmp_path, source, encoded, capsys):
    """(2) against the formula written out, and against 2,000 draws of every place."""
    settings = config.parse(latent_stats.Settings, {'data': {'path': ours(tmp_path / 'a', 6)}})
    rows = latent_stats.main(settings)
    stored = np.stack([moments(i) for i in range(6)]).astype(np.float64)
    drawn = stored[:, :4] + stored[:, 4:] * np.random.default_rng(0).normal(size=(2000, 6, 4, 4, 4))
    assert [row['images'] for row in rows] == [6] * 4
    variance = stored[:, :4].var((0, 2, 3)) + (stored[:, 4:] ** 2).mean((0, 2, 3))
    for i, row in enumerate(rows):
        assert row['mean'] == pytest.approx(stored[:, i].mean(), abs=1e-7)
        assert row['std'] == pytest.approx(np.sqrt(variance[i]), rel=1e-7)
        assert row['std'] == pytest.approx(drawn[:, :, i].std(), rel=0.02)
        x = row['scale'] * drawn[:, :, i] + row['bias']
        assert (x.mean(), x.std()) == pytest.approx((0, 0.5), abs=0.02)
    assert '--config.latents.scale=' in capsys.readouterr().out
    assert cli.main(['latent-stats', *source]) == 0
    from_images = capsys.readouterr().out.splitlines()[0]
    assert cli.main(['latent-stats', f'--config.data.path={encoded}']) == 0
    assert capsys.readouterr().out.splitlines()[0] == from_images


TRAIN = [
    '--config.latents.name=sd_vae', '--config.network.name=one_conv', '--config.loss.p_mean=-0.4',
    '--config.train.batch_size=8', '--config.train.total_nimg=32', '--config.optim.lr=0.01',
    *(f'--config.train.{name}_nimg=32' for name in ('snapshot', 'checkpoint', 'log')),
]  # fmt: skip


def test_train_on_latents_and_sample_images(one_conv, source, encoded, tmp_path, capsys):  # noqa: F811
    """From the command line: a run on latents, whose samples come out as 16×16 images."""
    run, out = tmp_path / 'run', tmp_path / 'out'
    data = ['--config.data.name=latents', f'--config.data.path={encoded}']
    assert cli.main(['train', *data, *TRAIN, f'--workdir={run}']) == 0
    tree = files.read_json(run / 'config.json')
    assert (tree['network']['resolution'], tree['network']['channels']) == (8, 4)
    assert np.isfinite(files.read_jsonl(run / 'metrics.jsonl')[-1]['loss'])
    sample = ['sample', f'--config.main.run={run}', '--config.sample.seeds=0-5']
    sample += ['--config.sample.batch_size=4', '--config.sampler.num_steps=2', f'--workdir={out}']
    assert cli.main(sample) == 2
    told = capsys.readouterr().err
    assert 'vae is empty' in told and f'main.run ({run}) draws latents' in told
    assert 'diffusion_pytorch_model.safetensors of stabilityai/sd-vae-ft-mse' in told
    assert cli.main([*sample, source[2]]) == 0
    images = [np.asarray(Image.open(p)) for p in sorted(out.glob('*/*/*.png'))]
    assert len(images) == 6 and {image.shape for image in images} == {(16, 16, 3)}
    assert len({image.tobytes() for image in images}) == 6
    manifest = files.read_json(out / 'manifest.json')
    assert manifest['vae']['dtype'] == 'float32' and manifest['networks']['main']['latents']
    assert cli.main([*sample, source[2], '--config.vae_dtype=bfloat16']) == 2
    capsys.readouterr()
    evaluate = ['evaluate', f'--images={out}', *data, f'--workdir={out}']
    assert cli.main(evaluate) == 2
    assert 'holds latents, and metrics compare images' in capsys.readouterr().err


@pytest.mark.parametrize(
    'given, message',
    [
        (['--config.data.name=digits'], 'digits holds images, which take latents.name=pixels'),
        (['--config.latents.name=pixels'], 'holds latents, which take latents.name=sd_vae'),
        (['--config.latents.scale=1,1'], 'as many as bias'),
        (['--config.latents.scale=1,1', '--config.latents.bias=0,0'], 'has 2 channels; samples'),
    ],
)
def test_latents_and_data_must_fit(one_conv, encoded, tmp_path, capsys, given, message):  # noqa: F811
    data = ['--config.data.name=latents', f'--config.data.path={encoded}']
    data = [] if given[0].startswith('--config.data') else data
    assert cli.main(['train', *data, *TRAIN, *given, f'--workdir={tmp_path}']) == 2
    assert message in capsys.readouterr().err


def test_a_study_on_latents_needs_the_autoencoder_before_it_trains(tmp_path, capsys):
    settings = ['--config=configs/digits.py', '--config.runs.guide.latents.name=sd_vae']
    assert cli.main(['study', *settings, f'--workdir={tmp_path}']) == 2
    told = capsys.readouterr().err
    assert 'vae is empty: runs.guide learns latents; give --config.vae=PATH' in told
    assert not (tmp_path / 'runs').exists()


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run directory with random weights that draws latents of 8×8."""
    folder = tmp_path_factory.mktemp('runs') / 'main'
    network = Denoiser(EDM2UNet(8, 4, 0, 8, (1,), 1, (), 8))
    random_run.write(folder, network, tiny.variables(network, 0))
    tree = files.read_json(folder / 'config.json')
    files.write_json(folder / 'config.json', tree | {'latents': {'name': 'sd_vae'}})
    return str(folder)


class Counted:
    """An Evaluator that only counts."""

    identity = 'counted'

    def __init__(self, *_, allow_fewer, count):
        assert not allow_fewer and count == 8

    def check_defined(self, name):
        assert name == 'frechet'

    def banks(self, batches):
        bank = Bank()
        for images, _ in batches:
            bank.extend({'features': np.zeros((len(images), 1), np.float32)})
        return {'counted': bank}

    def judge(self, banks):
        return {'metrics': {'frechet': 1.0, 'count': banks['counted'].count}}

    def describe(self):
        return {}


def sweep_of(run, source, *more):
    flags = [*source[:2], '--config.sampler.num_steps=2', '--config.score.metrics=frechet']
    flags += [f'--config.score.{k}' for k in ('images=8', 'batch_size=8', 'examples=3')]
    return cli.main(['sweep', f'--config.main.run={run}', *flags, *more])


def test_a_sweep_on_latents_keeps_examples(run, source, tmp_path, monkeypatch):
    """Images of the autoencoder, drawn with the networks that the scores have on the devices."""
    placed, init = [], placement.Placement.__init__
    monkeypatch.setattr(placement.Placement, '__init__', lambda *a: placed.append(a[0]) or init(*a))
    monkeypatch.setattr(campaign, 'Evaluator', Counted)
    assert sweep_of(run, source, source[2], f'--workdir={tmp_path / "s"}') == 0
    (file,) = (tmp_path / 's' / 'examples').iterdir()
    with files.open_npz(file) as kept:
        assert kept['images'].shape == (3, 16, 16, 3) and kept['images'].std() > 5
    assert len(placed) == 1
    sample = ['--config.sample.seeds=0-2', '--config.sampler.num_steps=2', source[2]]
    sample += [f'--config.main.run={run}', f'--workdir={tmp_path / "out"}']
    assert cli.main(['sample', *sample]) == 0
    drawn = next(iter(sample_sets.open_set(tmp_path / 'out').batches(3)))[0]
    with files.open_npz(file) as kept:
        assert np.abs(kept['images'].astype(int) - drawn).max() <= 1


def test_another_autoencoder_is_found_before_anything_is_made(
    run, source, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(campaign, 'Evaluator', lambda *_: pytest.fail('too late'))
    files.save_npz(tmp_path / 'a.npz', {'x': np.zeros(3)})
    foreign, made = f'--config.vae={tmp_path / "a.npz"}', tmp_path / 'made'
    assert sweep_of(run, source, foreign, f'--workdir={made}') == 2
    assert 'is not an autoencoder such as' in capsys.readouterr().err
    study = ['study', '--config=configs/digits.py', '--config.runs.guide.latents.name=sd_vae']
    assert cli.main([*study, foreign, f'--workdir={made}']) == 2
    assert 'is not an autoencoder such as' in capsys.readouterr().err
    assert not list(made.rglob('*'))


@pytest.mark.parametrize('given', ['vae=x.npz', 'vae_dtype=bfloat16'])
def test_an_autoencoder_that_would_do_nothing_is_refused(encoded, tmp_path, capsys, given):
    network = Denoiser(EDM2UNet(8, 1, 0, 8, (1,), 1, (), 8))
    random_run.write(tmp_path / 'run', network, tiny.variables(network, 0))
    pixels = f'--config.main.run={tmp_path / "run"}'
    for command, why in {
        ('sample', pixels): 'draws images',
        ('sweep', pixels): 'draws images',
        ('study', '--config=configs/digits.py'): 'no run learns latents',
        ('study', '--config=configs/toy.py'): 'the study draws points',
        ('latent-stats', f'--config.data.path={encoded}'): 'holds latents',
    }.items():
        toy = 'arms.none.' if 'toy' in command[1] else ''
        flags = [f'--config.{toy}{given}', f'--workdir={tmp_path / "out"}']
        assert cli.main([*command, *flags[: 1 if command[0] == 'latent-stats' else 2]]) == 2
        told = capsys.readouterr().err
        name, _, value = given.partition('=')
        assert f'{name} ({value}) would do nothing: ' in told and why in told, command
    assert not list((tmp_path / 'out').rglob('*'))


def test_other_files_are_no_autoencoder(tmp_path):
    files.save_npz(tmp_path / 'a.npz', {'x': np.zeros(3)})
    with pytest.raises(ValueError, match=r'vae \(.*a.npz\) is not an autoencoder such as'):
        Autoencoder(tmp_path / 'a.npz')


def test_an_autoencoder_of_other_channels_is_refused(tmp_path):
    """Before anything is compiled."""
    space = {'name': 'sd_vae', 'scale': [1.0] * 16, 'bias': [0.0] * 16}
    tree = {'network': {'name': 'edm2_unet', 'resolution': 8, 'channels': 16}, 'latents': space}
    files.write_json(tmp_path / 'run/config.json', tree)
    vae = vae_weights.write(tmp_path / 'vae.npz')
    with pytest.raises(ValueError, match=r'decodes 4 channels; main.run .* draws 16'):
        open_autoencoder(Pair(NetworkRef(str(tmp_path / 'run')), vae=vae))
