"""The paper's protocol, artefact by artefact: train, respond, tune, test (Sections 4.1 to 4.4).

Every function takes a profile, a network, its in-distribution set and a set of images, and gives what the paper
measures of them. What takes long is an artefact under the profile's folder, read if it is there and computed if not:

    networks/<network>_<id set>.safetensors       the trained weights
    responses/<network>_<id set>/<set>.npz        clean logits and gradient norms: all that needs no perturbation
    grids/<network>_<id set>/<set>.npz            scores of the held-out images at every (T, epsilon)
    curves/<network>_<id set>/<set>.npz           scores of test images at T = 1 and a large T, for every epsilon,
                                                  and the classes that the images are given there
    scores/<network>_<id set>/<set>_T<T>_e<eps>.npz   scores of the test images at one setting

`odinlib.jobs` makes all of them that the book needs of one network. A profile whose fields were changed writes beside
the default one, under names that carry the change's digest.
Scores are those of `odin.margin_score`: they rank images as the softmax score does.
"""

import contextlib
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from odinlib import artefacts, datasets, devices, metrics, networks, odin, profiles, reference, splits
from odinlib.datasets import ImageSet
from odinlib.errors import Missing, UserError
from odinlib.networks import train as training
from odinlib.networks import weights
from odinlib.networks.fast import fast
from odinlib.profiles import Profile

METHODS = ("baseline", "odin")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=tuple[str, ...])
#: How many images the set has, how many are asked for, and what makes the arrays of a slice of them (their last axis
#: counts images).
Work = tuple[int, int, Callable[[slice], Mapping[str, np.ndarray]]]
#: To be raised when a change of code changes the numbers, so that old artefacts are not read.
FORMAT = 2


@dataclass(frozen=True)
class Responses:
    """What a network says of the unperturbed images of a set."""

    logits: np.ndarray  # [N, K] float32
    gradient_norm_1: np.ndarray  # [N] 1-norm of the gradient of log S(x; 1) with respect to the input
    gradient_norm_1000: np.ndarray  # [N] likewise at T = 1000
    labels: np.ndarray | None  # [N] int64

    def take(self, indices: np.ndarray) -> "Responses":
        """The responses of some of the images."""
        labels = None if self.labels is None else self.labels[indices]
        return Responses(self.logits[indices], self.gradient_norm_1[indices], self.gradient_norm_1000[indices], labels)


# --- The jobs ---------------------------------------------------------------------------------------------------------


def image_set(profile: Profile, name: str, id_set: str) -> ImageSet:
    """The test images of a set as this profile uses them; noise takes the shape of the ID set's images."""
    shape = datasets.load(id_set, "test").shape if name in datasets.NOISE else None
    return datasets.load(name, "test", count=profile.images, seed=profile.seed, shape=shape)


def network(profile: Profile, name: str, id_set: str) -> nn.Module:
    """The network trained on `id_set`, in evaluation mode on the profile's device; trained now if need be.

    Raises:
        Missing: it is not there, and this profile only reads, or its data or its foreign weights are not there.
    """
    path = network_path(profile, name, id_set)
    if not path.exists():
        _train(profile, name, id_set, path)
    return _network(path, artefacts.digest(_network_config(profile, name, id_set)), profile.device)


def responses(profile: Profile, name: str, id_set: str, images: str) -> Responses:
    """The clean logits and gradient norms of all test images of the set `images`."""

    def work() -> Work:
        found, net = image_set(profile, images, id_set), fast_network(profile, name, id_set)
        labels = np.full(len(found), -1) if found.labels is None else found.labels

        def compute(piece: slice) -> Mapping[str, np.ndarray]:
            logits, norms = odin.responses(net, found.tensor(np.arange(len(found))[piece]), (1.0, 1000.0))
            return {"logits": logits.T, "gradient_norms": norms, "labels": labels[piece]}

        return len(found), len(found), compute

    def config(of: Profile) -> dict[str, Any]:
        return {**_set_config(of, name, id_set, images, "first"), "kind": "responses"}

    arrays = _artefact(profile, "responses", name, id_set, images, config, work)
    labels = arrays["labels"]
    return Responses(
        np.ascontiguousarray(arrays["logits"].T),
        arrays["gradient_norms"][0],
        arrays["gradient_norms"][1],
        None if (labels < 0).all() else labels,
    )


