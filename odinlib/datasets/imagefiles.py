"""One image file of whatever kind, as pixels: right, or refused in one line that names the file and what to do.

Files are recognised by what they hold, never by their names, and only the formats of `FORMATS` reach Pillow: it would
hand an EPS to Ghostscript. No colour profile is applied, as torchvision applies none.
"""

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from odinlib.errors import UserError

#: What is read, by Pillow's names.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
#: Endings of files that claim to be one of these. Photographs as cameras keep them (.dng, .nef) are TIFFs whose first
#: picture is a small preview: they are not taken for it.
ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "mpo", "webp", "avif", "bmp", "gif", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm", "pfm", "jp2", "j2k", "jpx"),
    )
)
MAX_PIXELS = 100_000_000  # of one image: 10,000 x 10,000
#: What a file that is no image is, by how it begins.
_KINDS = {
    b"%!PS": "PostScript (EPS)",
    b"\xc5\xd0\xd3\xc6": "PostScript (EPS)",
    b"%PDF": "a PDF",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML file",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a Git LFS pointer in place of the file",
    b"PK\x03\x04": "a zip archive",
    b"\x93NUMPY": "a NumPy array",
    b"8BPS": "a Photoshop document",
}
_GREY = ("1", "L", "LA", "La", "I", "F")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


class Unreadable(UserError):
    """An image file that cannot be read; `reason` says why, without the file's name."""

    def __init__(self, name: str | PurePath, reason: str, remedy: str = "save it anew as PNG or JPEG, or remove it"):
        super().__init__(f"{shown(name)} cannot be read as an image: {reason}", remedy=remedy)
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """What an image file says of itself."""

    height: int  # of the picture as it is to be seen
    width: int
    grey: bool
    frames: bool  # whether it has more pictures than the first


def is_image(path: PurePath) -> bool:
    """Whether a file claims by its ending to be an image of `FORMATS`."""
    return path.suffix.lower() in ENDINGS


def shown(name: str | PurePath) -> str:
    r"""A file's name as it can be printed: bytes that are no UTF-8 and control characters are written as escapes.

    >>> shown("a\udcff\x1b[2J.png")
    'a\\xff\\x1b[2J.png'
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def header(source: Path | bytes, name: str | PurePath | None = None) -> Header:
    """The size and kind of an image, without its pixels; errors as :func:`read`'s."""
    with _opened(source, name) as image:
        width, height = image.size
        # Of TIFFs, Pillow gives the size as it is to be seen already.
        turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        size = (width, height) if turned else (height, width)
        several = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        return Header(*size, grey=_is_grey(image), frames=several)


