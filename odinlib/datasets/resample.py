"""Making images smaller, by a filter that has a name.

The paper does not say how its "resize" sets were resampled, and it matters: without antialiasing a large reduction
leaves jagged edges that a detector can see.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from odinlib.errors import UserError, check_choice

#: Pillow's filters, which average over all the pixels that a new one covers.
_AVERAGED = {
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
FILTERS = (*_SAMPLED, *_AVERAGED)
ANTIALIASED = tuple(_AVERAGED)


def resize(image: np.ndarray | Image.Image, size: int | tuple[int, int], filter: str) -> np.ndarray:
    """Images of another size.

    Args:
        image: one image [H, W] or [H, W, C], or many [N, H, W, C], in uint8 or float32; or a Pillow image.
        size: the new height and width, or one number for both.
        filter: `nearest` takes the pixel at each new pixel's centre, as Pillow does; `bilinear` mixes the four
            pixels around that centre, and `bilinear-aligned` likewise with the corner pixels kept in the corners
            (`torch.nn.functional.interpolate`, in floats, rounded); `bilinear-antialias`, `bicubic-antialias`,
            `box` and `lanczos` are Pillow's, which widen with the reduction.

    Returns:
        of as many dimensions as `image`, and of its type; filters with negative weights overshoot in floats.

    >>> resize(np.arange(16, dtype=np.uint8).reshape(4, 4), 2, "box").tolist()
    [[3, 5], [11, 13]]
    """
    check_choice("filter", filter, FILTERS)
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise UserError(f"size is {size}", expected="at least 1")
    pixels = np.asarray(image)
    if pixels.dtype not in (np.uint8, np.float32) or pixels.ndim not in (2, 3, 4) or 0 in pixels.shape:
        expected = "uint8 or float32 [H, W], [H, W, C] or [N, H, W, C]"
        raise UserError(f"an image is {pixels.dtype} {list(pixels.shape)}", expected=expected)
    if filter in _SAMPLED:
        return _sampled(pixels, (height, width), _SAMPLED[filter])
    if pixels.ndim == 4:
        return np.stack([resize(one, (height, width), filter) for one in pixels])
    if pixels.ndim == 3:  # channel by channel, so that any number of channels will do
        return np.stack([resize(channel, (height, width), filter) for channel in np.moveaxis(pixels, 2, 0)], axis=2)
    return np.asarray(Image.fromarray(pixels).resize((width, height), _AVERAGED[filter]))


def _sampled(pixels: np.ndarray, size: tuple[int, int], how: dict[str, Any]) -> np.ndarray:
    images = pixels[..., None] if pixels.ndim == 2 else pixels
    images = images[None] if images.ndim == 3 else images
    given = torch.tensor(images.transpose(0, 3, 1, 2)).float()
    new = F.interpolate(given, size=size, **how)
    made = (new.round().to(torch.uint8) if pixels.dtype == np.uint8 else new).permute(0, 2, 3, 1).numpy()
    if pixels.ndim == 4:
        return np.ascontiguousarray(made)
    return np.ascontiguousarray(made[0, ..., 0] if pixels.ndim == 2 else made[0])


def frequency_response(filter: str, factor: int, frequencies: np.ndarray, size: int = 32) -> np.ndarray:
    """What `resize` leaves of a sine wave when it makes an image `factor` times smaller.

    Measured, not derived: a row is resized with an edge at each of its pixels. The difference of two edges one pixel
    apart is that pixel's impulse response, and what becomes of a wave follows from those of all pixels. New pixels
    are whole numbers; that their rounding may cancel, it is edges and not impulses that are resized, of several
    heights.

    Args:
        filter: one of `FILTERS`.
        factor: how many old pixels go into a new one, at least 1.
        frequencies: [F] in cycles per *new* pixel, up to `factor` / 2. What is left of a wave above 1/2 (the Nyquist
            frequency) is aliased: it comes out as a slower wave, which was not in the image.
        size: new pixels in the row.

    Returns:
        The wave's amplitude [F], as a share of the old one: its root mean square over phases and new pixels, without
        those near the border.
    """
    if factor != int(factor) or factor < 1:
        raise UserError(f"factor is {factor}", expected="a whole number, at least 1")
    places = np.arange(int(factor) * size + 1)
    steps = places[:-1] >= places[:, None]  # [edge, old pixel]
    low, rises = 60, range(96, 132, 5)  # so that a filter with negative weights stays within what uint8 holds
    images = [np.where(steps, low + rise, low).astype(np.uint8)[:, None, :, None] for rise in rises]
    rows = [(resize(image, (1, size), filter)[:, 0, :, 0] - float(low)) for image in images]
    heights = np.mean([row / rise for row, rise in zip(rows, rises, strict=True)], axis=0)
    impulses = heights[:-1] - heights[1:]  # [old pixel, new pixel]
    inner = impulses[:, size // 4 : size - size // 4]
    waves = np.exp(-2j * np.pi * np.asarray(frequencies)[:, None] * places[:-1] / factor)
    return np.sqrt((np.abs(waves @ inner) ** 2).mean(1))


def aliased_share(filter: str, factor: int) -> float:
    """The share of a resized image's power that is aliased, where all frequencies were equally strong before.

    >>> round(aliased_share("nearest", 2), 3), round(aliased_share("lanczos", 2), 1)
    (0.5, 0.0)
    """
    edges = np.linspace(0, factor / 2, 50 * factor + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    power = frequency_response(filter, factor, middles) ** 2
    return float(power[middles > 0.5].sum() / power.sum())


def variant(name: str, filters: Mapping[str, str]) -> tuple[str, str | None]:
    """The set and the filter that a name stands for: `<set>-<filter>` is `<set>` made with another filter.

    Args:
        name: of a set.
        filters: the sets that are resampled, and the filter that each one's own name stands for.

    >>> filters = {"isun": "nearest"}
    >>> variant("isun-box", filters), variant("isun", filters), variant("mnist", filters)
    (('isun', 'box'), ('isun', 'nearest'), ('mnist', None))
    """
    for base in filters:
        suffix = name.removeprefix(f"{base}-")
        if suffix != name and suffix in FILTERS:
            return base, suffix
    return name, filters.get(name)


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
