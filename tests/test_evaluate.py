"""evaluate: real digits are perfect, noise is not, and nothing is done twice."""

import shutil
import zipfile

import numpy as np
import pytest
import tiny

from autoguide_jax import evaluate, files, sample_sets, stop
from autoguide_jax.config import parse
from autoguide_jax.data import open_dataset
from autoguide_jax.metrics import reference as references
from autoguide_jax.metrics import table

EVERY = (*evaluate.METRICS, 'class_entropy', 'class_variance_ratio')


@pytest.fixture(scope='module')
def digits():
    return open_dataset('digits')


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='module')
def real(digits, cache):
    """A sample set that is the real digits themselves, and one of noise."""
    folder = cache / 'real'
    writer = sample_sets.create(folder, {'made_by': 'pen'}, range(digits.num_images), ('npz',))
    rows = np.arange(digits.num_images)
    writer.write(rows, digits.labels, digits.images(rows))
    writer.finish()
    return folder


def settings(samples, cache, **more):
    tree = {
        'images': str(samples),
        'data': 'digits',
        'features': tiny.CLASSIFIER,
        'metrics': EVERY,
        'cache_dir': str(cache),
        'allow_fewer': True,
        **more,
    }
    return parse(evaluate.Settings, tree)


def statistics(digits, cache):
    """The reference that these settings have."""
    features = settings('x', cache).features
    return evaluate.Evaluator(digits, features, ('frechet',), cache).references['']


def noise(digits, n=500):
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, 1), np.uint8)


def test_the_real_digits_are_perfect(real, cache, tmp_path):
    row = evaluate.main(settings(real, cache), tmp_path)
    assert row['count'] == 1797 and row['features'] == 'digit classifier'
    assert row['frechet'] == pytest.approx(0, abs=1e-6)
    assert row['precision'] == row['recall'] == row['coverage'] == 1
    assert row['density'] == pytest.approx(1, abs=0.1)
    assert row['class_accuracy'] > 0.9
    assert row['class_variance_ratio'] == pytest.approx(1)
    assert not [key for key in row if 'because' in key]


def test_noise_is_bad_and_unlabelled(digits, cache, tmp_path):
    np.savez(tmp_path / 'noise.npz', noise(digits))
    row = evaluate.main(settings(tmp_path / 'noise.npz', cache), tmp_path)
    assert row['frechet'] > 10 and row['precision'] < 0.05 and row['recall'] < 0.05
    assert row['class_accuracy'] is None
    assert row['class_accuracy: none, because'] == 'the samples carry no labels'
    (stored,) = files.read_jsonl(tmp_path / 'results.jsonl')
    assert stored['metrics']['class_accuracy'] is None
    assert stored['undefined'] == {'class_accuracy': 'the samples carry no labels'}


def test_the_row_tells_of_every_class_and_of_too_few_images(real, cache, tmp_path):
    names = ('class_frechet', 'frechet_infinity', 'inception_score', 'kid')
    table = evaluate.main(settings(real, cache, metrics=names), tmp_path)
    (row,) = files.read_jsonl(tmp_path / 'results.jsonl')
    assert row['errors'].keys() == set(names) and not row['undefined']
    classes = row['parts']['class_frechet']
    assert list(classes) == [str(c) for c in range(10)] and max(classes.values()) < 1e-6
    assert (
        abs(row['metrics']['frechet_infinity']) < 3 and 5 < row['metrics']['inception_score'] < 10
    )
    # The default subsets of KID are 1000 images, of which two do not fit.
    assert row['fewer'] == {'kid': 2000}
    assert table['kid: fewer images than'] == 2000


def test_fewer_images_than_dimensions_must_be_allowed(digits, cache, tmp_path):
    np.savez(tmp_path / 'few.npz', digits.images(np.arange(40)))
    few = settings(tmp_path / 'few.npz', cache, metrics=('frechet',), allow_fewer=False)
    with pytest.raises(ValueError, match='asks for 65 images, there are 40. .*allow_fewer=true'):
        evaluate.main(few, tmp_path)
    assert not (tmp_path / 'results.jsonl').exists()
    few = settings(tmp_path / 'few.npz', cache, metrics=('frechet',))
    evaluate.main(few, tmp_path)
    (row,) = files.read_jsonl(tmp_path / 'results.jsonl')
    assert row['fewer'] == {'frechet': 65}
    assert row['metrics']['frechet'] > 0 and 'frechet' not in row['errors']


