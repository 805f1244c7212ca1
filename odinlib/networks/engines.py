"""Which engine computes a DenseNet-BC on this machine's CPU: chosen once, kept beside what was compiled.

* `plain`: the network's own modules.
* `fast`: PyTorch's operations on the folded network, `prefix`.
* `planar`: the folded network in C++, `planar`. It is taken where there is a compiler, where its numbers are those of
  float64 but for rounding, and where it is faster than `fast`.

The last is found out at the first use, which takes some seconds, and then read from the cache: a stopwatch at every
start would let a run and its resumption take different engines. `ODINLIB_ENGINE` overrides the choice.
"""

import copy
import functools
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from odinlib.artefacts import write_atomically
from odinlib.errors import UserError, check_choice
from odinlib.networks.classifier import log_score_gradients
from odinlib.networks.densenet import DenseNet
from odinlib.networks.planar import Planar, compiled
from odinlib.networks.prefix import FastDenseNet

ENGINES = ("plain", "fast", "planar")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
VARIABLE = "ODINLIB_ENGINE"

#: What `planar` may differ by from float64, in standard deviations: about 1e-6 is usual, and a wrong compilation is off
#: by far more. For the logits in bfloat16, in times of what `fast` differs by.
EQUAL, EQUAL_BFLOAT16 = 5e-6, 1.5


def wanted(engine: str | None = None) -> str | None:
    """The engine that was asked for: `engine`, else what `ODINLIB_ENGINE` says; none if nobody asked.

    Raises:
        UserError: there is no such engine.
    """
    if engine is not None:
        return check_choice("engine", engine, ENGINES)
    asked = os.environ.get(VARIABLE)
    return check_choice(VARIABLE, asked, ENGINES) if asked else None


def chosen(precision: str = "float32", engine: str | None = None) -> str:
    """The engine for a DenseNet-BC on this machine's CPU: the one asked for, else the best that there is.

    Args:
        precision: "float32" or "bfloat16".
        engine: see `wanted`.

    Raises:
        UserError: there is no such engine, or `planar` was asked for and cannot be had.
    """
    check_choice("precision", precision, PRECISIONS)
    asked = wanted(engine)
    if asked in ("plain", "fast"):
        return asked
    why_not = _why_not(precision, must_pay=asked is None)
    if why_not is None:
        return "planar"
    other_precisions = "trials" in verdict() and precision not in verdict()["trials"]  # of which there is the engine
    if asked and not other_precisions:
        raise UserError(f"the engine planar cannot be had: {why_not}", remedy=f"choose another by {VARIABLE}")
    return "fast"


def in_use() -> str:
    """One line: the engine for a DenseNet-BC on this machine's CPU, and why. The first time, this takes seconds.

    Raises:
        UserError: `ODINLIB_ENGINE` asks for what cannot be had.
    """
    found = {precision: chosen(precision) for precision in PRECISIONS}
    told = " and ".join(dict.fromkeys(found.values()))
    if len({*found.values()}) > 1:
        told = ", ".join(f"{engine} in {precision}" for precision, engine in found.items())
    if wanted():
        return f"{told}, as {VARIABLE} asks for"
    reasons = dict.fromkeys(filter(None, (_why_not(precision, must_pay=True) for precision in found)))
    if reasons:
        return f"{told} (not planar: {' and '.join(reasons)})"
    trials = verdict()["trials"].items()
    gains = " and ".join(f"{trial['fast'] / trial['planar']:.1f} times ({precision})" for precision, trial in trials)
    return f"{told}, compiled by {verdict()['compiler']}: {gains} as fast as the engine fast"


def _why_not(precision: str, must_pay: bool) -> str | None:
    """Why `planar` is not to be taken, or none if it is."""
    found = verdict()
    if "why_not" in found:
        return found["why_not"]
    trial = found["trials"].get(precision)
    if trial is None:
        return f"this processor has no {precision}"
    if not trial["error"] <= trial["allowed"]:  # nor NaN
        return f"its error in {precision} is {trial['error']:.1e}, and at most {trial['allowed']:.1e} is right"
    if must_pay and not trial["planar"] < trial["fast"]:
        return f"in {precision} it takes {trial['planar'] / trial['fast']:.1f} times as long"
    try:
        compiled.library()
    except compiled.Unavailable as reason:  # since then
        return str(reason)
    return None


