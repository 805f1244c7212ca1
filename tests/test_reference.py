"""The paper's printed numbers: transcribed whole, spot-checked, and audited by checks that can fail."""

import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odinlib import odin, reference
from odinlib.errors import UserError
from odinlib.reference import arithmetic, settings, statements, tuning
from odinlib.reference.findings import SEVERITIES

DENSE, WRN28, WRN40, MLP = "densenet-bc-100-12", "wrn-28-10", "wrn-40-4", "mlp-256x3"

# Rows (network, sets, tuning set) and printed cells of each table, counted on the page.
SIZES = {
    "1": (4, 4),
    "2": (28, 280),
    "3": (43, 430),
    "4": (22, 22),
    "5": (22, 22),
    "6": (22, 22),
    "7": (22, 22),
    "8": (22, 22),
    "9": (22, 22),
    "10": (49, 98),
    "11": (49, 98),
    "12": (2, 20),
    "G": (11, 22),
    "text": (11, 16),
}


@pytest.mark.parametrize("name", SIZES)
def test_counts(name: str) -> None:
    cells = reference.table(name)
    rows = cells.drop_duplicates(["network", "id_set", "ood_set", "tuning_set"])
    assert (len(rows), len(cells)) == SIZES[name]


def test_every_table_is_counted_and_no_cell_is_doubled() -> None:
    cells = reference.tables()
    assert set(cells["table"]) == set(SIZES)
    key = ["table", "network", "id_set", "ood_set", "tuning_set", "method", "metric"]
    assert not cells.duplicated(key).any()


def test_printed_and_value_agree() -> None:
    cells = reference.tables()
    assert (cells["printed"].map(float) == cells["value"]).all()
    assert cells["printed"].map(lambda text: bool(re.fullmatch(r"\d+(\.\d+)?|5e-05", text))).all()
    numbers = reference.prose()
    assert (numbers["printed"].str.replace(",", "").map(float) == numbers["value"]).all()


def test_rates_are_percentages_and_means_match_the_page() -> None:
    cells = reference.tables()
    rates = cells[cells["metric"].isin(["fpr", "detection_error", "auroc", "aupr_in", "aupr_out"])]
    assert rates["value"].between(0, 100).all()


# Read off the page a second time, spread over all tables, first and last rows, both methods and all metrics.
SPOTS = [
    ((DENSE, "cifar10", "", "", "test_error"), "1", "4.81"),
    ((WRN28, "cifar100", "", "", "test_error"), "1", "19.86"),
    ((DENSE, "cifar10", "tinyimagenet-crop", "baseline", "fpr"), "2", "34.7"),
    ((DENSE, "cifar10", "lsun-crop", "odin", "fpr"), "2", "8.7"),
    ((DENSE, "cifar10", "lsun-resize", "baseline", "aupr_out"), "2", "94.0"),
    ((DENSE, "cifar10", "gaussian", "baseline", "fpr"), "2", "12.3"),
    ((DENSE, "cifar100", "isun", "baseline", "detection_error"), "2", "44.7"),
    ((DENSE, "cifar100", "gaussian", "odin", "aupr_out"), "2", "99.1"),
    ((WRN28, "cifar10", "tinyimagenet-resize", "odin", "aupr_in"), "2", "89.0"),
    ((WRN28, "cifar100", "tinyimagenet-crop", "baseline", "auroc"), "2", "82.0"),
    ((WRN28, "cifar100", "gaussian", "odin", "aupr_out"), "2", "95.9"),
    ((WRN40, "cifar10", "lsun-resize", "odin", "fpr"), "3", "35.1"),
    ((WRN40, "cifar100", "uniform", "odin", "aupr_in"), "3", "99.1"),
    ((DENSE, "cifar80", "cifar20", "baseline", "detection_error"), "3", "44.9"),
    ((DENSE, "cifar80", "isun", "baseline", "detection_error"), "3", "50.5"),
    ((WRN28, "cifar80", "cifar20", "odin", "auroc"), "3", "80.4"),
    ((WRN40, "cifar80", "uniform", "odin", "fpr"), "3", "48.6"),
    ((MLP, "mnist", "notmnist", "odin", "detection_error"), "3", "6.8"),
    ((MLP, "mnist", "uniform", "baseline", "aupr_out"), "3", "99.9"),
    ((DENSE, "cifar100", "lsun-crop", "odin", "epsilon"), "4", "0.0038"),
    ((DENSE, "cifar100", "gaussian", "odin", "temperature"), "5", "1"),
    ((WRN28, "cifar80", "cifar20", "odin", "epsilon"), "6", "5e-05"),
    ((WRN28, "cifar100", "uniform", "odin", "temperature"), "7", "1000"),
    ((WRN40, "cifar10", "lsun-resize", "odin", "epsilon"), "8", "0.001"),
    ((WRN40, "cifar80", "cifar20", "odin", "temperature"), "9", "1"),
    ((DENSE, "cifar100", "cifar10", "odin", "aupr_out"), "12", "72.6"),
    (("", "cifar80", "isun", "", "mmd"), "G", "0.116"),
    (("", "cifar100", "lsun-crop", "", "energy"), "G", "2.31"),
    ((WRN28, "cifar80", "", "", "test_accuracy"), "text", "81.71"),
    ((MLP, "mnist", "", "", "test_accuracy"), "text", "99.34"),
]


