"""The paper's networks in evaluation mode: the same logits and input gradients, sooner.

ODIN's grid is hundreds of passes through one fixed network. Three facts about a fixed DenseNet-BC shorten every one of
them, and change nothing but the order in which numbers are added:

1. **Batch norm and ReLU are one comparison.** With s and t the scale and shift that a batch norm amounts to,

       relu(s x + t) = s max(x, -t / s) + t    for s > 0, and the minimum for s < 0.

   The s and t outside belong to the 1 x 1 convolution behind, as factors of its weights and as its bias. The second
   batch norm of each layer is folded into the convolution before it.
2. **Concatenation is a prefix.** A dense block is one buffer [images, height, width, maps]. A layer reads the first
   maps and writes the next ones; nothing is copied, and a 1 x 1 convolution is a matrix product.
3. **Average pooling and a 1 x 1 convolution commute.** The transitions pool first: a quarter of the products.

Few images at a time stay within the cache; later blocks, whose maps are smaller, take more of them. The backward pass
is written out, because the weights need no gradients and all temperatures share the masks of one forward pass.

In bfloat16 the comparisons would take a quarter of the time, because PyTorch compares such numbers by way of float32.
Those that are not negative are ordered as their bits are, read as int16, and those compare at the speed of a copy. So
each map is stored with an offset that leaves no threshold below 0; it is one more shift to be folded.
"""

import copy
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.fusion import fuse_conv_bn_eval

from odinlib import devices
from odinlib.errors import UserError, check_choice
from odinlib.networks.classifier import pooled
from odinlib.networks.densenet import DenseNet
from odinlib.networks.wideresnet import Residual

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

#: Standard deviations below a map's mean: there a bfloat16 threshold is too far away to matter.
FAR = 4

#: Python holds one lock: with more threads than this, several share the operations of one worker.
MOST_WORKERS = 8


def fast(network: nn.Module, precision: str = "float32", compile: bool = False, micro: int | None = None) -> nn.Module:
    """`network`, frozen in evaluation mode, in the fastest form there is for it.

    The result maps images [N, C, H, W] to logits [N, K] as `network` does, on the same device, and can be
    differentiated with respect to the images. Later changes of `network` do not reach it. Passes that need no
    gradient go through in small parts, so that memory does not grow with N.

    Args:
        network: any. A DenseNet-BC gains most, on a device with float64 to fold its weights in; a Wide ResNet has half
            of its batch norms folded; all get channels last.
        precision: "float32" changes nothing beyond rounding. "bfloat16" does: passes without gradients keep 8 bits,
            except in the first layer, which must resolve perturbations of 1/5000, and in the last. Gradients stay in
            float32, because ODIN uses their signs. `benchmarks` has what this changes in each measure.
        compile: leave the work to `torch.compile` instead of the form written here; for CUDA. On a CPU it takes minutes
            and gains nothing for a DenseNet-BC. Exact but for rounding.
        micro: images that go through the network together; none: on a CPU, 4 in each thread through a DenseNet-BC (of
            which twice as many in bfloat16) and 32 through others; on a GPU, 256. It is not probed for: around 4, what
            another number gains or loses is less than what the machine varies by.

    >>> from odinlib.networks import build
    >>> network, images = build("densenet-bc-10-4", classes=3, seed=0).eval(), torch.rand(5, 3, 8, 8)
    >>> torch.allclose(fast(network)(images), network(images), atol=1e-5)
    True
    """
    check_choice("precision", precision, PRECISIONS)
    if micro is not None and (not isinstance(micro, int) or isinstance(micro, bool) or micro < 1):
        raise UserError(f"micro is {micro!r}", expected="a whole number, at least 1")
    where = devices.of(network)
    ours = network if isinstance(network, DenseNet) and not compile and devices.has_float64(where) else None
    if micro is None:
        micro = 4 if ours and where.type == "cpu" else devices.images_per_pass(where)
    if ours is not None:
        if not all(torch.isfinite(value).all() for value in ours.state_dict().values()):
            raise UserError(
                "the network's weights hold NaN or infinite values", remedy="train it again, or load others"
            )
        return FastDenseNet(ours, PRECISIONS[precision], micro)
    return Frozen(network, PRECISIONS[precision], compile, micro)


