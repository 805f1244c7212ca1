"""What there is of a network's answers: files by their headers, and what is missing."""

import contextlib
import dataclasses
import functools
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odinlib import artefacts, datasets, devices, profiles, splits, trained
from odinlib.artefacts import Refused
from odinlib.datasets import ImageSet
from odinlib.errors import Missing, UserError, check_choice, check_number, reading
from odinlib.networks import weights
from odinlib.profiles import Profile, Trained
from odinlib.splits import Draw

Setting = tuple[float, float]  # T and epsilon
#: To be raised when a change of code changes the numbers, so that old artefacts are not read.
FORMAT = 2
#: The folders of scores, in the order in which they are looked through; responses of many classes hold some, too.
SCORES = ("scores", "curves", "grids", "responses")
#: The arrays without which the questions to a file of this kind have no answer.
_ARRAYS = {"responses": ("gradient_norms", "labels", "logits"), "scores": ("scores",)}
#: The kinds of numbers of an array, by NumPy's letters, and its axes.
_FORMS = {
    **dict.fromkeys(("logits", "gradient_norms"), ("f", 2)),
    **dict.fromkeys(("u1", "u2"), ("f", 1)),
    "scores": ("f", None),
    "labels": ("iu", 1),
}
_MOST = 10**8  # images of a set, by far
NOISE_IMAGES = 10_000  # of each noise set, as in the paper; one may ask for fewer, or for more


@dataclass(frozen=True)
class Part:
    """Part of a draw: its images from place `start` on, up to `stop` or to the end."""

    draw: Draw
    start: int = 0
    stop: int | None = None

    def indices(self, total: int) -> np.ndarray:
        """Which images these are, of a set of `total` [stop - start] int64."""
        return self.draw.order(total)[self.start : self.stop]


@dataclass(frozen=True)
class Recorded:
    """A file of scores or responses, by its header."""

    path: Path
    header: Mapping[str, Any]

    @functools.cached_property
    def images(self) -> np.ndarray:
        """Which images it holds, in its own order [n] int64."""
        drawn = self.header["drawn"]
        return Part(Draw.from_header(drawn), drawn["start"], drawn["stop"]).indices(drawn["of"])

    def places(self, indices: np.ndarray) -> np.ndarray:
        """Where images lie in this file, or -1 for those that do not [n] int64."""
        places = np.full(max(self.header["drawn"]["of"], indices.max(initial=-1) + 1), -1)
        places[self.images] = np.arange(len(self.images))
        return places[indices]

    @property
    def settings(self) -> tuple[list[float], list[float]]:
        """Its temperatures and its epsilons; every pair of them is there."""
        return self.header["temperatures"], self.header["epsilons"]

    def has(self, setting: Setting) -> bool:
        """Whether it holds scores at this (T, epsilon)."""
        return "temperatures" in self.header and setting[0] in self.settings[0] and setting[1] in self.settings[1]

    def place(self, setting: Setting) -> tuple[int, int]:
        """Where the scores and classes at a setting lie among its temperatures and its epsilons."""
        temperatures, epsilons = self.settings
        return temperatures.index(setting[0]), epsilons.index(setting[1])


# --- Sets and files ---------------------------------------------------------------------------------------------------


def image_set(profile: Profile, images: str, id_set: str) -> ImageSet:
    """All test images of a set; noise takes the shape of the ID set's images."""
    if images not in datasets.NOISE:
        return datasets.load(images, "test")
    shape = datasets.load(id_set, "test").shape
    return datasets.load(images, "test", count=profile.images or NOISE_IMAGES, seed=profile.seed, shape=shape)


