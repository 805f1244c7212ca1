"""Do the paper's rows for CIFAR-100 come out under another reading of what it leaves open? (Beyond the paper)

With the authors' own network, whose test error is Table 1's to the digit, the baseline's rows of Table 2 come out and
ODIN's do not. Each reading here changes one thing that the paper does not settle, and measures both at several
epsilons.

Results are load-or-compute: `readings/<network>_<ID set>_<training>/<set>.json` in the profile's folder.
"""

import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from odinlib import artefacts, datasets, experiments, metrics, odin, store, trained
from odinlib.errors import Missing
from odinlib.networks.fast import fast
from odinlib.profiles import Trained

EPSILONS = (0.0, 0.001, 0.0014, 0.002, 0.003, 0.004)
IMAGES = 2000  # of each set, those that follow the held-out ones


@dataclass(frozen=True)
class Reading:
    """One thing read otherwise."""

    title: str
    change: Callable[[nn.Module], object] = field(default=lambda network: None)  # what it does to the network
    variant: str = ""  # added to the foreign set's name
    held_out: bool = False  # measured on the images that Section 4.4 holds out
    direction: float | None = None  # the temperature of the gradient, where it is not that of the score


def _statistics(mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[nn.Module], object]:
    def change(network: nn.Module) -> None:
        network.mean, network.std = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))

    return change


#: What is read otherwise, by a word for each.
READINGS: Mapping[str, Reading] = {
    "as is": Reading("as everywhere in this book"),
    "split": Reading("on the images that are held out", held_out=True),
    "border": Reading("crops without their black border", variant="-inner"),
    "pooling": Reading("all of the last maps pooled, also of 36 × 36 pixels", lambda n: setattr(n, "window", 1 << 20)),
    "cifar100": Reading(
        "CIFAR-100's own mean and deviation", _statistics((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    ),
    "cifar10": Reading(
        "the deviations of CIFAR-10's pixels about an image's mean",
        _statistics((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ),
    "direction": Reading("the gradient taken at T = 1", direction=1.0),
}


def readings(of: Trained, ood_set: str) -> pd.DataFrame:
    """False positive rate and AUROC of a pair by each of `READINGS`, at T = 1 without perturbation and at the large T.

    Args:
        of: the network; its profile's fixed temperature is the large one.
        ood_set: the foreign set; `border` is left out where it has no variant without.

    Returns:
        A row for each reading and setting: reading (a key of `READINGS`), temperature, epsilon, fpr, auroc (percent),
        images (of each set).

    Raises:
        Missing: they are not recorded, and this profile only reads, or network or images are not here.
    """
    where = path(of, ood_set)
    if not where.exists():
        if not of.profile.compute:
            remedy = "`odinlib.measure.readings` makes them under a profile that computes, where network and images are"
            raise Missing(f"the readings of {ood_set} by {of.key} are not recorded", remedy=remedy)
        start = time.perf_counter()
        rows = list(_measured(of, ood_set))
        told = {"rows": rows, "provenance": artefacts.provenance(seconds=time.perf_counter() - start)}
        with artefacts.locked(where), artefacts.write_atomically(where) as file:
            file.write((json.dumps(told, indent=1) + "\n").encode())
    return pd.DataFrame(artefacts.load_json(where)["rows"])


def path(of: Trained, ood_set: str) -> Path:
    """Where the readings of a pair lie."""
    return of.profile.folder / "readings" / of.key / f"{ood_set}.json"


def _measured(of: Trained, ood_set: str) -> Iterator[dict[str, object]]:
    for key, reading in READINGS.items():
        if reading.variant and ood_set + reading.variant not in datasets.names():
            continue
        network = copy.deepcopy(trained.network(of))
        reading.change(network)
        scores = [_scores(fast(network), of, name, reading) for name in (of.id_set, ood_set + reading.variant)]
        settings = [(1.0, 0.0), *((of.profile.fixed_temperature, epsilon) for epsilon in EPSILONS)]
        for (temperature, epsilon), inside, outside in zip(settings, *scores, strict=True):
            yield {
                "reading": key,
                "temperature": temperature,
                "epsilon": epsilon,
                "fpr": 100 * metrics.fpr_at_tpr(inside, outside, of.profile.tpr).item(),
                "auroc": 100 * metrics.auroc(inside, outside).item(),
                "images": min(len(inside), len(outside)),
            }


def _scores(network: nn.Module, of: Trained, images: str, reading: Reading) -> Tensor:
    """Scores [1 + epsilons, n]: at T = 1 as the image is, and at the large T for each epsilon."""
    held, every = experiments.held_out(of, images), experiments.tested(of, images)
    chosen = np.sort((held if reading.held_out else every)[:IMAGES])
    pixels = store.image_set(of.profile, images, of.id_set).tensor(chosen)
    large, rows = of.profile.fixed_temperature, []
    for batch in odin.batches(network, pixels):
        (direction,), logits = odin.input_gradients(network, batch, [reading.direction or large])
        scores = [odin.margin_score(logits, 1.0), odin.margin_score(logits, large)]
        with torch.no_grad():
            moved = (network(odin.perturb(batch, direction, epsilon)) for epsilon in EPSILONS if epsilon > 0)
            scores += [odin.margin_score(one, large) for one in moved]
        rows.append(torch.stack(scores))
    return torch.cat(rows, dim=1)
