"""The four measures of Section 4.3, exact, for any number of settings at once.

In-distribution images are the positive class, as in the paper (`positive="out"` is much later work's convention), and
a higher score means more in-distribution. Functions take `scores_in` [..., n] and `scores_out` [..., m] with equal
leading dimensions (settings, say) and returns [...] in float64, as fractions; tables multiply by 100. Nothing is read
off a grid of thresholds: the only thresholds that matter are the in-distribution scores themselves, and ties are
counted exactly, as scikit-learn counts them.
"""

from __future__ import annotations  # so that help() shows types by their names

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from odinlib import devices
from odinlib.errors import UserError, check_choice, check_number

METRICS = ("fpr", "detection_error", "auroc", "aupr_in", "aupr_out")
LOWER_IS_BETTER = ("fpr", "detection_error")
CONVENTIONS = ("paper", "authors")
POSITIVES = ("in", "out")
_ROLES = {"aupr_in": "aupr_out", "aupr_out": "aupr_in"}  # what an area is called where the two kinds change places
Scores = Tensor | ArrayLike  #: on any device, in any precision and layout; a gradient is not followed


@dataclass(frozen=True)
class _Counts:
    """Sorted scores, and where each one stands among the others: all that any measure needs."""

    in_below_in: Tensor  # [..., n] for each sorted in-distribution score, how many others are strictly below
    out_below_in: Tensor  # [..., n] how many out-of-distribution scores are strictly below it
    out_upto_in: Tensor  # [..., n] how many are below it or equal
    out_upto_out: Tensor  # [..., m] for each sorted out-of-distribution score, likewise
    in_upto_out: Tensor  # [..., m]
    sorted_in: Tensor
    sorted_out: Tensor


def fpr_at_tpr(
    scores_in: Scores, scores_out: Scores, tpr: float = 0.95, convention: str = "paper", positive: str = "in"
) -> Tensor:
    """False positive rate at a true positive rate of at least `tpr` (Section 4.3, measure 1).

    An image is accepted when its score is at or above the threshold; the threshold is the highest one that accepts
    the wanted share of in-distribution images.

    Args:
        scores_in: in-distribution scores [..., n].
        scores_out: out-of-distribution scores [..., m].
        tpr: the true positive rate, in (0, 1].
        convention: `paper`, as above; `authors`, the mean over all thresholds at which the true positive rate lies
            within 0.0005 of `tpr`, which is what the released evaluation script approximates on a grid.
        positive: the kind that must be found at the rate `tpr`. `in`, as above; `out`, as in OpenOOD and pytorch-ood:
            the share of in-distribution images refused when `tpr` of the others are.

    >>> fpr_at_tpr(torch.arange(20.), torch.tensor([0.5, 1., 3., 8.])).item()
    0.75
    """
    check_number("tpr", tpr, above=0, at_most=1)
    scores_in, scores_out = _by_positive(scores_in, scores_out, positive)
    if check_choice("convention", convention, CONVENTIONS) == "authors":
        return _fpr_around(_count(scores_in, scores_out), tpr, 0.0005)
    inside, outside = _pair(scores_in, scores_out)  # for one rate, only one of the two kinds need be sorted
    lowest = _sorted(inside)[..., _first_accepted(inside.shape[-1], tpr), None]
    return 1 - (outside < lowest).sum(-1).double() / outside.shape[-1]


def detection_error(
    scores_in: Scores, scores_out: Scores, tpr: float = 0.95, convention: str = "paper", positive: str = "in"
) -> Tensor:
    """Probability of a wrong decision when both kinds of image are equally likely (Section 4.3, measure 2).

    Args:
        scores_in: in-distribution scores [..., n].
        scores_out: out-of-distribution scores [..., m].
        tpr: the true positive rate at which it is read.
        convention: `paper`, 0.5 (1 - TPR) + 0.5 FPR at that rate; `authors`, the least value over all thresholds.
        positive: the kind of that rate, as in `fpr_at_tpr`.
    """
    counts = _count(*_by_positive(scores_in, scores_out, positive))
    check_number("tpr", tpr, above=0, at_most=1)
    n, m = counts.sorted_in.shape[-1], counts.sorted_out.shape[-1]
    missed = counts.in_below_in.double() / n
    accepted = 1 - counts.out_below_in.double() / m
    error = 0.5 * missed + 0.5 * accepted
    if check_choice("convention", convention, CONVENTIONS) == "paper":
        return error[..., _first_accepted(n, tpr)]
    return error.amin(-1).clamp(max=0.5)


