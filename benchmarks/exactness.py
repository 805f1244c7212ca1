"""How far each contestant's scores are from those in double precision, at a small and at a large temperature."""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from contestants import EPSILON, contestants, the_network
from sweep import sample
from torch import Tensor

from odinlib import datasets, odin

TEMPERATURES = (1.0, 1000.0)


def measure(arguments: argparse.Namespace, sets: list[str]) -> dict[str, Any]:
    """The median and the largest difference at each temperature, and how many scores at T = 1 are exactly 1.

    Args:
        arguments: `compared` images in all.
        sets: names of prepared sets that give them, equally many each; none: of noise.

    Returns:
        `images`, `sets`, and for each of `contestants` its `differences` [median, largest], by temperature and in
        standard deviations of the exact scores, and its `ones`.
    """
    count = arguments.compared // max(1, len(sets))
    parts = [datasets.load(name, count=count).tensor(np.arange(count)) for name in sets]
    images = torch.cat(parts or [sample(count, "cpu")])
    network = copy.deepcopy(the_network(arguments)).cpu().double()
    exact = scores(lambda x, temperature: odin.odin_score(network, x, temperature, EPSILON), images.double(), 16)
    table = {}
    for name, make in contestants(arguments).items():
        made = make()
        found = scores(made.setting, images.to(arguments.device), made.images)
        differences = (found.double() - exact).abs() / exact.std(1, keepdim=True)
        ends = torch.stack([differences.median(1).values, differences.amax(1)], dim=1).tolist()
        table[name] = {
            "differences": {f"{t:g}": values for t, values in zip(TEMPERATURES, ends, strict=True)},
            "ones": int((found[TEMPERATURES.index(1.0)] == 1).sum()),
        }
    return {"images": len(images), "sets": sets, "contestants": table}


def scores(setting: Callable[[Tensor, float], Tensor], images: Tensor, together: int) -> Tensor:
    """Softmax scores [temperatures, N], in the precision in which they are given."""
    parts = images.split(together)
    return torch.stack([torch.cat([setting(part, t).cpu() for part in parts]) for t in TEMPERATURES])
