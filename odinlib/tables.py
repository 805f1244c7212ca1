"""One function per table of the paper: ours in the paper's own layout, and beside every number the paper's.

Each takes measured frames (of `odinlib.experiments`) and gives a pandas Styler that renders as a table of the
book. The rule of the verdict is stated once, in `verdict`.
"""

import contextlib
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler
from torch import Tensor

from odinlib import datasets, experiments, metrics, networks, reference
from odinlib.errors import Missing
from odinlib.profiles import Profile

METRIC_TITLES = {
    "fpr": "FPR at 95 % TPR ↓",
    "detection_error": "Detection error ↓",
    "auroc": "AUROC ↑",
    "aupr_in": "AUPR-In ↑",
    "aupr_out": "AUPR-Out ↑",
}
LOWER_IS_BETTER = ("fpr", "detection_error")
METHOD_TITLES = {"baseline": "Baseline", "odin": "ODIN"}
NEAR = 2.0  # percentage points
NOT_RECORDED = "<small>not recorded</small>"
_MEASURED = (
    *("network", "id_set", "ood_set", "method", "metric", "value", "low", "high"),
    *("temperature", "epsilon", "images_in", "images_out"),
)


def verdict(ours: float, low: float, high: float, printed: str) -> str:
    """How a measured value stands to the printed one.

    `reproduced`: the printed value lies in our 95 % interval, widened by half a unit of its last digit;
    `near`: it lies within two points of ours; otherwise `differs`.

    >>> verdict(34.1, 33.1, 35.0, "34.7"), verdict(30.0, 29.5, 30.5, "31.9"), verdict(30.0, 29.0, 31.0, "40")
    ('reproduced', 'near', 'differs')
    """
    value = float(printed)
    rounding = 0.5 * 10.0 ** -len(printed.partition(".")[2])
    if low - rounding <= value <= high + rounding:
        return "reproduced"
    return "near" if abs(ours - value) <= NEAR else "differs"


def is_the_papers(profile: Profile, *names: str) -> bool:
    """Whether every network and set named is the paper's own and not one that stands for it."""
    return all(profile.paper_name(name) == name for name in names)


def comparison(profile: Profile, measured: pd.DataFrame, table: int | None = None) -> pd.DataFrame:
    """Paper, ours, difference, interval and verdict for every measured number.

    Where a network or a set only stands for the paper's, values cannot be compared; the verdict then says
    whether ODIN moves the measure from the baseline in the direction that the paper prints.

    Args:
        profile: says whose role each network and set plays.
        measured: rows of `experiments.detection`.
        table: the paper's table to look in, where a number is printed in several.

    Returns:
        The rows of `measured` with `paper` (as printed, or NaN), `difference` and `verdict`.
    """
    if measured.empty:
        return pd.DataFrame(columns=[*_MEASURED, "paper", "difference", "verdict"])
    baseline = measured[measured.method == "baseline"].set_index(["network", "id_set", "ood_set", "metric"]).value
    rows = []
    for row in measured.to_dict("records"):
        key = (row["network"], row["id_set"], row["ood_set"])
        network, id_set, ood_set = (profile.paper_name(name) for name in key)
        printed, printed_baseline = (
            reference.lookup(network, id_set, ood_set, method, row["metric"], table)
            for method in (row["method"], "baseline")
        )
        if printed is None:
            rows.append({**row, "paper": None, "difference": math.nan, "verdict": "not in the paper"})
            continue
        if is_the_papers(profile, *key):
            found = verdict(row["value"], row["low"], row["high"], printed)
        elif row["method"] == "baseline" or printed_baseline is None:
            found = "not comparable"
        else:
            ours = row["value"] - baseline.get((*key, row["metric"]), math.nan)
            same = _sign(ours) == _sign(float(printed) - float(printed_baseline))
            found = "same direction" if same else "other direction"
        rows.append({**row, "paper": printed, "difference": row["value"] - float(printed), "verdict": found})
    return pd.DataFrame(rows)


