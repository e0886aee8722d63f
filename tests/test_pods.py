"""Many devices: the same training whatever their number and wherever the state is."""

import json
import os
import pathlib
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from autoguide_jax import config, mesh
from autoguide_jax.run_settings import Settings

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """What eight_devices.py found."""
    script = str(ROOT / 'tests' / 'eight_devices.py')
    environment = os.environ | {'JAX_NUM_CPU_DEVICES': '8', 'PYTHONPATH': str(ROOT)}
    process = subprocess.run(
        [sys.executable, script, str(tmp_path_factory.mktemp('pods'))],
        capture_output=True, text=True, env=environment, cwd=ROOT, timeout=1200,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


def test_losses_are_the_same_on_any_devices_split_or_not(found):
    alone = found['losses']['1/1']
    assert len(found['losses']) == 5 and len(set(alone)) == 3
    for name, losses in found['losses'].items():
        np.testing.assert_allclose(losses, alone, rtol=2e-5, err_msg=name)
    assert len(found['away']) == 4 and max(found['away'].values()) < 1e-4


def test_noise_labels_and_keys_are_the_same_bits_on_any_devices(found):
    assert len(found['randomness']) == 4 and len(set(found['randomness'].values())) == 1


def test_images_are_the_same_bits_at_equal_batch_per_device_and_the_same_up_to_rounding(found):
    images = found['images']
    assert images['1 by 2'][0] == images['2 by 4'][0] == images['8 by 16'][0]
    assert len(images) == 4 and found['spread'] > 10
    assert max(far for _, far in images.values()) <= 1


def test_a_device_holds_its_part_of_the_state_only(found):
    held = found['held']
    assert held['1/1'] == held['2/1'] == 1
    assert 0.5 <= held['4/2'] < 0.6 and 0.125 <= held['8/8'] < 0.25


def test_checkpoints_go_from_eight_devices_to_one_to_four(found):
    assert found['restored'] == [True, True]
    np.testing.assert_allclose(found['next'], found['next'][0], rtol=2e-5)


@pytest.mark.parametrize(
    ('shape', 'shards', 'spec'),
    [
        ((3, 3, 192, 384), 16, PartitionSpec(None, None, None, mesh.SHARDS)),
        ((2, 3, 3, 384, 192), 16, PartitionSpec(None, None, None, mesh.SHARDS)),
        ((3, 3, 200, 384), 256, PartitionSpec()),
        ((3, 3, 512, 300), 256, PartitionSpec(None, None, mesh.SHARDS)),
        ((192,), 16, PartitionSpec()),
        ((192, 384), 1, PartitionSpec()),
    ],
)
def test_a_tensor_is_split_along_its_largest_dimension_that_divides(shape, shards, spec):
    assert mesh.split(shape, shards) == spec


def test_no_copy_of_the_state_lies_on_two_slices():
    make = lambda i: types.SimpleNamespace(id=i, slice_index=i % 2, device_kind='x', platform='x')
    devices = [make(i) for i in range(8)]
    slices = lambda shards: np.vectorize(lambda d: d.slice_index)(mesh.grid(devices, shards))
    assert slices(0).tolist() == [[0] * 4, [1] * 4]
    assert slices(2).tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]
    with pytest.raises(ValueError, match=r'shards \(8\) must divide the 4 devices of a slice'):
        mesh.grid(devices, 8)


def test_settings_that_cannot_act_are_refused():
    with pytest.raises(ValueError, match=r"params \('fsdb'\) must be"):
        config.parse(Settings, {'mesh': {'params': 'fsdb'}})
    with pytest.raises(ValueError, match='needs params=fsdp'):
        config.parse(Settings, {'mesh': {'shards': 2}})
    with pytest.raises(ValueError, match=r'mesh.shards \(3\) must divide the 2 devices in use'):
        mesh.over(jax.devices()[:2], 3)
