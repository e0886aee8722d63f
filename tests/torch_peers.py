"""torch-fidelity, where it is installed: metrics of features by an independent implementation."""

import importlib
import sys

import pytest


def fidelity(module):
    """Return a module of torch-fidelity, or skip the test.

    It imports torchvision, of which it uses nothing here, and whose compiled part need not fit.
    """
    torch = pytest.importorskip('torch')
    try:
        return pytest.importorskip(f'torch_fidelity.{module}')
    except RuntimeError:
        for name in [n for n in sys.modules if n.startswith(('torchvision', 'torch_fidelity'))]:
            del sys.modules[name]
        library = torch.library.Library('torchvision', 'DEF')
        for name in ('nms', 'qnms'):
            library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        fidelity.library = library  # what it defines ends with it
        return importlib.import_module(f'torch_fidelity.{module}')
