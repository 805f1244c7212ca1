"""Bad input through every command, option and reader: what is typed or lies there, and the one line that it gives.

    python tests/bad_inputs.py              every case: a table of how many were right, by kind
    python tests/bad_inputs.py manifest     those whose kind or name has this word
    python tests/bad_inputs.py --every=6    one in six, and none that starts a kernel

Each case has a world of its own: a small sealed record, a prepared set, a page, folders. It is right if `odin` ends
with its status, one line on stderr that has the expected words and no other, nothing executed, and no file more.
"""

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import os
import pickle
import re
import resource
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from click.testing import CliRunner
from PIL import Image
from tiny import TINY

from odinlib import artefacts, cli, profiles, record
from odinlib.datasets import archives, formats, lmdb, prepare
from odinlib.networks import build

NET, ID = TINY.networks[0], TINY.id_sets[0]
KEY = f"{NET}_{ID}_seed0"
CHOSEN = ("--network", NET, "--id-set", ID)
SECONDS = 60  # that a case may take before it counts as waiting for ever
BYTES = 24 * 2**30  # of address space: what asks for more is told so, and does not take the machine with it
OUTCOMES = ("right", "raw", "accepted wrongly", "executed", "left files", "wrong line", "waits")


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad input.

    Args:
        kind: what is bad, for the table.
        name: of the case.
        words: the command; `{}` stands for the world's folder.
        told: a regular expression that the line has.
        damage: what is done to the world before.
        status: the exit status that is right.
        env: variables.
        slow: whether a kernel is started.
    """

    kind: str
    name: str
    words: tuple[str, ...]
    told: str
    damage: Callable[[Path], None] = lambda world: None
    status: int = 1
    env: dict[str, str] = dataclasses.field(default_factory=dict)
    slow: bool = False


# --- The world --------------------------------------------------------------------------------------------------------


def make_world(folder: Path) -> Path:
    """The world of all cases, made once, to be copied."""
    os.environ.update(ODINLIB_RESULTS=str(folder / "results"), ODINLIB_DATA=str(folder / "data"))
    profiles.PROFILES["tiny"] = TINY
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        list(record.respond(TINY.trained(NET, ID)))
        list(record.seal(TINY))
        images = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 1), dtype=np.uint8)
        prepare.write("mine-crop", images, files=[], source="noise", title="mine (crop)")
        for split, count in (("train", 40), ("test", 30)):
            part = np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            labels, classes = np.arange(count) % 10, list("abcdefghij")
            prepare.write("cifar10", part, labels, files=[], source="noise", classes=classes, split=split)
    page("ok", folder, ["seed = 0  # of nothing"], ["seed"])
    (folder / "images").mkdir()
    for index in range(4):
        Image.fromarray(images[index].repeat(5, 0).repeat(5, 1)[..., 0]).save(folder / "images" / f"{index}.png")
    torch.save(build("wrn-10-1", 10, seed=0).state_dict(), folder / "wrn.pth")
    return folder


def page(name: str, folder: Path, parameters: list[str], *cells: list[str]) -> Path:
    """A notebook of code cells, the first of which is tagged `parameters`."""
    found = [{"cell_type": "code", "source": s, "metadata": {}, "outputs": [], "execution_count": None} for s in cells]
    first = {"cell_type": "code", "source": parameters, "metadata": {"tags": ["parameters"]}, "outputs": []}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for index, cell in enumerate((first, *found)):
        cell.update(id=f"cell{index}", execution_count=None)
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps({"cells": [first, *found], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


class Runs:
    """A pickle that writes a file where it is loaded."""

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os.system, ("touch ran",)


# --- Damage -----------------------------------------------------------------------------------------------------------


def write(path: str, content: bytes | str) -> Callable[[Path], None]:
    """Put a file there."""

    def damage(world: Path) -> None:
        (world / path).parent.mkdir(parents=True, exist_ok=True)
        (world / path).write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def cut(path: str, share: float) -> Callable[[Path], None]:
    """Keep the first part of a file."""
    return lambda world: (world / path).write_bytes(
        (world / path).read_bytes()[: int(share * (world / path).stat().st_size)]
    )


def replaced(path: str, how: str) -> Callable[[Path], None]:
    """A folder, a pipe or a link that leads nowhere where a file is expected."""

    def damage(world: Path) -> None:
        place = world / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        {"folder": place.mkdir, "pipe": lambda: os.mkfifo(place), "loop": lambda: place.symlink_to(place)}[how]()

    return damage


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def npy(array: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=True)
    return held.getvalue()


def rezip(path: str, change: Callable[[dict[str, bytes]], dict[str, bytes]], **how: int) -> Callable[[Path], None]:
    """Other members in an archive."""

    def damage(world: Path) -> None:
        found = change(members(world / path))
        with zipfile.ZipFile(world / path, "w", **how) as archive:  # type: ignore[arg-type]
            for name, content in found.items():
                archive.writestr(name, content)

    return damage


def resaved(path: str, change: Callable[[dict, dict], None], header: Callable[[dict], None] = lambda h: None):
    """Other arrays or another configuration, with a digest that fits: a file that is whole in itself."""

    def damage(world: Path) -> None:
        found = artefacts.load(world / path)
        arrays, config = dict(found.arrays), dict(found.config)
        change(arrays, config)
        artefacts.save(world / path, arrays, config, found.provenance)
        held = members(world / path)
        told = json.loads(str(np.load(io.BytesIO(held["artefact.npy"]))))
        header(told)
        held["artefact.npy"] = npy(np.array(json.dumps(told)))
        with zipfile.ZipFile(world / path, "w") as archive:
            for name, content in held.items():
                archive.writestr(name, content)

    return damage


def resealed(damage: Callable[[Path], None]) -> Callable[[Path], None]:
    """Damage that the manifest is made to fit."""

    def both(world: Path) -> None:
        damage(world)
        path = world / "results/tiny/MANIFEST.json"
        found = json.loads(path.read_text())
        for name in found["files"]:
            file = world / "results/tiny" / name
            if file.is_file():
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                found["files"][name] = {"sha256": digest, "bytes": file.stat().st_size}
        path.write_text(json.dumps(found))

    return both


def without(*keys: str) -> Callable[[dict], None]:
    def change(found: dict) -> None:
        for key in keys:
            found.pop(key, None)

    return change


def flags(path: str, bits: int = 0, method: int | None = None) -> Callable[[Path], None]:
    """Members that say that they are encrypted (bit 0) or compressed by a method that nobody knows."""

    def damage(world: Path) -> None:
        held = bytearray((world / path).read_bytes())
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            start = 0
            while (start := held.find(mark, start)) >= 0:
                held[start + at] |= bits
                if method is not None:
                    held[start + at + 2] = method
                start += 4
        (world / path).write_bytes(held)

    return damage


def several(*damages: Callable[[Path], None]) -> Callable[[Path], None]:
    def all_of_them(world: Path) -> None:
        for damage in damages:
            damage(world)

    return all_of_them


# --- Raw archives -----------------------------------------------------------------------------------------------------


def zipped(path: str, **files: bytes) -> Callable[[Path], None]:
    def damage(world: Path) -> None:
        with zipfile.ZipFile(world / path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    return damage


def tarred(path: str, *entries: tuple[str, bytes | None, str]) -> Callable[[Path], None]:
    """A tar of files (name, content, "") and links (name, None, target)."""

    def damage(world: Path) -> None:
        with tarfile.open(world / path, "w:gz" if path.endswith("gz") else "w") as archive:
            for name, content, target in entries:
                entry = tarfile.TarInfo(name)
                if content is None:
                    entry.type, entry.linkname = tarfile.SYMTYPE, target
                    archive.addfile(entry)
                else:
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))

    return damage


def idx_files(images: bytes, labels: bytes = b"\0\0\x08\x01\0\0\0\x01\0") -> Callable[[Path], None]:
    return several(
        write("mnist/t10k-images-idx3-ubyte", images),
        write("mnist/t10k-labels-idx1-ubyte", labels),
    )


def cifar(content: bytes) -> Callable[[Path], None]:
    meta = pickle.dumps({"label_names": list("abcdefghij")})
    return several(write("cifar/test_batch", content), write("cifar/batches.meta", meta))


def lmdb_of(change: Callable[[bytearray], None]) -> Callable[[Path], None]:
    """A database of one leaf with one value, changed."""
    held = bytearray(4096 * 3)
    for number in (0, 1):
        start = 4096 * number
        struct.pack_into("<QHHHH", held, start, number, 0, 0x08, 0, 0)
        struct.pack_into("<IIQQ", held, start + 16, 0xBEEFC0DE, 1, 0, 4096 * 3)
        struct.pack_into("<I", held, start + 16 + 24, 4096)
        struct.pack_into("<QQQ", held, start + 16 + 24 + 48 + 40, 2, 2, number)
    struct.pack_into("<QHHHH", held, 8192, 2, 0, 0x02, 18, 4000)
    struct.pack_into("<H", held, 8192 + 16, 4000)
    struct.pack_into("<HHHH", held, 8192 + 4000, 4, 0, 0, 1)
    held[8192 + 4008 : 8192 + 4013] = b"kdata"
    change(held)
    return write("lsun/data.mdb", bytes(held))


def branch_to_itself(held: bytearray) -> None:
    """A page of branches that all lead to the page itself: a walk of it takes for ever."""
    struct.pack_into("<QHHHH", held, 8192, 2, 0, 0x01, 16 + 2 * 100, 4000)
    for slot in range(100):
        struct.pack_into("<H", held, 8192 + 16 + 2 * slot, 4000)
    struct.pack_into("<HHHH", held, 8192 + 4000, 2, 0, 0, 0)


def one_value_for_all(held: bytearray) -> None:
    """A leaf of a hundred entries that are all one value of most of the file."""
    struct.pack_into("<H", held, 8192 + 12, 16 + 2 * 100)
    for slot in range(100):
        struct.pack_into("<H", held, 8192 + 16 + 2 * slot, 4000)
    struct.pack_into("<HHHH", held, 8192 + 4000, 4000, 0, 1, 1)
    struct.pack_into("<Q", held, 8192 + 4009, 1)


def branches_without_end(held: bytearray) -> None:
    """Thirty pages of a hundred branches that all lead to the next one, and a leaf of nothing: 100^30 ways."""
    held.extend(bytes(4096 * 30))
    for root in (0, 4096):
        struct.pack_into("<QQ", held, root + 16 + 24 + 48 + 40, 2, 32)
    for page in range(2, 32):
        start = 4096 * page
        struct.pack_into("<QHHHH", held, start, page, 0, 0x01, 16 + 2 * 100, 4000)
        for slot in range(100):
            struct.pack_into("<H", held, start + 16 + 2 * slot, 4000)
        struct.pack_into("<HHHH", held, start + 4000, page + 1, 0, 0, 0)
    struct.pack_into("<QHHHH", held, 4096 * 32, 32, 0, 0x02, 16, 4000)


# --- The cases --------------------------------------------------------------------------------------------------------

NAMES = {
    "empty": "",
    "unknown": "nothing-of-this-name",
    "of a letter less": "x",
    "that leads out": "../../etc/passwd",
    "with a line break": "a\nb",
    "not UTF-8": os.fsdecode(b"caf\xe9"),
    "very long": "n" * 5000,
    "with a control character": "a\x1b[31mb",
    "a dot": ".",
}


def typed() -> Iterator[Case]:
    """Names and numbers on the command line."""
    for what, name in NAMES.items():
        for command, words, told in (
            ("status", ("status", "--profile", name), "profile is"),
            ("verify", ("verify", "--profile", name), "profile is"),
            ("seal", ("seal", "--profile", name), "profile is"),
            ("migrate", ("record", "migrate", "--profile", name), "profile is"),
            ("clean", ("clean", "--profile", name), "profile is"),
            ("train", ("train", "--profile", "tiny", "--id-set", ID, "--network", name or " "), "network is"),
            ("respond", ("respond", "--profile", "tiny", "--network", NET, "--id-set", name or " "), "ID set is"),
            ("set", ("respond", "--profile", "tiny", *CHOSEN, "--set", name), "data set is"),
            ("device", ("train", "--profile", "tiny", *CHOSEN, "--device", name), "device is"),
            ("training", ("train", "--profile", "tiny", *CHOSEN, "--training", name or " "), "training is"),
            ("sheet", ("data", "sheet", name, "-o", "{}/a.png"), "data set is"),
            ("prepare", ("data", "prepare", name), "data set is"),
            ("book", ("book", "--only", name), "book is"),
            ("run", ("run", "{}/ok.ipynb", "-p", name, "1"), "parameter is"),
            (
                "page",
                ("run", f"{{}}/{name}", "-o", "{}/out.ipynb"),
                "no notebook|is not a notebook|is a folder|too long",
            ),
            ("-p", ("respond", "--profile", "tiny", *CHOSEN, "-p", name, "1"), "profile field is"),
        ):
            if command != "device" or name:
                yield Case("names", f"{command}: a name {what}", words, told)
    numbers = {
        "seed": ("-1", "1.5", "9" * 23, "text", "nan", "[0]"),
        "holdout": ("0", "-3", "1.5", "1e400", "text", "True"),
        "images": ("1", "-1", "20", "9" * 30, "nan", "[1, 2]"),
        "temperatures": ("[]", "[0]", "[-1]", "[nan]", "[1, 1]", "text", "[1, x]", "[[1]]", "{a: 1}", "[1e400]"),
        "epsilons": ("[]", "[-1]", "[nan]", "[0, 0]", "['a']", "[2e308]"),
        "tpr": ("0", "95", "-0.1", "nan", "text"),
        "tuning_sizes": ("[]", "[0]", "[1.5]", "7", "[x]"),
        "ood_sets": ("[1, 2]", "[]", "text", "[letters, letters]", f"[{ID}]", "[../x]", "{digits: 3}", "[null]"),
        "id_sets": ("[]", "digits", "[1]", "[digits, digits]", "[none-such]"),
        "networks": ("[]", "[1]", f"[{NET}, {NET}]", "[mlp-0x0]", "[densenet-bc-999999-12]", "mlp-16x1"),
        "split": ("third", "1", "[first]", "none"),
        "resampled": ("[a]", "3", "[photos-resize, photos-resize]"),
        "resamples": ("1", "-5", "x"),
        "pictures": ("none-such", "1"),
        "fixed_temperature": ("0", "-1", "nan", "x"),
        "fixed_epsilon": ("-1", "inf", "x"),
        "headline_epsilon": ("-1", "x", "[0]"),
        "curve_images": ("0", "x", "1.5"),
        "name": ("other",),
        "title": ("[a]",),
        "compute": ("5", "text", "False", "[True]"),
        "exactly": ("5", "text"),
        "device": ("5", "[cpu]", "True"),
        "left_out": ("5", "none-such", "[letters]", "../x"),
        "grey_network": ("5", "resnet"),
        "stands_for": ("5", "[a]", "{a: 1}", "{digits: null}"),
        "recipes": ("5", "{mlp: fast}", "{1: 2}"),
        "trainings": ("text", "[1]", "{a: authors}", "{mlp-8x2_digits: ../x}", "{mlp-8x2_digits: null}"),
        "beside": ("[a]", "{digits: none-such}", "{digits: [none-such]}", "{digits: [[1]]}", "{digits: 3}"),
        "tuning_size_sets": ("text", "[1]", "[]", "[[1]]", "[strokes, strokes]", "{digits: x}"),
    }
    for name, values in numbers.items():
        for value in values:
            words = ("respond", "--profile", "tiny", *CHOSEN, "-p", name, value)
            yield Case(
                "values", f"-p {name} {value[:20]}", words, "; expected|cannot read|twice|is empty|is both|same filt"
            )
    for value in (
        "[1, 2",
        "{",
        "2024-02-30",
        "!!python/object/apply:os.system ['touch ran']",
        "a: b: c",
        "\x00"[:0] or "'",
    ):
        words = ("respond", "--profile", "tiny", *CHOSEN, "-p", "holdout", value)
        yield Case("values", f"-p holdout {value[:12]}", words, "cannot read|holdout is")
    for device in ("cpu:", "cpu:x", "cuda:99", "cpu:-1", "cpu:0:0", "mps:7"):
        words = ("respond", "--profile", "tiny", *CHOSEN, "--device", device)
        yield Case("values", f"--device {device}", words, "device")
    usage = {
        "train --seed -1": ("train", *CHOSEN, "--seed", "-1"),
        "train --seed of 23 digits": ("train", *CHOSEN, "--seed", "9" * 23),
        "respond --at x 1": ("respond", *CHOSEN, "--at", "x", "1"),
        "respond --at 1": ("respond", *CHOSEN, "--at", "1"),
        "sheet --seed -1": ("data", "sheet", "cifar10", "-o", "{}/a.png", "--seed", "-1"),
        "sheet --split x": ("data", "sheet", "cifar10", "-o", "{}/a.png", "--split", "x"),
        "book --cores 0": ("book", "--cores", "0"),
        "import --classes 1": ("import-weights", "{}/wrn.pth", *imported(classes="1")),
        "import --size 0": ("import-weights", "{}/wrn.pth", *imported(size="0")),
        "import --size 1000000": ("import-weights", "{}/wrn.pth", *imported(size="1000000")),
        "import --mean text": ("import-weights", "{}/wrn.pth", *imported(mean="a,b,c")),
        "train --all and one": ("train", "--profile", "tiny", "--all", *CHOSEN),
        "train without a network": ("train", "--profile", "tiny"),
        "no such command": ("trian",),
    }
    for name, words in usage.items():
        yield Case("values", name, words, "^Error: |^Usage: ", status=2)
    bomb = "{a: &a [l, l, l, l, l, l, l, l, l, l]" + "".join(
        f", {b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in itertools.pairwise("abcdefghi")
    )
    for what, value in {
        "an alias of itself": "&a [*a]",
        "aliases of aliases": bomb + "}",
        "a tag of a module": "!!python/module:os",
        "a tag of nobody": "!x [a]",
        "a key that is a list": "{[a]: b}",
        "a key that is a mapping": "{? {a: b} : c}",
        "a merge of text": "{<<: a}",
        "a set": "!!set {a, b}",
        "binary": "!!binary aGk=",
        "nested deeply": "[" * 5000 + "]" * 5000,
        "a number of 10,000 digits": "[" + "9" * 10_000 + "]",
        "a control character": "[\x1b]",
        "two documents": "--- [a]\n--- [b]",
        "an anchor that is not there": "[*b]",
    }.items():
        for field in ("networks", "ood_sets", "temperatures", "trainings"):
            words = ("respond", "--profile", "tiny", *CHOSEN, "-p", field, value)
            yield Case("values", f"-p {field} {what}", words, "; expected|cannot read|twice")
    own = ("data", "prepare", "images_folder", "--name", "own", "--source", "{}/images")
    for option, value in (
        *(("--filter", "none-such"), ("--seed", "-1"), ("--seed", "9" * 23), ("--size", "0"), ("--size", "9999")),
        *(("--none-such", "1"), ("--published", ""), ("--size", "x")),
    ):
        yield Case("values", f"prepare {option} {value[:9]}", (*own, option, value), "^Error: |^Usage: ", status=2)
    for option, value in (("--jpeg", "0"), ("--jpeg", "101"), ("--border", "-1"), ("--decoder", "none-such")):
        words = ("data", "prepare", "isun", "--source", "{}/images", option, value)
        yield Case("values", f"prepare isun {option} {value}", words, "^Error: |^Usage: ", status=2)
    for set_, options in (("isun", ("--published", "--jpeg", "75")), ("lsun-crop", ("--border", "2"))):
        words = ("data", "prepare", set_, "--source", "{}/images", *options)
        yield Case("values", f"prepare {set_} {' '.join(options)}", words, "released sets as they are|holds nothing")
    for at in (("0", "0.1"), ("-1", "0"), ("nan", "0"), ("1", "nan"), ("1", "-0.1"), ("inf", "0"), ("1", "inf")):
        words = ("respond", "--profile", "tiny", *CHOSEN, "--set", "strokes", "--at", *at)
        yield Case("values", f"--at {' '.join(at)}", words, "temperature|epsilon")


def imported(**options: str) -> tuple[str, ...]:
    given = {
        "network": "wrn-10-1",
        "id-set": "cifar10",
        "classes": "10",
        "mean": "0.5,0.5,0.5",
        "std": "1,1,1",
        **options,
    }
    return tuple(word for name, value in given.items() for word in (f"--{name}", value))


RESPONSES = f"results/tiny/responses/{KEY}/strokes.npz"
GRID = f"results/tiny/grids/{KEY}/strokes.npz"
DISTANCE = f"results/tiny/distances/{ID}/strokes.npz"
CARD = f"results/tiny/networks/{KEY}.json"
WEIGHTS = f"results/tiny/networks/{KEY}.safetensors"
MANIFEST = "results/tiny/MANIFEST.json"
TABLE = "results/tiny/tables/detections"
VERIFY, SEAL = ("verify", "--profile", "tiny"), ("seal", "--profile", "tiny")


def files() -> Iterator[Case]:
    """Recorded files that are damaged, and files that are whole in themselves and not what was recorded."""
    whole = {
        "empty": lambda path: write(path, b""),
        "cut in half": lambda path: cut(path, 0.5),
        "cut at its end": lambda path: cut(path, 0.97),
        "text": lambda path: write(path, "not what is expected"),
        "a folder": lambda path: replaced(path, "folder"),
        "a pipe": lambda path: replaced(path, "pipe"),
        "a link to itself": lambda path: replaced(path, "loop"),
        "JSON null": lambda path: write(path, "null"),
        "a pickle that runs": lambda path: write(path, pickle.dumps(Runs())),
    }
    for label, path in (
        ("responses", RESPONSES),
        ("grid", GRID),
        ("distance", DISTANCE),
        ("card", CARD),
        ("weights", WEIGHTS),
    ):
        for what, made in whole.items():
            yield Case("recorded files", f"verify: {label} {what}", VERIFY, "is not as it should be", made(path))
            if label != "weights" or what not in ("a folder", "a pipe", "a link to itself"):
                yield Case(
                    "recorded files", f"seal: {label} {what}", SEAL, "cannot be sealed|damaged|is a ", made(path)
                )
    odd = {
        "encrypted": flags(RESPONSES, bits=1),
        "by an unknown compression": flags(RESPONSES, method=77),
        "by a compression that is not it": flags(RESPONSES, method=12),
        "a pickled array": rezip(RESPONSES, lambda m: {**m, "labels.npy": npy(np.array([Runs()], dtype=object))}),
        "without its header": rezip(RESPONSES, lambda m: {k: v for k, v in m.items() if k != "artefact.npy"}),
        "a member of 21 GB": rezip(RESPONSES, lambda m: {**m, "labels.npy": huge()}),
        "a bomb": rezip(RESPONSES, lambda m: {**m, "x.npy": bytes(2**22)}, compression=zipfile.ZIP_DEFLATED),
        "a header that is a list": rezip(RESPONSES, lambda m: {**m, "artefact.npy": npy(np.array("[]"))}),
        "a header that is null": rezip(RESPONSES, lambda m: {**m, "artefact.npy": npy(np.array("null"))}),
        "a header nested deeply": rezip(RESPONSES, lambda m: {**m, "artefact.npy": npy(np.array("[" * 100_000))}),
    }
    for what, damage in odd.items():
        yield Case("recorded files", f"verify: responses {what}", VERIFY, "is not as it should be", damage)
        yield Case("recorded files", f"seal: responses {what}", SEAL, "cannot be sealed", damage)
    entries = {
        "no set": lambda a, c: without("set")(c),
        "no draw": lambda a, c: without("drawn")(c),
        "no kind": lambda a, c: without("kind")(c),
        "no network": lambda a, c: without("network")(c),
        "no inputs": lambda a, c: without("inputs")(c),
        "a draw of text": lambda a, c: c.update(drawn="all"),
        "a stop of text": lambda a, c: c.update(drawn={**c["drawn"], "stop": "60"}),
        "a start below 0": lambda a, c: c.update(drawn={**c["drawn"], "start": -5}),
        "a set of 10^15 images": lambda a, c: c.update(drawn={**c["drawn"], "of": 10**15}),
        "an unknown kind": lambda a, c: c.update(kind="dream"),
        "a network of text": lambda a, c: c.update(network="wrn"),
        "no labels": lambda a, c: without("labels")(a),
        "no logits": lambda a, c: without("logits")(a),
        "logits of a number": lambda a, c: a.update(logits=np.float32(3)),
        "labels too few": lambda a, c: a.update(labels=a["labels"][:-1]),
        "no arrays": lambda a, c: a.clear(),
        "another format": lambda a, c: c.update(format=99),
    }
    entries |= {
        "NaN in the logits": lambda a, c: a.update(logits=a["logits"] * np.nan),
        "logits of text": lambda a, c: a.update(logits=a["logits"].astype(str)),
        "complex logits": lambda a, c: a.update(logits=a["logits"].astype(complex)),
        "logits of three axes": lambda a, c: a.update(logits=a["logits"][None]),
        "logits of one class": lambda a, c: a.update(logits=a["logits"][:1]),
        "labels of text": lambda a, c: a.update(labels=a["labels"].astype(str)),
        "labels of floats": lambda a, c: a.update(labels=a["labels"] + 0.5),
        "labels of truth": lambda a, c: a.update(labels=a["labels"] > 3),
        "labels of two axes": lambda a, c: a.update(labels=a["labels"][None].repeat(2, 0)),
        "norms of text": lambda a, c: a.update(gradient_norms=a["gradient_norms"].astype(str)),
        "norms that are NaN": lambda a, c: a.update(gradient_norms=a["gradient_norms"] * np.nan),
        "a draw that is a list": lambda a, c: c.update(drawn=[1]),
        "a draw of numbers with a point": lambda a, c: c.update(drawn={**c["drawn"], "stop": 60.5}),
        "a draw by an unknown rule": lambda a, c: c.update(drawn={**c["drawn"], "rule": "dice"}),
        "a draw with a seed of text": lambda a, c: c.update(drawn={**c["drawn"], "seed": "x"}),
        "a set of a number": lambda a, c: c.update(set=3),
        "a set that leads out": lambda a, c: c.update(set="../x"),
        "a set with a control character": lambda a, c: c.update(set="a\x1b[31mb"),
        "inputs of text": lambda a, c: c.update(inputs="x"),
        "inputs of numbers": lambda a, c: c.update(inputs={"weights": 5}),
        "a network of numbers": lambda a, c: c.update(network={"network": 1, "id_set": 2, "training": 3}),
    }
    for what, change in entries.items():
        damage = resaved(RESPONSES, change)
        yield Case("forged headers", f"seal: {what}", SEAL, "cannot be sealed", damage)
        yield Case("forged headers", f"verify: {what}", VERIFY, "is not as it should be", resealed(damage))
    scored = {
        "no scores": lambda a, c: a.pop("scores"),
        "scores of text": lambda a, c: a.update(scores=a["scores"].astype(str)),
        "scores that are NaN": lambda a, c: a.update(scores=a["scores"] * np.nan),
        "scores of another shape": lambda a, c: a.update(scores=a["scores"].reshape(-1)),
        "temperatures of text": lambda a, c: c.update(temperatures=["a"] * len(c["temperatures"])),
        "temperatures that are lists": lambda a, c: c.update(temperatures=[[1]] * len(c["temperatures"])),
        "temperatures of a number": lambda a, c: c.update(temperatures=3),
        "temperatures below 0": lambda a, c: c.update(temperatures=[-t for t in c["temperatures"]]),
        "no epsilons": lambda a, c: c.update(epsilons=[]),
        "epsilons of null": lambda a, c: c.update(epsilons=None),
    }
    for what, change in scored.items():
        damage = resaved(GRID, change)
        yield Case("forged headers", f"seal: grid with {what}", SEAL, "cannot be sealed", damage)
        yield Case("forged headers", f"verify: grid with {what}", VERIFY, "is not as it should be", resealed(damage))
    measured = {
        "no distance": lambda a, c: a.clear(),
        "a distance of text": lambda a, c: a.update(energy_squared=np.array("x")),
        "a distance of NaN": lambda a, c: a.update(energy_squared=np.float64("nan")),
        "a distance that is a list": lambda a, c: a.update(energy_squared=np.zeros(3)),
        "sets of text": lambda a, c: c.update(sets="digits"),
        "sets of one": lambda a, c: c.update(sets=["digits"]),
        "no sets": lambda a, c: without("sets")(c),
    }
    for what, change in measured.items():
        damage = resaved(DISTANCE, change)
        yield Case("forged headers", f"seal: distance with {what}", SEAL, "cannot be sealed", damage)
        yield Case(
            "forged headers", f"verify: distance with {what}", VERIFY, "is not as it should be", resealed(damage)
        )
    headers = {
        "provenance of text": lambda h: h.update(provenance="here"),
        "no provenance": without("provenance"),
        "no digest": without("sha256"),
        "a digest of a number": lambda h: h.update(sha256=7),
        "no configuration": without("config"),
        "a configuration that is a list": lambda h: h.update(config=[]),
    }
    for what, change in headers.items():
        damage = resaved(RESPONSES, lambda a, c: None, change)
        yield Case("forged headers", f"seal: {what}", SEAL, "cannot be sealed", damage)
    for what, text in MANIFESTS.items():
        yield Case("manifests", f"verify: {what}", VERIFY, "1 line above|none of the 1 ", write(MANIFEST, text))
        # Whatever it was, sealing writes it anew.
        yield Case("manifests", f"seal: {what}", SEAL, "MANIFEST", write(MANIFEST, text), status=0)
    for how in ("folder", "pipe", "loop"):
        told = "1 line above|none of the 1 |Too many levels of symbolic links"
        yield Case("manifests", f"verify: a {how}", VERIFY, told, replaced(MANIFEST, how))
    edited = {
        "a distance": resaved(DISTANCE, lambda a, c: a.update(energy_squared=np.float64(9))),
        "a response": resaved(RESPONSES, lambda a, c: a.update(logits=a["logits"] + 1)),
        "a grid": resaved(GRID, lambda a, c: a.update(scores=a["scores"] + 1)),
        "an accuracy": lambda world: (world / CARD).write_text(
            (world / CARD).read_text().replace('"accuracy": 0', '"accuracy": 1')
        ),
    }
    for what, damage in edited.items():
        yield Case("edited records", f"verify: {what}", VERIFY, "is not as it should be", damage)
        for name in RECORDS:
            if what.split()[-1] in name:
                yield Case(
                    "edited records", f"read: {what} by {name}", ("READ", name), "not the file in MANIFEST", damage
                )
    tables = {
        "no JSON": lambda world: (world / f"{TABLE}.json").unlink(),
        "no CSV": lambda world: (world / f"{TABLE}.csv").unlink(),
        "JSON null": write(f"{TABLE}.json", "null"),
        "CSV empty": write(f"{TABLE}.csv", ""),
        "CSV not text": write(f"{TABLE}.csv", b"\xff\xfe\x00"),
        "CSV of one quote": write(f"{TABLE}.csv", '"'),
        "CSV a pipe": replaced(f"{TABLE}.csv", "pipe"),
        "CSV a folder": replaced(f"{TABLE}.csv", "folder"),
    }
    for what, damage in tables.items():
        yield Case("tables", f"verify: {what}", VERIFY, "is not as it should be", damage)
    yield Case(
        "nothing there", "seal nothing", SEAL, "nothing is recorded", lambda world: shutil.rmtree(world / "results")
    )
    yield Case(
        "nothing there", "verify nothing", VERIFY, "nothing is recorded", lambda world: shutil.rmtree(world / "results")
    )
    empty = several(
        lambda world: shutil.rmtree(world / "results"), lambda world: (world / "results/tiny").mkdir(parents=True)
    )
    yield Case("nothing there", "seal an empty folder", SEAL, "nothing is recorded", empty)
    cards = {
        "no classes": (without("classes"), "has no 'classes'"),
        "no architecture": (without("architecture"), "has no 'architecture'"),
        "no sha256": (without("sha256"), "has no 'sha256'"),
        "a digest of a number": (lambda c: c.update(sha256=5), "has 'sha256': '5'; expected text"),
        "classes of text": (lambda c: c.update(classes="ten"), "'classes': 'ten'; expected a whole"),
        "classes below 0": (lambda c: c.update(classes=-1), "not of -1 classes"),
        "10^9 classes": (lambda c: c.update(classes=10**9), "not of 1000000000 classes"),
        "classes that are a list": (lambda c: c.update(classes=[10]), "has 'classes'.*; expected"),
        "size of text": (lambda c: c.update(size="big"), "has 'size': 'big'; expected"),
        "size of 10^6": (lambda c: c.update(size=10**6), "size is 1000000; expected a whole number from 1 to 4096"),
        "10^9 channels": (lambda c: c.update(channels=10**9), "channels is 1000000000; expected"),
        "channels of null": (lambda c: c.update(channels=None), "has 'channels': 'None'; expected"),
        "an unknown architecture": (lambda c: c.update(architecture="resnet"), "network is 'resnet'; expected"),
        "an architecture of a number": (lambda c: c.update(architecture=5), "'architecture': '5'; expected text"),
        "an architecture of 5,000 digits": (
            lambda c: c.update(architecture=f"mlp-{'9' * 5000}x1"),
            "network is 'mlp-99.*; expected",
        ),
        "another architecture": (lambda c: c.update(architecture="mlp-8x2"), "has shape.*; expected"),
        "a normalisation of text": (lambda c: c.update(normalisation="none"), "'normalisation': 'none'; expected"),
        "a mean of text": (lambda c: c.update(normalisation={"mean": ["a"], "std": [1.0]}), "in their card"),
        "a recipe of text": (lambda c: c.update(recipe="ours"), "'recipe': 'ours'; expected"),
    }
    for what, (change, told) in cards.items():

        def damage(world: Path, change: Callable[[dict], None] = change) -> None:
            found = json.loads((world / CARD).read_text())
            change(found)
            (world / CARD).write_text(json.dumps(found))
            (world / RESPONSES).unlink()

        yield Case("cards", f"respond: {what}", ("respond", "--profile", "tiny", *CHOSEN), told, damage)


MANIFESTS = {
    "empty": "",
    "an open brace": "{",
    "a list": "[]",
    "null": "null",
    "a number": "3",
    "files a list": '{"files": []}',
    "files null": '{"files": null}',
    "no files": "{}",
    "an entry of text": '{"files": {"a": "b"}}',
    "an entry without a digest": '{"files": {"a": {"bytes": 1}}}',
    "an entry without bytes": '{"files": {"a": {"sha256": "x"}}}',
    "a digest of a number": '{"files": {"a": {"sha256": 1, "bytes": 1}}}',
    "not UTF-8": b"\xff\xfe",
    "nested deeply": "[" * 100_000,
}


def _read_distance() -> object:
    from odinlib.measure.distances import distance

    return distance(reading(), ID, "strokes")


def _read_accuracy() -> object:
    from odinlib import trained

    return trained.card(reading().trained(NET, ID))["accuracy"]


def _read_response() -> object:
    from odinlib import store

    return store.responses(reading().trained(NET, ID), "strokes")


def _read_grid() -> object:
    from odinlib import experiments

    return experiments.grid(reading().trained(NET, ID), "strokes")


def reading() -> profiles.Profile:
    return dataclasses.replace(TINY, compute=False)


def raw_file(path: str) -> archives.RawFile:
    return archives.RawFile(PurePosixPath(path), Path(path).read_bytes())


RECORDS = {"distance": _read_distance, "accuracy": _read_accuracy, "response": _read_response, "grid": _read_grid}
# What the sums of published files would refuse before it comes to their readers.
READS = {
    **RECORDS,
    "idx": lambda: formats.idx(raw_file("mnist/t10k-images-idx3-ubyte")).shape,
    "cifar": lambda: formats.cifar_batch(raw_file("cifar/test_batch"), "labels"),
    "names": lambda: formats.cifar_names(raw_file("cifar/test_batch"), "label_names"),
    "lmdb": lambda: list(lmdb.items(Path("lsun/data.mdb").read_bytes())),
}


def huge() -> bytes:
    """The header of an array of 21 GB, and nothing of it."""
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(held, {"descr": "<f8", "fortran_order": False, "shape": (2_600_000_000,)})
    return held.getvalue()


def sets() -> Iterator[Case]:
    """Prepared sets, and the raw files that sets are made of."""
    path, sheet = "data/cifar10.npz", ("data", "sheet", "cifar10", "-o", "{}/a.png")
    provenance = {
        "null": "null",
        "a list": "[]",
        "a number": "7",
        "without a digest": '{"classes": []}',
        "without classes": "SHA",
        "nested deeply": "[" * 100_000,
        "no JSON": "{",
    }
    damages = {
        "empty": write(path, b""),
        "cut": cut(path, 0.6),
        "text": write(path, "text"),
        "a folder": replaced(path, "folder"),
        "a pipe": replaced(path, "pipe"),
        "a link to itself": replaced(path, "loop"),
        "encrypted": flags(path, bits=1),
        "by an unknown compression": flags(path, method=77),
        "a pickle that runs": write(path, pickle.dumps(Runs())),
        "pickled images": rezip(path, lambda m: {**m, "images.npy": npy(np.array([Runs()], dtype=object))}),
        "without images": rezip(path, lambda m: {k: v for k, v in m.items() if k != "images.npy"}),
        "images of 21 GB": rezip(path, lambda m: {**m, "images.npy": huge()}),
        "other images": rezip(path, lambda m: {**m, "images.npy": npy(np.zeros((3, 32, 32, 3), np.uint8))}),
        "a single array": write(path, npy(np.zeros(3))),
    }
    for what, text in provenance.items():

        def change(found: dict[str, bytes], text: str = text) -> dict[str, bytes]:
            told = json.loads(str(np.load(io.BytesIO(found["provenance.npy"]))))
            kept = json.dumps({"sha256": told["sha256"]}) if text == "SHA" else text
            return {**found, "provenance.npy": npy(np.array(kept))}

        damages[f"provenance {what}"] = rezip(path, change)
    for what, damage in damages.items():
        told = "is damaged|recorded SHA-256|is a folder; |is a pipe|is not prepared"
        yield Case("prepared sets", f"sheet: {what}", sheet, told, damage)
        if what != "a link to itself":
            shown = rf"{path} is |damaged" if "images" not in what else "cifar10"
            yield Case("prepared sets", f"data status: {what}", ("data", "status"), shown, damage, status=0)
    yield Case(
        "prepared sets",
        "train: a single image without classes",
        ("train", "--profile", "paper", "--network", "wrn-40-4", "--id-set", "cifar10"),
        "is damaged .it lacks 'classes'",
        damages["provenance without classes"],
    )
    for what, (reader, told, damage) in readers().items():
        yield Case("raw files", what, ("READ", reader), told, damage)
    published = "has SHA256 .*; expected .*fetch it again"
    mnist, cifar10 = ("mnist", idx_files(b"")), ("cifar10", cifar(b""))
    for name, damage in (mnist, cifar10):
        words = ("data", "prepare", name, "--source", f"{{}}/{name.removesuffix('10')}")
        yield Case("raw files", f"{name} that was changed", words, published, damage)
    piped = several(mnist[1], replaced("mnist/t10k-images-idx3-ubyte", "pipe"))
    yield Case("raw files", "IDX a pipe", ("data", "prepare", "mnist", "--source", "{}/mnist"), "is a pipe", piped)
    yield from folders()


def readers() -> dict[str, tuple[str, str, Callable[[Path], None]]]:
    """Damaged files of the publishers' own formats: the reader, what is told, and the damage."""
    pixels = np.zeros((1, 3072), np.uint8)

    def batch(**content: object) -> Callable[[Path], None]:
        return cifar(pickle.dumps({"data": pixels, "labels": [0], **content}))

    return {
        "IDX of 65 dimensions": (
            "idx",
            "no IDX file of bytes",
            idx_files(b"\0\0\x08\x41" + struct.pack(">65I", *[1] * 65) + b"\0"),
        ),
        "IDX of 255 dimensions, cut": ("idx", "no IDX file of bytes", idx_files(b"\0\0\x08\xff")),
        "IDX of no dimension": ("idx", "truncated", idx_files(b"\0\0\x08\0\0")),
        "IDX of 2^32 images": (
            "idx",
            "truncated",
            idx_files(b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 28, 28) + b"\0" * 9),
        ),
        "IDX of floats": ("idx", "no IDX file of bytes", idx_files(b"\0\0\x0d\x03" + bytes(12))),
        "IDX empty": ("idx", "no IDX file of bytes", idx_files(b"")),
        "CIFAR pickle that runs": ("cifar", "no CIFAR pickle .it asks for", cifar(pickle.dumps(Runs()))),
        "CIFAR pickle of a list": ("cifar", "holds a list; expected a dictionary", cifar(pickle.dumps([]))),
        "CIFAR pickle cut": ("cifar", "no CIFAR pickle", cifar(pickle.dumps({"data": pixels, "labels": [0]})[:-9])),
        "CIFAR pickle nested deeply": ("cifar", "no CIFAR pickle", cifar(b"(" * 100_000 + b".")),
        "CIFAR pickle of a number of 10 GB": (
            "cifar",
            "no CIFAR pickle",
            cifar(b"\x80\x04\x8e" + struct.pack("<Q", 10**10)),
        ),
        "CIFAR empty": ("cifar", "no CIFAR pickle", cifar(b"")),
        "CIFAR labels of text": ("cifar", "no CIFAR batch", batch(labels=["a"])),
        "CIFAR labels too large": ("cifar", "no CIFAR batch", batch(labels=[2**70])),
        "CIFAR labels below 0": ("cifar", "no CIFAR batch", batch(labels=[-1])),
        "CIFAR labels that are lists": ("cifar", "no CIFAR batch", batch(labels=[[0]])),
        "CIFAR labels that are NaN": ("cifar", "no CIFAR batch", batch(labels=[float("nan")])),
        "CIFAR data of text": ("cifar", "no CIFAR batch", batch(data="x")),
        "CIFAR data of objects": ("cifar", "no CIFAR", batch(data=np.array([None] * 3072, dtype=object)[None])),
        "CIFAR names that are none": ("names", "has no label_names", batch()),
        "CIFAR names that are numbers": ("names", "has no label_names", batch(label_names=[1, 2])),
        "LMDB that leads to itself": ("lmdb", "page 2 is in the tree twice", lmdb_of(branch_to_itself)),
        "LMDB of ways without end": ("lmdb", "is in the tree twice", lmdb_of(branches_without_end)),
        "LMDB of one value a hundred times": ("lmdb", "lie upon each other", lmdb_of(one_value_for_all)),
        "LMDB cut": ("lmdb", "is damaged", lmdb_of(lambda h: h.__delitem__(slice(9000, None)))),
        "LMDB of pages of 0 bytes": ("lmdb", "is damaged", lmdb_of(lambda h: struct.pack_into("<I", h, 40, 0))),
        "LMDB of another version": ("lmdb", "not an LMDB file", lmdb_of(lambda h: struct.pack_into("<I", h, 20, 9))),
        "LMDB empty": ("lmdb", "is damaged", write("lsun/data.mdb", b"")),
    }