def detection_table(
    profile: Profile, compared: pd.DataFrame, missing: Mapping[tuple[str, str, str], str] | None = None
) -> Styler:
    """Tables 2, 3 and 12 in the paper's layout: "baseline / ODIN" in each cell, and under it, small, the paper's.

    Args:
        profile: for the titles.
        compared: of `comparison`.
        missing: pairs that could not be measured here, and why; one line for each network and in-distribution set.
    """
    lines = {}
    for key, block in compared.groupby(["network", "id_set", "ood_set"], sort=False):
        lines[key] = {
            METRIC_TITLES[metric]: _pair_cell(block[block.metric == metric].set_index("method"), metric)
            for metric in metrics.METRICS
        }
    index = [(_pair_title(profile, key[0], key[1]), set_title(profile, key[2])) for key in lines]
    not_there: dict[tuple[str, str], list[str]] = {}
    for network, id_set, ood_set in missing or {}:
        not_there.setdefault((network, id_set), []).append(ood_set)
    for (network, id_set), ood_sets in not_there.items():
        every = len(ood_sets) > 1 and set(ood_sets) >= set(profile.ood_sets.get(id_set, ()))
        told = names(set_title(profile, s) for s in ood_sets) if len(ood_sets) <= 4 else f"{len(ood_sets)} more sets"
        told = f"all {len(ood_sets)} sets" if every else told
        index.append((_pair_title(profile, network, id_set), _small(told)))
        lines[network, id_set, told] = dict.fromkeys(METRIC_TITLES.values(), "–") | {METRIC_TITLES["fpr"]: NOT_RECORDED}
    named = pd.MultiIndex.from_tuples(index, names=["Network, in-distribution", "Out-of-distribution set"])
    return plain(pd.DataFrame(list(lines.values()), index=named))


def comparison_table(profile: Profile, compared: pd.DataFrame) -> Styler:
    """Every number of `comparison` on a line of its own."""
    frame = pd.DataFrame(
        {
            "Network": [network_title(n) for n in compared.network],
            "ID": [datasets.title(s) for s in compared.id_set],
            "OOD": [set_title(profile, s) for s in compared.ood_set],
            "Method": [METHOD_TITLES[m] for m in compared.method],
            "Measure": [METRIC_TITLES[m] for m in compared.metric],
            "Paper": ["–" if p is None else p for p in compared.paper],
            "Ours": [f"{v:.1f}" for v in compared.value],
            "95 % interval": [
                f"{low:.1f} to {high:.1f}" for low, high in zip(compared.low, compared.high, strict=True)
            ],
            "Difference": ["–" if math.isnan(d) else f"{d:+.1f}" for d in compared.difference],
            "Verdict": list(compared.verdict),
        }
    )
    return plain(frame).hide(axis="index")


def recipe_table(profile: Profile) -> Styler:
    """Every network of the run: its size, how it was trained or where it comes from, and how long it took."""
    cards, missing = experiments.gather(lambda *job: experiments.card(profile, *job), _jobs(profile))
    rows = []
    for (name, id_set), card in cards.items():
        recipe = card.get("recipe")
        told = (
            f"{recipe['epochs']} epochs of batches of {recipe['batch']}, {recipe['optimiser']}, "
            f"rate {recipe['learning_rate']:g}, weight decay {recipe['weight_decay']:g}"
            if recipe
            else f"trained by others: {card.get('origin', 'unknown')}"
        )
        seconds = f"{card['seconds']:.0f} s" if "seconds" in card else "–"
        rows.append(
            [
                network_title(name),
                datasets.title(id_set),
                f"{card['parameters']:,}",
                told,
                f"{100 * card['accuracy']:.2f}" if "accuracy" in card else "not measured",
                seconds,
            ]
        )
    not_there: dict[str, list[str]] = {}
    for name, id_set in missing:
        not_there.setdefault(name, []).append(datasets.title(id_set))
    rows += [[network_title(name), names(sets), "–", NOT_RECORDED, "–", "–"] for name, sets in not_there.items()]
    columns = ["Network", "Trained on", "Parameters", "How", "Test accuracy (%)", "Training took"]
    return plain(pd.DataFrame(rows, columns=columns)).hide(axis="index")


def differences(profile: Profile) -> list[str]:
    """What bears the paper's name in this run and is not the paper's: networks that others trained, a sentence each."""
    told = []
    for name, id_set in _jobs(profile):
        if f"{name}_{id_set}" not in profile.origins:
            continue
        with contextlib.suppress(Missing):
            card = experiments.card(profile, name, id_set)
            sentence = (
                f"**{network_title(name)} on {datasets.title(id_set)}** was not trained by the paper's recipe of "
                f"{profile.recipe(name).epochs} epochs: {card['origin']}"
            )
            if "accuracy" in card:
                sentence += f", test accuracy {100 * card['accuracy']:.2f} %"
            error = reference.lookup(profile.paper_name(name), profile.paper_name(id_set), None, None, "test_error")
            if error is not None:
                sentence += f" (the paper's network: {100 - float(error):.2f} %)"
            told.append(f"{sentence}.")
    return told


