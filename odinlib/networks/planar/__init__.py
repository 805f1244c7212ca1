"""The engine "planar": a DenseNet-BC on a CPU, in C++ that is compiled on first use.

`planar.cpp` says how it computes; here are its weights, its images and its threads. In short: in `prefix` maps are
innermost, which suits a matrix product, but then gates are passes over memory of their own, and a 3 x 3 convolution
has few outputs for a wide vector. Here a vector holds 16 pixels of one map (fewer where vectors are shorter).

Every image takes the same operations in the same order: its logits and gradients do not depend, to the bit, on which
images go through with it, nor on the number of threads.
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from odinlib.networks import folded
from odinlib.networks.classifier import log_score_gradients
from odinlib.networks.densenet import Bottleneck, DenseNet, check_input
from odinlib.networks.folded import Gate, Stage, turned
from odinlib.networks.parallel import in_parallel
from odinlib.networks.planar.compiled import library

#: Images that go through side by side, at least: they share the reading of the weights, and fill vectors.
TOGETHER = 4


def takes(network: nn.Module, dtype: torch.dtype) -> bool:
    """Whether there is a :class:`Planar` for this network: a DenseNet-BC, of even numbers of maps in bfloat16."""
    if not isinstance(network, DenseNet):
        return False
    maps = [layer.conv1.in_channels for layer in network.modules() if isinstance(layer, Bottleneck)]
    return dtype == torch.float32 or all(count % 2 == 0 for count in (*maps, network.fc.in_features))


class Planar(nn.Module):
    """A DenseNet-BC on the CPU.

    Args:
        network: what it computes; `takes` must be true of it.
        dtype: of passes without gradients; gradients are computed in float32.
    """

    engine = "planar"

    def __init__(self, network: DenseNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.name, self.classes, self.channels = network.name, network.classes, network.channels
        self.mean = network.mean.detach().clone().float()
        self.exact = _Compiled(network, torch.float32)
        self.quick = self.exact if dtype == torch.float32 else _Compiled(network, dtype)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] in float32 of `images` [N, C, H, W] in [0, 1]."""
        check_input(self.name, self.channels, images)
        if images.requires_grad and torch.is_grad_enabled():
            return _Differentiable.apply(images, self)
        return self.logits(images, self.quick)

    def logits(self, images: Tensor, compiled: "_Compiled") -> Tensor:
        """Logits [N, K] of `images` [N, C, H, W] by one of the two compiled forms."""
        found = in_parallel(compiled.logits, len(images), self._centred(images)) if len(images) else []
        return _with_nan(images, torch.cat([images.new_empty(0, self.classes, dtype=torch.float32), *found]))

    def input_gradients(self, images: Tensor, temperatures: Sequence[float]) -> tuple[list[Tensor], Tensor]:
        """What :func:`odinlib.odin.input_gradients` returns: a gradient for each temperature, and the logits.

        These are in the precision of passes without gradients, as those of moved images are.
        """

        def work(images: Tensor) -> tuple[Tensor, Tensor]:
            return self.exact.gradients(images, lambda logits, _: log_score_gradients(logits, temperatures))

        check_input(self.name, self.channels, images)
        if not len(images):
            return [images.detach().clone() for _ in temperatures], self.logits(images, self.exact)
        found = in_parallel(work, len(images), self._centred(images))
        gradients = [_with_nan(images, gradient) for gradient in torch.cat([part for part, _ in found], 1)]
        if self.quick is not self.exact:
            return gradients, self.logits(images, self.quick)
        return gradients, _with_nan(images, torch.cat([part for _, part in found]))

    def pull_back(self, cotangent: Tensor, images: Tensor) -> Tensor:
        """The gradient [N, C, H, W] of sum(`cotangent` [N, K] * logits) with respect to the images [N, C, H, W]."""

        def work(images: Tensor, cotangent: Tensor) -> Tensor:
            gradients, _ = self.exact.gradients(images, lambda _, here: cotangent[None, here])
            return gradients[0]

        if not len(images):
            return images.detach().float()
        return _with_nan(images, torch.cat(in_parallel(work, len(images), self._centred(images), cotangent.float())))

    def _centred(self, images: Tensor) -> Tensor:
        return (images.detach().float() - self.mean).contiguous()


