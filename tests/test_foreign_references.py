"""Published references: read as data, refused when they are not, and named for what they lack."""

import io
import pickle
import pickletools
import zipfile

import fake_features
import numpy as np
import pytest
from image_sets import encoded, official, pixels, store

from autoguide_jax import __main__ as cli
from autoguide_jax import evaluate, files, metrics, stats
from autoguide_jax.data import open_dataset
from autoguide_jax.inert import arrays as inert
from autoguide_jax.metrics import features, foreign_references
from autoguide_jax.metrics import reference as references

N = 24
INCEPTION = ('--config.features.name=inception', '--config.features.weights=w')
DINO = ('--config.also.dino.name=dinov2', '--config.also.dino.weights=v')


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    for name, target in fake_features.OPENERS.items():
        monkeypatch.setitem(features.table.table, name, target)


def gaussian(d, seed=0):
    x = np.random.default_rng(seed).normal(size=(4 * d, d))
    return {'mu': x.mean(0), 'sigma': np.cov(x.T)}


def edm2(**more):
    return {'fid': gaussian(6), 'fd_dinov2': gaussian(5), 'num_images': 1281167, **more}


def write(p, value, protocol=4):
    p.write_bytes(pickle.dumps(value, protocol))
    return p


def extractor(name):
    return features.open_extractor(name, weights='w')


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_a_pickle_of_two_detectors_serves_both(tmp_path, protocol):
    value = edm2(num_images=np.int64(50_000))
    value['fid']['sigma'] = np.asfortranarray(value['fid']['sigma'])
    value['fd_dinov2']['mu'] = value['fd_dinov2']['mu'].astype(np.float32)
    p = write(tmp_path / 'ref.pkl', value, protocol)
    for key, name in foreign_references.DETECTORS.items():
        found = references.load(p, None, extractor(name))
        np.testing.assert_array_equal(found.mu, value[key]['mu'])
        np.testing.assert_array_equal(found.sigma, value[key]['sigma'])
        assert found.mu.dtype == found.sigma.dtype == np.float64
        assert found.count == 50_000 and 'the number of images' not in found.warning
        assert 'the data set' in found.warning and 'not recorded' in found.warning


def test_names_of_older_numpy_and_dicts_of_other_names_are_read(tmp_path):
    data = pickle.dumps(edm2(), 3).replace(b'numpy._core.', b'numpy.core.')
    assert b'numpy.core.' in data
    (tmp_path / 'old.pkl').write_bytes(data)
    assert foreign_references.read(tmp_path / 'old.pkl').extractors == ['inception', 'dinov2']
    empty = b'\x80\x02cdnnlib.util\nEasyDict\n)\x81'
    inner = pickle.dumps(edm2(), 2)
    (tmp_path / 'easy.pkl').write_bytes(empty + inner[inner.index(b'}') + 1 :])
    assert foreign_references.read(tmp_path / 'easy.pkl').count == 1281167


def test_large_arrays_of_protocol_2_are_text_and_still_read(tmp_path):
    value = {'fid': gaussian(120)}
    p = write(tmp_path / 'ref.pkl', value, 2)
    found = foreign_references.read(p)
    np.testing.assert_array_equal(found.spaces['inception']['sigma'], value['fid']['sigma'])
    assert found.count is None and 'the number of images' in found.warning


def test_features_that_are_not_there_are_named(tmp_path):
    p = write(tmp_path / 'ref.pkl', {'fid': gaussian(6)})
    words = r"holds statistics of the features of inception \(6 dimensions\), none of 'dinov2'"
    with pytest.raises(ValueError, match=words):
        references.load(p, None, extractor('dinov2'))
    p = write(tmp_path / 'wrong.pkl', {'fid': gaussian(7)})
    with pytest.raises(ValueError, match="has 7 dimensions, 'inception' has 6"):
        references.load(p, None, extractor('inception'))


class Call:
    """Pickles as a call, as a hostile file has it."""

    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


def changed(**change):
    return {'fid': {**gaussian(6), **change}}


