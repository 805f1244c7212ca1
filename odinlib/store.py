"""Every file of a profile: where it lies, what it holds, how it is read and made; and any question that they answer.

    networks/<key>.safetensors, .json     the trained weights, and their card (`odinlib.trained`)
    responses/<key>/<set>.npz             clean logits and gradient norms: all that needs no perturbation
    grids/<key>/<set>.npz                 scores of the held-out images at every (T, epsilon)
    curves/<key>/<set>.npz                scores and classes of test images at two temperatures, for every epsilon
    scores/<key>/<set>_T<T>_e<eps>.npz    scores of the test images at one setting

with the key `<network>_<ID set>_<training>`. A file's header says what its arrays depend on: the network's training,
the set, the draw of its images and the part of it that is there, the settings, the SHA-256 of weights and images.
Nothing is found by its name: `scores` is asked for images at settings (T, epsilon) and answers from whatever holds the
answer, be it a file of its own, a row of a grid, a point of a curve, or the clean logits for any T; `available` says
which images could be asked for. What no file holds is computed where the profile computes, and `Missing` otherwise.

Scores are those of `odin.margin_score`: they rank images as the softmax score does, and float32 keeps their digits.
Images are known by their place in the whole set, in the set's own order.
"""

import contextlib
import dataclasses
import functools
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from odinlib import artefacts, datasets, devices, odin, profiles, splits, trained
from odinlib.artefacts import Refused
from odinlib.datasets import ImageSet
from odinlib.errors import Missing, UserError
from odinlib.profiles import Profile, Trained
from odinlib.splits import Draw

Setting = tuple[float, float]  # T and epsilon
#: To be raised when a change of code changes the numbers, so that old artefacts are not read.
FORMAT = 2
SCORES = ("scores", "curves", "grids")  # the folders of scores, in the order in which they are looked through
NOISE_IMAGES = 10_000  # of each noise set, as in the paper; one may ask for fewer, or for more


@dataclass(frozen=True)
class Responses:
    """What a network says of unperturbed images."""

    logits: np.ndarray  # [N, K] float32
    gradient_norm_1: np.ndarray  # [N] 1-norm of the gradient of log S(x; 1) with respect to the input
    gradient_norm_1000: np.ndarray  # [N] likewise at T = 1000
    labels: np.ndarray | None  # [N] int64


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
        return setting[0] in self.settings[0] and setting[1] in self.settings[1]


# --- What there is ----------------------------------------------------------------------------------------------------


def image_set(profile: Profile, images: str, id_set: str) -> ImageSet:
    """All test images of a set; noise takes the shape of the ID set's images."""
    if images not in datasets.NOISE:
        return datasets.load(images, "test")
    shape = datasets.load(id_set, "test").shape
    return datasets.load(images, "test", count=profile.images or NOISE_IMAGES, seed=profile.seed, shape=shape)


def draw(of: Trained, images: str) -> Draw:
    """The draw of a set that is asked for.

    It is that of the profile's split; but where a set was recorded by another one, and nothing of the draw was changed,
    the record stands: a set may be called otherwise today than when it was drawn.
    """
    asked = _draw(of.profile, images, of.profile.split)
    if not {"split", "seed", "images"} & profiles.changes(of.profile).keys():
        drawn = [Draw.from_header(one.header["drawn"]) for kind in SCORES for one in recorded(of, images, kind)]
        if drawn and asked not in drawn:
            return drawn[-1]  # of the grids, where there are any
    return _within(of, images, asked)


def _within(of: Trained, images: str, asked: Draw) -> Draw:
    """The draw of as many images as the set has, where more were asked for of what is only read."""
    if of.profile.exact or asked.limit is None:
        return asked
    return dataclasses.replace(asked, limit=min(asked.limit, total(of, images)))


def _draw(profile: Profile, images: str, split: str) -> Draw:
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
    found = [one.header["drawn"]["of"] for kind in ("responses", *SCORES) for one in recorded(of, images, kind)]
    if not found and not of.profile.compute:
        raise missing(of, images, "responses")
    return max(found) if found else len(image_set(of.profile, images, of.id_set))


def recorded(of: Trained, images: str, kind: str) -> list[Recorded]:
    """The files of one folder that speak of this network and set, the largest first.

    A profile that computes takes only what was made from the weights and images that are here, and passes over what is
    damaged, so that it is made again.

    Raises:
        Refused: a file is damaged, and this profile only reads.
    """
    folder, found = of.profile.folder / kind / of.key, []
    if not folder.is_dir():
        return []
    here = _inputs(of, images) if of.profile.compute else {}
    for name in _listing(folder, folder.stat().st_mtime_ns):
        if not name.startswith(images):
            continue
        try:
            one = _recorded(folder / name, (folder / name).stat().st_mtime_ns)
            if one.header.get("set") != images or one.header.get("format") != FORMAT:
                continue
            if of.profile.compute:
                _check_inputs(of, one, here)
            found.append(one)
        except Refused as refusal:
            if not of.profile.compute:
                raise
            _tell(f"{refusal}: computing it again")
    return sorted(found, key=lambda one: one.header["drawn"]["start"] - one.header["drawn"]["stop"])


