"""What a network file says of itself is checked before a run is written."""

import json
import random

import fuzz_importer
import numpy as np
import published_files as pf
import pytest
from test_import_verb import INIT, MI, published_file, run, state_of

from autoguide_jax import config, files, generate, latents, pairs, snapshots, state_dicts
from autoguide_jax.__main__ import main as command_line
from autoguide_jax.importers import conversion, edm2, export

SUFFIXES = pytest.mark.parametrize('suffix', state_dicts.SUFFIXES)
GOOD = {'init': {'channels_per_head': 8}, 'latents': {'name': 'pixels'}, 'nimg': MI, 'std': 0.1}
DEEP = '[' * 900 + ']' * 900


def exported(folder, text, suffix='.safetensors', **changes):
    file = folder / f'network{suffix}'
    state_dicts.write(file, state_of(**changes), {conversion.HEADER: text})
    return file


def latents_with(**changes):
    four = {'name': 'sd_vae', 'scale': [1, 2, 3, 4], 'bias': [0, 0, 0, 0]}
    return {'latents': four | changes}


@SUFFIXES
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'encoder': 'x'}, 'header is not that of an exported network'),
        ({'init': 'x'}, r"init \('x'\) must be settings"),
        ({'init': {'block_kwargs': 'abc'}}, r"block_kwargs \('abc'\) must be settings"),
        ({'init': {'use_fp16': {}}}, r'use_fp16 \(\{\}\) must be a number'),
        ({'init': {'sigma_data': 0}}, r'sigma_data \(0\) must be a number above 0'),
        ({'init': {'sigma_data': -1}}, r'sigma_data \(-1\)'),
        ({'init': {'sigma_data': float('inf')}}, r'sigma_data \(inf\)'),
        ({'init': {'channels_per_head': 8.0}}, r'channels_per_head \(8\.0\) must be a whole'),
        ({'init': {'channels_per_head': True}}, r'channels_per_head \(True\) must be a whole'),
        ({'nimg': float('inf')}, r'nimg \(inf\) must be int'),
        ({'nimg': 1.5}, r'nimg \(1\.5\) must be int'),
        ({'nimg': True}, r'nimg \(True\) must be int'),
        ({'nimg': 1e30}, r'nimg \(1e\+30\) must be int'),
        ({'nimg': 10**30}, r'nimg \(10+\) must be int'),
        ({'std': 'x'}, r"std \('x'\) must be float"),
        ({'std': 0.9}, r'EMA std \(0\.9\) must lie in'),
        ({'latents': None}, r'file\.latents: None is not'),
        ({'latents': 'foo'}, r"file\.latents\.name: unknown name 'foo'"),
        ({'latents': {'name': 'evil'}}, r"unknown name 'evil'"),
        ({'latents': {'name': ['a']}}, 'unknown name'),
        ({'latents': {'name': 'points'}}, r'latents \(points\)'),
        ({'latents': {'name': 'sd_vae'}}, r'has 4 channels; samples of this network are \[4, 4, 3'),
        (latents_with(scale=['a'] * 4), r"latents\.scale: 'a' is not a number"),
        (latents_with(scale=[0] * 4), r'latents\.scale .* must be numbers > 0'),
        (latents_with(bias=[float('nan')] * 4), r'latents\.'),
    ],
)
def test_a_header_that_lies_is_refused_and_nothing_is_written(change, message, suffix, tmp_path):
    change = {
        k: {**GOOD[k], **v} if k == 'init' and type(v) is dict else v for k, v in change.items()
    }
    file = exported(tmp_path, json.dumps(GOOD | change), suffix)
    with pytest.raises(ValueError, match=message):
        run(file, workdir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_header_of_lists_in_lists_is_refused(tmp_path):
    file = exported(tmp_path, f'{{"nimg": {DEEP}}}')
    with pytest.raises(ValueError, match='network.safetensors'):
        run(file, workdir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_mutated_headers_are_read_or_refused():
    rng, state = random.Random(0), fuzz_importer.small_state()
    found = [
        fuzz_importer.header_outcome(fuzz_importer.header(rng.randrange), state) for _ in range(60)
    ]
    assert {*found} == {'a header', 'a refused header'}


@pytest.mark.parametrize(
    ('init', 'message'),
    [
        ({'channels_per_head': 8.0}, r'channels_per_head \(8\.0\)'),
        ({'sigma_data': 0}, r'sigma_data \(0\)'),
        ({'sigma_data': float('inf')}, r'sigma_data \(inf\)'),
        ({'block_kwargs': 'abc'}, r"block_kwargs \('abc'\)"),
    ],
)
def test_a_pickle_that_lies_is_refused(init, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(published_file(tmp_path, init=INIT | init), workdir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('scale', [(0, 0, 0, 0), (1, -1, 1, 1), (1, 1, 1, float('nan'))])
def test_statistics_of_no_latents_are_refused(scale, tmp_path):
    file = tmp_path / 'edm2-img4-s-0001048-0.100.pkl'
    encoder = pf.vae_encoder(scale=scale)
    file.write_bytes(pf.network_file(state_of(channels=4), {**INIT, 'img_channels': 4}, encoder))
    with pytest.raises(ValueError, match=r'scale.* (must be numbers > 0|is not a number)'):
        run(file, workdir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
    with pytest.raises(ValueError, match='must be numbers'):
        latents.SDVAE(scale, (0, 0, 0, 0))


def test_an_ema_length_that_cannot_be_leaves_nothing(tmp_path):
    file = published_file(tmp_path, 'edm2-img4-xs-0001048-0.900.pkl')
    with pytest.raises(ValueError, match=r'0\.900\.pkl: EMA std \(0\.9\) must lie'):
        run(file, workdir=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@SUFFIXES
def test_every_setting_survives_an_export(suffix, tmp_path):
    statistics = {'name': 'sd_vae', 'scale': [1.0, 2.0, 3.0, 4.0], 'bias': [5.0, 6.0, 7.0, 8.0]}
    init = {**INIT, 'img_channels': 4, 'dropout': 0.1, 'sigma_data': 0.25}
    file = tmp_path / 'edm2-img4-s-0001048-0.100.pkl'
    file.write_bytes(pf.network_file(state_of(channels=4), init, pf.vae_encoder()))
    run(file, workdir=tmp_path / 'a')
    out = tmp_path / f'out{suffix}'
    export.main(export.Settings(str(tmp_path / 'a'), 0.1, str(out)))
    run(out, workdir=tmp_path / 'b')
    a, b = (files.read_json(tmp_path / name / 'config.json') for name in 'ab')
    assert a['latents'] == b['latents'] == statistics
    assert a['network'] == b['network'] and b['network']['dropout'] == 0.1
    assert a['denoiser'] == b['denoiser'] and b['denoiser']['sigma_data'] == 0.25
    denoiser, _ = edm2.from_state_dict(state_dicts.read(out), 8)
    assert denoiser.backbone.channels == 4


def test_another_container_holds_the_same_network(tmp_path):
    run(published_file(tmp_path), workdir=tmp_path / 'run')
    other = tmp_path / 'edm2-img4-xs-0001048-0.050.npz'
    state_dicts.write(other, state_of())
    more = {'channels_per_head': 8}
    with pytest.raises(ValueError, match='dropout'):
        run(other, workdir=tmp_path / 'run', **more)
    export.main(export.Settings(str(tmp_path / 'run'), 0.05, str(other)))
    assert [row['imported'] for row in run(other, workdir=tmp_path / 'run')] == ['before']
    changed = state_of() | {'unet.out_gain': np.float16(3)}
    header = state_dicts.read_metadata(other)
    state_dicts.write(other, changed, header)
    with pytest.raises(ValueError, match=r'nimg 1048576, std 0\.05 came from'):
        run(other, workdir=tmp_path / 'run')


def test_a_folder_says_which_name_the_settings_contradict(tmp_path):
    published_file(tmp_path / 'in')
    published_file(tmp_path / 'in', 'edm2-img4-xs-0002097-0.050.pkl')
    with pytest.raises(ValueError, match=r'nimg \(1048576\): the name of .*0002097.* says 2097152'):
        run(tmp_path / 'in', workdir=tmp_path / 'run', nimg=MI)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'latents': 'sd_vae'}, r'latents \(sd_vae\): the network draws pixels'),
        ({'channels_per_head': 4}, r'channels_per_head \(4\): the file says 8'),
        ({'sigma_data': 0.25}, r'sigma_data \(0\.25\): the file says 0\.5'),
        ({'sigma_data': float('inf')}, r'sigma_data \(inf\) must be a number'),
    ],
)
def test_settings_that_contradict_the_file_are_refused(given, message, tmp_path):
    file = published_file(tmp_path, init=INIT | {'sigma_data': 0.5})
    with pytest.raises(ValueError, match=message):
        run(file, workdir=tmp_path / 'run', **given)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    'given', [{'latents': 'pixels'}, {'channels_per_head': 8}, {'dtype': 'bfloat16'}]
)
def test_settings_that_the_2d_example_does_not_have_are_refused(given, tmp_path):
    state = {'gain': np.float32(0.5), 'layers.0.weight': np.ones((8, 4), np.float32)}
    state |= {'layers.2.weight': np.ones((8, 8), np.float32)}
    state_dicts.write(tmp_path / 'toy.npz', state)
    with pytest.raises(ValueError, match=next(iter(given))):
        run(tmp_path / 'toy.npz', workdir=tmp_path / 'run', nimg=MI, std=0.1, **given)
    run(tmp_path / 'toy.npz', workdir=tmp_path / 'run', nimg=MI, std=0.1)
    assert files.read_json(tmp_path / 'run/config.json')['latents'] == {'name': 'points'}


def test_heads_that_do_not_fit_name_their_setting(tmp_path):
    state = state_of(channels=3, resolution=8, channel_mult=(1, 2), attn_resolutions=(8, 4))
    file = tmp_path / 'edm2-img-0001048-0.050.npz'
    state_dicts.write(file, state)
    with pytest.raises(ValueError, match=r'give --config\.channels_per_head='):
        run(file, workdir=tmp_path / 'run')


def test_one_snapshot_is_no_other_length(tmp_path):
    run(published_file(tmp_path, 'edm2-img4-xs-0001048-0.115.pkl'), workdir=tmp_path / 'run')
    for std in (0.110, 0.108):
        with pytest.raises(ValueError, match=r'one snapshot, of std 0\.115\. Ask for that'):
            export.main(export.Settings(str(tmp_path / 'run'), std, str(tmp_path / 'out.npz')))
    assert not (tmp_path / 'out.npz').exists()


def test_a_reconstruction_says_so_wherever_it_goes(tmp_path):
    for i in range(1, 5):
        for std in ('0.050', '0.100'):
            name = f'edm2-img4-xs-{i * MI // 1000:07d}-{std}.pkl'
            published_file(tmp_path / 'in', name)
    run(tmp_path / 'in/*.pkl', workdir=tmp_path / 'run')
    out = tmp_path / 'out.npz'
    with pytest.warns(match='EMA profile'):
        export.main(export.Settings(str(tmp_path / 'run'), 0.08, str(out)))
    run(out, workdir=tmp_path / 'again')
    told = files.read_json(tmp_path / 'again/config.json')['imported']['files'][0]
    assert told['fit_error'] == snapshots.assess(tmp_path / 'run', 0.08).fit_error > 0.01
    tree = {'main': {'run': str(tmp_path / 'run'), 'std': 0.08}}
    tree |= {'guide': {'run': str(tmp_path / 'run'), 'std': 0.1}, 'guidance': {'weight': 2}}
    settings = config.parse(generate.Settings, tree)
    with pytest.warns(match='EMA profile'):
        calls, rules = pairs.Networks().calls(settings)
    manifest = generate.manifest(settings, calls, rules)
    assert manifest['provenance']['fit_error'] == {'main': told['fit_error']}


@pytest.mark.parametrize('verb', ['export-network', 'latent-stats'])
def test_verbs_without_a_workdir_do_not_offer_one(verb, capsys):
    assert command_line([verb, '--help']) == 0
    assert '--workdir' not in capsys.readouterr().out
    assert command_line([verb, '--workdir=out']) == 2
    assert '--workdir: unknown flag' in capsys.readouterr().err
