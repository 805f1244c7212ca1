"""Every check of the paper against itself, applied to the printed numbers."""

import pandas as pd

from odinlib.odin import PAPER_EPSILONS, PAPER_TEMPERATURES
from odinlib.reference import arithmetic, printed, settings, statements, tuning
from odinlib.reference.findings import Check, as_frame, as_summary


def _available() -> dict[str, int]:
    """Images that Section 4.2 states for each out-of-distribution set."""
    tiny, lsun = int(printed.stated("tinyimagenet-images")), int(printed.stated("lsun-images"))
    return {
        "tinyimagenet-crop": tiny,
        "tinyimagenet-resize": tiny,
        "lsun-crop": lsun,
        "lsun-resize": lsun,
        "isun": int(printed.stated("isun-images")),
        "gaussian": int(printed.stated("gaussian-images")),
        "uniform": int(printed.stated("uniform-images")),
    }


def _splits() -> dict[str, tuple[int, int]]:
    """Tuning and test images that the paper states for every set, by place."""

    def sizes(tuning: str, test: str) -> tuple[int, int]:
        return int(printed.stated(tuning)), int(printed.stated(test))

    return {
        "Appendix H, Tables 10 and 11": sizes("tuning-images", "test-images"),
        "Appendix H, Figure 15": sizes("size-tuning-last", "size-test-images"),
    }


def checks(tolerance: float = 0.05, large: float = 0.1) -> list[Check]:
    """All checks in the order in which a reader meets what they check.

    Args:
        tolerance: percentage points that rounding may hide in one printed number.
        large: share of the baseline's FPR below which a reduction is not called large.
    """
    cells, numbers = printed.tables(), printed.prose()
    places = numbers[numbers["unit"] == "place"].sort_values("value")
    error = printed.lookup("densenet-bc-100-12", "cifar10", None, None, "test_error")
    assert error is not None
    return [
        arithmetic.check_detection_error(cells, tolerance),
        arithmetic.check_bounds(cells, tolerance),
        arithmetic.check_below_chance(cells),
        arithmetic.check_worse(cells),
        arithmetic.check_margin(cells, large),
        statements.check_prose(cells, numbers),
        statements.check_splits(_available(), _splits()),
        tuning.check_across_tables(cells),
        settings.check_off_grid(cells, "epsilon", PAPER_EPSILONS),
        settings.check_off_grid(cells, "temperature", PAPER_TEMPERATURES),
        settings.check_unreported(cells),
        settings.check_unscaled(cells),
        settings.check_unperturbed(cells),
        tuning.check_baseline_tuned(cells),
        tuning.check_same_setting(cells),
        tuning.check_own_best(cells),
        tuning.check_smooth(cells),
        tuning.check_spread(cells),
        tuning.check_tuning_sets(cells, int(printed.stated("tuning-sets"))),
        statements.check_distance_order(cells, places["ood_set"].to_list()),
        statements.check_distance_effect(cells),
        statements.check_mixture(
            printed.stated("kept-share") / 100,
            printed.stated("kept-accuracy"),
            printed.stated("rejected-accuracy"),
            100 - float(error),
            tolerance=0.2,  # 82 is a whole number and weighs a fifth, 0.2 * 0.5, and 98.5 adds 0.8 * 0.05
        ),
        tuning.check_headings(cells),
        arithmetic.check_decimals(cells),
        statements.check_formulas(),
        statements.check_remarks(printed.remarks()),
    ]


def audit(tolerance: float = 0.05, large: float = 0.1) -> pd.DataFrame:
    """Where the paper disagrees with itself.

    Args:
        tolerance: percentage points that rounding may hide in one printed number.
        large: share of the baseline's FPR below which a reduction is not called large.

    Returns:
        One row per finding: kind, severity, where, printed, recomputed, difference (printed minus recomputed
        where both are numbers), explanation.
    """
    return as_frame(checks(tolerance, large))


def audit_summary(tolerance: float = 0.05, large: float = 0.1) -> pd.DataFrame:
    """What was checked, also where nothing was found: kind, question, checked (how many items), found."""
    return as_summary(checks(tolerance, large))
