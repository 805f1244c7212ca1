"""How far a set of images lies from the in-distribution set, without a network (Section 4.5, Appendix G).

Each pair of sets is an artefact, distances/<id set>/<set>.npz, see `odinlib.store`.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odinlib import artefacts, datasets, profiles, splits, store
from odinlib.errors import Missing, UserError, check_choice
from odinlib.measure import discrepancy
from odinlib.profiles import Profile

_OPTIONS = {"pixels": "unit", "permutations": 999, "subsample": 1000}  # the usual ones
#: Of images larger than the in-distribution set's: the middle part of its size, or the one at the top left.
PARTS = ("inner", "corner")


@dataclass(frozen=True)
class Distance:
    """How far a set of images lies from an in-distribution set (Section 4.5 and Appendix G).

    All are estimates of squares; the unbiased ones can come out below 0. The kernel's bandwidth is the median of the
    squared distances, and in `mmd_squared_literal` the median of the distances, as the text has it.
    """

    mmd_squared: float  # unbiased
    mmd_squared_biased: float
    mmd_squared_literal: float  # unbiased
    energy_squared: float  # unbiased
    energy_squared_biased: float
    median: float  # of the Euclidean distances of all pairs in both sets together
    mmd_p: float  # of a permutation test
    energy_p: float
    tested: int  # images of each set in these tests
    images_in: int
    images_out: int

    @property
    def mmd(self) -> float:
        """MMD, the root of the unbiased estimate of its square; 0 where that is below 0."""
        return math.sqrt(max(self.mmd_squared, 0))

    @property
    def energy(self) -> float:
        """The energy distance D, the root of the unbiased estimate of its square; 0 where that is below 0."""
        return math.sqrt(max(self.energy_squared, 0))


def distance(
    profile: Profile,
    id_set: str,
    ood_set: str,
    *,
    pixels: str = "unit",
    permutations: int = 999,
    subsample: int = 1000,
    part: str = "inner",
) -> Distance:
    """MMD and energy distance between the test images of two sets.

    Images larger than the in-distribution set's are compared by a part of that size. Of the crops that the paper's
    authors released the middle is all but the black border; the corner has the border at the top and on the left.

    Args:
        profile: says how many images.
        id_set, ood_set: the two sets; one and the same: one half of its images against the other, at random.
        pixels: the scale of pixels, `unit` (0 to 1) or `byte` (0 to 255); it moves the energy distance and the MMD
            whose bandwidth is the median of the distances, and not the MMD of the default bandwidth.
        permutations: relabellings of each permutation test.
        subsample: images of each set in these tests.
        part: one of `PARTS`.

    Raises:
        Missing: it is not recorded, and this profile only reads, or the images are not there, or not so large that they
            have a corner.
    """
    check_choice("part", part, PARTS)
    options = {"pixels": pixels, "permutations": permutations, "subsample": subsample, "part": part}
    where, config = _path_and_config(profile, id_set, ood_set, **options)

    def compute() -> Mapping[str, np.ndarray]:
        v, w = (_images(profile, name, id_set) for name in (id_set, ood_set))
        if part == "corner" and w.shape == (len(w), *v.shape[1:]):
            raise Missing(f"images of {ood_set} are as large as those of {id_set}", remedy="they are compared whole")
        w = _part(w, v.shape[1:3], part)
        if id_set == ood_set:
            order = splits.draw("random", id_set, profile.seed).order(len(v))
            v, w = v[order[: len(v) // 2]], v[order[len(v) // 2 :]]
        apart = discrepancy.discrepancies(v, w, pixels=pixels)
        test = functools.partial(
            discrepancy.permutation_test, v, w, permutations=permutations, subsample=subsample, seed=profile.seed
        )
        on_mmd, on_energy = test("mmd"), test("energy")
        found = Distance(
            mmd_squared=apart.mmd["unbiased"],
            mmd_squared_biased=apart.mmd["biased"],
            mmd_squared_literal=apart.mmd_literal["unbiased"],
            energy_squared=apart.energy["unbiased"],
            energy_squared_biased=apart.energy["biased"],
            median=apart.median,
            mmd_p=on_mmd.p_value,
            energy_p=on_energy.p_value,
            tested=min(on_mmd.images),
            images_in=len(v),
            images_out=len(w),
        )
        return {name: np.array(value) for name, value in dataclasses.asdict(found).items()}

    held = _recorded(profile, where, config)
    if held is None:
        if not profile.compute:
            remedy = "appendix G's page makes it with `-p compute True` where the images are"
            raise Missing(f"{where} is not recorded", remedy=remedy)
        with artefacts.locked(where):
            held = _recorded(profile, where, config)  # another process may have made it meanwhile
            if held is None:
                start = time.perf_counter()
                held = dict(compute())
                artefacts.save(where, held, config, artefacts.provenance(seconds=time.perf_counter() - start))
    return Distance(**{name: value.item() for name, value in held.items()})


def _recorded(profile: Profile, where: Path, config: Mapping[str, Any]) -> artefacts.Arrays | None:
    """The numbers of a distance; None where they are not there, or are damaged and will be made anew."""
    try:
        held = artefacts.load(where, config, profile.sealed(where)).arrays
        for problem in lacks(held):
            raise artefacts.Refused(f"{where} {problem}", remedy="delete it and run again")
        return {name: held[name] for name in Distance.__dataclass_fields__}
    except FileNotFoundError:
        return None
    except artefacts.Refused:
        if not profile.compute:
            raise
        return None


def lacks(held: artefacts.Arrays) -> Iterator[str]:
    """What the arrays of a distance lack, in words: each is one finite number."""
    for name in Distance.__dataclass_fields__:
        found = held.get(name)
        if found is None or found.size != 1 or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
            yield f"has no {name}"


def is_recorded(profile: Profile, id_set: str, ood_set: str) -> bool:
    """Whether the distance between two sets is there, with the usual options."""
    where, config = _path_and_config(profile, id_set, ood_set)
    return _recorded(profile, where, config) is not None


def _path_and_config(profile: Profile, id_set: str, ood_set: str, **options: Any) -> tuple[Path, dict[str, Any]]:
    """Where a distance lies and its header; what is not said of the options is as usual."""
    measured = {"sets": (id_set, ood_set), "images": profile.images, "seed": profile.seed}
    asked = {**_OPTIONS, "part": PARTS[0], **options}
    config = {**measured, **asked, "kind": "distance", "format": store.FORMAT}
    return path(profile, config), config


def path(profile: Profile, config: Mapping[str, Any]) -> Path:
    """Where a distance lies, by its header: options that are not the usual ones are part of its name."""
    default = profiles.PROFILES.get(profile.name, profile)
    options, drawn = ([config[key] for key in keys] for keys in (_OPTIONS, ("images", "seed")))
    told = [] if options == list(_OPTIONS.values()) else options
    told += [] if drawn == [default.images, default.seed] else drawn
    told += [] if config["part"] == "inner" else [config["part"]]
    stem = "_".join(map(str, (config["sets"][1], *told)))
    return profile.folder / "distances" / config["sets"][0] / f"{stem}.npz"


def _images(profile: Profile, name: str, id_set: str) -> np.ndarray:
    """The images [N, H, W, C] of a set that the profile asks for."""
    found = store.image_set(profile, name, id_set).images
    limit = None if name in datasets.NOISE else profile.images
    return found if limit is None else found[splits.draw("first", name, profile.seed, limit).order(len(found))]


def _part(images: np.ndarray, size: tuple[int, ...], part: str) -> np.ndarray:
    """The part [N, *size, C] of images that are larger."""
    top, left = ((have - want) // 2 for have, want in zip(images.shape[1:3], size, strict=True))
    if min(top, left) < 0:
        raise UserError(f"images of {images.shape[1:3]} are compared with {size}", expected="the same size, or larger")
    top, left = (0, 0) if part == "corner" else (top, left)
    return images[:, top : top + size[0], left : left + size[1]]
