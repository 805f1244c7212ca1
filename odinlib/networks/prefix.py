"""The engine "fast": a DenseNet-BC by PyTorch's own operations, sooner.

ODIN's grid is hundreds of passes through one fixed network. It is folded (see `folded`), and a third fact shortens
every pass:

**Concatenation is a prefix.** A dense block is one buffer [images, height, width, maps]. A layer reads the first maps
and writes the next ones; nothing is copied, and a 1 x 1 convolution is a matrix product.

Few images at a time stay within the cache; later blocks, whose maps are smaller, take more of them. The backward pass
is written out, because the weights need no gradients and all temperatures share the masks of one forward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from odinlib import devices
from odinlib.networks import folded
from odinlib.networks.classifier import log_score_gradients, pooled
from odinlib.networks.densenet import DenseNet, check_input
from odinlib.networks.folded import Stage, turned
from odinlib.networks.parallel import in_parallel

#: Python holds one lock: with more threads than this, several share the operations of one worker.
MOST_WORKERS = 8


class FastDenseNet(nn.Module):
    """A DenseNet-BC by the facts above.

    Args:
        network: what it computes.
        dtype: of passes without gradients; gradients are computed in float32.
        micro: images that go through the first block together, in each thread.
    """

    engine = "fast"

    def __init__(self, network: DenseNet, dtype: torch.dtype, micro: int) -> None:
        super().__init__()
        self.name, self.classes, self.channels, self.micro = network.name, network.classes, network.channels, micro
        self.mean = network.mean.detach().clone()
        self.first = nn.Parameter(folded.first(network), requires_grad=False)
        self.exact = folded.stages(network, torch.float32)
        self.stages = self.exact if dtype == torch.float32 else folded.stages(network, dtype)
        self.workers = MOST_WORKERS if self.first.device.type == "cpu" else 1

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] in float32 of `images` [N, C, H, W] in [0, 1]."""
        check_input(self.name, self.channels, images)
        if images.requires_grad and torch.is_grad_enabled():
            return _Differentiable.apply(images, self)
        logits = torch.cat(in_parallel(self._logits, self.workers, images))
        # A comparison of bits does not hand on NaN.
        return logits if self.stages is self.exact else logits + 0 * images.flatten(1).sum(1, keepdim=True)

    def _logits(self, images: Tensor) -> Tensor:
        parts = self._enter(images, self.stages)
        # A transition leaves a quarter of the pixels behind, so that four times the images fit; twice in bfloat16.
        micro = self.micro if self.stages is self.exact else 2 * self.micro
        for stage, most in zip(self.stages, (micro, 4 * micro, 16 * micro), strict=True):
            parts = torch.cat([_advance(part, stage) for part in torch.split(parts, most)])
        return parts

    def _enter(self, images: Tensor, stages: list[Stage]) -> Tensor:
        with devices.exact(images.device):
            return _conv((images - self.mean).permute(0, 2, 3, 1), self.first, stages[0].offset)

    def input_gradients(self, images: Tensor, temperatures: Sequence[float]) -> tuple[list[Tensor], Tensor]:
        """What :func:`odinlib.odin.input_gradients` returns: a gradient for each temperature, and the logits.

        These are in the precision of passes without gradients, as those of moved images are: else a score would change
        by the rounding alone between no perturbation and a small one.
        """

        def work(images: Tensor) -> tuple[Tensor, Tensor]:
            gradients, logits = [], []
            # Not one alone: for a single image PyTorch has a slower 3 x 3 convolution.
            for part in torch.split(images, max(2, self.micro // max(1, len(temperatures)))):
                here, masks = self.record(part)
                cotangents = log_score_gradients(here, temperatures).flatten(0, 1)
                gradients.append(self.pull_back(cotangents, masks).view(len(temperatures), *part.shape))
                logits.append(here)
            return torch.cat(gradients, 1), torch.cat(logits)

        check_input(self.name, self.channels, images)
        found = in_parallel(work, self.workers, images.detach())
        gradients = list(torch.cat([gradients for gradients, _ in found], 1))
        if self.stages is not self.exact:
            return gradients, self(images.detach())
        return gradients, torch.cat([logits for _, logits in found])

    def record(self, images: Tensor) -> tuple[Tensor, list["_Masks"]]:
        """The logits [N, K] in float32, and what :meth:`pull_back` needs to know of the way to them."""
        x, masks = self._enter(images, self.exact), []
        for stage in self.exact:
            masks.append(_Masks([], []))
            x = _advance(x, stage, masks[-1])
        return x, masks

    def pull_back(self, cotangent: Tensor, masks: list["_Masks"]) -> Tensor:
        """The gradient of sum(`cotangent` * logits) with respect to the images.

        Args:
            cotangent: [A N, K], several for the same N images one after the other.
            masks: of :meth:`record`.

        Returns:
            Gradients [A N, C, H, W].
        """
        for stage, kept in zip(reversed(self.exact), reversed(masks), strict=True):
            cotangent = _retreat(cotangent, stage, kept)
        return _conv(cotangent, turned(self.first)).permute(0, 3, 1, 2).contiguous()


@dataclass
class _Masks:
    """Where the gates let their input through, and where the ReLUs did: 1 or 0, in the order of the layers."""

    gates: list[Tensor]
    relus: list[Tensor]


def _advance(x: Tensor, stage: Stage, masks: _Masks | None = None) -> Tensor:
    """From the maps [n, H, W, maps] that enter a dense block to those that enter the next, or to the logits."""
    n, height, width, maps = x.shape
    block = torch.empty(n, height, width, len(stage.gate.scale), dtype=stage.gate.low.dtype, device=x.device)
    block[..., :maps] = x
    scratch = torch.empty(block.numel(), dtype=block.dtype, device=x.device)
    for layer in stage.layers:
        seen = block[..., : layer.width]
        gated = layer.gate(seen, out=None if masks is not None else scratch[: seen.numel()].view(seen.shape))
        squeezed = _conv(gated, layer.squeeze, layer.bias, relu=True)
        block[..., layer.width : layer.width + layer.grow.shape[0]] = _conv(squeezed, layer.grow, layer.offset)
        if masks is not None:
            masks.gates.append(gated.eq_(seen))
            masks.relus.append(squeezed.sign_())
    gated = stage.gate(block, out=scratch.view(block.shape))
    if stage.weight.ndim == 2:
        with devices.exact(x.device):
            left = F.linear(pooled(gated.permute(0, 3, 1, 2), stage.window, torch.float32), stage.weight, stage.bias)
    else:
        left = _conv(F.avg_pool2d(gated.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1), stage.weight, stage.bias)
    if masks is not None:
        masks.gates.append(gated.eq_(block))
    return left


def _retreat(cotangent: Tensor, stage: Stage, masks: _Masks) -> Tensor:
    """The transpose of the derivative of `_advance`: from a gradient at its output to the one at its input."""
    mask = masks.gates[-1]
    n, height, width, _ = mask.shape
    if stage.weight.ndim == 2:
        rows, columns = min(stage.window, height), min(stage.window, width)
        block = ((cotangent @ stage.weight) / (rows * columns))[:, None, None].expand(-1, rows, columns, -1)
    else:
        block = _conv(cotangent, stage.weight_back) / 4
        block = block[:, :, None, :, None].expand(-1, -1, 2, -1, 2, -1).flatten(3, 4).flatten(1, 2)
    if (height, width) != block.shape[1:3]:  # what pooling leaves out: beyond the window, or the last of an odd number
        block = F.pad(block, (0, 0, 0, width - block.shape[2], 0, height - block.shape[1]))

    def several(x: Tensor) -> Tensor:
        """[A n, H, W, maps] as [A, n, H, W, maps]: the masks are the same for every cotangent."""
        return x.unflatten(0, (-1, n))

    block = (several(block) * mask).flatten(0, 1)
    for layer, gate, relu in zip(reversed(stage.layers), masks.gates[-2::-1], reversed(masks.relus), strict=True):
        squeezed = _conv(block[..., layer.width : layer.width + layer.grow.shape[0]], layer.grow_back)
        several(squeezed).mul_(relu)
        several(block[..., : layer.width]).addcmul_(gate, several(_conv(squeezed, layer.squeeze_back)))
    return block[..., : stage.layers[0].width]


class _Differentiable(torch.autograd.Function):
    """The backward pass above, for autograd."""

    @staticmethod
    def forward(context: Any, images: Tensor, form: FastDenseNet) -> Tensor:
        context.form = form
        logits, context.masks = form.record(images)
        return logits

    @staticmethod
    @once_differentiable
    def backward(context: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        return context.form.pull_back(cotangent, context.masks), None


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """A convolution of [n, H, W, in] that keeps height and width, and a ReLU if asked for."""
    if weight.shape[-1] == 1:
        return devices.product(x, weight.flatten(1), bias, relu)
    found = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=weight.shape[-1] // 2).permute(0, 2, 3, 1)
    return found.relu_() if relu else found
