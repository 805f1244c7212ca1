"""What bfloat16 changes in each measure, on the paper's own images."""

from typing import Any

import numpy as np
from torch import nn

from odinlib import datasets, metrics, odin
from odinlib.networks.fast import fast

TEMPERATURES, EPSILONS = [1.0, 1000.0], [0.0, 0.0014, 0.004]


def measure(network: nn.Module, id_set: str, ood_sets: list[str], count: int, resamples: int = 1000) -> dict[str, Any]:
    """The five measures in both precisions, in percent, and the paired bootstrap's interval of their difference.

    Args:
        network: in evaluation mode.
        id_set, ood_sets: names of prepared sets.
        count: images of each, drawn by a seed.
        resamples: of the bootstrap; both precisions are resampled alike.
    """
    scores = {
        (name, precision): odin.sweep(
            fast(network, precision),
            datasets.load(name, count=count).tensor(np.arange(count)),
            TEMPERATURES,
            EPSILONS,
        )
        for name in (id_set, *ood_sets)
        for precision in ("float32", "bfloat16")
    }
    rows = []
    for name in ood_sets:
        for a, temperature in enumerate(TEMPERATURES):
            for b, epsilon in enumerate(EPSILONS):
                pairs = [[scores[each, p][a, b] for each in (id_set, name)] for p in ("float32", "bfloat16")]
                exact, near = (metrics.evaluate(*pair) for pair in pairs)
                drawn = [metrics.bootstrap(*pair, resamples=resamples) for pair in pairs]
                for metric in metrics.METRICS:
                    low, high = metrics.interval(drawn[1][metric] - drawn[0][metric])
                    rows.append(
                        {
                            "ood_set": name,
                            "temperature": temperature,
                            "epsilon": epsilon,
                            "metric": metric,
                            "float32": 100 * exact[metric].item(),
                            "shift": 100 * (near[metric] - exact[metric]).item(),
                            "low": 100 * low,
                            "high": 100 * high,
                        }
                    )
    return {"id_set": id_set, "images": count, "rows": rows}
