"""Real sets, as the data scripts prepare them: one `<data dir>/<name>.npz` each.

An `.npz` holds uint8 `images` [N, H, W, C], int64 `labels` [N] where there are labels, and a JSON string
`provenance`: where the raw files come from, their SHA-256, the resampling filter, seed and date, and the
SHA-256 of the images and labels, which is checked whenever they are read. A training split is a file of its
own, `<name>-train.npz`.
"""

import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odinlib.datasets import resample
from odinlib.datasets.imageset import ImageSet
from odinlib.errors import Missing, UserError, check_choice

SPLITS = ("train", "test")
_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError, NotImplementedError)


@dataclass(frozen=True)
class Entry:
    """A set that a script prepares: its title, the script, the default filter where images are resampled.

    A set with a filter comes in variants: `<name>-<filter>` is the same set made with another one.
    """

    title: str
    script: str
    filter: str | None = None
    train: bool = False


# The paper names no filter. Nearest neighbour is the default for the 32 x 32 "resize" sets, because with it
# the change from the crops to the resizes of Tiny ImageNet is closest to the paper's, for max softmax and for
# ODIN alike (measured with a DenseNet-BC-100 on CIFAR-10); antialiasing nearly undoes ODIN's gain. The grey
# sets are resampled as torchvision's `Resize` and Pillow do, with antialiasing: strokes one pixel wide would
# break otherwise.
RESIZE_FILTER = "nearest"
GREY_FILTER = "bilinear-antialias"

ENTRIES = {
    "cifar10": Entry("CIFAR-10", "cifar10", train=True),
    "cifar100": Entry("CIFAR-100", "cifar100", train=True),
    "cifar80": Entry("CIFAR-80", "cifar80_20", train=True),
    "cifar20": Entry("CIFAR-20", "cifar80_20", train=True),
    "mnist": Entry("MNIST", "mnist", train=True),
    "tinyimagenet-crop": Entry("Tiny ImageNet (crop)", "tinyimagenet"),
    "tinyimagenet-resize": Entry("Tiny ImageNet (resize)", "tinyimagenet", RESIZE_FILTER),
    "lsun-crop": Entry("LSUN (crop)", "lsun"),
    "lsun-resize": Entry("LSUN (resize)", "lsun", RESIZE_FILTER),
    "isun": Entry("iSUN", "isun", RESIZE_FILTER),
    "scenes-crop": Entry("Scenes (stand-in for LSUN), crop", "scenes"),
    "scenes-resize": Entry("Scenes (stand-in for LSUN), resize", "scenes", RESIZE_FILTER),
    "scenes-mixed": Entry("Scenes, mixed (stand-in for iSUN), resize", "scenes", RESIZE_FILTER),
    "omniglot": Entry("Omniglot", "omniglot", GREY_FILTER),
    "notmnist": Entry("notMNIST", "notmnist"),
    "cifar10-bw": Entry("CIFAR-10bw", "cifar10_bw", GREY_FILTER),
}


def data_dir() -> Path:
    """The folder of prepared sets: `ODINLIB_DATA`, by default `data` in the current folder."""
    return Path(os.environ.get("ODINLIB_DATA") or "data")


def names() -> tuple[str, ...]:
    """The sets that scripts prepare, and whatever else lies prepared in the data folder."""
    found = sorted(path.stem for path in data_dir().glob("*.npz"))
    splits = {f"{name}-train" for name, entry in ENTRIES.items() if entry.train}
    return (*ENTRIES, *(name for name in found if name not in ENTRIES and name not in splits))


def known(name: str) -> bool:
    """Whether `name` is one of :func:`names`, or `<name>-<filter>` for a set that is resampled."""
    return _entry(name) is not None or (data_dir() / f"{name}.npz").exists()


def title(name: str) -> str:
    """The name to show: a stand-in's says that it is one.

    >>> title("scenes-resize")
    'Scenes (stand-in for LSUN), resize'
    >>> title("tinyimagenet-resize-box")
    'Tiny ImageNet (resize), box filter'
    """
    entry = _entry(name)
    if entry is None:
        return str(provenance(name).get("title", name))
    base, filter = variant(name)
    return entry.title if base == name else f"{entry.title}, {filter} filter"


def variant(name: str) -> tuple[str, str | None]:
    """The set and the filter that a name stands for.

    >>> variant("tinyimagenet-resize-box"), variant("isun")
    (('tinyimagenet-resize', 'box'), ('isun', 'nearest'))
    """
    return resample.variant(name, {base: entry.filter for base, entry in ENTRIES.items() if entry.filter})