def draw(of: Trained, images: str) -> Draw:
    """The draw of a set that is asked for.

    It is that of the profile's split; but a set may have been called otherwise when it was drawn, and then the record
    stands. Where only what is recorded is read, and nothing of the draw was changed, it stands whatever drew it.
    """
    asked = draw_by(of.profile, images, of.profile.split)
    drawn = [Draw.from_header(one.header["drawn"]) for kind in SCORES[:-1] for one in recorded(of, images, kind)]
    if of.profile.exact or {"split", "seed", "images"} & profiles.changes(of.profile).keys():
        drawn = [one for one in drawn if dataclasses.replace(one, name=asked.name) == asked]
    return within(of, images, asked) if asked in drawn or not drawn else drawn[-1]  # of the grids, where there are any


def within(of: Trained, images: str, asked: Draw) -> Draw:
    """The draw of as many images as the set has, where more were asked for of what is only read."""
    if asked.limit is None:
        return asked
    if of.profile.exact:
        if asked.limit > (size := total(of, images)):
            raise UserError(
                f"{asked.limit} images of {images} were asked for", expected=f"at most {size}, which it has"
            )
        return asked
    return dataclasses.replace(asked, limit=min(asked.limit, total(of, images)))


def draw_by(profile: Profile, images: str, split: str) -> Draw:
    """The draw of a set by a rule of `splits.SPLITS`, with the profile's seed and number of images."""
    found = splits.draw(split, images, profile.seed, profile.images)
    # Noise is generated to the number that is asked for: its first images, and no permutation of more.
    return found.without_permutation() if images in datasets.NOISE else found


def total(of: Trained, images: str) -> int:
    """How many images the whole set has; of noise, more than this are never asked for.

    Raises:
        Missing: neither a record of the set nor its images are here.
    """
    if images in datasets.NOISE:
        return max(NOISE_IMAGES, of.profile.images or 0)
    found = [one.header["drawn"]["of"] for kind in SCORES for one in recorded(of, images, kind)]
    if not found and not of.profile.compute:
        raise missing(of, images, "responses")
    return max(found) if found else len(image_set(of.profile, images, of.id_set))


def trainings(of: Trained) -> list[str]:
    """Every training of this network on this set that something is recorded of, this one first."""
    start = f"{of.network}_{of.id_set}_"
    folders = (of.profile.folder / kind for kind in SCORES)
    names = {one.name for folder in folders for one in folder.glob(f"{start}*") if one.is_dir()}
    found = sorted(name.removeprefix(start) for name in names)
    return sorted(found, key=lambda training: training != of.training)


def recorded(of: Trained, images: str, kind: str) -> list[Recorded]:
    """The files of one folder that speak of this network and set, asked in this precision, the largest first.

    A profile that computes takes only what was made from the weights and images that are here, and passes over what is
    damaged, so that it is made again.

    Raises:
        Refused: a file is damaged, and this profile only reads.
    """
    folder, found = of.profile.folder / kind / of.key, []
    if not folder.is_dir():
        return []
    here = inputs(of, images) if of.profile.compute else {}
    for path in _listing(folder, folder.stat().st_mtime_ns):
        if not path.name.startswith(images):
            continue
        try:
            one = _recorded(path, _state(path), of.profile.sealed(path))
            if one.header.get("set") != images or one.header.get("format") != FORMAT:
                continue
            if one.header.get("precision", "float32") != of.precision:
                continue
            if of.profile.compute:
                _check_inputs(of, one, here)
            found.append(one)
        except FileNotFoundError:  # another process has removed it meanwhile
            continue
        except Refused as refusal:
            if not of.profile.compute:
                raise
            _tell(f"{refusal}: computing it again")
    return sorted(found, key=lambda one: one.header["drawn"]["start"] - one.header["drawn"]["stop"])


@functools.lru_cache(maxsize=256)
def _listing(folder: Path, changed: int) -> list[Path]:
    return sorted(path for path in folder.glob("*.npz") if not path.name.startswith("."))


def _state(path: Path) -> tuple[int, int, int]:
    """What differs when a file was written anew, however old it says that it is."""
    with reading(path, refusal=Refused) as found:
        return found.st_mtime_ns, found.st_size, found.st_ino