def auroc(scores_in: Scores, scores_out: Scores) -> Tensor:
    """Probability that an in-distribution image scores above an out-of-distribution one, ties counting half."""
    return _auroc(_count(scores_in, scores_out))


def aupr_in(scores_in: Scores, scores_out: Scores, balanced: bool = False) -> Tensor:
    """Area under the precision-recall curve with in-distribution images as positives (average precision).

    Args:
        scores_in: in-distribution scores [..., n].
        scores_out: out-of-distribution scores [..., m].
        balanced: let both kinds weigh the same however many images there are of each, as the authors' code does.
    """
    return _aupr_in(_count(scores_in, scores_out), balanced)


def aupr_out(scores_in: Scores, scores_out: Scores, balanced: bool = False) -> Tensor:
    """Area under the precision-recall curve with out-of-distribution images as positives; arguments as of `aupr_in`."""
    return _aupr_out(_count(scores_in, scores_out), balanced)


def evaluate(
    scores_in: Scores, scores_out: Scores, tpr: float = 0.95, *, balanced: bool = False, positive: str = "in"
) -> dict[str, Tensor]:
    """All five measures of Table 2 by the paper's convention, from one sort: name to [...].

    Args:
        scores_in: in-distribution scores [..., n].
        scores_out: out-of-distribution scores [..., m].
        tpr: the true positive rate of the first two measures.
        balanced: of the last two, as in `aupr_in`.
        positive: of the first two, as in `fpr_at_tpr`; the areas are named by their kind and stay what they are.
    """
    if check_choice("positive", positive, POSITIVES) == "out":
        found = evaluate(*_by_positive(scores_in, scores_out, positive), tpr, balanced=balanced)
        return {name: found[_ROLES.get(name, name)] for name in METRICS}
    counts = _count(scores_in, scores_out)
    check_number("tpr", tpr, above=0, at_most=1)
    n, m = counts.sorted_in.shape[-1], counts.sorted_out.shape[-1]
    first = _first_accepted(n, tpr)
    fpr = 1 - counts.out_below_in[..., first].double() / m
    return {
        "fpr": fpr,
        "detection_error": 0.5 * counts.in_below_in[..., first].double() / n + 0.5 * fpr,
        "auroc": _auroc(counts),
        "aupr_in": _aupr_in(counts, balanced),
        "aupr_out": _aupr_out(counts, balanced),
    }


def roc_curve(scores_in: Scores, scores_out: Scores) -> tuple[Tensor, Tensor]:
    """The ROC curve's corners from (0, 0) to (1, 1): false and true positive rates, each [2 n + 2].

    Each in-distribution score has two, with the images above it accepted and with those at it as well. The area under
    the straight lines between them is `auroc`: the step between the two is diagonal where scores of both kinds are
    equal, and those count half.
    """
    counts = _count(scores_in, scores_out)
    n, m = counts.sorted_in.shape[-1], counts.sorted_out.shape[-1]
    in_upto_in = n - _below_itself(-counts.sorted_in.flip(-1)).flip(-1)

    def corners(above: Tensor, from_it: Tensor, count: int) -> Tensor:
        pairs = torch.stack([count - above, count - from_it], dim=-1).double().flip(-2).flatten(-2) / count
        pairs = pairs.cummax(-1).values  # of equal scores, the later ones stay where the first came to
        return torch.nn.functional.pad(torch.nn.functional.pad(pairs, (0, 1), value=1.0), (1, 0))

    return corners(counts.out_upto_in, counts.out_below_in, m), corners(in_upto_in, counts.in_below_in, n)


