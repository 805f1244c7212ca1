"""Checks of printed cells against other printed cells.

Each function takes the tidy cells of :func:`odinlib.reference.tables` (or a part of them) and returns a
:class:`~odinlib.reference.findings.Check`; none reads a file. A printed number stands for every number that
rounds to it, so two cells contradict each other only if no pair of such numbers agrees.
"""

import math

import pandas as pd

from odinlib.metrics import LOWER_IS_BETTER, METRICS
from odinlib.reference.findings import Check, Finding
from odinlib.reference.printed import title

PAIR = ["table", "network", "id_set", "ood_set"]
SLACK = 1e-9  # for the float error of sums of one-decimal numbers


def name_table(name: str) -> str:
    """How a table is called in a sentence."""
    return {"G": "Appendix G", "text": "Appendix A"}.get(name, f"Table {name}")


def place(row: pd.Series) -> str:
    """Where a cell stands: table, network, sets, then method and metric as far as they apply."""
    sets = " against ".join(title(row[column]) for column in ("id_set", "ood_set") if row.get(column))
    rest = [title(row[column]) for column in ("method", "metric") if row.get(column)]
    tuned = [f"tuned on {title(row['tuning_set'])}"] if row.get("tuning_set") else []
    network = [title(row["network"])] if row.get("network") else []
    return ", ".join([name_table(row["table"]), *network, sets, *tuned, *rest])


def half_unit(printed: str) -> float:
    """Half of the last printed decimal place, in the number's own unit.

    >>> half_unit("31.27")
    0.005
    """
    decimals = len(printed.partition(".")[2])
    return float(f"5e-{decimals + 1}")


def wide(cells: pd.DataFrame, columns: str = "metric") -> pd.DataFrame:
    """Measured cells, one column per value of ``columns``; the rows keep table, network and sets."""
    cells = cells[cells["metric"].isin(METRICS) & (cells["tuning_set"] == "")]
    index = [*PAIR, "method" if columns == "metric" else "metric"]
    values = cells.pivot(index=index, columns=columns, values="value").reset_index()
    # The merge restores the printed order: a pivot alone would sort Table 12 before Table 2.
    return cells[index].drop_duplicates().merge(values, on=index)


def detection_errors(cells: pd.DataFrame, tolerance: float = 0.05) -> pd.DataFrame:
    """Every printed detection error beside the one that the FPR printed with it implies.

    Section 4.3 defines the error at 95 % TPR as half of 5 % plus half of the FPR.

    Args:
        cells: tidy cells.
        tolerance: what rounding may hide in one printed number, in percentage points.

    Returns:
        A row per (table, network, sets, method): fpr, detection_error, recomputed, difference (printed minus
        recomputed), fits (bool). The tolerance enters one and a half times: once for the error, half for the
        FPR.
    """
    pairs = wide(cells).dropna(subset=["fpr", "detection_error"])
    pairs["recomputed"] = 0.5 * 5 + 0.5 * pairs["fpr"]
    pairs["difference"] = pairs["detection_error"] - pairs["recomputed"]
    pairs["fits"] = pairs["difference"].abs() <= 1.5 * tolerance + SLACK
    return pairs[[*PAIR, "method", "fpr", "detection_error", "recomputed", "difference", "fits"]]


def check_detection_error(cells: pd.DataFrame, tolerance: float = 0.05) -> Check:
    """Does the detection error follow from the FPR beside it (Section 4.3)?"""
    errors = detection_errors(cells, tolerance)
    findings = [
        Finding(
            "detection error",
            "contradiction",
            place(row),
            f"{row['detection_error']:.1f}",
            f"{row['recomputed']:.2f}",
            row["difference"],
            f"Half of 5 % plus half of the printed FPR of {row['fpr']:.1f} % gives another error than the one printed.",
        )
        for _, row in errors[~errors["fits"]].iterrows()
    ]
    return Check("detection error", "Is the detection error 2.5 % plus half the FPR?", len(errors), findings)


def bounds(fpr: float) -> dict[str, tuple[float, float]]:
    """The least and greatest AUROC, AUPR-In and AUPR-Out of any detector with this FPR at 95 % TPR.

    The ROC curve passes through (FPR, 0.95) and never falls: to the left the TPR is at most 0.95, to the
    right at least that. Precision assumes equally many images of both kinds. All values are fractions.

    >>> {name: (round(low, 3), round(high, 3)) for name, (low, high) in bounds(0.0).items()}
    {'auroc': (0.95, 1.0), 'aupr_in': (0.975, 1.0), 'aupr_out': (0.848, 1.0)}
    """
    missed = 0.05

    def area(start: float, stop: float, other: float) -> float:
        """Integral of r / (r + other) from start to stop: precision at recall r, `other` false alarms."""
        if other == 0:
            return stop - start
        return stop - start - other * math.log((stop + other) / (start + other))

    kept = 1 - missed
    return {
        "auroc": (kept * (1 - fpr), 1 - missed * fpr),
        "aupr_in": (area(0, kept, fpr) + area(kept, 1, 1), kept + area(kept, 1, fpr)),
        "aupr_out": (area(0, 1 - fpr, missed) + area(1 - fpr, 1, 1), 1 - fpr + area(1 - fpr, 1, missed)),
    }


