"""Checks of what the paper says in words against what its tables print, and of three of its formulas."""

import math
from collections.abc import Sequence

import pandas as pd

from odinlib.reference.arithmetic import SLACK, half_unit, name_table
from odinlib.reference.findings import Check, Finding
from odinlib.reference.printed import title

KEYS = ["table", "network", "id_set", "ood_set", "method", "metric"]


def _cell(cells: pd.DataFrame, row: pd.Series) -> pd.Series | None:
    """The cell that a number of the prose repeats, if any; an accuracy may be read off a test error."""
    found = cells[cells["tuning_set"] == ""]
    for column in KEYS:
        wanted = [row[column], "test_error"] if row[column] == "test_accuracy" else [row[column]]
        found = found[found[column].isin(wanted)]
    return found.iloc[0] if len(found) == 1 else None


def check_prose(cells: pd.DataFrame, numbers: pd.DataFrame) -> Check:
    """Do the numbers of the prose repeat those of the tables, as far as both are rounded?

    Args:
        cells: tidy cells, see :func:`odinlib.reference.tables`.
        numbers: stated numbers, see :func:`odinlib.reference.prose`.
    """
    findings, checked = [], 0
    for _, row in numbers[(numbers["table"] != "") & (numbers["unit"] != "place")].iterrows():
        cell = _cell(cells, row)
        if cell is None:
            continue
        checked += 1
        value = 100 - cell["value"] if row["metric"] != cell["metric"] else cell["value"]
        plain = row["printed"].replace(",", "")
        if abs(row["value"] - value) < half_unit(plain) + half_unit(cell["printed"]) - SLACK:
            continue
        findings.append(
            Finding(
                "prose differs from table",
                "imprecision" if abs(row["value"] - value) < 0.05 * value else "contradiction",
                f"{row['place']}: {row['subject']}",
                row["printed"],
                f"{value:g}",
                row["value"] - value,
                f"{name_table(row['table'])} prints {cell['printed']} for {title(cell['metric'])}; "
                "no rounding makes the two equal.",
            )
        )
    return Check("prose differs from table", "Do the numbers of the prose repeat the tables?", checked, findings)


def check_splits(available: dict[str, int], splits: dict[str, tuple[int, int]]) -> Check:
    """Are there enough images for every division into tuning and test images?

    Args:
        available: images of each out-of-distribution set.
        splits: for each place of the paper, tuning images and test images of every set.
    """
    findings = []
    for place, (tuning, test) in splits.items():
        for name, images in available.items():
            if tuning + test > images:
                findings.append(
                    Finding(
                        "too few images",
                        "contradiction",
                        f"{place}: {title(name)}",
                        f"{test:,}",
                        f"{images - tuning:,}",
                        test - (images - tuning),
                        f"{tuning:,} of the {images:,} images are kept for tuning, which leaves {images - tuning:,}.",
                    )
                )
    checked = len(available) * len(splits)
    return Check("too few images", "Do tuning and test images fit into each set?", checked, findings)


def check_mixture(kept_share: float, kept: float, rejected: float, overall: float, tolerance: float) -> Check:
    """Do the accuracies above and below a threshold add up to the accuracy of the network (Appendix I)?

    Args:
        kept_share: share of the images above the threshold.
        kept, rejected, overall: accuracies above, below and altogether, in per cent.
        tolerance: percentage points that rounding may hide.
    """
    mixed = kept_share * kept + (1 - kept_share) * rejected
    findings = []
    if abs(mixed - overall) > tolerance:
        findings.append(
            Finding(
                "accuracies do not add up",
                "contradiction",
                "Appendix I",
                f"{kept:g} and {rejected:g}",
                f"{mixed:.2f}",
                overall - mixed,
                f"Weighted by their shares they give {mixed:.2f} %, but the network reaches {overall:.2f} %.",
            )
        )
    return Check("accuracies do not add up", "Do Appendix I's accuracies give the network's?", 1, findings)


def check_distance_order(cells: pd.DataFrame, order: Sequence[str]) -> Check:
    """Does Appendix G rank the sets as Figure 2's axis does, from the largest MMD to the smallest?"""
    distances = cells[cells["metric"] == "mmd"]
    findings = []
    groups = distances.groupby("id_set", sort=False)
    for id_set, group in groups:
        values = group.set_index("ood_set")["value"]
        shown = [name for name in order if name in values.index]
        ranked = sorted(shown, key=lambda name: -values[name])
        if ranked != shown:
            findings.append(
                Finding(
                    "order of distances",
                    "contradiction",
                    f"Figure 2, {title(str(id_set))}",
                    ", ".join(map(title, shown)),
                    ", ".join(map(title, ranked)),
                    math.nan,
                    "Sorted by the MMD of Appendix G the sets come in another order than along the axis.",
                )
            )
    return Check("order of distances", "Is Figure 2's axis in the order of Appendix G's MMD?", len(groups), findings)