def set_table(profile: Profile) -> Styler:
    """The out-of-distribution sets of the run, and what each stands for."""
    rows: dict[str, dict[str, Any]] = {}
    for id_set in (*profile.id_sets, profile.grey_id_set):
        for name in profile.ood_sets[id_set]:
            role = profile.paper_name(name)
            entry = rows.setdefault(
                name,
                {
                    "Set": set_title(profile, name),
                    "In the role of": "itself" if role == name else reference.title(role),
                    "Resampled by": datasets.variant(name)[1] or "–",
                    "Used with": [],
                },
            )
            entry["Used with"].append(datasets.title(id_set))
    frame = pd.DataFrame(list(rows.values()))
    frame["Used with"] = frame["Used with"].map(", ".join)
    return plain(frame).hide(axis="index")


def headline_text(profile: Profile, scores: Mapping[str, tuple[Tensor, Tensor]]) -> str:
    """One sentence with the false positive rates of Figure 1, ours and the paper's."""
    rates = {method: 100 * metrics.fpr_at_tpr(*pair, tpr=profile.tpr).item() for method, pair in scores.items()}
    told = " and ".join(
        f"{rate:.1f} % with {'the baseline' if method == METHOD_TITLES['baseline'] else method}"
        for method, rate in rates.items()
    )
    setting = experiments.headline_setting(profile)
    return (
        f"At a true positive rate of {100 * profile.tpr:g} % the false positive rate is {told} "
        f"(T = {setting.temperature:g}, ε = {setting.epsilon:g}; these are fixed, not tuned). "
        f"The paper's text gives {reference.stated('figure-1-fpr-baseline'):g} % and "
        f"{reference.stated('figure-1-fpr-odin'):g} % for its DenseNet on CIFAR-10 against Tiny ImageNet crops."
    )


def error_table(profile: Profile) -> Styler:
    """Table 1: test error rates, and the paper's for the same roles."""
    rows = {}
    for name in profile.networks[:2]:
        cells = {}
        for id_set in profile.id_sets[:2]:
            printed = reference.lookup(
                profile.paper_name(name), profile.paper_name(id_set), None, None, "test_error", table=1
            )
            try:
                ours = f"{100 * experiments.test_error(profile, name, id_set):.2f}"
            except Missing:
                ours = NOT_RECORDED
            same = is_the_papers(profile, name, id_set)
            cells[datasets.title(id_set)] = f"{ours}<br>{_small(_paper_says(profile, printed, same, name, id_set))}"
        rows[network_title(name)] = cells
    return plain(pd.DataFrame(rows).T.rename_axis("Network"))


def accuracy_table(profile: Profile) -> Styler:
    """Test accuracies that the paper states in Appendix A.1 only, and ours in the same roles."""
    rows = []
    jobs = [(profile.networks[-1], s) for s in profile.id_sets[:2]]
    jobs += [(name, profile.id_sets[-1]) for name in profile.networks]
    for name, id_set in dict.fromkeys([*jobs, (profile.grey_network, profile.grey_id_set)]):
        printed = reference.lookup(profile.paper_name(name), profile.paper_name(id_set), None, None, "test_accuracy")
        try:
            ours = f"{100 - 100 * experiments.test_error(profile, name, id_set):.2f}"
        except Missing:
            ours = NOT_RECORDED
        same = is_the_papers(profile, name, id_set)
        told = _paper_says(profile, printed, same, name, id_set)
        rows.append([network_title(name), datasets.title(id_set), ours, told])
    columns = ["Network", "Trained on", "Test accuracy (%)", "The paper"]
    return plain(pd.DataFrame(rows, columns=columns)).hide(axis="index")


def scorecard_table(card: pd.DataFrame) -> Styler:
    """The claims of `odinlib.scorecard`, with the verdict of the run and the numbers behind it."""
    marks = {"holds": "✓ holds", "fails": "✗ fails", "not recorded": "– not recorded"}
    frame = pd.DataFrame(
        {
            "Section": list(card.section),
            "Claim": list(card.claim),
            "Decided by": list(card.rule),
            "Verdict": [f"<b>{marks[v]}</b>" for v in card.verdict],
            "This run": [_small(re.sub("`(.*?)`", r"<code>\1</code>", told)) for told in card.told],
        }
    )
    return plain(frame).hide(axis="index")


