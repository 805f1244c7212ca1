"""The data of the explorer: what a network's held-out images score at every setting of the grid, fit for a page.

The browser gets sorted scores on a scale of `LEVELS` steps, so its measures are those of `odinlib.metrics` but for
ties within a step; the tests hold the two against each other.
"""

import base64
import functools
import html
import itertools
import json
import zlib
from typing import Any

import numpy as np
import torch

from odinlib import datasets, experiments, metrics, names, profiles
from odinlib.errors import Missing
from odinlib.profiles import Profile, Trained

LEVELS = 2048  # of a setting's scale, from the least to the largest score of any set


def networks(profile: Profile) -> dict[str, dict[str, Any]]:
    """For each network whose grid is recorded on its own set and on another one, what the explorer needs, by its key.

    All trainings of a network are asked, and beside the profile's sets those that play one's role.
    """
    found = {}
    for network, id_set in itertools.product(profile.networks, profile.id_sets):
        roles = [name for name, role in profile.stands_for.items() if role in profile.ood_sets[id_set]]
        ood_sets = sorted([*profile.ood_sets[id_set], *roles], key=datasets.NOISE.__contains__)  # noise last
        sets = dict.fromkeys([id_set, *ood_sets])
        for training in dict.fromkeys([profile.training(network, id_set), *profiles.TRAININGS]):
            of = profile.trained(network, id_set, training)
            scores = experiments.gather(functools.partial(experiments.grid, of), sets)
            if id_set in scores and len(scores) > 1:
                found[of.key] = _network(of, {name: grid.numpy() for name, grid in scores.items()})
    return found


def scripts(key: str, data: dict[str, Any]) -> dict[str, str]:
    """The data of one network as scripts, which a page read from a file may load too: by their names.

    One has what is always needed, and one for each foreign set its scores.
    """
    sets = [{**one, "scores": one["scores"] if "marks" not in one else None} for one in data["sets"]]
    told = {name: value for name, value in data.items() if name != "picture"} | {"sets": sets}
    found = {f"{key}.js": f"odinExplorer({_compact(key)}, {_compact(told)});\n"}
    for one in data["sets"]:
        if "marks" in one:
            call = ", ".join(map(_compact, (key, one["name"], one["scores"])))
            found[f"{key}/{one['name']}.js"] = f"odinExplorerScores({call});\n"
    return found


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


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
    shown = next(name for name in scores if name != of.id_set)
    marks = _marks(of, shown)
    temperature, epsilon = marks.get("the paper's", marks.get("tuned here", marks["baseline"]))
    at = profile.temperatures.index(temperature), profile.epsilons.index(epsilon)
    pair = scores[of.id_set][at], scores[shown][at]
    fpr = metrics.fpr_at_tpr(torch.from_numpy(pair[0]), torch.from_numpy(pair[1]), profile.tpr).item()
    titles, setting = (datasets.title(of.id_set), datasets.title(shown)), f"T = {temperature:g}, ε = {epsilon:g}"
    return {
        "picture": _picture(*pair, titles, setting, fpr),
        "title": f"{names.network_title(of.network)} on {datasets.title(of.id_set)}"
        + (f" ({whose})" if whose else "")
        + names.asked_in(of.precision),
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
    printed = experiments.stated(of, profile.paper_name(ood_set))
    if printed is not None and printed.temperature in profile.temperatures and printed.epsilon in profile.epsilons:
        marks["the paper's"] = [printed.temperature, printed.epsilon]
    return marks


def place(found: dict[str, dict[str, Any]], root: str, *, small: bool = False) -> str:
    """The HTML of an explorer: its picture at the first network's setting, which the script turns into the tool.

    Args:
        found: of `networks`.
        root: from the page to the book's folder, "" or "../".
        small: without the ROC curve and the counts.
    """
    if not found:
        return "<p>No grid of scores is recorded, so there is nothing to turn here.</p>"
    named = html.escape(json.dumps([[key, data["title"]] for key, data in found.items()]))
    size = " data-small" if small else ""
    first = next(iter(found.values()))
    return (
        f'<div class="explorer" data-root="{root}" data-networks="{named}"{size}>{first["picture"]}</div>\n'
        f'<script src="{root}explorer.js" defer></script>'
    )


def _picture(inside: np.ndarray, outside: np.ndarray, titles: tuple[str, str], setting: str, fpr: float) -> str:
    """Both score distributions at one setting, as they stand where no script runs."""
    width, height, bins = 420, 200, 48
    edges = np.linspace(min(inside.min(), outside.min()), max(inside.max(), outside.max()), bins + 1)
    shares = [np.histogram(scores, edges)[0] / len(scores) for scores in (inside, outside)]
    top = max(share.max() for share in shares)
    paths = []
    for kind, share in zip(("in", "out"), shares, strict=True):
        points = [
            f"{10 + (width - 20) * (step + side) / bins:.1f} {10 + (height - 20) * (1 - value / top):.1f}"
            for step, value in enumerate(share)
            for side in (0, 1)
        ]
        paths.append(f'<path class="{kind}" d="M10 {height - 10}L{"L".join(points)}L{width - 10} {height - 10}Z"/>')
    told = (
        f"Scores of held-out images of {titles[0]} and of {titles[1]} (dashed) at {setting}: at 95 % TPR the FPR is "
        f"{100 * fpr:.1f} %. With scripts, T, ε and the threshold can be turned here."
    )
    return (
        f'<figure class="scores"><svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(told)}">'
        f"{''.join(paths)}</svg><figcaption>{html.escape(told)}</figcaption></figure>"
    )
