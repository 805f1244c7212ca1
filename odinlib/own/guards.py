"""Doubts: what goes wrong in silence when a detector is fitted, each told in one line with what was measured."""

import inspect
import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from odinlib.errors import UserError

_FEW = 5  # familiar images that the threshold should refuse, for the share that it accepts to be known


class Doubt(UserWarning):
    """Something that was given makes it doubtful that the scores mean what they seem to."""


def doubt(text: str) -> None:
    """Warn of something, at the line of the user's that called this package."""
    here = str(Path(__file__).parent.parent)
    frame, level, outermost = inspect.currentframe(), 1, 1
    while frame is not None:
        outermost = level if frame.f_code.co_filename.startswith(here) else outermost
        frame, level = frame.f_back, level + 1
    warnings.warn(text, Doubt, stacklevel=outermost + 1)


def check_pixels(low: float, high: float) -> None:
    """Refuse pixels between `low` and `high` that are NaN, infinite, or 0 to 255; both NaN where there is one.

    Raises:
        UserError: as said, with what was probably meant.
    """
    if not (low > -float("inf") and high < float("inf")):
        raise UserError("the images hold NaN or infinite pixels", expected="finite ones, in [0, 1]")
    if low >= 0 and 2 < high <= 255:
        remedy = "divide them by 255, or give them as uint8"
        raise UserError(f"pixels lie between {low:g} and {high:g}", expected="0 to 1", remedy=remedy)
    if max(-low, high) > 16:
        raise UserError(
            f"pixels lie between {low:g} and {high:g}", expected="0 to 1", remedy="divide them by their range"
        )


def pixels(low: float, high: float) -> None:
    """Doubt pixels outside [0, 1], of all images that were given."""
    if low < -1e-3 or high > 1 + 1e-3:
        doubt(
            f"pixels lie between {low:.3g} and {high:.3g}, not in [0, 1]: if images are normalised already, epsilon is "
            "in other units than the paper's; own.Normalised puts the normalisation into the network"
        )


def outputs(logits: Tensor) -> None:
    """Doubt outputs [N, K] that are no logits: a softmax, a log-softmax or a sigmoid of them.

    A log-softmax has the same softmax as the logits, and so the same scores; but not the same energy or largest logit.
    """
    logits = logits.double()
    total, inside = logits.sum(-1), (logits >= 0).all() and (logits <= 1).all()
    if inside and (total - 1).abs().max() < 1e-2:
        doubt(
            f"each image's outputs lie between 0 and 1 and sum to {total.mean():.3f}: the network ends in a softmax, "
            "and scores of it are not ODIN's; take it off"
        )
    elif inside and len(logits) * logits.shape[1] >= 8:
        doubt(
            f"all outputs lie between {logits.min():.3g} and {logits.max():.3g}: if the network ends in a sigmoid, "
            "take it off"
        )
    elif (logits.amax(-1) < 0).any() and torch.logsumexp(logits, -1).abs().max() < 1e-3:
        doubt(
            "each image's outputs are the logarithm of a softmax (log-softmax): ODIN's scores are the same, the energy "
            "and the largest logit are not"
        )


def few(images: int, accepted: int, tpr: float) -> None:
    """Doubt a threshold that too few images were there for, which accepts `accepted` of `images`."""
    wanted = 100 if tpr == 1 else math.ceil(_FEW / (1 - tpr) - 1e-6)
    if images >= wanted:
        return
    low, high = accepted_share(images, accepted)
    doubt(
        f"the threshold is of {images} familiar images: of others, it accepts between {100 * low:.0f} % and "
        f"{100 * high:.0f} % (with 95 % confidence), where {100 * tpr:g} % were asked for; give it {wanted} or more"
    )


def accepted_share(images: int, accepted: int) -> tuple[float, float]:
    """Between what a threshold's share of accepted images lies, with 95 % confidence, if `accepted` of `images` set it.

    >>> [round(share, 2) for share in accepted_share(100, 95)]
    [0.89, 0.98]
    """
    from scipy.special import betaincinv  # here, for its import takes longer than all else of this module

    low, high = (betaincinv(accepted, images - accepted + 1, tail) for tail in (0.025, 0.975))
    return float(low), float(high)


def edge(epsilon: float, epsilons: Sequence[float], foreign: bool, rise: float) -> None:
    """Doubt an epsilon that is the largest of several that were tried; `rise` of the mean score over the smallest."""
    if len(set(epsilons)) < 2 or epsilon < max(epsilons) or epsilon == 0:
        return
    if foreign:
        doubt(f"the best epsilon is the largest that was tried, {epsilon:g}: larger ones may be better still")
    else:
        doubt(
            f"the mean score of the familiar images still rises at the largest epsilon that was tried, {epsilon:g} (by "
            f"{rise:.3g} over the smallest): the search ended at the grid's edge, not at a maximum, and a higher mean "
            "score says nothing of foreign images; the paper's are at most 0.004"
        )


def resolvable(before: Tensor, after: Tensor, epsilon: float) -> None:
    """Doubt an epsilon that the network's precision is too coarse for: its input before and after a move by it."""
    stay = (before == after).double().mean().item()
    if epsilon and stay > 0.01:
        name = str(before.dtype).removeprefix("torch.")
        doubt(
            f"in {name}, {100 * stay:.0f} % of the pixels do not move by epsilon = {epsilon:g}: it is below what "
            f"{name} resolves; use the network in float32"
        )


def still(images: int, broken: int, asked: int) -> None:
    """Doubt gradients: of `asked` images, `images` have one that is zero everywhere, `broken` one with a NaN."""
    if broken:
        doubt(
            f"the gradient of {broken} of {asked} images is NaN somewhere: these pixels are not moved; the network has "
            "a step without a derivative there, as the root of 0"
        )
    if images:
        doubt(
            f"the gradient of {images} of {asked} images ({100 * images / asked:.0f} %) is zero everywhere: epsilon "
            "does not move them; a network that begins by rounding its input, or that is far too sure, has none"
        )


def familiar(right: int, images: int, accuracy: float | None) -> None:
    """Doubt that familiar images are held-out ones, if the network is right on more of them than it should be.

    Args:
        right: images whose class is predicted as labelled.
        images: that have labels.
        accuracy: of the network on images that it was not trained on; none: it is not known, and all right is doubted.
    """
    if not images:
        return
    if accuracy is None:
        if right == images and images >= 200:
            doubt(f"all {images} familiar images are classified as labelled: were they held out from training?")
    elif right / images > accuracy + 3 * max(accuracy * (1 - accuracy) / images, 1 / images**2) ** 0.5:
        doubt(
            f"{100 * right / images:.1f} % of the {images} familiar images are classified as labelled, where the "
            f"network's accuracy is {100 * accuracy:.1f} %: were they trained on? the threshold needs others"
        )
