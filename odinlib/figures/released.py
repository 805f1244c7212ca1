"""What was released, in pictures: embedded images put through the recipe of the authors' sets (beyond the paper)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from odinlib.figures.style import panels


def recipe(images: Mapping[str, np.ndarray]) -> Figure:
    """Images at each step of a recipe: a row for each step, a column for each image, pixel for pixel.

    Args:
        images: the step's title, to uint8 [N, H, W, 3]; the same N images in each.
    """
    count = len(next(iter(images.values())))
    figure, axes = panels(len(images), count, size=(1.25, 1.3))
    for row, (title, pictures) in zip(axes, images.items(), strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
        row[0].set_ylabel(f"{title}\n{pictures.shape[1]} x {pictures.shape[2]}", rotation=0, ha="right", va="center")
    return figure
