"""The same scores by the conventions of others: what a number means depends on who counted.

Section 4.3 takes in-distribution images as the positive kind. Much later work takes the other one, reads the rate at
another threshold, or integrates otherwise; and some software changes the scores before it counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score
from torch import Tensor

from odinlib import metrics, odin

Measured = dict[str, float]


@dataclass(frozen=True)
class Convention:
    """How somebody counts."""

    who: str
    positive: str  # `in` or `out`
    rate: str  # where the FPR is read
    error: str  # the detection error
    areas: str  # under precision-recall curves
    measure: Callable[[Tensor, Tensor, float], Measured]


def _paper(scores_in: Tensor, scores_out: Tensor, tpr: float) -> Measured:
    return _numbers(metrics.evaluate(scores_in, scores_out, tpr, balanced=True))


def _authors(scores_in: Tensor, scores_out: Tensor, tpr: float) -> Measured:
    found = metrics.evaluate(scores_in, scores_out, tpr, balanced=True)
    for name, measure in (("fpr", metrics.fpr_at_tpr), ("detection_error", metrics.detection_error)):
        found[name] = measure(scores_in, scores_out, tpr, convention="authors")
    return _numbers(found)


def _foreign_positive(scores_in: Tensor, scores_out: Tensor, tpr: float) -> Measured:
    found = _numbers(metrics.evaluate(scores_in, scores_out, tpr, positive="out"))
    return {**found, **_trapezoids(scores_in, scores_out)}


def _rounded_down(scores_in: Tensor, scores_out: Tensor, tpr: float) -> Measured:
    accepted = int(np.floor(tpr * len(scores_in)))
    threshold = scores_in.sort().values[-accepted]
    fpr = 100 * (scores_out > threshold).double().mean().item()
    area = 100 * metrics.auroc(scores_in, scores_out).item()
    return {"fpr": fpr, "auroc": area, **_trapezoids(scores_in, scores_out)}


def _nearest(scores_in: Tensor, scores_out: Tensor, tpr: float) -> Measured:
    fprs, tprs = metrics.roc_curve(scores_in, scores_out)
    place = (tprs - tpr).abs().argmin()
    error = 100 * metrics.detection_error(scores_in, scores_out, convention="authors").item()
    return {**_paper(scores_in, scores_out, tpr), "fpr": 100 * fprs[place].item(), "detection_error": error}


#: Who counts how. Read in their sources: the authors' released `calMetric.py`; `metrics.py` of OpenOOD's evaluators,
#: of its first version and of 1.5; `pytorch_ood.metrics` 0.4.0; `calculate_log.py` of deep_Mahalanobis_detector.
CONVENTIONS = (
    Convention("the paper's text, and this book", "in", "first at or above", "at that rate", "mean, balanced", _paper),
    Convention("the authors' released script", "in", "mean of those near", "least", "mean, balanced", _authors),
    Convention("OpenOOD 1.5, pytorch-ood 0.4", "out", "first at or above", "–", "trapezoids", _foreign_positive),
    Convention("OpenOOD 1.0", "in", "last below, strict", "–", "trapezoids", _rounded_down),
    Convention("deep Mahalanobis detector", "in", "nearest", "least", "–", _nearest),
)


def conventions(scores_in: Tensor, scores_out: Tensor, tpr: float = 0.95) -> pd.DataFrame:
    """The measures of one pair of sets by every convention.

    Args:
        scores_in: in-distribution scores [n].
        scores_out: out-of-distribution scores [m].
        tpr: the true positive rate of the first two measures.

    Returns:
        A row for each of `CONVENTIONS`: who, positive, rate, error, areas, and the measures in percent, NaN where a
        convention has none.
    """
    scores_in, scores_out = scores_in.double(), scores_out.double()
    rows = []
    for one in CONVENTIONS:
        found = one.measure(scores_in, scores_out, tpr)
        lacking = {"detection_error": one.error, "aupr_in": one.areas, "aupr_out": one.areas}
        numbers = {name: np.nan if lacking.get(name) == "–" else found[name] for name in metrics.METRICS}
        rows.append({**{key: getattr(one, key) for key in ("who", "positive", "rate", "error", "areas")}, **numbers})
    return pd.DataFrame(rows)


def softmax_in_float32(
    scores_in: Tensor, scores_out: Tensor, temperature: float, classes: int, tpr: float = 0.95
) -> pd.DataFrame:
    """What is lost where the softmax score is kept in float32, as most software does.

    Near 1 float32 has no number between 1 - 6e-8 and 1, and at a large temperature all scores crowd at 1 / K; images
    that the logits tell apart then tie. Ties count half in the AUROC, and all at once at a threshold.

    Args:
        scores_in: margin scores of in-distribution images [n], in float64.
        scores_out: those of out-of-distribution images [m].
        temperature: T, of these scores.
        classes: K.
        tpr: the true positive rate of the first two measures.

    Returns:
        Two rows, `float32` and `exact`: the measures in percent, the share of all scores that are exactly `one` (in
        percent), and how many `distinct` ones there are.
    """
    pair = [scores.double() for scores in (scores_in, scores_out)]
    rounded = [odin.score_from_margin(scores, temperature, classes).float().double() for scores in pair]
    rows = {}
    for name, (inside, outside) in {"float32": rounded, "exact": pair}.items():
        both = torch.cat([inside, outside])
        ones = (both == 1).double().mean().item() if name == "float32" else 0.0
        rows[name] = {**_paper(inside, outside, tpr), "one": 100 * ones, "distinct": len(both.unique())}
    return pd.DataFrame(rows).T


def auroc_through_a_sigmoid(scores_in: Tensor, scores_out: Tensor) -> float:
    """AUROC in percent as torchmetrics counts it: scores that are not all within [0, 1] go through a sigmoid first.

    In float32 the sigmoid of everything above 17 is 1, so that the order of the most certain images is lost.
    """
    scores = torch.cat([scores_in, scores_out]).float()
    if ((scores < 0) | (scores > 1)).any():
        scores = scores.sigmoid()
    labels = np.r_[np.ones(len(scores_in)), np.zeros(len(scores_out))]
    return 100 * float(roc_auc_score(labels, scores.numpy()))


def _trapezoids(scores_in: Tensor, scores_out: Tensor) -> Measured:
    """Areas under precision-recall curves by straight lines between their points, in percent."""
    labels = np.r_[np.ones(len(scores_in)), np.zeros(len(scores_out))]
    scores = torch.cat([scores_in, scores_out]).numpy()
    found = {}
    for name, sign, positive in (("aupr_in", 1, labels), ("aupr_out", -1, 1 - labels)):
        precision, recall, _ = precision_recall_curve(positive, sign * scores)
        found[name] = 100 * float(auc(recall, precision))
    return found


def _numbers(found: dict[str, Tensor]) -> Measured:
    return {name: 100 * value.item() for name, value in found.items()}
