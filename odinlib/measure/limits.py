"""The temperature's limit in numbers: how good Equation 3 is, and how soon Proposition 1's limit is reached.

The derivations are in `odinlib.theory`; here are the same statements on logits, recorded or made up.
"""

from __future__ import annotations  # so that help() shows types by their names

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import hyp1f1
from torch import Tensor

from odinlib import metrics, moments, odin
from odinlib.errors import UserError, check_number

# --- Appendix D: Equation 3 against the score -------------------------------------------------------------------------


def truncated_score(logits: ArrayLike | Tensor, temperature: float, order: int = 2) -> np.ndarray:
    """The score by Equation 3 (order 2), or by its denominator cut at another order: logits [..., K] to [...]."""
    x = _scaled_gaps(logits, temperature)
    return 1 / (1 + _partial_sum(x, order).sum(-1))


def remainder(logits: ArrayLike | Tensor, temperatures: Sequence[float], order: int = 2) -> np.ndarray:
    """The score less its truncation, S - S_order, at every temperature: logits [..., K] to [A, ...].

    Equal numbers are never subtracted, so every digit counts: the rest of one exponential behind x^k / k! is
    (-x)^(k+1) / (k+1)! times the confluent hypergeometric function 1F1(1; k + 2; -x). Against T the slope is
    -(order + 1); the sign is that of (-1)^order where the denominator is positive.
    """
    check_number("order", order, at_least=1)
    rows = []
    for temperature in temperatures:
        x = _scaled_gaps(logits, temperature)
        rest = (-x) ** (order + 1) / math.factorial(order + 1) * hyp1f1(1, order + 2, -x)
        exact = 1 / (1 + np.exp(-x).sum(-1))
        rows.append(-exact * rest.sum(-1) / (1 + _partial_sum(x, order).sum(-1)))
    return np.stack(rows)


def valid_from(logits: ArrayLike | Tensor, tolerance: float = 0.01, order: int = 2) -> np.ndarray:
    """The temperature from which on the truncated score is within a relative `tolerance`: logits [N, K] to [N].

    The relative error falls as T rises wherever the truncated denominator is positive, so bisection finds it.
    """
    check_number("tolerance", tolerance, above=0)
    gaps = _scaled_gaps(logits, 1.0)
    low, high = np.full(len(gaps), 1e-6), np.full(len(gaps), 1e9)
    for _ in range(60):
        middle = np.sqrt(low * high)
        x = gaps / middle[:, None]
        cut = 1 + _partial_sum(x, order).sum(-1)
        close = (cut > 0) & (abs(cut - 1 - np.exp(-x).sum(-1)) <= tolerance * cut)
        low, high = np.where(close, low, middle), np.where(close, middle, high)
    return high


def _scaled_gaps(logits: ArrayLike | Tensor, temperature: float) -> np.ndarray:
    """The gaps to the other classes over T [..., K - 1] in float64."""
    check_number("temperature", temperature, above=0)
    outputs = np.sort(np.asarray(logits, dtype=np.float64), axis=-1)
    return (outputs[..., -1:] - outputs[..., :-1]) / temperature


def _partial_sum(x: np.ndarray, order: int) -> np.ndarray:
    """The first terms of the series of exp(-x), up to x^order."""
    found = np.ones_like(x)
    for k in range(1, order + 1):
        found += (-x) ** k / math.factorial(k)
    return found


# --- Appendix E: Proposition 1 ----------------------------------------------------------------------------------------


def detection_error(logits_in: Tensor, logits_out: Tensor, temperature: float, tpr: float = 0.95) -> float:
    """Pe(T, 0), as a fraction: the error at a TPR of 95 % by S at temperature T, without perturbation.

    Args:
        logits_in, logits_out: [n, K] and [m, K].
        temperature: T.
        tpr: the true positive rate; the threshold is set anew at every T.
    """
    inside, outside = (odin.margin_score(torch.as_tensor(logits), temperature) for logits in (logits_in, logits_out))
    return metrics.detection_error(inside, outside, tpr=tpr).item()


def limit_constant(logits_in: Tensor, logits_out: Tensor, tpr: float = 0.95) -> float:
    """The constant c of Proposition 1, as a fraction: the detection error by U1."""
    return metrics.detection_error(moments.u1(logits_in), moments.u1(logits_out), tpr=tpr).item()