def grid(profile: Profile, name: str, id_set: str, images: str, holdout: int | None = None) -> Tensor:
    """Scores [A, B, holdout] of the held-out images at every temperature and epsilon of the profile's grid.

    Args:
        profile: its `holdout` images are one artefact.
        name, id_set: the network.
        images: the set.
        holdout: another number of images. A larger one holds out the same images first, so that only the further ones
            are computed, as an artefact of their own.
    """
    size = holdout or profile.holdout
    found = held_out_scores(profile, name, id_set, images, 0, profile.holdout)[..., :size]
    if size <= profile.holdout:
        return found
    return torch.cat([found, held_out_scores(profile, name, id_set, images, profile.holdout, size)], dim=-1)


def held_out_scores(profile: Profile, name: str, id_set: str, images: str, start: int, stop: int) -> Tensor:
    """One artefact of `grid`: scores [A, B, stop - start] of a range of the images that are held out first."""

    def work() -> Work:
        found = image_set(profile, images, id_set)
        held_out, _ = split(profile, images, len(found), stop)
        return _sweep(profile, name, id_set, found, held_out[start:], profile.temperatures, profile.epsilons)

    def config(of: Profile) -> dict[str, Any]:
        return {
            **_set_config(of, name, id_set, images, of.split, start, stop if start else of.holdout),
            "kind": "scores",
            "temperatures": of.temperatures,
            "epsilons": of.epsilons,
        }

    stem = f"{images}_{start}-{stop}" if start else images
    return torch.from_numpy(_artefact(profile, "grids", name, id_set, stem, config, work)["scores"])


def curve(profile: Profile, name: str, id_set: str, images: str) -> Tensor:
    """Scores [2, B, n] of test images at T = 1 and at the large T, for every epsilon (Figures 3 cd, 4, 8, 9)."""
    return torch.from_numpy(_curve(profile, name, id_set, images)["scores"])


def predictions(profile: Profile, name: str, id_set: str, images: str) -> Tensor:
    """Predicted classes [2, B, n] of the images behind `curve`, at its temperatures and epsilons (Section 5.3)."""
    return torch.from_numpy(_curve(profile, name, id_set, images)["classes"])


def _curve(profile: Profile, name: str, id_set: str, images: str) -> artefacts.Arrays:
    def work() -> Work:
        found = image_set(profile, images, id_set)
        _, test = split(profile, images, len(found), profile.holdout)
        chosen = test[: profile.curve_images]
        return _sweep(profile, name, id_set, found, chosen, curve_temperatures(profile), profile.epsilons, classes=True)

    def config(of: Profile) -> dict[str, Any]:
        return {
            **_set_config(of, name, id_set, images, of.split, of.holdout, of.curve_images and of.holdout + of.curve_images),
            "kind": "scores",
            "temperatures": curve_temperatures(of),
            "epsilons": of.epsilons,
        }

    return _artefact(profile, "curves", name, id_set, images, config, work)


def curve_temperatures(profile: Profile) -> tuple[float, float]:
    """The two temperatures of the curves over epsilon: none, and the large one."""
    return (1.0, profile.fixed_temperature)


def test_scores(profile: Profile, name: str, id_set: str, images: str, temperature: float, epsilon: float) -> Tensor:
    """Scores [n] of all test images at one setting, in float64."""
    if epsilon == 0:
        clean = responses(profile, name, id_set, images)
        _, test = split(profile, images, len(clean.logits), profile.holdout)
        return odin.margin_score(torch.from_numpy(clean.logits[test]), temperature)
    if _on_curve(profile, id_set, temperature, epsilon):
        row, column = curve_temperatures(profile).index(temperature), profile.epsilons.index(epsilon)
        return curve(profile, name, id_set, images)[row, column].double()

    def work() -> Work:
        return _sweep_test_images(profile, name, id_set, images, [(temperature, epsilon)])

    stem, config = _score_artefact(name, id_set, images, temperature, epsilon)
    return torch.from_numpy(_artefact(profile, "scores", name, id_set, stem, config, work)["scores"]).flatten().double()


