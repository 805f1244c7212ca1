"""DenseNet-BC (Huang, Liu, van der Maaten & Weinberger, CVPR 2017), as their code builds it for 32 x 32.

Three dense blocks of (depth - 4) / 6 bottleneck layers, compression 0.5 between them, no dropout. Modules
are named as in the common PyTorch port, which the paper's authors used too: their weights need no
translation.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odinlib.errors import UserError
from odinlib.networks.classifier import Classifier, check_images, initialise, pooled


class DenseNet(Classifier):
    """DenseNet-BC for small images; the height and width can be any number of pixels from 4.

    Images may have another size than `size`, that of training: see :func:`pooled` for what the classifier takes then.

    Args:
        depth: 6 n + 4, for blocks of n layers.
        growth: the feature maps that each layer adds, k in the original.
    """

    def __init__(
        self,
        depth: int,
        growth: int,
        classes: int,
        channels: int = 3,
        size: int = 32,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(f"densenet-bc-{depth}-{growth}", classes, channels, size, mean, std)
        layers = (depth - 4) // 6
        width = 2 * growth
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.block1 = DenseBlock(width, growth, layers)
        width += layers * growth
        self.trans1 = Transition(width, width // 2)
        width //= 2
        self.block2 = DenseBlock(width, growth, layers)
        width += layers * growth
        self.trans2 = Transition(width, width // 2)
        width //= 2
        self.block3 = DenseBlock(width, growth, layers)
        width += layers * growth
        self.bn1 = nn.BatchNorm2d(width)
        self.window = size // 4  # the transitions' pooling leaves out the last row of an odd number
        self.fc = nn.Linear(width, classes)
        initialise(self)

    def logits(self, x: Tensor) -> Tensor:
        """Logits [N, classes] of normalised images `x` [N, C, H, W]."""
        check_input(self.name, self.channels, x)
        x = self.trans1(self.block1(self.conv1(x)))
        x = self.block3(self.trans2(self.block2(x)))
        x = F.relu(self.bn1(x), inplace=True)
        logits: Tensor = self.fc(pooled(x, self.window, self.fc.weight.dtype))
        return logits


def check_input(name: str, channels: int, images: Tensor) -> None:
    """Refuse images that are not [N, `channels`, H, W], or cannot be halved twice, naming the network (`UserError`)."""
    check_images(name, channels, images)
    if min(images.shape[2:]) < 4:
        height, width = images.shape[2:]
        raise UserError(f"{name} was given images of {height} x {width} pixels", expected="at least 4 x 4")


class Bottleneck(nn.Module):
    """Batch norm, ReLU, 1 x 1 to 4 k maps; batch norm, ReLU, 3 x 3 to k maps, joined to the input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(F.relu(self.bn1(x), inplace=True))
        new = self.conv2(F.relu(self.bn2(new), inplace=True))
        return torch.cat([x, new], 1)


class DenseBlock(nn.Module):
    """`layers` bottlenecks, each seeing all maps before it."""

    def __init__(self, width: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(Bottleneck(width + i * growth, growth) for i in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class Transition(nn.Module):
    """Batch norm, ReLU, 1 x 1, then a 2 x 2 average pool."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x), inplace=True)), 2)