def folders() -> Iterator[Case]:
    """Folders and archives of images."""
    png = png_bytes(40)

    def folder(source: str) -> tuple[str, ...]:
        return ("data", "prepare", "images_folder", "--name", "own", "--source", source)

    def archive(damage: Callable[[Path], None], path: str = "a.zip") -> Callable[[Path], None]:
        return several(zipped(path, **{"a.png": png}), damage)

    raw = {
        "zip that leads out": ("a.zip", "outside itself", zipped("a.zip", **{"../out.png": png})),
        "zip of an absolute path": ("a.zip", "outside itself", zipped("a.zip", **{"/out.png": png})),
        "zip of a drive": ("a.zip", "outside itself", zipped("a.zip", **{"C:\\out.png": png})),
        "zip cut": ("a.zip", "not a zip file", archive(cut("a.zip", 0.5))),
        "zip encrypted": ("a.zip", "is encrypted", archive(flags("a.zip", bits=1))),
        "zip by an unknown compression": ("a.zip", "is not supported", archive(flags("a.zip", method=77))),
        "zip with a wrong sum": ("a.zip", "Bad CRC-32", archive(flip("a.zip", 60))),
        "zip empty": ("a.zip", "not a zip file", write("a.zip", b"")),
        "zip a pipe": ("a.zip", "is a pipe", replaced("a.zip", "pipe")),
        "zip a folder of none": ("a.zip", "holds no images", lambda world: (world / "a.zip").mkdir()),
        "zip of no images": ("a.zip", "holds no images, but 1 .txt", zipped("a.zip", **{"a.txt": b"x"})),
        "tar with a link": ("a.tar", "holds a link", tarred("a.tar", ("a.png", None, "/etc/passwd"))),
        "tar that leads out": ("a.tar", "outside itself", tarred("a.tar", ("../a.png", png, ""))),
        "tar cut": ("a.tar", "unexpected end", several(tarred("a.tar", ("a.png", png * 50, "")), cut("a.tar", 0.4))),
        "tar.gz cut": (
            "a.tar.gz",
            "ended before the end",
            several(tarred("a.tar.gz", ("a.png", os.urandom(5000), "")), cut("a.tar.gz", 0.5)),
        ),
        "tar.gz that is none": ("a.tgz", "Not a gzipped file", write("a.tgz", b"rubbish")),
        "tar of text": ("a.tar", "is damaged", write("a.tar", "x" * 600)),
        "tar with a size below 0": (
            "a.tar",
            "is empty|is damaged",
            several(tarred("a.tar", ("a.png", png, "")), tar_size("a.tar")),
        ),
        "folder empty": ("none", "holds no images", lambda world: (world / "none").mkdir()),
        "folder not there": ("none", "does not exist", lambda world: None),
        "folder a link to itself": ("none", "Too many levels|does not exist", replaced("none", "loop")),
        "folder of a pipe": ("p", "is a pipe", replaced("p/a.png", "pipe")),
        "folder of a link to itself": ("p", "Too many levels", replaced("p/a.png", "loop")),
        "folder of a link that leads nowhere": (
            "p",
            "a.png",
            several(lambda world: (world / "p").mkdir(), lambda world: (world / "p/a.png").symlink_to("nothing")),
        ),
        "folder of text": ("p", "none of 1 files is a usable image", write("p/a.png", "text")),
        "folder of a name with a control character": ("p", r"a\\x1b\[31mb.png", write("p/a\x1b[31mb.png", "text")),
        "folder of a name that is not UTF-8": ("p", r"caf\\xe9.png", write(os.fsdecode(b"p/caf\xe9.png"), "text")),
        "a file of another kind": ("wrn.pth", "no archive known here", lambda world: None),
    }
    for what, (source, told, damage) in raw.items():
        yield Case("raw files", what, folder(f"{{}}/{source}"), told, damage)
    for what, name, told in (
        ("that leads out", "../x", "name is '../x'; expected"),
        ("of a published set", "isun", "isun is a published set"),
        ("that is empty", "", "name is ''; expected"),
        ("of 300 letters", "n" * 300, "name is 'nnn.*; expected|too long"),
    ):
        words = ("data", "prepare", "images_folder", "--name", name, "--source", "{}/images")
        yield Case("raw files", f"a name {what}", words, told)
    pictures = {
        "PNG of 0 pixels": (png_of(0, 5), "cannot be read"),
        "PNG of 10^9 pixels": (png_of(40_000, 40_000), "refused"),
        "PNG cut": (png[:60], "cannot be read"),
        "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch ran) (w) file\n", "EPS"),
        "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        "TIFF of rubbish": (b"II*\0\xff\xff\xff\xff", "cannot be read"),
        "GIF cut": (b"GIF89a\x20\0\x20\0", "cannot be read"),
        "too small": (png_bytes(8), "1 are of another size"),
    }
    for what, (content, told) in {**pictures, **odd_pictures()}.items():
        yield Case("images", f"prepare: {what}", folder("{}/p"), told, write("p/a.png", content))


