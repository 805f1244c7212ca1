"""Checks of the settings that the paper chose (Tables 4 to 9 and Appendix A.2)."""

import math
from collections.abc import Sequence

import pandas as pd

from odinlib.reference.arithmetic import PAIR, SLACK, place
from odinlib.reference.findings import Check, Finding


def check_off_grid(cells: pd.DataFrame, metric: str, grid: Sequence[float]) -> Check:
    """Which chosen settings (``metric`` "epsilon" or "temperature") were not among the values searched?"""
    chosen = cells[cells["metric"] == metric]
    findings = []
    for _, row in chosen.iterrows():
        nearest = min(grid, key=lambda value: abs(value - row["value"]))
        if abs(nearest - row["value"]) > SLACK:
            findings.append(
                Finding(
                    f"{metric} off grid",
                    "contradiction",
                    place(row),
                    row["printed"],
                    f"{nearest:g}",
                    row["value"] - nearest,
                    f"The search of Section 4.4 never tried this value; the nearest that it tried is {nearest:g}.",
                )
            )
    return Check(f"{metric} off grid", f"Is every chosen {metric} among the values searched?", len(chosen), findings)


def settings(cells: pd.DataFrame) -> pd.DataFrame:
    """The chosen T and epsilon of every pair, NaN where not printed: network, sets, temperature, epsilon."""
    chosen = cells[cells["metric"].isin(["temperature", "epsilon"])]
    wide = chosen.pivot(index=PAIR[1:], columns="metric", values="value")
    return wide.reindex(columns=["temperature", "epsilon"]).reset_index()


def check_unreported(cells: pd.DataFrame) -> Check:
    """Which results with ODIN have no printed setting?"""
    results = cells[(cells["method"] == "odin") & (cells["metric"] == "fpr") & (cells["tuning_set"] == "")]
    both = results.merge(settings(cells), on=PAIR[1:], how="left")
    missing = both[both["temperature"].isna() | both["epsilon"].isna()]
    findings = [
        Finding(
            "setting unreported",
            "imprecision",
            place(row),
            row["printed"],
            "no T or ε",
            math.nan,
            "No table and no sentence gives the temperature and magnitude behind this row.",
        )
        for _, row in missing.iterrows()
    ]
    return Check("setting unreported", "Is there a setting for every result with ODIN?", len(results), findings)


def check_unscaled(cells: pd.DataFrame) -> Check:
    """For which pairs was T = 1 chosen, that is no temperature scaling at all?"""
    chosen = cells[cells["metric"] == "temperature"]
    findings = [
        Finding(
            "no scaling chosen",
            "overstatement",
            place(row),
            row["printed"],
            "above 1",
            math.nan,
            "Section 5 shows for CIFAR-10 that a higher temperature helps; here the search preferred none at all.",
        )
        for _, row in chosen[chosen["value"] == 1].iterrows()
    ]
    return Check("no scaling chosen", "Does every pair use a temperature above 1?", len(chosen), findings)


def check_unperturbed(cells: pd.DataFrame) -> Check:
    """For which pairs was epsilon = 0 chosen, that is no perturbation at all?"""
    chosen = cells[cells["metric"] == "epsilon"]
    findings = [
        Finding(
            "no perturbation chosen",
            "remark",
            place(row),
            row["printed"],
            "above 0",
            math.nan,
            "The gain over the baseline is that of the temperature alone; the perturbation adds nothing here.",
        )
        for _, row in chosen[chosen["value"] == 0].iterrows()
    ]
    return Check("no perturbation chosen", "Does every pair use a perturbation?", len(chosen), findings)
