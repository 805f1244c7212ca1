"""What things are called: networks, sets and measures, in a table, a legend or a sentence."""

from collections.abc import Iterable

from odinlib import datasets, networks

METRIC_TITLES = {
    "fpr": "FPR at 95 % TPR ↓",
    "detection_error": "Detection error ↓",
    "auroc": "AUROC ↑",
    "aupr_in": "AUPR-In ↑",
    "aupr_out": "AUPR-Out ↑",
}
METHOD_TITLES = {"baseline": "Baseline", "stated": "ODIN, the paper's T and ε", "odin": "ODIN"}


def network_title(name: str) -> str:
    """A network's name as the paper writes it: `densenet-bc-100-12` is "DenseNet-BC-100 (k = 12)"."""
    family = networks.family_of(name)
    numbers = name.removeprefix(family + "-")
    if family == "densenet-bc":
        depth, growth = numbers.split("-")
        return f"DenseNet-BC-{depth} (k = {growth})"
    return f"WRN-{numbers}" if family == "wrn" else f"MLP {numbers.replace('x', ' × ')}"


def set_title(name: str) -> str:
    """A set's own title; a stand-in never carries the name of what it stands for."""
    return datasets.title(name)


def asked_in(precision: str) -> str:
    """What is said of a network whose answers are not in float32, behind its name: ", asked in float16"."""
    return "" if precision == "float32" else f", asked in {precision}"


def listed(items: Iterable[str]) -> str:
    """Titles in a sentence: "a, b and c"."""
    words = list(items)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
