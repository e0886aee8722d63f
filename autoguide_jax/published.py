"""The file names under which EDM2 publishes its networks, and what they say.

A name is network, thousands of images seen, relative EMA length: edm2-img512-s-2147483-0.070.pkl.
The thousands are rounded down, nimg // 1000. Snapshots were taken at multiples of 2^20 images, so
the multiple with these thousands is meant if there is one (2147483 → 2^31), else the thousands.
"""

import re
from typing import NamedTuple

PATTERN = re.compile(r'(.*)-(\d{7})-(\d\.\d{3})\.(pkl|npz|safetensors)', re.ASCII)
MI = 2**20


class Name(NamedTuple):
    """What a public name says: network, images seen, relative EMA length."""

    network: str
    nimg: int
    std: float


def read(name):
    """'edm2-img512-s-2147483-0.070.pkl' → Name('edm2-img512-s', 2147483648, 0.07).

    name: a file name, folders before it are passed over. Errors: ValueError for any other name.
    """
    found = PATTERN.fullmatch(re.split(r'[/\\]', str(name))[-1])
    if not found or not found[1]:
        raise ValueError(
            f'{name} is not a public name: it must look like edm2-img512-s-2147483-0.070.pkl, the '
            'network, thousands of images in 7 digits, EMA length (or .npz, .safetensors)'
        )
    return Name(found[1], images(int(found[2])), float(found[3]))


def images(kimg):
    """Thousands of images as in a public name → images seen."""
    nimg = -(-kimg * 1000 // MI) * MI
    return nimg if nimg // 1000 == kimg else kimg * 1000


def file_name(network, nimg, std, kind='pkl'):
    """The inverse of `read`: ('edm2-img512-s', 2**31, 0.07) → 'edm2-img512-s-2147483-0.070.pkl'.

    Errors: ValueError for what such a name cannot say.
    """
    name = f'{network}-{nimg // 1000:07d}-{std:.3f}.{kind}'
    try:
        said = read(name)
    except ValueError:
        said = None
    if said != (network, nimg, std):
        raise ValueError(
            f'no public name says network {network!r}, nimg {nimg} and std {std}: nimg must be a '
            'multiple of 2^20 or 1000 below 10^10, std have three decimals below 10'
        )
    return name
