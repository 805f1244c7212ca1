"""The fully connected network of Hendrycks & Gimpel (ICLR 2017), the paper's on MNIST (Appendix A.1).

`mlp-256x3` is 784-256-256-256-10. Their published notebook settles what the text leaves open: the three
layers are hidden ones, the non-linearity is the tanh form of GELU (Hendrycks & Gimpel, 2016), the inputs are
not normalised, and each unit's weights start as a random direction of a length that suits GELU.
"""

import itertools
import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from odinlib.errors import UserError
from odinlib.networks.classifier import Classifier

#: The second moment of GELU(z), z ~ N(0, 1), to the digits of the original, which uses it backwards as well.
GELU_MOMENT = 0.425


class MLP(Classifier):
    """`layers` hidden layers of `width` GELU units on the pixels of a `size` x `size` image."""

    def __init__(
        self,
        width: int,
        layers: int,
        classes: int,
        channels: int = 1,
        size: int = 28,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(f"mlp-{width}x{layers}", classes, channels, size, mean, std)
        widths = [channels * size * size] + [width] * layers
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.fc = nn.Linear(width, classes)
        for i, layer in enumerate([*self.hidden, self.fc]):
            forwards = 1.0 if i == 0 else GELU_MOMENT
            backwards = 1.0 if layer is self.fc else GELU_MOMENT
            nn.init.normal_(layer.weight)
            layer.weight.data = F.normalize(layer.weight.data, dim=1) / math.sqrt(forwards + backwards)
            nn.init.zeros_(layer.bias)

    def logits(self, x: Tensor) -> Tensor:
        """Logits [N, classes] of normalised images `x` [N, C, size, size]."""
        if x.shape[2:] != (self.size, self.size):
            raise UserError(
                f"{self.name} was given images of {x.shape[2]} x {x.shape[3]} pixels",
                expected=f"{self.size} x {self.size}",
            )
        x = x.flatten(1)
        for layer in self.hidden:
            x = F.gelu(layer(x), approximate="tanh")
        logits: Tensor = self.fc(x)
        return logits
