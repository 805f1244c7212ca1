"""Wide ResNet (Zagoruyko & Komodakis, BMVC 2016), pre-activated, without dropout, as the paper trains it."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from odinlib.networks.classifier import Classifier, initialise, pooled


class WideResNet(Classifier):
    """Three groups of residual blocks of 16 w, 32 w and 64 w maps; any height and width will do.

    Images may have another size than `size`, that of training: see :func:`pooled` for what the classifier takes then.

    Args:
        depth: 6 n + 4, for groups of n blocks.
        width: the widening factor w.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        classes: int,
        channels: int = 3,
        size: int = 32,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(f"wrn-{depth}-{width}", classes, channels, size, mean, std)
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = Group(16, 16 * width, blocks, stride=1)
        self.block2 = Group(16 * width, 32 * width, blocks, stride=2)
        self.block3 = Group(32 * width, 64 * width, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.window = math.ceil(size / 4)  # the convolutions that halve the maps keep the last row of an odd number
        self.fc = nn.Linear(64 * width, classes)
        initialise(self)

    def logits(self, x: Tensor) -> Tensor:
        """Logits [N, classes] of normalised images `x` [N, C, H, W]."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = F.relu(self.bn1(x), inplace=True)
        logits: Tensor = self.fc(pooled(x, self.window, self.fc.weight.dtype))
        return logits


class Residual(nn.Module):
    """Twice batch norm, ReLU, 3 x 3; a shortcut that changes shape is a 1 x 1 of the activated input."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        same = width == out and stride == 1
        self.convShortcut = None if same else nn.Conv2d(width, out, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True))
        return out.add_(shortcut)


class Group(nn.Module):
    """`blocks` residual blocks, the first of which changes the width and the resolution."""

    def __init__(self, width: int, out: int, blocks: int, stride: int) -> None:
        super().__init__()
        rest = (Residual(out, out, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(Residual(width, out, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out
