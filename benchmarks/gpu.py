"""What a GPU takes for the paper's three networks, in one call of at most three minutes.

Of each network: forward passes, one setting of ODIN, the grid of 210 added up from its passes, and a step of training;
by the library's form in each precision, by the plain module as PyTorch runs it, and by pytorch-ood where it is
installed. Each is timed for about `SECONDS`; what no time is left for is left out, and said.
"""

import argparse
import copy
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from contestants import EPSILON, MOVED, OOD, TEMPERATURES, T, pytorch_ood
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from odinlib import devices, networks, odin
from odinlib.networks.fast import fast
from odinlib.networks.train import PAPER_RECIPES

NETWORKS = ("densenet-bc-100-12", "wrn-28-10", "wrn-40-4")
#: Asked in, and trained in: what `odin respond --precision` and `odin train --precision` take.
ASKED, TRAINED = ("float32", "tf32", "float16"), ("float32", "tf32", "bfloat16")
IMAGES = 512  # a pass, for the library's form and for the plain module
SECONDS = 0.7  # for each measurement, after its warm-up
LIMIT = 160.0  # seconds after which nothing more is begun
PLAIN = "plain module"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """A row for each network, way and pass; the rates of matrix products and of a copy.

    Returns:
        `card`, its name; `rates`, operations a second by precision, and `copy`, bytes a second; `rows`, each with
        network, way, precision, pass, images (together), milliseconds (an image, the least), operations and bytes (an
        image); `left_out`, what no time was left for.
    """
    where = torch.device(arguments.device)
    began, few = time.perf_counter(), where.type == "cpu"
    images = arguments.images or (2 if few else IMAGES)
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    rates = {name: rate(name, where) for name in ("float32", "tf32", "bfloat16", "float16")}
    for name in arguments.networks or NETWORKS:
        network = networks.build(name, 10, mean=[0.49] * 3, std=[0.2] * 3, seed=0).eval()
        operations, values = work(network)
        x = torch.rand(images, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(where)
        for way, precision, make in ways(network, name, where):
            if time.perf_counter() - began > arguments.limit:
                left_out.append(f"{way} in {precision} of {name}")
                continue
            try:
                for done, passes, count, run in make(x):
                    rows.append(
                        {
                            "network": name,
                            "way": way,
                            "precision": precision,
                            "pass": done,
                            "images": count,
                            "milliseconds": 1e3 * least(run, where, 0.0 if few else SECONDS) / count,
                            "operations": passes * operations,
                            "bytes": passes * values * (2 if precision in ("float16", "bfloat16") else 4),
                        }
                    )
            except torch.OutOfMemoryError:
                left_out.append(f"{way} in {precision} of {name}: out of memory")
    return {
        "card": torch.cuda.get_device_name(where) if where.type == "cuda" else None,
        "rates": rates,
        "copy": copying(where),
        "rows": [*rows, *grids(rows)],
        "left_out": left_out,
        "seconds": time.perf_counter() - began,
    }


Timed = tuple[str, int, int, Callable[[], object]]  # a pass, in forward passes; images of a call; the call


def ways(
    network: nn.Module, name: str, where: torch.device
) -> Iterator[tuple[str, str, Callable[[Tensor], Iterator[Timed]]]]:
    """Every way to do it: its name, its precision, and what makes its passes of images."""
    there = functools.partial(copied, network, where)
    for precision in ASKED:
        yield "library", precision, lambda x, p=precision: asked(fast(there(), p), x)  # type: ignore[misc]
    yield PLAIN, "tf32", lambda x: asked(there(), x)  # PyTorch's own choice for convolutions on CUDA
    try:
        import pytorch_ood as _  # noqa: F401

        yield OOD, "tf32", lambda x: alone(there(trainable=True), x)
    except ImportError:
        pass
    for precision in TRAINED:
        yield "training", precision, lambda x, p=precision: trained(there(trainable=True), name, p, x)  # type: ignore[misc]


def copied(network: nn.Module, where: torch.device, trainable: bool = False) -> nn.Module:
    made = copy.deepcopy(network).to(where, memory_format=torch.channels_last)
    return made.requires_grad_(trainable)


def asked(network: nn.Module, x: Tensor) -> Iterator[Timed]:
    """The passes that ODIN takes."""

    def forward() -> Tensor:
        with torch.no_grad():
            return network(x)

    yield "forward", 1, len(x), forward
    yield "gradient", 2, len(x), lambda: odin.input_gradients(network, x, [T])
    yield "gradients", 1 + len(TEMPERATURES), len(x), lambda: odin.input_gradients(network, x, TEMPERATURES)
    yield "one setting", 3, len(x), lambda: setting(network, x)


def setting(network: nn.Module, x: Tensor) -> Tensor:
    """Scores at one setting, without what the command line does to keep a foreign network's arithmetic exact."""
    (gradient,), _ = odin.input_gradients(network, x, [T])
    with torch.no_grad():
        return odin.margin_score(network(odin.perturb(x, gradient, EPSILON)), T)


def alone(network: nn.Module, x: Tensor) -> Iterator[Timed]:
    detector = pytorch_ood(network, len(x))
    yield "one setting", 3, len(x), lambda: detector.setting(x)


def trained(network: nn.Module, name: str, precision: str, x: Tensor) -> Iterator[Timed]:
    """A step as `odin train` takes it, without the drawing of images."""
    recipe = PAPER_RECIPES[networks.family_of(name)]
    count = min(recipe.batch, len(x))
    images, labels = x[:count].contiguous(memory_format=torch.channels_last), torch.arange(count, device=x.device) % 10
    network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, nesterov=True, fused=True)
    exact = precision == "float32"

    def step() -> None:
        with devices.arithmetic(x.device, tf32=not exact, fastest=not exact):
            with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                logits = network(images)
            F.cross_entropy(logits.float(), labels).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    yield "training step", 3, count, step


