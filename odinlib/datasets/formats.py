"""The publishers' own file formats, read without running anything they contain."""

import io
import pickle
import struct
from typing import Any

import numpy as np
from PIL import Image

from odinlib.datasets import imagefiles, jpeg
from odinlib.datasets.archives import RawFile
from odinlib.errors import UserError


class _Unpickler(pickle.Unpickler):
    """Reads numbers, strings, lists, dictionaries and numpy arrays; anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray"):
            if name == "_reconstruct":
                return np.zeros(0).__reduce__()[0]  # wherever this version of numpy keeps it
            if name in ("ndarray", "dtype"):
                return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _encode_latin1(text: str, encoding: str) -> bytes:
    """How Python 3 spells bytes in a pickle that Python 2 can read."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


def unpickle(file: RawFile) -> dict[str, Any]:
    """The dictionary in a CIFAR pickle, through an unpickler that knows numpy arrays and nothing else.

    Raises:
        UserError: it is damaged, or asks for anything else.
    """
    try:
        found = _Unpickler(io.BytesIO(file.data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(f"{file.path} is no CIFAR pickle ({error})", remedy="it is refused") from error
    if not isinstance(found, dict):
        raise UserError(f"{file.path} holds a {type(found).__name__}", expected="a dictionary")
    return {_text(key): value for key, value in found.items()}


def cifar_batch(file: RawFile, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """The images uint8 [N, 32, 32, 3] and labels int64 [N] of one CIFAR batch, in the batch's order.

    Args:
        file: the pickle.
        labels: its key for labels: `labels` (CIFAR-10), `fine_labels` or `coarse_labels` (CIFAR-100).
    """
    batch = unpickle(file)
    pixels, numbers = batch.get("data"), batch.get(labels)
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim != 2
        or pixels.shape[1] != 3072
        or not isinstance(numbers, list)
        or len(numbers) != len(pixels)
        or not all(type(number) is int and 0 <= number < 1000 for number in numbers)
    ):
        raise UserError(f"{file.path} is no CIFAR batch", expected=f"data [N, 3072] uint8 and {labels} [N]")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(numbers, dtype=np.int64)


def cifar_names(file: RawFile, key: str) -> list[str]:
    """The class names in a CIFAR `meta` file."""
    names = unpickle(file).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise UserError(f"{file.path} has no {key}", expected="the class names")
    return [_text(name) for name in names]


def idx(file: RawFile) -> np.ndarray:
    """The uint8 array in an IDX file, the format of MNIST: [N, 28, 28] images or [N] labels."""
    data = file.data
    if len(data) < 4 or data[:3] != b"\0\0\x08" or data[3] > 4:
        raise UserError(f"{file.path} is no IDX file of bytes", expected="one of images or labels")
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]]) if len(data) >= 4 + 4 * data[3] else ()
    body = np.frombuffer(data, np.uint8, offset=min(len(data), 4 + 4 * data[3]))
    if not shape or body.size != np.prod(shape, dtype=object):
        raise UserError(f"{file.path} is truncated", remedy="fetch it again")
    return body.reshape(shape)


def decode(file: RawFile, mode: str, decoder: str = "turbo", upright: bool = False) -> np.ndarray:
    """The pixels of an image file, uint8 [H, W, 3] for mode `RGB` and [H, W, 1] for `L`.

    Args:
        file: the image.
        mode: `RGB` or `L`.
        decoder: one of `jpeg.LIBRARIES`, for JPEGs; all else is Pillow's.
        upright: turn a photograph as its EXIF orientation says. The published sets are taken as they are stored.

    Raises:
        imagefiles.Unreadable: it cannot be read.
    """
    name, data = file.path, file.data
    if decoder != "turbo" and data.startswith(b"\xff\xd8"):
        imagefiles.header(data, name)  # an image at all, and none too large
        try:
            pixels = jpeg.decode(data, decoder)
        except (OSError, ValueError, SyntaxError) as error:
            raise imagefiles.Unreadable(name, str(error).splitlines()[0]) from error
        whole = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
        found = np.asarray(whole.convert(mode))
        return found if found.ndim == 3 else found[..., None]
    pixels = imagefiles.read(data, name, channels=3 if mode == "RGB" else 1, upright=upright)
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255).astype(np.uint8)


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
