"""What the threshold and the choice of T and epsilon do: Figures 13, 14 and 15 and the price of each way to choose.

Every function takes what `measure.effects` measured; rates are in percent.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from odinlib import datasets
from odinlib.errors import UserError
from odinlib.figures.style import (
    COLOURS,
    DASHES,
    MARKERS,
    check_frames,
    in_order,
    letter,
    panels,
    set_line,
    shared_legend,
)


def figure_13(
    thresholds: np.ndarray,
    shares: Mapping[str, np.ndarray],
    threshold: float,
    classes: int,
    title: str,
    tpr: float = 0.95,
) -> Figure:
    """The share of every set that is accepted, against the threshold.

    Args:
        thresholds: delta on the scale of the softmax score [P].
        shares: the in-distribution set first (its TPR), then each other one (its FPR); percent [P].
        threshold: delta at the profile's TPR, drawn as a line.
        classes: K; at a large T all scores crowd at 1/K, and the axis shows (delta - 1/K) x 10^3.
        title: of the network and the setting.
        tpr: that rate.

    Raises:
        UserError: there is no set to draw.
    """
    if not shares:
        raise UserError("there is nothing to draw", expected="the shares of at least one set")
    figure, axes = panels(1, 2, size=(4.3, 3.2))
    places = 1000 * (thresholds - 1 / classes)
    at = 1000 * (threshold - 1 / classes)
    for axis in axes.flat:
        for position, (name, share) in enumerate(shares.items()):
            width = 2.4 if position == 0 else 1.4
            set_line(axis, places, share, name, position, markevery=max(1, len(places) // 12), linewidth=width)
        axis.axvline(at, color="grey", linestyle="--", linewidth=1, label=f"δ at a TPR of {100 * tpr:g} %")
        axis.set(xlabel=f"(threshold δ − 1/{classes}) × 10³", ylabel="Accepted: TPR or FPR (%)", ylim=(-2, 102))
    axes[0, 1].set(xlim=_around(places, next(iter(shares.values())), at))
    letter(axes, [title, "around the threshold"])
    shared_legend(figure, axes[0, 0], columns=3)
    return figure


def figure_14(transfers: Mapping[str, pd.DataFrame], tpr: float = 0.95) -> Figure:
    """FPR on a few test sets with T and epsilon chosen on each of several sets: a panel for each network.

    Args:
        transfers: title of a network, to columns ood_set, tuning_set, baseline, odin (of `effects.transfer`).
        tpr: the true positive rate of the FPR.
    """
    frames = list(transfers.values())
    check_frames(frames, ["ood_set", "tuning_set", "baseline", "odin"])
    tested = in_order(frame["ood_set"] for frame in frames)
    chosen_on = in_order(frame["tuning_set"] for frame in frames)
    height = max(2.4, 0.2 * len(chosen_on) * (len(tested) + 1) + 0.8)
    figure, axes = panels(1, len(frames), share_y=True, size=(7.2 if len(frames) == 1 else 4.2, height))
    width = 0.8 / len(tested)
    for axis, frame in zip(axes.flat, frames, strict=True):
        cells = frame.set_index(["ood_set", "tuning_set"])
        for position, name in enumerate(tested):
            colour = COLOURS[(position + 1) % len(COLOURS)]
            rates = [cells["odin"].get((name, other), np.nan) for other in chosen_on]
            places = np.arange(len(chosen_on)) + (position - (len(tested) - 1) / 2) * width
            hatch = ("", "//", "..", "xx")[position % 4]
            label = f"tested on {datasets.title(name)}"
            axis.barh(places, rates, width, color=colour, hatch=hatch, edgecolor="white", label=label)
            baseline = frame.loc[frame["ood_set"] == name, "baseline"]
            if len(baseline):
                dash = DASHES[1 + position % (len(DASHES) - 1)]
                axis.axvline(baseline.iloc[0], color=colour, linestyle=dash, linewidth=1.5)
        axis.plot([], [], color="grey", linestyle="--", linewidth=1, label="the baseline, on the set of that colour")
        axis.set_xlabel(f"FPR at {100 * tpr:g} % TPR (%)")
        axis.grid(False, axis="y")
    axes[0, 0].set_yticks(range(len(chosen_on)), [datasets.title(s) for s in chosen_on])
    axes[0, 0].set_ylabel("T and ε tuned on")
    axes[0, 0].invert_yaxis()
    letter(axes, list(transfers))
    shared_legend(figure, axes[0, 0], columns=2)
    return figure


def figure_15(measured: pd.DataFrame, title: str, tpr: float = 0.95) -> Figure:
    """FPR on test images against the number of images that T and epsilon were chosen on.

    Args:
        measured: columns ood_set, size, fpr (of `effects.tuning_size_effect`).
        title: of the network.
        tpr: the true positive rate of the FPR.
    """
    check_frames([measured], ["ood_set", "size", "fpr"])
    figure, axes = panels(1, 1, size=(5.6, 3.4))
    axis = axes[0, 0]
    for position, name in enumerate(in_order([measured["ood_set"]]), start=1):
        rows = measured[measured["ood_set"] == name].sort_values("size")
        set_line(axis, rows["size"].to_numpy(), rows["fpr"].to_numpy(), name, position)
    axis.set(xlabel="Tuning images of each kind", ylabel=f"FPR at {100 * tpr:g} % TPR (%)", title=title)
    axis.set_ylim(0, max(10, 1.05 * measured["fpr"].max()))
    for line in axis.get_lines():
        line.set_clip_on(False)  # a rate of 0 lies on the axis
    shared_legend(figure, axis, columns=2)
    return figure


def tuning_rules(measured: pd.DataFrame, rule_titles: Mapping[str, str], title: str, tpr: float = 0.95) -> Figure:
    """FPR on every set by each way to choose T and epsilon: what each choice buys and what it costs.

    Args:
        measured: columns ood_set, rule, fpr (of `effects.tuning_rules`).
        rule_titles: rule to its title (`effects.RULES`).
        title: of the network.
        tpr: the true positive rate of the FPR.
    """
    check_frames([measured], ["ood_set", "rule", "fpr"])
    sets, rules = in_order([measured["ood_set"]]), in_order([measured["rule"]])
    figure, axes = panels(1, 1, size=(6.6, 0.5 * len(sets) + 1.2))
    axis = axes[0, 0]
    for position, rule in enumerate(rules):
        rows = measured[measured["rule"] == rule]
        places = np.array([sets.index(name) for name in rows["ood_set"]])
        places = places + 0.09 * (position - (len(rules) - 1) / 2)  # apart, so that equal rates do not hide each other
        marker, colour = MARKERS[position % len(MARKERS)], COLOURS[position % len(COLOURS)]
        axis.scatter(rows["fpr"], places, s=26, marker=marker, color=colour, label=rule_titles.get(rule, rule))
    axis.set_yticks(range(len(sets)), [datasets.title(name) for name in sets])
    axis.invert_yaxis()
    axis.set(xlabel=f"FPR at {100 * tpr:g} % TPR (%)", title=title)
    shared_legend(figure, axis, columns=1)
    return figure


def mean_score(measured: Mapping[str, pd.DataFrame], temperature: float) -> Figure:
    """The mean score of held-out in-distribution images against epsilon: the curve that Hsu et al. maximise.

    Args:
        measured: title of a network, to columns epsilon, score (of `effects.mean_scores`); a curve each.
        temperature: T of the scores.
    """
    check_frames(list(measured.values()), ["epsilon", "score"])
    figure, axes = panels(1, 1, size=(5.2, 3.2))
    axis = axes[0, 0]
    for position, (title, frame) in enumerate(measured.items()):
        rows, colour = frame.sort_values("epsilon"), COLOURS[position + 1]
        axis.plot(rows["epsilon"], rows["score"], color=colour, marker=MARKERS[position], label=title)
        best = rows.loc[rows["score"].idxmax()]
        axis.plot(best["epsilon"], best["score"], marker="o", markersize=11, color=colour, fillstyle="none")
    axis.set(
        xlabel="Perturbation magnitude ε (pixel units)",
        ylabel=f"Mean score g at T = {temperature:g}\n(units of the network's outputs)",
    )
    axis.locator_params(axis="x", nbins=5)
    axis.legend(fontsize="small")
    return figure


def _around(thresholds: np.ndarray, share_in: np.ndarray, threshold: float) -> tuple[float, float]:
    """From where nearly all in-distribution images are accepted to where half of them are."""
    shown = thresholds[(share_in <= 99.8) & (share_in >= 50)]
    if len(shown) < 2:
        return float(thresholds[0]), float(thresholds[-1])
    return float(min(shown[0], threshold)), float(max(shown[-1], threshold))