@functools.lru_cache(maxsize=256)
def _listing(folder: Path, changed: int) -> list[str]:
    return sorted(path.name for path in folder.glob("*.npz") if not path.name.startswith("."))


@functools.lru_cache(maxsize=4096)
def _recorded(path: Path, changed: int) -> Recorded:
    return Recorded(path, artefacts.load_header(path))


@functools.lru_cache(maxsize=256)
def _tell(what: str) -> None:
    print(what, file=sys.stderr)


def available(of: Trained, images: str, settings: Sequence[Setting], kinds: Sequence[str] = SCORES) -> np.ndarray:
    """Which images of a set have recorded scores at all of these settings, in files of these kinds [total] bool."""
    size = total(of, images)
    there = np.ones(size, dtype=bool)
    clean = _mask(recorded(of, images, "responses") if kinds == SCORES else [], size)
    files = [one for kind in kinds for one in recorded(of, images, kind)]
    for setting in dict.fromkeys(settings):
        found = _mask([one for one in files if one.has(setting)], size)
        there &= found | clean if setting[1] == 0 else found
    return there


def held_out(of: Trained, images: str) -> np.ndarray:
    """Which images of a set have a recorded grid, of whatever settings: those that were held out [total] bool."""
    return _mask(recorded(of, images, "grids"), total(of, images))


def _mask(files: Sequence[Recorded], size: int) -> np.ndarray:
    there = np.zeros(size, dtype=bool)
    for one in files:
        there[one.images] = True
    return there


def _check_inputs(of: Trained, one: Recorded, here: Mapping[str, str]) -> None:
    arrays(of, one)  # which checks the digest
    if one.header.get("noise_seed", of.profile.seed) != of.profile.seed:
        raise Refused(f"{one.path} is of noise by another seed")
    for what in one.header["inputs"].keys() & here.keys():
        if one.header["inputs"][what] != here[what]:
            raise Refused(f"{one.path} was made from other {what} than those on this machine")


@functools.lru_cache(maxsize=64)
def _arrays(path: Path, changed: int, sealed_in: Path | None) -> artefacts.Arrays:
    if sealed_in is not None:
        artefacts.check_sealed(path, sealed_in)
    return artefacts.load(path).arrays


def arrays(of: Trained, one: Recorded) -> artefacts.Arrays:
    """The arrays of a file, checked against its digest and, where the profile only reads, against the manifest."""
    sealed_in = None if of.profile.compute else of.profile.folder
    return _arrays(one.path, one.path.stat().st_mtime_ns, sealed_in)


# --- Questions --------------------------------------------------------------------------------------------------------


def responses(of: Trained, images: str, indices: np.ndarray | None = None) -> Responses:
    """The clean logits and gradient norms of images of a set.

    Args:
        of: the network.
        images: the set.
        indices: of the images [n]; None takes all that the profile asks for, in the set's own order or, where it
            asks for some only, in the order of their draw.

    Raises:
        Missing: they are not recorded, and this profile only reads, or weights or images are not here.
    """
    everything = _within(of, images, _draw(of.profile, images, "first"))
    if indices is None:
        indices = everything.order(total(of, images))
        there = _mask(recorded(of, images, "responses"), total(of, images))
        if not of.profile.compute and there.any():
            indices = indices[there[indices]]
    for turn in range(2):
        files = recorded(of, images, "responses")
        for one in files:
            places = one.places(indices)
            if (places >= 0).all():
                held = arrays(of, one)
                labels = held["labels"][places]
                return Responses(
                    np.ascontiguousarray(held["logits"][:, places].T),
                    held["gradient_norms"][0, places],
                    held["gradient_norms"][1, places],
                    None if (labels < 0).all() else labels,
                )
        if turn == 0:
            _check_makes(of, images, "responses", len(indices) - _mask(files, total(of, images))[indices].sum())
            make_responses(of, images, Part(everything))
    raise UserError(f"image {indices.max()} of {images} is not among those asked for", expected="some of the profile's")