SCORE = ("score", "--network", f"{{}}/{WEIGHTS}", "--familiar", "{}/images")
NUMBERS = {
    "temperature": ("0", "-1", "nan", "inf"),
    "epsilon": ("-0.1", "nan", "inf"),
    "tpr": ("0", "1.5", "nan", "-1"),
    "mean": ("0.5,0.5", "nan", "inf"),
    "std": ("0", "-1", "nan", "1,1"),
}
CHOICES = {
    "filter": ("none-such", "../x", "a\nb"),
    "device": ("cuda:99", "x", "cpu:9"),
    "logits": ("none-such", "99"),
    "architecture": ("none-such", "timm:none-such", "nobody:x", "{}/none.py:f", "{}/wrn.pth:f", ""),
    "place": ("none-such",),
}


def scored() -> Iterator[Case]:
    """Networks, images, folders and detectors of one's own."""
    told = {"mean": "mean|numbers", "std": "std|numbers", "logits": "logits|output|place", "place": "at 'none-such'"}
    for name, values in {**NUMBERS, **CHOICES}.items():
        for value in values:
            architecture = () if name != "place" else ("--architecture", "{}/mine.py:make")
            words = (*SCORE, f"--{name}", value, *architecture, "{}/images")
            line = told.get(name, f"{name}|library|is not there|network|cannot be run|channels")
            yield Case("score", f"--{name} {value[:20]}", words, line, write("mine.py", ARCHITECTURE))
    for name, value in (
        *(("size", value) for value in ("9" * 30, "0x0", "-1", "x", "32x", "1x2x3", "٣٢", "")),
        *(("crop", "a"), ("resize", "1.5"), ("channels", "0"), ("batch", "0"), ("seed", "-1"), ("mean", "a,b")),
    ):
        status = 2 if value != "0x0" else 1
        yield Case(
            "score", f"--{name} {value}", (*SCORE, f"--{name}", value, "{}/images"), f"{name}|size", status=status
        )
    for name, value in (
        ("size", "999999999"),
        ("resize", "999999999"),
        ("size", "1000000"),
        ("crop", "1000"),
        ("channels", "7"),
    ):
        words = (*SCORE, f"--{name}", value, "{}/images")
        yield Case("score", f"--{name} {value[:9]}", words, "size is|resize is|crop is|channels|too small")
    networks = {
        "not there": (lambda world: (world / WEIGHTS).unlink(), "is not there"),
        "empty": (write(WEIGHTS, b""), "holds no network"),
        "text": (write(WEIGHTS, "text"), "holds no network"),
        "a folder": (replaced(WEIGHTS, "folder"), "without a config.json"),
        "a folder with a configuration of a class of its own": (
            several(replaced(WEIGHTS, "folder"), write(f"{WEIGHTS}/config.json", REMOTE)),
            "holds no network of transformers|not installed",
        ),
        "a folder with a broken configuration": (
            several(replaced(WEIGHTS, "folder"), write(f"{WEIGHTS}/config.json", "[" * 100_000)),
            "holds no network of transformers|not installed",
        ),
        "a pipe": (replaced(WEIGHTS, "pipe"), "no regular file"),
        "a link to itself": (replaced(WEIGHTS, "loop"), "not there|Too many levels"),
        "a pickle that runs": (write(WEIGHTS, pickle.dumps(Runs())), "not the network that they are of"),
        "an archive whose pickle runs": (
            lambda world: torch.save(Runs(), world / WEIGHTS),
            "not the network that they are of",
        ),
        "a pickled module": (lambda world: torch.save(torch.nn.Linear(2, 2), world / WEIGHTS), "can also be trusted"),
        "TorchScript named .safetensors": (torchscript(WEIGHTS), "can run any program"),
        "TorchScript cut": (several(torchscript(WEIGHTS), cut(WEIGHTS, 0.5)), "holds no network"),
        "an exported program": (
            zipped(WEIGHTS, **{"a/archive_format": b"pt2", "a/models/model.json": b"{}"}),
            "can run any program",
        ),
        "a header of 2^60 bytes": (write(WEIGHTS, struct.pack("<Q", 2**60) + b"{}"), "holds no network|damaged"),
        "a header of the wrong type": (write(WEIGHTS, struct.pack("<Q", 2) + b"[]"), "holds no network|damaged"),
        "tensors beyond the file": (write(WEIGHTS, tensors(1000)), "damaged"),
        "tensors of another kind": (write(WEIGHTS, tensors(8)), "SHA-256|damaged"),
        "a card that is null": (write(CARD, "null"), "damaged"),
        "a card that is a pipe": (replaced(CARD, "pipe"), "is a pipe"),
        "no card": (lambda world: (world / CARD).unlink(), "holds weights alone"),
    }
    for what, (damage, line) in networks.items():
        yield Case("score", f"network: {what}", (*SCORE, "{}/images"), line, damage)
    for what, line in (("safe", "not the network|holds no network"), ("cut", "cannot be read|holds no")):
        words = ("score", "--network", "{}/own.pt", "--trust", "--familiar", "{}/images", "{}/images")
        damage = write("own.pt", "text") if what == "safe" else several(torchscript("own.pt"), cut("own.pt", 0.5))
        yield Case("score", f"trusted network: {what}", words, line, damage)
    outputs = {
        "a tuple of texts": "nn.Identity() and Gives(lambda x: ('a', 'b'))",
        "nothing": "Gives(lambda x: None)",
        "a number": "Gives(lambda x: 3.0)",
        "logits [N]": "Gives(lambda x: x.flatten(1).sum(1))",
        "logits of one image too many": "Gives(lambda x: torch.zeros(len(x) + 1, 5) + x.sum())",
        "NaN": "Gives(lambda x: x.flatten(1)[:, :5] * float('nan'))",
        "infinity": "Gives(lambda x: x.flatten(1)[:, :5] + float('inf'))",
        "whole numbers": "Gives(lambda x: x.flatten(1)[:, :5].long())",
        "text": "Gives(lambda x: 'logits')",
        "an error": "Gives(lambda x: 1 / 0)",
        "no gradient": "Gives(lambda x: x.detach().flatten(1)[:, :5])",
        "an error that is a line break": "Gives(lambda x: (_ for _ in ()).throw(ValueError('a\\nb\\x1b[31m')))",
    }
    for what, made in outputs.items():
        words = ("score", "--network", "{}/own.pt", "--trust", "--familiar", "{}/images", "{}/images", "--size", "8")
        words = ("score", "--network", "{}/w.pth", "--architecture", "{}/mine.py:make", *words[4:])
        damage = several(write("mine.py", ARCHITECTURE.replace("Gives(first)", made)), weightless("w.pth"))
        yield Case("score", f"network that gives {what}", words, "^error: |^warning: ", damage)
    for what, source, line in (
        ("does not parse", "def make(:", "cannot be run"),
        ("ends the process", "raise SystemExit(0)", "cannot be run"),
        ("is no module", "def make(): return 3", "gives a int"),
        ("has no such name", "x = 1", "has no function"),
        ("is not UTF-8", b"\xff\xfe", "cannot be run"),
        ("prints a traceback", "import nothing_of_this_name", "cannot be run"),
        ("never ends its recursion", "def make(): return make()", "make.*fails"),
    ):
        words = (
            "score",
            "--network",
            "{}/wrn.pth",
            "--architecture",
            "{}/mine.py:make",
            "--familiar",
            "{}/images",
            "{}/images",
        )
        yield Case("score", f"architecture that {what}", words, line, write("mine.py", source))
    detectors = {
        "not there": (lambda world: None, "is not there"),
        "empty": (write("d.json", b""), "is damaged"),
        "null": (write("d.json", "null"), "is damaged"),
        "a list": (write("d.json", "[]"), "is damaged"),
        "nested deeply": (write("d.json", "[" * 100_000), "is damaged"),
        "a folder": (lambda world: (world / "d.json").mkdir(), "is a folder"),
        "a pipe": (replaced("d.json", "pipe"), "is a pipe"),
        "not UTF-8": (write("d.json", b"\xff\xfe"), "is damaged"),
        "of nothing": (write("d.json", "{}"), "is damaged .it lacks"),
        "without a threshold": (detector(lambda d: d["fitted"].pop("threshold_")), "is damaged"),
        "with a threshold of text": (detector(lambda d: d["fitted"].update(threshold_="a")), "is damaged"),
        "with a threshold of NaN": (detector(lambda d: d["fitted"].update(threshold_=float("nan"))), "is damaged"),
        "with a method of its own": (detector(lambda d: d["fitted"].update(predict_=1)), "is damaged"),
        "with a temperature of text": (detector(lambda d: d["settings"].update(temperature="a")), "temperature is 'a'"),
        "with a fitted temperature of 0": (detector(lambda d: d["fitted"].update(temperature_=0)), "temperature is 0"),
        "with a fitted epsilon below 0": (detector(lambda d: d["fitted"].update(epsilon_=-1)), "epsilon is -1"),
        "with a batch of text": (detector(lambda d: d["settings"].update(batch="a")), "batch"),
        "with another network": (detector(lambda d: d.update(network="0")), "other weights"),
        "with settings that are a list": (detector(lambda d: d.update(settings=[])), "is damaged|another version"),
        "with a setting that is the network": (detector(lambda d: d["settings"].update(network="x")), "verdict"),
        "with a reading of text": (detector(lambda d: d.update(reading="x")), "does not say how images are read"),
        "with a reading of nothing known": (detector(lambda d: d.update(reading={"x": 1})), "d.json"),
        "with a size of text": (detector(lambda d: d["reading"].update(size="big")), "d.json|size"),
        "with a size of 10^9": (detector(lambda d: d["reading"].update(size=10**9)), "size is 1000000000; expected"),
        "with a filter of a number": (detector(lambda d: d["reading"].update(filter=3)), "filter is 3"),
        "with a fit that is a list": (detector(lambda d: d.update(about=[1])), "d.json"),
        "with a fit of text": (detector(lambda d: d.update(about={"accepted_of_others": "x"})), "d.json"),
    }
    for what, (damage, line) in detectors.items():
        words = ("score", "--network", f"{{}}/{WEIGHTS}", "--detector", "{}/d.json", "{}/images")
        yield Case("score", f"detector {what}", words, line, damage, status=0 if line == "verdict" else 1)
    both = (*SCORE, "--detector", "{}/d.json", "{}/images")
    yield Case("score", "a detector and familiar images", both, "neither or both")
    yield Case("score", "neither of them", (*SCORE[:3], "{}/images"), "neither or both")
    given = {
        "not there": ("{}/none", "is not there"),
        "an empty folder": ("{}/empty", "there is no image to score"),
        "a folder of text": ("{}/texts", "there is no image to score .but 1 .txt"),
        "a name that is not UTF-8": (os.fsdecode(b"{}/caf\xe9.png"), r"caf\\xe9.png is not there"),
        "a name with a line break": ("{}/a\nb", r"a\\nb is not there"),
        "a name of 5,000 letters": ("{}/" + "n" * 5000, "too long|is not there"),
        "a pipe": ("{}/pipe", "could not be read"),
        "a link to itself": ("{}/loop", "could not be read"),
        "a device": ("/dev/null", "could not be read"),
        "an EPS named .png": ("{}/eps.png", "could not be read"),
        "a PNG of 10^9 pixels": ("{}/bomb.png", "could not be read"),
        "a PNG of 0 pixels": ("{}/none.png", "could not be read"),
        "a CSV formula": ("{}/=1+1.png", "could not be read"),
    }
    lie = several(
        lambda world: (world / "empty").mkdir(),
        write("texts/a.txt", "x"),
        replaced("pipe", "pipe"),
        replaced("loop", "loop"),
        write("eps.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch ran) (w) file\n"),
        write("bomb.png", png_of(40_000, 40_000)),
        write("none.png", png_of(0, 5)),
        write("=1+1.png", "text"),
    )
    for what, (path, line) in given.items():
        yield Case("score", f"images: {what}", (*SCORE, "-q", path), line, lie)
        words = (*SCORE[:3], "--familiar", path, "{}/images")
        yield Case("score", f"familiar: {what}", words, "is not a folder|holds no image|too long|could not", lie)
    for what, (output, line) in OUTPUTS.items():
        yield Case("places", f"score -o: {what}", (*SCORE, "-q", "-o", output, "{}/images"), line)
        yield Case("places", f"score --save: {what}", (*SCORE, "-q", "--save", output, "{}/images"), line)


