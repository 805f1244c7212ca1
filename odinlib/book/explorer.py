"""The data of the explorer: what a network's held-out images score at every setting of the grid, small enough for a page.

The browser gets sorted scores on a scale of `LEVELS` steps, so its measures are those of `odinlib.metrics` but for
ties within a step; the tests hold the two against each other.
"""

import base64
import json
import zlib
from typing import Any

import numpy as np

from odinlib import datasets, experiments, names, profiles, reference
from odinlib.errors import Missing
from odinlib.profiles import Profile, Trained

LEVELS = 2048  # of a setting's scale, from the least to the largest score of any set


def networks(profile: Profile) -> dict[str, dict[str, Any]]:
    """For each network whose grid is recorded on its own set and on another one, what the explorer needs, by its key."""
    jobs = [profile.trained(network, id_set) for network in profile.networks for id_set in profile.id_sets]
    found = {}
    for of in jobs:
        scores = experiments.gather(lambda s, of=of: experiments.grid(of, s), [of.id_set, *profile.ood_sets[of.id_set]])
        if of.id_set in scores and len(scores) > 1:
            found[of.key] = _network(of, {name: grid.numpy() for name, grid in scores.items()})
    return found


def script(key: str, data: dict[str, Any]) -> str:
    """The data of one network as a script, which a page read from a file may load too."""
    return f"odinExplorer({json.dumps(key)}, {json.dumps(data, separators=(',', ':'), ensure_ascii=False)});\n"


def packed(scores: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    """Sorted scores as text: steps between neighbours, a byte each, deflated.

    Args:
        scores: [A, B, n].
        low, high: the scale's ends [A, B].

    Returns:
        Base64 of raw deflate; 255 in it means 255 and what the next byte adds.
    """
    levels = (scores - low[..., None]) / (high - low)[..., None] * LEVELS
    levels = np.sort(levels.astype(np.int64).clip(0, LEVELS - 1), axis=-1)
    steps = np.diff(levels, axis=-1, prepend=0).ravel()
    longer = steps // 255
    ends = np.cumsum(longer + 1)  # of each step, in bytes
    out = np.full(ends[-1], 255, np.uint8)
    out[ends - 1] = steps % 255
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return base64.b64encode(deflate.compress(out.tobytes()) + deflate.flush()).decode()


def _network(of: Trained, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    profile = of.profile
    low = np.min([grid.min(-1) for grid in scores.values()], axis=0)
    high = np.max([grid.max(-1) for grid in scores.values()], axis=0)
    high = np.where(high > low, high, low + 1)
    whose = profiles.TRAININGS.get(of.training)
    return {
        "title": f"{names.network_title(of.network)} on {datasets.title(of.id_set)}" + (f" ({whose})" if whose else ""),
        "temperatures": list(profile.temperatures),
        "epsilons": list(profile.epsilons),
        "tpr": profile.tpr,
        "levels": LEVELS,
        "low": [float(f"{x:.6g}") for x in low.ravel()],
        "high": [float(f"{x:.6g}") for x in high.ravel()],
        "sets": [
            {
                "name": name,
                "title": datasets.title(name),
                "images": grid.shape[-1],
                "scores": packed(grid, low, high),
                **({} if name == of.id_set else {"marks": _marks(of, name)}),
            }
            for name, grid in scores.items()
        ],
    }


def _marks(of: Trained, ood_set: str) -> dict[str, list[float]]:
    """The settings worth marking: the baseline's, the one tuned here, and the paper's of the set in this role."""
    profile = of.profile
    marks = {"baseline": [1.0, 0.0]}
    try:
        tuned = experiments.tune(of, ood_set)
        marks["tuned here"] = [tuned.temperature, tuned.epsilon]
    except Missing:
        pass
    role = [profile.paper_name(name) for name in (of.network, of.id_set, ood_set)]
    printed = [reference.lookup(*role, "odin", parameter) for parameter in ("temperature", "epsilon")]
    if all(printed):
        marks["the paper's"] = [float(str(value)) for value in printed]
    return marks
