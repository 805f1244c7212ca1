"""Real sets, as the data scripts prepare them: one `<data dir>/<name>.npz` each.

An `.npz` holds uint8 `images` [N, H, W, C], int64 `labels` [N] where there are labels, and a JSON string
`provenance`: where the raw files come from, their SHA-256, the resampling filter, seed and date, and the
SHA-256 of the images and labels, which is checked whenever they are read. A training split is a file of its
own, `<name>-train.npz`.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odinlib.datasets import resample
from odinlib.datasets.imageset import ImageSet
from odinlib.datasets.jpeg import LIBRARIES
from odinlib.errors import Missing, UserError, check_choice, reading

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Entry:
    """A set: its title, the script that prepares it, and of what kind it is.

    A set with a filter comes in variants: `<name>-<filter>` is the same set made with another one. Of a released set,
    whose name alone is the authors' own file, every filter is another one.
    """

    title: str
    script: str | None  # None: its images are no longer kept; what is recorded of them stays
    filter: str | None = None
    train: bool = False
    released: bool = False  # the authors' own files
    drawn: bool = False  # made here, and so with the options of `Variant`, as a released set's variants are


# The paper names no filter. The released "resize" sets are nearest neighbour's, measured. The grey sets are resampled
# as torchvision's `Resize` and Pillow do, with antialiasing: strokes one pixel wide would break otherwise.
RESIZE_FILTER = "nearest"
GREY_FILTER = "bilinear-antialias"
RELEASED = "as released by the paper's authors"  #: what the provenance of a released set has for a filter

ENTRIES = {
    "cifar10": Entry("CIFAR-10", "cifar10", train=True),
    "cifar100": Entry("CIFAR-100", "cifar100", train=True),
    "cifar80": Entry("CIFAR-80", "cifar80_20", train=True),
    "cifar20": Entry("CIFAR-20", "cifar80_20", train=True),
    "mnist": Entry("MNIST", "mnist", train=True),
    "tinyimagenet-crop": Entry("Tiny ImageNet (crop)", "tinyimagenet", released=True),
    "tinyimagenet-crop-inner": Entry("Tiny ImageNet (crop), without its border", "tinyimagenet", released=True),
    "tinyimagenet-resize": Entry("Tiny ImageNet (resize)", "tinyimagenet", RESIZE_FILTER, released=True),
    "lsun-crop": Entry("LSUN (crop)", "lsun", released=True),
    "lsun-resize": Entry("LSUN (resize)", "lsun", RESIZE_FILTER, released=True),
    "isun": Entry("iSUN", "isun", RESIZE_FILTER, released=True),
    "tinyimagenet-crop-drawn": Entry("Tiny ImageNet (crop), drawn here", "tinyimagenet", drawn=True),
    "lsun-crop-drawn": Entry("LSUN (crop), drawn here", "lsun", drawn=True),
    "scenes-crop": Entry("Scenes (stand-in for LSUN), crop", None),
    "scenes-resize": Entry("Scenes (stand-in for LSUN), resize", None, RESIZE_FILTER),
    "scenes-mixed": Entry("Scenes, mixed (stand-in for iSUN), resize", None, RESIZE_FILTER),
    "omniglot": Entry("Omniglot", "omniglot", GREY_FILTER),
    "notmnist": Entry("notMNIST", "notmnist"),
    "cifar10-bw": Entry("CIFAR-10bw", "cifar10_bw", GREY_FILTER),
}


@dataclass(frozen=True)
class Variant:
    """A set, and how its images are made; the name says all that is not the set's own way.

    What is made here may also be put through a JPEG and given a border, in this order.
    """

    base: str  # of ENTRIES
    filter: str | None = None  # None: the base's own
    decoder: str | None = None  # which libjpeg reads and writes JPEGs; None: the base's own
    jpeg: int | None = None  # quality
    border: int = 0  # black pixels around an image

    @property
    def name(self) -> str:
        """The set's name.

        >>> Variant("isun").name, Variant("isun", "nearest", jpeg=75, border=2).name
        ('isun', 'isun-nearest-jpeg75-border2')
        """
        entry = ENTRIES[self.base]
        name = self.base
        if self.filter and (entry.released or self.filter != entry.filter):
            name += f"-{self.filter}"
        if self.decoder not in (None, self.own_decoder):
            name += f"-{self.decoder}"
        return name + (f"-jpeg{self.jpeg}" if self.jpeg else "") + (f"-border{self.border}" if self.border else "")

    @property
    def made(self) -> bool:
        """Whether the images are made here, of files that a released set was made of."""
        entry = ENTRIES[self.base]
        return entry.drawn or (entry.released and self.filter is not None)

    @property
    def own_decoder(self) -> str:
        """The libjpeg that the name needs no word for: the authors' for their files, Pillow's for all others."""
        return "ijg" if ENTRIES[self.base].released and not self.made else "turbo"

    @property
    def title(self) -> str:
        """The name to show."""
        entry = ENTRIES[self.base]
        words = [entry.title]
        if self.filter and (entry.released or self.filter != entry.filter):
            words.append(f"{self.filter}, made here" if entry.released else f"{self.filter} filter")
        if self.decoder not in (None, self.own_decoder):
            words.append(f"decoded by {'IJG libjpeg' if self.decoder == 'ijg' else 'libjpeg-turbo'}")
        if self.jpeg:
            words.append(f"JPEG of quality {self.jpeg}")
        if self.border:
            words.append(f"in a border of {self.border} pixel{'s' if self.border > 1 else ''}")
        return ", ".join(words)

    @property
    def options(self) -> tuple[str, ...]:
        """What its script is told.

        >>> Variant("isun", "box", border=2).options, Variant("isun", decoder="turbo").options
        (('--filter', 'box', '--border', '2'), ('--published', '--decoder', 'turbo'))
        """
        found = {"--filter": self.filter, "--decoder": self.decoder, "--jpeg": self.jpeg, "--border": self.border}
        given = [word for option, value in found.items() if value for word in (option, str(value))]
        return ("--published", *given) if ENTRIES[self.base].released and not self.made else tuple(given)

    @staticmethod
    def of(name: str) -> "Variant | None":
        """What a name stands for; `None` where it is no name of these.

        >>> Variant.of("tinyimagenet-resize-turbo")
        Variant(base='tinyimagenet-resize', filter=None, decoder='turbo', jpeg=None, border=0)
        """
        for base in sorted(ENTRIES, key=len, reverse=True):
            found = _NAME.fullmatch(name.removeprefix(base)) if name.startswith(base) else None
            if found is not None:
                filter, decoder, jpeg, border = found.groups()
                made = Variant(base, filter, decoder, int(jpeg) if jpeg else None, int(border or 0))
                return made if made._possible and made.name == name else None
        return None

    @property
    def _possible(self) -> bool:
        entry = ENTRIES[self.base]
        if self.filter and not entry.filter:
            return False
        if self.jpeg is not None or self.border:
            return self.made and (self.jpeg is None or self.jpeg <= 100)
        # The released crops are no JPEGs.
        return self.decoder is None or self.made or (entry.released and entry.filter is not None)


_NAME = re.compile(
    rf"(?:-({'|'.join(resample.FILTERS)}))?(?:-({'|'.join(LIBRARIES)}))?"
    r"(?:-jpeg([1-9]\d{0,2}))?(?:-border([1-9]\d{0,2}))?"
)


_FILE = re.compile(r"[\w-][\w.-]{0,99}")  # a name that a file can carry, and that leads nowhere else


def data_dir() -> Path:
    """The folder of prepared sets: `$ODINLIB_DATA`, by default `data` beside this package, as `results` is."""
    root = os.environ.get("ODINLIB_DATA")
    return Path(root) if root else Path(__file__).resolve().parent.parent.parent / "data"


def names() -> tuple[str, ...]:
    """The sets that scripts prepare, and whatever else lies prepared in the data folder."""
    found = sorted(path.stem for path in data_dir().glob("*.npz"))
    kept = [name for name, entry in ENTRIES.items() if entry.script]
    splits = {f"{name}-train" for name, entry in ENTRIES.items() if entry.train}
    return (*kept, *(name for name in found if name not in kept and name not in splits))


def known(name: str) -> bool:
    """Whether `name` is one of :func:`names`, a variant of one, or one whose images are no longer kept."""
    return Variant.of(name) is not None or (_FILE.fullmatch(name) is not None and path(name).exists())


def title(name: str) -> str:
    """The name to show: a stand-in's says that it is one.

    >>> title("scenes-resize")
    'Scenes (stand-in for LSUN), resize'
    >>> title("tinyimagenet-resize-box"), title("omniglot-box")
    ('Tiny ImageNet (resize), box, made here', 'Omniglot, box filter')
    """
    found = Variant.of(name)
    return str(provenance(name).get("title", name)) if found is None else found.title


def variant(name: str) -> tuple[str, str | None]:
    """The set and the filter that a name stands for. A released set's own filter is what was measured.

    >>> variant("tinyimagenet-resize-box-border2"), variant("isun"), variant("isun-nearest")
    (('tinyimagenet-resize', 'box'), ('isun', 'nearest'), ('isun', 'nearest'))
    """
    found = Variant.of(name)
    return (name, None) if found is None else (found.base, found.filter or ENTRIES[found.base].filter)


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
    found = Variant.of(name)
    # The names of the released sets were once those of sets made here, which data folders may still hold.
    made_here = record.get("seed") is not None or record.get("filter") not in (None, RELEASED)
    if found and ENTRIES[found.base].released and not found.made and made_here:
        raise UserError(f"{path(name, split)} is not the set that the authors released", remedy=_remedy(name))
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

    Raises:
        Missing: its images are no longer kept.

    >>> script("tinyimagenet-resize-box"), script("isun")
    (('tinyimagenet', '--filter', 'box'), ('isun', '--published'))
    """
    found = Variant.of(name)
    if found is None:
        return ("images_folder", "--name", name.removesuffix("-crop").removesuffix("-resize"))
    stem = ENTRIES[found.base].script
    if stem is None:
        raise Missing(f"the images of {name} are no longer kept", remedy="only what is recorded of them is")
    return (stem, *found.options)


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


def _read(name: str, split: str, members: tuple[str, ...]) -> dict[str, np.ndarray]:
    file, found = path(name, split), Variant.of(name)
    if not file.exists():
        if found is None:
            check_choice("data set", name, names())
        elif split == "train" and not ENTRIES[found.base].train:
            raise UserError(f"{name} has no training split", expected="split test")
        remedy = _remedy(name)
        where = f"is {os.environ['ODINLIB_DATA']}" if os.environ.get("ODINLIB_DATA") else "is not set"
        raise Missing(f"{name} is not prepared: {file} is not there (ODINLIB_DATA {where})", remedy=remedy)
    with reading(file, _remedy(name)), np.load(file, allow_pickle=False) as held:
        arrays = {member: held[member] for member in members if member in held.files}
        record = json.loads(str(arrays["provenance"]))
        if not (isinstance(record["sha256"], str) and isinstance(record["classes"], list)):
            raise TypeError("its provenance is not of the form that is written here")
        return arrays


def _remedy(name: str) -> str:
    return f"make it with `{command(name)}` (--source takes raw files already on disk)"