def test_labels_of_other_classes_are_refused(digits, cache, tmp_path):
    labels = np.where(np.arange(40) == 7, 10, digits.labels[:40])
    np.savez(tmp_path / 'odd.npz', images=digits.images(np.arange(40)), labels=labels)
    odd = settings(tmp_path / 'odd.npz', cache, metrics=('frechet',))
    with pytest.raises(ValueError, match='label 10 of the images is no class .* has 0 … 9'):
        evaluate.main(odd, tmp_path)


def test_batches_of_any_size_give_the_same_numbers(digits, cache):
    features = settings('x', cache).features
    evaluator = evaluate.Evaluator(digits, features, EVERY, cache)
    images, labels = digits.images(np.arange(300)), digits.labels[:300]

    def score(size):
        parts = [slice(i, i + size) for i in range(0, 300, size)]
        return evaluator.measure((images[p], labels[p]) for p in parts)['metrics']

    whole = score(300)
    assert whole['count'] == 300 and set(whole) == {*EVERY, 'count'}
    for size in (7, 64, 299):
        assert score(size) == pytest.approx(whole, rel=1e-9)


def test_the_second_call_reads_no_image(real, cache, tmp_path, capsys, monkeypatch):
    first = evaluate.main(settings(real, cache), tmp_path)
    before = {p: p.stat().st_mtime_ns for d in (tmp_path, cache) for p in d.rglob('*')}
    monkeypatch.setattr(sample_sets.SampleSet, 'batches', None)
    # Where the samples lie changes nothing.
    shutil.copytree(real, tmp_path.parent / f'{tmp_path.name}-moved')
    moved = settings(tmp_path.parent / f'{tmp_path.name}-moved', cache)
    assert evaluate.main(moved, tmp_path) == first
    assert f'already scored: row {first["key"]}' in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for d in (tmp_path, cache) for p in d.rglob('*')} == before


@pytest.mark.parametrize(
    'change',
    [
        {'metrics': ('frechet',)},
        {'features': {'name': 'classifier', 'recipe': {**tiny.RECIPE, 'seed': 1}}},
        {'data': {'name': 'digits', 'max_images': 900}},
    ],
)
def test_what_matters_makes_another_row(real, cache, tmp_path, change):
    first = evaluate.main(settings(real, cache), tmp_path)
    second = evaluate.main(settings(real, cache, **change), tmp_path)
    assert second['key'] != first['key']
    assert len(files.read_jsonl(tmp_path / 'results.jsonl')) == 2
    assert first['frechet'] == pytest.approx(0, abs=1e-6)


def test_folder_zip_and_npz_of_the_same_images_score_alike(digits, cache, tmp_path):
    images, labels = digits.images(np.arange(200)), digits.labels[:200]
    writer = sample_sets.create(tmp_path / 'set', {}, range(200))
    writer.write(np.arange(200), labels, images)
    writer.finish()
    shutil.copytree(tmp_path / 'set' / 'images', tmp_path / 'folder')
    names = sorted(str(p.relative_to(tmp_path / 'folder')) for p in tmp_path.glob('folder/*/*'))
    index = {'labels': [[n, int(l)] for n, l in zip(names, labels)]}
    files.write_json(tmp_path / 'folder' / 'dataset.json', index)
    with zipfile.ZipFile(tmp_path / 'images.zip', 'w') as archive:
        for name in [*names, 'dataset.json']:
            archive.write(tmp_path / 'folder' / name, name)
    np.savez_compressed(tmp_path / 'images.npz', images=images, labels=labels)
    rows = []
    for name in ('set', 'folder', 'images.zip', 'images.npz'):
        row = evaluate.main(settings(tmp_path / name, cache), tmp_path)
        rows.append([row[metric] for metric in EVERY])
    assert all(row == pytest.approx(rows[0], rel=1e-9) for row in rows)
    assert rows[0][EVERY.index('class_accuracy')] > 0.9


