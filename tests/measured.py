"""Made-up measurements, in the columns of `experiments.detection`."""

import pandas as pd

from odinlib import experiments, metrics, reference

DENSENET = "densenet-bc-100-12"


def rows(network, id_set, ood_set, values, width=0.5):
    """Measured rows with the given (method, metric) values and intervals of `width` to either side."""
    return pd.DataFrame(
        {
            **{"network": network, "id_set": id_set, "ood_set": ood_set, "method": method, "metric": metric},
            **{"value": value, "low": value - width, "high": value + width},
        }
        for (method, metric), value in values.items()
    )


def papers(network, id_set, ood_set):
    """The paper's own numbers of one pair, as if measured."""
    keys = [(method, metric) for metric in metrics.METRICS for method in experiments.METHODS]
    return {key: float(reference.lookup(network, id_set, ood_set, *key)) for key in keys}