def path(name: str, split: str = "test") -> Path:
    """Where a split of a set lies, or would lie."""
    check_choice("split", split, SPLITS)
    return data_dir() / f"{name}{'-train' if split == 'train' else ''}.npz"


def load(name: str, split: str = "test") -> ImageSet:
    """Read a prepared set, in the order of its file.

    Args:
        name: one of :func:`names`, or `<name>-<filter>`.
        split: `train` or `test`.

    Raises:
        Missing: it is not prepared.
        UserError: no such set or split, or the file is damaged.
    """
    arrays = _read(name, split, ("images", "labels", "provenance"))
    record = json.loads(str(arrays["provenance"]))
    images, labels = arrays.get("images"), arrays.get("labels")
    if images is None or digest(images, labels) != record.get("sha256"):
        raise UserError(f"{path(name, split)} does not match its recorded SHA-256", remedy=_remedy(name))
    return ImageSet(name, title(name), images, labels, tuple(record["classes"]), record)


def provenance(name: str, split: str = "test") -> dict[str, Any]:
    """What a prepared set's file says of itself, without reading the images."""
    found: dict[str, Any] = json.loads(str(_read(name, split, ("provenance",))["provenance"]))
    return found


def digest(images: np.ndarray, labels: np.ndarray | None) -> str:
    """The SHA-256 of a set's images and labels, in hexadecimal."""
    content = hashlib.sha256(f"{images.dtype} {images.shape}".encode())
    content.update(np.ascontiguousarray(images).data)
    if labels is not None:
        content.update(np.ascontiguousarray(labels).data)
    return content.hexdigest()


def script(name: str) -> tuple[str, ...]:
    """The data script that makes a set, and the options it needs.

    >>> script("tinyimagenet-resize-box")
    ('tinyimagenet', '--filter', 'box')
    """
    base, filter = variant(name)
    if base not in ENTRIES:
        return ("images_folder", "--name", name.removesuffix("-crop").removesuffix("-resize"))
    return (ENTRIES[base].script, *(("--filter", str(filter)) if base != name else ()))


def command(name: str) -> str:
    """The command that makes a set."""
    stem, *options = script(name)
    return " ".join(["python", f"data_scripts/{stem}.py", *options])


def status() -> tuple[list[list[str]], list[list[str]]]:
    """What lies in the data folder and what does not, as rows of text.

    Returns:
        of each file: name, images, size, filter, seed, date, source; of each set not there: name, command.
    """
    found, missing = [], []
    for name in names():
        for split in ("test", "train") if name in ENTRIES and ENTRIES[name].train else ("test",):
            label = name if split == "test" else f"{name} ({split})"
            try:
                record = provenance(name, split)
            except Missing:
                missing.append([label, command(name)])
            except UserError as error:
                found.append([label, "damaged", "", "", "", "", str(error)])
            else:
                seed, filter = record.get("seed"), record.get("filter")
                entries = [record.get("images"), "x".join(map(str, record.get("shape", ()))), filter or "-"]
                entries += ["-" if seed is None else seed, str(record.get("date"))[:10], record.get("source")]
                found.append([label, *map(str, entries)])
    return found, missing


def _entry(name: str) -> Entry | None:
    return ENTRIES.get(variant(name)[0])


def _read(name: str, split: str, members: tuple[str, ...]) -> dict[str, np.ndarray]:
    file, entry = path(name, split), _entry(name)
    if not file.exists():
        if entry is None:
            check_choice("data set", name, names())
        if entry is not None and split == "train" and not entry.train:
            raise UserError(f"{name} has no training split", expected="split test")
        where = f"is {os.environ['ODINLIB_DATA']}" if os.environ.get("ODINLIB_DATA") else "is not set"
        raise Missing(f"{name} is not prepared: {file} is not there (ODINLIB_DATA {where})", remedy=_remedy(name))
    try:
        with np.load(file, allow_pickle=False) as found:
            arrays = {member: found[member] for member in members if member in found.files}
        json.loads(str(arrays["provenance"]))
        return arrays
    except _DAMAGE as error:
        raise UserError(f"{file} is damaged ({error})", remedy=_remedy(name)) from error


def _remedy(name: str) -> str:
    return f"make it with `{command(name)}` (--source takes raw files already on disk)"