def read(
    source: Path | bytes, name: str | PurePath | None = None, *, channels: int | None = None, upright: bool = True
) -> np.ndarray:
    """The pixels of an image, the first picture of several.

    Args:
        source: the file, or its bytes.
        name: what to call it in an error; the path by default.
        channels: 3: colour, a grey image three times over; 1: grey, colour by ITU-R 601's weights; None: as it is.
        upright: turn a photograph as its EXIF orientation says.

    Returns:
        uint8 [H, W, C], or float32 in [0, 1] of an image of more than 8 bits: of 16 bits, 65535 is 1. What is
        transparent is shown on white.

    Raises:
        Unreadable: the file is none of `FORMATS`, truncated, damaged or larger than `MAX_PIXELS`, or its numbers have
            no known scale: floats outside [0, 1], and whole ones of 32 bits of which next to nothing is used.
    """
    with _opened(source, name) as image:
        deep = image.mode == "F" or image.mode.startswith("I")
        tags = dict(getattr(image, "tag_v2", {}))  # of a TIFF
        image.load()
        turned = ImageOps.exif_transpose(image) if upright else image
        pixels = _deep(turned, image.format, tags) if deep else _shallow(turned, channels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.repeat(pixels, 3, axis=2) if channels == 3 and pixels.shape[2] == 1 else pixels


@contextlib.contextmanager
def _opened(source: Path | bytes, name: str | PurePath | None) -> Iterator[Image.Image]:
    """The image before its pixels are decoded; whatever goes wrong with it while it is in use is told in one line."""
    name = name if name is not None else (source if isinstance(source, Path) else "an image")
    try:
        with _stream(source) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, which are refused below, and of odd metadata
            Image.init()
            with Image.open(file, formats=[one for one in FORMATS if one in Image.OPEN]) as image:
                if 0 in image.size:
                    raise _Refused("it has no pixels")
                if image.width * image.height > MAX_PIXELS:
                    raise _Refused(_too_large(f"{image.width} x {image.height}"), "make it smaller first")
                yield image
    except _Refused as refusal:
        raise Unreadable(name, refusal.reason, **refusal.remedy) from None
    except UnidentifiedImageError:
        raise Unreadable(name, f"it is {_kind(source)}") from None
    except Image.DecompressionBombError:
        raise Unreadable(name, _too_large("far too many"), "make it smaller first") from None
    except UserError:
        raise
    except Exception as error:  # a damaged file fails in Pillow in any way
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable(name, (reason or type(error).__name__).splitlines()[0][:100]) from error


def _stream(source: Path | bytes) -> "io.BytesIO | io.BufferedReader":
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not stat.S_ISREG(source.stat().st_mode):  # a pipe would make us wait for ever
        raise _Refused("it is no regular file", "remove it")
    return source.open("rb")


class _Refused(Exception):
    """Why an image is not read, before it is known what it is called."""

    def __init__(self, reason: str, remedy: str | None = None) -> None:
        self.reason = reason
        self.remedy = {"remedy": remedy} if remedy else {}


def _too_large(size: str) -> str:
    return f"it has {size} pixels, and images of more than {MAX_PIXELS:,} are refused"


def _kind(source: Path | bytes) -> str:
    """What a file is that is no image known here."""
    with _stream(source) as file:
        start = file.read(64)
    if not start:
        return "empty"
    if start[4:8] == b"ftyp":
        return "a HEIF or other ISO media file"
    begin = start.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    known = next((kind for head, kind in _KINDS.items() if begin.startswith(head.lower())), None)
    return known or f"damaged, or none of {', '.join(FORMATS)}"


def _is_grey(image: Image.Image) -> bool:
    return image.mode in _GREY or image.mode.startswith("I;")


def _shallow(image: Image.Image, channels: int | None) -> np.ndarray:
    """The pixels of an image of 8 bits and fewer, uint8 [H, W] or [H, W, 3]."""
    mode = "L" if channels == 1 or (channels is None and _is_grey(image)) else "RGB"
    if image.mode in _ALPHA or "transparency" in image.info:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return np.asarray(image.convert(mode))


def _deep(image: Image.Image, format: str | None, tags: dict[int, object]) -> np.ndarray:
    """The pixels of a grey image of 16 bits or more, or of floats: float32 [H, W] in [0, 1]."""
    values = np.asarray(image)
    if image.mode == "F":
        grey = values.astype(np.float32)
        low, high = (float(values.min()), float(values.max())) if np.isfinite(values).all() else (np.nan, np.nan)
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            found = "NaN or infinite" if np.isnan(low) else f"from {low:g} to {high:g}"
            raise _Refused(f"its numbers are {found}, not in [0, 1]", "scale them to [0, 1] first")
    else:
        values, full = _whole(values, image.mode, format, tags)
        grey = (values / full).astype(np.float32)
        if image.info.get("transparency") is not None:
            grey[values == image.info["transparency"]] = 1
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is 0, which Pillow minds with 8 bits only
        grey = 1 - grey
    return grey.clip(0, 1)


def _whole(values: np.ndarray, mode: str, format: str | None, tags: dict[int, object]) -> tuple[np.ndarray, int]:
    """Whole numbers of more than 8 bits, and the one that stands for white."""
    bits, signed = 16, False
    if mode == "I" and format == "TIFF":  # elsewhere Pillow scales to 16 bits
        bits, signed = _first(tags.get(ExifTags.Base.BitsPerSample), 32), _first(tags.get(339), 1) == 2
        if bits == 32 and not signed:
            values = values.astype(np.int32).view(np.uint32)
    full = 2 ** (bits - signed) - 1
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise _Refused(f"its numbers are from {low} to {high}, some below 0", "save it as 8 or 16 bits without sign")
    if bits > 16 and 0 < high < full / 256:
        reason = f"its whole numbers of {bits} bits reach from {low} to {high}, of {full}, so all of it would be black"
        raise _Refused(reason, "save it as 8 or 16 bits")
    return values, full


def _first(value: object, default: int) -> int:
    found = value[0] if isinstance(value, tuple) else value
    return found if isinstance(found, int) else default