@pytest.mark.parametrize(("key", "table", "printed"), SPOTS)
def test_spot(key: tuple[str, str, str, str, str], table: str, printed: str) -> None:
    network, id_set, ood_set, method, metric = key
    cells = reference.table(table)
    cells = cells[(cells["network"] == network) & (cells["id_set"] == id_set) & (cells["ood_set"] == ood_set)]
    cells = cells[(cells["method"] == method) & (cells["metric"] == metric)]
    assert cells["printed"].to_list() == [printed]
    assert reference.lookup(*key) == printed  # found without naming the table, too
    assert reference.lookup(*key, table="8" if table != "8" else "9") is None


@pytest.mark.parametrize(
    ("network", "test_set", "tuning_set", "value"),
    [
        (DENSE, "lsun-crop", "lsun-crop", 8.1),
        (DENSE, "uniform", "lsun-crop", 4.5),
        (DENSE, "lsun-resize", "lsun-resize", 4.8),
        (WRN28, "lsun-crop", "tinyimagenet-resize", 31.27),
        (WRN28, "tinyimagenet-resize", "lsun-resize", 25.8),
        (WRN28, "isun", "lsun-resize", 21.9),
        (WRN28, "tinyimagenet-crop", "uniform", 26.5),
    ],
)
def test_spot_across_tuning_sets(network: str, test_set: str, tuning_set: str, value: float) -> None:
    printed = reference.lookup(network, "cifar10", test_set, "odin", "fpr", tuning_set=tuning_set)
    assert printed is not None and float(printed) == value


def test_a_number_that_is_not_printed_and_a_name_that_is_misspelt() -> None:
    assert reference.lookup(DENSE, "cifar10", "svhn", "odin", "fpr") is None
    with pytest.raises(UserError, match="did you mean 'fpr'"):
        reference.lookup(DENSE, "cifar10", "isun", "odin", "frp")
    with pytest.raises(UserError, match="did you mean 'odin'"):
        reference.lookup(DENSE, "cifar10", "isun", "oden", "fpr")
    with pytest.raises(UserError, match="table is '13'"):
        reference.table(13)
    with pytest.raises(UserError, match="did you mean 'isun-images'"):
        reference.stated("isun-image")


def test_callers_cannot_change_the_record() -> None:
    for frame in (reference.tables(), reference.table(2), reference.prose()):
        frame["value"] = 0.0
    assert reference.lookup(DENSE, "cifar10", "tinyimagenet-crop", "odin", "fpr") == "4.3"
    assert reference.stated("isun-images") == 8925


