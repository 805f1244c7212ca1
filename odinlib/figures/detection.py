"""How well the sets are told apart: Figures 1 and 2."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from odinlib import datasets, metrics
from odinlib.figures.style import BASELINE, DASHES, ODIN, letter, panels


def figure_1(scores: Mapping[str, tuple[Tensor, Tensor]], tpr: float = 0.95) -> Figure:
    """ROC curves of several methods on one pair of sets, in full and where the curves part.

    Args:
        scores: method title, to scores of in- and out-of-distribution images ([n], [m]).
        tpr: where the false positive rate is read.
    """
    figure, axes = panels(1, 2, size=(4.0, 3.4))
    colours = (BASELINE, ODIN, "#009E73", "#CC79A7")
    for (method, pair), colour, dash in zip(scores.items(), colours, DASHES, strict=False):
        fpr, tpr_curve = metrics.roc_curve(*pair)
        at = 100 * metrics.fpr_at_tpr(*pair, tpr=tpr).item()
        for axis in axes.flat:
            label = f"{method}: FPR {at:.1f} %"
            axis.step(100 * fpr, 100 * tpr_curve, where="post", color=colour, linestyle=dash, label=label)
            axis.vlines(at, 0, 100 * tpr, color=colour, linestyle=":", linewidth=1)
    for axis in axes.flat:
        axis.axhline(100 * tpr, color="grey", linewidth=0.8, linestyle="--")
        axis.set(xlabel="False positive rate (%)", ylabel="True positive rate (%)", xlim=(0, 100), ylim=(0, 100.5))
    axes[0, 1].set(ylim=(80, 100.2))
    axes[0, 0].legend(loc="lower right")
    letter(axes, ["whole curve", f"near {100 * tpr:g} %"])
    return figure


def figure_2(measured: pd.DataFrame, titles: Mapping[tuple[str, str], str]) -> Figure:
    """FPR and detection error beside the MMD of each set, the sets in falling order of MMD.

    Args:
        measured: columns network, id_set, ood_set, fpr, detection_error (percent), mmd.
        titles: (network, ID set) to the panel's title; one panel each, in this order.
    """
    titles = {
        key: title for key, title in titles.items() if key in set(zip(measured.network, measured.id_set, strict=True))
    }
    columns = min(2, len(titles))
    figure, axes = panels(-(-len(titles) // columns), columns, size=(4.4, 3.2))
    for axis in axes.flat[len(titles) :]:
        axis.remove()
    for axis, (network, id_set) in zip(axes.flat, titles, strict=False):
        rows = measured[(measured.network == network) & (measured.id_set == id_set)]
        rows = rows.sort_values("mmd", ascending=False)
        positions = range(1, len(rows) + 1)
        axis.plot(positions, rows.fpr, color="#D55E00", marker="o", label="FPR at 95 % TPR")
        axis.plot(positions, rows.detection_error, color="#0072B2", marker="s", label="Detection error")
        axis.set(ylabel="Rate (%)", ylim=(0, None))
        axis.set_xticks(
            list(positions), [datasets.title(s) for s in rows.ood_set], rotation=30, ha="right", rotation_mode="anchor"
        )
        axis.set_xlabel("Out-of-distribution set")
        distance = axis.twinx()
        distance.plot(positions, rows.mmd, color="black", marker="^", linestyle="--", label="MMD")
        distance.set(ylabel="MMD", ylim=(0, None))
        distance.grid(False)
    lines = [*axis.get_lines(), *distance.get_lines()]  # below the panels, where no line runs through it
    figure.legend(lines, [str(line.get_label()) for line in lines], loc="outside lower center", ncols=3, handlelength=3)
    letter(axes.flat[: len(titles)], list(titles.values()))
    return figure
