"""What "the paper" and "the demo" mean: networks, sets, counts, epochs and grids, as data.

A notebook asks `configure("demo", temperatures=[1, 1000])` and hands the profile to `odinlib.experiments`. It never
asks for a profile's name: whatever differs between the two is a field here.
"""

import contextlib
import dataclasses
import numbers
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from odinlib import artefacts, devices, splits
from odinlib.errors import UserError, check_choice, check_number, short
from odinlib.networks.train import PAPER_RECIPES, Recipe
from odinlib.odin import PAPER_EPSILONS, PAPER_TEMPERATURES, check_grid

_LARGEST = 2**63 - 1  # what a generator of random numbers takes as its seed
#: Trainings of others: what a network's files are called by, and whose they are. Our own are called by their seed.
TRAININGS = {
    "authors": "the paper's authors' own, 300 epochs",
    "third-party": "third-party weights, 100 epochs",
}

_OWN = re.compile(r"seed[0-9]{1,19}(?P<recipe>-[0-9a-f]{8})?")

_RESULTS = Path(__file__).resolve().parent.parent / "results"  # asked for thousands of times a page


@dataclass(frozen=True)
class Profile:
    """One way to run every experiment of the paper.

    The order of `networks`, `id_sets` and of each tuple of `ood_sets` is that of the paper's tables; the position is
    the role (the first network is the paper's DenseNet, the second its WRN-28-10, the third its WRN-40-4).
    """

    name: str
    title: str
    networks: tuple[str, ...]
    id_sets: tuple[str, ...]  # the roles of CIFAR-10, CIFAR-100 and CIFAR-80
    ood_sets: Mapping[str, tuple[str, ...]]  # for each ID set, the rows of Tables 2 and 3
    grey_network: str  # Table 3's MNIST block
    grey_id_set: str
    left_out: str  # the held-back classes of the third ID set: CIFAR-20's role
    stands_for: Mapping[str, str]  # a network or set of this profile, to the paper's whose role it plays
    recipes: Mapping[str, Recipe]  # for each network
    # "<network>_<id set>" to one of `TRAININGS`, for weights not trained here
    trainings: Mapping[str, str] = field(default_factory=dict)
    # for an ID set, one set made by several filters: the first network is asked, the first variant compared with
    resampled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # for an ID set, sets that no table of the paper has; the first network is asked, at the settings that are stated
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    temperatures: tuple[float, ...] = PAPER_TEMPERATURES
    epsilons: tuple[float, ...] = PAPER_EPSILONS
    tpr: float = 0.95
    holdout: int = 1000  # images of each set that T and epsilon are chosen on
    images: int | None = None  # images of each set in all; None takes every one there is
    curve_images: int | None = None  # test images behind the curves over epsilon (Figures 3 cd, 4, 8, 9)
    fixed_temperature: float = 1000.0  # the setting of Figures 13 and 16
    fixed_epsilon: float = 0.0014
    headline_epsilon: float = 0.0012  # of Figure 1
    tuning_sizes: tuple[int, ...] = tuple(range(200, 2001, 200))  # Figure 15
    tuning_size_sets: tuple[str, ...] | None = None  # the OOD sets of Figure 15; None takes all
    split: str = "random"
    seed: int = 0
    resamples: int = 1000
    compute: bool = True  # compute what is not recorded; otherwise only read
    exactly: bool = False  # of what is only read, take the very images asked for, or none
    device: str = "auto"
    precision: str | None = None  # that every network is asked in; None takes `precisions`, and float32
    # "<network>_<id set>" to one of `devices.PRECISIONS`, where the record was not asked in float32
    precisions: Mapping[str, str] = field(default_factory=dict)
    kernels: str | None = None  # one of `devices.KERNELS`, see `networks.fast.fast`; numbers differ by rounding alone
    pictures: str | None = None  # the profile whose images a page may show, where this one's are not to be shown

    @property
    def exact(self) -> bool:
        """Whether the very images that are asked for are taken, and not those that are recorded."""
        return self.compute or self.exactly

    @property
    def folder(self) -> Path:
        """Where this profile's artefacts lie: `$ODINLIB_RESULTS/<name>`, by default `results/<name>`."""
        root = os.environ.get("ODINLIB_RESULTS")
        return (Path(root) if root else _RESULTS) / self.name

    def sealed(self, path: Path) -> str | None:
        """The SHA-256 that a file which is only read must have; None where it is not sealed, or may be made anew.

        Raises:
            Refused: the manifest is damaged.
        """
        return None if self.compute else artefacts.sealed(path, self.folder)

    def recipe(self, network: str) -> Recipe:
        """How `network` is trained: its own entry, or the one of the first network of the same family."""
        family = network.partition("-")[0]
        for known, recipe in {network: self.recipes.get(network), **self.recipes}.items():
            if recipe is not None and known.partition("-")[0] == family:
                return recipe
        raise UserError(
            f"profile {self.name} has no recipe for {network!r}", expected=f"one of {', '.join(self.recipes)}"
        )

    def training(self, network: str, id_set: str) -> str:
        """Which training of a network is meant: one of `TRAININGS`, or our own by its seed, such as `seed0`.

        Where nothing is computed, a seed changes what is drawn of the record, and not whose weights it is about. A
        recipe that is not the profile's own carries its digest.
        """
        given = self.trainings.get(f"{network}_{id_set}")
        if given:
            return given
        default = PROFILES.get(self.name, self)
        own = f"seed{self.seed if self.compute else default.seed}"
        with contextlib.suppress(UserError):  # the profile has no such network
            recipe = dataclasses.asdict(self.recipe(network))
            if recipe != dataclasses.asdict(default.recipe(network)):
                own += f"-{artefacts.digest(recipe)[:8]}"
        return own

    def trained(self, network: str, id_set: str, training: str | None = None) -> "Trained":
        """The network trained on `id_set`, by the profile's own choice of training unless one is named.

        Raises:
            UserError: there is no training of that name.
        """
        if training is not None:
            _check_training(training)
        precision = self.precision or self.precisions.get(f"{network}_{id_set}", "float32")
        return Trained(self, network, id_set, training or self.training(network, id_set), precision)

    def paper_name(self, name: str) -> str:
        """The paper's network or set whose role `name` plays here."""
        return self.stands_for.get(name, name)