@functools.lru_cache(maxsize=4096)
def _recorded(path: Path, state: tuple[int, int, int], sealed: str | None) -> Recorded:
    header = artefacts.load_header(path, sealed)
    if header.get("format") == FORMAT and "set" in header:
        check_header(path, header)
    return Recorded(path, header)


def check_header(path: Path, header: Mapping[str, Any]) -> None:
    """Refuse a header of this format that lacks what questions are answered by, or tells of what cannot be.

    Raises:
        Refused: it does.
    """
    with reading(path, "delete it and run again", Refused):
        drawn = header["drawn"]
        Draw.from_header(drawn)
        places = [drawn["start"], drawn["stop"], drawn["of"]]
        if not all(type(one) is int for one in places) or not 0 <= places[0] <= places[1] <= places[2] <= _MOST:
            raise ValueError(f"it has images {drawn['start']} to {drawn['stop']} of {drawn['of']}")
        check_choice("precision", header.get("precision", "float32"), devices.PRECISIONS)
        if not isinstance(header["set"], str) or not isinstance(header["inputs"], dict):
            raise TypeError("its header is not of the form that is written here")
        for axis, least in (("temperatures", 1e-9), ("epsilons", 0)):
            for value in header.get(axis, ()):
                check_number(axis, value, at_least=least)
        if header["kind"] not in _ARRAYS:
            raise ValueError(f"it is of the kind {header['kind']!r}")
        if header["kind"] == "scores" and not (header["temperatures"] and header["epsilons"]):
            raise ValueError("it has no settings")


@functools.lru_cache(maxsize=256)
def _tell(what: str) -> None:
    print(what, file=sys.stderr)


def available(of: Trained, images: str, settings: Sequence[Setting], kinds: Sequence[str] = SCORES) -> np.ndarray:
    """Which images of a set have recorded scores at all of these settings, in files of these kinds [total] bool."""
    size = total(of, images)
    there = np.ones(size, dtype=bool)
    clean = with_logits(of, images) if kinds == SCORES else np.zeros(size, dtype=bool)
    files = [one for kind in kinds for one in recorded(of, images, kind)]
    for setting in dict.fromkeys(settings):
        found = mask([one for one in files if one.has(setting)], size)
        there &= found | clean if setting[1] == 0 else found
    return there


def with_logits(of: Trained, images: str) -> np.ndarray:
    """Which images of a set have recorded logits, and so a score at any T without perturbation [total] bool."""
    there = np.zeros(total(of, images), dtype=bool)
    for one in recorded(of, images, "responses"):
        kept = one.images[: one.header.get("logits")]
        there[kept[kept < len(there)]] = True
    return there


def held_out(of: Trained, images: str) -> np.ndarray:
    """Which images of a set have a recorded grid, of whatever settings: those that were held out [total] bool."""
    return mask(recorded(of, images, "grids"), total(of, images))


def mask(files: Sequence[Recorded], size: int) -> np.ndarray:
    """Which images of a set of this size lie in any of the files [size] bool."""
    there = np.zeros(size, dtype=bool)
    for one in files:
        there[one.images[one.images < size]] = True  # of noise, more may be recorded than are asked for
    return there


def _check_inputs(of: Trained, one: Recorded, here: Mapping[str, str]) -> None:
    _intact(one.path, _state(one.path))
    if one.header.get("noise_seed", of.profile.seed) != of.profile.seed:
        raise Refused(f"{one.path} is of noise by another seed")
    for what in one.header["inputs"].keys() & here.keys():
        if one.header["inputs"][what] != here[what]:
            raise Refused(f"{one.path} was made from other {what} than those on this machine")


@functools.lru_cache(maxsize=4096)
def _intact(path: Path, state: tuple[int, int, int]) -> None:
    """Read a file once, which checks its digest; as long as it is the same file, that need not be done again."""
    _arrays(path, state, None)


@functools.lru_cache(maxsize=64)
def _arrays(path: Path, state: tuple[int, int, int], sealed: str | None) -> artefacts.Arrays:
    found = artefacts.load(path, sealed=sealed)
    with reading(path, "delete it and run again", Refused):
        for contradiction in contradictions(found):
            raise Refused(f"{path} {contradiction}", remedy="delete it and run again")
    return found.arrays


