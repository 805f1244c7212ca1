"""The ways to compute ODIN that the benchmarks compare, on one network."""

import argparse
import functools
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from odinlib import odin
from odinlib.networks import Classifier, build, engines
from odinlib.networks.fast import fast
from odinlib.networks.weights import import_checkpoint, load_weights

T, EPSILON = 1000.0, 0.0014
TEMPERATURES, EPSILONS = odin.PAPER_TEMPERATURES, odin.PAPER_EPSILONS
SETTINGS = len(TEMPERATURES) * len(EPSILONS)
MOVED = SETTINGS - len(TEMPERATURES)  # settings with an epsilon above 0
FLOAT32, BFLOAT16, AUTHORS = "engine, float32", "engine, bfloat16", "the authors' loop"
FAST = "fast, {}"  # the engine by PyTorch's operations, where another one is in use
PLAIN, OOD = "plain module, passes shared", "pytorch-ood"
BATCH = ", batch "  # ends the names of one way at several batch sizes
BATCHES = (8, 16, 32, 64)
Pass = Callable[[Tensor], object]


@dataclass(frozen=True)
class Contestant:
    """One way to compute ODIN: its passes on its own batch size, and how many of each the grid takes."""

    images: int  # that each call below takes
    setting: Callable[[Tensor, float], Tensor]  # softmax scores at one temperature, of the images moved by `EPSILON`
    passes: list[tuple[int, Pass]]  # (how often the grid needs it, the pass)
    forward: Callable[[Tensor], Tensor] | None = None  # the logits alone


def shared(network: nn.Module, images: int) -> Contestant:
    """The library's own functions around `network`: one forward and ten backward passes serve the whole grid."""

    def moved(x: Tensor) -> Tensor:
        return odin.margin_score(forward(odin.perturb(x, x, EPSILON)), T)

    def gradients(x: Tensor) -> object:
        return odin.input_gradients(network, x, TEMPERATURES)

    def setting(x: Tensor, temperature: float) -> Tensor:
        return odin.odin_score(network, x, temperature, EPSILON)

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            return network(x)

    return Contestant(images, setting, [(1, gradients), (MOVED, moved)], forward)


def authors_loop(network: Classifier) -> Contestant:
    """The steps of the loop that the paper's authors published, in its order; reading images and writing scores apart.

    One image at a time and every setting by itself, epsilon = 0 like any other. Nothing is frozen, so that each pass
    back also adds to the gradients of the weights, and the pass of the moved image keeps what one back would need.
    """
    loss = nn.CrossEntropyLoss()

    def softmax(logits: Tensor) -> Any:
        values = logits.detach().numpy()[0]
        exponentials = np.exp(values - np.max(values))
        return exponentials / np.sum(exponentials)

    def one(image: Tensor, temperature: float) -> float:
        x = ((image - network.mean) / network.std).requires_grad_()  # their images come normalised
        logits = network.logits(x)
        label = np.argmax(softmax(logits))  # whose maximum is the baseline's score
        loss(logits / temperature, torch.tensor([label])).backward()
        assert x.grad is not None
        sign = (torch.ge(x.grad, 0).float() - 0.5) * 2  # of 0: 1
        for channel, std in enumerate(network.std.flatten()):
            sign[0][channel] /= std
        moved = torch.add(x.detach(), sign, alpha=-EPSILON)
        return float(np.max(softmax(network.logits(moved) / temperature)))

    def setting(x: Tensor, temperature: float) -> Tensor:
        return torch.tensor([one(image, temperature) for image in x.split(1)])

    return Contestant(4, setting, [(SETTINGS, lambda x: setting(x, T))])


def pytorch_ood(network: nn.Module, images: int) -> Contestant:
    """As published; it treats epsilon = 0 like any other, too."""
    from pytorch_ood.detector import ODIN

    def setting(x: Tensor, temperature: float) -> Tensor:
        return -ODIN(network, eps=EPSILON, temperature=temperature).predict(x)

    return Contestant(images, setting, [(SETTINGS, lambda x: setting(x, T))])


def the_network(arguments: argparse.Namespace, trainable: bool = False, channels_last: bool = True) -> Classifier:
    """The one that all are given: in evaluation mode, on the device."""
    if arguments.weights and arguments.weights.endswith(".safetensors"):
        found: Classifier = load_weights(arguments.weights)[0]
    elif arguments.weights:
        statistics = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
        found = import_checkpoint(arguments.weights, arguments.network, arguments.classes, **statistics)[0]
    else:
        found = build(arguments.network, arguments.classes, mean=[0.49] * 3, std=[0.2] * 3, seed=0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return found.eval().requires_grad_(trainable).to(arguments.device, memory_format=layout)


def contestants(arguments: argparse.Namespace) -> dict[str, Callable[[], Contestant]]:
    """Each by its name, made when it is needed.

    What is not the library's own takes part at several batch sizes, and pytorch-ood with channels last too: it is
    compared at its best. That the weights were frozen made no difference to it.
    """
    network = functools.partial(the_network, arguments)
    as_made = functools.partial(network, trainable=True, channels_last=False)
    others = [p for p in engines.PRECISIONS if fast(network(), p).engine == "planar"]
    found = {
        FLOAT32: lambda: shared(fast(network()), 32),
        BFLOAT16: lambda: shared(fast(network(), "bfloat16"), 32),
        **{
            FAST.format(p): functools.partial(lambda p: shared(fast(network(), p, engine="fast"), 32), p)
            for p in others
        },
        **at_batches(PLAIN, shared, network),
        AUTHORS: lambda: authors_loop(as_made()),
    }
    try:
        name = f"{OOD} {importlib.metadata.version('pytorch-ood')}"
    except importlib.metadata.PackageNotFoundError:
        return found
    channels_last = functools.partial(network, trainable=True)
    return {
        **found,
        **at_batches(name, pytorch_ood, as_made),
        **at_batches(f"{name}, channels last", pytorch_ood, channels_last),
    }


def at_batches(
    way: str, make: Callable[[nn.Module, int], Contestant], network: Callable[[], nn.Module]
) -> dict[str, Callable[[], Contestant]]:
    return {f"{way}{BATCH}{n}": functools.partial(lambda n: make(network(), n), n) for n in BATCHES}


def way_of(name: str) -> str:
    """A contestant's name without its batch size.

    >>> way_of("plain module, passes shared, batch 16")
    'plain module, passes shared'
    """
    return name.partition(BATCH)[0]
