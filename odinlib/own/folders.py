"""Folders of images, as a network takes them."""

import collections
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from odinlib.datasets import imagefiles, resample
from odinlib.errors import Missing, UserError, check_choice
from odinlib.networks.classifier import Classifier

FILTER = "bilinear-antialias"  # torchvision's, and what most networks were trained with
Size = int | tuple[int, int]


class Folder(Dataset[Tensor]):
    """The images below a folder, or of a list of files, decoded when they are asked for.

    A data set as PyTorch has them: `folder[i]` is one image, float32 [C, H, W] in [0, 1], and a `DataLoader` will take
    the whole; `batches` gives some at a time, `images` all of them at once.

    Attributes:
        names: of the files, relative to the folder, sorted.
        channels: 1 or 3.
        left_out: files that were not taken, counted by the reason.
        remarks: what else is to be said of the files, in sentences.
    """

    def __init__(
        self, files: Sequence[tuple[str, Path]], channels: int, resize: Size | None, crop: Size | None, filter: str
    ) -> None:
        self.names = [name for name, _ in files]
        self.channels = channels
        self.left_out: dict[str, int] = {}
        self.remarks: list[str] = []
        self._files = list(files)
        self._change = resize, crop, filter

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.told()}>"

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:
        name, path = self._files[index]
        pixels = imagefiles.read(path, name, channels=self.channels)
        changed = torch.from_numpy(_changed(pixels, name, *self._change).transpose(2, 0, 1).copy())
        return changed.clamp(0, 1) if changed.is_floating_point() else changed.float() / 255

    def batches(self, size: int = 64) -> Iterator[Tensor]:
        """The images in order, float32 [up to `size`, C, H, W]."""
        for start in range(0, len(self), size):
            yield torch.stack([self[index] for index in range(start, min(start + size, len(self)))])

    @property
    def images(self) -> Tensor:
        """All images at once, float32 [N, C, H, W]."""
        return torch.stack([self[index] for index in range(len(self))])

    def take(self, indices: Iterable[int]) -> "Folder":
        """The images of these indices, in their order."""
        return Folder([self._files[index] for index in indices], self.channels, *self._change)

    def told(self) -> str:
        """What was taken, what was not and why, in a line."""
        kind = "grey" if self.channels == 1 else "colour"
        parts = [f"{len(self)} image{'s' * (len(self) != 1)} ({kind})"]
        if self.left_out:
            parts.append(f"not taken: {_counted(self.left_out)}")
        return "; ".join([*parts, *self.remarks])


def read_folder(
    path: str | Path,
    size: Size | None = None,
    *,
    resize: Size | None = None,
    crop: Size | None = None,
    filter: str = FILTER,
    channels: int | None = None,
) -> Folder:
    """All images below a folder, in the order of their names, as a network takes them.

    Args:
        path: the folder; images may lie in subfolders. Hidden files, links to folders and files that by their endings
            are no images are left out, and counted in `left_out`.
        size: height and width, or one number for both, that the whole image is brought to, proportions not kept.
        resize: in its place, as torchvision's `Resize` has it: one number for the shorter side, proportions kept.
        crop: the part in the middle that is cut out of that, as torchvision's `CenterCrop` has it.
        filter: of `odinlib.datasets.resample.FILTERS`. ODIN's scores depend on it: take the network's own.
        channels: 1 or 3, as the network takes them; none: 3, unless all images are grey.

    Raises:
        UserError: no such folder, no image in it, an image that cannot be read, by name, or images of several sizes
            where none is asked for.
    """
    path = Path(path)
    if not path.is_dir():
        raise Missing(f"{imagefiles.shown(path)} is not a folder", remedy="give the path of a folder of images")
    files, left_out = below(path)
    if not files:
        what = f"{imagefiles.shown(path)} holds no image" + (f", but {_counted(left_out)}" if left_out else "")
        raise UserError(what, expected=f"files ending in {', '.join(sorted(imagefiles.ENDINGS))}")
    found = read_files(files, size, resize=resize, crop=crop, filter=filter, channels=channels)
    found.left_out = left_out
    return found


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))


