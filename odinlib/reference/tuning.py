"""Checks of the tables across tuning sets (Tables 10 and 11)."""

import math
from collections.abc import Iterator

import pandas as pd

from odinlib.reference.arithmetic import PAIR, SLACK, half_unit, name_table, place
from odinlib.reference.findings import Check, Finding
from odinlib.reference.printed import title
from odinlib.reference.settings import settings


def check_headings(cells: pd.DataFrame) -> Check:
    """Which column headings of Tables 10 and 11 stand over two columns?"""
    tuned = cells[cells["tuning_heading"] != ""]
    findings = []
    for (table, heading), sets in tuned.groupby(["table", "tuning_heading"])["tuning_set"].unique().items():
        if len(sets) > 1:
            names = " and ".join(title(name) for name in sets)
            findings.append(
                Finding(
                    "duplicate heading",
                    "imprecision",
                    name_table(table),
                    heading,
                    names,
                    math.nan,
                    f"Two columns carry one heading; from their order and diagonal they are {names}.",
                )
            )
    checked = len(tuned.drop_duplicates(["table", "tuning_set"]))
    return Check("duplicate heading", "Does every column have a heading of its own?", checked, findings)


def check_tuning_sets(cells: pd.DataFrame, stated: int) -> Check:
    """Is the stated number of tuning sets the number of columns of Tables 10 and 11?"""
    tuned = cells[cells["tuning_set"] != ""].groupby("table", sort=False)["tuning_set"].nunique()
    findings = [
        Finding(
            "number of tuning sets",
            "imprecision",
            f"Appendix H and {name_table(str(name))}",
            str(stated),
            str(count),
            stated - count,
            f"The text and Figure 14 count {stated} sets to tune on, the table has {count} columns.",
        )
        for name, count in tuned.items()
        if count != stated
    ]
    return Check("number of tuning sets", "Are there as many tuning sets as stated?", len(tuned), findings)


def _disagreements(tuned: pd.DataFrame, main: pd.DataFrame) -> Iterator[tuple[pd.Series, float]]:
    """Cells of Tables 10 and 11 at the main table's own settings, where the two differ."""
    own = tuned[(tuned["tuning_set"] == tuned["ood_set"]) & (tuned["metric"] == "fpr")]
    rates = main[(main["metric"] == "fpr") & (main["tuning_set"] == "")]
    rates = rates.set_index(["network", "id_set", "ood_set", "method"])["value"]
    for _, row in own.iterrows():
        key = (row["network"], row["id_set"], row["ood_set"], row["method"])
        if key in rates.index and abs(row["value"] - rates[key]) > SLACK:
            yield row, float(rates[key])


def check_across_tables(cells: pd.DataFrame, images: int = 9_000) -> Check:
    """Do Tables 10 and 11, tuned and tested on one set, repeat the main tables?

    Args:
        cells: tidy cells.
        images: test images of each kind, for the standard error that the explanation quotes.
    """
    tuned, main = cells[cells["tuning_set"] != ""], cells[cells["table"].isin(["2", "3", "12"])]
    own = tuned[(tuned["tuning_set"] == tuned["ood_set"]) & (tuned["metric"] == "fpr")]
    twins = {"gaussian": "uniform", "uniform": "gaussian"}
    findings = []
    for row, other in _disagreements(tuned, main):
        rate = other / 100
        error = 100 * math.sqrt(rate * (1 - rate) / images)
        twin = main[(main["metric"] == "fpr") & (main["ood_set"] == twins.get(row["ood_set"], ""))]
        twin = twin[(twin["network"] == row["network"]) & (twin["id_set"] == row["id_set"])]
        swapped = row["value"] in twin[twin["method"] == row["method"]]["value"].to_list()
        source = "prints this rate for the other noise set" if swapped else "tests the same network on the same set"
        rounding = abs(row["value"] - other) <= 2 * half_unit(row["printed"]) + SLACK
        findings.append(
            Finding(
                "swapped rows" if swapped else "tables disagree",
                "imprecision" if rounding else "contradiction",
                place(row),
                row["printed"],
                f"{other:.1f}",
                row["value"] - other,
                f"The main table has {other:.1f} % here and {source}; over {images:,} images such a rate "
                f"has a standard error of {error:.2f} points.",
            )
        )
    return Check("tables disagree", "Do Tables 10 and 11 repeat Tables 2 and 3?", len(own), findings)


def _tuned(cells: pd.DataFrame, method: str) -> pd.DataFrame:
    return cells[(cells["tuning_set"] != "") & (cells["metric"] == "fpr") & (cells["method"] == method)]


def check_baseline_tuned(cells: pd.DataFrame) -> Check:
    """Does the baseline, which has nothing to tune, depend on the tuning set?"""
    groups = _tuned(cells, "baseline").groupby(PAIR, sort=False)
    findings = []
    for _, group in groups:
        if group["value"].nunique() > 1:
            row = group.iloc[0].copy()
            row["tuning_set"] = ""
            values = group["value"]
            findings.append(
                Finding(
                    "baseline depends on tuning",
                    "contradiction",
                    place(row),
                    " and ".join(sorted(set(group["printed"]))),
                    "one rate",
                    values.max() - values.min(),
                    "The baseline has no parameter, so that its rate cannot depend on the tuning set.",
                )
            )
    question = "Is the baseline the same for every tuning set?"
    return Check("baseline depends on tuning", question, len(groups), findings)


