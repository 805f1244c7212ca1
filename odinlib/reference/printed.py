"""The numbers that the paper prints, one row per printed cell, and how to look one up.

The CSV files beside this module were transcribed from the ICLR 2018 version once and are never written by
code. Rates are percentages; ``value`` is the number, ``printed`` the characters on the page.
"""

from functools import cache
from pathlib import Path

import pandas as pd

from odinlib.errors import UserError, check_choice

HERE = Path(__file__).parent

METRICS = ("fpr", "detection_error", "auroc", "aupr_in", "aupr_out")
LOWER_IS_BETTER = ("fpr", "detection_error")

_TITLES = {
    "densenet-bc-100-12": "DenseNet-BC-100",
    "wrn-28-10": "WRN-28-10",
    "wrn-40-4": "WRN-40-4",
    "mlp-256x3": "MLP",
    "cifar10": "CIFAR-10",
    "cifar20": "CIFAR-20",
    "cifar80": "CIFAR-80",
    "cifar100": "CIFAR-100",
    "mnist": "MNIST",
    "tinyimagenet-crop": "TinyImageNet (crop)",
    "tinyimagenet-resize": "TinyImageNet (resize)",
    "lsun-crop": "LSUN (crop)",
    "lsun-resize": "LSUN (resize)",
    "isun": "iSUN",
    "uniform": "Uniform",
    "gaussian": "Gaussian",
    "omniglot": "Omniglot",
    "notmnist": "notMNIST",
    "cifar10-bw": "CIFAR-10bw",
    "baseline": "baseline",
    "odin": "ODIN",
    "fpr": "FPR",
    "detection_error": "detection error",
    "auroc": "AUROC",
    "aupr_in": "AUPR-In",
    "aupr_out": "AUPR-Out",
    "temperature": "T",
    "epsilon": "ε",
    "mmd": "MMD",
    "energy": "energy distance",
    "test_error": "test error",
    "test_accuracy": "test accuracy",
}


def title(name: str) -> str:
    """What the paper calls a network, set, method or metric; the name itself where it has no other.

    >>> title("lsun-crop")
    'LSUN (crop)'
    """
    return _TITLES.get(name, name)


@cache
def _read(file: Path) -> pd.DataFrame:
    frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    if "value" in frame:
        frame["value"] = frame["value"].astype(float)
    return frame


@cache
def _tables() -> pd.DataFrame:
    files = [*sorted(HERE.glob("table-*.csv")), HERE / "in-text.csv"]
    return pd.concat([_read(file) for file in files], ignore_index=True)


def tables() -> pd.DataFrame:
    """Every printed cell of Tables 1 to 12 and of Appendix G, and the settings and accuracies of Appendix A.

    Columns: table ("1" to "12", "G" or "text"), network, id_set, ood_set, tuning_set and tuning_heading
    (Tables 10 and 11 only), method ("baseline", "odin" or empty), metric, printed, value, note. What does not
    apply is an empty string.
    """
    return _tables().copy()


def table(number: int | str) -> pd.DataFrame:
    """The cells of one table: 1 to 12, "G" (Appendix G's distances) or "text" (stated in Appendix A only).

    >>> len(table(2))
    280
    """
    cells = _tables()
    name = check_choice("table", str(number), cells["table"].unique())
    return cells[cells["table"] == name].reset_index(drop=True)


def prose() -> pd.DataFrame:
    """The numbers that the paper states in its prose, each with its place and what it is, in our words.

    The columns table to metric name the printed cell that the number repeats; they are empty where there is
    none.
    """
    return _read(HERE / "prose.csv").copy()


def stated(name: str) -> float:
    """The value of one number of :func:`prose` by its id.

    >>> stated("isun-images")
    8925.0
    """
    numbers = _read(HERE / "prose.csv").set_index("id")["value"]
    return float(numbers[check_choice("number", name, numbers.index)])


def claims() -> pd.DataFrame:
    """The paper's claims: id, section, claim (in our words), decided_by, evidence, rule.

    ``decided_by`` names the test that decides the claim, ``rule`` says what the test asks, and ``evidence``
    lists the tables and figures it needs, separated by semicolons.
    """
    return _read(HERE / "claims.csv").copy()


def remarks() -> pd.DataFrame:
    """Slips of the paper that only reading shows: kind, place, printed, read_as, explanation."""
    return _read(HERE / "remarks.csv").copy()


def lookup(
    network: str,
    id_set: str,
    ood_set: str,
    method: str,
    metric: str,
    table: int | str | None = None,
    tuning_set: str | None = None,
) -> float:
    """One printed number, in per cent for rates.

    Args:
        network, id_set, ood_set: names as everywhere in odinlib; an empty string where none applies.
        method: "baseline", "odin", or an empty string (test errors and distances).
        metric: "fpr", "detection_error", "auroc", "aupr_in", "aupr_out", "temperature", "epsilon",
            "test_error", "test_accuracy", "mmd" or "energy".
        table: restrict the search to one table.
        tuning_set: the set that T and epsilon were chosen on. Tables 10 and 11 are searched only if it is
        given.

    Raises:
        UserError: if the paper prints no such number.

    >>> lookup("densenet-bc-100-12", "cifar10", "tinyimagenet-crop", "odin", "fpr")
    4.3
    """
    wanted = {
        "network": network,
        "id_set": id_set,
        "ood_set": ood_set,
        "tuning_set": tuning_set or "",
        "method": method,
        "metric": metric,
    }
    if table is not None:
        wanted["table"] = str(table)
    cells = _tables()
    for column, value in wanted.items():
        cells = cells[cells[column] == value]
    if len(cells) != 1:
        words = " ".join(f"{column}={value}" for column, value in wanted.items() if value)
        raise UserError(f"the paper prints no number for {words}", remedy="reference.tables() lists them all")
    return float(cells["value"].iloc[0])