class _Differentiable(torch.autograd.Function):
    """For autograd. Going back, the images go forwards once more: that costs less than to keep all that it needs."""

    @staticmethod
    def forward(context: Any, images: Tensor, form: Planar) -> Tensor:
        context.form = form
        context.save_for_backward(images)
        return form.logits(images, form.exact)

    @staticmethod
    @once_differentiable
    def backward(context: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        (images,) = context.saved_tensors
        return context.form.pull_back(cotangent, images).to(images.dtype), None


def _with_nan(images: Tensor, found: Tensor) -> Tensor:
    """`found` [N, ...], but NaN where an image has a pixel that is no number: a comparison need not hand it on."""
    sums = images.detach().flatten(1).sum(1)
    if torch.isfinite(sums).all():
        return found
    return found + (0 * sums).view(-1, *[1] * (found.ndim - 1)).to(found.dtype)


# --- What is compiled -------------------------------------------------------------------------------------------------


class _Compiled:
    """The weights in one precision, and the networks in memory that were made of them.

    A network in memory takes images of one size, one group at a time, in one thread at a time.
    """

    def __init__(self, network: DenseNet, dtype: torch.dtype) -> None:
        stages = folded.stages(network, dtype, bounds=dtype == torch.bfloat16)
        self.tape = torch.cat([*_tape(folded.first(network), stages)])
        self.classes, self.window, self.bfloat16 = network.classes, network.window, dtype == torch.bfloat16
        self.growth, self.layers = len(stages[0].layers[0].grow), len(stages[0].layers)
        self.idle: dict[tuple[int, ...], list[_InMemory]] = {}

    def logits(self, images: Tensor) -> Tensor:
        """Logits [N, K] of `images` [N, C, H, W] from which the mean is subtracted."""
        logits, done = images.new_empty(len(images), self.classes), 0
        for group, count in _groups(len(images), images.shape[-1]):
            part, here = images[done : done + count], logits[done : done + count]
            with self._network(group, images.shape[1:]) as network:
                library().planar_forward(network, part.data_ptr(), count, here.data_ptr(), False)
            done += count
        return logits

    def gradients(self, images: Tensor, cotangents: Callable[[Tensor, slice], Tensor]) -> tuple[Tensor, Tensor]:
        """Several gradients at the same images, by one pass forwards and one back for each.

        Args:
            images: [N, C, H, W], from which the mean is subtracted.
            cotangents: gives, from the logits [n, K] of the images in a slice, derivatives by them [A, n, K].

        Returns:
            Gradients [A, N, C, H, W] and logits [N, K].
        """
        gradients, logits, done = [], [], 0
        for group, count in _groups(len(images), images.shape[-1]):
            with self._network(group, images.shape[1:]) as network:
                for part in images[done : done + count].split(group):
                    here = part.new_empty(len(part), self.classes)
                    library().planar_forward(network, part.data_ptr(), len(part), here.data_ptr(), True)
                    several = cotangents(here, slice(done, done + len(part))).contiguous()
                    back = part.new_empty(len(several), *part.shape)
                    for cotangent, gradient in zip(several, back, strict=True):
                        library().planar_backward(network, cotangent.data_ptr(), len(part), gradient.data_ptr())
                    gradients.append(back)
                    logits.append(here)
                    done += len(part)
        return torch.cat(gradients, 1), torch.cat(logits)

    @contextlib.contextmanager
    def _network(self, group: int, size: Sequence[int]) -> Iterator[int]:
        idle = self.idle.setdefault((group, *size), [])
        try:
            network = idle.pop()
        except IndexError:
            shape = (*size, self.window, self.growth, self.layers, self.classes, group)
            network = _InMemory(shape, self.tape, self.bfloat16)
        try:
            yield network.address
        finally:
            idle.append(network)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "idle": {}}  # a copy makes networks of its own


class _InMemory:
    """One network in memory; it reads the weights where they lie."""

    def __init__(self, shape: Sequence[int], tape: Tensor, bfloat16: bool) -> None:
        numbers = (ctypes.c_int * len(shape))(*shape)
        self.address = library().planar_new(numbers, tape.data_ptr(), len(tape), bfloat16)
        self.delete = library().planar_delete  # which outlives this module when Python ends
        if not self.address:
            raise MemoryError(f"no memory for a network of images of {shape[1]} x {shape[2]} pixels")

    def __del__(self) -> None:
        if self.address:
            self.delete(self.address)


def _groups(count: int, width: int) -> Iterator[tuple[int, int]]:
    """How `count` images go through: pairs of the images side by side, a power of 2, and for how many images.

    As many side by side as fill a tile with a row of the second block; the last few with as few others as can be.

    >>> list(_groups(11, 32)), list(_groups(3, 32)), list(_groups(1, 32))
    ([(4, 8), (4, 3)], [(4, 3)], [(1, 1)])
    """
    group = TOGETHER
    while width // 2 * group < 32:
        group *= 2
    if whole := count // group * group:
        yield group, whole
    if rest := count - whole:
        yield 1 << (rest - 1).bit_length(), rest


def _tape(first: Tensor, stages: Sequence[Stage]) -> Iterator[Tensor]:
    """All weights, in the order in which `planar.cpp` takes them."""
    yield from (*_convolution(first, stages[0].offset), *_convolution(turned(first)))
    for stage in stages:
        yield from _gate(stage.gate)
        for layer in stage.layers:
            yield from (*_gate(layer.gate), *_convolution(layer.squeeze, layer.bias))
            yield from (*_convolution(layer.grow, layer.offset), *_convolution(layer.squeeze_back.float()))
            yield from _convolution(layer.grow_back.float())
        yield from (*_convolution(stage.weight.float(), stage.bias), *_convolution(stage.weight_back.float()))


def _convolution(weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A weight [out, in, H, W] as [block of maps][input cell][tap][map], and the bias; zeros fill the last block."""
    weight = weight.view(*weight.shape, 1, 1) if weight.ndim == 2 else weight  # the classifier's
    block, in_cell = library().planar_block(len(weight)), 4 // weight.element_size()
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    beyond = -len(weight) % block
    weight = F.pad(weight.flatten(2), (0, 0, 0, 0, 0, beyond)).unflatten(1, (-1, in_cell)).unflatten(0, (-1, block))
    return _cells(weight.permute(0, 2, 4, 1, 3)), F.pad(bias.float(), (0, beyond))


def _gate(gate: Gate) -> tuple[Tensor, Tensor]:
    """The two numbers of each map's gate: scale and shift in float32, the bounds in bfloat16."""
    if gate.low.dtype == torch.float32:
        return gate.scale.float(), gate.shift.float()
    return _cells(gate.low), _cells(torch.full_like(gate.low, torch.inf) if gate.high is None else gate.high)


def _cells(values: Tensor) -> Tensor:
    """As 32 bits each: float32, or two of bfloat16."""
    return values.contiguous().flatten().view(torch.float32)
