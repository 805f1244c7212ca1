"""The method on the paper's own images with a real network, against numbers measured independently.

Needs `ODINLIB_DATA` (prepared CIFAR-10 and Tiny ImageNet) and `ODINLIB_CHECKPOINTS` (folders, one of them with the
third-party DenseNet-BC-100 weights); skips, saying so, without them.
"""

import numpy as np
import pytest
import torch
from checkpoints import THIRD_PARTY, checkpoint

from odinlib import datasets, metrics, odin
from odinlib.datasets import prepared
from odinlib.networks import weights

IMAGES = np.arange(1000, 2000)
#: FPR at 95 % TPR in percent by max softmax, T = 1000 alone and with epsilon = 0.0014, and how near ours must be
#: (the crop's positions are random).
CHECKS = {
    "tinyimagenet-crop-drawn": ((44.2, 19.4, 12.0), 4.0),
    "tinyimagenet-resize-nearest": ((47.7, 24.5, 14.3), 1.5),
    "tinyimagenet-resize-bilinear-aligned": ((57.1, 34.0, 26.7), 1.5),
    "tinyimagenet-resize-bilinear-antialias": ((59.0, 46.6, 53.2), 1.5),
}

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def network():
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    found, _ = weights.import_checkpoint(checkpoint(THIRD_PARTY), "densenet-bc-100-12", 10, mean=mean, std=std)
    return found.to(memory_format=torch.channels_last).eval()


def scores(network, name):
    if not prepared.path(name).exists():
        pytest.skip(f"ODINLIB_DATA has no {name}")
    images = datasets.load(name).tensor(IMAGES)
    grid = odin.sweep(network, images, [1.0, 1000.0], [0.0], batch=32)
    moved = odin.sweep(network, images, [1000.0], [0.0014], batch=32)
    return grid[0, 0], grid[1, 0], moved[0, 0]


@pytest.fixture(scope="module")
def inside(network):
    return scores(network, "cifar10")


@pytest.mark.parametrize("name", CHECKS)
def test_false_positive_rates_are_those_measured_before(network, inside, name):
    expected, tolerance = CHECKS[name]
    outside = scores(network, name)
    found = [100 * metrics.fpr_at_tpr(*pair).item() for pair in zip(inside, outside, strict=True)]
    assert found == pytest.approx(expected, abs=tolerance)
