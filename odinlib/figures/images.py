"""Single images and the network's answers to them: Figures 16 and 17."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from odinlib.errors import UserError
from odinlib.figures.style import COLOURS, MARKERS, check_frames, letter, panels, shared_legend
from odinlib.measure.mechanism import Outputs


def figure_16(accuracies: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy on the images above (a) and below (b) the threshold of each true positive rate, a curve a network.

    Args:
        accuracies: title of a network, to columns tpr, above, below in percent (of `effects.accuracy_by_score`);
            NaN where no image is on that side.
    """
    frames = list(accuracies.values())
    check_frames(frames, ["tpr"])
    figure, axes = panels(1, 2, size=(4.2, 3.1))
    for axis, side in zip(axes.flat, ("above", "below"), strict=True):
        for position, (network, frame) in enumerate(accuracies.items()):
            axis.plot(
                frame["tpr"],
                frame[side],
                color=COLOURS[position + 1],
                marker=MARKERS[position],
                markevery=2,
                label=network,
            )
        axis.set(xlabel="True positive rate (%)", ylabel="Test accuracy (%)")
    letter(axes, ["above the threshold: easy to detect", "below it: hard to detect"])
    shared_legend(figure, axes[0, 0])
    return figure


def figure_17(outputs: Sequence[Outputs], count: int = 30) -> Figure:
    """The largest outputs of a network for each image, in falling order, with U1 and U2.

    Args:
        outputs: the images, a panel each, all on one scale.
        count: how many outputs; all where the network has fewer.

    Raises:
        UserError: there is no image to draw.
    """
    if not outputs:
        raise UserError("there is nothing to draw", expected="the outputs for at least one image")
    figure, axes = panels(len(outputs), 1, size=(7.4, 2.5))
    drawn = np.concatenate([np.zeros(1), *(np.sort(shown.logits)[-count:] for shown in outputs)])
    limits = drawn.min() - 0.05 * np.ptp(drawn), drawn.max() + 0.3 * np.ptp(drawn)  # above: room for U1 and U2
    for position, (axis, shown) in enumerate(zip(axes.flat, outputs, strict=True)):
        order = np.argsort(-shown.logits, kind="stable")[:count]
        axis.bar(range(len(order)), shown.logits[order], color=COLOURS[position], width=0.7)
        axis.axhline(0, color="grey", linewidth=0.8)
        names = [str(shown.classes[index]) for index in order]
        short = max(map(len, names)) <= 3
        axis.set_xticks(range(len(order)), names, fontsize="x-small", rotation=0 if short else 40)
        if not short:
            for label in axis.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axis.set(
            xlabel="Class, in falling order of its output",
            ylabel="Output f",
            ylim=limits,
        )
        axis.grid(False, axis="x")
        moments = f"$U_1$ = {shown.u1:.1f}\n$U_2$ = {shown.u2:.1f}"
        axis.text(0.99, 0.94, moments, transform=axis.transAxes, ha="right", va="top")
    letter(axes, [shown.title for shown in outputs])
    return figure
