"""Ours beside the paper's printed numbers: the difference and a verdict, whose rule is stated once, in `verdict`."""

import math

import pandas as pd

from odinlib import reference
from odinlib.profiles import Profile

NEAR = 2.0  # percentage points
_PRINTED = {"stated": "odin"}  # one number is printed for ODIN, whatever setting ours was measured at
_MEASURED = (
    *("network", "id_set", "ood_set", "method", "metric", "value", "low", "high"),
    *("temperature", "epsilon", "images_in", "images_out"),
)


def verdict(ours: float, low: float, high: float, printed: str) -> str:
    """How a measured value stands to the printed one.

    `reproduced`: the printed value lies in our 95 % interval, widened by half a unit of its last digit;
    `near`: it lies within two points of ours; otherwise `differs`.

    >>> verdict(34.1, 33.1, 35.0, "34.7"), verdict(30.0, 29.5, 30.5, "31.9"), verdict(30.0, 29.0, 31.0, "40")
    ('reproduced', 'near', 'differs')
    """
    value = float(printed)
    rounding = 0.5 * 10.0 ** -len(printed.partition(".")[2])
    if low - rounding <= value <= high + rounding:
        return "reproduced"
    return "near" if abs(ours - value) <= NEAR else "differs"


def is_the_papers(profile: Profile, *names: str) -> bool:
    """Whether every network and set named is the paper's own and not one that stands for it."""
    return all(profile.paper_name(name) == name for name in names)


def comparison(profile: Profile, measured: pd.DataFrame, table: int | None = None) -> pd.DataFrame:
    """Paper, ours, difference, interval and verdict for every measured number.

    Where a network or a set only stands for the paper's, values cannot be compared; the verdict then says
    whether ODIN moves the measure from the baseline in the direction that the paper prints.

    Args:
        profile: says whose role each network and set plays.
        measured: rows of `experiments.detection`.
        table: the paper's table to look in, where a number is printed in several.

    Returns:
        The rows of `measured` with `paper` (as printed, or NaN), `difference` and `verdict`.
    """
    if measured.empty:
        return pd.DataFrame(columns=[*_MEASURED, "paper", "difference", "verdict"])
    baseline = measured[measured.method == "baseline"].set_index(["network", "id_set", "ood_set", "metric"]).value
    rows = []
    for row in measured.to_dict("records"):
        key = (row["network"], row["id_set"], row["ood_set"])
        network, id_set, ood_set = (profile.paper_name(name) for name in key)
        printed, printed_baseline = (
            reference.lookup(network, id_set, ood_set, method, row["metric"], table)
            for method in (_PRINTED.get(row["method"], row["method"]), "baseline")
        )
        if printed is None:
            rows.append({**row, "paper": None, "difference": math.nan, "verdict": "not in the paper"})
            continue
        if is_the_papers(profile, *key):
            found = verdict(row["value"], row["low"], row["high"], printed)
        elif row["method"] == "baseline" or printed_baseline is None:
            found = "not comparable"
        else:
            ours = row["value"] - baseline.get((*key, row["metric"]), math.nan)
            same = _sign(ours) == _sign(float(printed) - float(printed_baseline))
            found = "same direction" if same else "other direction"
        rows.append({**row, "paper": printed, "difference": row["value"] - float(printed), "verdict": found})
    return pd.DataFrame(rows)


def _sign(number: float) -> int:
    return int(number > 0) - int(number < 0)
