"""InceptionV3 of 2015 against two torch packages: stored outputs always, live where they are."""

import collections
import pathlib
import pickle

import inception_weights as iw
import numpy as np
import published_files as pf
import pytest

from autoguide_jax import files, metrics, state_dicts
from autoguide_jax.frozen import inception_graph, inception_v3
from autoguide_jax.metrics import inception, weights_file

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'inception.npz'
# Values have deviations of 3 to 8; the two packages and this one differ by 4e-5 at most.
TOLERANCE = 2e-4


@pytest.fixture(scope='module')
def state():
    return iw.state()


@pytest.fixture(scope='module')
def weights(state):
    return inception_v3.from_state_dict(state)


@pytest.fixture(scope='module')
def plain(state):
    """With γ = 1 and without counters: what the detector's names can hold."""
    kept = {k: a for k, a in state.items() if not k.endswith('num_batches_tracked')}
    return {k: np.ones_like(a) if k.endswith('bn.weight') else a for k, a in kept.items()}


@pytest.fixture(scope='module')
def detector(plain):
    return iw.detector_names(plain)


def assert_near(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert array.std() > 1, name
        np.testing.assert_allclose(found[name], array, rtol=0, atol=TOLERANCE, err_msg=name)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        for part in a[name]:
            np.testing.assert_array_equal(a[name][part], b[name][part], err_msg=name)


@pytest.mark.parametrize('size', ['32x32', '512x384'])
def test_stored_outputs_of_torch_fidelity(weights, size):
    pixels = iw.images(tuple(map(int, size.split('x'))))
    found = inception_v3.apply(weights, pixels)._asdict()
    found['logits_bias'] = found['logits'] + weights['output']['bias']
    assert {name: array.shape[1] for name, array in found.items()} == {
        'features': 2048, 'logits': 1008, 'logits_bias': 1008, 'spatial': 2023,
    }  # fmt: skip
    with np.load(GOLDEN) as stored:
        expected = {name: stored[f'{size}/{name}'] for name in found}
    assert_near({name: array[:, iw.SHOWN[name]] for name, array in found.items()}, expected)


@pytest.mark.parametrize('package', ['torch_fidelity', 'pytorch_fid'])
def test_torch_packages_themselves(state, weights, package, tmp_path):
    pytest.importorskip('torch')
    iw.known_to_torch()
    pytest.importorskip(package)
    for size in iw.SIZES:
        pixels = iw.images(size)
        if package == 'pytorch_fid':
            expected = iw.fid_outputs(state, pixels)
        else:
            expected = iw.fidelity_outputs(state, pixels, tmp_path)
        found = iw.outputs(weights, pixels)
        assert_near({name: np.asarray(found[name]) for name in expected}, expected)


def resized_at(image, row, column):
    """Equation 1 for one pixel, in float64."""

    def around(i, count):
        at = i * count / 299
        return int(at), min(int(at) + 1, count - 1), at - int(at)

    top, bottom, down = around(row, image.shape[0])
    left, right, along = around(column, image.shape[1])
    upper = (1 - along) * image[top, left] + along * image[top, right]
    lower = (1 - along) * image[bottom, left] + along * image[bottom, right]
    return (1 - down) * upper + down * lower


@pytest.mark.parametrize('size', [(1, 7), (32, 61), (299, 299), (300, 512)])
def test_the_resize_is_the_formula(size):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 2)).astype(np.float64)
    found = np.asarray(inception_v3.resize(image[None].astype(np.float32)))[0]
    places = np.concatenate([rng.integers(0, 299, (2000, 2)), [[0, 0], [298, 298], [0, 298]]])
    expected = [resized_at(image, row, column) for row, column in places]
    # The graph computes places in float32: off by an ulp of them times the slope, 255 a pixel.
    tolerance = 255 * max(size) * 2.0**-23
    np.testing.assert_allclose(found[tuple(places.T)], expected, rtol=0, atol=tolerance)


def test_an_image_of_the_right_size_is_left_as_it_is():
    image = np.random.default_rng(0).normal(size=(1, 299, 299, 3)).astype(np.float32)
    np.testing.assert_array_equal(inception_v3.resize(image), image)


