"""`odin score`: a detector for people who do not write Python, from a network's file to a verdict on each image."""

import csv
import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from odinlib import devices, errors, own, splits
from odinlib.artefacts import load_json, write_atomically
from odinlib.datasets import imagefiles
from odinlib.errors import Missing, UserError
from odinlib.odin import ODIN

FAMILIAR, FOREIGN, UNREAD = "familiar", "foreign", "not read"


@dataclass(frozen=True)
class Fitted:
    """A detector that is ready, and what it was made with."""

    detector: ODIN
    reading: dict[str, Any]  # how images are read, see `own.read_folder`
    classes: Mapping[int, str]  # their names, where the network has them
    about: dict[str, Any]  # what was chosen and found out, for the record


@dataclass(frozen=True)
class Row:
    """One image's line."""

    file: str
    label: str | None  # its class
    score: float | None
    verdict: str  # FAMILIAR, FOREIGN or UNREAD
    reason: str | None = None  # why it was not read


def network_of(
    path: Path,
    *,
    trusted: bool = False,
    architecture: str | None = None,
    place: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str = "auto",
) -> tuple[nn.Module, dict[str, Any]]:
    """The network in a file, with its normalisation in front, and how it wants images to be read.

    Args:
        path, trusted, architecture, place: as for `own.load_network`.
        mean, std: its normalisation, in pixel units of [0, 1]; none: what stands beside it in a folder of transformers,
            else none at all.
        device: where it is to lie.
    """
    network = own.load_network(path, trusted, architecture=architecture, place=place)
    wanted = own.wanted(network)
    processor = path / "preprocessor_config.json"
    stated = _json(processor) if path.is_dir() and processor.is_file() else None
    if stated is not None and (found := own.reading(stated)):
        wanted = {**{key: value for key, value in wanted.items() if key != "size"}, **found}
    where = devices.device(device)
    if mean is not None or std is not None:
        network = own.Normalised(network, mean, std)
    elif stated is not None and stated.get("do_normalize", True):
        network = own.Normalised.from_transforms(network, stated)
    return network.to(where).eval(), wanted


def fit(
    network: nn.Module,
    familiar: Path,
    foreign: Path | None = None,
    *,
    reading: Mapping[str, Any] | None = None,
    temperature: float = 1000.0,
    epsilon: float = 0.0014,
    tpr: float = 0.95,
    seed: int = 0,
    batch: int | None = None,
    output: str | None = None,
    binary: bool = False,
    progress: bool = False,
) -> Fitted:
    """A detector fitted on one half of the familiar images, drawn at random; what it accepts of the other is told.

    Args:
        network: see `network_of`.
        familiar: a folder of in-distribution images that the network was not trained on.
        foreign: a folder with a sample of out-of-distribution images: T and epsilon are then chosen on it.
        reading: how images are read, see `own.read_folder`; without a size, all have to share one.
        temperature, epsilon, tpr, batch, output, binary, progress: as for `ODIN`.
        seed: of the halves.
    """
    reading = dict(reading or {})
    known = own.read_folder(familiar, **reading)
    if len(known) < 2:
        raise UserError(f"{imagefiles.shown(familiar)} holds one image", expected="at least two, better 200")
    reading["channels"] = known.channels
    if not {"size", "resize", "crop"} & reading.keys():  # all are of one size, and so will those to judge be
        reading["size"] = tuple(known[0].shape[1:])
    chosen, others = (known.take(part) for part in splits.halves(known.names, seed))
    sample = None if foreign is None else own.read_folder(foreign, **reading)
    settings: dict[str, Any] = {"batch": batch, "output": output, "binary": binary, "progress": progress}
    detector = ODIN(network, temperature, epsilon, tpr, **settings).fit(chosen, sample)
    accepted = int((detector.predict(others) == 1).sum())
    about = {
        "temperature": detector.temperature_,
        "epsilon": detector.epsilon_,
        "threshold": detector.threshold_,
        "tpr": tpr,
        "seed": seed,
        "familiar": {"folder": imagefiles.shown(familiar), "fitted_on": len(chosen), "not_taken": known.left_out},
        "accepted_of_others": [accepted, len(others)],
        "remarks": known.remarks,
        "foreign": None if sample is None else {"folder": imagefiles.shown(foreign or ""), "images": len(sample)},
    }
    return Fitted(detector, reading, _class_names(network), about)


def save(fitted: Fitted, path: Path) -> None:
    """Write a fitted detector, and how images are read for it, as JSON; :func:`load` reads it."""
    fitted.detector.save(path)
    content = {**_json(path), "reading": fitted.reading, "about": fitted.about}
    with write_atomically(path) as file:
        file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def load(path: Path, network: nn.Module) -> Fitted:
    """What :func:`save` wrote, around the same network."""
    detector = ODIN.load(path, network)
    content = _json(path)
    if not isinstance(content.get("reading"), dict):
        raise UserError(f"{path} does not say how images are read", remedy="write it with `odin score --save`")
    reading: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in content["reading"].items()
    }
    with errors.reading(path, "write it with `odin score --save`"):
        own.folders.read_files([], **reading)  # which refuses what images cannot be read by
        fitted = Fitted(detector, reading, _class_names(network), dict(content.get("about") or {}))
        list(summary(fitted, [], {}))  # or what it was fitted on could not be told, after all images
        return fitted