def precision_recall_curve(positives: Scores, negatives: Scores, balanced: bool = False) -> tuple[Tensor, Tensor]:
    """Recall and precision at each positive score, from the highest down, each [n].

    The sum of the precisions times what each adds to the recall is the average precision: `aupr_in` of (`scores_in`,
    `scores_out`); and `aupr_out` where the positives are minus `scores_out`, the negatives minus `scores_in`. Scores
    that are equal share one point.

    Args:
        positives: the scores [n] of the kind that is looked for, which should be the higher ones.
        negatives: those of the other kind [m].
        balanced: as in `aupr_in`.
    """
    counts = _count(positives, negatives)
    n, m = counts.sorted_in.shape[-1], counts.sorted_out.shape[-1]
    true, false = n - counts.in_below_in, m - counts.out_below_in
    precision = true / (true + false.double() * _weight(n, m, balanced))
    return (true.double() / n).flip(-1), precision.flip(-1)


def threshold_at_tpr(scores_in: Scores, tpr: float = 0.95, rounding: float | None = None) -> Tensor:
    """The threshold delta of Section 3: an image is in-distribution when its score is *above* it. [..., n] -> [...].

    It lies just below the score of the last image to be accepted, so that at least the share `tpr` is accepted.

    Args:
        scores_in: in-distribution scores [..., n].
        tpr: the share.
        rounding: how far a score may move when it is computed again, in another batch or on another device. The
            threshold then lies in the middle of the first gap, from that score downwards, which no two such moves
            close; of the widest, where there is none among the next 1 % of the scores. None: scores do not move.
    """
    scores = _sorted(_scores("scores_in", scores_in))
    n = scores.shape[-1]
    last = _first_accepted(n, check_number("tpr", tpr, above=0, at_most=1))
    if rounding is None:
        return torch.nextafter(scores[..., last], torch.full_like(scores[..., last], -math.inf))
    check_number("rounding", rounding, at_least=0)
    below = torch.cat([scores[..., :1] - max(4 * rounding, 1e-12), scores], dim=-1)[..., :-1]
    near = slice(max(0, last - max(1, n // 100)), last + 1)
    gaps = (scores - below)[..., near].flip(-1)  # the one just below the last to be accepted comes first
    wide = gaps > 2 * rounding
    first = torch.where(wide.any(-1), wide.to(torch.int8).argmax(-1), gaps.argmax(-1))
    return ((scores + below) / 2).gather(-1, (last - first)[..., None]).squeeze(-1)


def bootstrap(
    scores_in: Scores,
    scores_out: Scores,
    *,
    resamples: int = 1000,
    tpr: float = 0.95,
    seed: int = 0,
    block: int = 100,
    names: Sequence[str] = METRICS,
    balanced: bool = False,
    positive: str = "in",
) -> dict[str, Tensor]:
    """The five measures on resampled images, or some of them: name to [resamples].

    Both kinds of image are drawn with replacement. Equal seeds draw equal images, so the difference of two calls
    (ODIN and the baseline on the same images) is a paired bootstrap.

    Args:
        scores_in: in-distribution scores [n].
        scores_out: out-of-distribution scores [m].
        resamples: how many.
        tpr: the true positive rate of the first two measures.
        seed: of the draws.
        block: resamples held in memory at once.
        names: the measures; the first two of METRICS take less than half the time of all five.
        balanced: of the last two, as in `aupr_in`.
        positive: of the first two, as in `fpr_at_tpr`.
    """
    for name in names:
        check_choice("measure", name, METRICS)
    if check_choice("positive", positive, POSITIVES) == "out":
        pair, swapped = _by_positive(scores_in, scores_out, positive), [_ROLES.get(name, name) for name in names]
        found = bootstrap(*pair, resamples=resamples, tpr=tpr, seed=seed, block=block, names=swapped, balanced=balanced)
        return {name: found[_ROLES.get(name, name)] for name in names}
    check_number("tpr", tpr, above=0, at_most=1)
    check_number("resamples", resamples, at_least=1)
    check_number("block", block, at_least=1)
    counts = _count(scores_in, scores_out)
    if counts.sorted_in.ndim != 1:
        raise UserError(f"bootstrap got scores of {counts.sorted_in.ndim} dimensions", expected="one")
    order_in, order_out = (_scores("scores", scores).argsort() for scores in (scores_in, scores_out))
    generator = torch.Generator().manual_seed(seed)
    n, m = counts.sorted_in.shape[-1], counts.sorted_out.shape[-1]
    blocks = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        weights_in = _resampled(rows, n, generator).to(order_in.device).index_select(1, order_in)
        weights_out = _resampled(rows, m, generator).to(order_in.device).index_select(1, order_out)
        blocks.append(_weighted(counts, weights_in, weights_out, tpr, names, balanced))
    return {name: torch.cat([part[name] for part in blocks]) for name in names}


def interval(samples: Scores, level: float = 0.95) -> tuple[float, float]:
    """The central interval of bootstrap samples [resamples] that holds the share `level`, in (0, 1)."""
    tail = (1 - check_number("level", level, above=0, below=1)) / 2
    low, high = torch.quantile(_scores("samples", samples), torch.tensor([tail, 1 - tail], dtype=torch.float64))
    return low.item(), high.item()


def _scores(name: str, scores: Scores) -> Tensor:
    scores = devices.double(scores).detach()
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise UserError(f"{name} is empty", expected="at least one score")
    if not torch.isfinite(scores).all():
        raise UserError(f"{name} holds NaN or infinite values", expected="finite scores")
    return scores


def _by_positive(scores_in: Scores, scores_out: Scores, positive: str) -> tuple[Scores, Scores]:
    """The scores of the positive kind first, the higher ones those that are more of it."""
    if check_choice("positive", positive, POSITIVES) == "in":
        return scores_in, scores_out
    return -_scores("scores_out", scores_out), -_scores("scores_in", scores_in)


def _pair(scores_in: Scores, scores_out: Scores) -> tuple[Tensor, Tensor]:
    scores_in, scores_out = _scores("scores_in", scores_in), _scores("scores_out", scores_out)
    if scores_in.shape[:-1] != scores_out.shape[:-1]:
        raise UserError(
            f"scores_in is {list(scores_in.shape)} and scores_out {list(scores_out.shape)}",
            expected="equal leading dimensions",
        )
    return scores_in, scores_out


def _count(scores_in: Scores, scores_out: Scores) -> _Counts:
    scores_in, scores_out = _pair(scores_in, scores_out)
    sorted_in, sorted_out = _sorted(scores_in), _sorted(scores_out)
    m = sorted_out.shape[-1]
    # One search; the rest follows from it. The out-of-distribution score j is below the in-distribution score i if and
    # only if j < out_below_in[i], and where it stands is the first that can be equal to it.
    out_below_in = torch.searchsorted(sorted_out, sorted_in)
    out_upto_out = m - _below_itself(-sorted_out.flip(-1)).flip(-1)
    nearest = out_below_in.clamp(max=m - 1)
    equal = sorted_out.gather(-1, nearest) == sorted_in
    steps = out_below_in.new_zeros(*out_below_in.shape[:-1], m + 1)
    steps.scatter_add_(-1, out_below_in, torch.ones_like(out_below_in))
    return _Counts(
        in_below_in=_below_itself(sorted_in),
        out_below_in=out_below_in,
        out_upto_in=torch.where(equal, out_upto_out.gather(-1, nearest), out_below_in),
        out_upto_out=out_upto_out,
        in_upto_out=steps.cumsum(-1)[..., :-1],
        sorted_in=sorted_in,
        sorted_out=sorted_out,
    )


def _sorted(scores: Tensor) -> Tensor:
    """The scores in ascending order; on a CPU by NumPy, which sorts with vector instructions."""
    if scores.device.type == "cpu":
        return torch.from_numpy(np.sort(scores.numpy(), axis=-1))
    return torch.sort(scores, dim=-1).values


def _below_itself(ordered: Tensor) -> Tensor:
    """For each of the scores in ascending order [..., n], how many of them are strictly below it."""
    first = torch.ones_like(ordered, dtype=torch.bool)  # of those equal to it
    torch.gt(ordered[..., 1:], ordered[..., :-1], out=first[..., 1:])
    places = torch.arange(ordered.shape[-1], device=ordered.device)
    return torch.where(first, places, 0).cummax(-1).values


def _first_accepted(n: int, tpr: float) -> int:
    """Index, in ascending order, of the lowest in-distribution score that must be accepted."""
    return n - max(1, math.ceil(tpr * n - 1e-9))


def _auroc(counts: _Counts) -> Tensor:
    m = counts.sorted_out.shape[-1]
    return (counts.out_below_in + counts.out_upto_in).double().mean(-1) / (2 * m)


def _aupr_in(counts: _Counts, balanced: bool) -> Tensor:
    # Each positive adds 1/n of recall at the precision of its own threshold, so the area is the mean precision.
    n, m = counts.sorted_in.shape[-1], counts.sorted_out.shape[-1]
    true, false = n - counts.in_below_in, m - counts.out_below_in
    return (true / (true + false.double() * _weight(n, m, balanced))).mean(-1)


def _aupr_out(counts: _Counts, balanced: bool) -> Tensor:
    n, m = counts.sorted_in.shape[-1], counts.sorted_out.shape[-1]
    true, false = counts.out_upto_out, counts.in_upto_out
    return (true / (true + false.double() * _weight(m, n, balanced))).mean(-1)


def _weight(positives: int, negatives: int, balanced: bool) -> float:
    """What a negative image weighs where a positive one weighs 1."""
    return positives / negatives if balanced else 1.0


def _fpr_around(counts: _Counts, tpr: float, width: float) -> Tensor:
    """FPR averaged over the thresholds, uniform in score, whose TPR is within `width` of `tpr`."""
    n = counts.sorted_in.shape[-1]
    least, most = math.ceil((tpr - width) * n - 1e-9), math.floor((tpr + width) * n + 1e-9)
    if least > most:  # no threshold comes that close: too few images
        raise UserError(f"no threshold has a TPR within {width} of {tpr} with {n} in-distribution images")
    low = counts.sorted_in[..., max(n - most - 1, 0), None]
    high = counts.sorted_in[..., n - max(least, 1), None]
    accepted = (counts.sorted_out - low) / (high - low)
    return torch.where(high > low, accepted.clamp(0, 1), (counts.sorted_out >= high).double()).mean(-1)


def _resampled(rows: int, count: int, generator: torch.Generator) -> Tensor:
    """How often each of `count` images is drawn, in `rows` draws of `count` with replacement: [rows, count]."""
    drawn = torch.randint(count, (rows, count), generator=generator)
    return torch.zeros(rows, count).scatter_add_(1, drawn, torch.ones(rows, count))


def _weighted(
    counts: _Counts,
    weights_in: Tensor,
    weights_out: Tensor,
    tpr: float,
    names: Sequence[str] = METRICS,
    balanced: bool = False,
) -> dict[str, Tensor]:
    """The measures `names` when the sorted image i counts `weights[:, i]` times (weights are whole numbers)."""
    n, m = weights_in.shape[1], weights_out.shape[1]
    # Column j: how many resampled images are among the j lowest. Whole numbers below 2**24 are exact in float32.
    below_in = torch.nn.functional.pad(weights_in.cumsum(1), (1, 0))
    below_out = torch.nn.functional.pad(weights_out.cumsum(1), (1, 0))
    # The threshold: the highest score with at least the wanted number of images at or above it.
    rejectable = torch.full((len(weights_in), 1), float(_first_accepted(n, tpr)), device=below_in.device)
    threshold = torch.searchsorted(below_in[:, 1:].contiguous(), rejectable, right=True)
    missed = below_in.gather(1, counts.in_below_in[threshold]).squeeze(1).double() / n
    fpr = 1 - below_out.gather(1, counts.out_below_in[threshold]).squeeze(1).double() / m
    found = {"fpr": fpr, "detection_error": 0.5 * missed + 0.5 * fpr}
    if not found.keys() >= set(names):
        out_below_in = below_out.index_select(1, counts.out_below_in)
        out_upto_in = below_out.index_select(1, counts.out_upto_in)
        found["auroc"] = (weights_in * (out_below_in + out_upto_in)).sum(1, dtype=torch.float64) / (2 * n * m)
        true = n - below_in.index_select(1, counts.in_below_in)
        false = (m - out_below_in) * _weight(n, m, balanced)
        found["aupr_in"] = _precisions(weights_in, true, false).sum(1, dtype=torch.float64) / n
        true = below_out.index_select(1, counts.out_upto_out)
        false = below_in.index_select(1, counts.in_upto_out) * _weight(m, n, balanced)
        found["aupr_out"] = _precisions(weights_out, true, false).sum(1, dtype=torch.float64) / m
    return found


def _precisions(weights: Tensor, true: Tensor, false: Tensor) -> Tensor:
    """The precision at each image's own threshold, times its weight: 0 where nothing was drawn from there on."""
    return (weights * true / (true + false)).nan_to_num_(0.0)