def tensors(end: int) -> bytes:
    """A file of safetensors whose one tensor ends there."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, end]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


REMOTE = json.dumps(
    {"architectures": ["X"], "auto_map": {"AutoModelForImageClassification": "evil.X"}, "model_type": "x"}
)
ARCHITECTURE = """
import torch
from torch import nn

class Gives(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what, self.a = what, nn.Parameter(torch.zeros(1))
    def forward(self, x):
        return self.what(x)

def first(x):
    return x.flatten(1)[:, :5]

def make():
    return Gives(first)
"""


def weightless(path: str) -> Callable[[Path], None]:
    """The weights of the network of `ARCHITECTURE`."""
    return lambda world: torch.save({"a": torch.zeros(1)}, world / path)


def detector(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """A detector that was fitted and kept, and then changed."""

    def damage(world: Path) -> None:
        words = [
            "score",
            "--network",
            world / WEIGHTS,
            "--familiar",
            world / "images",
            "--save",
            world / "d.json",
            "-q",
        ]
        done = CliRunner().invoke(cli.main, [*map(str, words), str(world / "images")])
        assert done.exit_code == 0, done.output
        found = json.loads((world / "d.json").read_text())
        change(found)
        (world / "d.json").write_text(json.dumps(found))

    return damage


def odd_pictures() -> dict[str, tuple[bytes, str]]:
    """Images that are whole, and none to be resized to 32 x 32 as they are; a score of one is another matter."""

    def saved(image: Image.Image, kind: str, **options: object) -> bytes:
        held = io.BytesIO()
        image.save(held, kind, **options)
        return held.getvalue()

    floats = Image.fromarray(np.full((40, 40), 300, np.float32))
    nan = Image.fromarray(np.full((40, 40), np.nan, np.float32))
    below = Image.fromarray(np.full((40, 40), -5, np.int32))
    whole = saved(Image.new("RGB", (40, 40)), "JPEG")
    return {
        "TIFF of floats to 300": (saved(floats, "TIFF"), "from 300 to 300, not in"),
        "TIFF of NaN": (saved(nan, "TIFF"), "NaN or infinite"),
        "TIFF of numbers below 0": (saved(below, "TIFF"), "below 0|cannot be read"),
        "JPEG cut": (whole[:-60], "cannot be read"),
        "JPEG of 65,500 pixels a side": (
            whole.replace(b"\0\x28\0\x28", b"\xff\xdc\xff\xdc", 1),
            "are refused|cannot be read",
        ),
        "GIF of one pixel": (saved(Image.new("P", (1, 1)), "GIF"), "1 are of another size"),
        "PDF": (saved(Image.new("RGB", (40, 40)), "PDF"), "a PDF"),
        "ICO": (saved(Image.new("RGB", (40, 40)), "ICO"), "none of PNG"),
        "Photoshop": (b"8BPS" + bytes(40), "a Photoshop document"),
        "HTML": (b"<!DOCTYPE html><script>alert(1)</script>", "a web page"),
        "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    }


def png_of(width: int, height: int) -> bytes:
    """A PNG that says that it has so many pixels, and has one line of them."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")


