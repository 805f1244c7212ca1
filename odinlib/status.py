"""How much of a profile is recorded, and what the rest needs: images, weights or only time."""

from collections.abc import Mapping

from odinlib import datasets, experiments
from odinlib.datasets import prepared
from odinlib.profiles import Profile

RECORDED, COMPUTABLE, CARD = "recorded", "computable", "card only"


def status(profile: Profile) -> tuple[list[list[str]], dict[str, list[str]]]:
    """The matrix of sets and networks, and what is missing.

    A cell is `recorded`, or `computable` from the images and weights (or training images) that are on this machine,
    or names what is not: `no data`, `no weights`. Where some of the artefacts are recorded it starts with
    how many, "1 of 3, computable"; it is `-` where the paper has no such pair.

    Returns:
        Rows of text, the header first: ID set, set, and each network. And under `data` the sets whose images are not
        here, under `weights` the networks that can be neither loaded nor trained here.
    """
    networks = (*profile.networks, profile.grey_network)
    rows = [["ID set", "set", *networks]]
    missing: dict[str, list[str]] = {"data": [], "weights": []}
    for id_set in (*profile.id_sets, profile.grey_id_set):
        own = profile.networks if id_set in profile.id_sets else (profile.grey_network,)
        weights = {name: _weights(profile, name, id_set) for name in own}
        lacking = [f"{name} on {id_set}" for name, found in weights.items() if found not in (RECORDED, COMPUTABLE)]
        missing["weights"] += lacking
        rows.append([id_set, "(weights)", *(weights.get(name, "-") for name in networks)])
        near = [ood for _, inside, ood in experiments.near_pairs(profile) if inside == id_set]
        resampled = profile.resampled.get(id_set, ())
        for images in dict.fromkeys((id_set, *profile.ood_sets[id_set], *near, *resampled)):
            # Noise takes the shape of the ID set's images.
            needed = dict.fromkeys((id_set, id_set if images in datasets.NOISE else images))
            absent = [name for name in needed if not _there(name)]
            missing["data"] += [s for s in absent if s not in missing["data"]]
            rows.append([id_set, images, *(_cell(profile, n, id_set, images, weights, absent) for n in networks)])
    return rows, missing


def _cell(profile: Profile, name: str, id_set: str, images: str, weights: Mapping[str, str], absent: list[str]) -> str:
    kinds = _kinds(profile, name, id_set, images) if name in weights else []
    if not kinds:
        return "-"
    paths = [profile.folder / kind / f"{name}_{id_set}" / f"{images}.npz" for kind in kinds]
    count = sum(path.exists() for path in paths)
    if count == len(paths):
        return RECORDED
    reasons = ["no data"] * bool(absent) + ["no weights"] * (weights[name] not in (RECORDED, COMPUTABLE))
    return (f"{count} of {len(paths)}, " if count else "") + (", ".join(reasons) or COMPUTABLE)


def _kinds(profile: Profile, name: str, id_set: str, images: str) -> list[str]:
    """The folders in which a network's answers to a set are recorded, see `jobs.respond`."""
    own = images in (id_set, *profile.ood_sets[id_set])
    if not own and (name, id_set, images) not in experiments.near_pairs(profile):
        asked = name == profile.networks[0] and images in profile.resampled.get(id_set, ())
        return ["curves"] if asked else []
    if id_set == profile.grey_id_set:
        return ["responses"]
    return ["responses", "grids", *(["curves"] if own and id_set == profile.id_sets[0] else [])]


def _weights(profile: Profile, name: str, id_set: str) -> str:
    if experiments.network_path(profile, name, id_set).exists():
        return RECORDED
    if experiments.network_path(profile, name, id_set).with_suffix(".json").exists():
        return CARD
    can_train = f"{name}_{id_set}" not in profile.origins and _there(id_set, "train") and _there(id_set)
    return COMPUTABLE if can_train else "no weights"


def _there(name: str, split: str = "test") -> bool:
    return name in datasets.NOISE or datasets.embedded.known(name) or prepared.path(name, split).exists()
