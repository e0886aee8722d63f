"""Truths about memorisation: planted copies are found, shown, and traced to their image."""

import io
import types

import numpy as np
import pytest
import tiny
from dots import Dots, make_extractor, pixel_features
from PIL import Image

from autoguide_jax import evaluate, files, likeness, metrics
from autoguide_jax.config import parse
from autoguide_jax.data import open_dataset
from autoguide_jax.metrics import building, memorisation
from autoguide_jax.metrics import reference as references
from autoguide_jax.metrics.metric import Bank


def on_a_line(*places):
    return np.array(places, np.float32)[:, None] * np.eye(1, 4, dtype=np.float32)


def bank_of(features):
    bank = Bank()
    bank.extend({'features': features})
    return bank


def training(features):
    return references.Reference(np.zeros(4), np.eye(4), features=features)


def test_samples_on_a_line_by_hand():
    # Training images at 0, 1, 4 and twice at 9; their nearest others are 1, 1, 3, 0, 0 away.
    real = training(on_a_line(0, 1, 4, 9, 9))
    bank = bank_of(on_a_line(-0.5, 1, 2.2, 9, 10, -1))
    found = memorisation.find(bank, real)
    assert found.row[:3].tolist() == [0, 1, 1] and set(found.row[3:5]) <= {3, 4}
    np.testing.assert_allclose(found.distance, [0.5, 0, 1.2, 0, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(found.ratio, [0.5, 0, 1.2, 0, np.inf, 1], rtol=1e-6)
    # A copy of an image that is there twice is a copy; as near as the others is not nearer.
    assert found.authentic.tolist() == [False, False, True, False, True, True]
    assert found.closest(3).tolist() == [1, 3, 0]
    estimate = metrics.table.get('authenticity')(make_extractor()).estimate(bank, real)
    assert estimate.value == 0.5
    assert estimate.error == pytest.approx(np.sqrt(0.25 * 6 / 5 / 6))


def test_the_training_set_is_searched_once(monkeypatch):
    real, bank = training(on_a_line(0, 1, 4)), bank_of(on_a_line(0.4, 2))
    first = memorisation.find(bank, real)
    assert memorisation.find(bank, training(on_a_line(5, 7))).distance[0] == pytest.approx(4.6)
    bank.extend({'features': on_a_line(3)})
    again = memorisation.find(bank, real)
    assert len(again.row) == 3 and again.row[:2].tolist() == first.row.tolist()
    monkeypatch.setattr(memorisation, 'neighbours', None)
    assert memorisation.find(bank, real) is again


@pytest.mark.parametrize('share', [0, 0.25])
def test_memorised_samples_lower_it_by_their_share(share):
    rng = np.random.default_rng(0)
    train, held_out = rng.normal(size=(2, 1000, 4)).astype(np.float32)
    copies = round(1000 * share)
    samples = np.concatenate([train[:copies] + 1e-4, held_out[copies:]])
    metric = metrics.table.get('authenticity')(make_extractor())
    before = metric.estimate(bank_of(held_out), training(train)).value
    after = metric.estimate(bank_of(samples), training(train)).value
    assert 0.4 < before < 0.7
    assert after == pytest.approx((1 - share) * before, abs=0.03)


def test_a_reference_knows_the_rows_of_its_features(tmp_path):
    dots, pixels = Dots(), make_extractor()
    for count, kept in (None, 1000), (None, 50), (120, 1000), (120, 50):
        references.save(building.build(dots, pixels, count, kept), tmp_path / 'real.npz')
        real = references.load(tmp_path / 'real.npz')
        assert real.rows.dtype == np.int64 and len(real.rows) == min(count or 240, kept)
        expected = pixel_features(dots.images(real.rows)).features
        np.testing.assert_array_equal(real.features, expected)
        np.testing.assert_array_equal(real.labels, dots.labels[real.rows])


@pytest.fixture(scope='module')
def digits():
    return open_dataset('digits', max_images=900)


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='module')
def samples(digits, cache):
    """Noise, and copies of digits 5 and 700 at places 3 and 20."""
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
    images[[3, 20]] = digits.images([5, 700])
    np.savez(cache / 'samples.npz', images)
    return cache / 'samples.npz'


def settings(samples, cache, **more):
    tree = {
        'images': str(samples),
        'data': {'name': 'digits', 'max_images': 900},
        'features': tiny.CLASSIFIER,
        'metrics': ('frechet', 'authenticity'),
        'cache_dir': str(cache),
        'allow_fewer': True,
        **more,
    }
    return parse(evaluate.Settings, tree)


def test_planted_copies_are_found_and_shown(digits, samples, cache, tmp_path):
    table = evaluate.main(settings(samples, cache), tmp_path)
    (row,) = files.read_jsonl(tmp_path / 'results.jsonl')
    nearest = row['nearest']['authenticity']
    assert table['authenticity: picture'] == nearest['picture'] == f'nearest-{row["key"]}.png'
    assert table['authenticity: copies'] == nearest['copies'] == 2
    assert nearest['searched'] == nearest['training_images'] == 900
    assert nearest['pairs'][:2] == [[3, 5, 0.0, 0.0], [20, 700, 0.0, 0.0]]
    assert 'authenticity: searched' not in table
    ratios = [pair[3] for pair in nearest['pairs']]
    assert len(ratios) == likeness.PAIRS and ratios == sorted(ratios) and ratios[2] > 0
    assert row['metrics']['authenticity'] <= 22 / 24
    sheet = np.asarray(Image.open(tmp_path / nearest['picture']))
    side, top, left = 96, likeness.TEXT + 6 + likeness.GAP, likeness.GAP
    copy = digits.images([5])[0].repeat(12, 0).repeat(12, 1).repeat(3, 2)
    for x in (left, left + side + 2):
        np.testing.assert_array_equal(sheet[top : top + side, x : x + side], copy)


def test_without_rows_or_data_there_is_a_reason_and_no_picture(samples, cache, tmp_path, capsys):
    evaluator = evaluate.Evaluator(
        open_dataset('digits', max_images=900), settings(samples, cache).features, cache_dir=cache
    )
    # As references were written before they kept their rows.
    old = evaluator.references['']
    arrays = {name: getattr(old, name) for name in references.ARRAYS if name != 'rows'}
    header = {**old.header, 'content_hash': references.content_hash(arrays)}
    references.save(references.Reference(**arrays, header=header), tmp_path / 'old.npz')
    row = evaluate.main(settings(samples, cache, reference=str(tmp_path / 'old.npz')), tmp_path)
    assert 'delete it, and it is made anew' in row['authenticity: no picture']
    assert row['authenticity'] <= 22 / 24 and row['authenticity: copies'] == 2
    assert 'authenticity: no picture: ' in capsys.readouterr().err
    assert not list(tmp_path.glob('*.png'))
    bank = bank_of(old.features[:30])
    metric = types.SimpleNamespace(name='authenticity', features=evaluator.extractor)
    blind = types.SimpleNamespace(
        metrics={'authenticity': metric}, references={'': old}, dataset=None
    )
    found = likeness.show(blind, {evaluator.extractor: bank}, None, files.path(tmp_path / 'p.png'))
    assert 'data is none' in found['authenticity']['no_picture']
    assert found['authenticity']['pairs'][0][1] == old.rows[0]


@pytest.mark.parametrize('shape, side', [((4, 4, 3), 96), ((96, 96, 1), 96), ((512, 512, 3), 256)])
def test_pictures_are_of_a_size_to_look_at(shape, side):
    images = np.random.default_rng(0).integers(0, 256, (6, *shape), np.uint8)
    data = likeness.draw(images, images, [f'{i}' for i in range(6)], 'nearest')
    width, height = Image.open(io.BytesIO(data)).size
    assert 4 * 2 * side < width < 4 * 2 * side + 120
    assert 2 * side < height < 2 * side + 120