def png_bytes(side: int) -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(held, "PNG")
    return held.getvalue()


def flip(path: str, at: int) -> Callable[[Path], None]:
    def damage(world: Path) -> None:
        held = bytearray((world / path).read_bytes())
        held[at] ^= 1
        (world / path).write_bytes(held)

    return damage


def tar_size(path: str) -> Callable[[Path], None]:
    """A member that says that its size is below 0, in base 256."""

    def damage(world: Path) -> None:
        held = bytearray((world / path).read_bytes())
        held[124:136] = b"\xff" * 11 + b"\xf0"
        held[148:156] = b" " * 8
        held[148:156] = b"%06o\0 " % sum(held[:512])
        (world / path).write_bytes(held)

    return damage


def weights() -> Iterator[Case]:
    """Checkpoints of others."""

    def source(change: Callable[[dict], object]) -> Callable[[Path], None]:
        return lambda world: torch.save(change(torch.load(world / "wrn.pth")), world / "wrn.pth")

    damages = {
        "empty": (write("wrn.pth", b""), "cannot be read"),
        "text": (write("wrn.pth", "text"), "cannot be read"),
        "cut": (cut("wrn.pth", 0.6), "cannot be read"),
        "a folder": (replaced("wrn.pth", "folder"), "is a folder; expected a file"),
        "a pipe": (replaced("wrn.pth", "pipe"), "is a pipe or a device"),
        "a link to itself": (replaced("wrn.pth", "loop"), "Too many levels of symbolic links"),
        "a pickle that runs": (write("wrn.pth", pickle.dumps(Runs())), "asks for posix.system"),
        "an archive whose pickle runs": (lambda world: torch.save(Runs(), world / "wrn.pth"), "asks for posix.system"),
        "TorchScript named .safetensors": (torchscript("wrn.pth"), "is a TorchScript archive, which holds a program"),
        "encrypted": (flags("wrn.pth", bits=1), "is encrypted"),
        "by an unknown compression": (flags("wrn.pth", method=77), "members are compressed"),
        "a flipped number": (flip_last("wrn.pth"), "Bad CRC-32"),
        "no tensors": (source(lambda s: {}), "holds no weights"),
        "a number": (source(lambda s: 3), "holds no weights"),
        "NaN": (
            source(lambda s: {k: v * float("nan") if v.is_floating_point() else v for k, v in s.items()}),
            "NaN or infinite values",
        ),
        "a tensor too many": (source(lambda s: {**s, "more": torch.zeros(3)}), "has a tensor 'more' too many"),
        "a tensor too few": (source(lambda s: dict(list(s.items())[:-3])), "has no tensor"),
        "another shape": (
            source(lambda s: {k: v[..., :1] if v.ndim > 1 else v for k, v in s.items()}),
            "has shape .*; expected",
        ),
        "keys of numbers": (source(lambda s: dict(enumerate(s.values()))), "has no tensor"),
        "whole numbers": (source(lambda s: {k: v.long() for k, v in s.items()}), "holds int64 numbers"),
        "complex numbers": (
            source(lambda s: {k: v.to(torch.complex64) for k, v in s.items()}),
            "holds complex64 numbers",
        ),
        "keys with control characters": (
            source(lambda s: {f"\x1b[31m{k}\n": v for k, v in s.items()}),
            "has no tensor",
        ),
    }
    for what, (damage, told) in damages.items():
        yield Case("weights", what, ("import-weights", "{}/wrn.pth", *imported()), told, damage)
    for what, (options, told) in {
        "std 0": ({"std": "0,1,1"}, "std is .*; expected numbers above 0"),
        "std below 0": ({"std": "-1,1,1"}, "std is .*; expected numbers above 0"),
        "std nan": ({"std": "nan,1,1"}, "std is .*; expected 3 finite numbers"),
        "std inf": ({"std": "inf,1,1"}, "std is .*; expected 3 finite numbers"),
        "mean nan": ({"mean": "nan,0,0"}, "mean is .*; expected 3 finite numbers"),
        "mean of four": ({"mean": "0,0,0,0"}, "4 channels are given for cifar10; expected 3"),
        "an unknown set": ({"id-set": "cifar11"}, "data set is 'cifar11'; expected"),
        "a set that leads out": ({"id-set": "../x"}, "data set is '../x'; expected"),
        "an unknown network": ({"network": "resnet"}, "network is 'resnet'; expected"),
        "a network of 10^6 layers": ({"network": "densenet-bc-999994-12"}, "expected .* of numbers to 9999"),
        "classes of another set": ({"classes": "100"}, "100 classes are given for cifar10; expected 10"),
        "a training of nobody": ({"training": "../x"}, "training is '../x'; expected"),
        "an unknown profile": ({"profile": "none"}, "profile is 'none'; expected"),
        "a place that is not there": ({"place": "a\nb"}, "no such weights at"),
    }.items():
        yield Case("weights", what, ("import-weights", "{}/wrn.pth", *imported(**options)), told)
    yield Case("weights", "not there", ("import-weights", "{}/none.pth", *imported()), "none.pth")


