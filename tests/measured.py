"""Made-up measurements, in the columns of `experiments.detection`."""

import math

import pandas as pd
import torch

from odinlib import experiments, metrics, moments, odin, reference, store

DENSENET = "densenet-bc-100-12"


def rows(network, id_set, ood_set, values, width=0.5):
    """Measured rows with the given (method, metric) values and intervals of `width` to either side."""
    return pd.DataFrame(
        {
            **{"network": network, "id_set": id_set, "ood_set": ood_set, "method": method, "metric": metric},
            **{"value": value, "low": value - width, "high": value + width},
            **{"trainings": 1, "mean": value, "spread": math.nan},
        }
        for (method, metric), value in values.items()
    )


def clean(responses):
    """What `store.clean` makes of responses with all their logits."""
    logits = torch.from_numpy(responses.logits)
    found = logits.argmax(1).numpy(), moments.u1(logits).numpy(), moments.u2(logits).numpy()
    return store.Clean(*found, responses.gradient_norm_1, responses.gradient_norm_1000, responses.labels)


def unperturbed(responses, settings):
    """What `store.scores` makes of them at settings without perturbation [A, n]."""
    assert all(epsilon == 0 for _, epsilon in settings)
    return torch.stack([odin.margin_score(torch.from_numpy(responses.logits), t) for t, _ in settings])


def papers(network, id_set, ood_set):
    """The paper's own numbers of one pair, as if measured."""
    keys = [(method, metric) for metric in metrics.METRICS for method in experiments.METHODS]
    return {key: float(reference.lookup(network, id_set, ood_set, *key)) for key in keys}