def test_claims_are_complete_and_name_known_evidence() -> None:
    claims = reference.claims()
    assert len(claims) >= 15 and claims["id"].is_unique and claims["decided_by"].is_unique
    assert claims.ne("").all(axis=None)
    known = {f"table-{n}" for n in [*range(1, 13), "G"]} | {f"figure-{n}" for n in range(1, 18)}
    known |= {"equation-2", "proposition-1", "appendix-F"}
    assert {item for evidence in claims["evidence"] for item in evidence.split(";")} <= known
    assert claims["decided_by"].map(str.isidentifier).all()


def findings(kind: str) -> pd.DataFrame:
    audit = reference.audit()
    return audit[audit["kind"] == kind]


def test_detection_errors_that_do_not_follow_from_the_fpr() -> None:
    found = findings("detection error")
    assert len(found) == 3
    assert [round(value, 2) for value in found["difference"]] == [-0.2, 0.35, 4.95]
    assert found["where"].str.contains("iSUN").sum() == 2


def test_tables_10_and_11_disagree_with_the_main_tables() -> None:
    swapped = findings("swapped rows")
    assert len(swapped) == 4 and set(swapped["printed"]) == {"23.5", "12.3", "1.6", "0.3"}
    other = findings("tables disagree")
    assert set(zip(other["printed"], other["recomputed"], strict=True)) == {
        ("40.7", "40.8"),
        ("8.1", "8.7"),
        ("4.8", "3.8"),
    }


def test_other_findings() -> None:
    assert set(findings("epsilon off grid")["printed"]) == {"0.0005", "0.0011", "5e-05"}
    assert findings("temperature off grid").empty
    assert set(findings("too few images")["recomputed"]) == {"7,925", "6,925"}
    assert set(findings("prose differs from table")["printed"]) == {"34", "4.2", "0.0012", "77"}
    worse = findings("not improved")
    assert len(worse) == 3 and worse["where"].str.contains("AUPR-In").all()
    assert set(findings("duplicate heading")["where"]) == {"Table 10", "Table 11"}
    assert "31.27" in findings("decimals")["printed"].to_list()
    assert findings("stands out")["printed"].to_list() == ["31.27"]
    assert findings("order of distances").empty
    assert findings("further yet harder")["where"].str.contains("CIFAR-100").any()
    assert findings("no perturbation chosen")["where"].str.contains(r"LSUN \(crop\)").sum() == 3
    assert len(findings("no scaling chosen")) == 11
    assert set(findings("formula")["where"]) == {"Appendix G, energy distance", "Appendix F", "Section 5.2"}


def test_audit_and_summary_have_the_promised_shape() -> None:
    audit, summary = reference.audit(), reference.audit_summary()
    assert set(audit["severity"]) <= set(SEVERITIES)
    assert summary["found"].sum() == len(audit)
    assert (summary["found"] <= summary["checked"]).all() and summary["kind"].is_unique
    assert audit["explanation"].str.endswith(".").all() and not audit["explanation"].str.contains("  ").any()


def test_a_wider_tolerance_finds_less() -> None:
    assert len(reference.audit(tolerance=0.4)) < len(reference.audit(tolerance=0.05))
    assert len(reference.audit(large=0.5)) > len(reference.audit(large=0.1))


# A fabricated table that agrees with itself, and what must be found when one thing in it is spoilt.