@dataclass(frozen=True)
class Trained:
    """One network as a profile has it: which architecture, trained on what, and by whom. What all is asked of."""

    profile: Profile
    network: str
    id_set: str
    training: str  # one of `TRAININGS`, or our own by its seed
    precision: str = "float32"  # that it is asked in; what was recorded in another precision is not seen

    @property
    def key(self) -> str:
        """What its files are called by."""
        return f"{self.network}_{self.id_set}_{self.training}"

    @property
    def repeats(self) -> bool:
        """Whether it is the profile's own training once more, by the same recipe from another seed."""
        usual = self.profile.training(self.network, self.id_set)
        return self.training != usual and by_one_recipe(self.training, usual)

    def among(self, **fields: Any) -> "Trained":
        """The same network under a profile with some fields replaced."""
        return dataclasses.replace(self, profile=dataclasses.replace(self.profile, **fields))


_FILTERS = ("bilinear", "bilinear-aligned", "box", "bilinear-antialias", "lanczos")  # beside a set's own, nearest

_PAPER_OOD = (
    "tinyimagenet-crop",
    "tinyimagenet-resize",
    "lsun-crop",
    "lsun-resize",
    "isun",
    "uniform",
    "gaussian",
)

PAPER = Profile(
    name="paper",
    title="the paper's networks, sets, counts and grids",
    networks=("densenet-bc-100-12", "wrn-28-10", "wrn-40-4"),
    id_sets=("cifar10", "cifar100", "cifar80"),
    ood_sets={
        "cifar10": _PAPER_OOD,
        "cifar100": _PAPER_OOD,
        "cifar80": ("cifar20", *_PAPER_OOD),
        "mnist": ("omniglot", "notmnist", "cifar10-bw", "gaussian", "uniform"),
    },
    grey_network="mlp-256x3",
    grey_id_set="mnist",
    left_out="cifar20",
    stands_for={
        # What is recorded of a third party's training beside the released sets:
        "tinyimagenet-crop-drawn": "tinyimagenet-crop",  # made here of the same images as those that were released
        "tinyimagenet-resize-nearest": "tinyimagenet-resize",
        "scenes-crop": "lsun-crop",
        "scenes-resize": "lsun-resize",
        "scenes-mixed": "isun",
    },
    recipes=PAPER_RECIPES,
    trainings={"densenet-bc-100-12_cifar10": "authors", "densenet-bc-100-12_cifar100": "authors"},
    resampled={"cifar10": ("tinyimagenet-resize-nearest", *(f"tinyimagenet-resize-{name}" for name in _FILTERS))},
    beside=dict.fromkeys(
        ("cifar10", "cifar100"),
        ("tinyimagenet-crop-inner", "tinyimagenet-resize-nearest", "tinyimagenet-resize-bilinear-antialias"),
    ),
    curve_images=2000,
    tuning_size_sets=("tinyimagenet-crop",),
    split="authors",
    compute=False,
    pictures="demo",
)

