"""A user's own network as a module that `odinlib.odin` takes: images in [0, 1] to logits."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from odinlib.errors import Missing, UserError
from odinlib.networks.weights import load_weights


class Exported(nn.Module):
    """An exported program as a module. Its mode was fixed when it was exported, so `eval` leaves it as it is."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self._module = (program.module(),)  # in a tuple, so that `eval` does not reach it: it would raise

    def forward(self, images: Tensor) -> Tensor:
        """What the program gives for `images`."""
        logits: Tensor = self._module[0](images)
        return logits


class Normalised(nn.Module):
    """A network that takes images in [0, 1], around one that takes normalised images.

    Args:
        network: from (x - mean) / std [N, C, H, W] to logits [N, K].
        mean, std: per channel, in pixel units of [0, 1]; none: 0 and 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean or [0.0]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std or [1.0]).view(1, -1, 1, 1))
        if not (self.std > 0).all():
            raise UserError(f"std is {std}", expected="numbers above 0")
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, K] of images [N, C, H, W] in [0, 1]."""
        return self.network((images - self.mean) / self.std)


def load_network(path: str | Path) -> nn.Module:
    """A network from a `.safetensors` file of odinlib or a program that `torch.export.save` wrote (`.pt2`).

    Neither is a pickle: loading them runs no code. Export with a dynamic first dimension:

        batch = torch.export.Dim("batch")
        program = torch.export.export(network.eval(), (images,), dynamic_shapes=({0: batch},))
        torch.export.save(program, "network.pt2")

    Raises:
        UserError: the file is not there, or neither of the two.
    """
    path = Path(path)
    if not path.exists():
        raise Missing(f"{path} is not there", remedy="give the path of a .safetensors or a .pt2 file")
    if path.suffix == ".safetensors":
        return load_weights(path)[0].eval()
    try:
        return Exported(torch.export.load(path))
    except (RuntimeError, ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read as an exported program",
            remedy="write it with torch.export.save, or bring a checkpoint with `odin import-weights`",
        ) from error
