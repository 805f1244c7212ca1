"""One pair of Table 2 by the paper's protocol: the grid on the held-out images, ODIN and the baseline on the rest."""

import time
from typing import Any

import numpy as np
from contestants import AUTHORS, BFLOAT16, FLOAT32, SETTINGS
from torch import nn

from odinlib import datasets, metrics, odin

HELD_OUT, TESTED = 2 * 1000, 2 * 9000  # images of both sets together


def estimate(table: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Seconds for the pair, from the median milliseconds an image of the passes; the loop also for all at all."""

    def middle(name: str, kind: str) -> float:
        return float(np.median(table[name][kind])) / 1e3

    theirs = middle(AUTHORS, "setting")  # one setting's clean pass serves the baseline too
    return {
        **{
            name: HELD_OUT * middle(name, "grid") + TESTED * (middle(name, "setting") + middle(name, "forward"))
            for name in (FLOAT32, BFLOAT16)
        },
        AUTHORS: (HELD_OUT * SETTINGS + TESTED) * theirs,
        f"{AUTHORS}, every setting on every image": (HELD_OUT + TESTED) * SETTINGS * theirs,
    }


def run(form: nn.Module, id_set: str, ood_set: str, held_out: int = HELD_OUT // 2) -> dict[str, Any]:
    """The pair itself, timed as one, with its result."""
    start = time.perf_counter()
    images = {name: datasets.load(name, count=len(datasets.load(name))) for name in (id_set, ood_set)}
    part = {name: found.tensor(np.arange(held_out)) for name, found in images.items()}
    rest = {name: found.tensor(np.arange(held_out, len(found))) for name, found in images.items()}
    grids = [odin.sweep(form, part[name]) for name in images]
    chosen = odin.tune(*grids, odin.PAPER_TEMPERATURES, odin.PAPER_EPSILONS)
    found = {}
    for method, (temperature, epsilon) in {
        "baseline": (1.0, 0.0),
        "odin": (chosen.temperature, chosen.epsilon),
    }.items():
        scores = [odin.sweep(form, rest[name], [temperature], [epsilon])[0, 0] for name in images]
        measured = metrics.evaluate(*scores)
        metrics.bootstrap(*scores, resamples=1000)
        found[method] = {name: 100 * value.item() for name, value in measured.items()}
    return {
        "id_set": id_set,
        "ood_set": ood_set,
        "images": sum(len(each) for each in images.values()),
        "temperature": chosen.temperature,
        "epsilon": chosen.epsilon,
        "measures": found,
        "seconds": time.perf_counter() - start,
    }
