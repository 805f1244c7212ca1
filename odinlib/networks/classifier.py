"""What every network here has in common: a name, its classes, and normalisation as its own first step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from odinlib import devices
from odinlib.errors import UserError


class Classifier(nn.Module):
    """A network from images [N, C, H, W] in [0, 1] to logits [N, classes].

    Normalising inside the network keeps ODIN's epsilon in pixel units. The statistics are buffers, so they
    are saved with the weights and cannot be forgotten or exchanged.

    Subclasses implement :meth:`logits`.
    """

    engine = "plain"  #: what computes it, see `fast`
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
        check_images(self.name, self.channels, images)
        return self.logits((images - self.mean) / self.std)

    def logits(self, x: Tensor) -> Tensor:
        """Logits [N, classes] of normalised images `x` [N, C, H, W]."""
        raise NotImplementedError


def check_images(name: str, channels: int, images: Tensor) -> None:
    """Refuse images of another shape than [N, `channels`, H, W], and naming the network, with :class:`UserError`."""
    if images.ndim != 4 or images.shape[1] != channels:
        expected = f"[N, {channels}, height, width]"
        raise UserError(f"{name} was given images of shape {list(images.shape)}", expected=expected)


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


def log_score_gradients(logits: Tensor, temperatures: Sequence[float]) -> Tensor:
    """The derivatives of log S(x; T) (Equation 1) by the logits, at several temperatures.

    At the prediction y they are (1 - p_y) / T, elsewhere -p_i / T. 1 - p_y is summed from the others in float64: in
    float32 it would vanish where the network is sure.

    Args:
        logits: [N, K].
        temperatures: [A], each above 0.

    Returns:
        [A, N, K], in the precision of the logits.
    """
    exact = devices.double(logits)
    temperature = torch.tensor(temperatures, dtype=torch.float64, device=exact.device).view(-1, 1, 1)
    others = torch.softmax(exact / temperature, -1)
    predicted = exact.argmax(-1, keepdim=True).expand(len(others), -1, 1)
    others = others.scatter(-1, predicted, 0.0)
    found = others.neg().scatter(-1, predicted, others.sum(-1, keepdim=True)) / temperature
    return found.to(logits.dtype).to(logits.device)


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
