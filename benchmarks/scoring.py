"""The five measures at 210 settings against scikit-learn, one setting after the other."""

import time
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from odinlib import metrics


def by_scikit_learn(scores_in: Tensor, scores_out: Tensor, tpr: float = 0.95) -> dict[str, float]:
    labels = np.r_[np.ones(len(scores_in)), np.zeros(len(scores_out))]
    scores = torch.cat([scores_in, scores_out]).numpy()
    fprs, tprs, _ = roc_curve(labels, scores, drop_intermediate=False)
    first = np.flatnonzero(tprs >= tpr - 1e-12)[0]
    return {
        "fpr": fprs[first],
        "detection_error": 0.5 * (1 - tprs[first]) + 0.5 * fprs[first],
        "auroc": roc_auc_score(labels, scores),
        "aupr_in": average_precision_score(labels, scores),
        "aupr_out": average_precision_score(1 - labels, -scores),
    }


def measure(settings: int, images: int, rounds: int, sampled: int = 5) -> dict[str, Any]:
    """Seconds for all settings, of scikit-learn from a sample of them, and of 1,000 bootstrap resamples of a pair."""
    generator = torch.Generator().manual_seed(0)
    scores_in = torch.randn(settings, images, generator=generator).double() + 2
    scores_out = torch.randn(settings, images, generator=generator).double()
    ours, theirs, bootstrap, difference = [], [], [], 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        found = metrics.evaluate(scores_in, scores_out)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        reference = [by_scikit_learn(scores_in[i], scores_out[i]) for i in range(sampled)]
        theirs.append((time.perf_counter() - start) / sampled * settings)
        start = time.perf_counter()
        metrics.bootstrap(scores_in[0], scores_out[0], resamples=1000)
        bootstrap.append(time.perf_counter() - start)
        for i, each in enumerate(reference):
            difference = max(difference, *(abs(each[name] - found[name][i].item()) for name in metrics.METRICS))
    return {
        "settings": settings,
        "images": images,
        "sampled": sampled,
        "engine": ours,
        "scikit_learn": theirs,
        "bootstrap": bootstrap,
        "difference": difference,
    }
