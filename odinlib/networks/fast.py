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
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from odinlib import devices
from odinlib.errors import UserError, check_choice
from odinlib.networks import engines, planar
from odinlib.networks.densenet import DenseNet
from odinlib.networks.engines import PRECISIONS
from odinlib.networks.planar import Planar
from odinlib.networks.prefix import FastDenseNet
from odinlib.networks.wideresnet import Residual

__all__ = ["PRECISIONS", "FastDenseNet", "Frozen", "Planar", "fast"]


def fast(
    network: nn.Module,
    precision: str = "float32",
    compile: bool = False,
    micro: int | None = None,
    engine: str | None = None,
) -> nn.Module:
    """`network`, frozen in evaluation mode, in the fastest form there is for it.

    The result maps images [N, C, H, W] to logits [N, K] as `network` does, on the same device, and can be
    differentiated with respect to the images. Later changes of `network` do not reach it. Passes that need no
    gradient go through in small parts, so that memory does not grow with N. Its attribute `engine` names its form.

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
            another number gains or loses is less than what the machine varies by. The planar engine has groups of its
            own.
        engine: "plain", "fast" or "planar", for a DenseNet-BC or a Wide ResNet: what a run that goes on had before;
            none: as `ODINLIB_ENGINE` says, else the best on this machine. A network of which there is no such form
            gets the next best.

    Raises:
        UserError: an argument is out of range, `planar` was asked for and this machine cannot have it, or the weights
            hold NaN.

    >>> from odinlib.networks import build
    >>> network, images = build("densenet-bc-10-4", classes=3, seed=0).eval(), torch.rand(5, 3, 8, 8)
    >>> torch.allclose(fast(network)(images), network(images), atol=1e-5)
    True
    """
    check_choice("precision", precision, PRECISIONS)
    if micro is not None and (not isinstance(micro, int) or isinstance(micro, bool) or micro < 1):
        raise UserError(f"micro is {micro!r}", expected="a whole number, at least 1")
    asked, where, dtype = engines.wanted(engine), devices.of(network), PRECISIONS[precision]
    ours = network if isinstance(network, DenseNet) else None
    if ours and not all(torch.isfinite(value).all() for value in ours.state_dict().values()):
        raise UserError("the network's weights hold NaN or infinite values", remedy="train it again, or load others")
    if not ours or compile or asked == "plain" or not devices.has_float64(where):
        return Frozen(network, dtype, compile, micro or devices.images_per_pass(where), fold=asked != "plain")
    on_cpu = where.type == "cpu"
    if on_cpu and planar.takes(ours, dtype) and engines.chosen(precision, engine) == "planar":
        return Planar(ours, dtype)
    return FastDenseNet(ours, dtype, micro or (4 if on_cpu else devices.images_per_pass(where)))


class Frozen(nn.Module):
    """A copy of any network with channels last, without gradients of weights, and with batch norms folded if it can.

    Args:
        network: images [N, C, H, W] to logits [N, K].
        dtype: of passes without gradients.
        compile: pass it through `torch.compile`.
        micro: images that go through it together where no gradient is asked for.
        fold: a Wide ResNet's second batch norms into the convolutions before them.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, compile: bool, micro: int, fold: bool = True) -> None:
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