def test_a_changed_file_of_the_same_size_is_another_row(digits, cache, tmp_path):
    (tmp_path / 'folder').mkdir()
    for i, image in enumerate(digits.images(np.arange(20))):
        np.save(tmp_path / 'folder' / f'{i:02d}.npy', image.transpose(2, 0, 1))
    quick = {'metrics': ('frechet',)}
    first = evaluate.main(settings(tmp_path / 'folder', cache, **quick), tmp_path)
    np.save(tmp_path / 'folder' / '03.npy', np.zeros((1, 8, 8), np.uint8))
    second = evaluate.main(settings(tmp_path / 'folder', cache, **quick), tmp_path)
    assert second['key'] != first['key'] and second['frechet'] != first['frechet']


def test_statistics_in_a_file_give_frechet_and_reasons_for_the_rest(
    digits, real, cache, tmp_path, capsys
):
    found = statistics(digits, cache)
    np.savez(tmp_path / 'official.npz', mu=found.mu + 1, sigma=found.sigma)
    row = evaluate.main(settings(real, cache, reference=str(tmp_path / 'official.npz')), tmp_path)
    # All 64 means are off by one, the covariance is the same.
    assert row['frechet'] == pytest.approx(64, rel=1e-6)
    assert row['recall'] is None and row['class_accuracy'] > 0.9
    assert 'holds none' in row['recall: none, because']
    assert 'plain npz without a header' in capsys.readouterr().err
    metrics = {'metrics': ('recall',), 'reference': str(tmp_path / 'official.npz')}
    with pytest.raises(ValueError, match='recall needs the features of the real images'):
        evaluate.main(settings(real, cache, **metrics), tmp_path)


def test_a_reference_of_other_features_is_refused(digits, real, cache, tmp_path):
    found = statistics(digits, cache)
    found.header['weights_hash'] = 'other'
    references.save(found, tmp_path / 'other.npz')
    with pytest.raises(ValueError, match="weights_hash is 'other', this run has"):
        evaluate.main(settings(real, cache, reference=str(tmp_path / 'other.npz')), tmp_path)