def contradictions(artefact: artefacts.Artefact) -> Iterator[str]:
    """What the arrays of responses or scores have otherwise than their header tells, in words."""
    config = artefact.config
    for name, array in artefact.arrays.items():
        kinds, axes = _FORMS.get(name, ("fiu", None))
        if array.dtype.kind not in kinds or axes not in (None, array.ndim) or (name == "logits" and len(array) < 2):
            yield f"holds {name} of shape {array.shape} and type {array.dtype}"
            return
        if array.dtype.kind == "f" and (np.isnan(array).any() or np.isposinf(array).any()):
            yield f"holds {name} that are NaN or infinite"
            return
    if lacking := [name for name in _ARRAYS[config["kind"]] if name not in artefact.arrays]:
        yield f"lacks {', '.join(lacking)}"
        return
    lengths = {name: array.shape[-1] for name, array in artefact.arrays.items()}
    wanted = config["drawn"]["stop"] - config["drawn"]["start"]
    if "logits" in config and lengths.get("logits") == min(config["logits"], wanted):
        lengths.pop("logits")  # of many classes, those of some images only
    if set(lengths.values()) != {wanted}:
        told = ", ".join(f"{count} {name}" for name, count in lengths.items())
        yield f"holds {told}; expected {wanted} images"
    if config["kind"] == "scores":
        settings = len(config["temperatures"]) * len(config["epsilons"])
        if artefact.arrays["scores"].size != settings * wanted:
            yield f"holds {artefact.arrays['scores'].shape} scores; expected {settings} settings of {wanted} images"


def arrays(of: Trained, one: Recorded) -> artefacts.Arrays:
    """The arrays of a file, checked against its digest and, where the profile only reads, against the manifest."""
    try:
        return _arrays(one.path, _state(one.path), of.profile.sealed(one.path))
    except FileNotFoundError as gone:
        raise Refused(f"{one.path} was removed while it was read", remedy="run again") from gone


# --- What is not there ------------------------------------------------------------------------------------------------


def missing(of: Trained, images: str, what: str, count: int | None = None, at: Setting | None = None) -> Missing:
    """What is not recorded of a set, and the command that makes exactly that.

    Args:
        of: the network.
        images: the set.
        what: in the plural, such as "responses".
        count: of how many images.
        at: the one setting (T, epsilon) that is asked for, where it is one.
    """
    words = ["odin", "respond", "--profile", of.profile.name, "--network", of.network, "--id-set", of.id_set]
    words += ["--training", of.training] if of.training != of.profile.training(of.network, of.id_set) else []
    words += ["--set", images, *(["--at", *(_exactly(number) for number in at)] if at else [])]
    for field, value in profiles.changes(of.profile).items():
        option = ["--precision"] if field == "precision" else ["-p", field]
        words += [*option, value if isinstance(value, str) else json.dumps(value)]
    if of.id_set not in profiles.PROFILES.get(of.profile.name, of.profile).ood_sets:
        words += ["-p", "ood_sets", json.dumps(of.profile.ood_sets[of.id_set])]
    told = f"{what} of {images} by {of.key}" + (f" ({count:,} images)" if count else "")
    told += "" if of.precision == "float32" else f", asked in {of.precision},"
    return Missing(f"{told} are not recorded", remedy=f"`{shlex.join(words)}` makes them, where the images are")


def _exactly(number: float) -> str:
    """A number as it is typed, to its last digit."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def inputs(of: Trained, images: str) -> dict[str, str]:
    """The SHA-256 of the weights and of the images, of those that are here."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        found["weights"] = weights.read_card(trained.path(of).with_suffix(".json"))["sha256"]
    with contextlib.suppress(UserError):  # embedded images and noise come with this package
        found["images"] = datasets.prepared.provenance(images)["sha256"]
    return found