def grids(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The grid of 210 settings, added up: a pass for every moved image, and one with all gradients."""
    found = {(row["network"], row["way"], row["precision"], row["pass"]): row for row in rows}
    for (name, way, precision, done), row in found.items():
        forward = found.get((name, way, precision, "forward"))
        if done == "gradients" and forward:
            added = {key: MOVED * forward[key] + row[key] for key in ("milliseconds", "operations", "bytes")}
            yield {**row, "pass": "grid", **added}


def least(run: Callable[[], object], where: torch.device, seconds: float) -> float:
    """The least seconds of a call, of as many as fit into the time; the first two choose kernels and warm up."""
    times = []
    for _ in range(2):
        run()
    began = time.perf_counter()
    while not times or time.perf_counter() - began < seconds:
        wait(where)
        start = time.perf_counter()
        run()
        wait(where)
        times.append(time.perf_counter() - start)
    return min(times)


def wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def rate(precision: str, where: torch.device) -> float:
    """Operations a second in a product of large square matrices."""
    size = 128 if where.type == "cpu" else 8192
    a, b = torch.randn(2, size, size, device=where).to(devices.PRECISIONS[precision])
    with devices.arithmetic(where, tf32=precision == "tf32"):
        return 2 * size**3 / least(lambda: a @ b, where, 0.2)


def copying(where: torch.device) -> float:
    """Bytes a second that a copy reads and writes."""
    values = torch.empty(1 << (20 if where.type == "cpu" else 28), device=where)
    target = torch.empty_like(values)
    return 2 * 4 * len(values) / least(lambda: target.copy_(values), where, 0.2)


def work(network: nn.Module) -> tuple[int, int]:
    """Operations of an image's forward pass, and the values that its layers read and write, each map by itself."""
    values = 0

    def count(_: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> None:
        nonlocal values
        values += given[0].numel() + found.numel()

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops(), values