SIGMA = gaussian(6)['sigma']
SHAPES = r'mu and sigma must have shapes \(d,\) and \(d, d\), not \(5,\), \(6, 6\)'
BAD = {
    'no pickle of ours': ([1, 2], 'holds a list'),
    'another dict': ({'a': 1}, "holds 'a'; fid or fd_dinov2 is needed"),
    'objects': (changed(mu=np.array([None, 1])), 'numpy dtype'),
    'integers': (changed(mu=np.arange(6)), 'mu is int64'),
    'a list': (changed(mu=[1.0] * 6), 'mu is list'),
    'no sigma': ({'fid': {'mu': np.zeros(6)}}, 'holds no mu and sigma'),
    'no dict': ({'fid': np.zeros(6)}, "'fid' is no dict"),
    'shapes': (changed(mu=np.zeros(5)), SHAPES),
    'NaN': (changed(mu=np.full(6, np.nan)), "'fid': mu is not finite"),
    'infinite': (changed(sigma=SIGMA * np.inf), "'fid': sigma is not finite"),
    'not symmetric': (changed(sigma=SIGMA + np.triu(np.ones((6, 6)), 1)), 'not symmetric'),
    'negative': (changed(sigma=-SIGMA), 'a variance is negative'),
    'big-endian': (changed(mu=np.zeros(6, '>f8')), 'another order'),
    'count': ({**changed(), 'num_images': -3}, 'num_images must be'),
    'code': (changed(mu=Call(print, 'executed')), 'print has no place'),
    'a class': (changed(mu=Call(io.BytesIO, b'x')), 'BytesIO has no place'),
}


@pytest.mark.parametrize('name', BAD)
def test_a_pickle_that_is_not_that_is_refused(tmp_path, name, capsys):
    value, words = BAD[name]
    for protocol in (2, 4, 5):
        p = write(tmp_path / 'bad.pkl', value, protocol)
        with pytest.raises(ValueError, match=words) as caught:
            foreign_references.read(p)
        assert 'bad.pkl' in str(caught.value)
    assert 'executed' not in capsys.readouterr().out


def test_damaged_pickles_are_refused_and_fill_no_memory(tmp_path):
    data = pickle.dumps(edm2(), 4)
    p = tmp_path / 'bad.pkl'
    for bad, words in [
        (data[:-200], 'truncated or damaged'),
        (data + b'x', 'after the end'),
        (b'\x00' + data, 'neither npz nor pickle'),
        (b'', 'neither npz nor pickle'),
    ]:
        p.write_bytes(bad)
        with pytest.raises(ValueError, match=words):
            foreign_references.read(p)
    # One text of 60 kB, encoded until it would be 60 MB.
    text = b'X' + (60_000).to_bytes(4, 'little') + b'a' * 60_000
    again = b'c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R0'
    p.write_bytes(b'\x80\x02' + text + b'q\x000' + again * 1000 + b'}.')
    with pytest.raises(ValueError, match='together larger than the file'):
        foreign_references.read(p)


def npz(p, arrays, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(p, 'w', method) as archive:
        for name, value in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.asarray(value), allow_pickle=True)
            archive.writestr(f'{name}.npy', data.getvalue())
    return p