def with_settings(cells: pd.DataFrame) -> pd.DataFrame:
    """ODIN's cells of Tables 10 and 11 with the T and epsilon that Tables 4 to 7 give for the tuning set."""
    chosen = settings(cells).rename(columns={"ood_set": "tuning_set"})
    return _tuned(cells, "odin").merge(chosen, on=["network", "id_set", "tuning_set"])


def check_same_setting(cells: pd.DataFrame) -> Check:
    """Do tuning sets with one and the same setting give one and the same rate?"""
    groups = with_settings(cells).groupby([*PAIR, "temperature", "epsilon"], sort=False)
    findings = []
    for (_, _, _, _, temperature, epsilon), group in groups:
        if group["value"].nunique() > 1:
            row = group.iloc[0]
            findings.append(
                Finding(
                    "same setting",
                    "contradiction",
                    place(row),
                    " and ".join(sorted(set(group["printed"]))),
                    "one rate",
                    group["value"].max() - group["value"].min(),
                    f"T = {temperature:g} and ε = {epsilon:g} were chosen on each of these sets.",
                )
            )
    return Check("same setting", "Does one setting give one rate in Tables 10 and 11?", len(groups), findings)


def check_own_best(cells: pd.DataFrame) -> Check:
    """Is every test set detected best with the setting that was chosen on that very set?"""
    groups = _tuned(cells, "odin").groupby(PAIR, sort=False)
    findings = []
    for _, group in groups:
        own = group[group["tuning_set"] == group["ood_set"]]
        best = group.loc[group["value"].idxmin()]
        if len(own) and best["value"] < own["value"].iloc[0] - SLACK:
            findings.append(
                Finding(
                    "own setting not best",
                    "remark",
                    place(own.iloc[0]),
                    own["printed"].iloc[0],
                    best["printed"],
                    own["value"].iloc[0] - best["value"],
                    f"The setting chosen on {title(best['tuning_set'])} detects this set better than its own.",
                )
            )
    return Check("own setting not best", "Is each set's own setting the best for it?", len(groups), findings)


def check_smooth(cells: pd.DataFrame, images: int = 9_000, errors: float = 2.0) -> Check:
    """Where does a rate stand above both neighbours in epsilon by more than its sampling error?

    Tables 10 and 11 give the FPR of one set at several magnitudes. It falls and rises again as epsilon grows,
    so that no inner point should stand out above both its neighbours.

    Args:
        cells: tidy cells.
        images: test images, for the standard error of a rate.
        errors: how many standard errors count as standing out.
    """
    findings, checked = [], 0
    for _, group in with_settings(cells).groupby(PAIR, sort=False):
        curve = group.sort_values("epsilon").drop_duplicates("epsilon")
        values = curve["value"].to_list()
        for k in range(1, len(values) - 1):
            checked += 1
            neighbour = max(values[k - 1], values[k + 1])
            rate = neighbour / 100
            if values[k] - neighbour > errors * 100 * math.sqrt(rate * (1 - rate) / images) + SLACK:
                row = curve.iloc[k]
                middle = (values[k - 1] + values[k + 1]) / 2
                findings.append(
                    Finding(
                        "stands out",
                        "imprecision",
                        place(row),
                        row["printed"],
                        f"about {middle:.1f}",
                        values[k] - middle,
                        f"At ε = {row['epsilon']:g} the rate stands above its neighbours in ε, "
                        f"{values[k - 1]:g} and "
                        f"{values[k + 1]:g}, by more than {errors:g} standard errors: perhaps a misprint.",
                    )
                )
    return Check("stands out", "Does the FPR have a single minimum along epsilon?", checked, findings)


def check_spread(cells: pd.DataFrame, times: float = 1.5, points: float = 1.0) -> Check:
    """For which test sets does the choice of the tuning set matter?

    Args:
        cells: tidy cells.
        times: how many times the best rate the worst may be.
        points: and by how many percentage points it must at least differ to count.
    """
    groups = _tuned(cells, "odin").groupby(PAIR, sort=False)
    findings = []
    for _, group in groups:
        low, high = group["value"].min(), group["value"].max()
        worst = group.loc[group["value"].idxmax()]
        if high > times * low and high - low > points:
            findings.append(
                Finding(
                    "tuning set matters",
                    "overstatement",
                    place(worst),
                    f"{high:g}",
                    f"{low:g}",
                    high - low,
                    f"{name_table(worst['table'])} has rates from {low:g} to {high:g} %, where Section 3 "
                    "calls the "
                    "choice of the tuning set unimportant.",
                )
            )
    return Check("tuning set matters", "Is the rate much the same for every tuning set?", len(groups), findings)
