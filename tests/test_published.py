"""Public names of the EDM2 files, and the presets that speak of them."""

import pytest

from autoguide_jax import published

MI = 2**20
IMAGES = {
    '2147483': 2**31,
    '1879048': 1792 * MI,
    '1342177': 1280 * MI,
    '1073741': 2**30,
    '0939524': 939524096,
    '0671088': 640 * MI,
    '0268435': 2**28,
    '0134217': 2**27,
    '0000000': 0,
    '0100000': 100_000_000,
}


@pytest.mark.parametrize('kimg, nimg', IMAGES.items())
def test_thousands_in_a_public_name_say_the_multiple_of_2_20_if_there_is_one(kimg, nimg):
    name = f'edm2-img512-xs-{kimg}-0.125.pkl'
    assert published.read(name) == ('edm2-img512-xs', nimg, 0.125)
    assert published.file_name('edm2-img512-xs', nimg, 0.125) == name


def test_folders_and_other_kinds_of_files_are_read_too():
    expected = ('edm2-img512-xs-uncond', 2**31, 0.025)
    for name in (
        'gs://bucket/models/edm2-img512-xs-uncond-2147483-0.025.safetensors',
        '/a/b-0000001-0.500.pkl/edm2-img512-xs-uncond-2147483-0.025.npz',
    ):
        assert published.read(name) == expected
        assert published.file_name(*expected, kind=name.rpartition('.')[2]) in name


@pytest.mark.parametrize(
    'name',
    [
        'edm2-img512-s-2147483.pkl',
        'edm2-img512-s-2147483-0.07.pkl',
        'edm2-img512-s-214748-0.070.pkl',
        'edm2-img512-s-2147483-0.070.pkl.part',
        'edm2-img512-s-2147483-0.070.pt',
        '-2147483-0.070.pkl',
        'edm2-img512-s-٢٢٢٢٢٢٢-0.070.pkl',
        'edm2-img512-s-2147483-0.070.pkl\n',
        '',
    ],
)
def test_other_names_are_refused_with_an_example(name):
    with pytest.raises(ValueError, match='must look like edm2-img512-s-2147483-0.070.pkl'):
        published.read(name)


@pytest.mark.parametrize(
    'said',
    [
        ('s', 2**31 + 1, 0.07),
        ('s', 2**31, 0.0705),
        ('s', 10**11, 0.07),
        ('a/s', 2**31, 0.07),
        ('', 0, 0.1),
    ],
)
def test_what_a_name_cannot_say_gets_none(said):
    with pytest.raises(ValueError, match='no public name says'):
        published.file_name(*said)