def torchscript(path: str) -> Callable[[Path], None]:
    def damage(world: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated, and still what people have
            torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(world / path))

    return damage


def flip_last(path: str) -> Callable[[Path], None]:
    """Another byte in the largest member, whose sum is as it was."""

    def damage(world: Path) -> None:
        with zipfile.ZipFile(world / path) as archive:
            largest = max(archive.infolist(), key=lambda member: member.file_size)
        held = bytearray((world / path).read_bytes())
        held[largest.header_offset + 300 + largest.file_size // 2] ^= 0x40
        (world / path).write_bytes(held)

    return damage


OUTPUTS = {
    "a folder": ("{}/images", "is a folder"),
    "the present folder": (".", "is a folder"),
    "below a file": ("{}/wrn.pth/a", "cannot write|is a folder|Not a directory"),
    "below a device": ("/dev/null/a", "cannot write|Not a directory"),
    "where nothing can be made": ("/proc/none/a", "cannot write"),
    "a name too long": ("{}/" + "n" * 300, "cannot write|too long"),
}


def places() -> Iterator[Case]:
    """Where things are written and looked for."""
    for what, (output, told) in OUTPUTS.items():
        yield Case("places", f"sheet: {what}", ("data", "sheet", "cifar10", "-o", output), told)
        yield Case("places", f"run: {what}", ("run", "{}/ok.ipynb", "-o", output), told)
    yield Case("places", "run: the page itself", ("run", "{}/ok.ipynb", "-o", "{}/ok.ipynb"), "the page itself")
    train = ("train", "--profile", "tiny", "--network", "mlp-8x2", "--id-set", ID)
    for what, where in (("a file", "{}/wrn.pth"), ("below a device", "/dev/null"), ("unwritable", "/proc/none")):
        yield Case(
            "places", f"results {what}: train", train, "wrn.pth|/dev/null|/proc/none", env={"ODINLIB_RESULTS": where}
        )
        yield Case("places", f"results {what}: seal", SEAL, "nothing is recorded in", env={"ODINLIB_RESULTS": where})
        yield Case(
            "places", f"results {what}: verify", VERIFY, "nothing is recorded in", env={"ODINLIB_RESULTS": where}
        )
        yield Case(
            "places",
            f"results {what}: clean",
            ("clean", "--profile", "tiny"),
            "nothing was left in",
            env={"ODINLIB_RESULTS": where},
            status=0,
        )
        prepare_own = ("data", "prepare", "images_folder", "--name", "own", "--source", "{}/images")
        yield Case(
            "places", f"data {what}: prepare", prepare_own, "cannot write .*; choose", env={"ODINLIB_DATA": where}
        )
        yield Case(
            "places", f"data {what}: status", ("data", "status"), "cifar10_bw.py", env={"ODINLIB_DATA": where}, status=0
        )
    yield Case(
        "places",
        "an unknown engine",
        ("respond", "--profile", "tiny", *CHOSEN),
        "ODINLIB_ENGINE is",
        lambda w: (w / RESPONSES).unlink(),
        env={"ODINLIB_ENGINE": "quick"},
    )
    for what in ("seal", "train", "respond", "sheet"):
        words = {
            "seal": SEAL,
            "train": train,
            "respond": ("respond", "--profile", "tiny", *CHOSEN),
            "sheet": ("data", "sheet", "cifar10", "-o", "{}/a.png"),
        }
        damage = (lambda w: (w / f"{TABLE}.csv").unlink()) if what == "seal" else (lambda w: (w / RESPONSES).unlink())
        yield Case(
            "full disk",
            f"{what}: files of at most 1 kB",
            words[what],
            "cannot write|no space|too large",
            damage,
            env={"LIMIT": "1000"},
        )
        yield Case("full disk", f"{what}: a full disk", words[what], "no space left", damage, env={"FULL": "1"})


def pages() -> Iterator[Case]:
    """Notebooks that are run."""
    run = ("run", "{}/page.ipynb", "-o", "{}/out.ipynb", "-q")
    texts = {
        "empty": "",
        "text": "text",
        "null": "null",
        "a list": "[]",
        "no cells": "{}",
        "cells null": '{"cells": null}',
        "cells of numbers": '{"cells": [1]}',
        "a cell of nothing": '{"cells": [{}]}',
        "a cell without a source": '{"cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}}]}',
        "nested deeply": "[" * 100_000,
        "not UTF-8": b"\xff\xfe{",
    }
    for what, text in texts.items():
        yield Case("pages", what, run, "is not a notebook|is damaged", write("page.ipynb", text))
    yield Case("pages", "a folder", run, "is a folder|is not a notebook", lambda w: (w / "page.ipynb").mkdir())
    yield Case("pages", "a pipe", run, "pipe", replaced("page.ipynb", "pipe"))
    yield Case(
        "pages", "parameters that are computed", run, "not plain literals", lambda w: page("page", w, ["import os"])
    )
    yield Case(
        "pages",
        "of another kernel",
        run,
        "kernel",
        lambda w: (w / "page.ipynb").write_text(page("page", w, []).read_text().replace("python3", "none-such")),
        slow=True,
    )
    cells = {
        "a cell that raises": ("1 / 0", "ZeroDivisionError"),
        "a cell that cannot be read": ("f(", "SyntaxError"),
        "a cell that ends its kernel": ("import os; os._exit(3)", "kernel died"),
        "a cell that wants 10 TB": ("bytes(10**13)", "memory|MemoryError"),
        "a cell that raises a long line": ("raise ValueError('x\\n' * 5000)", "ValueError"),
    }
    for what, (source, told) in cells.items():
        yield Case("pages", what, run, told, lambda w, source=source: page("page", w, [], [source]), slow=True)
    yield Case(
        "pages",
        "no error, a long temporary folder",
        run,
        "out.ipynb",
        lambda w: page("page", w, [], ["1"]),
        status=0,
        env={"TMPDIR": "{}/" + "t" * 90},
        slow=True,
    )


def cases() -> list[Case]:
    """All of them."""
    return [*typed(), *files(), *sets(), *weights(), *scored(), *places(), *pages()]


# --- Running one ------------------------------------------------------------------------------------------------------


class Waits(BaseException):
    """It took too long."""


def outcome(case: Case, made: Path, folder: Path) -> tuple[str, str]:
    """What a case came to, one of `OUTCOMES`, and what was said."""
    shutil.copytree(made, folder, symlinks=True)
    case.damage(folder)

    def fill(word: str) -> str:
        return word.replace("{}", str(folder))

    before, start = listing(folder), Path.cwd()
    env = {"ODINLIB_RESULTS": f"{folder}/results", "ODINLIB_DATA": f"{folder}/data", "ODINLIB_CACHE": f"{folder}.cache"}
    env |= {name: fill(value) for name, value in case.env.items()}
    if "TMPDIR" in case.env:
        Path(env["TMPDIR"]).mkdir()
        before = listing(folder)
    temporary = set(Path(tempfile.gettempdir()).glob("odin-*.log"))
    raw = None
    os.chdir(folder)
    try:
        with limited(case.env), variables(env):
            status, out, err, raw = run(tuple(map(fill, case.words)))
    except Waits:
        return "waits", ""
    finally:
        os.chdir(start)
    for log in set(Path(tempfile.gettempdir()).glob("odin-*.log")) - temporary:
        raw = raw or "a log"
        log.unlink()
    lines = [line for line in err.splitlines() if line.strip()]
    said = raw or (lines[-1] if lines else out.strip().splitlines()[-1] if out.strip() else "")
    if list(folder.rglob("ran")) or (start / "ran").exists():
        return "executed", said
    if raw is not None or "Traceback" in err:
        return "raw", said
    if status == 0 != case.status:
        return "accepted wrongly", said
    if status != case.status or not re.search(case.told, said if case.status else out):
        return "wrong line", f"[{status}] {said}"
    shown = [line for line in lines if not re.match(r"waiting for |without |warning: |Usage: |Try |.*\d+%\|", line)]
    if case.status and (len(shown) > 1 + (case.words[0] == "respond") or not all(map(str.isprintable, lines))):
        return "wrong line", " | ".join(lines)
    left = [path for path in listing(folder) - before if not allowed(case, path)]
    return ("left files", f"{said} {left}") if left else ("right", said)


def allowed(case: Case, path: str) -> bool:
    """What may be there afterwards: what was whole before it failed, and what a page that failed had come to."""
    own = path.endswith((".npz", ".json", ".csv", ".failed.ipynb", ".safetensors", ".checkpoint"))
    finished = own and "/." not in path and ".shards" not in path
    return (
        "__pycache__" in path
        or (case.status == 0)
        or (finished and case.words[0] in ("respond", "seal", "run", "train"))
    )


def listing(folder: Path) -> set[str]:
    return {path.as_posix() for path in folder.rglob("*") if not path.is_dir()}


def run(words: tuple[str, ...]) -> tuple[int, str, str, str | None]:
    """Status, stdout, stderr and the exception that came through, of `odin WORDS` in this process."""

    def stop(number: int, frame: object) -> None:
        raise Waits

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        if words[0] == "READ":
            try:
                return 0, str(READS[words[1]]()), "", None
            except Exception as error:
                raw = None if "UserError" in [base.__name__ for base in type(error).__mro__] else repr(error)
                return 1, "", f"error: {error}", raw
        done = CliRunner().invoke(cli.main, list(words))
        raised = done.exception
        if isinstance(raised, Waits):
            raise raised
        raw = None if raised is None or isinstance(raised, SystemExit) else repr(raised)
        return done.exit_code, done.stdout, done.stderr, raw
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def limited(env: dict[str, str]) -> Iterator[None]:
    """While this lasts: files of at most so many bytes, or a disk that is full when what was written is flushed."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    sync = os.fsync
    if "LIMIT" in env:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(env["LIMIT"]), limits[1]))
    if "FULL" in env:
        os.fsync = lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        os.fsync = sync


@contextlib.contextmanager
def variables(env: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(env)
    tempfile.tempdir = None
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        tempfile.tempdir = None


def main(words: list[str]) -> int:
    """Run the cases that have one of these words, print those that were not right, and the table."""
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    chosen = [case for case in cases() if not words or any(word in f"{case.kind} {case.name}" for word in words)]
    if every := [int(word.partition("=")[2]) for word in sys.argv if word.startswith("--every=")]:
        chosen = [case for case in chosen if not case.slow][:: every[0]]
    counts: dict[str, Counter[str]] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bad-") as folder:
        made = make_world(Path(folder) / "made")
        for index, case in enumerate(chosen):
            world = Path(folder) / f"w{index}"
            came, said = outcome(case, made, world)
            shutil.rmtree(world, ignore_errors=True)
            counts.setdefault(case.kind, Counter())[came] += 1
            if came != "right" or "-v" in sys.argv:
                print(f"{came}: {case.kind}: {case.name}: {ascii(said)[:300]}", flush=True)
    total = sum(counts.values(), Counter())
    print("\t".join(["kind", "cases", *OUTCOMES]))
    for kind, found in {**counts, "all": total}.items():
        print("\t".join([kind, str(sum(found.values())), *(str(found[one]) for one in OUTCOMES)]))
    print(f"{time.monotonic() - began:.0f} s")
    return int(total["right"] != len(chosen))


if __name__ == "__main__":
    sys.exit(main([word for word in sys.argv[1:] if not word.startswith("-")]))