def margin_bracket(logits: ArrayLike | Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Between which numbers the margin score lies at T: U1 - R^2 / 8T and U1, with R the range of the gaps.

    Logits [..., K] to two tensors [...]. R^2 / 4 bounds the variance of the gaps under any weights (Hoeffding's lemma).
    """
    check_number("temperature", temperature, above=0)
    u1 = moments.u1(logits)
    return u1 - moments.gap_range(logits).square() / (8 * temperature), u1


def margin_rest(logits: ArrayLike | Tensor, temperature: float) -> Tensor:
    """How far the margin score is at most from U1 - V / 2T at T: R^3 / (36 sqrt(3) T^2), logits [..., K] to [...]."""
    check_number("temperature", temperature, above=0)
    return moments.gap_range(logits) ** 3 / (36 * math.sqrt(3) * temperature**2)


def error_bracket(logits_in: Tensor, logits_out: Tensor, temperature: float, tpr: float = 0.95) -> tuple[float, float]:
    """Two numbers between which both Pe(T, 0) and c lie, from U1 and the range of the gaps alone.

    Detection is worst when the margin score is as low as it can be for in-distribution images and as high as it can be
    for the others, see `margin_bracket`, and best the other way round. Equal scores among the in-distribution images
    aside.
    """
    (low_in, high_in), (low_out, high_out) = (margin_bracket(logits, temperature) for logits in (logits_in, logits_out))
    best = metrics.detection_error(high_in, low_out, tpr=tpr)
    worst = metrics.detection_error(low_in, high_out, tpr=tpr)
    return best.item(), worst.item()


def at_rest_from(logits_in: Tensor, logits_out: Tensor, tpr: float = 0.95) -> float:
    """A temperature beyond which Pe(T, 0) is c, by `margin_bracket`: an upper bound of where the error comes to rest.

    An image with a U1 above the threshold's is not passed once T > R^2 / 8 over the distance in U1, with R its own
    range; and none with a smaller U1 passes it once that holds with the range of the threshold's image. Equal U1 aside.
    """
    check_number("tpr", tpr, above=0, at_most=1)
    both = torch.cat([logits_in, logits_out])
    u1, reach = moments.u1(both), moments.gap_range(both).square() / 8
    own = u1[: len(logits_in)]
    place = own.argsort()[len(own) - max(1, math.ceil(tpr * len(own) - 1e-9))]
    apart = u1 - own[place]
    bounds = torch.where(apart > 0, reach, reach[place]) / apart.abs()
    return bounds[apart != 0].max().item()


def temperature_beyond(
    logits_in: Tensor, logits_out: Tensor, temperatures: Sequence[float], within: float = 0.001, tpr: float = 0.95
) -> float | None:
    """The smallest T of a grid from which on the detection error moves by less than `within`, its limit included.

    Args:
        logits_in, logits_out: [n, K] and [m, K].
        temperatures: the grid.
        within: a fraction; 0.001 is a tenth of a percentage point.
        tpr: the true positive rate.

    Returns:
        The temperature; None where the error still moves at the end of the grid.
    """
    low = high = limit_constant(logits_in, logits_out, tpr)
    check_number("within", within, at_least=0)
    for temperature in temperatures:
        check_number("temperature", temperature, above=0)
    found = None
    for temperature in sorted(temperatures, reverse=True):
        error = detection_error(logits_in, logits_out, temperature, tpr)
        low, high = min(low, error), max(high, error)
        if high - low >= within:
            break
        found = float(temperature)
    return found


def tied(spread_in: float, spread_out: float, images: int = 1000) -> tuple[Tensor, Tensor]:
    """Logits of three classes on which Proposition 1 fails as it is stated: a tie in U1 that U2 breaks at every T.

    In-distribution images have U1 spread evenly over an interval, all foreign images have U1 exactly at its 5 %
    quantile. The two gaps of an image are U1 minus and plus its spread, so that its U2 is U1^2 + spread^2. Whatever
    the spreads, the distributions of U1 are the same; but the images with the smaller spread have the larger score.

    Args:
        spread_in, spread_out: in [0, 1], multiples of 1/1024, so that no rounding breaks the tie.
        images: of each kind, at most 1024.

    Returns:
        Logits [images, 3] of in-distribution and of foreign images, in float64.
    """
    for name, spread in (("spread_in", spread_in), ("spread_out", spread_out)):
        check_number(name, spread, at_least=0, at_most=1)
        if (spread * 1024) % 1:
            raise UserError(f"{name} is {spread}", expected="a multiple of 1/1024")
    check_number("images", images, at_least=20, at_most=1024)
    inside = 1 + torch.arange(images, dtype=torch.float64) / 1024
    outside = inside[images - int(np.ceil(0.95 * images - 1e-9))].expand(images)
    return tuple(  # type: ignore[return-value]
        torch.stack([torch.zeros_like(mean), spread - mean, -spread - mean], dim=-1)
        for mean, spread in ((inside, spread_in), (outside, spread_out))
    )


def gapped(images: int = 1000) -> tuple[Tensor, Tensor]:
    """Logits of three classes on which Proposition 1's constant is not one: a 5 % quantile that is not unique.

    One in twenty in-distribution images has U1 = 1, the others U1 of at least 2; all foreign images have U1 = 1.5. Any
    threshold from 1 to below 2 accepts exactly 95 % of the former, and all of the latter or none.

    Args:
        images: of each kind, a multiple of 20.

    Returns:
        Logits [images, 3] of in-distribution and of foreign images, in float64.
    """
    if images % 20 or images < 20:
        raise UserError(f"images is {images}", expected="a multiple of 20")
    few = images // 20
    inside = torch.cat([torch.ones(few), 2 + torch.arange(images - few) / images]).double()
    pair = inside, torch.full((images,), 1.5, dtype=torch.float64)
    return tuple(torch.stack([torch.zeros_like(u), -u, -u], dim=-1) for u in pair)  # type: ignore[return-value]
