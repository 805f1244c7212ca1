"""A DenseNet-BC in evaluation mode, folded: what an engine needs of it, and nothing else.

Two facts about a fixed network, of which both engines for it are made (`prefix` and `planar`):

1. **Batch norm and ReLU are one comparison**, a *gate*. With s and t the scale and shift that a batch norm amounts to,

       relu(s x + t) = s max(x, -t / s) + t    for s > 0, and the minimum for s < 0.

   The s and t outside belong to the 1 x 1 convolution behind, as factors of its weights and as its bias. The second
   batch norm of each layer is folded into the convolution before it.
2. **Average pooling and a 1 x 1 convolution commute.** The transitions pool first: a quarter of the products.

In bfloat16 the comparisons would take a quarter of the time, because PyTorch compares such numbers by way of float32.
Those that are not negative are ordered as their bits are, read as int16, and those compare at the speed of a copy. So
each map is stored with an offset that leaves no threshold below 0; it is one more shift to be folded.

All of it is computed in float64 and rounded once.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from odinlib.networks.densenet import DenseNet

#: Standard deviations below a map's mean: there a bfloat16 threshold is too far away to matter.
FAR = 4


@dataclass(frozen=True)
class Gate:
    """A batch norm and a ReLU: relu(s x + t) = s gate(x) + t. A bound of bfloat16 is at least 0, or -0.0 for none."""

    low: Tensor
    high: Tensor | None  # where no scale is negative, one comparison is enough
    scale: Tensor  # s and t in float64, for the weights behind
    shift: Tensor
    mean: Tensor  # of gate(x), by the batch norm's running statistics

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        out = x.new_empty(x.shape) if out is None else out
        torch.maximum(_comparable(x), _comparable(self.low), out=_comparable(out))
        if self.high is not None:
            torch.minimum(_comparable(out), _comparable(self.high), out=_comparable(out))
        return out


@dataclass(frozen=True)
class Layer:
    """Gate, 1 x 1 convolution and ReLU, 3 x 3 convolution, on the first `width` maps of the block."""

    width: int
    gate: Gate
    squeeze: Tensor
    bias: Tensor
    grow: Tensor
    offset: Tensor  # of the maps that it adds
    squeeze_back: Tensor  # the same two, transposed
    grow_back: Tensor


@dataclass(frozen=True)
class Stage:
    """A dense block, and what follows it: a transition (weight [out, in, 1, 1]) or the classifier ([K, in])."""

    offset: Tensor  # that the maps bring with them, in float32
    layers: list[Layer]
    gate: Gate
    weight: Tensor
    bias: Tensor
    window: int  # of the classifier's pooling; a transition's is 2


@torch.no_grad()
def first(network: DenseNet) -> Tensor:
    """The weight [maps, C, 3, 3] of the first convolution, for images from which the mean is subtracted, in float32.

    The mean is left to be subtracted, because the zeros around the images stand for it. The first convolution is in
    float32 at any precision: a perturbation of 1/5000 is less than a pixel's last bit in bfloat16.
    """
    return channels_last(network.conv1.weight.double() / network.std.double(), torch.float32)


@torch.no_grad()
def stages(network: DenseNet, dtype: torch.dtype) -> list[Stage]:
    """The blocks of `network`, each with what follows it, folded."""
    blocks = (network.block1, network.trans1), (network.block2, network.trans2), (network.block3, network)
    found: list[Stage] = []
    block: Any
    end: Any
    for block, end in reversed(blocks):
        offset = _offset([*(bottleneck.bn1 for bottleneck in block.layer), end.bn1], dtype)
        layers: list[Layer] = []
        for bottleneck in block.layer:
            gate = _gate(bottleneck.bn1, offset, dtype)
            scale, shift = _affine(bottleneck.bn2)
            weight = bottleneck.conv1.weight.double() * scale[:, None, None, None]
            squeeze, bias = _behind(gate, weight, shift, dtype)
            grow = channels_last(bottleneck.conv2.weight, dtype)
            width = len(gate.scale)
            added = offset[width : width + len(grow)].to(dtype)
            layers.append(Layer(width, gate, squeeze, bias, grow, added, turned(squeeze), turned(grow)))
        gate = _gate(end.bn1, offset, dtype)
        if end is network:
            weight, bias = _behind(gate, network.fc.weight.double(), network.fc.bias.double(), torch.float32)
        else:  # into the block that was folded just before
            weight, bias = _behind(gate, end.conv1.weight.double(), found[0].offset.double(), dtype)
        found.insert(0, Stage(offset[: layers[0].width].float(), layers, gate, weight, bias, network.window))
    return found


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The scale s and the shift t of a batch norm in evaluation mode, s x + t."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _threshold(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """The scale s, with 0 for next to none, the shift t, and where s x + t changes its sign; 0 if it never does."""
    scale, shift = _affine(norm)
    constant = scale.abs() < 1e-30  # the output is relu(t); -t / s would overflow
    scale = torch.where(constant, 0.0, scale)
    turn = torch.where(constant, 0.0, -shift / torch.where(constant, 1.0, scale))
    return scale, torch.where(constant, shift.relu(), shift), turn


def _offset(norms: list[nn.BatchNorm2d], dtype: torch.dtype) -> Tensor:
    """What is added to each map of a block, whose first maps these batch norms read: 0 in float32.

    In bfloat16 the lowest threshold of a map comes to lie at 0. One that is further below the map's mean than `FAR`
    standard deviations counts as lying there: such a batch norm hardly looks at the map, and how finely the map is
    kept for the others should not depend on it.
    """
    offset = torch.zeros_like(norms[-1].weight, dtype=torch.float64)
    if dtype == torch.bfloat16:
        offset -= torch.inf
        for norm in norms:
            scale, _, turn = _threshold(norm)
            assert norm.running_mean is not None and norm.running_var is not None
            far = norm.running_mean.double() - FAR * norm.running_var.double().sqrt()
            needed = torch.where(scale == 0, -torch.inf, -torch.maximum(turn, far))
            torch.maximum(offset[: len(needed)], needed, out=offset[: len(needed)])
        offset[offset.isinf()] = 0.0
    return offset.to(dtype).double()


def _gate(norm: nn.BatchNorm2d, offset: Tensor, dtype: torch.dtype) -> Gate:
    """The gate of a batch norm, for maps to which the offset has been added."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale, shift, turn = _threshold(norm)
    offset = offset[: len(turn)]
    shift, turn, none = shift - scale * offset, turn + offset, -torch.inf
    kept = turn.to(dtype)
    if dtype == torch.bfloat16:
        kept, none = kept.clamp(min=0), -0.0
    mean, std = norm.running_mean.double() + offset, torch.sqrt(norm.running_var.double() + norm.eps)
    sign = torch.where(scale < 0, -1.0, 1.0)

    def expected(turn: Tensor) -> Tensor:
        """The mean of max(x, turn), or of the minimum, for normal x."""
        above = sign * (mean - turn) / std
        density = torch.exp(-(above**2) / 2) / math.sqrt(2 * math.pi)
        return turn + sign * std * (above * torch.special.ndtr(above) + density)

    passed = expected(kept.double())
    low = torch.where(scale < 0, none, kept)
    high = torch.where(scale < 0, kept, torch.inf) if bool((scale < 0).any()) else None
    return Gate(low, high, scale, shift + scale * (expected(turn) - passed), passed)


def _behind(gate: Gate, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The weight [out, in, ...] and bias of a linear map of relu(s x + t), for gate(x) in its place.

    What the rounding of the weight adds on average is taken off the bias (Nagel et al., ICCV 2019).
    """
    matrix = weight.flatten(1) * gate.scale
    rounded = matrix.to(dtype)
    bias = bias + weight.flatten(1) @ gate.shift + (matrix - rounded) @ gate.mean
    return channels_last(rounded.view(weight.shape), dtype), bias.float()


def channels_last(weight: Tensor, dtype: torch.dtype) -> Tensor:
    form = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    return weight.detach().to(dtype).contiguous(memory_format=form)


def turned(weight: Tensor) -> Tensor:
    """The weight of the transposed convolution, for stride 1."""
    return channels_last(weight.flip(2, 3).transpose(0, 1), weight.dtype)


def _comparable(x: Tensor) -> Tensor:
    """The same bits as int16, where they are bfloat16's."""
    return x.view(torch.int16) if x.dtype == torch.bfloat16 else x
