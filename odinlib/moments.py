"""What the paper explains ODIN by, measured on logits: U1 and U2, conditional expectations, the rest of an expansion.

Section 5.2 and Appendix F: `u1`, `u2`. Section 5.3: `perturbation_remainder`. Figures 5 and 10 to 12:
`conditional_expectation`, `density`.
"""

from __future__ import annotations  # so that help() shows types by their names

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from odinlib import devices, odin
from odinlib.errors import UserError, check_number

# --- Section 5.2: the largest output against the others ---------------------------------------------------------------


def u1(logits: ArrayLike | Tensor) -> Tensor:
    """U1, the mean of the gaps f_y - f_i over i != y (Equation 4): logits [..., K] to [...], at least 0, in float64.

    >>> u1([[5.0, 3.0, 1.0]]).item()
    3.0
    """
    gaps, others = _gaps(logits)
    return gaps.sum(-1) / others.sum(-1)


def u2(logits: ArrayLike | Tensor) -> Tensor:
    """U2, the mean of the squared gaps (f_y - f_i)^2 over i != y (Equation 4): logits [..., K] to [...], in float64.

    >>> u2([[5.0, 3.0, 1.0]]).item()
    10.0
    """
    gaps, others = _gaps(logits)
    return gaps.square().sum(-1) / others.sum(-1)


def gap_range(logits: ArrayLike | Tensor) -> Tensor:
    """The range of the gaps f_y - f_i over i != y: logits [..., K] to [...], at least 0, in float64.

    It is that of the other outputs, and 0 for two classes.

    >>> gap_range([[5.0, 3.0, 1.0]]).item()
    2.0
    """
    gaps, others = _gaps(logits)
    return gaps.amax(-1) - torch.where(others, gaps, torch.inf).amin(-1)


def output_variance(u1: np.ndarray, u2: np.ndarray, classes: int) -> np.ndarray:
    """The variance of all K outputs of an image about their mean, from the two moments of its gaps [...] to [...].

    The gaps with that of y itself, which is 0, lie about their mean as the outputs do about theirs; with a share
    r = (K - 1) / K of them not y's own that is r U2 - (r U1)^2 (Section 6).

    >>> output_variance(np.array([3.0]), np.array([10.0]), 3).round(6)  # of the outputs 5, 3 and 1
    array([2.666667])
    """
    check_number("classes", classes, at_least=2)
    share = (classes - 1) / classes
    return share * u2 - (share * u1) ** 2