_DEMO_OOD = (
    "photos-crop",
    "photos-resize",
    "textures-crop",
    "textures-resize",
    "mixed-resize",
    "uniform",
    "gaussian",
)

DEMO = Profile(
    name="demo",
    title="small networks on embedded data, live on this machine",
    networks=("densenet-bc-22-8", "wrn-10-2", "wrn-16-1"),
    id_sets=("shapes10", "shapes20", "shapes16"),
    ood_sets={
        "shapes10": _DEMO_OOD,
        "shapes20": _DEMO_OOD,
        "shapes16": ("shapes4", *_DEMO_OOD),
        "digits": ("strokes", "letters", "shapes10-bw", "gaussian", "uniform"),
    },
    grey_network="mlp-256x3",
    grey_id_set="digits",
    left_out="shapes4",
    stands_for={
        "densenet-bc-22-8": "densenet-bc-100-12",
        "wrn-10-2": "wrn-28-10",
        "wrn-16-1": "wrn-40-4",
        "shapes10": "cifar10",
        "shapes20": "cifar100",
        "shapes16": "cifar80",
        "shapes4": "cifar20",
        "digits": "mnist",
        "strokes": "omniglot",
        "letters": "notmnist",
        "shapes10-bw": "cifar10-bw",
        "photos-crop": "tinyimagenet-crop",
        "photos-resize": "tinyimagenet-resize",
        "textures-crop": "lsun-crop",
        "textures-resize": "lsun-resize",
        "mixed-resize": "isun",
    },
    recipes={
        "densenet-bc": Recipe(epochs=10, batch=64, weight_decay=5e-3, padding=2),
        "wrn": Recipe(epochs=8, batch=64, weight_decay=1e-3, padding=2),
        "mlp": PAPER_RECIPES["mlp"],
    },
    resampled={"shapes10": ("photos-resize", *(f"photos-resize-{name}" for name in _FILTERS))},
    epsilons=(0.0, 0.002, 0.004, 0.006, 0.008, 0.01),
    fixed_epsilon=0.006,
    headline_epsilon=0.006,
    holdout=100,
    images=600,
    tuning_sizes=(20, 40, 60, 80, 100, 120, 140, 160, 180, 200),
)

PROFILES = {profile.name: profile for profile in (DEMO, PAPER)}


def get(name: str) -> Profile:
    """The profile called `name`.

    Raises:
        UserError: there is none of that name.
    """
    return PROFILES[check_choice("profile", name, PROFILES)]


def with_pictures(profile: Profile) -> Profile:
    """The profile whose images and networks a page takes where it shows images or moves them itself.

    It is `profile` itself, unless that leaves its pictures to another one: real images are never shown.
    """
    if profile.pictures is None:
        return profile
    return dataclasses.replace(get(profile.pictures), seed=profile.seed, device=profile.device)


def by_one_recipe(training: str, other: str) -> bool:
    """Whether two trainings of a network were made here by one recipe, and differ in nothing but their seed.

    >>> by_one_recipe("seed0", "seed7"), by_one_recipe("seed0", "seed1-0a1b2c3d"), by_one_recipe("authors", "authors")
    (True, False, False)
    """
    ours, theirs = _OWN.fullmatch(training), _OWN.fullmatch(other)
    return ours is not None and theirs is not None and ours["recipe"] == theirs["recipe"]


