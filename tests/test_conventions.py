"""The same scores by other conventions: each against a plain count, and the traps that are told of are real."""

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

from odinlib import metrics, odin
from odinlib.measure import conventions

RANDOM = torch.Generator().manual_seed(0)
IN, OUT = torch.randn(400, generator=RANDOM) + 1.5, torch.randn(300, generator=RANDOM) * 1.3
FOUND = conventions.conventions(IN, OUT).set_index("who")
LABELS, SCORES = np.r_[np.ones(400), np.zeros(300)], torch.cat([IN, OUT]).double().numpy()


def row(word):
    """The one convention whose name has `word` in it."""
    (name,) = (name for name in FOUND.index if word in name)
    return FOUND.loc[name]


def test_this_books_own_is_that_of_the_measures():
    ours = metrics.evaluate(IN, OUT, balanced=True)
    assert all(row("the paper's text")[name] == pytest.approx(100 * ours[name].item()) for name in metrics.METRICS)
    assert row("released script").detection_error < row("the paper's text").detection_error


def test_foreign_images_as_the_positive_kind():
    fprs, tprs, _ = roc_curve(1 - LABELS, -SCORES)
    assert row("OpenOOD 1.5").fpr == pytest.approx(100 * fprs[np.argmax(tprs >= 0.95)])
    assert abs(row("OpenOOD 1.5").fpr - row("the paper's text").fpr) > 5  # it is another quantity
    for name, labels, sign in (("aupr_in", LABELS, 1), ("aupr_out", 1 - LABELS, -1)):
        precision, recall, _ = precision_recall_curve(labels, sign * SCORES)
        assert row("OpenOOD 1.5")[name] == row("OpenOOD 1.0")[name] == pytest.approx(100 * auc(recall, precision))


def test_thresholds_of_others():
    fprs, tprs, _ = roc_curve(LABELS, SCORES, drop_intermediate=False)
    assert row("Mahalanobis").fpr == pytest.approx(100 * fprs[np.abs(tprs - 0.95).argmin()])
    threshold = np.sort(SCORES[:400])[-int(0.95 * 400)]
    assert row("OpenOOD 1.0").fpr == pytest.approx(100 * (SCORES[400:] > threshold).mean())
    assert np.isnan(row("Mahalanobis").aupr_in) and np.isnan(row("OpenOOD 1.5").detection_error)


def test_a_sigmoid_takes_the_order_of_the_most_certain():
    far = torch.linspace(20, 30, 100)
    kept = conventions.auroc_through_a_sigmoid(far / 40 + 0.2, far / 40)
    assert kept == pytest.approx(
        100 * roc_auc_score(np.r_[np.ones(100), np.zeros(100)], np.r_[far / 40 + 0.2, far / 40])
    )
    assert conventions.auroc_through_a_sigmoid(far + 5, far) == pytest.approx(50)


def test_softmax_in_float32_ties_what_logits_tell_apart():
    logits = torch.randn(500, 10, generator=RANDOM, dtype=torch.float64) * 12
    pair = inside, outside = [odin.margin_score(one, 1.0) for one in (logits[:250], 0.8 * logits[250:])]
    found = conventions.softmax_in_float32(inside, outside, 1.0, 10)
    softmax = torch.cat([logits[:250], 0.8 * logits[250:]]).softmax(-1).amax(-1).float()
    assert found.one["float32"] == pytest.approx(100 * (softmax == 1).double().mean().item())
    assert found.distinct["exact"] == 500 > found.distinct["float32"] and found.one["float32"] > 1
    exact = 100 * metrics.evaluate(*pair, balanced=True)["aupr_in"].item()
    assert found.aupr_in["exact"] == pytest.approx(exact) and found.aupr_in["float32"] != exact
