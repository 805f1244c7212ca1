"""Why temperature and perturbation work: Figures 5, 6, 10, 11 and 12, and the expansions behind them.

Every function takes what `odinlib.measure.mechanism` measures. The in-distribution set stands first in every frame and
is black in every panel; the others keep the colour that they have in the figures of `odinlib.figures.effects`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from odinlib.errors import UserError
from odinlib.figures.style import (
    BASELINE,
    COLOURS,
    ODIN,
    blank,
    check_frames,
    in_order,
    letter,
    panels,
    set_line,
    shared_legend,
)
from odinlib.measure.mechanism import Outputs, Path

U1 = "U₁ (units of the network's outputs)"
U2_GIVEN_U1 = "E[U₂ | U₁] (output units²)"
NORM = "‖∇ log S‖₁ (per unit of pixel value)"
NORM_GIVEN_SCORE = "E[‖∇ log S‖₁ | S]"
SCORE = "Softmax score S"
CROWDED = 1e4  # at a large T the score is shown as (S - 1/K) x 10^4, as the paper does


def figure_5(
    images: pd.DataFrame,
    curves: Mapping[str, pd.DataFrame],
    outputs: tuple[Outputs, Outputs],
    classes: int,
    temperature: float = 1000.0,
) -> Figure:
    """Seven panels on one network: U1, U2 given U1, gradient norms, and the outputs for two images of similar U1.

    Args:
        images: a row for each image: set, u1, norm (at the large T).
        curves: `u2`, `norm` (at the large T) and `norm_1` (at T = 1), each a frame set, x, mean; x is U1 or S.
        outputs: of an in- and of an out-of-distribution image.
        classes: K.
        temperature: the large T.

    Raises:
        UserError: a frame is empty, or lacks a column or a number.
    """
    check_frames([images], ["set", "u1", "norm"])
    check_frames([curves[key] for key in ("u2", "norm", "norm_1")], ["set", "x", "mean"])
    figure = blank((8.6, 12.0))
    axes = figure.subplot_mosaic("ab;cd;el;ff;gg", height_ratios=[1, 1, 1, 0.8, 0.8])
    sets = in_order([images["set"]])
    _densities(axes["a"], images, "u1", sets, U1)
    _conditionals(axes["b"], curves["u2"], sets, U1, U2_GIVEN_U1)
    _densities(axes["c"], images, "norm", sets, NORM)
    _conditionals(axes["d"], _crowded(curves["norm"], classes), sets, _crowded_label(classes), NORM_GIVEN_SCORE)
    _conditionals(axes["e"], curves["norm_1"], sets, SCORE, NORM_GIVEN_SCORE)
    axes["l"].set_axis_off()
    handles, labels = axes["b"].get_legend_handles_labels()
    axes["l"].legend(handles, labels, loc="center", fontsize="medium")
    for key, shown in zip("fg", outputs, strict=True):
        position = sets.index(shown.set) if shown.set in sets else "fg".index(key)
        _bars(axes[key], shown, COLOURS[position % len(COLOURS)])
    everything = np.concatenate([shown.logits for shown in outputs])
    room = 0.05 * np.ptp(everything)
    for key in "fg":
        axes[key].set_ylim(everything.min() - room, everything.max() + room)
    letter(
        np.array([axes[key] for key in "abcdefg"]),
        [
            "density of U₁",
            "U₂ given U₁",
            f"density of the gradient's norm, T = {temperature:g}",
            f"the norm given S, T = {temperature:g}",
            "the norm given S, T = 1",
            *(f"{shown.title}: U₁ = {shown.u1:.1f}, U₂ = {shown.u2:.1f}" for shown in outputs),
        ],
    )
    return figure


def figure_6(inside: Path, outside: Path, classes: int, temperature: float = 1000.0) -> Figure:
    """The scores of two images along their perturbations, and the straight lines that their gradients promise.

    Args:
        inside: an in-distribution image.
        outside: an out-of-distribution image of similar score.
        classes: K.
        temperature: T of the scores.

    Raises:
        UserError: a path has fewer than two steps, or holds NaN.
    """
    paths = (inside, outside)
    for path in paths:
        if len(path.epsilons) < 2 or len(path.epsilons) != len(path.scores):
            raise UserError(f"{path.title} has {len(path.epsilons)} steps", expected="at least two, a score for each")
        if not np.isfinite(path.scores).all():
            raise UserError(f"the scores of {path.title} hold NaN or infinity", expected="numbers")
    pictures = all(path.picture is not None for path in paths)
    figure = blank((7.6 if pictures else 5.6, 3.8))
    axes = figure.subplot_mosaic("sp;sq" if pictures else "s", width_ratios=[3, 1] if pictures else None)
    axis = axes["s"]
    for path, colour, marker in zip(paths, (ODIN, BASELINE), "os", strict=True):
        shown = CROWDED * (path.scores - 1 / classes)
        promised = CROWDED * (path.scores[0] * np.exp(path.epsilons * path.gradient_norm) - 1 / classes)
        label = f"{path.title}, gradient norm {path.gradient_norm:.3g}"
        axis.plot(path.epsilons, shown, color=colour, marker=marker, label=label)
        axis.plot(path.epsilons, promised, color=colour, linestyle="--", linewidth=1)
    axis.plot([], [], color="grey", linestyle="--", linewidth=1, label="first-order expansion")
    axis.set(xlabel="Perturbation magnitude ε (pixel units)", ylabel=_crowded_label(classes, "S(x̃; T)"))
    axis.locator_params(axis="x", nbins=5)
    axis.set_title(f"T = {temperature:g}", loc="left", fontsize="medium")
    axis.legend(fontsize="small")
    if pictures:
        for key, path, colour in zip("pq", paths, (ODIN, BASELINE), strict=True):
            _picture(axes[key], path, colour)
    return figure


def figure_10(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """The expectation of U2 given U1: a panel for each network.

    Args:
        curves: title of a network, to columns set, x (U1), mean.
    """
    return _by_network(curves, U1, U2_GIVEN_U1)


def variance_given_u1(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """As `figure_10` without the parabola U1^2: the variance of the gaps given U1.

    Args:
        curves: title of a network, to columns set, x (U1), mean.
    """
    return _by_network(curves, U1, "E[Var(Δ) | U₁] (output units²)")


def figure_11(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """The expectation of the gradient's 1-norm given the score, both at T = 1: a panel for each network.

    Args:
        curves: title of a network, to columns set, x (S), mean.
    """
    return _by_network(curves, SCORE, NORM_GIVEN_SCORE)


def figure_12(curves: Mapping[str, pd.DataFrame], classes: int) -> Figure:
    """As `figure_11`, at a large T, where the axis shows (S - 1/K) x 10^4.

    Args:
        curves: title of a network, to columns set, x (S), mean.
        classes: K.
    """
    crowded = {network: _crowded(frame, classes) for network, frame in curves.items()}
    return _by_network(crowded, _crowded_label(classes), NORM_GIVEN_SCORE)


# --- Beyond the paper -------------------------------------------------------------------------------------------------


def expansion(measured: pd.DataFrame, tpr: float = 0.95) -> Figure:
    """How far U1 and its corrections are from the score, and how each ranks, against T.

    Args:
        measured: columns temperature, statistic, error (median, relative), fpr (in percent), of `mechanism.expansion`;
            the exact score has error 0, which is not drawn.
        tpr: the true positive rate of the FPR.
    """
    check_frames([measured], ["temperature", "statistic", "error", "fpr"])
    figure, axes = panels(1, 2, size=(4.2, 3.2))
    for position, statistic in enumerate(in_order([measured["statistic"]])):
        rows = measured[measured["statistic"] == statistic].sort_values("temperature")
        style = {"color": COLOURS[position], "label": statistic, "linestyle": "-" if position == 0 else "--"}
        if (rows["error"] > 0).any():
            axes[0, 0].plot(rows["temperature"], rows["error"], marker="o", **style)
        axes[0, 1].plot(rows["temperature"], rows["fpr"], marker="o", **style)
    axes[0, 0].set(xscale="log", yscale="log", xlabel="Temperature T", ylabel="Median relative error")
    axes[0, 1].set(xscale="log", xlabel="Temperature T", ylabel=f"FPR at {100 * tpr:g} % TPR (%)")
    letter(axes, ["distance to what it expands", "as a detector"])
    shared_legend(figure, axes[0, 1], columns=2)
    return figure


def remainder(measured: pd.DataFrame) -> Figure:
    """What the first-order expansion in epsilon leaves, and what slope it has.

    Args:
        measured: columns curve (title), epsilon (above 0), remainder (median of its absolute value).
    """
    check_frames([measured], ["curve", "epsilon", "remainder"])
    figure, axes = panels(1, 1, size=(5.4, 3.8))
    axis = axes[0, 0]
    for position, curve in enumerate(in_order([measured["curve"]])):
        rows = measured[measured["curve"] == curve].sort_values("epsilon")
        colour = COLOURS[position % len(COLOURS)]
        axis.plot(rows["epsilon"], rows["remainder"], marker="os^D"[position % 4], color=colour, label=curve)
    ends = np.array([measured["epsilon"].min(), measured["epsilon"].max()])
    top = measured.sort_values("epsilon")["remainder"].iloc[-1]
    axis.plot(ends, top * (ends / ends[1]) ** 2, color="grey", linestyle=":", label="slope 2")
    axis.set(xscale="log", yscale="log", xlabel="Perturbation magnitude ε (pixel units)")
    axis.set_ylabel("Median |log S(x̃) − log S(x) − ε ‖∇ log S(x)‖₁|", fontsize="small")
    axis.legend(fontsize="small")
    return figure


# --- Parts ------------------------------------------------------------------------------------------------------------


def _densities(axis: Axes, images: pd.DataFrame, column: str, sets: Sequence[str], label: str) -> None:
    """Smoothed densities, a line for each set. A set that nearly is a point is cut off at the top and says so."""
    ends = images[column].min(), images[column].max()
    points = np.linspace(*ends, 400)
    peaks = []
    for position, name in enumerate(sets):
        values = images.loc[images["set"] == name, column].to_numpy(dtype=np.float64)
        if len(values) < 2 or values.std() == 0:
            raise UserError(f"{name} has no spread in {column}", expected="at least two different values")
        density = gaussian_kde(values)(points)
        peaks.append(density.max())
        set_line(axis, points, density, name, position, markevery=(12 * position, 120))
    axis.set(xlabel=label, ylabel="Probability density", ylim=(0, min(1.05 * max(peaks), 4 * float(np.median(peaks)))))


def _conditionals(axis: Axes, curves: pd.DataFrame, sets: Sequence[str], x: str, y: str) -> None:
    for position, name in enumerate(sets):
        rows = curves[curves["set"] == name].sort_values("x")
        set_line(axis, rows["x"].to_numpy(), rows["mean"].to_numpy(), name, position)
    axis.set(xlabel=x, ylabel=y)


def _by_network(curves: Mapping[str, pd.DataFrame], x: str, y: str) -> Figure:
    frames = list(curves.values())
    check_frames(frames, ["set", "x", "mean"])
    sets = in_order(frame["set"] for frame in frames)
    figure, axes = panels(1, len(frames), size=(3.4, 3.0))
    for axis, (network, frame) in zip(axes.flat, curves.items(), strict=True):
        _conditionals(axis, frame, sets, x, y)
        axis.set_title(network, fontsize="medium")
    shared_legend(figure, axes[0, 0], columns=max(2, len(frames) + 1))
    return figure


def _bars(axis: Axes, shown: Outputs, colour: str) -> None:
    positions = np.arange(len(shown.logits))
    axis.bar(positions, shown.logits, color=colour, width=0.7)
    axis.axhline(0, color="grey", linewidth=0.8)
    axis.set_xticks(positions, shown.classes, rotation=30, ha="right", rotation_mode="anchor", fontsize="small")
    axis.set(xlabel="Class", ylabel="Output f")
    axis.grid(axis="x", visible=False)


def _picture(axis: Axes, path: Path, colour: str) -> None:
    assert path.picture is not None
    pixels = path.picture
    axis.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.set_title(path.title, fontsize="small")
    axis.spines[:].set(color=colour, linewidth=2, visible=True)


def _crowded(curves: pd.DataFrame, classes: int) -> pd.DataFrame:
    check_frames([curves], ["x"])
    return curves.assign(x=CROWDED * (curves["x"] - 1 / classes))


def _crowded_label(classes: int, score: str = "S") -> str:
    return f"({score} − 1/{classes}) × 10⁴"
