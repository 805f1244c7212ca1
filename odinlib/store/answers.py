"""Questions, answered from anything recorded that holds the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from odinlib import moments, odin
from odinlib.artefacts import Arrays
from odinlib.errors import Missing, UserError
from odinlib.profiles import Trained
from odinlib.store.files import (
    SCORES,
    Part,
    Recorded,
    Setting,
    arrays,
    draw_by,
    mask,
    missing,
    recorded,
    total,
    with_logits,
    within,
)
from odinlib.store.making import make_responses


@dataclass(frozen=True)
class Responses:
    """What a network says of unperturbed images."""

    logits: np.ndarray  # [N, K] float32
    gradient_norm_1: np.ndarray  # [N] 1-norm of the gradient of log S(x; 1) with respect to the input
    gradient_norm_1000: np.ndarray  # [N] likewise at T = 1000
    labels: np.ndarray | None  # [N] int64


@dataclass(frozen=True)
class Clean:
    """What is known of every unperturbed image, whichever form its responses are recorded in."""

    classes: np.ndarray  # [N] int64, predicted
    u1: np.ndarray  # [N] float64, of Equation 4
    u2: np.ndarray  # [N] float64
    gradient_norm_1: np.ndarray  # [N]
    gradient_norm_1000: np.ndarray  # [N]
    labels: np.ndarray | None  # [N] int64


def responses(of: Trained, images: str, indices: np.ndarray | None = None) -> Responses:
    """The clean logits and gradient norms of images of a set.

    Args:
        of: the network.
        images: the set.
        indices: of the images [n]; None takes all that the profile asks for, in the set's own order or, where it
            asks for some only, in the order of their draw.

    Raises:
        Missing: they are not recorded, and this profile only reads, or weights or images are not here; or the network
            has so many classes that the logits of some images only are kept.
    """
    indices = everything(of, images) if indices is None else indices
    held = _responses(of, images, indices)
    unknown = np.isnan(held["logits"]).any(0)
    if unknown.any():
        what = f"the logits of {int(unknown.sum()):,} of these images of {images} by {of.key} are not recorded"
        raise Missing(what, remedy="of a network of so many classes those of some images are kept, see `odinlib.store`")
    at_1, at_1000 = held["gradient_norms"]
    return Responses(np.ascontiguousarray(held["logits"].T), at_1, at_1000, _labels(held))


def clean(of: Trained, images: str, indices: np.ndarray | None = None) -> Clean:
    """Class, U1, U2 and gradient norms of unperturbed images; arguments and errors as of `responses`."""
    indices = everything(of, images) if indices is None else indices
    held = _responses(of, images, indices)
    if "u1" in held:
        first, second, predicted = held["u1"], held["u2"], held["classes"]
    else:
        logits = torch.from_numpy(np.ascontiguousarray(held["logits"].T))
        first, second = moments.u1(logits).numpy(), moments.u2(logits).numpy()
        predicted = logits.argmax(1).numpy()
    at_1, at_1000 = held["gradient_norms"]
    return Clean(predicted.astype(np.int64), first.astype(float), second.astype(float), at_1, at_1000, _labels(held))


def _labels(held: Arrays) -> np.ndarray | None:
    return None if (held["labels"] < 0).all() else held["labels"]


def everything(of: Trained, images: str) -> np.ndarray:
    """All images of a set that the profile asks for, or, where it only reads, those of them with recorded responses."""
    indices = within(of, images, draw_by(of.profile, images, "first")).order(total(of, images))
    there = mask(recorded(of, images, "responses"), total(of, images))
    return indices[there[indices]] if there.any() and not of.profile.compute else indices


def has_responses(of: Trained, images: str, indices: np.ndarray | None = None) -> np.ndarray:
    """Which of these images of a set have recorded responses [n] bool; None: of all that the profile asks for."""
    size = total(of, images)
    indices = draw_by(of.profile, images, "first").order(size) if indices is None else indices
    inside = indices < size
    return inside & mask(recorded(of, images, "responses"), size)[np.where(inside, indices, 0)]


def _responses(of: Trained, images: str, indices: np.ndarray) -> Arrays:
    """The arrays of the responses to these images, from one file where one has them all, else from several.

    They are computed now if need be. Of many classes only some images have logits; the others' are NaN.
    """
    lacking = ~has_responses(of, images, indices)
    if lacking.any() or not len(indices):
        if not of.profile.compute:
            raise missing(of, images, "responses", int(lacking.sum()))
        make_responses(of, images, Part(draw_by(of.profile, images, "first")))
        if not has_responses(of, images, indices).all():
            told = f"image {indices.max()} of {images} is not among those asked for"
            raise UserError(told, expected="some of the profile's")
    files = recorded(of, images, "responses")
    whole = [one for one in files if (one.places(indices) >= 0).all()]
    found: Arrays = {}
    for one in whole[:1] or reversed(files):
        places = one.places(indices)
        for name, held in arrays(of, one).items():
            there = (places >= 0) & (places < held.shape[-1])
            empty = np.nan if held.dtype.kind == "f" else 0
            found.setdefault(name, np.full((*held.shape[:-1], len(indices)), empty, dtype=held.dtype))
            found[name][..., there] = held[..., places[there]]
    return found


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
                return _rows(of, one, settings)[:, one.places(indices)].double()
    return torch.stack([_at(of, images, setting, indices, files, whole) for setting in settings])


def _at(
    of: Trained, images: str, setting: Setting, indices: np.ndarray, files: list[Recorded], whole: list[Recorded]
) -> Tensor:
    """Scores [n] at one setting, from the clean logits, one file, or several."""
    temperature, epsilon = setting
    if epsilon == 0 and with_logits(of, images)[indices].all():
        return odin.margin_score(torch.from_numpy(responses(of, images, indices).logits), temperature)
    for one in whole:
        if one.has(setting):
            return _rows(of, one, [setting])[0, one.places(indices)].double()
    found = torch.full((len(indices),), torch.nan, dtype=torch.float64)
    for one in reversed([one for one in files if one.has(setting)]):
        places = one.places(indices)
        found[torch.from_numpy(places >= 0)] = _rows(of, one, [setting])[0, places[places >= 0]].double()
    if lacking := int(found.isnan().sum()):
        raise missing(of, images, f"scores at T = {temperature:g}, epsilon = {epsilon:g}", lacking, at=setting)
    return found


def _rows(of: Trained, one: Recorded, settings: Sequence[Setting]) -> Tensor:
    """The scores [A, n] that a file has at these settings."""
    temperatures, epsilons = one.settings
    held = arrays(of, one)["scores"].reshape(len(temperatures), len(epsilons), -1)
    return torch.from_numpy(held[tuple(np.transpose([one.place(setting) for setting in settings]))])


def classes(of: Trained, images: str, settings: Sequence[Setting], indices: np.ndarray) -> Tensor:
    """Predicted classes [A, n] of images at settings, from the curves; at epsilon = 0 from the clean logits."""
    rows = []
    for setting in settings:
        curve = _curve_with(of, images, setting, indices)
        if curve is not None:
            held = arrays(of, curve)["classes"][curve.place(setting)]
            rows.append(torch.from_numpy(held[curve.places(indices)]).long())
        elif setting[1] == 0:
            rows.append(torch.from_numpy(clean(of, images, indices).classes))
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