def read_files(
    files: Sequence[tuple[str, Path]],
    size: Size | None = None,
    *,
    resize: Size | None = None,
    crop: Size | None = None,
    filter: str = FILTER,
    channels: int | None = None,
) -> Folder:
    """The images of these files, each with the name that it is to have; all else as in :func:`read_folder`."""
    check_choice("filter", filter, resample.FILTERS)
    if channels not in (None, 1, 3):
        raise UserError(f"the network takes {channels} channels", expected="1 or 3 for images from files")
    if size is not None and resize is not None:
        raise UserError("size and resize are both given", expected="one of the two")
    for name, value in (("size", size), ("resize", resize), ("crop", crop)):
        if value is not None and min(_pair(value)) < 1:
            raise UserError(f"{name} is {value}", expected="at least 1")
        if value is not None and math.prod(_pair(value)) > imagefiles.MAX_PIXELS:
            raise UserError(f"{name} is {value}", expected=f"at most {imagefiles.MAX_PIXELS:,} pixels of an image")
    resize = _pair(size) if size is not None else resize
    headers = [imagefiles.header(file, name) for name, file in files]
    sizes = collections.Counter((one.height, one.width) for one in headers)
    if resize is None and crop is None and len(sizes) > 1:
        (height, width), (other_height, other_width) = list(sizes)[:2]
        what = f"the images are of {len(sizes)} sizes, such as {width} x {height} and {other_width} x {other_height}"
        raise UserError(what, remedy="give size, or resize and crop, as the network takes them")
    found = Folder(files, channels or (1 if all(one.grey for one in headers) else 3), resize, crop, filter)
    if frames := sum(one.frames for one in headers):
        found.remarks.append(f"of {frames} with several pictures, such as animations, the first one")
    if found.channels == 3 and (grey := sum(one.grey for one in headers)):
        found.remarks.append(f"{grey} grey ones with three equal channels")
    if found.channels == 1 and (colour := len(headers) - sum(one.grey for one in headers)):
        found.remarks.append(f"{colour} of colour turned grey")
    return found


_FILTERS = {
    **{"bilinear": "bilinear-antialias", "bicubic": "bicubic-antialias", "lanczos": "lanczos", "box": "box"},
    **{"nearest": "nearest", "0": "nearest", "1": "lanczos", "2": "bilinear-antialias", "3": "bicubic-antialias"},
    **{"4": "box", "nearest-exact": "nearest"},
}


def reading(transforms: Any) -> dict[str, Any]:
    """What a network's own preprocessing does with the sizes of images, as `read_folder` takes it.

    Args:
        transforms: torchvision's (`weights.transforms()`, or a `Compose`), timm's data configuration, or a HuggingFace
            image processor or its configuration. The normalisation in them is for `Normalised.from_transforms`.

    Returns:
        `resize`, `crop` and `filter`, as far as they are there.

    >>> reading({"input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bicubic"})
    {'resize': 256, 'crop': (224, 224), 'filter': 'bicubic-antialias'}
    """
    if isinstance(parts := getattr(transforms, "transforms", None), list | tuple):
        return {key: value for part in parts for key, value in reading(part).items()}
    if hasattr(transforms, "to_dict"):
        transforms = transforms.to_dict()

    def value(*names: str) -> Any:
        entries = (
            transforms.get(n) if isinstance(transforms, Mapping) else getattr(transforms, n, None) for n in names
        )
        return next((entry for entry in entries if entry is not None), None)

    found: dict[str, Any] = {}
    if (size := value("input_size")) is not None:  # timm's
        share, (height, width) = value("crop_pct") or 1.0, tuple(size)[-2:]
        found = {"resize": int(min(height, width) / share), "crop": (height, width)}
    elif type(transforms).__name__ == "CenterCrop":
        found = {"crop": _size_of(transforms.size)}
    elif type(transforms).__name__ == "Resize":
        found = {"resize": _size_of(transforms.size)}
    else:
        if (size := value("resize_size", "size")) is not None and value("do_resize") is not False:
            found["resize"] = _size_of(size)
        if (size := value("crop_size")) is not None and value("do_center_crop") is not False:
            found["crop"] = _size_of(size)
    if "resize" in found and (named := value("interpolation", "resample")) is not None:
        named = str(int(named) if isinstance(named, int) else getattr(named, "value", named)).lower()
        found["filter"] = _FILTERS[check_choice("interpolation", named, _FILTERS)]
    return found


def _size_of(size: Any) -> Size:
    """A number for the shorter side, or a height and a width, from the ways in which libraries have them."""
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            return int(size["shortest_edge"])
        return int(size["height"]), int(size["width"])
    sizes = [size] if isinstance(size, int) else [int(one) for one in size]
    return sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])


