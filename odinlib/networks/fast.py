"""The paper's networks in evaluation mode: the same logits and input gradients, sooner.

ODIN's grid is hundreds of passes through one fixed network. `fast` gives its fastest form; which that is depends on the
network, the device and the machine, and stands in its attribute `engine`:

* "planar" (`planar`): a DenseNet-BC on a CPU, in C++, where that can be compiled and pays (`engines`);
* "fast" (`prefix`): a DenseNet-BC by PyTorch's operations; and a Wide ResNet with half of its batch norms folded;
* "plain": any other network, frozen and in small parts; "compiled": one that is left to `torch.compile`.

Both engines for a DenseNet-BC compute the same folded network (`folded`): they change nothing but the order in which
numbers are added.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from odinlib import devices
from odinlib.devices import KERNELS, PRECISIONS
from odinlib.errors import UserError, check_choice
from odinlib.networks import engines, planar
from odinlib.networks.classifier import log_score_gradients
from odinlib.networks.densenet import DenseNet
from odinlib.networks.parallel import Parts
from odinlib.networks.planar import Planar
from odinlib.networks.prefix import FastDenseNet
from odinlib.networks.wideresnet import Residual

__all__ = ["KERNELS", "PRECISIONS", "FastDenseNet", "Frozen", "OnGpu", "Planar", "fast"]

#: Images that are handed to a form on CUDA together, unless memory is short. Splits and sets are multiples of it.
MOST_ON_CUDA = 1000


def fast(
    network: nn.Module,
    precision: str = "float32",
    compile: bool = False,
    micro: int | None = None,
    engine: str | None = None,
    kernels: str | None = None,
) -> nn.Module:
    """`network`, frozen in evaluation mode, in the fastest form there is for it.

    The result maps images [N, C, H, W] to logits [N, K] as `network` does, on the same device, and can be
    differentiated with respect to the images. Later changes of `network` do not reach it. Passes that need no
    gradient go through in small parts, so that memory does not grow with N. Its attribute `engine` names its form.

    Args:
        network: any. A DenseNet-BC gains most, on a device with float64 to fold its weights in; a Wide ResNet has half
            of its batch norms folded; all get channels last.
        precision: "float32" changes nothing beyond rounding, and gives the same bits every time. The others do change
            the logits, but for the first layer, which must resolve perturbations of 1/5000, and the last one, both of
            which stay in float32:

            * "tf32" rounds the factors of every product to 10 bits on CUDA; elsewhere it is "float32";
            * "float16" keeps 11 bits and "bfloat16" 8 in passes without gradients, whose sums are longer.

            Gradients, of which ODIN uses the signs, are those of "float32" on a CPU, and with any of the others those
            of "tf32" on CUDA. Clean logits come from a pass like those of moved images.
            `benchmarks` has what this changes in each measure.
        compile: leave the work to `torch.compile` instead of the form written here; for CUDA. On a CPU it takes minutes
            and gains nothing for a DenseNet-BC. Exact but for rounding.
        micro: images that go through the network together; none: on a CPU, 4 in each thread through a DenseNet-BC (of
            which twice as many in bfloat16) and 32 through others; on CUDA, 1,000, or as many as memory holds; on
            another GPU, 256. It is not probed for: around 4, what another number gains or loses is less than what the
            machine varies by. The planar engine has groups of its own.
        engine: "plain", "fast" or "planar", for a DenseNet-BC or a Wide ResNet: what a run that goes on had before;
            none: as `ODINLIB_ENGINE` says, else the best on this machine. A network of which there is no such form
            gets the next best.
        kernels: on CUDA, "exact" for the same bits every time, or "fastest" for whatever cuDNN measures to be that;
            none: exact in float32, fastest in the others. A CPU's are exact.

    Raises:
        UserError: an argument is out of range, `planar` was asked for and this machine cannot have it, or the weights
            hold NaN.

    >>> from odinlib.networks import build
    >>> network, images = build("densenet-bc-10-4", classes=3, seed=0).eval(), torch.rand(5, 3, 8, 8)
    >>> torch.allclose(fast(network)(images), network(images), atol=1e-5)
    True
    """
    check_choice("precision", precision, PRECISIONS)
    if kernels is not None:
        check_choice("kernels", kernels, KERNELS)
    if micro is not None and (not isinstance(micro, int) or isinstance(micro, bool) or micro < 1):
        raise UserError(f"micro is {micro!r}", expected="a whole number, at least 1")
    where = devices.of(network)
    broken = (value for value in network.state_dict().values() if not torch.isfinite(value).all())
    if isinstance(network, DenseNet) and next(broken, None) is not None:
        raise UserError("the network's weights hold NaN or infinite values", remedy="train it again, or load others")
    if where.type == "cpu":
        return _form(network, precision, compile, micro, engine)
    together = micro or (MOST_ON_CUDA if where.type == "cuda" else devices.images_per_pass(where))
    return OnGpu(_form(network, precision, compile, together, engine), precision, kernels, together)


def _form(network: nn.Module, precision: str, compile: bool, micro: int | None, engine: str | None) -> nn.Module:
    """The form that computes, see `fast`."""
    asked, where, dtype = engines.wanted(engine), devices.of(network), PRECISIONS[precision]
    ours = network if isinstance(network, DenseNet) else None
    if not ours or compile or asked == "plain" or not devices.has_float64(where):
        exact_ends = precision != "float32"
        micro = micro or devices.images_per_pass(where)
        return Frozen(network, dtype, compile, micro, fold=asked != "plain", exact_ends=exact_ends)
    known = "float32" if precision == "tf32" else precision  # the same on a CPU
    both = where.type == "cpu" and known in engines.PRECISIONS and planar.takes(ours, dtype)  # engines can do it
    if both and engines.chosen(known, engine) == "planar":
        return Planar(ours, dtype)
    return FastDenseNet(ours, dtype, micro or 4)


class OnGpu(nn.Module):
    """A form on a GPU: its products in the precision that was asked for, and as many images a pass as memory holds.

    Args:
        form: one of the others.
        precision, kernels: see `fast`.
        most: images that go through together where memory is not short.
    """

    def __init__(self, form: nn.Module, precision: str, kernels: str | None, most: int) -> None:
        super().__init__()
        self.form, self.precision, self.images_per_pass = form, precision, most
        self.engine: str = form.engine  # type: ignore[assignment]
        self.kernels = kernels or ("exact" if precision == "float32" else "fastest")
        self.parts, self.parts_back = Parts(most), Parts(most)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] in float32 of `images` [N, C, H, W] in [0, 1]."""
        if images.requires_grad and torch.is_grad_enabled():
            with self._arithmetic(images):
                return self.form(images)
        return torch.cat(list(self.parts(self._forward, images)))

    def _forward(self, images: Tensor) -> Tensor:
        with self._arithmetic(images):
            return self.form(images)

    def input_gradients(self, images: Tensor, temperatures: Sequence[float]) -> tuple[list[Tensor], Tensor]:
        """What :func:`odinlib.odin.input_gradients` returns: a gradient for each temperature, and the logits."""
        faster: Any = self.form.input_gradients

        def work(images: Tensor) -> tuple[Tensor, Tensor]:
            with self._arithmetic(images):
                gradients, logits = faster(images, temperatures)
            return torch.stack(gradients), logits

        found = list(self.parts_back(work, images))
        return list(torch.cat([gradients for gradients, _ in found], 1)), torch.cat([logits for _, logits in found])

    def _arithmetic(self, images: Tensor) -> Any:
        return devices.arithmetic(images.device, tf32=self.precision != "float32", fastest=self.kernels == "fastest")


