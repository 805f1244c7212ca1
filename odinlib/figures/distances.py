"""How far the sets lie apart (Appendix G)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from odinlib import datasets
from odinlib.figures.style import COLOURS, MARKERS, check_frames, in_order, letter, panels, shared_legend


def distances(measured: pd.DataFrame, pixels: str = "unit") -> Figure:
    """MMD and energy distance of every out-of-distribution set, a marker for each in-distribution set.

    Args:
        measured: columns id_set, ood_set, mmd, energy.
        pixels: the scale of pixels, of which the energy distance is the root of a length.
    """
    check_frames([measured], ["id_set", "ood_set", "mmd", "energy"])
    sets, inside = in_order([measured["ood_set"]]), in_order([measured["id_set"]])
    figure, axes = panels(1, 2, share_y=True, size=(3.6, 0.34 * len(sets) + 0.7))
    for axis, column, label in zip(
        axes.flat, ("mmd", "energy"), ("MMD", f"Energy distance D (pixels: {pixels})"), strict=True
    ):
        for position, id_set in enumerate(inside):
            rows = measured[measured["id_set"] == id_set]
            places = [sets.index(name) + 0.16 * (position - (len(inside) - 1) / 2) for name in rows["ood_set"]]
            axis.scatter(
                rows[column],
                places,
                s=26,
                color=COLOURS[position],
                marker=MARKERS[position],
                label=f"from {datasets.title(id_set)}",
            )
        axis.set(xlabel=label, xlim=(0, None))
    axes[0, 0].set_yticks(range(len(sets)), [datasets.title(name) for name in sets])
    axes[0, 0].invert_yaxis()
    letter(axes, ["maximum mean discrepancy", "energy distance"])
    shared_legend(figure, axes[0, 0])
    return figure


def kernels(medians: Mapping[str, float]) -> Figure:
    """The Gaussian kernel against the distance of two images, by either reading of its bandwidth.

    Args:
        medians: a scale of pixels, to the median distance of all pairs in it; a panel each.
    """
    figure, axes = panels(1, len(medians), share_y=True, size=(3.8, 2.8))
    for axis, (scale, median) in zip(axes.flat, medians.items(), strict=True):
        distance = np.linspace(0, 1.6 * median, 200)
        readings = {"median squared distance": median**2, "median distance, literally": median}
        for (reading, bandwidth), colour, style in zip(readings.items(), COLOURS[1:], ("-", "--"), strict=False):
            values = np.exp(-(distance**2) / bandwidth)
            axis.plot(distance, values, color=colour, linestyle=style, label=f"2σ² = {reading}")
        axis.axvline(median, color="grey", linestyle=":", linewidth=1.2, label="median distance of all pairs")
        axis.set(xlabel=f"Distance of two images (pixels {scale})", ylim=(-0.03, 1.05))
    axes[0, 0].set_ylabel("Kernel k(x, x′)")
    letter(axes, [f"pixels {scale}" for scale in medians])
    shared_legend(figure, axes[0, 0], columns=2)
    return figure
