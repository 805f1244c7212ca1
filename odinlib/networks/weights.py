"""Weights as safetensors beside a JSON card that says what they are, and the import of foreign checkpoints.

`<name>.safetensors` holds the tensors, `<name>.json` the card: architecture, classes, normalisation, the
SHA-256 of the weights, versions, and whatever the caller knows (data set, recipe, seed, accuracy). Neither
can run code.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from odinlib.artefacts import Refused, load_json, write_atomically
from odinlib.errors import UserError, reading
from odinlib.networks import build, checkpoints
from odinlib.networks.classifier import Classifier

Card = dict[str, Any]


def save_weights(network: Classifier, path: str | Path, card: Mapping[str, Any] | None = None) -> Card:
    """Write a network's weights to `path` and its card beside it, each whole or not at all.

    Args:
        network: its parameters and buffers, the normalisation among them, are saved in float32.
        path: should end in `.safetensors`; the card goes to the same name ending in `.json`.
        card: what to say beyond what is known from the network: `id_set`, `recipe`, `seed`, `accuracy` ...

    Returns:
        The whole card.

    Raises:
        UserError: a weight is not finite, or the files cannot be written.
    """
    path = Path(path)
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    _check_numbers(state, network.name, state)
    content = safetensors.torch.save(state)
    whole = {
        "architecture": network.name,
        "classes": network.classes,
        "channels": network.channels,
        "size": network.size,
        "normalisation": {"mean": digits(network.mean), "std": digits(network.std)},
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "versions": {name: version(name) for name in ("torch", "safetensors")},
    }
    whole = {**whole, **(card or {}), **whole}  # what is known from the network stands, and stands first
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    # The card first: weights that are there have a card, and a card that is ahead of its weights is noticed.
    with write_atomically(_card_path(path)) as file:
        file.write(text.encode())
    with write_atomically(path) as file:
        file.write(content)
    parsed: Card = json.loads(text)
    return parsed


def load_weights(path: str | Path) -> tuple[Classifier, Card]:
    """Build the network that a card describes and give it its weights, checked; on the CPU, to evaluate.

    Raises:
        UserError: the file or its card is missing, damaged or does not fit the other, a weight is not finite,
            or the weights are of another architecture.
    """
    path = Path(path)
    try:
        card = read_card(_card_path(path))
    except FileNotFoundError:
        raise UserError(f"there is no card {_card_path(path)}", expected="the JSON file beside the weights") from None
    try:
        with reading(path):
            content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there are no weights {path}") from None
    try:
        state = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        what = f"weights {path} are truncated or damaged ({error})"
        raise UserError(what, remedy="get them again") from error
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        what = f"weights {path} do not match the SHA-256 in their card"
        raise UserError(what, remedy="get both files again, or train again")
    if card["classes"] not in {len(tensor) for tensor in state.values() if tensor.ndim}:  # of which one could build any
        raise UserError(f"weights {path} are not of {card['classes']!r} classes, as their card says")
    size = {"channels": card["channels"], "size": card["size"]}
    network = build(card["architecture"], card["classes"], **size, seed=0)
    _fill(network, state, str(path))
    if not (network.std > 0).all():
        raise UserError(f"{path}: std is {digits(network.std)}", expected="numbers above 0")
    said = card.get("normalisation")
    for name, tensor in (("mean", network.mean), ("std", network.std)):
        if said is not None and not _alike(said.get(name), tensor):
            told = f"{name} is {digits(tensor)} in the weights {path} and {said.get(name)} in their card"
            raise UserError(told, remedy="get both files again, or import them again")
    return network.eval(), card


def import_checkpoint(
    source: str | Path,
    name: str,
    classes: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    channels: int = 3,
    size: int = 32,
    id_set: str | None = None,
    note: str | None = None,
    place: str | None = None,
) -> tuple[Classifier, Card]:
    """A network with the weights of a foreign checkpoint, which is read without running anything in it.

    Tensors are matched by name where the names are ours, as with the paper authors' DenseNet and WRN, wherever in the
    file they are and whatever stands before all of them; otherwise by their order, if every kind and shape agrees; the
    card then says `matched: by order`, and the accuracy is the proof.

    Args:
        source: a state dict or a whole pickled module, see :func:`odinlib.networks.checkpoints.read_tensors`.
        name: the architecture, see :func:`odinlib.networks.build`.
        classes, channels, size: as for `build`.
        mean, std: what the checkpoint's training subtracted from, and divided, pixels in [0, 1] by.
        id_set: the set that it was trained on.
        note: where it comes from.
        place: what stands before the names of the tensors to take, where such tensors are there more than once.

    Returns:
        The network, to evaluate, and the card so far, for :func:`save_weights`.

    Raises:
        UserError: the file cannot be read, wants to run code, holds another architecture's weights, or normalises by
            other numbers than those stated.
    """
    source = Path(source)
    network = build(name, classes, channels, size, mean, std, seed=0)
    remedy = f"these weights are not of a {network.name} with {network.classes} classes"
    found = _take(network, checkpoints.read_tensors(source), source.name, remedy, place)
    _compare_normalisation(found.beside, network, source.name)
    card: Card = {
        "id_set": id_set,
        "source": source.name,
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "matched": "by order" if found.by_order else "by name",
        "place": found.place if found.elsewhere else None,
        "also_at": list(found.elsewhere) or None,
        "note": note,
    }
    return network.eval(), {key: value for key, value in card.items() if value is not None}


def fill(network: nn.Module, source: str | Path, place: str | None = None) -> checkpoints.Fit:
    """Give a module, as its constructor made it, the weights in a file, which is read without running anything in it.

    Args:
        network: any; it is changed in place.
        source: see :func:`odinlib.networks.checkpoints.read_tensors`.
        place: as for :func:`import_checkpoint`.

    Raises:
        UserError: the file cannot be read, wants to run code, or its tensors are not the module's.
    """
    source = Path(source)
    remedy = f"these weights are not of such a {type(network).__name__}"
    return _take(network, checkpoints.read_tensors(source), source.name, remedy, place)


def _take(
    network: nn.Module, tensors: Mapping[str, Tensor], source: str, remedy: str, place: str | None = None
) -> checkpoints.Fit:
    wanted = network.state_dict()
    own = isinstance(network, Classifier)  # whose normalisation is stated, and no part of its weights
    wanted = {name: tensor for name, tensor in wanted.items() if not (own and name in ("mean", "std"))}
    try:
        found = checkpoints.fit(tensors, wanted, _optional, place=place)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    if found is None:
        raise UserError(f"{source}: {checkpoints.misfit(tensors, wanted, _optional)}", remedy=remedy)
    _check_numbers(found.state, source, wanted)
    network.load_state_dict({name: value.view_as(wanted[name]) for name, value in found.state.items()}, strict=False)
    return found


def _compare_normalisation(beside: Mapping[str, Tensor], network: Classifier, source: str) -> None:
    """That a file which normalises by itself does so by the numbers that are stated, if it does at all."""
    for name, stated, nothing in (("mean", network.mean, 0.0), ("std", network.std, 1.0)):
        for place, tensor in beside.items():
            if re.split(r"[./]", place)[-1] != name or tensor.numel() not in (1, stated.numel()):
                continue
            given = tensor.detach().flatten().float()
            if not (torch.allclose(given, stated.flatten(), rtol=2e-3) or bool((given == nothing).all())):
                told = f"{source} has {place!r} {digits(given)}"
                raise UserError(told, expected=f"{digits(stated)}, the {name} that is stated", remedy="state its own")


def digits(values: Tensor) -> list[float]:
    """float32 values as the shortest decimals near them, to be read by people."""
    return [float(f"{value:.7g}") for value in values.flatten().tolist()]


def _alike(said: Any, tensor: Tensor) -> bool:
    """Whether numbers as a card has them are those of a tensor, but for rounding."""
    numbers = isinstance(said, list) and all(isinstance(one, int | float) for one in said)
    return (
        numbers and len(said) == tensor.numel() and torch.allclose(torch.tensor(said).float(), tensor.flatten(), 1e-4)
    )


def _card_path(path: Path) -> Path:
    return path.with_suffix(".json")


#: What a card says, and of what type. The last two it need not say.
_SAID: dict[str, type] = {
    **{"architecture": str, "classes": int, "channels": int, "size": int, "sha256": str},
    **{"normalisation": dict, "recipe": dict},
}
_NEEDED = list(_SAID)[:-2]
_WORDS = {str: "text", int: "a whole number", dict: "a mapping"}


def read_card(path: str | Path, sealed: str | None = None) -> Card:
    """The card of a network, with what every card says.

    Args:
        path: of the card.
        sealed: the SHA-256 that it must have, see `odinlib.artefacts.sealed`.

    Raises:
        FileNotFoundError: there is none.
        Refused: it is damaged, lacks something or is not the one that was sealed.
    """
    card = load_json(path, sealed)
    for key, kind in _SAID.items():
        if not isinstance(card.get(key), kind) and (key in _NEEDED or key in card):
            what = (
                f"card {path} has no {key!r}"
                if key not in card
                else f"card {path} has {key!r}: {str(card[key])[:99]!r}"
            )
            raise Refused(what, expected=_WORDS[kind], remedy="restore it, or delete it and run again")
    return card


_OPTIONAL = {"mean", "std", "num_batches_tracked", "n_averaged"}


def _optional(key: str) -> bool:
    """Whether a checkpoint may lack a tensor, or have it besides: a normalisation, a counter of batches or averages."""
    return key.replace("/", ".").rpartition(".")[2] in _OPTIONAL


def _fill(network: Classifier, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into `network`, or name the first tensor that does not fit."""
    wanted = network.state_dict()
    remedy = f"these weights are not of a {network.name} with {network.classes} classes"
    for key, tensor in wanted.items():
        if key not in state:
            if _optional(key):
                continue
            raise UserError(f"{source} has no tensor {key!r}", remedy=remedy)
        if state[key].shape != tensor.shape:
            raise UserError(
                f"{source}: {key!r} has shape {list(state[key].shape)}",
                expected=str(list(tensor.shape)),
                remedy=remedy,
            )
    for key in state:
        if key not in wanted:
            raise UserError(f"{source} has a tensor {key!r} too many", remedy=remedy)
    _check_numbers(state, source, wanted)
    network.load_state_dict(state, strict=False)


def _check_numbers(state: Mapping[str, Tensor], source: str, wanted: Mapping[str, Tensor]) -> None:
    """That weights are there, of a network's kind of numbers, and finite."""
    for key, tensor in state.items():
        if tensor.is_meta:
            raise UserError(
                f"{source}: {key!r} has a shape and no values", remedy="save the weights once they are loaded"
            )
        if wanted[key].is_floating_point() and not tensor.is_floating_point():
            what = f"{source}: {key!r} holds {str(tensor.dtype).removeprefix('torch.')} numbers"
            raise UserError(what, expected="floating-point ones, as weights are before they are quantised")
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise UserError(
                f"{source}: {key!r} has {bad} NaN or infinite values of {tensor.numel()}",
                remedy="the training diverged or the file is damaged",
            )
