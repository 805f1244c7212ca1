"""What temperature and perturbation do to detection: Figures 3, 4, 7, 8 and 9.

Every function takes frames of `measure.effects`: a row for each out-of-distribution set and each value of the axis,
measures in percent. A set has the same colour and marker in all of them.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from odinlib import metrics, names
from odinlib.figures.style import check_frames, in_order, letter, panels, set_line, shared_legend

TEMPERATURE, EPSILON = "temperature", "epsilon"
_AXES = {TEMPERATURE: "Temperature T", EPSILON: "Magnitude ε (pixel units)"}
_MEASURES = {
    "fpr": "FPR at {tpr:g} % TPR (%)",
    "detection_error": "Detection error (%)",
    "auroc": "AUROC (%)",
    "aupr_in": "AUPR-In (%)",
    "aupr_out": "AUPR-Out (%)",
}


def figure_3(
    against_temperature: pd.DataFrame,
    against_epsilon: pd.DataFrame,
    network: str,
    tpr: float = 0.95,
) -> Figure:
    """FPR and AUROC of one network against T without perturbation (a, b) and against epsilon at T = 1 (c, d).

    Args:
        against_temperature: columns ood_set, temperature, fpr, auroc (of `effects.temperature_effect`).
        against_epsilon: columns ood_set, epsilon, fpr, auroc (of `effects.epsilon_effect` at T = 1).
        network: its title.
        tpr: the true positive rate of the FPR.

    Raises:
        UserError: a frame is empty, or lacks a column or a number.
    """
    rows = ((against_temperature, TEMPERATURE, "ε = 0"), (against_epsilon, EPSILON, "T = 1"))
    check_frames([frame for frame, *_ in rows[:1]], ["ood_set", TEMPERATURE, "fpr", "auroc"])
    check_frames([frame for frame, *_ in rows[1:]], ["ood_set", EPSILON, "fpr", "auroc"])
    figure, axes = panels(2, 2, size=(4.0, 2.8))
    sets = in_order(frame["ood_set"] for frame, *_ in rows)
    for line, (frame, axis, _) in zip(axes, rows, strict=True):
        for panel, measure in zip(line, ("fpr", "auroc"), strict=True):
            _curves(panel, frame, axis, measure, sets, tpr)
    letter(axes, [f"{network}, {held}" for *_, held in rows for _ in range(2)])
    shared_legend(figure, axes[0, 0])
    return figure


def figure_4(against_epsilon: Mapping[str, pd.DataFrame], temperature: float = 1000.0, tpr: float = 0.95) -> Figure:
    """FPR and AUROC against epsilon at a large T: a row of two panels for each network.

    Args:
        against_epsilon: title of a network, to columns ood_set, epsilon, fpr, auroc.
        temperature: T of these frames.
        tpr: the true positive rate of the FPR.
    """
    frames = list(against_epsilon.values())
    check_frames(frames, ["ood_set", EPSILON, "fpr", "auroc"])
    figure, axes = panels(len(frames), 2, size=(4.0, 2.8))
    sets = in_order(frame["ood_set"] for frame in frames)
    for line, frame in zip(axes, frames, strict=True):
        for panel, measure in zip(line, ("fpr", "auroc"), strict=True):
            _curves(panel, frame, EPSILON, measure, sets, tpr)
    letter(axes, [f"{network}, T = {temperature:g}" for network in against_epsilon for _ in range(2)])
    shared_legend(figure, axes[0, 0])
    return figure


def figure_7(against_temperature: Mapping[str, pd.DataFrame], tpr: float = 0.95) -> Figure:
    """The five measures against T without perturbation: a column for each network, a row for each measure.

    One network alone has its measures side by side.

    Args:
        against_temperature: title of a network, to columns ood_set, temperature and the five measures.
        tpr: the true positive rate of the FPR.
    """
    return _measures(against_temperature, TEMPERATURE, tpr)


def figure_8(against_epsilon: Mapping[str, pd.DataFrame], tpr: float = 0.95) -> Figure:
    """The five measures against epsilon at T = 1: a column for each network, a row for each measure.

    Args:
        against_epsilon: title of a network, to columns ood_set, epsilon and the five measures.
        tpr: the true positive rate of the FPR.
    """
    return _measures(against_epsilon, EPSILON, tpr)


def figure_9(against_epsilon: Mapping[str, pd.DataFrame], tpr: float = 0.95) -> Figure:
    """The five measures against epsilon at a large T: as `figure_8`, with frames measured there."""
    return _measures(against_epsilon, EPSILON, tpr)


def by_network(found: Mapping[tuple[str, str], pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The frames of each network put together, under the network's title.

    Args:
        found: (network, set) to its rows, such as `experiments.gather` gives.
    """
    frames: dict[str, list[pd.DataFrame]] = {}
    for (network, _), frame in found.items():
        frames.setdefault(names.network_title(network), []).append(frame)
    return {title: pd.concat(parts, ignore_index=True) for title, parts in frames.items()}


def _measures(measured: Mapping[str, pd.DataFrame], axis: str, tpr: float) -> Figure:
    frames = list(measured.values())
    check_frames(frames, ["ood_set", axis, *metrics.METRICS])
    sets = in_order(frame["ood_set"] for frame in frames)
    if len(frames) == 1:
        return _one_network(*next(iter(measured.items())), axis, sets, tpr)
    figure, axes = panels(len(metrics.METRICS), len(frames), share_y=True, size=(3.2, 1.9))
    for column, (network, frame) in enumerate(measured.items()):
        axes[0, column].set_title(network, fontsize="medium")
        for row, measure in enumerate(metrics.METRICS):
            _curves(axes[row, column], frame, axis, measure, sets, tpr)
            axes[row, column].label_outer()
    shared_legend(figure, axes[0, 0], columns=max(2, len(frames) + 1))
    return figure


def _one_network(network: str, frame: pd.DataFrame, axis: str, sets: Sequence[str], tpr: float) -> Figure:
    """The five measures in two lines, where there is no second network to stand beside them."""
    figure, axes = panels(2, 3, size=(3.0, 2.3))
    for panel, measure in zip(axes.flat, metrics.METRICS, strict=False):
        _curves(panel, frame, axis, measure, sets, tpr)
    axes[-1, -1].remove()
    figure.suptitle(network, fontsize="medium")
    shared_legend(figure, axes[0, 0])
    return figure


def _curves(panel: Axes, frame: pd.DataFrame, axis: str, measure: str, sets: Sequence[str], tpr: float) -> None:
    """One measure against T or epsilon, a curve for each set."""
    for position, name in enumerate(sets, start=1):  # the first colour is the in-distribution set's
        rows = frame[frame["ood_set"] == name].sort_values(axis)
        set_line(panel, rows[axis].to_numpy(), rows[measure].to_numpy(), name, position)
    if axis == TEMPERATURE:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(10))
        panel.xaxis.set_minor_formatter(NullFormatter())
    else:
        panel.locator_params(axis="x", nbins=5)
    panel.set(xlabel=_AXES[axis], ylabel=_MEASURES[measure].format(tpr=100 * tpr))
