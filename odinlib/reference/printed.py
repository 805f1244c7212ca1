"""The numbers that the paper prints, one row per printed cell, and how to look one up.

The CSV files beside this module were transcribed from the ICLR 2018 version once and are never written by
code. Rates are percentages; ``value`` is the number, ``printed`` the characters on the page.
"""

from functools import cache
from pathlib import Path

import pandas as pd

from odinlib.errors import check_choice
from odinlib.metrics import METRICS

HERE = Path(__file__).parent

OTHER_METRICS = ("temperature", "epsilon", "test_error", "test_accuracy", "mmd", "energy")
KEY = ("network", "id_set", "ood_set", "tuning_set", "method", "metric")

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

    The columns table to metric name the printed cell that the number repeats; they are empty without one.
    """
    return _read(HERE / "prose.csv").copy()


def stated(name: str) -> float:
    """The value of one number of :func:`prose` by its id.

    >>> stated("isun-images")
    8925.0
    """
    numbers = _read(HERE / "prose.csv").set_index("id")["value"]
    return float(numbers[check_choice("number", name, numbers.index)])


def elsewhere() -> pd.DataFrame:
    """Numbers that are printed elsewhere for the paper's networks: source (a key of the bibliography), and as `tables`.

    They are from the notebook that Hendrycks & Gimpel published beside their article, whose network the paper takes
    for MNIST, and from what the paper's authors published with their code.
    """
    return _read(HERE / "elsewhere.csv").copy()


def claims() -> pd.DataFrame:
    """The paper's claims: id, section, page, quantifier, claim (in our words), decided_by, evidence, rule.

    ``quantifier`` is the paper's own word for how far the claim goes ("all", "can", "tends to"; "none" where there
    is none), ``decided_by`` names the test that decides the claim, ``rule`` says what the test asks, and ``evidence``
    lists the tables and figures it needs, separated by semicolons. Names in braces stand for the sets, settings and
    sizes of a run.
    """
    return _read(HERE / "claims.csv").copy()


def remarks() -> pd.DataFrame:
    """Slips of the paper that only reading shows: kind, place, printed, read_as, explanation."""
    return _read(HERE / "remarks.csv").copy()


@cache
def _index() -> dict[tuple[str, ...], dict[str, str]]:
    """Every printed cell by network, sets, tuning set, method and metric: {table: characters on the page}."""
    index: dict[tuple[str, ...], dict[str, str]] = {}
    for row in _tables().to_dict("records"):
        key = tuple(row[column] for column in KEY)
        index.setdefault(key, {})[row["table"]] = row["printed"]
    return index


def lookup(
    network: str | None,
    id_set: str,
    ood_set: str | None,
    method: str | None,
    metric: str,
    table: int | str | None = None,
    tuning_set: str | None = None,
) -> str | None:
    """One number as the paper prints it (rates in per cent), or None where it prints none.

    The characters are returned because their digits say how far the number was rounded; ``float`` gives its
    value.

    Args:
        network, id_set, ood_set: names as everywhere in odinlib; None where none applies.
        method: "baseline" or "odin"; None for test errors, accuracies and distances.
        metric: "fpr", "detection_error", "auroc", "aupr_in", "aupr_out", "temperature", "epsilon",
            "test_error", "test_accuracy", "mmd" or "energy".
        table: restrict the search to one table.
        tuning_set: the set that T and epsilon were chosen on; Tables 10 and 11 are searched only with it.

    Raises:
        UserError: if the method or the metric is none that the paper uses.

    >>> lookup("densenet-bc-100-12", "cifar10", "tinyimagenet-crop", "odin", "fpr")
    '4.3'
    >>> lookup("densenet-bc-100-12", "cifar10", "svhn", "odin", "fpr") is None
    True
    """
    check_choice("method", method or "", ["baseline", "odin", ""])
    check_choice("metric", metric, [*METRICS, *OTHER_METRICS])
    found = _index().get((network or "", id_set, ood_set or "", tuning_set or "", method or "", metric), {})
    if table is not None:
        return found.get(str(table))
    return next(iter(found.values()), None)
