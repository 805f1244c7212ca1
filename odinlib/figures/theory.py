"""What the temperature's limit looks like: Equation 3 against the score, and Proposition 1's convergence."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from odinlib import datasets
from odinlib.figures.style import (
    BASELINE,
    COLOURS,
    MARKERS,
    ODIN,
    check_frames,
    in_order,
    letter,
    panels,
    set_line,
    shared_legend,
)
from odinlib.moments import slope


def one_term() -> Figure:
    """One exponential between its partial sums, and what the score is built of against its two expansions."""
    x = np.linspace(0, 3, 301)
    figure, axes = panels(1, 2, size=(3.8, 3.0))
    sums = {"1": 1 + 0 * x, "1 − x": 1 - x, "1 − x + x²/2": 1 - x + x**2 / 2}
    for position, (label, y) in enumerate(sums.items()):
        axes[0, 0].plot(x, y, color=COLOURS[position + 1], linestyle="--", label=label)
    axes[0, 0].plot(x, np.exp(-x), color=COLOURS[0], label="exp(−x)")
    axes[0, 0].set(xlabel="x = gap / T", ylim=(-1, 2))
    axes[0, 1].plot(x, x, color=COLOURS[2], linestyle="--", label="x")
    axes[0, 1].plot(x, x - x**2 / 2, color=COLOURS[3], linestyle="--", label="x − x²/2")
    axes[0, 1].plot(x, 1 - np.exp(-x), color=COLOURS[0], label="1 − exp(−x)")
    axes[0, 1].axvline(1, color="grey", linewidth=1, linestyle=":")
    axes[0, 1].set(xlabel="x = gap / T", ylim=(-1, 2))
    for axis in axes.flat:
        axis.legend(fontsize="small")
    letter(axes, ["one exponential and its partial sums", "what raises the score"])
    return figure


def equation_3(
    temperatures: np.ndarray, errors: Mapping[int, np.ndarray], starts: Mapping[str, np.ndarray], tolerance: float
) -> Figure:
    """How far the truncated score is from the score, and on how many images it is near.

    Args:
        temperatures: [A].
        errors: for each order of the denominator, the median distance of the truncated score to the score [A].
        starts: for each set, the temperature from which on each image is within the tolerance [n].
        tolerance: a relative one.
    """
    figure, axes = panels(1, 2, size=(3.9, 3.2))
    for position, (order, values) in enumerate(errors.items()):
        fitted = slope(temperatures[-4:], values[-4:])
        axes[0, 0].plot(
            temperatures,
            values,
            color=COLOURS[position],
            marker=MARKERS[position],
            label=f"order {order}: slope {fitted:.2f}",
        )
    axes[0, 0].set(xscale="log", yscale="log", xlabel="Temperature T", ylabel="Median |S − truncated S|")
    axes[0, 0].legend(fontsize="small")
    for position, (name, start) in enumerate(starts.items()):
        share = 100 * (np.asarray(start)[:, None] <= temperatures).mean(0)
        set_line(axes[0, 1], temperatures, share, name, position)
    axes[0, 1].set(xscale="log", xlabel="Temperature T", ylabel=f"Images within {100 * tolerance:g} % (%)")
    letter(axes, ["the rest against T", "where Equation 3 can be used"])
    shared_legend(figure, axes[0, 1])
    return figure


def convergence(errors: pd.DataFrame, least: float) -> Figure:
    """The distance of the detection error to its limit against T: a panel for each network, a line for each set.

    Args:
        errors: columns network (title), ood_set, temperature, distance (percentage points).
        least: points below which the axis is linear, down to 0.
    """
    check_frames([errors], ["network", "ood_set", "temperature", "distance"])
    networks, sets = in_order([errors["network"]]), in_order([errors["ood_set"]])
    figure, axes = panels(1, len(networks), share_y=True, size=(3.6, 3.1))
    for axis, network in zip(axes.flat, networks, strict=True):
        for position, name in enumerate(sets):
            rows = errors[(errors["network"] == network) & (errors["ood_set"] == name)].sort_values("temperature")
            set_line(axis, rows["temperature"].to_numpy(), rows["distance"].to_numpy(), name, position + 1)
        axis.axhline(least, color="grey", linewidth=1, linestyle=":")
        axis.set_xscale("log")
        axis.set_yscale("symlog", linthresh=least)
        axis.set_ylim(-0.1 * least, 1.5 * max(errors["distance"].max(), least))
        axis.set_xlabel("Temperature T")
        axis.set_title(network, fontsize="medium")
    axes[0, 0].set_ylabel("|Pe(T) − c| (percentage points)")
    shared_legend(figure, axes[0, 0])
    return figure


def bracket(measured: pd.DataFrame, limit: float, title: str) -> Figure:
    """The detection error against T inside the two bounds that U1 and U2 put on it.

    Args:
        measured: columns temperature, error, low, high (percent).
        limit: the constant c, in percent.
        title: of the network and the set.
    """
    check_frames([measured], ["temperature", "error", "low", "high"])
    figure, axes = panels(1, 1, size=(5.2, 3.2))
    axis = axes[0, 0]
    axis.fill_between(
        measured["temperature"], measured["low"], measured["high"], color="0.85", label="bounds by U₁ and U₂"
    )
    axis.plot(measured["temperature"], measured["error"], color=ODIN, marker="o", label="Pe(T)")
    axis.axhline(limit, color=BASELINE, linestyle="--", label="c, by U₁")
    axis.set(xscale="log", xlabel="Temperature T", ylabel="Detection error (%)")
    axis.set_title(title, loc="left", fontsize="medium")
    axis.legend(fontsize="small")
    return figure


def moments(u2: pd.DataFrame, variance: pd.DataFrame) -> Figure:
    """E[U2 | U1] above its parabola U1^2, and what is left without it, the variance of the gaps given U1.

    Args:
        u2: columns set, x (U1), mean (of U2).
        variance: likewise, of U2 - U1^2.
    """
    check_frames([u2, variance], ["set", "x", "mean"])
    figure, axes = panels(1, 2, size=(3.9, 3.2))
    for axis, curves in zip(axes.flat, (u2, variance), strict=True):
        for position, name in enumerate(in_order([u2["set"]])):
            rows = curves[curves["set"] == name].sort_values("x")
            set_line(axis, rows["x"].to_numpy(), rows["mean"].to_numpy(), name, position)
        axis.set_xlabel("U₁ (units of the network's outputs)")
    x = np.linspace(u2["x"].min(), u2["x"].max(), 100)
    axes[0, 0].plot(x, x**2, color="grey", linestyle="--", label="U₁²")
    axes[0, 0].set_ylabel("Mean, in squared units")
    letter(axes, ["U₂ given U₁", "variance of the gaps given U₁"])
    shared_legend(figure, axes[0, 0])
    return figure


def margin_bracket(medians: pd.DataFrame) -> Figure:
    """How far the margin score is below U1, and from its second-order form, against T, with what is proved of either.

    Args:
        medians: columns temperature and, as medians over images, shortfall (U1 - g), bracket (R^2 / 8T), second
            (U2 / 2T, the width that Equation 3's own bounds leave), rest (the size of g - U1 + V / 2T), rest_bound.
    """
    check_frames([medians], ["temperature", "shortfall", "bracket", "second", "rest", "rest_bound"])
    figure, axes = panels(1, 2, size=(3.9, 3.2))
    x = medians["temperature"]
    for axis, lines in zip(
        axes.flat,
        (
            {"second": "U₂ / 2T, from Equation 3", "bracket": "R² / 8T, proved", "shortfall": "U₁ − g, measured"},
            {"rest_bound": "R³ / (36 √3 T²), proved", "rest": "|g − U₁ + V / 2T|, measured"},
        ),
        strict=True,
    ):
        for position, (column, label) in enumerate(lines.items(), start=3 - len(lines)):
            solid = position == 2
            axis.plot(
                x,
                medians[column],
                color=COLOURS[(3, 1, 0)[position]],
                linestyle="-" if solid else "--",
                marker="o" if solid else None,
                label=label,
            )
        axis.set(xscale="log", yscale="log", xlabel="Temperature T", ylabel="Units of the outputs (median)")
        axis.legend(fontsize="small")
    letter(axes, ["first order", "second order"])
    return figure


def predicted(changes: pd.DataFrame, least: float = 0.1) -> Figure:
    """Measured changes of the FPR against those that were predicted: a panel for each title, a point for each set.

    Args:
        changes: columns title, ood_set and, in percentage points, predicted and measured, each with _low and _high.
        least: points below which the axes are linear, so that both signs and 0 can be shown.
    """
    columns = [f"{name}{end}" for name in ("predicted", "measured") for end in ("", "_low", "_high")]
    check_frames([changes], ["title", "ood_set", *columns])
    titles, sets = in_order([changes["title"]]), in_order([changes["ood_set"]])
    across = min(3, len(titles))
    figure, axes = panels(-(-len(titles) // across), across, size=(max(3.5, 6 / across), 3.4))
    for axis, name in zip(axes.flat, titles, strict=False):
        rows = changes[changes["title"] == name]
        reach = 1.3 * max(float(rows[columns].abs().max().max()), least)
        axis.fill_between([-reach, 0], 0, reach, color="0.93", linewidth=0)
        axis.fill_between([0, reach], -reach, 0, color="0.93", linewidth=0)
        axis.plot([-reach, reach], [-reach, reach], color="grey", linewidth=1, linestyle=":")
        for row in rows.to_dict("records"):
            place = sets.index(row["ood_set"]) + 1
            ends = {
                f"{side}err": [[max(row[c] - row[f"{c}_low"], 0)], [max(row[f"{c}_high"] - row[c], 0)]]
                for side, c in (("x", "predicted"), ("y", "measured"))
            }
            axis.errorbar(
                row["predicted"],
                row["measured"],
                color=COLOURS[place % len(COLOURS)],
                marker=MARKERS[place % len(MARKERS)],
                linestyle="",
                linewidth=0.9,
                label=datasets.title(row["ood_set"]),
                **ends,
            )
        ticks = [10.0**k for k in range(-1, 3) if reach / 100 <= 10.0**k <= reach]  # smaller ones would lie on 0
        for set_scale, limit, mark in (
            (axis.set_xscale, axis.set_xlim, axis.set_xticks),
            (axis.set_yscale, axis.set_ylim, axis.set_yticks),
        ):
            set_scale("symlog", linthresh=least)
            limit(-reach, reach)
            mark([-t for t in reversed(ticks)] + [0, *ticks])
            mark([], minor=True)
        for line in (axis.xaxis, axis.yaxis):
            line.set_major_formatter("{x:g}")
        axis.set_xlabel("Predicted change of the FPR (points)")
        axis.set_ylabel("Measured change (points)")
        axis.set_title(name.replace(", ", "\n"), fontsize="small")
    for axis in axes.flat[len(titles) :]:
        axis.remove()
    handles = {
        label: handle
        for axis in axes.flat[: len(titles)]
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=across + 1, fontsize="small")
    return figure