def scores(of: Trained, images: str, settings: Sequence[Setting], indices: np.ndarray) -> Tensor:
    """Scores of images at settings, from anything recorded that holds them.

    One file that holds all is taken before several. At epsilon = 0 the clean logits give the score in float64.

    Args:
        of: the network.
        images: the set.
        settings: pairs (T, epsilon) [A].
        indices: of the images [n].

    Returns:
        Scores [A, n] in float64.

    Raises:
        Missing: not all of them are recorded.
    """
    files = [one for kind in SCORES for one in recorded(of, images, kind)]
    whole = [one for one in files if (one.places(indices) >= 0).all()]
    if any(epsilon > 0 for _, epsilon in settings):
        for one in whole:
            if all(one.has(setting) for setting in settings):
                return torch.stack([_row(of, one, setting)[one.places(indices)] for setting in settings]).double()
    return torch.stack([_at(of, images, setting, indices, files, whole) for setting in settings])


def _at(
    of: Trained, images: str, setting: Setting, indices: np.ndarray, files: list[Recorded], whole: list[Recorded]
) -> Tensor:
    """Scores [n] at one setting, from the clean logits, one file, or several."""
    temperature, epsilon = setting
    if epsilon == 0 and _mask(recorded(of, images, "responses"), total(of, images))[indices].all():
        return odin.margin_score(torch.from_numpy(responses(of, images, indices).logits), temperature)
    for one in whole:
        if one.has(setting):
            return _row(of, one, setting)[one.places(indices)].double()
    found = torch.full((len(indices),), torch.nan, dtype=torch.float64)
    for one in reversed([one for one in files if one.has(setting)]):
        places = one.places(indices)
        found[torch.from_numpy(places >= 0)] = _row(of, one, setting)[places[places >= 0]].double()
    if lacking := int(found.isnan().sum()):
        raise missing(of, images, f"scores at T = {temperature:g}, epsilon = {epsilon:g}", lacking, at=setting)
    return found


def _row(of: Trained, one: Recorded, setting: Setting) -> Tensor:
    """The scores [n] that a file has at a setting."""
    row, column = (values.index(value) for values, value in zip(one.settings, setting, strict=True))
    temperatures, epsilons = one.settings
    return torch.from_numpy(arrays(of, one)["scores"].reshape(len(temperatures), len(epsilons), -1)[row, column])


def classes(of: Trained, images: str, settings: Sequence[Setting], indices: np.ndarray) -> Tensor:
    """Predicted classes [A, n] of images at settings, from the curves; at epsilon = 0 from the clean logits."""
    rows = []
    for setting in settings:
        curve = _curve_with(of, images, setting, indices)
        if curve is not None:
            row, column = (values.index(value) for values, value in zip(curve.settings, setting, strict=True))
            rows.append(torch.from_numpy(arrays(of, curve)["classes"][row, column, curve.places(indices)]).long())
        elif setting[1] == 0:
            rows.append(torch.from_numpy(responses(of, images, indices).logits.argmax(1)))
        else:
            what = f"classes at T = {setting[0]:g}, epsilon = {setting[1]:g}"
            raise missing(of, images, what, len(indices))
    return torch.stack(rows)


def has_classes(of: Trained, images: str, settings: Sequence[Setting], indices: np.ndarray) -> bool:
    """Whether the predicted classes of images are recorded at all of these settings."""
    return all(_curve_with(of, images, setting, indices) is not None for setting in settings)


def _curve_with(of: Trained, images: str, setting: Setting, indices: np.ndarray) -> Recorded | None:
    curves = (one for one in recorded(of, images, "curves") if one.has(setting))
    return next((one for one in curves if (one.places(indices) >= 0).all()), None)


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
    words += ["--set", images, *(["--at", f"{at[0]:g}", f"{at[1]:g}"] if at else [])]
    for field, value in profiles.changes(of.profile).items():
        words += ["-p", field, value if isinstance(value, str) else json.dumps(value)]
    told = f"{what} of {images} by {of.key}" + (f" ({count:,} images)" if count else "")
    return Missing(f"{told} are not recorded", remedy=f"`{shlex.join(words)}` makes them, where the images are")


def _check_makes(of: Trained, images: str, what: str, count: int, at: Setting | None = None) -> None:
    if not of.profile.compute:
        raise missing(of, images, what, int(count), at)


