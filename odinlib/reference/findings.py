"""What a check of the paper against itself returns."""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

SEVERITIES = ("contradiction", "overstatement", "imprecision", "remark")


class Finding(NamedTuple):
    """One place where the paper does not agree with itself.

    ``severity`` is "contradiction" (two statements that cannot both hold), "overstatement" (a sentence that
    the tables do not bear out), "imprecision" (rounding, digits, labels) or "remark" (worth knowing, nothing
    wrong). ``difference`` is printed minus recomputed where both are numbers, else NaN.
    """

    kind: str
    severity: str
    where: str
    printed: str
    recomputed: str
    difference: float
    explanation: str


class Check(NamedTuple):
    """One kind of check: the question it asks, how many items it looked at, and what it found."""

    kind: str
    question: str
    checked: int
    findings: list[Finding]


def as_frame(checks: Iterable[Check]) -> pd.DataFrame:
    """The findings of all checks, one row each."""
    return pd.DataFrame([finding for check in checks for finding in check.findings], columns=Finding._fields)


def as_summary(checks: Iterable[Check]) -> pd.DataFrame:
    """One row per check: kind, question, checked, found. A check that found nothing is listed too."""
    rows = [(check.kind, check.question, check.checked, len(check.findings)) for check in checks]
    return pd.DataFrame(rows, columns=["kind", "question", "checked", "found"])
