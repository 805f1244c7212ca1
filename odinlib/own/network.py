"""Bring your own network and folders of images: what `own-network.ipynb` needs beyond `odinlib.odin`."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from odinlib.errors import Missing, UserError
from odinlib.networks.weights import load_weights

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Folder:
    """The images of a folder."""

    names: list[str]  # relative to the folder, sorted
    images: Tensor  # float32 [N, C, H, W] in [0, 1]


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


def read_folder(path: str | Path, size: int | None = None) -> Folder:
    """All images below a folder, in the order of their names, as a network takes them.

    Args:
        path: the folder; images may lie in subfolders.
        size: height and width that they are resized to (antialiased, bilinear); none: that of the first one.

    Raises:
        UserError: no such folder, no image in it, or one that cannot be read, by name.
    """
    path = Path(path)
    if not path.is_dir():
        raise Missing(f"{path} is not a folder", remedy="give the path of a folder of images")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _ENDINGS)
    if not files:
        raise UserError(f"{path} holds no image", expected=f"files ending in {', '.join(sorted(_ENDINGS))}")
    pictures: list[np.ndarray] = []
    for file in files:
        try:
            with Image.open(file) as opened:
                picture = opened.convert("L" if opened.mode in ("1", "L", "I", "I;16") else "RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"{file} cannot be read as an image ({error})", remedy="remove it or mend it") from error
        side = size or (pictures[0].shape[0] if pictures else min(picture.size))
        if picture.size != (side, side):
            picture = picture.resize((side, side), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture)
        pictures.append(pixels if pixels.ndim == 3 else pixels[..., None])
    if len({pixels.shape for pixels in pictures}) > 1:
        raise UserError(f"{path} holds grey and colour images", expected="one kind")
    stacked = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())
    return Folder([str(file.relative_to(path)) for file in files], stacked.float() / 255)


def write_folder(path: str | Path, images: np.ndarray) -> None:
    """Write uint8 images [N, H, W, C] as numbered PNG files."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(path / f"{number:05d}.png")
