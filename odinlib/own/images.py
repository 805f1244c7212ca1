"""Images of any kind as a stream of batches in [0, 1]: arrays, data sets, loaders, and whatever gives batches."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

from odinlib import devices
from odinlib.errors import UserError
from odinlib.own import guards

Images = Any  #: what `stream` takes

_NAMES = ("pixel_values", "images", "image", "img", "x")  # of images in a dictionary
_LABELS = ("labels", "label", "targets", "y")
_KIND = "a tensor or an array [N, C, H, W], a data set, a DataLoader, or batches of such images"

#: What whole numbers are divided by to lie in [0, 1].
RANGES = {torch.uint8: 255, torch.uint16: 65535, torch.bool: 1}


class Batch(NamedTuple):
    """Some images, and their classes where what gave them knows these."""

    images: Tensor  # [n, C, H, W] in [0, 1], float32 or float64
    labels: Tensor | None  # [n]


def stream(
    images: Images, size: int, shape: tuple[int, ...] | None = None, channels: int | None = None
) -> Iterator[Batch]:
    """Batches of at most `size` images, one after the other; no more than one is held.

    Args:
        images: a tensor or an array [N, C, H, W] (or anything with a shape that can be sliced, as a file of HDF5), a
            data set or a list of images [C, H, W], a DataLoader, or any iterable of batches. Data sets and loaders may
            give (images, labels, ...) or a dictionary with the images under one of the usual names. Pixels are floats
            in [0, 1], or uint8, uint16 or bool, which are scaled to it.
        size: images of a batch.
        shape: (C, H, W) that images must have; a single image of that shape is a batch of one. None: that of the first.
        channels: that the network takes, if it is known.

    Raises:
        UserError: what is given are no images, they are of several shapes, or their pixels are NaN or 0 to 255.
    """
    low, high, count = float("inf"), -float("inf"), 0
    for found, labels in _grouped(_opened(images, shape), size):
        part = _scaled(found)
        shape = _checked(part, shape, channels)
        if len(part):
            darkest, brightest = (x.item() for x in torch.aminmax(part))
            guards.check_pixels(darkest, brightest)
            low, high, count = min(low, darkest), max(high, brightest), count + len(part)
        del found
        yield Batch(part, labels)
        del part
    if not count:
        raise UserError("there are no images", expected="at least one")
    guards.pixels(low, high)


def batches(images: Images, size: int) -> int | None:
    """How many batches `stream` gives, as far as it can be told beforehand."""
    if isinstance(images, DataLoader):
        per = images.batch_size
        return None if per is None or not hasattr(images.dataset, "__len__") else len(images) * max(1, -(-per // size))
    shape = getattr(images, "shape", None)
    if shape is not None or isinstance(images, Dataset):
        return -(-len(images) // size) if hasattr(images, "__len__") else None
    return None


def _opened(images: Images, shape: tuple[int, ...] | None) -> Iterator[tuple[Any, Any]]:
    """What is given, as pairs of images (one [C, H, W], or a batch) and labels, lazily."""
    if isinstance(images, str | bytes) or hasattr(images, "__fspath__"):
        array = str(images).endswith((".npy", ".npz"))
        opened = "np.load opens an array" if array else "own.read_folder reads a folder"
        raise UserError(f"images are the path {str(images)!r}", expected=_KIND, remedy=opened)
    if isinstance(images, Mapping):
        images = [images]
    if hasattr(images, "shape") and hasattr(images, "dtype"):
        if len(images.shape) == 3 and tuple(images.shape) == shape:
            yield images[None], None
        elif len(images.shape) != 4:
            expected = "[N, C, H, W]" if shape is None else f"[N, {', '.join(map(str, shape))}], as when it was fitted"
            remedy = "grey images have one channel, and one image is a batch of one" if len(images.shape) < 4 else None
            raise UserError(f"images are of shape {list(images.shape)}", expected=expected, remedy=remedy)
        else:
            yield images, None
        return
    if isinstance(images, DataLoader):
        _doubt_loader(images)
    items: Iterable[Any]
    indexed = hasattr(images, "__getitem__") and hasattr(images, "__len__")
    if indexed and not isinstance(images, DataLoader | IterableDataset):
        items = (images[i] for i in range(len(images)))  # a data set need not be iterable
    elif isinstance(images, Iterable):
        items = images
    else:
        raise UserError(f"images are {type(images).__name__}", expected=_KIND)
    yield from map(_item, items)


def _doubt_loader(loader: DataLoader) -> None:
    if isinstance(loader.sampler, RandomSampler):
        guards.doubt("the DataLoader shuffles: scores come in its order, not in that of the images")
    if loader.drop_last and loader.batch_size and hasattr(loader.dataset, "__len__"):
        left = len(loader.dataset) % loader.batch_size
        if left:
            guards.doubt(f"the DataLoader leaves the last {left} images out (drop_last)")


def _item(item: Any) -> tuple[Any, Any]:
    """The images and the labels of what a data set or a loader gives."""
    if isinstance(item, Mapping):
        name = next((name for name in _NAMES if name in item), None)
        if name is None:
            names = ", ".join(map(str, item))
            raise UserError(f"a batch has the entries {names}", expected=f"images as one of {', '.join(_NAMES)}")
        return item[name], next((item[name] for name in _LABELS if name in item), None)
    if isinstance(item, tuple | list) and item and hasattr(item[0], "shape"):
        return item[0], item[1] if len(item) > 1 else None
    if not (hasattr(item, "shape") and hasattr(item, "dtype")):
        first = item[0] if isinstance(item, tuple | list) and item else item  # of an image and its label
        pictures = hasattr(first, "convert")
        remedy = "give the data set a transform that ends in ToTensor" if pictures else None
        kind = type(first if pictures else item).__name__
        raise UserError(f"images are given as {kind}", expected="tensors or arrays", remedy=remedy)
    return item, None


def _grouped(items: Iterable[tuple[Any, Any]], size: int) -> Iterator[tuple[Any, Tensor | None]]:
    """Batches of at most `size`: batches that are given cut, single images collected."""
    single: list[tuple[Any, Any]] = []
    for images, labels in itertools.chain(items, [(None, None)]):
        if single and (images is None or len(images.shape) != 3 or len(single) == size):
            yield _stacked([image for image, _ in single]), _labels([label for _, label in single], len(single))
            single = []
        if images is not None and len(images.shape) == 3:
            single.append((images, labels))
        elif images is not None:
            if len(images.shape) != 4:
                raise UserError(f"a batch is of shape {list(images.shape)}", expected="[n, C, H, W]")
            of = _labels(labels, len(images))
            for start in range(0, len(images), size):
                yield images[start : start + size], None if of is None else of[start : start + size]


def _stacked(images: list[Any]) -> Tensor:
    tensors = [devices.tensor(image) for image in images]
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        a, b = (list(shape) for shape in sorted(shapes)[:2])
        raise UserError(f"images are of shapes {a} and {b}", expected="one shape", remedy="resize or crop them")
    if len({tensor.dtype for tensor in tensors}) > 1:
        raise UserError("images are of several types of numbers", expected="one type, as float32 or uint8")
    return torch.stack(tensors)


def _labels(labels: Any, count: int) -> Tensor | None:
    """Classes [count], if that is what `labels` are."""
    try:
        found = torch.as_tensor(np.asarray([int(label) for label in labels]))
    except (TypeError, ValueError, RuntimeError):
        return None
    return found if len(found) == count else None


def _scaled(images: Any) -> Tensor:
    """A batch as float32 or float64 in [0, 1], and no tensor of a caller's `inference_mode`."""
    tensor = devices.tensor(images).detach()
    if tensor.dtype in RANGES:
        return tensor.to(torch.float32) / RANGES[tensor.dtype]
    if not tensor.is_floating_point():
        raise UserError(f"images are {str(tensor.dtype).removeprefix('torch.')}", expected="floats in [0, 1], or uint8")
    tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
    return tensor.clone() if tensor.is_inference() else tensor


def _checked(images: Tensor, shape: tuple[int, ...] | None, channels: int | None) -> tuple[int, ...]:
    found = tuple(images.shape[1:])
    told = "[N, {}, {}, {}]"
    if shape is None:
        if found[-1] in (1, 3, 4) and found[0] not in (1, 3, 4, channels):
            what, remedy = f"images are of shape {told.format(*found)}", "permute(0, 3, 1, 2) them"
            raise UserError(what, expected="the channels before height and width", remedy=remedy)
    elif found != shape:
        what = f"images are of shape {told.format(*found)}"
        raise UserError(what, expected=f"{told.format(*shape)}, like those before them")
    return found