def fabricated(**changes: str) -> pd.DataFrame:
    """One pair whose ten measures are consistent and improve, in a main table and in Table 10."""
    printed = {
        "baseline fpr": "40.0",
        "baseline detection_error": "22.5",
        "baseline auroc": "92.0",
        "baseline aupr_in": "93.0",
        "baseline aupr_out": "90.0",
        "odin fpr": "10.1",
        "odin detection_error": "7.6",
        "odin auroc": "98.0",
        "odin aupr_in": "98.1",
        "odin aupr_out": "97.9",
        "odin epsilon": "0.0014",
        "odin temperature": "1000",
        "tuned baseline fpr": "40.0",
        "tuned odin fpr": "10.1",
    }
    printed |= {key.replace("__", " "): value for key, value in changes.items()}
    rows = []
    for key, text in printed.items():
        *tuned, method, metric = key.split(" ")
        set_ = "isun" if tuned else ""
        table = "10" if tuned else {"epsilon": "4", "temperature": "5"}.get(metric, "2")
        rows.append(
            {
                "table": table,
                "network": DENSE,
                "id_set": "cifar10",
                "ood_set": "isun",
                "tuning_set": set_,
                "tuning_heading": set_,
                "method": method,
                "metric": metric,
                "printed": text,
                "value": float(text),
                "note": "",
            }
        )
    return pd.DataFrame(rows)


CHECKS = {
    "detection error": arithmetic.check_detection_error,
    "impossible area": arithmetic.check_bounds,
    "below chance": arithmetic.check_below_chance,
    "not improved": arithmetic.check_worse,
    "small margin": arithmetic.check_margin,
    "decimals": arithmetic.check_decimals,
    "duplicate heading": tuning.check_headings,
    "tables disagree": tuning.check_across_tables,
    "epsilon off grid": lambda cells: settings.check_off_grid(cells, "epsilon", odin.PAPER_EPSILONS),
    "temperature off grid": lambda cells: settings.check_off_grid(cells, "temperature", odin.PAPER_TEMPERATURES),
    "setting unreported": settings.check_unreported,
    "no scaling chosen": settings.check_unscaled,
    "no perturbation chosen": settings.check_unperturbed,
    "baseline depends on tuning": tuning.check_baseline_tuned,
    "same setting": tuning.check_same_setting,
    "own setting not best": tuning.check_own_best,
    "stands out": tuning.check_smooth,
    "tuning set matters": tuning.check_spread,
}


@pytest.mark.parametrize("kind", CHECKS)
def test_a_consistent_table_is_not_flagged(kind: str) -> None:
    check = CHECKS[kind](fabricated())
    assert check.kind == kind and check.findings == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("detection error", {"odin__detection_error": "7.7"}),
        ("impossible area", {"baseline__auroc": "99.0"}),
        ("below chance", {"baseline__fpr": "95.1"}),
        ("not improved", {"odin__aupr_in": "92.9"}),
        ("small margin", {"odin__fpr": "36.1"}),
        ("decimals", {"odin__aupr_in": "98.12", "baseline__aupr_out": "90.00"}),
        ("tables disagree", {"tuned__odin__fpr": "10.4"}),
        ("epsilon off grid", {"odin__epsilon": "0.0015"}),
        ("temperature off grid", {"odin__temperature": "999"}),
        ("no scaling chosen", {"odin__temperature": "1"}),
        ("no perturbation chosen", {"odin__epsilon": "0"}),
    ],
)
def test_one_spoilt_cell_is_found(kind: str, change: dict[str, str]) -> None:
    assert CHECKS[kind](fabricated(**change)).findings


def test_a_missing_setting_is_found() -> None:
    cells = fabricated()
    assert len(settings.check_unreported(cells[cells["metric"] != "epsilon"]).findings) == 1