def configure(name: str, /, **changes: Any) -> Profile:
    """The profile called `name` with some fields replaced, every value checked.

    A change of `None` leaves the field as it is, so that a notebook's parameters can be handed over as they are.
    `ood_sets` may be a plain list: then it holds for every ID set that is not in it; `resampled` likewise, for the ID
    sets that are named, or the first. Lists become tuples.

    Args:
        name: one of `PROFILES`.
        changes: fields of :class:`Profile`.

    Raises:
        UserError: an unknown profile, field, network or set, or a value out of range, in one line.

    >>> configure("demo", temperatures=[1, 1000]).temperatures
    (1.0, 1000.0)
    """
    profile = get(name)
    for key in changes:
        check_choice("profile field", key, sorted({*FIELDS} - {"name", "title"}))
    changes = {key: _frozen(value) for key, value in changes.items() if value is not None}
    if isinstance(changes.get("resampled"), tuple):
        changes["resampled"] = dict.fromkeys(changes.get("id_sets", profile.id_sets[:1]), changes["resampled"])
    if isinstance(changes.get("ood_sets"), tuple):
        sets = changes.pop("ood_sets")
        changes["ood_sets"] = _same_for_all(dataclasses.replace(profile, **changes), sets)
    _check_types(changes)
    profile = dataclasses.replace(profile, **changes)
    _check(profile)
    temperatures, epsilons = check_grid(profile.temperatures, profile.epsilons)
    for key in ("temperatures", "epsilons"):
        _check_list(key, getattr(profile, key))
    return dataclasses.replace(profile, temperatures=tuple(temperatures), epsilons=tuple(epsilons))


#: Fields that say what is asked, and not where or how it is shown.
_ASKED = (
    *("temperatures", "epsilons", "holdout", "images", "curve_images", "fixed_temperature", "fixed_epsilon"),
    *("headline_epsilon", "tuning_sizes", "tuning_size_sets", "split", "seed", "networks", "id_sets", "precision"),
)


def changes(profile: Profile) -> dict[str, Any]:
    """What of a profile's question is not as the profile of its name has it: fields and their values."""
    default = PROFILES.get(profile.name, profile)
    return {field: value for field in _ASKED if (value := getattr(profile, field)) != getattr(default, field)}


FIELDS = tuple(entry.name for entry in dataclasses.fields(Profile))
#: Parameters of pages that stand for one entry of a field.
SINGULAR = {
    "network": "networks",
    "id_set": "id_sets",
    "ood_set": "ood_sets",
    "temperature": "temperatures",
    "epsilon": "epsilons",
}


def of_page(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a page's parameters mean: `temperature` is the one entry of `temperatures`; None changes none.

    >>> of_page({"temperatures": [1, 1000], "temperature": 37, "holdout": 500, "epsilon": None})
    {'temperatures': [37], 'holdout': 500}
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    return {SINGULAR.get(name, name): [value] if name in SINGULAR else value for name, value in given.items()}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _same_for_all(profile: Profile, sets: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The chosen OOD sets for each ID set, in the given order; the grey block keeps those that are its own."""
    own = profile.ood_sets.get(profile.grey_id_set, ())
    grey = {profile.grey_id_set: tuple(s for s in sets if s in own) or own}
    return {**grey, **dict.fromkeys(profile.id_sets, sets)}


def _check(profile: Profile) -> None:
    from odinlib import datasets, networks

    for name in ("networks", "id_sets", "tuning_sizes"):
        _check_list(name, getattr(profile, name))
    for name in ("ood_sets", "resampled"):
        if not isinstance(getattr(profile, name), Mapping):
            raise UserError(f"{name} is {getattr(profile, name)!r}", expected="a list, or one for each ID set")
    for trained, training in profile.trainings.items():
        network, _, id_set = trained.partition("_")
        networks.check_name(network)
        datasets.title(id_set)
        _check_training(training)
    for images in (profile.left_out, *profile.beside, *profile.resampled, *(profile.tuning_size_sets or ())):
        datasets.title(images)
    for sets in profile.beside.values():
        for images in sets:
            datasets.title(images)
    if profile.tuning_size_sets is not None:
        _check_list("tuning_size_sets", profile.tuning_size_sets)
    for precision in (*profile.precisions.values(), *([profile.precision] if profile.precision else [])):
        check_choice("precision", precision, devices.PRECISIONS)
    if profile.kernels is not None:
        check_choice("kernels", profile.kernels, devices.KERNELS)
    for network in (*profile.networks, profile.grey_network):
        networks.check_name(network)
        profile.recipe(network)
    for id_set in (*profile.id_sets, profile.grey_id_set):
        datasets.title(id_set)  # which knows variants of a set that `names` does not list
        if not profile.ood_sets.get(id_set):
            raise UserError(f"{id_set} has no OOD sets", expected=f"an entry for {id_set!r} in ood_sets")
        _check_list("ood_sets", profile.ood_sets[id_set])
        for ood_set in profile.ood_sets[id_set]:
            datasets.title(ood_set)
            if ood_set == id_set:
                raise UserError(f"{ood_set} is both in- and out-of-distribution", remedy="choose another OOD set")
    for sets in profile.resampled.values():
        _check_variants(sets)
    check_choice("split", profile.split, splits.SPLITS)
    devices.device(profile.device)
    if profile.pictures is not None:
        check_choice("pictures", profile.pictures, PROFILES)
    check_number("tpr", profile.tpr, above=0, at_most=1)
    check_number("fixed_temperature", profile.fixed_temperature, above=0)
    check_number("fixed_epsilon", profile.fixed_epsilon, at_least=0)
    check_number("headline_epsilon", profile.headline_epsilon, at_least=0)
    counts = {"holdout": 1, "images": 2, "curve_images": 1, "resamples": 2, "seed": 0}
    for name, least in counts.items():
        _check_count(name, getattr(profile, name), least)
    for size in profile.tuning_sizes:
        _check_count("tuning size", size, 1)
    if profile.images is not None and profile.images <= profile.holdout:
        raise UserError(
            f"images is {profile.images} and holdout is {profile.holdout}",
            expected="more images than are held out",
        )


def _check_types(changes: Mapping[str, Any]) -> None:
    """Refuse values of another type than their fields'. Numbers are left to the checks of their ranges."""
    hints = typing.get_type_hints(Profile)
    for name, value in changes.items():
        hint = hints[name]
        ranged = isinstance(value, numbers.Number) and _is_a(hint, 0)
        if not ranged and not _is_a(hint, value):
            raise UserError(f"{name} is {short(value)}", expected=_in_words(hint))


def _is_a(hint: Any, value: Any) -> bool:
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is types.UnionType:
        return any(_is_a(one, value) for one in inner)
    if origin is tuple:
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str | bytes)
            and all(_is_a(inner[0], one) for one in value)
        )
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_is_a(inner[0], key) and _is_a(inner[1], value[key]) for key in value)
    if origin in (int, float):
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    return isinstance(value, origin)