def score_together(
    profile: Profile, name: str, id_set: str, images: str, settings: Iterable[tuple[float, float]]
) -> None:
    """Make the artefacts that `test_scores` reads at several settings (T, epsilon), sharing all passes that can be."""
    wanted = {}
    for temperature, epsilon in sorted(set(settings)):
        stem, config = _score_artefact(name, id_set, images, temperature, epsilon)
        path = artefact_path(profile, "scores", f"{key(profile, name, id_set)}/{stem}", config, ".npz")
        if epsilon > 0 and not _on_curve(profile, id_set, temperature, epsilon) and not path.exists():
            wanted[temperature, epsilon] = path, config(profile)
    if len(wanted) < 2:
        return  # nothing to share

    def work() -> Work:
        return _sweep_test_images(profile, name, id_set, images, list(wanted))

    first, config_of_first = next(iter(wanted.values()))
    shared = first.with_name(f"{images}.npz")
    config_of_all = {**config_of_first, "settings": list(wanted)}
    start, inputs = time.perf_counter(), functools.partial(_inputs, profile, name, id_set, images)
    arrays = _in_shards(shared, config_of_all, f"scores {name} on {images}", work, inputs)
    seconds = (time.perf_counter() - start) / len(wanted)
    for row, (path, own) in enumerate(wanted.values()):
        scores = {"scores": arrays["scores"][row : row + 1]}
        artefacts.save(path, scores, own, artefacts.provenance(seconds=seconds, inputs=inputs()))
    artefacts.forget_shards(shared)


def _on_curve(profile: Profile, id_set: str, temperature: float, epsilon: float) -> bool:
    """Whether `curve` has the scores of all test images at this setting."""
    whole = id_set == profile.id_sets[0] and profile.curve_images is None
    return whole and temperature in curve_temperatures(profile) and epsilon in profile.epsilons


def _sweep_test_images(
    profile: Profile, name: str, id_set: str, images: str, settings: Sequence[tuple[float, float]]
) -> Work:
    found = image_set(profile, images, id_set)
    _, test = split(profile, images, len(found), profile.holdout)
    net = fast_network(profile, name, id_set)

    def compute(piece: slice) -> Mapping[str, np.ndarray]:
        return {"scores": odin.score_and_classify(net, found.tensor(test[piece]), settings)[0].float().numpy()}

    return len(found), len(test), compute


def _score_artefact(
    name: str, id_set: str, images: str, temperature: float, epsilon: float
) -> tuple[str, Callable[[Profile], dict[str, Any]]]:
    """The file's stem and the configuration of the scores at one setting."""

    def config(of: Profile) -> dict[str, Any]:
        return {
            **_set_config(of, name, id_set, images, of.split, of.holdout),
            "kind": "scores",
            "temperatures": [temperature],
            "epsilons": [epsilon],
        }

    return f"{images}_T{temperature:g}_e{epsilon:g}", config


# --- The protocol -----------------------------------------------------------------------------------------------------