def test_bad_npz_files_are_refused(tmp_path):
    good = gaussian(6)
    bad = {
        'objects': ({**good, 'mu': np.array([{}, 1], object)}, "'mu' holds objects"),
        'NaN': ({**good, 'mu': good['mu'] * np.nan}, 'NaN.npz: mu is not finite'),
        'symmetric': ({**good, 'sigma': good['sigma'] + np.eye(6, k=1)}, 'not symmetric'),
        'half': ({**good, 'mu_s': good['mu']}, 'without its other half'),
        'count': ({**good, 'mu': good['mu'][:5]}, SHAPES),
        'deep': ({**good, 'mu': np.zeros((1, 2, 3))}, 'must have shapes'),
    }
    for name, (arrays, words) in bad.items():
        with pytest.raises(ValueError, match=words):
            references.load(npz(tmp_path / f'{name}.npz', arrays))
    header = io.BytesIO()
    claim = {'descr': '<f8', 'fortran_order': False, 'shape': (8000, 8000)}
    np.lib.format.write_array_header_1_0(header, claim)
    with zipfile.ZipFile(npz(tmp_path / 'lie.npz', {'mu': good['mu']}), 'a') as archive:
        archive.writestr('sigma.npy', header.getvalue() + bytes(64))
    with pytest.raises(ValueError, match="'sigma' is not as long as its shape"):
        references.load(tmp_path / 'lie.npz')
    whole = npz(tmp_path / 'cut.npz', good, zipfile.ZIP_DEFLATED).read_bytes()
    (tmp_path / 'cut.npz').write_bytes(whole[:-100])
    with pytest.raises(ValueError, match='cut.npz'):
        references.load(tmp_path / 'cut.npz')
    # Its data, and what the directory says how it is compressed.
    for at in (200, whole.index(b'PK\x01\x02') + 10):
        (tmp_path / 'flip.npz').write_bytes(whole[:at] + b'????' + whole[at + 4 :])
        with pytest.raises(ValueError, match='flip.npz'):
            references.load(tmp_path / 'flip.npz')


def test_an_array_larger_than_any_covariance_is_not_read(tmp_path, monkeypatch):
    p = npz(tmp_path / 'large.npz', gaussian(6))
    monkeypatch.setattr(foreign_references, 'MAX_BYTES', 128 + 8 * 6**2)
    assert foreign_references.read(p).spaces
    monkeypatch.setattr(foreign_references, 'MAX_BYTES', 128 + 8 * 6**2 - 1)
    with pytest.raises(ValueError, match='large.npz: sigma has 416 bytes, more than'):
        foreign_references.read(p)


def test_npz_files_that_are_encrypted_or_point_nowhere_are_refused(tmp_path):
    whole = npz(tmp_path / 'good.npz', gaussian(6)).read_bytes()
    entry, end = whole.index(b'PK\x01\x02'), whole.index(b'PK\x05\x06')
    # Flags of the first entry; where the directory would begin, which all places are counted from.
    for at, value, words in (entry + 8, 1, 'encrypted'), (end + 16, len(whole), 'damaged'):
        bad = bytearray(whole)
        bad[at : at + 4] = (int.from_bytes(bad[at : at + 4], 'little') | value).to_bytes(
            4, 'little'
        )
        (tmp_path / 'bad.npz').write_bytes(bad)
        with pytest.raises(ValueError, match=f'bad.npz.*{words}'):
            references.load(tmp_path / 'bad.npz')


def test_a_covariance_that_is_rounded_is_made_symmetric_when_read(tmp_path):
    """One that is accepted here is accepted when it is compared with."""
    good = gaussian(6)
    for relative in (1e-5, 9e-5):
        skewed = good['sigma'] + np.triu(np.ones((6, 6)), 1) * relative * good['sigma'].max()
        expected = (skewed + skewed.T) / 2
        p = npz(tmp_path / 'skewed.npz', {'mu': good['mu'], 'sigma': skewed})
        q = write(tmp_path / 'skewed.pkl', {'fid': {'mu': good['mu'], 'sigma': skewed}})
        for found in references.load(p), references.load(q):
            np.testing.assert_array_equal(found.sigma, expected)
            assert found.against.distance(found.mu, expected) == pytest.approx(0, abs=1e-9)


def test_mutated_pickles_are_read_or_refused(tmp_path):
    """A few hundred of what was tried by the hundred thousand: nothing but ValueError comes out."""
    rng = np.random.default_rng(0)
    p, outcomes = tmp_path / 'x.pkl', set()
    for protocol in (2, 3, 4, 5):
        data = pickle.dumps({'fid': gaussian(3), 'num_images': np.int64(9)}, protocol)
        places = [at for _, _, at in pickletools.genops(data)]
        for _ in range(100):
            bad = bytearray(data)
            at = int(rng.choice(places)) + int(rng.integers(0, 3))
            bad[at % len(bad) : at % len(bad) + int(rng.integers(0, 3))] = rng.bytes(2)
            p.write_bytes(bad)
            try:
                foreign_references.read(p)
                outcomes.add('read')
            except ValueError as error:
                outcomes.add('refused')
                assert 'x.pkl' in str(error)
    assert outcomes == {'read', 'refused'}


