"""Making images smaller, by a filter that has a name.

The paper does not say how its "resize" sets were resampled, and it matters: without antialiasing a large reduction
leaves jagged edges that a detector can see.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from odinlib.errors import UserError, check_choice

#: Pillow's filters, which average over all the pixels that a new one covers.
_ANTIALIASED = {
    "bilinear-antialias": Image.Resampling.BILINEAR,
    "bicubic-antialias": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
#: PyTorch's, which look only at the nearest pixel, or at the nearest four.
_SAMPLED: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest-exact"},
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "bilinear-aligned": {"mode": "bilinear", "align_corners": True},
}
FILTERS = (*_SAMPLED, *_ANTIALIASED)


def resize(image: np.ndarray | Image.Image, size: int | tuple[int, int], filter: str) -> np.ndarray:
    """Images of another size.

    Args:
        image: one image [H, W] or [H, W, C], or many [N, H, W, C], in uint8; or a Pillow image.
        size: the new height and width, or one number for both.
        filter: `nearest` takes the pixel at each new pixel's centre, as Pillow does; `bilinear` mixes the four
            pixels around that centre, and `bilinear-aligned` likewise with the corner pixels kept in the corners
            (`torch.nn.functional.interpolate`, in floats, rounded); `bilinear-antialias`, `bicubic-antialias`,
            `box` and `lanczos` are Pillow's, which widen with the reduction.

    Returns:
        uint8, of as many dimensions as `image`.

    >>> resize(np.arange(16, dtype=np.uint8).reshape(4, 4), 2, "box").tolist()
    [[3, 5], [11, 13]]
    """
    check_choice("filter", filter, FILTERS)
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise UserError(f"size is {size}", expected="at least 1")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3, 4) or 0 in pixels.shape:
        expected = "uint8 [H, W], [H, W, C] or [N, H, W, C]"
        raise UserError(f"an image is {pixels.dtype} {list(pixels.shape)}", expected=expected)
    if filter in _SAMPLED:
        return _sampled(pixels, (height, width), _SAMPLED[filter])
    if pixels.ndim == 4:
        return np.stack([resize(one, (height, width), filter) for one in pixels])
    if pixels.ndim == 3:  # channel by channel, so that any number of channels will do
        return np.stack([resize(channel, (height, width), filter) for channel in np.moveaxis(pixels, 2, 0)], axis=2)
    return np.asarray(Image.fromarray(pixels).resize((width, height), _ANTIALIASED[filter]))


def _sampled(pixels: np.ndarray, size: tuple[int, int], how: dict[str, Any]) -> np.ndarray:
    images = pixels[..., None] if pixels.ndim == 2 else pixels
    images = images[None] if images.ndim == 3 else images
    given = torch.tensor(images.transpose(0, 3, 1, 2)).float()
    made = F.interpolate(given, size=size, **how).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    if pixels.ndim == 4:
        return np.ascontiguousarray(made)
    return np.ascontiguousarray(made[0, ..., 0] if pixels.ndim == 2 else made[0])


def random_crop(image: np.ndarray | Image.Image, size: int | tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A patch of `size` at the image's own resolution, every position being as likely.

    Args:
        image: uint8 [H, W] or [H, W, C], or a Pillow image.
        size: height and width of the patch, or one number for both.
        rng: where the position is drawn from.

    Raises:
        UserError: the image is smaller than the patch.
    """
    pixels = np.asarray(image)
    height, width = (size, size) if isinstance(size, int) else size
    if pixels.shape[0] < height or pixels.shape[1] < width:
        raise UserError(f"an image is {pixels.shape[0]} x {pixels.shape[1]}", expected=f"at least {height} x {width}")
    top = int(rng.integers(pixels.shape[0] - height + 1))
    left = int(rng.integers(pixels.shape[1] - width + 1))
    return pixels[top : top + height, left : left + width]
