"""Bringing in the weights that others trained, with a card that says what they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from odinlib import artefacts, datasets, devices, profiles, trained
from odinlib.errors import Missing, UserError
from odinlib.networks import train, weights
from odinlib.profiles import Profile


def import_weights(
    profile: Profile,
    source: str | Path,
    name: str,
    id_set: str,
    *,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 32,
    note: str | None = None,
    training: str | None = None,
    place: str | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Bring a foreign checkpoint to where the profile looks for the network, with a card that says what it is.

    Its accuracy is measured on the ID set's test images, where they are here.

    Args:
        profile: whose network it becomes.
        source: the checkpoint, see `odinlib.networks.weights.import_checkpoint`.
        name, id_set: the architecture, and what it was trained on.
        classes: the number of its logits.
        mean, std: for each channel what its training normalised pixels in [0, 1] by.
        size: height and width of its images in pixels.
        note: where it comes from.
        training: one of `profiles.TRAININGS`; None takes the profile's choice.
        place: see `odinlib.networks.weights.import_checkpoint`.

    Returns:
        Where the weights are, and their card.

    Raises:
        UserError: other weights are there already, the checkpoint cannot be read or does not fit, or the classes, the
            channels or the size are not the set's.
    """
    datasets.title(id_set)
    for what, given, known in zip(("classes", "channels"), (classes, len(mean)), _facts(id_set), strict=True):
        if known not in (None, given):
            raise UserError(f"{given} {what} are given for {id_set}", expected=f"{known}, which it has")
    of = profile.trained(name, id_set, training)
    path = trained.path(of)
    network, card = weights.import_checkpoint(
        source, name, classes, mean=mean, std=std, channels=len(mean), size=size, id_set=id_set, note=note, place=place
    )
    if path.exists():
        found = weights.load_weights(path)[1]
        if found.get("source_sha256") != card["source_sha256"]:
            raise UserError(f"{path} is there already", remedy="delete it, and with it all that was computed from it")
        stated = weights.digits(network.mean), weights.digits(network.std)
        if (found["normalisation"]["mean"], found["normalisation"]["std"]) == stated:
            return path, found
        raise UserError(f"{path} was imported with another mean or std", remedy="delete it first")
    try:
        card["accuracy"] = train.accuracy(network.to(devices.device()), datasets.load(id_set, "test"))
    except Missing as reason:
        card["accuracy_note"] = f"not measured: {reason}"
    about = {"training": of.training, "origin": profiles.TRAININGS.get(of.training, note)}
    return path, weights.save_weights(network, path, {**card, **about, **artefacts.provenance()})


def _facts(id_set: str) -> tuple[int | None, int | None]:
    """How many classes and channels a set has, as far as it is known without its images."""
    if id_set in _KNOWN:
        return _KNOWN[id_set]
    try:
        found = datasets.load(id_set, "test")
    except Missing:
        return None, None
    return len(found.classes) or None, found.shape[2]


_KNOWN = {"cifar10": (10, 3), "cifar100": (100, 3), "cifar80": (80, 3), "cifar20": (20, 3), "mnist": (10, 1)}
