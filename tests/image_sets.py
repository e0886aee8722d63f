"""Small folders and zips of images for tests, in the layouts that people have."""

import io
import json
import zipfile

import numpy as np
from PIL import Image


def pixels(seed, size=8, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (size, size, channels), dtype=np.uint8)


def encoded(image, kind, **options):
    file = io.BytesIO()
    if kind == 'npy':
        np.save(file, np.moveaxis(image, -1, 0))
    else:
        mode = image if image.shape[2] == 3 else image[:, :, 0]
        Image.fromarray(mode).save(file, 'jpeg' if kind in ('jpg', 'JPEG') else kind, **options)
    return file.getvalue()


def store(path, contents, zipped=False, method=zipfile.ZIP_STORED):
    """Write name → bytes as a folder or as a zip and return its path."""
    if not zipped:
        for name, data in contents.items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return str(path)
    path = path.with_suffix('.zip')
    with zipfile.ZipFile(path, 'w', method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return str(path)


def official(count=6, kind='png', labels=True, channels=3):
    """Return an official EDM2/StyleGAN layout; image i is pixels(i), its label i mod 3."""
    names = [f'0000{i // 4}/img{i:08d}.{kind}' for i in range(count)]
    contents = {n: encoded(pixels(i, channels=channels), kind) for i, n in enumerate(names)}
    entries = [[n, i % 3] for i, n in enumerate(names)] if labels else None
    contents['dataset.json'] = json.dumps({'labels': entries}).encode()
    return contents