def _in_words(hint: Any, many: bool = False) -> str:
    """A field's type, as people say it.

    >>> _in_words(Mapping[str, tuple[str, ...]]), _in_words(int | None)
    ('a mapping of names to lists of names', 'a number')
    """
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is types.UnionType:
        return _in_words(inner[0], many)
    if origin is tuple:
        return f"{'lists' if many else 'a list'} of {_in_words(inner[0], True)}"
    if origin is Mapping:
        return f"a mapping of names to {_in_words(inner[1], True)}"
    words = {str: ("a name", "names"), bool: ("True or False", ""), Recipe: ("", "recipes")}
    one, several = words.get(origin, ("a number", "numbers"))
    return several if many else one


def _check_list(name: str, values: Any) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(f"{name} is {values!r}", expected="a list")
    if not values:
        raise UserError(f"{name} is empty", expected="at least one")
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{name} has {value!r} twice", remedy="leave one out")


def _check_training(name: str) -> None:
    if name not in TRAININGS and not _OWN.fullmatch(name):
        raise UserError(
            f"training is {name!r}", expected=f"one of {', '.join(TRAININGS)}, or our own by its seed, as seed0"
        )


def _check_variants(sets: Sequence[str]) -> None:
    """Refuse what are not variants of one set, each by a filter of its own."""
    from odinlib import datasets

    if isinstance(sets, str) or not sets:
        raise UserError(f"resampled holds {sets!r}", expected="a list of variants of one set")
    found = [datasets.variant(name) for name in sets]
    for name, (base, filter) in zip(sets, found, strict=True):
        if filter is None:
            raise UserError(f"{name} is not resampled", expected="a set that is, such as photos-resize")
        if base != found[0][0]:
            raise UserError(f"{sets[0]} and {name} are not variants of one set", expected=f"{found[0][0]}-FILTER")
    if len({filter for _, filter in found}) < len(sets):
        raise UserError(f"two of {', '.join(sets)} are made by the same filter", remedy="leave one out")


def _check_count(name: str, value: int | None, least: int) -> None:
    if value is not None and check_number(name, value, at_least=least, at_most=_LARGEST) != int(value):
        raise UserError(f"{name} is {value!r}", expected="a whole number")