def _gaps(logits: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    """f_y - f_i for all i [..., K] in float64, and which of them are of other classes than y [..., K].

    The gap of y itself is 0 and adds nothing to a sum; nor does a class that is switched off (a logit of minus
    infinity), which is not among the others either.
    """
    outputs = devices.double(logits)
    if outputs.ndim == 0 or outputs.shape[-1] < 2:
        raise UserError(f"logits have the shape {list(outputs.shape)}", expected="[..., K] with at least two classes")
    largest, predicted = outputs.max(-1, keepdim=True)
    there = ~torch.isneginf(outputs)
    others = there.scatter(-1, predicted, False)
    if not others.any(-1).all():
        raise UserError("all classes of an image but one are switched off", expected="at least two finite logits")
    return torch.where(there, largest - outputs, 0.0), others


@dataclass(frozen=True)
class Conditional:
    """E[y | x] in bins of x; bins without a value are left out."""

    centres: np.ndarray  # middle of each bin
    mean: np.ndarray
    standard_error: np.ndarray  # of the mean; NaN where the bin holds one value
    count: np.ndarray


def conditional_expectation(x: ArrayLike, y: ArrayLike, bins: int | Sequence[float] | np.ndarray = 20) -> Conditional:
    """The mean of y among the values whose x falls in a bin (Figures 5, 10, 11, 12).

    Args:
        x, y: [N] each.
        bins: their number, of equal width over the range of x; or their edges, to compare several sets at equal x.
            As in `numpy.histogram`, a bin holds its left edge and the last bin both; values outside are not counted.

    >>> conditional_expectation([0.0, 0.2, 0.9, 2.5], [1.0, 3.0, 5.0, 7.0], bins=[0, 1, 2, 3]).mean
    array([3., 7.])
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise UserError(f"x is {list(x.shape)} and y is {list(y.shape)}", expected="two lists of one length above 0")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("x or y holds NaN or infinite values", expected="finite values")
    edges = np.histogram_bin_edges(x, bins)
    count = np.histogram(x, edges)[0]
    filled = count > 0
    total = np.histogram(x, edges, weights=y)[0]
    mean = np.divide(total, count, where=filled, out=np.zeros(len(count)))
    # Deviations from each value's own bin mean, so that a large mean does not swallow the spread.
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(count) - 1)
    squares = np.histogram(x, edges, weights=(y - mean[place]) ** 2)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(squares / (count - 1) / count)
    centres = (edges[1:] + edges[:-1]) / 2
    return Conditional(centres[filled], mean[filled], error[filled], count[filled])


def density(values: ArrayLike, bins: int | Sequence[float] | np.ndarray = 50) -> tuple[np.ndarray, np.ndarray]:
    """Centres and heights of a histogram whose area is 1 (Figures 5 a and c). Shared edges make sets comparable."""
    heights, edges = np.histogram(np.asarray(values, dtype=np.float64), bins, density=True)
    return (edges[1:] + edges[:-1]) / 2, heights


# --- Section 5.3: the perturbation ------------------------------------------------------------------------------------


def label_flips(clean: ArrayLike | Tensor, moved: ArrayLike | Tensor) -> float:
    """Share of images whose predicted class differs between two arrays of logits [N, K].

    >>> label_flips([[2.0, 1.0], [2.0, 1.0]], [[2.0, 1.0], [0.0, 1.0]])
    0.5
    """
    return (torch.as_tensor(clean).argmax(-1) != torch.as_tensor(moved).argmax(-1)).double().mean().item()


class Remainder(NamedTuple):
    """What the first-order expansion in epsilon leaves over."""

    remainder: np.ndarray  # [B, N] |log S(x~; T) - log S(x; T) - epsilon ||gradient||_1|
    slope: float  # exponent of epsilon, fitted to the median over the images


def perturbation_remainder(
    network: nn.Module, images: Tensor, epsilons: Sequence[float], temperature: float
) -> Remainder:
    """How far log S(x~; T) is from its first-order expansion log S(x; T) + epsilon ||grad log S||_1 (Section 5.3).

    The paper writes the rest as o(epsilon). Where log S is twice differentiable along the way it is of the order
    epsilon^2, and the slope is near 2; a network of ReLUs has kinks, but few within a small step.

    Args:
        network: images [N, C, H, W] to logits [N, K]; computed in float64, on a copy, or small steps drown in rounding.
        images: in [0, 1].
        epsilons: magnitudes above 0 in pixel units, at least two [B].
        temperature: T, of the score and of its gradient.
    """
    for epsilon in epsilons:
        check_number("epsilon", epsilon, above=0)
    if len(set(epsilons)) < 2:
        raise UserError(f"epsilons are {list(epsilons)}", expected="at least two different values above 0")
    where = devices.of(network)
    where = where if devices.has_float64(where) else torch.device("cpu")
    exact, images = copy.deepcopy(network).to(where).double().eval(), images.to(where).double()
    gradient, logits = odin.input_gradient(exact, images, temperature)
    norm, before = gradient.abs().flatten(1).sum(1), odin.softmax_score(logits, temperature).log()
    rows = []
    with torch.no_grad():
        for epsilon in epsilons:
            after = odin.softmax_score(exact(odin.perturb(images, gradient, epsilon)), temperature).log()
            rows.append((after - before - epsilon * norm).abs())
    remainder = torch.stack(rows).cpu().numpy()
    return Remainder(remainder, slope(epsilons, np.median(remainder, axis=1)))


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """The exponent p of y ~ x^p, by least squares on the logarithms of positive values.

    >>> round(slope([1.0, 10.0, 100.0], [3.0, 300.0, 30000.0]), 6)
    2.0
    """
    return float(np.polyfit(np.log(np.asarray(x)), np.log(np.asarray(y)), 1)[0])
