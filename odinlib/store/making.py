"""Recording what was not there: the passes through a network, shard after shard, under a lock."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from odinlib import artefacts, datasets, devices, moments, odin, trained
from odinlib.artefacts import Refused
from odinlib.profiles import Trained
from odinlib.store.files import FORMAT, Part, Setting, available, image_set, inputs, total

#: What makes the arrays of a slice of an artefact's images, whose number is that of their last axis.
Compute = Callable[[nn.Module, slice], Mapping[str, np.ndarray]]
SHARD = 250  # images of an artefact between two of which a computation can stop, at least
LIGHT_FROM = 64  # classes
LIGHT_LOGITS = 1500  # images, of which the paper's split holds out 1,000


def respond(
    network: nn.Module,
    images: Tensor,
    temperatures: Sequence[float] = (1.0, 1000.0),
    *,
    batch: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What a network says of each unperturbed image: everything at epsilon = 0 follows from it.

    Returns:
        The logits [N, K] in float32, and the 1-norms of the gradient of log S(x; T) with respect to the input,
        [len(temperatures), N] in float32.
    """
    logits, norms = [], []
    for part in odin.batches(network, images, batch):
        gradients, clean = odin.input_gradients(network, part, list(temperatures))
        logits.append(clean.float().cpu())
        norms.append(torch.stack([devices.double(g).abs().flatten(1).sum(1).float().cpu() for g in gradients]))
    return torch.cat(logits).numpy(), torch.cat(norms, dim=1).numpy()


def make_responses(of: Trained, images: str, part: Part) -> None:
    """Record the clean logits and gradient norms of part of a set.

    Of a network with `LIGHT_FROM` classes or more they are recorded in a light form, since a hundred logits for each of
    73,000 images are 29 MB: the scores at the temperatures of the paper's grid, U1 and U2 and the class of every image,
    and the logits of the first `LIGHT_LOGITS`.
    """
    found = image_set(of.profile, images, of.id_set)
    labels = np.full(len(found), -1) if found.labels is None else found.labels
    indices = part.indices(total(of, images))
    light = trained.card(of)["classes"] >= LIGHT_FROM
    grid = {"temperatures": odin.PAPER_TEMPERATURES, "epsilons": [0.0], "logits": LIGHT_LOGITS} if light else {}

    def compute(net: nn.Module, piece: slice) -> Mapping[str, np.ndarray]:
        chosen = indices[piece]
        logits, norms = respond(net, found.tensor(chosen), (1.0, 1000.0))
        clean = {"gradient_norms": norms, "labels": labels[chosen]}
        if not light:
            return {**clean, "logits": logits.T}
        given = torch.from_numpy(logits)
        temperatures = torch.tensor(odin.PAPER_TEMPERATURES, dtype=torch.float64)[:, None]
        return {
            **clean,
            "scores": odin.margin_score(given, temperatures)[:, None].float().numpy(),
            "u1": moments.u1(given).float().numpy(),
            "u2": moments.u2(given).float().numpy(),
            "classes": logits.argmax(1).astype(np.int16),
            "logits": logits.T[:, : max(0, LIGHT_LOGITS - piece.start)],
        }

    _write(of, "responses", images, images, part, {"kind": "responses", **grid}, compute)


def make_scores(
    of: Trained,
    kind: str,
    images: str,
    part: Part,
    temperatures: Sequence[float],
    epsilons: Sequence[float],
) -> None:
    """Record scores, and for curves classes, of part of a set at every pair of a temperature and an epsilon.

    Args:
        of: the network.
        kind: `grids`, `curves` or `scores`.
        images: the set.
        part: which images of it.
        temperatures, epsilons: the two axes.
    """
    found = image_set(of.profile, images, of.id_set)
    indices = part.indices(total(of, images))
    settings = {"kind": "scores", "temperatures": list(temperatures), "epsilons": list(epsilons)}

    def compute(net: nn.Module, piece: slice) -> Mapping[str, np.ndarray]:
        there = found.tensor(indices[piece])
        scored, predicted = odin.sweep_and_classify(net, there, temperatures, epsilons)
        told = {"scores": scored.float().numpy()}
        return {**told, "classes": predicted.numpy().astype(np.int16)} if kind == "curves" else told

    stem = images
    if kind == "scores":
        stem = "_".join([images, *(f"T{t:g}" for t in temperatures), *(f"e{e:g}" for e in epsilons)])
    elif kind == "grids" and part.start:
        stem = f"{images}_{part.start}-{part.stop}"
    _write(of, kind, images, stem, part, settings, compute)