def wanted(network: nn.Module) -> dict[str, Any]:
    """The `channels` and the `size` of the images that a network takes, as far as it tells them."""
    found: dict[str, Any] = {}
    for module in network.modules():
        if isinstance(module, Classifier):
            return {"channels": module.channels, "size": module.size}
        settings = getattr(module, "config", None), getattr(module, "pretrained_cfg", None)
        for name, key in (("num_channels", "channels"), ("image_size", "size"), ("input_size", "size")):
            for one in settings:
                value = one.get(name) if isinstance(one, Mapping) else getattr(one, name, None)
                if isinstance(value, int | list | tuple) and value:
                    value = tuple(value)[-2:] if isinstance(value, list | tuple) else value
                    found.setdefault(key, value)
        if isinstance(module, nn.Conv2d):
            found.setdefault("channels", module.in_channels)
        if isinstance(module, torch.fx.GraphModule):  # an exported program knows the shape of what it takes
            first = next((node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"), None)
            if isinstance(first, Tensor) and first.ndim == 4:
                _, channels, height, width = first.shape
                if isinstance(channels, int):
                    found.setdefault("channels", channels)
                if isinstance(height, int) and isinstance(width, int):
                    found.setdefault("size", (height, width))
    return found


def image(file: tuple[str, Path], reading: Mapping[str, Any]) -> Tensor:
    """One image [C, H, W] in [0, 1], read as others were; errors as of :func:`read_folder`.

    Args:
        file: what to call it, and where it is.
        reading: the arguments of `read_folder` that the others were read with, their `channels` among them.
    """
    return read_files([file], **reading)[0]


def write_folder(path: str | Path, images: np.ndarray) -> None:
    """Write uint8 images [N, H, W, C] as numbered PNG files."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(path / f"{number:05d}.png")


def below(root: Path) -> tuple[list[tuple[str, Path]], dict[str, int]]:
    """The image files below a folder, with their names in it, sorted; and how many others there are, by the reason."""
    found: list[tuple[str, Path]] = []
    left_out: collections.Counter[str] = collections.Counter()

    def refuse(error: OSError) -> None:
        raise UserError(f"{imagefiles.shown(error.filename)} cannot be read ({error.strerror})") from error

    for place, folders, names in os.walk(root, onerror=refuse):
        inside = Path(place)
        hidden = [name for name in folders if _is_hidden(name)]
        links = [name for name in folders if name not in hidden and (inside / name).is_symlink()]
        left_out["hidden folders"] += len(hidden)
        left_out["links to folders"] += len(links)
        folders[:] = [name for name in folders if name not in {*hidden, *links}]
        for name in names:
            if _is_hidden(name):
                left_out["hidden"] += 1
            elif imagefiles.is_image(Path(name)):
                found.append(((inside / name).relative_to(root).as_posix(), inside / name))
            else:
                left_out[imagefiles.shown(Path(name).suffix.lower()) or "without an ending"] += 1
    return sorted(found, key=lambda one: Path(one[0]).parts), dict(+left_out)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _changed(pixels: np.ndarray, name: str, resize: Size | None, crop: Size | None, filter: str) -> np.ndarray:
    """Pixels [H, W, C] brought to a size; the arithmetic of both steps is torchvision's."""
    height, width = pixels.shape[:2]
    if isinstance(resize, int):
        short, long = resize, int(resize * max(height, width) / min(height, width))
        resize = (short, long) if height <= width else (long, short)
        if short * long > imagefiles.MAX_PIXELS:
            what = f"{imagefiles.shown(name)} is {width} x {height}, which would become {resize[1]} x {resize[0]}"
            raise UserError(what, remedy="cut it first, or give size in place of resize")
    if resize is not None and resize != (height, width):
        pixels = resample.resize(pixels, resize, filter)
        height, width = resize
    if crop is None:
        return pixels
    tall, wide = _pair(crop)
    if height < tall or width < wide:
        what = f"{imagefiles.shown(name)} is {width} x {height}, too small to cut {wide} x {tall} out of it"
        raise UserError(what, remedy="give resize, at least as large as crop")
    top, left = round((height - tall) / 2), round((width - wide) / 2)
    return pixels[top : top + tall, left : left + wide]
