"""What one image costs: ODIN at one setting, and at all 210 of the paper's grid, by this engine and by others.

    python benchmarks/sweep.py [--weights FILE.safetensors]

One run, the same images and weights for all. The contestants take turns, several times over, because a machine is not
equally fast all the time: times are the minimum and the median over the rounds, ratios the median of the ratios within
a round. A whole grid is timed only with `--full`; else it is added up from its passes, which are timed one by one.
pytorch-ood takes part where it is installed (`pip install --no-deps pytorch-ood==0.4.0`); whether it computes the same
scores is measured, since its versions differ. Each peak of memory is that of a process of its own.
"""

import argparse
import functools
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from odinlib import odin
from odinlib.networks import build
from odinlib.networks.fast import fast
from odinlib.networks.weights import load_weights

T, EPSILON = 1000.0, 0.0014
TEMPERATURES, EPSILONS = odin.PAPER_TEMPERATURES, odin.PAPER_EPSILONS
SETTINGS = len(TEMPERATURES) * len(EPSILONS)
MOVED = SETTINGS - len(TEMPERATURES)  # settings with an epsilon above 0
ENGINE = "engine, float32"
CLOCK = time.perf_counter


@dataclass(frozen=True)
class Contestant:
    """One way to compute ODIN: its passes on its own batch size, and how many of each the grid takes."""

    images: int  # that each call below takes
    setting: Callable[[Tensor], Tensor]  # scores of one setting
    passes: list[tuple[float, Callable[[Tensor], object]]]  # (how often the grid needs it, the pass)
    forward: Callable[[Tensor], Tensor] | None = None  # the logits alone


def batched(network: nn.Module, images: int) -> Contestant:
    """The library's own functions around `network`: one forward and ten backward passes serve the whole grid."""

    def moved(x: Tensor) -> Tensor:
        with torch.no_grad():
            return odin.margin_score(network(odin.perturb(x, x, EPSILON)), T)

    def gradients(x: Tensor) -> object:
        return odin.input_gradients(network, x, TEMPERATURES)

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            return network(x)

    return Contestant(
        images, lambda x: odin.odin_score(network, x, T, EPSILON), [(1, gradients), (MOVED, moved)], forward
    )


