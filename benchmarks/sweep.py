"""Time and memory of one setting and of the grid of 210, an image.

The contestants take turns, several times over, because a machine is not equally fast all the time. The engine's grid is
also timed as a whole; the others' is added up from its passes.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from contestants import BATCHES, BFLOAT16, EPSILON, FLOAT32, T, contestants, the_network, way_of
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from odinlib import odin
from odinlib.networks import DenseNet, folded
from odinlib.networks.fast import fast

MANY = 512  # images through which memory must not grow


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds an image in every round, the rate of the machine, and the floor."""
    images = sample(max(BATCHES), arguments.device)
    made = {name: make() for name, make in contestants(arguments).items()}
    table: dict[str, dict[str, list[float]]] = {}
    for name, each in made.items():
        each.setting(images[: each.images], T)  # warms up
        table[name] = {kind: [] for kind in (*(["forward"] if each.forward else []), "setting", "grid")}
    rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    wholes: dict[str, list[float]] = {FLOAT32: [], BFLOAT16: []}
    forms = {name: fast(the_network(arguments), name.split()[-1]) for name in wholes}
    for done in range(arguments.rounds):
        for dtype in rates:
            rates[dtype].append(rate(getattr(torch, dtype), arguments.device))
        for name, each in made.items():
            x = images[: each.images]
            table[name]["setting"].append(milliseconds(each.setting, x, T))
            table[name]["grid"].append(sum(count * milliseconds(run, x) for count, run in each.passes))
            if each.forward:
                table[name]["forward"].append(milliseconds(each.forward, x))
        if done < arguments.wholes:
            for name, form in forms.items():
                wholes[name].append(milliseconds(lambda x: odin.sweep(form, x), images[:32]))  # noqa: B023
    operations, moved = floor(arguments)
    return {
        "device": arguments.device,
        "contestants": table,
        "best": best_batches(table),
        "whole_grid": wholes,
        "operations": operations,
        "bytes": moved,
        "rates": rates,
    }


def memory(arguments: argparse.Namespace, passed_on: list[str]) -> dict[str, float]:
    """The peak of memory in GB, each in a process of its own; the engine's sweep for few images and for many."""
    found = {}
    for name in [*contestants(arguments), f"{FLOAT32}, sweep of 32", f"{FLOAT32}, sweep of {MANY}"]:
        run = [sys.executable, str(Path(__file__).with_name("run.py")), *passed_on, "--memory", name]
        found[name] = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()[-1])
    return found


def peak(name: str, arguments: argparse.Namespace) -> float:
    """The peak in GB above what interpreter, libraries, network and images take, of this process."""
    contestant, _, many = name.partition(", sweep of ")
    images = sample(int(many or max(BATCHES)), arguments.device)
    made = contestants(arguments)[contestant]()
    form = fast(the_network(arguments)) if many else None
    before = resident("VmRSS")
    if form is not None:
        odin.sweep(form, images, [T], [0.0, EPSILON])
    else:
        x = images[: made.images]
        made.setting(x, T)
        for _, run in made.passes:
            run(x)
    return torch.cuda.max_memory_allocated() / 1e9 if images.is_cuda else resident("VmHWM") - before


def sample(count: int, device: str) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)


def milliseconds(work: Callable[..., object], x: Tensor, *arguments: Any) -> float:
    """An image."""
    return 1e3 * seconds(work, x, *arguments) / len(x)


def seconds(work: Callable[..., object], *arguments: Any) -> float:
    """By the clock on the wall with a GPU; else of the processor, a thread, so that other work on it counts less."""
    if not torch.cuda.is_available():
        start = time.process_time()
        work(*arguments)
        return (time.process_time() - start) / torch.get_num_threads()
    torch.cuda.synchronize()
    start = time.perf_counter()
    work(*arguments)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def rate(dtype: torch.dtype, device: str, size: int = 2048) -> float:
    """Operations a second in a product of square matrices, by the better of PyTorch's own library and oneDNN."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    products: list[Callable[[], object]] = [lambda: a @ b]
    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if onednn is not None and device == "cpu":
        products.append(lambda: onednn(a, b, None, "none", [], ""))
    return 2 * size**3 / min(min(seconds(product) for _ in range(2)) for product in products)


def floor(arguments: argparse.Namespace) -> tuple[int, int]:
    """Operations of one image's forward pass, and the bytes that the engine's steps read and write in float32.

    The bytes count every map that a gate, a 1 x 1 or a 3 x 3 convolution reads or writes, and no weights: what a pass
    would move if nothing stayed in the cache.
    """
    network, image = the_network(arguments), sample(1, arguments.device)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(image)
    maps, pixels = 0, image.shape[-1] * image.shape[-2]
    for stage in folded.stages(network, torch.float32) if isinstance(network, DenseNet) else ():
        for layer in stage.layers:
            grown, squeezed = layer.grow.shape[:2]
            maps += pixels * (3 * layer.width + 2 * squeezed + grown)
        maps += pixels * 3 * len(stage.gate.scale)
        pixels //= 4
    return counter.get_total_flops(), 4 * maps


def resident(field: str) -> float:
    """Memory of this process in GB, from Linux; `ru_maxrss` would do elsewhere, but there it starts at the parent's."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) * 1024 / 1e9


def ratio(slower: Iterable[float], faster: Iterable[float]) -> float:
    """How many times faster: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def best_batches(table: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, str]]:
    """Of each way and kind of pass the contestant's name, that is the batch size, with the least time."""
    best: dict[str, dict[str, str]] = {}
    for name, each in table.items():
        fastest = best.setdefault(way_of(name), {})
        for kind, values in each.items():
            if kind not in fastest or min(values) < min(table[fastest[kind]][kind]):
                fastest[kind] = name
    return best