def make_scores_together(of: Trained, images: str, part: Part, settings: Sequence[Setting]) -> None:
    """Record scores of part of a set at several settings, a file each, sharing all passes that can be shared."""
    settings = sorted(set(settings))
    if len(settings) == 1:
        return make_scores(of, "scores", images, part, [settings[0][0]], [settings[0][1]])
    found = image_set(of.profile, images, of.id_set)
    indices = part.indices(total(of, images))
    shared = of.profile.folder / "scores" / of.key / f"{_named(of, images)}.npz"

    def compute(net: nn.Module, piece: slice) -> Mapping[str, np.ndarray]:
        scored, _ = odin.score_and_classify(net, found.tensor(indices[piece]), settings)
        return {"scores": scored.float().numpy()}

    with artefacts.locked(shared):
        # Another process may have made some of them meanwhile.
        settings = [one for one in settings if not available(of, images, [one], ("scores",))[indices].all()]
        if not settings:
            return
        whole = {**_config(of, images, part, {"kind": "scores"}), "settings": settings}
        held, made = _in_shards(of, shared, whole, f"scores {of.network} on {images}", compute)
        made["seconds"] /= len(settings)
        for row, (temperature, epsilon) in enumerate(settings):
            own = {"kind": "scores", "temperatures": [temperature], "epsilons": [epsilon]}
            config = _config(of, images, part, own)
            path = _path(of, "scores", f"{images}_T{temperature:g}_e{epsilon:g}", config)
            artefacts.save(path, {"scores": held["scores"][row][None, None]}, config, made)
        artefacts.forget_shards(shared)


def _write(
    of: Trained, kind: str, images: str, stem: str, part: Part, told: Mapping[str, Any], compute: Compute
) -> None:
    """Write one artefact; whoever asks for the same meanwhile waits for it."""
    config = _config(of, images, part, told)
    while True:
        path = _path(of, kind, stem, config)
        with artefacts.locked(path):
            if _path(of, kind, stem, config) != path:
                continue  # another process has taken this name for another question meanwhile
            with contextlib.suppress(FileNotFoundError, Refused):  # or has written the same
                if artefacts.load(path).config == config:
                    return
            held, made = _in_shards(of, path, config, f"{kind} {of.network} on {stem}", compute)
            artefacts.save(path, held, config, made)
            artefacts.forget_shards(path)
            return


def _in_shards(
    of: Trained, path: Path, config: Mapping[str, Any], title: str, compute: Compute
) -> tuple[artefacts.Arrays, dict[str, Any]]:
    """The arrays of an artefact, shard after shard, and their provenance. What is resumed keeps its engine and kernels.

    A shard has as many images as a GPU takes at a time, where that is more than usual.
    """
    start, count = time.perf_counter(), config["drawn"]["stop"] - config["drawn"]["start"]
    begun = artefacts.begun(path) or {}
    net = trained.fast_network(of, begun.get("engine"), begun.get("kernels"))
    how = {"engine": getattr(net, "engine", "plain")}
    if kernels := getattr(net, "kernels", None):
        how["kernels"] = kernels
    size = max(SHARD, getattr(net, "images_per_pass", 0))
    with tqdm(total=count, desc=title, unit="image", leave=False) as bar:

        def counted(piece: slice) -> Mapping[str, np.ndarray]:
            held = compute(net, piece)
            bar.update(piece.stop - bar.n)
            return held

        held = artefacts.in_shards(path, {**config, **how}, count, counted, size=size)
    return held, artefacts.provenance(seconds=time.perf_counter() - start, precision=of.precision, **how)


def _config(of: Trained, images: str, part: Part, told: Mapping[str, Any]) -> dict[str, Any]:
    """What an artefact's header fixes: all that its arrays depend on; as it is read back from JSON."""
    trained.network(of)  # the header has the digest of its weights, so they are made first
    size = total(of, images)
    place = {"start": part.start, "stop": part.start + len(part.indices(size)), "of": size}
    config = {
        "format": FORMAT,
        "network": trained.header(of),
        "set": images,
        **({} if of.precision == "float32" else {"precision": of.precision}),
        **({"noise_seed": of.profile.seed} if images in datasets.NOISE else {}),
        "drawn": {**part.draw.as_header(), **place},
        "inputs": inputs(of, images),
        **told,
    }
    found: dict[str, Any] = json.loads(json.dumps(config))
    return found


def _path(of: Trained, kind: str, stem: str, config: Mapping[str, Any]) -> Path:
    """Where an artefact will be: under a plain name, or, where that is taken, with the digest of its header."""
    path = of.profile.folder / kind / of.key / f"{_named(of, stem)}.npz"
    with contextlib.suppress(FileNotFoundError, Refused):
        if _question(artefacts.load_header(path)) != _question(config):
            return _beside(path, _named(of, stem), config)
    return path


def _named(of: Trained, stem: str) -> str:
    """What a file is called; those of float32 are called as nothing but what they hold."""
    return stem if of.precision == "float32" else f"{stem}_{of.precision}"


def _beside(path: Path, stem: str, config: Mapping[str, Any]) -> Path:
    return path.with_name(f"{stem}-{artefacts.digest(_question(config))[:8]}.npz")


def _question(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "inputs"}
