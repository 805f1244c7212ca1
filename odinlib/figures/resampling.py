"""What the filter of a resized set does: to waves, and to the detection of the set.

A filter has the same colour and marker in all panels; those that average over all the pixels that a new one covers
(antialiasing) have dashed lines.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from odinlib.datasets import resample
from odinlib.errors import UserError
from odinlib.figures.style import (
    BASELINE,
    COLOURS,
    MARKERS,
    ODIN,
    check_frames,
    in_order,
    letter,
    panels,
    shared_legend,
)

#: The colour, marker and filling of each method of `effects.FILTER_METHODS`.
_METHODS = {
    "baseline": (BASELINE, "o", True),
    "temperature": ("#009E73", "^", True),
    "odin": (ODIN, "s", True),
    "best": (ODIN, "s", False),
}


def filter_response(filters: Sequence[str], factors: Sequence[int]) -> Figure:
    """How much of a wave each filter leaves, against the wave's frequency: a panel for each reduction.

    Right of the Nyquist frequency (shaded) nothing should be left.

    Args:
        filters: of `resample.FILTERS`.
        factors: how many old pixels, along a side, go into a new one.
    """
    if not filters or not factors:
        raise UserError("there is nothing to draw", expected="at least one filter and one factor")
    figure, axes = panels(1, len(factors), share_y=True, size=(3.8, 3.0))
    for axis, factor in zip(axes.flat, factors, strict=True):
        frequencies = np.linspace(0, factor / 2, 161)
        for filter in filters:
            shares = resample.frequency_response(filter, factor, frequencies)
            axis.plot(frequencies, shares, **_line(filters, filter), markevery=16)
        axis.axvspan(min(0.5, factor / 2), factor / 2, color="0.93", zorder=0)
        axis.set(xlabel="Frequency (cycles per new pixel)", xlim=(0, factor / 2), ylim=(-0.03, 1.08))
    axes[0, 0].set_ylabel("Amplitude left (share)")
    letter(axes, [f"{factor} pixels to one" for factor in factors])
    shared_legend(figure, axes[0, 0], columns=3)
    return figure


def filter_effect(
    against_epsilon: pd.DataFrame,
    measured: pd.DataFrame,
    method_titles: Mapping[str, str],
    temperature: float,
    tpr: float = 0.95,
) -> Figure:
    """FPR against epsilon for each filter, and by each method with its interval.

    Args:
        against_epsilon: columns filter, epsilon, fpr (of `effects.epsilon_effect` at the large T, and its filter).
        measured: columns filter, method, fpr, fpr_low, fpr_high (of `effects.filter_effect`).
        method_titles: method to its title (`effects.FILTER_METHODS`).
        temperature: T of the curves.
        tpr: the true positive rate of the FPR.

    Raises:
        UserError: a frame is empty, or lacks a column or a number.
    """
    check_frames([against_epsilon], ["filter", "epsilon", "fpr"])
    check_frames([measured], ["filter", "method", "fpr", "fpr_low", "fpr_high"])
    filters = in_order([measured["filter"]])
    figure, axes = panels(1, 2, size=(4.2, max(3.2, 0.45 * len(filters) + 1.2)))
    curves, dots = axes.flat
    for filter in in_order([against_epsilon["filter"]]):
        rows = against_epsilon[against_epsilon["filter"] == filter].sort_values("epsilon")
        curves.plot(rows["epsilon"], rows["fpr"], **_line(filters, filter))
    curves.set(xlabel="Magnitude ε (pixel units)", ylabel=f"FPR at {100 * tpr:g} % TPR (%)")
    curves.locator_params(axis="x", nbins=5)
    curves.legend(fontsize="x-small", frameon=True, edgecolor="none")
    _dots(dots, measured, filters, method_titles)
    dots.set_xlabel(f"FPR at {100 * tpr:g} % TPR (%)")
    letter(axes, [f"T = {temperature:g}", "by method, with 95 % intervals"])
    shared_legend(figure, dots, columns=2)
    return figure


def _dots(axis: Axes, measured: pd.DataFrame, filters: Sequence[str], titles: Mapping[str, str]) -> None:
    methods = in_order([measured["method"]])
    for position, method in enumerate(methods):
        rows = measured[measured["method"] == method]
        colour, marker, full = _METHODS[method]
        places = np.array([filters.index(filter) for filter in rows["filter"]])
        axis.errorbar(
            rows["fpr"],
            places + 0.16 * (position - (len(methods) - 1) / 2),  # apart, so that equal rates do not hide each other
            xerr=np.maximum(0, [rows["fpr"] - rows["fpr_low"], rows["fpr_high"] - rows["fpr"]]),
            color=colour,
            marker=marker,
            markerfacecolor=colour if full else "white",
            markersize=5,
            linestyle="none",
            linewidth=1,
            label=titles.get(method, method),
        )
    axis.set_yticks(range(len(filters)), filters)
    axis.invert_yaxis()


def _line(filters: Sequence[str], filter: str) -> dict[str, str]:
    place = list(filters).index(filter)
    dashed = "--" if filter in resample.ANTIALIASED else "-"
    colour, marker = COLOURS[(place + 1) % len(COLOURS)], MARKERS[place % len(MARKERS)]
    return {"color": colour, "marker": marker, "linestyle": dashed, "label": filter}