def test_a_mean_counts_pixels_inside_only():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    found = np.asarray(inception_v3._pool(x, 'mean'))[0, :, :, 0]
    assert found[0, 0] == np.mean([0, 1, 4, 5])
    assert found[1, 3] == np.mean([2, 3, 6, 7, 10, 11])
    assert found[2, 2] == np.mean(x[0, 1:, 1:])
    assert np.asarray(inception_v3._pool(-x, 'max'))[0, 3, 3, 0] == -10


def test_grey_images_are_rgb_of_equal_channels(weights):
    grey = iw.images((32, 32))[..., :1]
    found = inception_v3.apply(weights, grey)
    same = inception_v3.apply(weights, grey.repeat(3, -1))
    assert_near(found._asdict(), {k: np.asarray(v) for k, v in same._asdict().items()})


@pytest.mark.parametrize('pixels', [np.zeros((1, 8, 8, 4), np.uint8), np.zeros((1, 8, 8, 3))])
def test_other_images_are_refused(weights, pixels):
    with pytest.raises(ValueError, match='takes uint8 images of 1 or 3 channels, not'):
        inception_v3.apply(weights, pixels)


def test_the_graph_is_the_published_one(state):
    """94 convolutions; 23,834,568 parameters without the classifier of training, as torchvision has
    them with 1000 classes; the spatial features' layer under both names."""
    names = {layer.name: layer.torch for layer, _ in inception_graph.layers()}
    assert len(names) == 94 and names['mixed_6/conv'] == 'Mixed_6d.branch1x1'
    assert names['mixed_10/tower_1/mixed/conv_1'] == 'Mixed_7c.branch3x3dbl_3b'
    sizes = [a.size for k, a in state.items() if a.ndim and 'running' not in k]
    assert sum(sizes) == 23_834_568 + 8 * 2049


def test_both_names_and_all_formats_give_the_same_weights(plain, detector, tmp_path):
    files.write_bytes(tmp_path / 'detector.pkl', iw.detector_file(detector))
    state_dicts.write(tmp_path / 'torch.safetensors', plain)
    paths = [str(tmp_path / name) for name in ('detector.pkl', 'torch.safetensors')]
    opened = [metrics.open_extractor('inception', weights=p, batch_size=1) for p in paths]
    assert opened[0].weights_hash == opened[1].weights_hash
    shas = [extractor.facts['weights_sha256'] for extractor in opened]
    assert shas == [files.sha256(path) for path in paths]
    for extractor in opened:
        assert (extractor.title, extractor.dim, extractor.num_classes) == ('FID', 2048, 1008)
        assert (extractor.published, extractor.spatial_dim) == (50_000, 2023)
        assert extractor.facts['weights'] == 'not known to be the public ones'
    weights = inception.read_weights(paths[0])[0]
    assert_same(weights, inception_v3.from_state_dict(plain))
    pixels = iw.images((32, 32))
    expected = inception_v3.apply(weights, pixels)._asdict()
    assert_near(opened[1](pixels)._asdict(), {k: np.asarray(v) for k, v in expected.items()})


def test_names_of_the_graph_may_be_written_in_several_ways(plain, detector):
    expected = inception_v3.from_state_dict(plain)
    slashes = {k.removeprefix('layers.').replace('.', '/'): a for k, a in detector.items()}
    assert 'mixed_6/tower/conv/weight' in slashes
    assert_same(inception_v3.from_state_dict(slashes), expected)
    with pytest.raises(ValueError, match=r"'layers/conv/mean' and another name both mean 'conv_me"):
        inception_v3.from_state_dict({**detector, 'layers/conv/mean': np.zeros(32)})


def test_the_classifier_of_training_is_ignored(state, weights):
    assert_same(
        inception_v3.from_state_dict({**state, 'AuxLogits.fc.bias': np.zeros(1008)}), weights
    )


WRONG = [
    ('fc.bias', None, r"'fc.bias' \(1008,\), found nothing"),
    ('fc.weight', np.zeros((1000, 2048)), r'found \(1000, 2048\); weights of other Inceptions'),
    ('Mixed_6d.branch1x1.bn.running_var', np.zeros(3), r'running_var.* found \(3,\)'),
    ('Conv2d_1a_3x3.conv.weight', None, r"'output_weight' .*found nothing, but 'Conv2d_1a"),
    ('extra', np.zeros(3), r"unexpected arrays 'extra'"),
]