def judge(fitted: Fitted, images: Sequence[Path], progress: bool = False) -> tuple[list[Row], dict[str, int]]:
    """A row for each image, in the order that they are given, those of a folder by their names; and what was not taken.

    A file that cannot be read has a row that says so, and does not stop the others.

    Args:
        fitted: the detector.
        images: files, and folders of them.
        progress: show a progress bar.
    """
    files: list[tuple[str, Path]] = []
    left_out: dict[str, int] = {}
    for path in images:
        if path.is_dir():
            found, others = own.folders.below(path)
            files += [(str(path / name), file) for name, file in found]
            for reason, count in others.items():
                left_out[reason] = left_out.get(reason, 0) + count
        elif not os.path.lexists(path):
            raise Missing(f"{imagefiles.shown(path)} is not there", remedy="give images, or folders of them")
        else:
            files.append((str(path), path))
    if not files:
        told = _counted(left_out)
        raise UserError(f"there is no image to score{f' (but {told})' if told else ''}", expected="images or folders")
    detector = fitted.detector
    unread: dict[int, str] = {}

    def readable() -> Iterator[Tensor]:
        for index, file in enumerate(tqdm(files, unit="image", leave=False, disable=not progress)):
            try:
                yield own.folders.image(file, fitted.reading)
            except UserError as error:
                unread[index] = getattr(error, "reason", str(error))

    scores, classes = torch.empty(0), torch.empty(0)
    stream = iter(readable())
    first = next(stream, None)
    if first is not None:
        scores, classes = detector.score_and_classify(itertools.chain([first], stream))
    judged = iter(zip(scores.tolist(), classes.tolist(), strict=True))
    rows = []
    for index, (name, _) in enumerate(files):
        if index in unread:
            rows.append(Row(imagefiles.shown(name), None, None, UNREAD, unread[index]))
            continue
        score, number = next(judged)
        verdict = FAMILIAR if score > detector.threshold_ else FOREIGN
        rows.append(Row(imagefiles.shown(name), fitted.classes.get(number, str(number)), score, verdict))
    return rows, left_out


def reading(wanted: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """How images are read: as was asked for, and for the rest as the network wants them.

    >>> reading({"channels": 3, "resize": 256, "crop": 224}, {"size": 32, "crop": None, "filter": "box"})
    {'channels': 3, 'size': 32, 'filter': 'box'}
    """
    given = {name: value for name, value in asked.items() if value is not None}
    sizes = ("size", "resize", "crop")
    known = {name: value for name, value in wanted.items() if name not in sizes or not set(sizes) & given.keys()}
    return {**known, **given}


def summary(fitted: Fitted, rows: Sequence[Row], left_out: Mapping[str, int]) -> Iterator[str]:
    """Lines on what was chosen, what was found, and what was left out."""
    detector, about = fitted.detector, fitted.about
    read = ", ".join(
        f"{name} {' x '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in fitted.reading.items()
    )
    yield f"T = {detector.temperature_:g}, epsilon = {detector.epsilon_:g}, threshold {detector.threshold_:.6g}; {read}"
    if "accepted_of_others" in about:
        accepted, others = about["accepted_of_others"]
        share = f"{100 * accepted / others:.1f} % of {others} others; {100 * about['tpr']:g} % were asked for"
        yield f"fitted on {about['familiar']['fitted_on']} familiar images; accepts {share}"
        for told in about["remarks"]:
            yield f"of the familiar images: {told}"
        if lost := _counted(about["familiar"]["not_taken"]):
            yield f"of the familiar folder not taken: {lost}"
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in (FAMILIAR, FOREIGN, UNREAD)}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    yield f"{len(rows)} image{'s' * (len(rows) != 1)}: {told}"
    if left_out:
        yield f"not taken: {_counted(left_out)}"


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())


def as_csv(rows: Sequence[Row]) -> str:
    """The rows as CSV: file, class, score, verdict."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "class", "score", "verdict"])
    for row in rows:
        told = f"{row.verdict}: {row.reason}" if row.reason else row.verdict
        table.writerow([row.file, row.label, None if row.score is None else f"{row.score:.9g}", told])
    return text.getvalue()


def as_json(fitted: Fitted, rows: Sequence[Row], left_out: Mapping[str, int]) -> str:
    """The rows as JSON, with the detector that judged them."""
    told = [
        {"file": row.file, "class": row.label, "score": row.score, "verdict": row.verdict}
        | ({"reason": row.reason} if row.reason else {})
        for row in rows
    ]
    content = {"detector": fitted.about, "reading": fitted.reading, "not_taken": dict(left_out), "images": told}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _class_names(network: nn.Module) -> dict[int, str]:
    """The names of the classes, where a network of transformers has them."""
    for module in network.modules():
        names = getattr(getattr(module, "config", None), "id2label", None)
        if isinstance(names, Mapping):
            return {int(number): str(name) for number, name in names.items()}
    return {}


def _json(path: Path) -> dict[str, Any]:
    try:
        return load_json(path)
    except FileNotFoundError:
        raise Missing(f"{imagefiles.shown(path)} is not there", remedy="write it with `odin score --save`") from None
