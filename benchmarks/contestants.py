"""The ways to compute ODIN that the benchmarks compare, on one network."""

import argparse
import functools
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odinlib import odin
from odinlib.networks import build, engines
from odinlib.networks.fast import fast
from odinlib.networks.weights import import_checkpoint, load_weights

T, EPSILON = 1000.0, 0.0014
TEMPERATURES, EPSILONS = odin.PAPER_TEMPERATURES, odin.PAPER_EPSILONS
SETTINGS = len(TEMPERATURES) * len(EPSILONS)
MOVED = SETTINGS - len(TEMPERATURES)  # settings with an epsilon above 0
FLOAT32, BFLOAT16, ALONE = "engine, float32", "engine, bfloat16", "one image at a time"
FAST = "fast, {}"  # the engine by PyTorch's operations, where another one is in use
PLAIN = "plain module, passes shared, batch {}"
OOD = "pytorch-ood"
Pass = Callable[[Tensor], object]


@dataclass(frozen=True)
class Contestant:
    """One way to compute ODIN: its passes on its own batch size, and how many of each the grid takes."""

    images: int  # that each call below takes
    setting: Callable[[Tensor], Tensor]  # scores of one setting
    passes: list[tuple[int, Pass]]  # (how often the grid needs it, the pass)
    forward: Callable[[Tensor], Tensor] | None = None  # the logits alone


def shared(network: nn.Module, images: int) -> Contestant:
    """The library's own functions around `network`: one forward and ten backward passes serve the whole grid."""

    def moved(x: Tensor) -> Tensor:
        return odin.margin_score(forward(odin.perturb(x, x, EPSILON)), T)

    def gradients(x: Tensor) -> object:
        return odin.input_gradients(network, x, TEMPERATURES)

    def setting(x: Tensor) -> Tensor:
        return odin.odin_score(network, x, T, EPSILON)

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            return network(x)

    return Contestant(images, setting, [(1, gradients), (MOVED, moved)], forward)


def loop(network: nn.Module, images: int) -> Contestant:
    """The plain loop over settings, each by itself."""

    def setting(x: Tensor) -> Tensor:
        return odin.odin_score(network, x, T, EPSILON)

    def unmoved(x: Tensor) -> Tensor:
        return odin.odin_score(network, x, T, 0.0)

    return Contestant(images, setting, [(MOVED, setting), (SETTINGS - MOVED, unmoved)])


def one_by_one(network: nn.Module) -> Contestant:
    """What the paper authors' program does, by its description: one image at a time, and gradients of the weights too.

    Their loop treats epsilon = 0 like any other.
    """

    def one(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        logits = network(x) / T
        F.cross_entropy(logits, logits.argmax(1)).backward()
        assert x.grad is not None
        sign = (x.grad >= 0).float() * 2 - 1
        return torch.softmax(network(x.detach() - EPSILON * sign) / T, -1).amax(-1).detach()

    def setting(x: Tensor) -> Tensor:
        return torch.cat([one(image) for image in x.split(1)])

    return Contestant(4, setting, [(SETTINGS, setting)])


def pytorch_ood(network: nn.Module, images: int) -> Contestant:
    """As published; it treats epsilon = 0 like any other, too."""
    from pytorch_ood.detector import ODIN

    detector = ODIN(network, eps=EPSILON, temperature=T)

    def setting(x: Tensor) -> Tensor:
        return -detector.predict(x)

    return Contestant(images, setting, [(SETTINGS, setting)])


def the_network(arguments: argparse.Namespace, trainable: bool = False, channels_last: bool = True) -> nn.Module:
    """The one that all are given: in evaluation mode, on the device."""
    if arguments.weights and arguments.weights.endswith(".safetensors"):
        found: nn.Module = load_weights(arguments.weights)[0]
    elif arguments.weights:
        statistics = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
        found = import_checkpoint(arguments.weights, arguments.network, arguments.classes, **statistics)[0]
    else:
        found = build(arguments.network, arguments.classes, mean=[0.49] * 3, std=[0.2] * 3, seed=0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return found.eval().requires_grad_(trainable).to(arguments.device, memory_format=layout)


def contestants(arguments: argparse.Namespace) -> dict[str, Callable[[], Contestant]]:
    """Each by its name, made when it is needed."""
    network = functools.partial(the_network, arguments)
    others = [p for p in engines.PRECISIONS if fast(network(), p).engine == "planar"]
    found = {
        FLOAT32: lambda: shared(fast(network()), 32),
        BFLOAT16: lambda: shared(fast(network(), "bfloat16"), 32),
        **{
            FAST.format(p): functools.partial(lambda p: shared(fast(network(), p, engine="fast"), 32), p)
            for p in others
        },
        **{PLAIN.format(n): functools.partial(lambda n: shared(network(), n), n) for n in (8, 16, 32)},
        "plain loop over settings, batch 16": lambda: loop(network(), 16),
        ALONE: lambda: one_by_one(network(trainable=True, channels_last=False)),
    }
    try:
        name = f"{OOD} {importlib.metadata.version('pytorch-ood')}, batch 64"
        found[name] = lambda: pytorch_ood(network(trainable=True, channels_last=False), 64)
    except importlib.metadata.PackageNotFoundError:
        pass
    return found