@functools.cache
def verdict() -> dict[str, Any]:
    """What was found out about `planar` on this machine, from the cache if it is there.

    Returns:
        `why_not`, a reason; or `compiler`, and for each precision that there is, under `trials`, its `error` (from
        float64, in standard deviations: of the logits the largest, of the gradients the median, whichever is more) and
        what is `allowed`, and milliseconds an image by `fast` and by `planar`.
    """
    try:
        path = compiled.file(".json")
        if found := _read(path):
            return found
        with compiled.locked():
            if found := _read(path):  # another process was sooner
                return found
            try:
                found = {"compiler": compiled.compiler()[1], "trials": _trials()}
            except compiled.Unavailable as reason:  # not to be tried again
                found = {"why_not": str(reason)}
            with write_atomically(path) as file:
                file.write(json.dumps(found, indent=1).encode())
        return found
    except (compiled.Unavailable, UserError, OSError, RuntimeError, MemoryError) as reason:  # for now
        return {"why_not": str(reason)}


def _read(path: Path) -> dict[str, Any] | None:
    """A verdict that is whole, or none."""
    try:
        found = json.loads(path.read_text())
        return found if isinstance(found, dict) and ("why_not" in found or "trials" in found) else None
    except (OSError, ValueError):
        return None


def _trials() -> dict[str, dict[str, float]]:
    """Both engines on one network, in turns, in one thread. Times are of the processor: other work does not count."""
    with torch.device("cpu"), torch.inference_mode(False), torch.enable_grad():  # whatever the caller has set
        network, images = _example()
        few = images[:8]
        exact, exact_gradient = _in_float64(network, few)
    found = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for precision, dtype in PRECISIONS.items():
            if precision == "bfloat16" and not compiled.library().planar_has_bfloat16():
                continue
            forms: dict[str, FastDenseNet | Planar] = {
                "fast": FastDenseNet(network, dtype, 4),
                "planar": Planar(network, dtype),
            }
            errors = {name: ((form(few) - exact).abs().max() / exact.std()).item() for name, form in forms.items()}
            # The median, because a value next to a ReLU's 0 may be rounded to the other side.
            gradient = forms["planar"].input_gradients(few, [1.0])[0][0]
            back = (gradient - exact_gradient).abs().median() / exact_gradient.std()
            times = {name: float("inf") for name in forms}
            for _ in range(5):
                for name, form in forms.items():
                    times[name] = min(times[name], _seconds(form, images))
            found[precision] = {
                "error": max(errors["planar"], back.item()),
                "allowed": EQUAL if dtype == torch.float32 else EQUAL_BFLOAT16 * errors["fast"],
                **{name: 1e3 * time / len(images) for name, time in times.items()},
            }
    finally:
        torch.set_num_threads(threads)
    return found


def _in_float64(network: DenseNet, images: Tensor) -> tuple[Tensor, Tensor]:
    """The logits, and the gradients of log S at T = 1, by the modules themselves."""
    images = images.double().requires_grad_()
    logits = copy.deepcopy(network).double()(images)
    (gradient,) = torch.autograd.grad(logits, images, log_score_gradients(logits.detach(), [1.0])[0])
    return logits.detach(), gradient


def _seconds(form: nn.Module, images: Tensor) -> float:
    start = time.thread_time()
    form(images)
    return time.thread_time() - start


@torch.no_grad()
def _example() -> tuple[DenseNet, Tensor]:
    """A network as if trained, its batch norms of either sign with the statistics of its maps, and images."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DenseNet(40, 12, classes=10).float()
    images = torch.rand(32, 3, 32, 32, generator=generator, dtype=torch.float32)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.copy_(torch.randn(len(module.weight), generator=generator))
            module.momentum = None  # the mean of all batches, here of one
    network.train()(images)
    return network.eval().requires_grad_(False), images
