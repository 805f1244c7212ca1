"""The library's own engines, pass by pass: plain, fast and planar take turns on the same network and images."""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from contestants import MOVED, TEMPERATURES, the_network
from sweep import rate, sample, seconds
from torch import Tensor, nn

from odinlib import odin
from odinlib.errors import UserError
from odinlib.networks import engines
from odinlib.networks.fast import fast

#: What is timed: precision, height and width, images together, and temperatures of gradients (none: a pass forwards).
PASSES: list[tuple[str, int, int, int]] = [
    *(("float32", 32, together, 0) for together in (32, 8, 4, 1)),
    *(("bfloat16", 32, together, 0) for together in (32, 8, 4, 1)),
    ("float32", 32, 8, 1),
    ("float32", 32, 8, 10),
    ("float32", 36, 8, 0),
    ("float32", 36, 8, 1),
]


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds an image of each pass in every round, the grid added up from them, and the errors."""
    network = the_network(arguments)
    forms = {precision: found(network, precision) for precision in ("float32", "bfloat16")}
    rates = {name: rate(getattr(torch, name), arguments.device) for name in forms}
    rows: dict[str, dict[str, list[float]]] = {}
    for precision, size, together, temperatures in PASSES:
        images = torch.rand(together, 3, size, size, generator=torch.Generator().manual_seed(0))
        works = {name: work(form, images, TEMPERATURES[:temperatures]) for name, form in forms[precision].items()}
        rows[told(precision, size, together, temperatures)] = in_turns(works, arguments.rounds, together)
    return {
        "in_use": engines.in_use(),
        "rows": rows,
        "rates": rates,
        "grids": {
            precision: {
                name: MOVED * min(rows[told(precision, 32, 32, 0)][name]) + min(rows[told("float32", 32, 8, 10)][name])
                for name in each
            }
            for precision, each in forms.items()
        },
        "errors": {precision: errors(each, network, precision) for precision, each in forms.items()},
    }


def found(network: nn.Module, precision: str) -> dict[str, nn.Module]:
    """The engines that there are for this network, here."""
    forms = {}
    for name in engines.ENGINES:
        try:
            form = fast(network, precision, engine=name)
        except UserError:
            continue
        if form.engine == name:
            forms[name] = form
    return forms


def work(form: nn.Module, images: Tensor, temperatures: tuple[float, ...]) -> Callable[[], object]:
    def forward() -> object:
        with torch.no_grad():
            return form(images)

    return (lambda: odin.input_gradients(form, images, temperatures)) if temperatures else forward


def in_turns(works: dict[str, Callable[[], object]], rounds: int, together: int) -> dict[str, list[float]]:
    """Milliseconds an image, one for each round; short passes are repeated within it."""
    repeats = max(1, 8 // together)
    times: dict[str, list[float]] = {name: [] for name in works}
    for done in range(rounds + 1):
        for name, each in works.items():
            taken = sum(seconds(each) for _ in range(repeats))
            if done:  # the first warms up
                times[name].append(1e3 * taken / repeats / together)
    return times


def told(precision: str, size: int, together: int, temperatures: int) -> str:
    what = f"forward and gradients, {temperatures} temperature(s)" if temperatures else "forward"
    return f"{what}, {precision}, {size} x {size}, {together} at a time"


def errors(forms: dict[str, nn.Module], network: nn.Module, precision: str) -> dict[str, dict[str, float]]:
    """How far each is from the modules in float64, in standard deviations."""
    images = sample(32, "cpu")
    reference = copy.deepcopy(network).double()
    gradients, exact = odin.input_gradients(reference, images.double(), [1.0, 1000.0])
    table: dict[str, dict[str, float]] = {}
    for name, form in forms.items():
        with torch.no_grad():
            table[name] = {"logits, largest": ((form(images) - exact).abs().max() / exact.std()).item()}
        if precision == "float32":
            pairs = list(zip(odin.input_gradients(form, images, [1.0, 1000.0])[0], gradients, strict=True))
            table[name]["gradients, median"] = max(((a - b).abs().median() / b.std()).item() for a, b in pairs)
            table[name]["gradients, share of other signs"] = max(
                (torch.sign(a) != torch.sign(b)).double().mean().item() for a, b in pairs
            )
    return table