# --- Making it --------------------------------------------------------------------------------------------------------


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
    """Record the clean logits and gradient norms of part of a set."""
    found, net = image_set(of.profile, images, of.id_set), trained.fast_network(of)
    labels = np.full(len(found), -1) if found.labels is None else found.labels
    indices = part.indices(total(of, images))

    def compute(piece: slice) -> Mapping[str, np.ndarray]:
        chosen = indices[piece]
        logits, norms = respond(net, found.tensor(chosen), (1.0, 1000.0))
        return {"logits": logits.T, "gradient_norms": norms, "labels": labels[chosen]}

    _write(of, "responses", images, images, part, {"kind": "responses"}, compute)


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
    found, net = image_set(of.profile, images, of.id_set), trained.fast_network(of)
    indices = part.indices(total(of, images))
    settings = {"kind": "scores", "temperatures": list(temperatures), "epsilons": list(epsilons)}

    def compute(piece: slice) -> Mapping[str, np.ndarray]:
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
    found, net = image_set(of.profile, images, of.id_set), trained.fast_network(of)
    indices = part.indices(total(of, images))
    start, shared = time.perf_counter(), of.profile.folder / "scores" / of.key / f"{images}.npz"

    def compute(piece: slice) -> Mapping[str, np.ndarray]:
        scored, _ = odin.score_and_classify(net, found.tensor(indices[piece]), settings)
        return {"scores": scored.float().numpy()}

    with artefacts.locked(shared):
        whole = {**_config(of, images, part, {"kind": "scores"}, len(indices)), "settings": settings}
        held = _in_shards(shared, whole, f"scores {of.network} on {images}", len(indices), compute)["scores"]
        seconds = (time.perf_counter() - start) / len(settings)
        for row, (temperature, epsilon) in enumerate(settings):
            own = {"kind": "scores", "temperatures": [temperature], "epsilons": [epsilon]}
            config = _config(of, images, part, own, len(indices))
            path = _path(of, "scores", f"{images}_T{temperature:g}_e{epsilon:g}", config)
            artefacts.save(path, {"scores": held[row][None, None]}, config, artefacts.provenance(seconds=seconds))
        artefacts.forget_shards(shared)


def _write(
    of: Trained,
    kind: str,
    images: str,
    stem: str,
    part: Part,
    told: Mapping[str, Any],
    compute: Callable[[slice], Mapping[str, np.ndarray]],
) -> None:
    """Write one artefact, shard after shard; whoever asks for the same meanwhile waits for it."""
    count = len(part.indices(total(of, images)))
    config = _config(of, images, part, told, count)
    path, start = _path(of, kind, stem, config), time.perf_counter()
    with artefacts.locked(path):
        with contextlib.suppress(FileNotFoundError, Refused):  # another process may have written it meanwhile
            found = artefacts.load(path).config
            if found == json.loads(json.dumps(config)):
                return
            if _question(found) != _question(json.loads(json.dumps(config))):
                path = path.with_stem(f"{stem}-{artefacts.digest(_question(config))[:8]}")
        held = _in_shards(path, config, f"{kind} {of.network} on {stem}", count, compute)
        artefacts.save(path, held, config, artefacts.provenance(seconds=time.perf_counter() - start))
        artefacts.forget_shards(path)


def _in_shards(
    path: Path, config: Mapping[str, Any], title: str, count: int, compute: Callable[[slice], Mapping[str, np.ndarray]]
) -> artefacts.Arrays:
    with tqdm(total=count, desc=title, unit="image", leave=False) as bar:

        def counted(piece: slice) -> Mapping[str, np.ndarray]:
            held = compute(piece)
            bar.update(piece.stop - bar.n)
            return held

        return artefacts.in_shards(path, config, count, counted)


def _config(of: Trained, images: str, part: Part, told: Mapping[str, Any], count: int) -> dict[str, Any]:
    """What an artefact's header fixes: all that its arrays depend on."""
    place = {"start": part.start, "stop": part.start + count, "of": total(of, images)}
    return {
        "format": FORMAT,
        "network": trained.header(of),
        "set": images,
        **({"noise_seed": of.profile.seed} if images in datasets.NOISE else {}),
        "drawn": {**part.draw.as_header(), **place},
        "inputs": _inputs(of, images),
        **told,
    }


def _path(of: Trained, kind: str, stem: str, config: Mapping[str, Any]) -> Path:
    """Where an artefact will be: under a plain name, or, where that is taken, with the digest of its header."""
    folder = of.profile.folder / kind / of.key
    path = folder / f"{stem}.npz"
    with contextlib.suppress(FileNotFoundError, Refused):
        if _question(artefacts.load_header(path)) != _question(json.loads(json.dumps(config))):
            return folder / f"{stem}-{artefacts.digest(_question(config))[:8]}.npz"
    return path


def _question(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "inputs"}


def _inputs(of: Trained, images: str) -> dict[str, str]:
    """The SHA-256 of the weights and of the images, of those that are here."""
    found = {}
    with contextlib.suppress(OSError, ValueError, KeyError):
        found["weights"] = json.loads(trained.path(of).with_suffix(".json").read_text())["sha256"]
    with contextlib.suppress(UserError):  # embedded images and noise come with this package
        found["images"] = datasets.prepared.provenance(images)["sha256"]
    return found
