"""What every network here has in common: a name, its classes, and normalisation as its own first step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from odinlib.errors import UserError


class Classifier(nn.Module):
    """A network from images [N, C, H, W] in [0, 1] to logits [N, classes].

    Normalising inside the network keeps ODIN's epsilon in pixel units. The statistics are buffers, so they
    are saved with the weights and cannot be forgotten or exchanged.

    Subclasses implement :meth:`logits`.
    """

    mean: Tensor  #: [1, C, 1, 1]
    std: Tensor  #: [1, C, 1, 1]

    def __init__(
        self,
        name: str,
        classes: int,
        channels: int,
        size: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.classes, self.channels, self.size = name, classes, channels, size
        self.register_buffer("mean", _per_channel("mean", mean, channels, default=0.0))
        self.register_buffer("std", _per_channel("std", std, channels, default=1.0))
        if not (self.std > 0).all():
            raise UserError(f"std is {self.std.flatten().tolist()}", expected="numbers above 0")

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of `images` [N, C, H, W] in [0, 1]."""
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise UserError(
                f"{self.name} was given images of shape {list(images.shape)}",
                expected=f"[N, {self.channels}, height, width]",
            )
        return self.logits((images - self.mean) / self.std)

    def logits(self, x: Tensor) -> Tensor:
        """Logits [N, classes] of normalised images `x` [N, C, H, W]."""
        raise NotImplementedError


def pooled(maps: Tensor, window: int, dtype: torch.dtype | None = None) -> Tensor:
    """The features [N, C] that a classifier reads: the means of the last maps [N, C, H, W], over a window of them.

    The window lies at the top left and is as large as the last maps of an image of the size that the network was
    trained on, a quarter of it; maps that are smaller are taken whole. So it is in the code of the paper's authors,
    `avg_pool2d(x, 8)` for networks trained at 32 x 32, and it matters: their cropped images were released at 36 x 36,
    whose last maps are 9 x 9, and the ninth row and column do not count.

    Args:
        maps: the last ones, activated.
        window: height and width, in pixels of these maps.
        dtype: to sum in; none: that of the maps.
    """
    return maps[..., :window, :window].mean((2, 3), dtype=dtype)


def initialise(network: nn.Module) -> None:
    """The initialisation of both original convolutional families.

    He et al. (2015) by outputs, N(0, 2 / (k k C_out)), for convolutions; 1 and 0 for batch normalisation; and
    for the last layer U(-1/sqrt(C_in), 1/sqrt(C_in)), which is PyTorch's own, with a bias of 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def _per_channel(what: str, values: Sequence[float] | None, channels: int, default: float) -> Tensor:
    tensor = torch.tensor([default] * channels if values is None else [float(v) for v in values])
    if len(tensor) != channels or not torch.isfinite(tensor).all():
        expected = f"{channels} finite numbers, one per channel"
        raise UserError(f"{what} is {tensor.tolist()}", expected=expected)
    return tensor.view(1, channels, 1, 1)