def check_distance_effect(cells: pd.DataFrame) -> Check:
    """Where is the set that is further away in MMD nevertheless the harder one for ODIN (Section 4.5)?"""
    distances = cells[cells["metric"] == "mmd"].set_index(["id_set", "ood_set"])["value"]
    rates = cells[(cells["metric"] == "fpr") & (cells["method"] == "odin") & (cells["tuning_set"] == "")]
    findings, checked = [], 0
    for (table, network, id_set), group in rates.groupby(["table", "network", "id_set"], sort=False):
        rate = group.set_index("ood_set")["value"]
        known = [name for name in rate.index if (id_set, name) in distances.index]
        for k, one in enumerate(known):
            for other in known[k + 1 :]:
                checked += 1
                near, far = sorted((one, other), key=lambda name: distances[id_set, name])
                if distances[id_set, near] < distances[id_set, far] and rate[far] > rate[near]:
                    findings.append(
                        Finding(
                            "further yet harder",
                            "remark",
                            f"{name_table(table)}, {title(network)}, {title(id_set)}",
                            f"{title(far)} {rate[far]:.1f}, {title(near)} {rate[near]:.1f}",
                            f"MMD {distances[id_set, far]:g} and {distances[id_set, near]:g}",
                            rate[far] - rate[near],
                            "Of these two sets the one at the larger MMD has the larger FPR, against the "
                            "tendency "
                            "that Section 4.5 describes.",
                        )
                    )
    return Check("further yet harder", "Does a larger MMD always go with a smaller FPR?", checked, findings)


def distance_weights(m: int, ordered: bool) -> dict[str, float]:
    """Sum of the coefficients of each distance estimate of Section 4.5 and Appendix G, which must be 0.

    Both estimates divide the sums within one sample by the number of unordered pairs, m (m - 1) / 2. If two
    samples have one distribution every term has the same mean, so an estimate is 0 on average only if its
    coefficients cancel.

    Args:
        m: images in each sample.
        ordered: read the sums over i ≠ j as running over ordered pairs, twice as many as unordered ones.

    >>> distance_weights(10, ordered=True), distance_weights(10, ordered=False)
    ({'mmd': 0.0, 'energy': -2.0}, {'mmd': 0.0, 'energy': 0.0})
    """
    pairs = m * (m - 1) / 2
    terms = 2 * pairs if ordered else pairs
    within = terms / pairs
    return {"mmd": 2 * within - 2 * terms / pairs, "energy": 2 * m * m / m**2 - 2 * within}


def check_formulas() -> Check:
    """Do the distance estimates vanish for equal distributions, and is U2 what Appendix F calls it?"""
    weight = distance_weights(100, ordered=True)["energy"]
    differences = [1.0, 2.0, 6.0]
    mean = sum(differences) / 3
    variance = sum((d - mean) ** 2 for d in differences) / 3
    u2 = sum(d * d for d in differences) / 3
    findings = []
    if abs(weight) > SLACK:
        findings.append(
            Finding(
                "formula",
                "imprecision",
                "Appendix G, energy distance",
                "sums over pairs",
                "sums over unordered pairs",
                weight,
                f"Over ordered pairs the coefficients add up to {weight:g} instead of 0, so that two equal "
                "distributions would lie at a negative distance; the sums must run over unordered pairs.",
            )
        )
    if abs(u2 - (variance**2 + mean**2)) > SLACK:
        findings.append(
            Finding(
                "formula",
                "imprecision",
                "Appendix F",
                f"Variance² + Mean² ({variance**2 + mean**2:.2f})",
                f"variance + mean² ({variance + mean**2:.2f})",
                variance**2 - variance,
                "The term marked as a squared variance is the variance itself: for the differences 1, 2 "
                "and 6, "
                f"U2 is {u2:.2f}.",
            )
        )
    classes, temperature, u1 = 10, 1000.0, 5.0
    exact = 1 / (classes - (classes - 1) * u1 / temperature)
    if not math.isclose(exact, u1 / temperature, rel_tol=0.01):
        findings.append(
            Finding(
                "formula",
                "imprecision",
                "Section 5.2",
                "S ∝ (U1 - U2/2T)/T",
                "S rises with U1 - U2/2T",
                math.nan,
                f"By Equation 3 with {classes} classes and T = {temperature:g}, doubling U1 from {u1:g} "
                "multiplies S by "
                f"{1 / (classes - (classes - 1) * 2 * u1 / temperature) / exact:.4f}, not by 2: the ranking "
                "is right, "
                "the proportion is not.",
            )
        )
    return Check("formula", "Do the formulas mean what they say?", 3, findings)


def check_remarks(remarks: pd.DataFrame) -> Check:
    """What reading alone shows: labels, captions and gaps of the protocol that no arithmetic finds."""
    findings = [
        Finding(
            "by reading",
            "imprecision",
            row["place"],
            row["printed"],
            row["read_as"],
            math.nan,
            row["explanation"],
        )
        for _, row in remarks.iterrows()
    ]
    return Check("by reading", "What does only reading show?", len(remarks), findings)