def setting_table(profile: Profile, name: str, parameter: str) -> Styler:
    """Tables 4 to 9: the epsilon or the temperature chosen for each pair of one network, and the paper's.

    Args:
        profile: which sets.
        name: the network.
        parameter: `epsilon` or `temperature`.
    """
    rows: dict[str, dict[str, str]] = {}
    for id_set in profile.id_sets:
        for ood_set in profile.ood_sets[id_set]:
            key = (profile.paper_name(name), profile.paper_name(id_set), profile.paper_name(ood_set))
            printed = reference.lookup(*key, "odin", parameter)
            try:
                ours = f"{getattr(experiments.tune(profile, name, id_set, ood_set), parameter):g}"
            except Missing:
                if key[2] != ood_set and key[2] in profile.ood_sets[id_set]:
                    continue  # nothing of a stand-in: the paper's number stands in the line of the set itself
                ours = NOT_RECORDED
            cell = f"{ours}<br>{_small(f'paper {printed}' if printed else 'not in the paper')}"
            rows.setdefault(set_title(profile, ood_set), {})[datasets.title(id_set)] = cell
    return plain(pd.DataFrame(rows).T.fillna("–").rename_axis("Out-of-distribution set"))


def transfer_table(profile: Profile, name: str, compared: pd.DataFrame) -> Styler:
    """Tables 10 and 11: FPR on the set of each row with the parameters tuned on the set of each column.

    Args:
        profile: for the titles.
        name: the network.
        compared: columns ood_set, tuning_set, baseline, odin (in percent).
    """
    number = {0: 10, 1: 11}.get(profile.networks.index(name) if name in profile.networks else -1)
    rows: dict[str, dict[str, str]] = {}
    for row in compared.to_dict("records"):
        network, id_set, ood_set, tuning_set = (
            profile.paper_name(n) for n in (name, row["id_set"], row["ood_set"], row["tuning_set"])
        )
        printed = [
            reference.lookup(network, id_set, ood_set, method, "fpr", number, tuning_set)
            for method in ("baseline", "odin")
        ]
        told = f"paper {printed[0]} / {printed[1]}" if printed[0] else "not in the paper"
        cell = f"{row['baseline']:.1f} / {row['odin']:.1f}<br>{_small(told)}"
        rows.setdefault(set_title(profile, row["ood_set"]), {})[set_title(profile, row["tuning_set"])] = cell
    return plain(pd.DataFrame(rows).T.rename_axis("Test set"))


def network_title(name: str) -> str:
    """A network's name as the paper writes it: `densenet-bc-100-12` is "DenseNet-BC-100 (k = 12)"."""
    family = networks.family_of(name)
    numbers = name.removeprefix(family + "-")
    if family == "densenet-bc":
        depth, growth = numbers.split("-")
        return f"DenseNet-BC-{depth} (k = {growth})"
    return f"WRN-{numbers}" if family == "wrn" else f"MLP {numbers.replace('x', ' × ')}"


def set_title(profile: Profile, name: str) -> str:
    """A set's own title; a stand-in never carries the name of what it stands for."""
    return datasets.title(name)


def plain(frame: pd.DataFrame) -> Styler:
    """A Styler that renders with the theme's own table style, and to the same bytes in every run."""
    fingerprint = hashlib.sha256(frame.to_json().encode()).hexdigest()[:10]
    styler = frame.style.set_uuid(fingerprint).set_table_attributes('class="dataframe"')
    return styler.format(escape=None)


def _pair_cell(block: pd.DataFrame, metric: str) -> str:
    values = [block.value[method] for method in METHOD_TITLES]
    better = values[1] < values[0] if metric in LOWER_IS_BETTER else values[1] > values[0]
    baseline, odin = (f"{value:.1f}" for value in values)
    printed = [block.paper[method] for method in METHOD_TITLES]
    told = f"{printed[0]} / {printed[1]}" if printed[0] is not None else "–"
    ours = f"{baseline} / {f'<b>{odin}</b>' if better else odin}"
    return f"{_unbroken(ours)}<br>{_small(_unbroken(told))}"


def _jobs(profile: Profile) -> list[tuple[str, str]]:
    """Every network of the run, and what it is trained on."""
    jobs = [(name, id_set) for name in profile.networks for id_set in profile.id_sets]
    return [*jobs, (profile.grey_network, profile.grey_id_set)]


def _paper_says(profile: Profile, printed: str | None, same: bool, *names: str) -> str:
    if printed is None:
        return "not in the paper"
    roles = ", ".join(profile.paper_name(name) for name in names)
    return f"paper {printed}" if same else f"paper {printed} ({roles})"


def _pair_title(profile: Profile, name: str, id_set: str) -> str:
    return f"{network_title(name)}<br>{datasets.title(id_set)}"


def _unbroken(text: str) -> str:
    return f'<span style="white-space: nowrap">{text}</span>'


def _small(text: str) -> str:
    return f"<small>{text}</small>"


def _sign(number: float) -> int:
    return int(number > 0) - int(number < 0)


def names(items: Iterable[str]) -> str:
    """Titles in a sentence: "a, b and c"."""
    words = list(items)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
