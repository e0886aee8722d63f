"""Folders and zips of images: labels, kinds of files, and what is refused with which words."""

import io
import json
import zipfile

import numpy as np
import pytest
from image_sets import encoded, official, pixels, store
from PIL import Image

from autoguide_jax.data import folder, open_dataset


@pytest.mark.parametrize('zipped', [False, True])
@pytest.mark.parametrize('kind', ['png', 'npy'])
@pytest.mark.parametrize('channels', [1, 3])
def test_official_layout(tmp_path, kind, zipped, channels):
    path = store(tmp_path / 'set', official(6, kind, channels=channels), zipped)
    data = open_dataset('folder', path=path)
    assert data.describe() == {
        'name': 'set',
        'num_images': 6,
        'resolution': 8,
        'channels': channels,
        'num_classes': 3,
        'fingerprint': data.fingerprint,
    }
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    expected = np.stack([pixels(i, channels=channels) for i in (5, 0, 5)])
    np.testing.assert_array_equal(data.images([5, 0, 5]), expected)


@pytest.mark.parametrize('zipped', [False, True])
def test_class_subfolders_are_numbered_by_name(tmp_path, zipped):
    names = ['dog/1.png', 'cat/b.png', 'cat/a.png', 'eel/deep/x.PNG', '.git/x.png']
    contents = {n: encoded(pixels(i), 'png') for i, n in enumerate(names)}
    contents |= {'__MACOSX/cat/._a.png': b'junk', 'readme.txt': b'not an image'}
    data = open_dataset('folder', path=store(tmp_path / 'set', contents, zipped))
    assert data.labels.tolist() == [0, 0, 1, 2] and data.num_classes == 3
    expected = np.stack([pixels(i) for i in (2, 1, 0, 3)])
    np.testing.assert_array_equal(data.images(range(4)), expected)


def test_subfolders_that_are_links_count(tmp_path):
    store(tmp_path / 'elsewhere', {'a.png': encoded(pixels(0), 'png')})
    (tmp_path / 'set').mkdir()
    (tmp_path / 'set' / 'cat').symlink_to(tmp_path / 'elsewhere')
    assert open_dataset('folder', path=str(tmp_path / 'set')).num_images == 1


def test_deflated_zip_and_jpeg(tmp_path):
    """JPEG at quality 100 of a flat image is that image; a deflated zip reads as a stored one."""
    flat = np.full((8, 8, 3), (120, 120, 120), np.uint8)
    contents = {'a/1.jpg': encoded(flat, 'jpg', quality=100), 'a/2.JPEG': encoded(flat, 'JPEG')}
    contents['b/3.png'] = encoded(pixels(3), 'png')
    path = store(tmp_path / 'set', contents, True, zipfile.ZIP_DEFLATED)
    images = open_dataset('folder', path=path).images([0, 1, 2])
    assert np.abs(images[:2].astype(int) - 120).max() <= 1
    np.testing.assert_array_equal(images[2], pixels(3))


def test_unlabelled_sets_open_without_labels(tmp_path):
    for i, contents in enumerate([official(labels=False), {'x.png': encoded(pixels(0), 'png')}]):
        path = store(tmp_path / str(i), contents)
        data = open_dataset('folder', path=path, labels=False)
        assert data.labels is None and data.num_classes == 0
        assert data.examples([0])[1].tolist() == [-1]


def png(size=8, mode='RGB', **options):
    file = io.BytesIO()
    Image.new(mode, size if isinstance(size, tuple) else (size, size)).save(file, 'png', **options)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def index(*entries):
    return json.dumps({'labels': entries}).encode()


