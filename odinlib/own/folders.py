"""Folders of images, as a network takes them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from odinlib.errors import Missing, UserError

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Folder:
    """The images of a folder."""

    names: list[str]  # relative to the folder, sorted
    images: Tensor  # float32 [N, C, H, W] in [0, 1]


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