class Frozen(nn.Module):
    """A copy of any network with channels last, without gradients of weights, and with batch norms folded if it can.

    Args:
        network: images [N, C, H, W] to logits [N, K].
        dtype: of passes without gradients.
        compile: pass it through `torch.compile`.
        micro: images that go through it together where no gradient is asked for.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, compile: bool, micro: int) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        for module in network.modules():
            if isinstance(module, Residual):
                module.conv1 = fuse_conv_bn_eval(module.conv1, module.bn2)
                module.bn2 = nn.Identity()  # type: ignore[assignment]
        self.network, self.dtype, self.micro = network, dtype, micro
        layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for layer in {layers[0], layers[-1]} if layers and dtype != torch.float32 else ():
            layer.forward = _without_autocast(layer.forward)  # type: ignore[method-assign, assignment]
        self.run = torch.compile(self._run, dynamic=False) if compile else self._run

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] in float32 of `images` [N, C, H, W] in [0, 1]."""
        images = images.contiguous(memory_format=torch.channels_last)
        if images.requires_grad and torch.is_grad_enabled():
            return self.network(images)
        return torch.cat([self.run(part) for part in torch.split(images, self.micro)])

    def _run(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.network(images)


def _without_autocast(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def exact(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(x.float())

    return exact


# --- DenseNet-BC ------------------------------------------------------------------------------------------------------


class FastDenseNet(nn.Module):
    """A DenseNet-BC by the three facts above.

    Args:
        network: what it computes.
        dtype: of passes without gradients; gradients are computed in float32.
        micro: images that go through the first block together, in each thread.
    """

    def __init__(self, network: DenseNet, dtype: torch.dtype, micro: int) -> None:
        super().__init__()
        self.name, self.classes, self.micro = network.name, network.classes, micro
        self.mean = network.mean.detach().clone()
        first = _channels_last(network.conv1.weight.double() / network.std.double(), torch.float32)
        self.first = nn.Parameter(first, requires_grad=False)
        self.exact = _stages(network, torch.float32)
        self.stages = self.exact if dtype == torch.float32 else _stages(network, dtype)
        self.workers = MOST_WORKERS if self.first.device.type == "cpu" else 1

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] in float32 of `images` [N, C, H, W] in [0, 1]."""
        if images.requires_grad and torch.is_grad_enabled():
            return _Differentiable.apply(images, self)
        logits = torch.cat(_in_parallel(self._logits, images, self.workers))
        # A comparison of bits does not hand on NaN.
        return logits if self.stages is self.exact else logits + 0 * images.flatten(1).sum(1, keepdim=True)

    def _logits(self, images: Tensor) -> Tensor:
        parts = self._enter(images, self.stages)
        # A transition leaves a quarter of the pixels behind, so that four times the images fit; twice in bfloat16.
        micro = self.micro if self.stages is self.exact else 2 * self.micro
        for stage, most in zip(self.stages, (micro, 4 * micro, 16 * micro), strict=True):
            parts = torch.cat([_advance(part, stage) for part in torch.split(parts, most)])
        return parts

    def _enter(self, images: Tensor, stages: list["_Stage"]) -> Tensor:
        # In float32 at any precision: a perturbation of 1/5000 is less than a pixel's last bit in bfloat16.
        return _conv((images - self.mean).permute(0, 2, 3, 1), self.first, stages[0].offset)

    def input_gradients(self, images: Tensor, temperatures: Sequence[float]) -> tuple[list[Tensor], Tensor]:
        """What :func:`odinlib.odin.input_gradients` returns: a gradient for each temperature, and the logits."""

        def work(images: Tensor) -> tuple[Tensor, Tensor]:
            gradients, logits = [], []
            # Not one alone: for a single image PyTorch has a slower 3 x 3 convolution.
            for part in torch.split(images, max(2, self.micro // max(1, len(temperatures)))):
                here, masks = self.record(part)
                cotangents = [_log_score_gradient(here, temperature) for temperature in temperatures]
                back = self.pull_back(torch.cat(cotangents), masks) if cotangents else part[:0]
                gradients.append(back.view(len(cotangents), *part.shape))
                logits.append(here)
            return torch.cat(gradients, 1), torch.cat(logits)

        found = _in_parallel(work, images.detach(), self.workers)
        return list(torch.cat([gradients for gradients, _ in found], 1)), torch.cat([logits for _, logits in found])

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
        return _conv(cotangent, _turned(self.first)).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class _Gate:
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
class _Layer:
    """Gate, 1 x 1 convolution and ReLU, 3 x 3 convolution, on the first `width` maps of the block."""

    width: int
    gate: _Gate
    squeeze: Tensor
    bias: Tensor
    grow: Tensor
    offset: Tensor  # of the maps that it adds
    squeeze_back: Tensor  # the same two, transposed
    grow_back: Tensor


@dataclass(frozen=True)
class _Stage:
    """A dense block, and what follows it: a transition (weight [out, in, 1, 1]) or the classifier ([K, in])."""

    offset: Tensor  # that the maps bring with them, in float32
    layers: list[_Layer]
    gate: _Gate
    weight: Tensor
    bias: Tensor
    window: int  # of the classifier's pooling; a transition's is 2


@dataclass
class _Masks:
    """Where the gates let their input through, and where the ReLUs did: 1 or 0, in the order of the layers."""

    gates: list[Tensor]
    relus: list[Tensor]


def _advance(x: Tensor, stage: _Stage, masks: _Masks | None = None) -> Tensor:
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
        left = F.linear(pooled(gated.permute(0, 3, 1, 2), stage.window, torch.float32), stage.weight, stage.bias)
    else:
        left = _conv(F.avg_pool2d(gated.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1), stage.weight, stage.bias)
    if masks is not None:
        masks.gates.append(gated.eq_(block))
    return left


def _retreat(cotangent: Tensor, stage: _Stage, masks: _Masks) -> Tensor:
    """The transpose of the derivative of `_advance`: from a gradient at its output to the one at its input."""
    mask = masks.gates[-1]
    n, height, width, _ = mask.shape
    if stage.weight.ndim == 2:
        rows, columns = min(stage.window, height), min(stage.window, width)
        block = ((cotangent @ stage.weight) / (rows * columns))[:, None, None].expand(-1, rows, columns, -1)
    else:
        block = _conv(cotangent, _turned(stage.weight)) / 4
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


def _log_score_gradient(logits: Tensor, temperature: float) -> Tensor:
    """The derivative of log S(x; T) by the logits [N, K]: (1 - p_y) / T at the prediction y, -p_i / T elsewhere.

    1 - p_y is summed from the others in float64: in float32 it would vanish where the network is sure.
    """
    rest = torch.softmax(logits.double() / temperature, -1)
    predicted = logits.argmax(-1, keepdim=True)
    rest = rest.scatter(-1, predicted, 0.0)
    return (rest.neg().scatter(-1, predicted, rest.sum(-1, keepdim=True)) / temperature).to(logits.dtype)


# --- Folding, in float64 ----------------------------------------------------------------------------------------------


@torch.no_grad()
def _stages(network: DenseNet, dtype: torch.dtype) -> list[_Stage]:
    """The blocks of `network`, each with what follows it, folded."""
    blocks = (network.block1, network.trans1), (network.block2, network.trans2), (network.block3, network)
    stages: list[_Stage] = []
    block: Any
    end: Any
    for block, end in reversed(blocks):
        offset = _offset([*(bottleneck.bn1 for bottleneck in block.layer), end.bn1], dtype)
        layers: list[_Layer] = []
        for bottleneck in block.layer:
            gate = _gate(bottleneck.bn1, offset, dtype)
            scale, shift = _affine(bottleneck.bn2)
            weight = bottleneck.conv1.weight.double() * scale[:, None, None, None]
            squeeze, bias = _behind(gate, weight, shift, dtype)
            grow = _channels_last(bottleneck.conv2.weight, dtype)
            width = len(gate.scale)
            added = offset[width : width + len(grow)].to(dtype)
            layers.append(_Layer(width, gate, squeeze, bias, grow, added, _turned(squeeze), _turned(grow)))
        gate = _gate(end.bn1, offset, dtype)
        if end is network:
            weight, bias = _behind(gate, network.fc.weight.double(), network.fc.bias.double(), torch.float32)
        else:  # into the block that was folded just before
            weight, bias = _behind(gate, end.conv1.weight.double(), stages[0].offset.double(), dtype)
        stages.insert(0, _Stage(offset[: layers[0].width].float(), layers, gate, weight, bias, network.window))
    return stages


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


def _gate(norm: nn.BatchNorm2d, offset: Tensor, dtype: torch.dtype) -> _Gate:
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
    return _Gate(low, high, scale, shift + scale * (expected(turn) - passed), passed)


def _behind(gate: _Gate, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The weight [out, in, ...] and bias of a linear map of relu(s x + t), for gate(x) in its place.

    What the rounding of the weight adds on average is taken off the bias (Nagel et al., ICCV 2019).
    """
    matrix = weight.flatten(1) * gate.scale
    rounded = matrix.to(dtype)
    bias = bias + weight.flatten(1) @ gate.shift + (matrix - rounded) @ gate.mean
    return _channels_last(rounded.view(weight.shape), dtype), bias.float()


def _channels_last(weight: Tensor, dtype: torch.dtype) -> Tensor:
    form = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    return weight.detach().to(dtype).contiguous(memory_format=form)


def _turned(weight: Tensor) -> Tensor:
    """The weight of the transposed convolution, for stride 1."""
    return _channels_last(weight.flip(2, 3).transpose(0, 1), weight.dtype)


def _comparable(x: Tensor) -> Tensor:
    """The same bits as int16, where they are bfloat16's."""
    return x.view(torch.int16) if x.dtype == torch.bfloat16 else x


def _conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """A convolution of [n, H, W, in] that keeps height and width, and a ReLU if asked for."""
    if weight.shape[-1] == 1:
        return _product(x, weight.flatten(1), bias, relu)
    found = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=weight.shape[-1] // 2).permute(0, 2, 3, 1)
    return found.relu_() if relu else found


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """The matrix product [n, H, W, in] to [n, H, W, out].

    On a CPU by oneDNN: on processors not of its maker's, the library that `F.linear` calls for float32 leaves half of
    the vector unit idle (105 against 230 GFLOP/s on one core of a Zen 5). oneDNN also applies the ReLU on the way.
    """
    if x.device.type != "cpu" or _ONEDNN is None:
        found = F.linear(x, weight, None if bias is None else bias.to(x.dtype))
        return found.relu_() if relu else found
    flat: Tensor = _ONEDNN(x.reshape(-1, x.shape[-1]), weight, bias, "relu" if relu else "none", [], "")
    return flat.view(*x.shape[:-1], -1)


def _onednn() -> Callable[..., Tensor] | None:
    """The product that `torch.compile` calls on CPUs, or none where this PyTorch is built without it."""
    product: Callable[..., Tensor] | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    try:
        return product if product and product(torch.ones(1, 1), torch.ones(1, 1), None, "none", [], "").item() else None
    except (RuntimeError, NotImplementedError):
        return None


_ONEDNN = _onednn()


# --- Threads ----------------------------------------------------------------------------------------------------------


def _in_parallel(work: Callable[[Tensor], Any], images: Tensor, most: int) -> list[Any]:
    """`work` on parts of `images`, one part in each of PyTorch's threads, but without gradients.

    By itself PyTorch divides every single operation between its threads, which then wait for each other hundreds of
    times an image; and what one core has in its cache, the other needs.
    """
    threads = torch.get_num_threads()
    workers = max(1, min(threads, most, len(images)))

    def without_gradients(part: Tensor) -> Any:
        with torch.no_grad():
            return work(part)

    if workers == 1:
        return [without_gradients(images)]
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            return list(pool.map(without_gradients, images.tensor_split(workers)))
    finally:
        torch.set_num_threads(threads)  # new threads take their number from the last one set anywhere