def check_bounds(cells: pd.DataFrame, tolerance: float = 0.05) -> Check:
    """Could any ROC curve have both the printed FPR and the printed area?"""
    pairs = wide(cells).dropna(subset=["fpr"])
    findings, checked = [], 0
    for _, row in pairs.iterrows():
        low_fpr, high_fpr = max(0.0, row["fpr"] - tolerance), min(100.0, row["fpr"] + tolerance)
        widest, narrowest = bounds(low_fpr / 100), bounds(high_fpr / 100)
        for metric in widest:
            if metric not in row or math.isnan(row[metric]):
                continue
            checked += 1
            low = 100 * min(widest[metric][0], narrowest[metric][0])
            high = 100 * max(widest[metric][1], narrowest[metric][1])
            if low - tolerance - SLACK <= row[metric] <= high + tolerance + SLACK:
                continue
            nearest = low if row[metric] < low else high
            findings.append(
                Finding(
                    "impossible area",
                    "contradiction",
                    f"{place(row)}, {title(metric)}",
                    f"{row[metric]:.1f}",
                    f"{low:.1f} to {high:.1f}",
                    row[metric] - nearest,
                    f"No ROC curve with an FPR of {row['fpr']:.1f} % at 95 % TPR encloses this area.",
                )
            )
    return Check("impossible area", "Is each area possible, given the FPR at 95 % TPR?", checked, findings)


def check_below_chance(cells: pd.DataFrame) -> Check:
    """Where does the detector do worse than a coin at its threshold (FPR above 95 % at 95 % TPR)?"""
    rates = cells[(cells["metric"] == "fpr") & (cells["tuning_set"] == "")]
    findings = [
        Finding(
            "below chance",
            "remark",
            place(row),
            row["printed"],
            "95.0",
            row["value"] - 95,
            "At 95 % TPR a coin has an FPR of 95 %: the ROC curve runs below its diagonal there, whatever its area.",
        )
        for _, row in rates[rates["value"] > 95].iterrows()
    ]
    return Check("below chance", "Is the FPR at 95 % TPR at most that of a coin?", len(rates), findings)


def gains(cells: pd.DataFrame) -> pd.DataFrame:
    """Baseline and ODIN side by side: table, network, sets, metric, baseline, odin, gain, ceiling.

    ``gain`` is positive where ODIN is better, in percentage points; ``ceiling`` marks measures that the
    baseline already prints at their best value, where nothing can be gained.
    """
    both = wide(cells, "method").dropna(subset=["baseline", "odin"])
    sign = both["metric"].map(lambda metric: -1.0 if metric in LOWER_IS_BETTER else 1.0)
    best = both["metric"].map({"fpr": 0.0, "detection_error": 2.5}).fillna(100.0)
    both["gain"] = (sign * (both["odin"] - both["baseline"])).round(10)
    both["ceiling"] = (both["baseline"] - best).abs() < SLACK
    return both


def check_worse(cells: pd.DataFrame) -> Check:
    """Is every measure better with ODIN, as Section 4.4 says of all architectures and pairs?"""
    both = gains(cells)
    findings = [
        Finding(
            "not improved",
            "contradiction" if row["gain"] < 0 else "overstatement",
            place(row),
            f"{row['baseline']:.1f} → {row['odin']:.1f}",
            "better" if row["gain"] < 0 else "better, not equal",
            row["odin"] - row["baseline"],
            "The text sees improvement for every architecture and every pair; here the measure "
            + ("gets worse." if row["gain"] < 0 else "stays as it was."),
        )
        for _, row in both[(both["gain"] <= 0) & ~both["ceiling"]].iterrows()
    ]
    return Check("not improved", "Is every measure of every pair better with ODIN?", len(both), findings)


def check_margin(cells: pd.DataFrame, large: float = 0.1) -> Check:
    """Where does ODIN remove less than the share ``large`` of the baseline's FPR?"""
    both = gains(cells)
    rates = both[(both["metric"] == "fpr") & ~both["ceiling"]]
    findings = [
        Finding(
            "small margin",
            "overstatement",
            place(row),
            f"{row['baseline']:.1f} → {row['odin']:.1f}",
            f"{100 * row['gain'] / row['baseline']:.1f} % of it",
            row["odin"] - row["baseline"],
            f"The FPR falls by less than {100 * large:.0f} % of itself, where the text speaks of a large margin.",
        )
        for _, row in rates[rates["gain"] < large * rates["baseline"]].iterrows()
    ]
    return Check("small margin", "Does the FPR fall by a large margin?", len(rates), findings)


def check_decimals(cells: pd.DataFrame) -> Check:
    """Which cells have other decimals than most cells of their table and metric? One finding per metric.

    Temperatures and magnitudes are left out: they are printed without trailing zeros.
    """
    cells = cells[~cells["metric"].isin(["temperature", "epsilon"])]
    findings = []
    for _, group in cells.groupby(["table", "metric"], sort=False):
        decimals = group["printed"].map(lambda printed: len(printed.partition(".")[2]))
        usual = int(decimals.mode().min())
        odd = group[decimals != usual]
        if odd.empty:
            continue
        first = odd.iloc[0]
        where = place(first) if len(odd) == 1 else f"{name_table(first['table'])}, {title(first['metric'])}"
        findings.append(
            Finding(
                "decimals",
                "imprecision",
                where,
                ", ".join(odd["printed"]),
                ", ".join(f"{value:.{usual}f}" for value in odd["value"]),
                math.nan,
                f"Most numbers of this kind in the table have {usual} {'digit' if usual == 1 else 'digits'} "
                "after the point.",
            )
        )
    return Check("decimals", "Do all cells of a kind have the same number of decimals?", len(cells), findings)