ONE = {'a.png': png(), 'b.png': png()}
REFUSED = {
    'empty': ({'readme.txt': b''}, 'there are no images'),
    'no labels': (ONE, 'the images have no labels.*dataset.json.*data.labels=False'),
    'null labels': (
        {**ONE, 'dataset.json': b'{"labels": null}'},
        'dataset.json has no labels.*data.labels=False',
    ),
    'not an index': ({**ONE, 'dataset.json': b'[1, 2]'}, 'dataset.json must be'),
    'no json': ({**ONE, 'dataset.json': b'{"labels": [['}, 'dataset.json must be'),
    'partial index': (
        {**ONE, 'dataset.json': index(['a.png', 0])},
        'labels only 1 of 2 images; without a label: b.png',
    ),
    'absent file': (
        {**ONE, 'dataset.json': index(['a.png', 0], ['b.png', 0], ['c.png', 0])},
        'names c.png, which is not there',
    ),
    'partial subfolders': (
        {'cat/a.png': png(), 'b.png': png()},
        '1 of 2 images lie outside the class subfolders, such as b.png',
    ),
    'one-based': (
        {**ONE, 'dataset.json': index(['a.png', 1], ['b.png', 2])},
        'labels must be 0…k-1, but none is 0 and the largest is 2',
    ),
    'gap': (
        {**ONE, 'dataset.json': index(['a.png', 0], ['b.png', 2])},
        'none is 1 and the largest is 2',
    ),
    'negative': ({**ONE, 'dataset.json': index(['a.png', -1], ['b.png', 0])}, 'a.png has label -1'),
    'float': ({**ONE, 'dataset.json': index(['a.png', 0], ['b.png', 0.5])}, 'b.png has label 0.5'),
    'bool': ({**ONE, 'dataset.json': index(['a.png', 0], ['b.png', True])}, 'has label True'),
    'sizes': (
        {'c/a.png': png(), 'c/b.png': png(), 'c/x.png': png(16)},
        'c/x.png is 16x16 RGB, but c/a.png is 8x8 RGB; images must have one size',
    ),
    'colours': (
        {'c/a.png': png(), 'c/b.png': png(mode='L')},
        'c/b.png is 8x8 grey, but c/a.png is 8x8 RGB',
    ),
    'not square': ({'c/a.png': png((8, 6))}, r'c/a.png is 8x6 \(width x height\).*square'),
    'alpha': ({'c/a.png': png(mode='RGBA')}, 'c/a.png is a 8-bit RGB with alpha PNG; convert'),
    'palette': ({'c/a.png': png(mode='P')}, 'palette PNG; convert'),
    '16 bit': ({'c/a.png': png(mode='I;16')}, '16-bit grey PNG; convert'),
    'cmyk': ({'c/a.jpg': None}, 'c/a.jpg has colour mode CMYK; convert'),
    'no png': ({'c/a.png': b'GIF89a'}, 'c/a.png is not a PNG file'),
    'no jpeg': ({'c/a.jpg': b'GIF?'}, 'c/a.jpg cannot be read as an image'),
    'latents': (
        {'c/a.npy': npy(np.zeros((8, 4, 4), np.float32))},
        r'c/a.npy is float32 \[8, 4, 4\]; an NPY image is uint8 \[c, h, w\]',
    ),
    'hwc': ({'c/a.npy': npy(np.zeros((8, 8, 3), np.uint8))}, r'c/a.npy is uint8 \[8, 8, 3\]'),
    'no npy': ({'c/a.npy': b'xx'}, 'c/a.npy is not an NPY file'),
}


@pytest.mark.parametrize('zipped', [False, True])
@pytest.mark.parametrize('case', REFUSED)
def test_unfit_sets_are_refused_on_opening(tmp_path, case, zipped):
    contents, message = REFUSED[case]
    if case == 'cmyk':
        file = io.BytesIO()
        Image.new('CMYK', (8, 8)).save(file, 'jpeg')
        contents = {'c/a.jpg': file.getvalue()}
    path = store(tmp_path / 'set', contents, zipped)
    with pytest.raises(ValueError, match=message) as error:
        open_dataset('folder', path=path)
    assert str(error.value).startswith(f'path ({path}): ')


def test_missing_path_and_broken_zip_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'path \(/no/where\) does not exist'):
        open_dataset('folder', path='/no/where')
    (tmp_path / 'x.zip').write_bytes(b'PK no')
    with pytest.raises(ValueError, match='is not a readable zip'):
        open_dataset('folder', path=str(tmp_path / 'x.zip'))
    path = store(tmp_path / 'y', official(), True, zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match='not stored/deflated'):
        open_dataset('folder', path=path)


def test_large_sets_are_checked_when_read(tmp_path, monkeypatch):
    """Above the limit only the first header is looked at; reading says the same words."""
    monkeypatch.setattr(folder, 'CHECKED', 2)
    contents, message = REFUSED['sizes']
    data = open_dataset('folder', path=store(tmp_path / 'set', contents))
    assert data.images([0, 1]).shape == (2, 8, 8, 3)
    with pytest.raises(ValueError, match=message):
        data.images([1, 2])


@pytest.mark.parametrize(
    ('zipped', 'message'), [(True, 'is damaged'), (False, 'cannot be read as an image')]
)
def test_damage_behind_the_header_is_named(tmp_path, zipped, message):
    contents = official()
    path = store(tmp_path / 'set', contents, zipped)
    name, data = '00000/img00000003.png', contents['00000/img00000003.png']
    if zipped:
        whole = bytearray((tmp_path / 'set.zip').read_bytes())
        at = whole.index(data) + 60
        whole[at] ^= 255
        (tmp_path / 'set.zip').write_bytes(whole)
    else:
        (tmp_path / 'set' / name).write_bytes(data[: len(data) // 2])
    opened = open_dataset('folder', path=path)
    opened.images([0, 1, 2])
    with pytest.raises(ValueError, match=f'{name} {message}'):
        opened.images([3])


def test_fingerprint_follows_content_and_not_place(tmp_path):
    def fingerprint(name, contents, zipped, **settings):
        return open_dataset(
            'folder', path=store(tmp_path / name / 'set', contents, zipped), **settings
        ).fingerprint

    for zipped in (False, True):
        (tmp_path / f'a{zipped}').mkdir()
        (tmp_path / f'b{zipped}').mkdir()
        (tmp_path / f'c{zipped}').mkdir()
        same = [fingerprint(f'{x}{zipped}', official(), zipped) for x in 'ab']
        assert same[0] == same[1] and len(same[0]) == 12
        other = official()
        other['00000/img00000001.png'] = encoded(pixels(99), 'png')
        relabelled = {
            **official(),
            'dataset.json': official()['dataset.json'].replace(b'2]', b'1]'),
        }
        changed = [fingerprint(f'c{zipped}', c, zipped) for c in (other, relabelled)]
        changed += [fingerprint(f'a{zipped}', official(), zipped, labels=False)]
        assert len({*changed, same[0]}) == 4
