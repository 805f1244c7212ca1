"""Scores and images, step by step: the pictures of Sections 1 to 3."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from odinlib import datasets, metrics
from odinlib.figures.style import BASELINE, ODIN, letter, panels


def score_histograms(scores: Mapping[str, tuple[Tensor, Tensor]], titles: tuple[str, str], tpr: float = 0.95) -> Figure:
    """Scores of familiar and foreign images, a panel for each method, with the threshold.

    Args:
        scores: method, to margin scores of in- and out-of-distribution images ([n], [m]).
        titles: of the two sets.
        tpr: the share of familiar images that the threshold accepts.
    """
    figure, axes = panels(1, len(scores), size=(4.2, 3.0))
    for axis, pair in zip(axes.flat, scores.values(), strict=True):
        bins = np.histogram_bin_edges(np.concatenate([part.numpy() for part in pair]), 40)
        for part, title, colour, hatch in zip(pair, titles, (ODIN, BASELINE), ("", "///"), strict=True):
            axis.hist(part.numpy(), bins, density=True, color=colour, hatch=hatch, alpha=0.55, label=title)
        axis.axvline(metrics.threshold_at_tpr(pair[0], tpr).item(), color="black", linestyle="--", linewidth=1)
        axis.set(xlabel="Score g (units of the network's outputs)", ylabel="Density")
    axes[0, 0].legend(fontsize="small")
    letter(axes, list(scores))
    return figure


def mixture(scores: Mapping[str, Tensor], id_set: str, prior: float) -> Figure:
    """The softmax score's density in the mixture with each foreign set, both parts stacked.

    Args:
        scores: set, to softmax scores [n]; `id_set` is one of them.
        id_set: the familiar set.
        prior: the foreign share of the mixture.
    """
    ood_sets = [name for name in scores if name != id_set]
    columns = min(4, len(ood_sets))
    figure, axes = panels(-(-len(ood_sets) // columns), columns, size=(2.8, 2.3))
    for axis in axes.flat[len(ood_sets) :]:
        axis.remove()
    bins = np.linspace(min(float(s.min()) for s in scores.values()), max(float(s.max()) for s in scores.values()), 31)
    for axis, ood_set in zip(axes.flat, ood_sets, strict=False):
        parts = [scores[id_set].numpy(), scores[ood_set].numpy()]
        shares = [
            np.full(len(part), weight / len(part)) for part, weight in zip(parts, (1 - prior, prior), strict=True)
        ]
        axis.hist(
            parts,
            bins,
            weights=shares,
            stacked=True,
            color=[ODIN, BASELINE],
            label=[datasets.title(id_set), "foreign set"],
        )
        for bar in axis.containers[-1]:
            bar.set_hatch("///")
        axis.set(xlabel="Softmax score S", ylabel="Share of the mixture")
    axes.flat[0].legend(fontsize="small", loc="upper left")
    letter(axes.flat[: len(ood_sets)], [datasets.title(name) for name in ood_sets])
    return figure


def perturbation(image: Tensor, gradient: Tensor, epsilon: float) -> Figure:
    """An image, the sign of the gradient of its log score, and the moved image.

    Args:
        image: [C, H, W] in [0, 1].
        gradient: of log S with respect to it, same shape.
        epsilon: magnitude in pixel units.
    """
    figure, axes = panels(1, 3, size=(2.3, 2.3))
    moved = (image + epsilon * gradient.sign()).clamp(0, 1)
    direction = 0.5 + 0.5 * gradient.sign()
    titles = ["image x", "sign of the gradient", f"moved image, ε = {epsilon:g}"]
    for axis, picture in zip(axes.flat, (image, direction, moved), strict=True):
        pixels = picture.cpu().permute(1, 2, 0).numpy()
        axis.imshow(pixels.squeeze(-1) if pixels.shape[2] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
        axis.set_axis_off()
    letter(axes, titles)
    return figure


def before_and_after(pairs: Mapping[str, tuple[Tensor, Tensor]], threshold: float | None) -> Figure:
    """Scores of the images after the move against their scores before it.

    Args:
        pairs: title of a set, to its margin scores before and after ([n], [n]).
        threshold: the detector's, drawn as a line.
    """
    figure, axes = panels(1, 1, size=(5.0, 4.2))
    axis = axes[0, 0]
    for (title, (before, after)), colour, marker in zip(pairs.items(), (ODIN, BASELINE), "o^", strict=False):
        axis.scatter(before, after, s=14, color=colour, marker=marker, alpha=0.7, label=title)
    ends = [float(min(p[0].min() for p in pairs.values())), float(max(p[0].max() for p in pairs.values()))]
    axis.plot(ends, ends, color="grey", linewidth=1, label="no change")
    if threshold is not None:
        axis.axhline(threshold, color="black", linestyle="--", linewidth=1, label="threshold δ")
    axis.set(xlabel="Score g of the image", ylabel="Score g of the moved image")
    axis.legend(fontsize="small")
    return figure
