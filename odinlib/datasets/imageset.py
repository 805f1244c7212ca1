"""What every set of images is, wherever it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from odinlib.errors import UserError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images, labels where there are any, and where they come from. Checked when it is made.

    Raises:
        UserError: images or labels of the wrong kind or shape, in one line that names the set.
    """

    name: str
    title: str  # as shown in a table
    images: np.ndarray  # [N, H, W, C], uint8, or float32 in [0, 1]; C is 1 or 3
    labels: np.ndarray | None = None  # [N] int64, each the number of one of `classes`
    classes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.shape[3] not in (1, 3):
            raise UserError(f"{self.name} has images of shape {list(images.shape)}", expected="[N, H, W, 1 or 3]")
        if images.dtype not in (np.uint8, np.float32):
            raise UserError(f"{self.name} has images of {images.dtype}", expected="uint8, or float32 in [0, 1]")
        if images.dtype == np.float32 and images.size and not (images.min() >= 0 and images.max() <= 1):
            raise UserError(f"{self.name} has pixels outside [0, 1]", expected="float32 in [0, 1]")
        if labels is None:
            return
        if labels.shape != images.shape[:1] or labels.dtype != np.int64:
            raise UserError(
                f"{self.name} has labels of shape {list(labels.shape)} and type {labels.dtype}",
                expected=f"[{len(images)}] int64",
            )
        if labels.size and not (labels.min() >= 0 and labels.max() < len(self.classes)):
            raise UserError(
                f"{self.name} has labels from {labels.min()} to {labels.max()}",
                expected=f"0 to {len(self.classes) - 1}, one for each of its classes",
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def tensor(self, indices: Sequence[int] | np.ndarray | None = None) -> Tensor:
        """The images, or those at `indices`, as a network takes them: float32 [N, C, H, W] in [0, 1]."""
        chosen = self.images if indices is None else self.images[np.asarray(indices, dtype=np.int64)]
        pixels = torch.tensor(chosen.transpose(0, 3, 1, 2)).float()
        return pixels.div_(255) if chosen.dtype == np.uint8 else pixels

    def take(self, indices: Sequence[int] | np.ndarray) -> "ImageSet":
        """The set of the images at `indices`, in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        labels = None if self.labels is None else self.labels[indices]
        return ImageSet(self.name, self.title, self.images[indices], labels, self.classes, self.provenance)