def test_refusals_name_the_fix(digits, cache, tmp_path):
    writer = sample_sets.create(tmp_path / 'part', {}, range(4))
    writer.write([0, 2], None, noise(digits, 2))
    with pytest.raises(ValueError, match='is incomplete: 2 of 4 images.*it goes on where'):
        evaluate.main(settings(tmp_path / 'part', cache), tmp_path)
    np.savez(tmp_path / 'large.npz', np.zeros((3, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match='are 16×16×3 .* the real images are 8×8×1'):
        evaluate.main(settings(tmp_path / 'large.npz', cache), tmp_path)
    np.savez(tmp_path / 'float.npz', np.zeros((3, 8, 8, 1)))
    with pytest.raises(ValueError, match='arr_0 is float64'):
        evaluate.main(settings(tmp_path / 'float.npz', cache), tmp_path)
    with pytest.raises(FileNotFoundError, match='there is nothing'):
        evaluate.main(settings(tmp_path / 'nowhere', cache), tmp_path)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='there are no images'):
        evaluate.main(settings(tmp_path / 'empty', cache), tmp_path)
    with pytest.raises(ValueError, match=r"config\.metrics: unknown name 'frechett'. Did you mean"):
        settings('x', cache, metrics=('frechett',))
    assert settings('x', cache, data=None).data.name == 'digits'
    assert not (tmp_path / 'results.jsonl').exists()


def test_a_stop_between_batches_loses_nothing(real, cache, tmp_path, monkeypatch):
    quick = settings(real, cache, metrics=('frechet', 'recall'))
    seen = []

    def check(doing, saved=''):
        if doing == 'evaluating':
            seen.append(doing)
            if len(seen) == 3:
                raise stop.Stopped(doing, saved)

    monkeypatch.setattr(stop, 'check', check)
    with pytest.raises(stop.Stopped, match='while evaluating'):
        evaluate.main(quick, tmp_path)
    assert not (tmp_path / 'results.jsonl').exists()
    assert evaluate.main(quick, tmp_path)['recall'] == 1


def test_kept_features_serve_other_metrics_without_a_pass(real, cache, tmp_path, monkeypatch):
    keep = {'keep_features': True, 'cache_dir': str(tmp_path / 'kept')}
    evaluate.main(settings(real, cache, metrics=('frechet',), **keep), tmp_path)
    monkeypatch.setattr(sample_sets.SampleSet, 'batches', None)
    row = evaluate.main(
        settings(real, cache, metrics=('inception_score', 'recall'), **keep), tmp_path
    )
    assert row['recall'] == 1 and row['inception_score'] > 5


def test_the_row_has_intervals_and_says_why_there_is_none(digits, cache, tmp_path):
    np.savez(tmp_path / 'few.npz', digits.images(np.arange(40)), digits.labels[:40])
    names = ('frechet', 'precision', 'class_variance')
    shown = evaluate.main(settings(tmp_path / 'few.npz', cache, metrics=names), tmp_path)
    (row,) = files.read_jsonl(tmp_path / 'results.jsonl')
    assert '40 images for 64 dimensions' in row['no_error']['frechet']
    assert shown['frechet: no error, because'] == row['no_error']['frechet']
    # All of them are real: precision is 1 for each, which bounds nothing.
    assert row['errors']['precision'] == 0 and 'precision' not in row['intervals']
    low, high = row['intervals']['class_variance']
    assert low < row['metrics']['class_variance'] < high
    assert row['fewer'] == {'frechet': 65}
    known = row['reference']
    assert known['data_fingerprint'] == digits.fingerprint and known['count'] == 1797


def test_too_few_images_are_refused_before_a_reference_is_made(
    digits, cache, tmp_path, monkeypatch
):
    np.savez(tmp_path / 'few.npz', digits.images(np.arange(40)))
    monkeypatch.setattr(references, 'load', None)
    with pytest.raises(ValueError, match='frechet .* asks for 65 images, there are 40'):
        evaluate.main(settings(tmp_path / 'few.npz', cache, allow_fewer=False), tmp_path)


def test_rows_of_another_revision_are_not_taken(real, cache, tmp_path, monkeypatch):
    quick = settings(real, cache, metrics=('frechet',))
    first = evaluate.main(quick, tmp_path)
    monkeypatch.setattr(table.get('frechet'), 'revision', 10**6)
    assert evaluate.main(quick, tmp_path)['key'] != first['key']


def test_a_picture_is_not_put_among_the_images(digits, cache, tmp_path):
    for i, image in enumerate(digits.images(np.arange(70))):
        np.save(tmp_path / f'{i:02d}.npy', image.transpose(2, 0, 1))
    inside = settings(tmp_path, cache, metrics=('frechet', 'authenticity'))
    with pytest.raises(ValueError, match='lies in the folder of images'):
        evaluate.main(inside, tmp_path / 'out')
    assert evaluate.main(inside, tmp_path.parent / f'{tmp_path.name}-out')['count'] == 70


def test_a_damaged_npz_is_named(digits, cache, tmp_path):
    np.savez_compressed(tmp_path / 'bad.npz', digits.images(np.arange(80)))
    data = bytearray((tmp_path / 'bad.npz').read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / 'bad.npz').write_bytes(data)
    with pytest.raises(ValueError, match=r'bad\.npz'):
        evaluate.main(settings(tmp_path / 'bad.npz', cache), tmp_path)


@pytest.mark.parametrize(
    'text, words',
    [
        ('{', 'dataset.json: Expecting'),
        ('{"labels": [["0.npy", null]]}', 'whole numbers'),
        ('{"labels": [["0.npy", 0.7]]}', 'whole numbers'),
        ('{"labels": [["0.npy", [0, 1]]]}', 'whole numbers'),
        ('{"labels": [["1.npy", 1]]}', 'without a label: 0.npy'),
    ],
)
def test_a_bad_index_of_labels_is_named(text, words, cache, tmp_path):
    np.save(tmp_path / '0.npy', np.zeros((1, 8, 8), np.uint8))
    (tmp_path / 'dataset.json').write_text(text)
    with pytest.raises(ValueError, match=words):
        evaluate.main(settings(tmp_path, cache), tmp_path)