def across(values: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """ODIN's FPR on iSUN for several tuning sets: name -> (epsilon chosen on it, FPR)."""
    cells = fabricated()
    tuned = cells[(cells["tuning_set"] != "") & (cells["method"] == "odin")].iloc[0]
    chosen = cells[cells["metric"].isin(["epsilon", "temperature"])]
    rows = []
    for name, (epsilon, fpr) in values.items():
        rows.append({**tuned, "tuning_set": name, "tuning_heading": name, "printed": str(fpr), "value": fpr})
        for _, row in chosen.iterrows():
            value = epsilon if row["metric"] == "epsilon" else 1000.0
            rows.append({**row, "ood_set": name, "printed": str(value), "value": value})
    return pd.DataFrame(rows)


def test_checks_across_tuning_sets_can_fail() -> None:
    calm = {
        "lsun-crop": (0.0, 12.0),
        "isun": (0.001, 10.0),
        "gaussian": (0.002, 10.5),
        "uniform": (0.003, 11.5),
    }
    cells = across(calm)
    for check in (tuning.check_same_setting, tuning.check_own_best, tuning.check_smooth, tuning.check_spread):
        assert check(cells).checked and not check(cells).findings
    assert tuning.check_smooth(across({**calm, "gaussian": (0.002, 13.9)})).findings
    assert tuning.check_same_setting(across({**calm, "gaussian": (0.001, 10.5)})).findings
    assert tuning.check_own_best(across({**calm, "gaussian": (0.002, 9.0)})).findings
    assert tuning.check_spread(across({**calm, "lsun-crop": (0.0, 21.0)})).findings
    cells.loc[cells["tuning_set"] == "uniform", "tuning_heading"] = "gaussian"
    assert tuning.check_headings(cells).findings
    baseline = cells[cells["tuning_set"] != ""].assign(method="baseline")
    assert tuning.check_baseline_tuned(baseline).findings


def test_statements_can_hold_and_fail() -> None:
    assert not statements.check_splits({"isun": 8925}, {"here": (1000, 7925)}).findings
    assert statements.check_splits({"isun": 8925}, {"here": (1000, 7926)}).findings
    assert not statements.check_mixture(0.8, 98.5, 82.0, 95.19, 0.2).findings
    assert statements.check_mixture(0.8, 98.5, 82.0, 94.0, 0.2).findings
    assert not tuning.check_tuning_sets(fabricated(), 1).findings
    assert tuning.check_tuning_sets(fabricated(), 2).findings
    distances = reference.table("G")
    right = ["lsun-crop", "tinyimagenet-crop", "lsun-resize", "isun", "tinyimagenet-resize", "cifar20"]
    assert not statements.check_distance_order(distances, right).findings
    assert len(statements.check_distance_order(distances, right[::-1]).findings) == 2


def test_prose_is_compared_within_its_rounding() -> None:
    said = reference.prose()
    said = said[said["id"] == "figure-1-fpr-baseline"].assign(ood_set="isun")
    for printed, count in {"40": 0, "40.0": 0, "39.9": 1, "41": 1}.items():
        check = statements.check_prose(fabricated(), said.assign(printed=printed, value=float(printed)))
        assert (check.checked, len(check.findings)) == (1, count)


@given(
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12),
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12),
)
def test_no_roc_curve_leaves_the_bounds(right: list[float], up: list[float]) -> None:
    """Any staircase through (FPR, 0.95) encloses an AUROC within the bounds."""
    xs, ys = [0.0, *sorted(right), 1.0], [0.0, *sorted(up), 1.0]
    steps = min(len(xs), len(ys))
    xs, ys = [*xs[: steps - 1], 1.0], [*ys[: steps - 1], 1.0]
    fpr = min(x for x, y in zip(xs, ys, strict=True) if y >= 0.95)
    # A step curve that rises at each x to the y beside it.
    auroc = sum((xs[k + 1] - xs[k]) * ys[k] for k in range(steps - 1))
    low, high = arithmetic.bounds(fpr)["auroc"]
    assert low - 1e-9 <= auroc <= high + 1e-9


def test_unordered_pairs_make_the_distances_vanish() -> None:
    assert statements.distance_weights(50, ordered=False) == {"mmd": 0.0, "energy": 0.0}
    assert statements.distance_weights(50, ordered=True)["energy"] == -2.0
