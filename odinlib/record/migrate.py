"""Bringing a record up to date: headers are written anew, arrays keep their bytes (`odin record migrate`).

Format 1 knew one training of a network, and not what had drawn its images: a set's own name and the profile's seed.
Format 2 says both (`odinlib.store`), and compresses.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from odinlib import artefacts, datasets, profiles, splits, store
from odinlib.artefacts import Artefact
from odinlib.errors import UserError, reading
from odinlib.measure import distances
from odinlib.profiles import Profile

#: What sets are called now that were made here, since their old names are those of the sets that the authors released.
RENAMED = {
    "tinyimagenet-crop": "tinyimagenet-crop-drawn",
    "tinyimagenet-resize": "tinyimagenet-resize-nearest",
}
#: What trainings of others were called in a header of format 1.
_ORIGINS = {text: name for name, text in profiles.TRAININGS.items()}


def migrate(profile: Profile) -> Iterator[str]:
    """Write every artefact of a profile that is of format 1 in the present one, yielding a line for each.

    A file appears under its new name whole, before the old one goes; interrupted, the same command goes on. The
    manifest goes first: `odin seal` writes it anew.

    Raises:
        UserError: an artefact is damaged, or does not say enough.
    """
    old = [path for path in _artefacts(profile) if artefacts.load_header(path).get("format") == 1]
    found_cards = {path: artefacts.load_json(path) for path in sorted((profile.folder / "networks").glob("*.json"))}
    cards = {path: card for path, card in found_cards.items() if "training" not in card}
    if old or cards:
        (profile.folder / artefacts.MANIFEST).unlink(missing_ok=True)
    totals = _totals(profile)
    for path in old:
        found = artefacts.load(path)
        with reading(path):
            config = _config(found, totals)
            target = _path(profile, path, config)
            if not target.resolve().is_relative_to(profile.folder.resolve()):
                raise ValueError(f"it would have to lie at {target}")
        artefacts.save(target, found.arrays, config, _provenance(found))
        if target != path:
            path.unlink()
            with contextlib.suppress(OSError):  # others still lie there
                path.parent.rmdir()
        yield f"{path.relative_to(profile.folder)} -> {target.relative_to(profile.folder)}"
    for path, card in cards.items():
        with reading(path):
            training = _training(card)
            target = path.with_stem(f"{path.stem}_{training}")
        weights = path.with_suffix(".safetensors")
        if weights.exists():
            weights.rename(target.with_suffix(".safetensors"))
        with artefacts.write_atomically(target) as file:
            file.write((json.dumps({**card, "training": training}, indent=2) + "\n").encode())
        path.unlink()
        yield f"{path.relative_to(profile.folder)} -> {target.relative_to(profile.folder)}"


def _artefacts(profile: Profile) -> list[Path]:
    """The finished artefacts of a profile; shards of unfinished ones are nobody's by now."""
    return [path for path in sorted(profile.folder.rglob("*.npz")) if ".shards" not in path.parent.suffixes]


def _training(made: Mapping[str, Any]) -> str:
    """The name of a training, from a header or a card of format 1."""
    origin = made.get("origin")
    if origin is None:
        return f"seed{made['seed']}"
    if origin not in _ORIGINS:
        raise UserError(f"the training {origin!r} has no name", expected=f"one of {', '.join(_ORIGINS)}")
    return _ORIGINS[origin]


def _totals(profile: Profile) -> dict[str, int]:
    """How many images each set had, by its present name: from what is recorded of all of it, in either format."""
    found = {}
    for path in _artefacts(profile):
        config = artefacts.load_header(path)
        if config.get("kind") == "distance" or "set" not in config:
            continue
        with reading(path):
            name = RENAMED.get(config["set"], config["set"])
            if "drawn" in config:
                found[name] = config["drawn"]["of"]
            elif config["images"] is None and config["kind"] in ("responses", "scores"):  # all images, or all to test
                found[name] = artefacts.load(path).arrays[_first(config)].shape[-1] + config.get("holdout", 0)
    return found


def _config(found: Artefact, totals: Mapping[str, int]) -> dict[str, Any]:
    """The header of an artefact in format 2."""
    old = found.config
    if old["kind"] == "distance":
        kept = {key: old[key] for key in ("images", "seed", "pixels", "permutations", "subsample")}
        sets = [RENAMED.get(name, name) for name in old["sets"]]
        return {**kept, "sets": sets, "part": "inner", "kind": "distance", "format": store.FORMAT}
    if old["images"] is not None:
        raise UserError(f"{old['set']} is recorded in part", expected="whole sets", remedy="record it again")
    name, seed, count = old["set"], old["seed"], found.arrays[_first(old)].shape[-1]
    start = {"grid": old.get("from", 0), "responses": 0}.get(old["kind"], old.get("holdout", 0))
    drawn = splits.draw(old.get("split", "first"), name, seed)
    if old["kind"] == "responses":
        drawn = splits.Draw("first")
    present = RENAMED.get(name, name)
    total = totals.get(present, totals.get(_base(present)))
    if total is None:
        raise UserError(f"nothing tells how many images {name} has", expected="its responses or scores beside it")
    settings: dict[str, Any] = {"kind": "responses"}
    if old["kind"] != "responses":
        temperatures, epsilons = (old.get(f"{axis}s", [old.get(axis)]) for axis in ("temperature", "epsilon"))
        settings = {"kind": "scores", "temperatures": temperatures, "epsilons": epsilons}
    network = {key: value for key, value in old["network"].items() if key not in ("origin", "seed")}
    return {
        "format": store.FORMAT,
        "network": {**network, "training": _training(old["network"])},
        "set": present,
        **({"noise_seed": seed} if name in datasets.NOISE else {}),
        "drawn": {**drawn.as_header(), "start": start, "stop": start + count, "of": total},
        "inputs": found.provenance.get("inputs", {}),
        **settings,
    }


def _base(name: str) -> str:
    """The present name of the set that a variant by another filter was made of: it had as many images."""
    return next((now for was, now in RENAMED.items() if name.startswith(f"{was}-")), name)


def _first(config: Mapping[str, Any]) -> str:
    """The array whose last axis counts the images."""
    return "logits" if config["kind"] == "responses" else "scores"


def _provenance(found: Artefact) -> dict[str, Any]:
    return {key: value for key, value in found.provenance.items() if key != "inputs"}


def _path(profile: Profile, path: Path, config: Mapping[str, Any]) -> Path:
    """Where an artefact lies in format 2: under its training and the present name of its set."""
    if config["kind"] == "distance":
        return distances.path(profile, config)
    network = config["network"]
    key = f"{network['network']}_{network['id_set']}_{network['training']}"
    rest = path.name
    for was, now in RENAMED.items():
        if config["set"] == now and (rest == f"{was}.npz" or rest.startswith(f"{was}_")):
            rest = now + rest.removeprefix(was)
    return path.parent.parent / key / rest