def split(profile: Profile, images: str, count: int, holdout: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the held-out images and of the test images among the `count` images of a set (Section 4.4).

    `random` draws the held-out images by the profile's seed, as the paper's text says; `first` takes the first
    ones, as the authors' code does.

    Raises:
        UserError: the set has no image left to test on.
    """
    if count <= holdout:
        raise UserError(f"{images} has {count} images", expected=f"more than the {holdout} that are held out")
    order = splits.draw(profile.split, images, profile.seed).order(count)
    return order[:holdout], order[holdout:]


def test_responses(profile: Profile, name: str, id_set: str, images: str) -> Responses:
    """The responses of the test images only, in the order of `test_scores`."""
    found = responses(profile, name, id_set, images)
    _, test = split(profile, images, len(found.logits), profile.holdout)
    return found.take(test)


def tune(profile: Profile, name: str, id_set: str, ood_set: str) -> odin.Setting:
    """T and epsilon with the least FPR on the held-out images of `id_set` and `ood_set`.

    Table 3's MNIST block is not tuned in the paper: there T is large and epsilon is 0.
    """
    if id_set == profile.grey_id_set:
        return odin.Setting(profile.fixed_temperature, 0.0, math.nan)
    scores_in, scores_out = (grid(profile, name, id_set, images) for images in (id_set, ood_set))
    return odin.tune(scores_in, scores_out, profile.temperatures, profile.epsilons, profile.tpr)


def setting(profile: Profile, name: str, id_set: str, ood_set: str, method: str) -> odin.Setting:
    """The baseline's T = 1 and epsilon = 0 (Hendrycks & Gimpel, 2017), or ODIN's tuned ones."""
    return odin.Setting(1.0, 0.0, math.nan) if method == "baseline" else tune(profile, name, id_set, ood_set)


def detection(profile: Profile, name: str, id_set: str, ood_set: str) -> pd.DataFrame:
    """One pair of Table 2: five measures by two methods on the test images, with bootstrap intervals.

    Returns:
        A row for each (method, metric): network, id_set, ood_set, method, metric, value, low, high (in percent),
        temperature, epsilon, images_in, images_out.
    """
    rows = []
    for method in METHODS:
        chosen = setting(profile, name, id_set, ood_set, method)
        scores_in, scores_out = (
            test_scores(profile, name, id_set, images, chosen.temperature, chosen.epsilon)
            for images in (id_set, ood_set)
        )
        values = metrics.evaluate(scores_in, scores_out, profile.tpr)
        resampled = metrics.bootstrap(
            scores_in, scores_out, resamples=profile.resamples, tpr=profile.tpr, seed=profile.seed
        )
        for metric in metrics.METRICS:
            low, high = metrics.interval(resampled[metric])
            rows.append(
                {
                    "network": name,
                    "id_set": id_set,
                    "ood_set": ood_set,
                    "method": method,
                    "metric": metric,
                    "value": 100 * values[metric].item(),
                    "low": 100 * low,
                    "high": 100 * high,
                    "temperature": chosen.temperature,
                    "epsilon": chosen.epsilon,
                    "images_in": len(scores_in),
                    "images_out": len(scores_out),
                }
            )
    return pd.DataFrame(rows)


def detections(
    profile: Profile, pairs: list[tuple[str, str, str]]
) -> tuple[pd.DataFrame, dict[tuple[str, str, str], str]]:
    """`detection` for many (network, ID set, OOD set), and why for those that cannot be had here."""
    found, missing = gather(functools.partial(detection, profile), pairs)
    return pd.concat(found.values(), ignore_index=True) if found else pd.DataFrame(), missing


def gather(function: Callable[..., Result], keys: Iterable[Key]) -> tuple[dict[Key, Result], dict[Key, str]]:
    """`function(*key)` for each key, and why for those that cannot be had here.

    >>> def length(name):
    ...     if not name:
    ...         raise Missing("nothing is not recorded")
    ...     return len(name)
    >>> gather(length, [("isun",), ("",)])
    ({('isun',): 4}, {('',): 'nothing is not recorded'})
    """
    found, missing = {}, {}
    for key in keys:
        try:
            found[key] = function(*key)
        except Missing as reason:
            missing[key] = str(reason)
    return found, missing


def pairs(profile: Profile, names: tuple[str, ...], id_sets: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Every (network, ID set, OOD set) in the order of the paper's tables."""
    return [(name, id_set, ood_set) for id_set in id_sets for name in names for ood_set in profile.ood_sets[id_set]]


def near_pairs(profile: Profile) -> list[tuple[str, str, str]]:
    """Table 12: the first network on the first ID set against the second one, and back; none with one ID set."""
    if len(profile.id_sets) < 2:
        return []
    first, second = profile.id_sets[:2]
    return [(profile.networks[0], first, second), (profile.networks[0], second, first)]


def test_error(profile: Profile, name: str, id_set: str) -> float:
    """Share of misclassified images among all test images (Table 1)."""
    found = responses(profile, name, id_set, id_set)
    if found.labels is None:
        raise UserError(f"{id_set} has no labels")
    return float((found.logits.argmax(1) != found.labels).mean())


# --- Where things are -------------------------------------------------------------------------------------------------


def network_path(profile: Profile, name: str, id_set: str) -> Path:
    """Where the weights of a network are or will be."""

    def config(of: Profile) -> dict[str, Any]:
        return _network_config(of, name, id_set)

    return artefact_path(profile, "networks", key(profile, name, id_set), config, ".safetensors")


def key(profile: Profile, name: str, id_set: str) -> str:
    """What the files of a trained network are called by: the network, its ID set and its training."""
    return f"{name}_{id_set}_{profile.training(name, id_set)}"


def card(profile: Profile, name: str, id_set: str) -> dict[str, Any]:
    """What is known of a network: architecture, recipe or origin, accuracy, seconds, hardware.

    Raises:
        Missing: there is no such network here, or its card is not recorded.
    """
    path = network_path(profile, name, id_set).with_suffix(".json")
    if not path.exists():
        network(profile, name, id_set)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def paper_settings(profile: Profile, name: str, id_set: str) -> list[tuple[float, float]]:
    """Every (T, epsilon) that the paper prints for a network on an ID set (Tables 4 to 9)."""
    found = reference.settings.settings(reference.tables())
    of = (found.network == profile.paper_name(name)) & (found.id_set == profile.paper_name(id_set))
    printed = found[of].dropna()
    return sorted({(row.temperature, row.epsilon) for row in printed.itertuples()})


def headline_setting(profile: Profile) -> odin.Setting:
    """The setting that Figure 1 is drawn at."""
    return odin.Setting(profile.fixed_temperature, profile.headline_epsilon, math.nan)


def fast_network(profile: Profile, name: str, id_set: str) -> nn.Module:
    """The network in the form that gives the same numbers soonest."""
    return _fast(network(profile, name, id_set))


@functools.lru_cache(maxsize=4)
def _fast(plain: nn.Module) -> nn.Module:
    return fast(plain)


@functools.lru_cache(maxsize=4)
def _network(path: Path, config_digest: str, device: str) -> nn.Module:
    found, card = weights.load_weights(path)
    if card.get("config_sha256", config_digest) != config_digest:
        raise artefacts.Refused(f"{path} was trained with another recipe", remedy="delete it and run again")
    # Convolutions are fastest with the channels last, on CPU and GPU alike.
    return found.to(devices.device(device)).to(memory_format=torch.channels_last).eval()


def _train(profile: Profile, name: str, id_set: str, path: Path) -> None:
    config = _network_config(profile, name, id_set)
    foreign = profiles.TRAININGS.get(profile.training(name, id_set))
    if foreign:
        raise Missing(f"{path} is not there", remedy=f"bring the weights ({foreign}) with `odin import-weights`")
    if not profile.compute:
        raise Missing(f"{path} is not recorded", remedy=_command("train", profile, name, id_set))
    train_set = datasets.load(id_set, "train")
    pixels = train_set.images.astype(np.float64) / 255
    made = networks.build(
        name,
        len(train_set.classes),
        channels=train_set.shape[2],
        size=train_set.shape[0],
        mean=tuple(pixels.mean((0, 1, 2))),
        std=tuple(pixels.std((0, 1, 2))),
        seed=profile.seed,
    )
    recipe = profile.recipe(name)
    start = time.perf_counter()
    training.train(
        made,
        train_set,
        recipe,
        seed=profile.seed,
        checkpoint=path.with_suffix(".checkpoint"),
        device=profile.device,
    )
    card = {
        "id_set": id_set,
        "recipe": dataclasses.asdict(recipe),
        "seed": profile.seed,
        "accuracy": training.accuracy(made, datasets.load(id_set, "test")),
        "config_sha256": artefacts.digest(config),
        **artefacts.provenance(seconds=time.perf_counter() - start),
    }
    weights.save_weights(made, path, card)
    path.with_suffix(".checkpoint").unlink(missing_ok=True)


def _network_config(profile: Profile, name: str, id_set: str) -> dict[str, Any]:
    training = profile.training(name, id_set)
    own = {} if training in profiles.TRAININGS else {"recipe": dataclasses.asdict(profile.recipe(name))}
    return {"network": name, "id_set": id_set, "training": training, **own}


def _set_config(
    profile: Profile, name: str, id_set: str, images: str, split: str, start: int = 0, stop: int | None = None
) -> dict[str, Any]:
    """What of a header does not depend on the kind; `start` and `stop` are places in the order of the draw."""
    limit = None if images in datasets.NOISE else profile.images
    drawn = {**splits.draw(split, images, profile.seed, limit).as_header(), "start": start}
    return {
        "network": _network_config(profile, name, id_set),
        "set": images,
        **({"noise_seed": profile.seed} if images in datasets.NOISE else {}),
        "drawn": {**drawn, **({} if stop is None else {"stop": stop})},
        "format": FORMAT,
    }


def _artefact(
    profile: Profile,
    kind: str,
    name: str,
    id_set: str,
    stem: str,
    config: Callable[[Profile], dict[str, Any]],
    work: Callable[[], Work],
) -> artefacts.Arrays:
    path, own = artefact_path(profile, kind, f"{key(profile, name, id_set)}/{stem}", config, ".npz"), config(profile)
    inputs = functools.partial(_inputs, profile, name, id_set, own["set"])

    def compute() -> Mapping[str, np.ndarray]:
        return _in_shards(path, own, f"{kind} {name} on {stem}", work, inputs)

    why_not = None if profile.compute else _command("respond", profile, name, id_set)
    if why_not:
        artefacts.check_sealed(path, profile.folder)
    arrays = artefacts.load_or_compute(path, own, compute, why_not=why_not, inputs=inputs).arrays
    artefacts.forget_shards(path)
    return arrays


def _in_shards(
    path: Path, config: dict[str, Any], title: str, work: Callable[[], Work], inputs: Callable[[], dict[str, str]]
) -> Mapping[str, np.ndarray]:
    total, count, of_slice = work()
    drawn = {**config["drawn"], "of": total}
    config["drawn"] = {**drawn, "stop": drawn["start"] + count}
    with tqdm(total=count, desc=title, unit="image", leave=False) as bar:

        def counted(piece: slice) -> Mapping[str, np.ndarray]:
            arrays = of_slice(piece)
            bar.update(piece.stop - bar.n)
            return arrays

        return artefacts.in_shards(path, config, count, counted, inputs=inputs)


def _inputs(profile: Profile, name: str, id_set: str, images: str) -> dict[str, str]:
    """The SHA-256 of the weights and of the images, of those that are here."""
    found = {}
    with contextlib.suppress(OSError, ValueError, KeyError):
        card = network_path(profile, name, id_set).with_suffix(".json").read_text()
        found["weights"] = json.loads(card)["sha256"]
    with contextlib.suppress(UserError):  # embedded images and noise come with this package
        found["images"] = datasets.prepared.provenance(images)["sha256"]
    return found


def _sweep(
    profile: Profile,
    name: str,
    id_set: str,
    found: ImageSet,
    indices: np.ndarray,
    temperatures: Sequence[float],
    epsilons: Sequence[float],
    classes: bool = False,
) -> Work:
    net = fast_network(profile, name, id_set)

    def compute(piece: slice) -> Mapping[str, np.ndarray]:
        scores, predicted = odin.sweep_and_classify(net, found.tensor(indices[piece]), temperatures, epsilons)
        arrays = {"scores": scores.float().numpy()}
        return {**arrays, "classes": predicted.numpy().astype(np.int16)} if classes else arrays

    return len(found), len(indices), compute


def artefact_path(
    profile: Profile, kind: str, stem: str, config: Callable[[Profile], dict[str, Any]], suffix: str
) -> Path:
    """Where an artefact of a profile is or will be, whether it exists or not.

    The default profile's artefact has a plain name; one made with changed fields carries the digest of its own.

    Args:
        profile: the profile.
        kind: the folder in the profile's, such as `scores`.
        stem: the name in that folder, without digest and suffix.
        config: what of a profile the artefact depends on.
        suffix: such as `.npz`.
    """
    own, default = artefacts.digest(config(profile)), None
    with contextlib.suppress(UserError):  # a network that the default profile has no recipe for
        default = artefacts.digest(config(profiles.get(profile.name)))
    return profile.folder / kind / (stem + ("" if own == default else f"-{own[:8]}") + suffix)


def _command(job: str, profile: Profile, name: str, id_set: str) -> str:
    options = f"--profile {profile.name} --network {name} --id-set {id_set}"
    return f"`odin {job} {options}` makes it, where `odin data` shows the images"