class Frozen(nn.Module):
    """A copy of any network with channels last, without gradients of weights, and with batch norms folded if it can.

    On a CPU a Wide ResNet's convolutions are nearly all of its time, at nearly the rate of large matrix products: with
    every batch norm folded and each convolution joined with what follows it, a pass took as long, within a few percent.

    Args:
        network: images [N, C, H, W] to logits [N, K].
        dtype: of passes without gradients.
        compile: pass it through `torch.compile`.
        micro: images that go through it together.
        fold: a Wide ResNet's second batch norms into the convolutions before them.
        exact_ends: the first and the last layer are in float32, whatever the others are in.
    """

    def __init__(
        self,
        network: nn.Module,
        dtype: torch.dtype,
        compile: bool,
        micro: int,
        fold: bool = True,
        exact_ends: bool = False,
    ) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.engine = "plain"
        for module in network.modules():
            if isinstance(module, Residual) and fold:
                module.conv1 = fuse_conv_bn_eval(module.conv1, module.bn2)
                module.bn2 = nn.Identity()  # type: ignore[assignment]
                self.engine = "fast"
        if compile:
            self.engine = "compiled"
        self.network, self.dtype, self.micro = network, dtype, micro
        layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for layer in {layers[0], layers[-1]} if layers and exact_ends else ():
            layer.forward = _in_float32(layer.forward)  # type: ignore[method-assign, assignment]
        self.run = torch.compile(self._run, dynamic=False) if compile else self._run

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] in float32 of `images` [N, C, H, W] in [0, 1]."""
        images = _laid_out(images)
        if images.requires_grad and torch.is_grad_enabled():
            return self.network(images)
        return torch.cat([self.run(part) for part in torch.split(images, self.micro)])

    def input_gradients(self, images: Tensor, temperatures: Sequence[float]) -> tuple[list[Tensor], Tensor]:
        """What :func:`odinlib.odin.input_gradients` returns: a gradient for each temperature, and the logits."""
        parts = torch.split(_laid_out(images.detach()), self.micro)
        found = [self._gradients(part, temperatures) for part in parts]
        gradients = list(torch.cat([gradients for gradients, _ in found], 1))
        if self.dtype != torch.float32:
            with torch.no_grad():
                return gradients, self(images)
        return gradients, torch.cat([logits for _, logits in found])

    def _gradients(self, images: Tensor, temperatures: Sequence[float]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            logits = self.network(images.requires_grad_())
            gradients: list[Tensor] = []
            for cotangent in log_score_gradients(logits.detach(), temperatures):
                keep = len(gradients) < len(temperatures) - 1
                gradients += torch.autograd.grad(logits, images, cotangent, retain_graph=keep)
        return torch.stack(gradients), logits.detach()

    def _run(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.network(images)


def _laid_out(images: Tensor) -> Tensor:
    """Images with channels last; what are none is left to the network to refuse."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def exact(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False), devices.exact(x.device):
            return forward(x.float())

    return exact
