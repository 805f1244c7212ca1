"""How much of a profile is recorded, and what the rest needs: images, weights or only time."""

import collections
from collections.abc import Mapping

from odinlib import datasets, trained
from odinlib.datasets import prepared
from odinlib.profiles import TRAININGS, Profile, Trained
from odinlib.record.plan import Item, is_recorded, jobs, plan

RECORDED, COMPUTABLE, CARD = "recorded", "computable", "card only"


def status(profile: Profile) -> tuple[list[list[str]], dict[str, list[str]]]:
    """The matrix of sets and networks, and what is missing.

    A cell is `recorded`, or `computable` from the images and weights (or training images) that are on this machine,
    or names what is not: `no data`, `no weights`. Where some of the artefacts of the plan are recorded it starts with
    how many, "12 of 14, computable"; it is `-` where the paper has no such pair.

    Returns:
        Rows of text, the header first: ID set, set, and each network. And under `data` the sets whose images are not
        here, under `weights` the networks that can be neither loaded nor trained here.
    """
    networks = (*profile.networks, profile.grey_network)
    rows = [["ID set", "set", *networks]]
    missing: dict[str, list[str]] = {"data": [], "weights": []}
    for id_set in (*profile.id_sets, profile.grey_id_set):
        own = {of.network: of for of in jobs(profile) if of.id_set == id_set}
        weights = {name: weights_here(of) for name, of in own.items()}
        lacking = [f"{name} on {id_set}" for name, found in weights.items() if found not in (RECORDED, COMPUTABLE)]
        missing["weights"] += lacking
        rows.append([id_set, "(weights)", *(weights.get(name, "-") for name in networks)])
        if any(of.precision != "float32" for of in own.values()):
            rows.append([id_set, "(asked in)", *(own[n].precision if n in own else "-" for n in networks)])
        planned = {name: _by_set(of) for name, of in own.items()}
        for images in dict.fromkeys(images for items in planned.values() for images in items):
            # Noise takes the shape of the ID set's images.
            needed = dict.fromkeys((id_set, id_set if images in datasets.NOISE else images))
            absent = [name for name in needed if not images_are_here(name)]
            missing["data"] += [s for s in absent if s not in missing["data"]]
            cells = [_cell(own[n], planned[n][images], weights[n], absent) if n in own else "-" for n in networks]
            rows.append([id_set, images, *cells])
    return rows, missing


def _by_set(of: Trained) -> Mapping[str, list[Item]]:
    items = collections.defaultdict(list)
    for item in plan(of):
        items[item.images].append(item)
    return items


def _cell(of: Trained, items: list[Item], weights: str, absent: list[str]) -> str:
    if not items:
        return "-"
    count = sum(is_recorded(of, item) for item in items)
    if count == len(items):
        return RECORDED
    reasons = ["no data"] * bool(absent) + ["no weights"] * (weights not in (RECORDED, COMPUTABLE))
    return (f"{count} of {len(items)}, " if count else "") + (", ".join(reasons) or COMPUTABLE)


def weights_here(of: Trained) -> str:
    """Whether a network's weights are `recorded` or `computable`, or there is a `card only`, or `no weights`."""
    if trained.path(of).exists():
        return RECORDED
    if trained.path(of).with_suffix(".json").exists():
        return CARD
    can_train = of.training not in TRAININGS and images_are_here(of.id_set, "train") and images_are_here(of.id_set)
    return COMPUTABLE if can_train else "no weights"


def images_are_here(name: str, split: str = "test") -> bool:
    """Whether the images of a set are on this machine, or can be made on any."""
    return name in datasets.NOISE or datasets.embedded.known(name) or prepared.path(name, split).exists()
