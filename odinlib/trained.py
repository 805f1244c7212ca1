"""A trained network: its weights and card, made by the recipe of Section 4.1 or brought in from others."""

import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from odinlib import artefacts, datasets, devices, networks, profiles
from odinlib.errors import Missing
from odinlib.networks import train as training
from odinlib.networks import weights
from odinlib.networks.fast import fast
from odinlib.profiles import Trained


def path(of: Trained) -> Path:
    """Where the weights are or will be; the card lies beside them, ending in `.json`."""
    return of.profile.folder / "networks" / f"{of.key}.safetensors"


def network(of: Trained) -> nn.Module:
    """The network in evaluation mode on the profile's device; trained now if need be.

    Raises:
        Missing: it is not there, and this profile only reads, or its data or its foreign weights are not there.
    """
    if not path(of).exists():
        _train(of)
    found = card(of).get("recipe")
    if found is not None and _whole(found) != _whole(header(of).get("recipe")):
        raise artefacts.Refused(f"{path(of)} was trained with another recipe", remedy="delete it and run again")
    return _network(path(of), path(of).stat().st_mtime_ns, of.profile.device)


def _whole(recipe: dict[str, Any] | None) -> dict[str, Any] | None:
    """A recipe as JSON has it. A card that is older than one of its entries was made with that entry's default."""
    defaults = {
        one.name: one.default for one in dataclasses.fields(training.Recipe) if one.default != dataclasses.MISSING
    }
    whole: dict[str, Any] | None = recipe and json.loads(json.dumps({**defaults, **recipe}))
    return whole


def train(of: Trained) -> None:
    """Train a network unless it is there, and remove what a training that was killed at its end has left.

    Raises:
        Missing: as of `network`.
    """
    network(of)
    if _checkpoint(of).exists():
        with artefacts.locked(path(of)):
            _checkpoint(of).unlink(missing_ok=True)


def _checkpoint(of: Trained) -> Path:
    return path(of).with_suffix(".checkpoint")


def fast_network(of: Trained, engine: str | None = None, kernels: str | None = None) -> nn.Module:
    """The network in the form that answers soonest in the precision that it is asked in, see `networks.fast.fast`.

    Args:
        of: the network.
        engine: a named one, in place of the best.
        kernels: likewise, in place of the profile's choice.
    """
    return _fast(network(of), of.precision, engine, kernels or of.profile.kernels)


def card(of: Trained) -> dict[str, Any]:
    """What is known of a network: architecture, recipe or origin, accuracy, seconds, hardware.

    Raises:
        Missing: there is no such network here, or its card is not recorded.
    """
    found = path(of).with_suffix(".json")
    if not found.exists():
        network(of)
    return weights.read_card(found, of.profile.sealed(found))


def header(of: Trained) -> dict[str, Any]:
    """What an artefact's header says of the network that it was made with."""
    made = {} if of.training in profiles.TRAININGS else {"recipe": recipe(of)}
    return {"network": of.network, "id_set": of.id_set, "training": of.training, **made}


def recipe(of: Trained) -> dict[str, Any]:
    """How a network of our own is or was trained: by the profile's recipe, or, if its name is another one's, by that.

    Raises:
        Missing: that one is known by its card alone, which is not here.
    """
    usual, digest = dataclasses.asdict(of.profile.recipe(of.network)), of.training.partition("-")[2]
    if not digest or artefacts.digest(usual)[:8] == digest:
        return usual
    try:
        found: dict[str, Any] = artefacts.load_json(path(of).with_suffix(".json"))["recipe"]
    except FileNotFoundError as reason:
        raise Missing(f"{path(of)} is not there", remedy="`odin train` with the options of that training") from reason
    return found