def test_an_array_of_numbers_that_is_none_is_refused():
    for arguments in [(), (1, 2), (inert.DType(code='f8'), b'')]:
        with pytest.raises(ValueError, match='numpy'):
            inert.wide_world(10)['numpy.core.multiarray.scalar'].call(arguments)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The images of a generator: 8×8 RGB PNGs."""
    return store(tmp_path_factory.mktemp('made') / 'folder', official(N))


def moments(name, images):
    values = fake_features.project(name, images).features.astype(np.float64)
    return {'mu': values.mean(0), 'sigma': np.cov(values.T)}


def run(capsys, *arguments, code=0):
    assert cli.main(['evaluate', *map(str, arguments)]) == code
    return capsys.readouterr()


def row(workdir):
    return files.read_jsonl(workdir / 'results.jsonl')[-1]


def test_images_are_scored_without_a_data_set(folder, tmp_path, capsys):
    images = np.stack([pixels(i) for i in range(N)])
    detectors = foreign_references.DETECTORS.items()
    value = {key: moments(name, images) for key, name in detectors}
    p = write(tmp_path / 'ref.pkl', {**value, 'num_images': N})
    common = (f'--images={folder}', f'--reference={p}', f'--workdir={tmp_path / "out"}')
    # What the reference needs and cannot give is asked for by name.
    err = run(capsys, *common, code=2).err
    assert '--config.features.name=inception --config.features.weights=FILE' in err
    numbers = '--config.metrics=frechet,dino:frechet,precision'
    err = run(capsys, *common, *INCEPTION, *DINO, numbers).err
    assert 'not recorded' in err
    found = row(tmp_path / 'out')
    assert found['metrics']['frechet'] == pytest.approx(0, abs=1e-6)
    assert found['metrics']['dino:frechet'] == pytest.approx(0, abs=1e-6)
    assert 'holds none' in found['undefined']['precision'] and found['data'] is None
    assert found['reference']['count'] == N
    for reference in (found['reference'], found['also']['dino']['reference']):
        assert 'not recorded' in reference['warning']


def test_the_features_of_our_own_reference_follow_from_it(folder, tmp_path, capsys):
    features = '--config.features.name=efficientnet_lite0'
    small = (features, '--config.features.size=32')
    common = ('--config.data.name=digits', '--config.data.max_images=40')
    assert cli.main(['stats', *common, *small, f'--target={tmp_path / "ref.npz"}']) == 0
    images = grey_digits(tmp_path)
    reference = f'--reference={tmp_path / "ref.npz"}'
    arguments = (reference, f'--workdir={tmp_path / "out"}', '--config.metrics=density,recall')
    run(capsys, f'--images={images}', *arguments)
    found = row(tmp_path / 'out')
    assert (found['features']['name'], found['features']['size']) == ('efficientnet_lite0', 32)
    assert found['metrics']['density'] > 0.8
    assert found['metrics']['recall'] == 1 and 'warning' not in found['reference']
    # Other sizes, other settings, other files.
    err = run(capsys, f'--images={folder}', *arguments, code=2).err
    assert 'are 8×8×3' in err and 'the real images are 8×8×1' in err and 'stats' in err
    err = run(capsys, f'--images={images}', *arguments, features, code=2).err
    assert 'weights_hash is' in err


def grey_digits(tmp_path):
    """The digits of the reference above, as grey PNGs."""
    digits = open_dataset('digits', max_images=40)
    images = digits.images(np.arange(40))
    return store(
        tmp_path / 'grey', {f'{i:03d}.png': encoded(x, 'png') for i, x in enumerate(images)}
    )


def test_several_files_serve_the_features_that_they_fit(folder, tmp_path):
    def score(*names, **more):
        tree = {
            'images': folder,
            'features': {'name': 'inception', 'weights': 'w'},
            'also': {'dino': {'name': 'dinov2', 'weights': 'w'}},
            'metrics': ('frechet', 'dino:recall'),
            'reference': ','.join(str(tmp_path / name) for name in names),
            **more,
        }
        settings = evaluate.config.parse(evaluate.Settings, tree)
        return evaluate.main(settings, tmp_path / 'out')

    tree = {'images': folder, 'features': {'name': 'dinov2', 'weights': 'w'}}
    for name in ('a', 'b'):
        target = str(tmp_path / f'{name}.npz')
        stats.main(stats.config.parse(stats.Settings, {**tree, 'target': target}))
    write(tmp_path / 'fid.pkl', {'fid': gaussian(6)})
    found = score('fid.pkl', 'a.npz')
    assert found['frechet'] > 1 and found['dino:recall'] == 1
    for names, words in [
        (('a.npz', 'b.npz'), "no file is of 'inception': .*extractor is|has 5 dimensions"),
        (('fid.pkl', 'a.npz', 'b.npz'), "are both of 'dinov2'"),
    ]:
        with pytest.raises(ValueError, match=words):
            score(*names)
    with pytest.raises(ValueError, match='a.npz. is of none of the features'):
        score('fid.pkl', 'a.npz', also={}, metrics=('frechet',))


def test_the_images_of_adm_give_what_compares_single_images(folder, tmp_path, capsys):
    images = np.stack([pixels(i) for i in range(N)])
    values = fake_features.project('inception', images)
    spatial = values.spatial.astype(np.float64)
    arrays = {
        'arr_0': images[:20],
        **moments('inception', images),
        'mu_s': spatial.mean(0),
        'sigma_s': np.cov(spatial.T),
    }
    np.savez(tmp_path / 'adm.npz', **arrays)
    common = (f'--reference={tmp_path / "adm.npz"}', f'--workdir={tmp_path / "out"}', *INCEPTION)
    wanted = '--config.metrics=frechet,sfid,precision,recall,coverage,authenticity'
    run(capsys, f'--images={folder}', *common, wanted)
    found = row(tmp_path / 'out')
    assert found['metrics']['frechet'] == pytest.approx(0, abs=1e-6)
    assert found['metrics']['sfid'] == pytest.approx(0, abs=1e-6)
    assert found['metrics']['recall'] == found['metrics']['coverage'] == 1
    assert not found['undefined'] and 'in the file' in found['reference']['warning']
    near = found['nearest']['authenticity']
    assert near['copies'] == near['searched'] == 20 and near['training_images'] is None
    assert [pair[:2] for pair in near['pairs']] == [[i, i] for i in range(16)]
    assert (tmp_path / 'out' / near['picture']).exists()
    # The features of its images are kept for the next time, and not made where none are needed.
    (kept,) = [p for p in (tmp_path / 'out').iterdir() if p.name.startswith('reference-')]
    assert len(references.load(kept).features) == 20
    run(capsys, f'--images={folder}', *common, '--config.metrics=frechet')
    assert row(tmp_path / 'out')['reference']['hash'] != found['reference']['hash']
    np.savez(tmp_path / 'large.npz', np.zeros((20, 16, 16, 3), np.uint8))
    err = run(capsys, f'--images={tmp_path / "large.npz"}', *common, code=2).err
    assert 'are 16×16×3' in err and 'the real images are 8×8×3' in err
    with pytest.raises(ValueError, match="none of 'dinov2'"):
        references.load(tmp_path / 'adm.npz', None, extractor('dinov2'))


def test_what_a_file_is_of_follows_from_its_dimensions_if_at_all(tmp_path):
    np.savez(tmp_path / 'edm.npz', mu=np.zeros(2048), sigma=np.eye(2048))
    assert references.features_of(tmp_path / 'edm.npz') == {'name': 'inception'}
    np.savez(tmp_path / 'other.npz', **gaussian(6))
    with pytest.raises(ValueError, match='has 6 dimensions, and does not say of which features'):
        references.features_of(tmp_path / 'other.npz')
    found = references.load(tmp_path / 'other.npz', None, extractor('inception'))
    assert (
        found.warning and metrics.table.get('frechet')(extractor('inception')).check(found) is None
    )