def alone(network: nn.Module, images: int) -> Contestant:
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

    def setting(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        logits = network(x) / T
        F.cross_entropy(logits, logits.argmax(1)).backward()
        assert x.grad is not None
        sign = (x.grad >= 0).float() * 2 - 1
        return torch.softmax(network(x.detach() - EPSILON * sign) / T, -1).amax(-1).detach()

    return Contestant(1, setting, [(SETTINGS, setting)])


def pytorch_ood(network: nn.Module, images: int) -> Contestant:
    from pytorch_ood.detector import ODIN

    detector = ODIN(network, eps=EPSILON, temperature=T)
    return Contestant(images, lambda x: -detector.predict(x), [(SETTINGS, detector.predict)])


def the_network(arguments: argparse.Namespace, trainable: bool = False, last: bool = True) -> nn.Module:
    if arguments.weights:
        found: nn.Module = load_weights(arguments.weights)[0]
    else:
        found = build(arguments.network, arguments.classes, mean=[0.49] * 3, std=[0.2] * 3, seed=0)
    layout = torch.channels_last if last else torch.contiguous_format
    return found.eval().requires_grad_(trainable).to(arguments.device, memory_format=layout)


def contestants(arguments: argparse.Namespace) -> dict[str, Callable[[], Contestant]]:
    """Each by its name, made when it is needed."""
    network = functools.partial(the_network, arguments)
    found = {
        ENGINE: lambda: batched(fast(network()), 32),
        "engine, bfloat16": lambda: batched(fast(network(), "bfloat16"), 32),
        "plain module, passes shared, batch 16": lambda: batched(network(), 16),
        "plain module, passes shared, batch 32": lambda: batched(network(), 32),
        "plain loop over settings, batch 16": lambda: alone(network(), 16),
        "plain loop over settings, batch 32": lambda: alone(network(), 32),
        "one image at a time, weight gradients": lambda: one_by_one(network(trainable=True, last=False)),
    }
    try:
        name = f"pytorch-ood {importlib.metadata.version('pytorch-ood')}, batch 64"
        found[name] = lambda: pytorch_ood(network(trainable=True, last=False), 64)
    except importlib.metadata.PackageNotFoundError:
        pass
    return found


def seconds(work: Callable[[], object]) -> float:
    synchronise()
    start = CLOCK()
    work()
    synchronise()
    return CLOCK() - start


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rate(dtype: torch.dtype, device: str, size: int = 2048) -> float:
    """Operations a second in a product of square matrices."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    a @ b
    return 2 * size**3 / seconds(lambda: a @ b)


def resident(name: str, arguments: list[str]) -> float:
    """The peak of memory in GB above what interpreter, libraries, network and images take, in a fresh process."""
    run = [sys.executable, __file__, *arguments, "--memory", name]
    return float(subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_memory(contestant: Contestant, images: Tensor) -> float:
    x = images[: contestant.images]
    before = status("VmRSS")
    contestant.setting(x)
    for _, run in contestant.passes:
        run(x)
    return torch.cuda.max_memory_allocated() / 1e9 if images.is_cuda else status("VmHWM") - before


def status(field: str) -> float:
    """Memory of this process in GB, from Linux; `ru_maxrss` would do elsewhere, but there it starts at the parent's."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="a file of `odin import-weights` or training; none: random weights")
    parser.add_argument("--network", default="densenet-bc-100-12", help="with random weights")
    parser.add_argument("--classes", type=int, default=10, help="with random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time, for a machine that others use too; takes --threads 1",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="also time the engine's whole grid, on 32 images")
    parser.add_argument("--json", help="write the numbers of every round to this file")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.clock == "cpu":
        if arguments.threads != 1 or arguments.device != "cpu":
            parser.error("processor time says what one thread on a CPU would take: use --threads 1")
        global CLOCK
        CLOCK = time.process_time
    images = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(arguments.device)
    makers = contestants(arguments)
    if arguments.memory:
        print(measure_memory(makers[arguments.memory](), images))
        return

    made = {name: make() for name, make in makers.items()}
    counter = FlopCounterMode(display=False)
    plain = made["plain module, passes shared, batch 16"].forward
    assert plain is not None
    with counter:
        plain(images[:1])
    operations = counter.get_total_flops()

    scores = made[ENGINE].setting(images[:32])
    agreement = {}
    for name, each in made.items():  # also the warm-up
        x = images[: min(each.images, 32)]
        agreement[name] = (each.setting(x).double() - scores[: len(x)]).abs().max().item()

    setting: dict[str, list[float]] = {name: [] for name in made}
    grid: dict[str, list[float]] = {name: [] for name in made}
    forward: dict[str, list[float]] = {name: [] for name, each in made.items() if each.forward}
    rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(arguments.rounds):
        for dtype in rates:
            rates[dtype].append(rate(getattr(torch, dtype), arguments.device))
        for name, each in made.items():
            x = images[: each.images]
            milliseconds = 1e3 / len(x)
            setting[name].append(seconds(lambda: each.setting(x)) * milliseconds)  # noqa: B023 - called at once
            grid[name].append(sum(n * seconds(lambda: run(x)) for n, run in each.passes) * milliseconds)  # noqa: B023
            if each.forward:
                forward[name].append(seconds(lambda: each.forward(x)) * milliseconds)  # noqa: B023

    device = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else platform.processor() or "CPU"
    print(f"{device}, {arguments.threads} threads, PyTorch {torch.__version__}, {arguments.rounds} rounds")
    print(
        f"{operations / 1e9:.3f} GFLOP an image and forward pass; "
        + "; ".join(
            f"{dtype} products run at {max(v) / 1e9:.0f} GFLOP/s (median {statistics.median(v) / 1e9:.0f})"
            for dtype, v in rates.items()
        )
    )
    print(f"Milliseconds of {arguments.clock} time an image, minimum / median; ratios: median within a round.\n")
    print(
        "| | forward | share of matrix rate | one setting | 10 x 21 grid | grid / engine | memory, GB | scores differ |"
    )
    print("|---|---|---|---|---|---|---|---|")
    passed_on = [a for a in sys.argv[1:] if a != "--full"]
    for name in made:
        share = "-"
        if name in forward:
            best = max(rates["bfloat16" if "bfloat16" in name else "float32"])
            share = f"{operations / (min(forward[name]) / 1e3) / best:.0%}"
        ratio = statistics.median(a / b for a, b in zip(grid[name], grid[ENGINE], strict=True))
        cells = [name, both(forward.get(name)), share, both(setting[name]), both(grid[name]), f"{ratio:.2f}"]
        print("| " + " | ".join([*cells, f"{resident(name, passed_on):.2f}", f"{agreement[name]:.1e}"]) + " |")
    if arguments.full:
        whole = seconds(lambda: odin.sweep(fast(the_network(arguments)), images[:32])) * 1e3 / 32
        print(f"\nThe engine's whole grid, timed as one: {whole:.0f} ms an image")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"setting": setting, "grid": grid, "forward": forward, "rates": rates}, file, indent=1)


def both(times: list[float] | None) -> str:
    return f"{min(times):.1f} / {statistics.median(times):.1f}" if times else "-"


if __name__ == "__main__":
    main()