def by(of: Trained, minutes: float | None = None, **changes: Any) -> Trained:
    """The same network of our own, trained otherwise than the profile says; it has a name of its own.

    Args:
        of: the network.
        minutes: as many epochs as fit into this time on the profile's device, by a few steps.
        changes: fields of `networks.train.Recipe`; None changes none.

    Raises:
        Missing: the time is given, and the images are not here.
        UserError: a value is out of range.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    whole = dataclasses.replace(of.profile.recipe(of.network), **given)
    if minutes is not None:
        train_set = datasets.load(of.id_set, "train")
        made = _fresh(of, train_set, whole)
        epochs = training.epochs_within(minutes, made, train_set, whole, of.profile.device)
        whole = dataclasses.replace(whole, epochs=epochs)
    others = {key: name for key, name in of.profile.trainings.items() if key != f"{of.network}_{of.id_set}"}
    recipes = {**of.profile.recipes, of.network: whole}
    return dataclasses.replace(of.profile, recipes=recipes, trainings=others).trained(of.network, of.id_set)


@functools.lru_cache(maxsize=4)
def _fast(plain: nn.Module, precision: str, engine: str | None, kernels: str | None) -> nn.Module:
    return fast(plain, precision, engine=engine, kernels=kernels)


@functools.lru_cache(maxsize=4)
def _network(found: Path, changed: int, device: str) -> nn.Module:
    # Convolutions are fastest with the channels last, on CPU and GPU alike.
    made = weights.load_weights(found)[0].to(devices.device(device))
    return made.to(memory_format=torch.channels_last).eval()


def _train(of: Trained) -> None:
    profile, where = of.profile, path(of)
    if of.training in profiles.TRAININGS:
        whose = profiles.TRAININGS[of.training]
        raise Missing(f"{where} is not there", remedy=f"bring the weights ({whose}) with `odin import-weights`")
    own = dataclasses.replace(profile, trainings={}).training(of.network, of.id_set)
    if of.training != own:
        raise Missing(f"{where} is not there", remedy=f"{own} is what is trained here; another seed makes another one")
    if not profile.compute:
        options = f"--profile {profile.name} --network {of.network} --id-set {of.id_set}"
        raise Missing(f"{where} is not recorded", remedy=f"`odin train {options}` makes it, where the images are")
    devices.device(profile.device)  # what is wrong is told now, and not after hours
    train_set, test_set = (datasets.load(of.id_set, split) for split in ("train", "test"))
    if training.rank() > 0:  # under torchrun: they train together, and the first one saves
        _train_now(of, train_set, test_set)
        while not where.exists():
            time.sleep(0.1)
        return
    with artefacts.locked(where):
        if not where.exists():  # another process may have trained it meanwhile
            _train_now(of, train_set, test_set)


def _train_now(of: Trained, train_set: datasets.ImageSet, test_set: datasets.ImageSet) -> None:
    profile, where = of.profile, path(of)
    recipe = profile.recipe(of.network)
    made = _fresh(of, train_set, recipe)
    start = time.perf_counter()
    checkpoint = _checkpoint(of)
    training.train(made, train_set, recipe, seed=profile.seed, checkpoint=checkpoint, device=profile.device)
    if training.rank() > 0:
        return
    told = {
        "id_set": of.id_set,
        "training": of.training,
        "recipe": dataclasses.asdict(recipe),
        "seed": profile.seed,
        "accuracy": training.accuracy(made, test_set),
        **artefacts.provenance(seconds=time.perf_counter() - start),
    }
    weights.save_weights(made, where, told)
    checkpoint.unlink(missing_ok=True)


def _fresh(of: Trained, train_set: datasets.ImageSet, recipe: training.Recipe) -> networks.Classifier:
    """The network before its training; it normalises by the training set's own mean and deviation."""
    pixels = train_set.images.astype(np.float64) / 255
    return networks.build(
        of.network,
        len(train_set.classes),
        channels=train_set.shape[2],
        size=train_set.shape[0],
        mean=tuple(pixels.mean((0, 1, 2))) if recipe.normalise else None,
        std=tuple(pixels.std((0, 1, 2))) if recipe.normalise else None,
        seed=of.profile.seed,
    )