@pytest.mark.parametrize('name, array, message', WRONG)
def test_other_arrays_are_refused(state, name, array, message):
    given = {k: a for k, a in state.items() if k != name}
    given |= {} if array is None else {name: array}
    with pytest.raises(ValueError, match=message):
        inception_v3.from_state_dict(given)


@pytest.mark.parametrize('part', ['mixed_9.tower_mixed_conv.var', 'mixed_8.tower.conv.beta'])
def test_a_detector_without_a_part_is_refused(detector, part):
    given = {k: a for k, a in detector.items() if k != f'layers.{part}'}
    with pytest.raises(ValueError, match=f"expected '{part.replace('.', '_')}' .*found nothing"):
        inception_v3.from_state_dict(given)
    other = part.replace('mixed_conv', 'fork').replace('beta', 'shift')
    given[f'layers.{other}'] = np.zeros(9)
    with pytest.raises(ValueError, match=f'found nothing, but .*{other.replace(".", "_")}'):
        inception_v3.from_state_dict(given)


def test_weights_that_are_not_there_are_asked_for(tmp_path):
    for path, more in ('', ''), (str(tmp_path / 'none.pth'), 'there is no such file'):
        with pytest.raises(ValueError, match=rf"features\.weights \('.*'\) must .*{more}") as error:
            metrics.open_extractor('inception', weights=path)
        for name in inception.PUBLIC:
            assert name in str(error.value)


def test_public_weights_are_known_by_their_sum_whatever_they_are_called(monkeypatch, state):
    """And the preprocessing is part of the hash."""
    read = lambda sha256: lambda p: (state, sha256)
    opened = []
    for sha256 in '6726825d00', '6726825e00':
        monkeypatch.setattr(weights_file, 'read', read(sha256))
        opened.append(metrics.open_extractor('inception', weights='mine.npz'))
    words = ['public pt_inception-2015-12-05', 'not known to be the public ones']
    assert [extractor.facts['weights'] for extractor in opened] == words
    assert {extractor.title for extractor in opened} == {'FID'}
    monkeypatch.setattr(inception, 'TRANSFORM', 'another')
    other = metrics.open_extractor('inception', weights='mine.npz')
    assert opened[0].weights_hash == opened[1].weights_hash != other.weights_hash


@pytest.mark.parametrize('name', [name for name, begins in inception.PUBLIC.items() if begins])
def test_a_public_file_is_checked_by_its_sum(tmp_path, name):
    with files.path(tmp_path / name).open('wb') as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(ValueError, match='sha256 of the public one begins with 6726825d, not'):
        metrics.open_extractor('inception', weights=str(tmp_path / name))


@pytest.mark.parametrize(
    'content, message',
    [
        (pf.dump({'layers': 1}), 'detector.pkl is not a pickled module: a dict where'),
        (pf.dump(pf.New(pf.Global('torch.nn.modules.dropout', 'Dropout'))), 'Dropout has no place'),
        (pf.dump(pf.persistent('InceptionV3', {'_buffers': {'mean': 3}})), 'mean is a int'),
        (pf.dump(pf.persistent('InceptionV3', {})), "detector.pkl.*expected 'output_w"),
        (pf.dump(pf.Reduce(pf.Global('os', 'system'), ('true',))), 'os.system has no place'),
        (pf.dump(pf.persistent('InceptionV3', {}))[:-9], 'truncated or damaged'),
    ],
)
def test_other_pickles_are_refused(tmp_path, content, message):
    files.write_bytes(tmp_path / 'detector.pkl', content)
    with pytest.raises(ValueError, match=message):
        metrics.open_extractor('inception', weights=str(tmp_path / 'detector.pkl'))


def test_a_detector_pickled_by_torch_is_read(tmp_path):
    torch = pytest.importorskip('torch')
    layers = {
        'pool0': torch.nn.MaxPool2d(3, 2),
        'conv': torch.nn.Sequential(torch.nn.ReLU(), torch.nn.AvgPool2d(3, 1, 1)),
        'output': torch.nn.Linear(3, 2),
    }
    module = torch.nn.Sequential(collections.OrderedDict(layers))
    files.write_bytes(tmp_path / 'detector.pkl', pickle.dumps(module, 4))
    found, _ = weights_file.read(tmp_path / 'detector.pkl')
    assert found.keys() == {'output.weight', 'output.bias'}
    np.testing.assert_array_equal(found['output.weight'], layers['output'].weight.detach())
