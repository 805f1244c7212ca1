"""JPEGs by the libjpeg that is asked for: in images as small as these the choice is seen, and changes every measure.

JPEG keeps colour at half the size (4:2:0). libjpeg-turbo, which Pillow comes with, enlarges it by interpolation; IJG's
own libjpeg does so from version 7 on by an inverse DCT of twice the size. Two decodings of one 32 x 32 image differ by
up to a hundred levels at a pixel, by one on average. The paper's authors had the latter, of version 9a or 9b
(`odinlib.datasets.released`).
"""

import functools
import io
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from odinlib.errors import UserError, check_choice

LIBRARIES = ("ijg", "turbo")
IJG = "9b"  #: of 2016; versions before 9a decode otherwise, those after 9d encode otherwise


def decode(data: bytes, library: str, version: str = IJG) -> np.ndarray:
    """The pixels of a JPEG, uint8 [H, W, 3], or [H, W, 1] where it is grey.

    Args:
        data: the file's bytes.
        library: `ijg`, or `turbo`, which is whatever Pillow was built with.
        version: of IJG's.

    Raises:
        OSError, ValueError: it is damaged.
        UserError: the library is not installed.
    """
    check_choice("decoder", library, LIBRARIES)
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        pixels = np.asarray(image)  # with IJG's too, which would fill what is missing with grey
    if library == "ijg":
        with tempfile.TemporaryDirectory() as folder:  # jpeglib knows files only
            path = Path(folder) / "image.jpg"
            path.write_bytes(data)
            pixels = _jpeglib(version).read_spatial(path).spatial
    if pixels.shape[2:] not in ((), (1,), (3,)):
        raise ValueError("it is neither grey nor of three colours")
    return pixels if pixels.ndim == 3 else pixels[..., None]


def encode(pixels: np.ndarray, quality: int, library: str, version: str = IJG) -> bytes:
    """A baseline JPEG with colour at half the size (4:2:0), as both libraries make it unless told otherwise.

    Args:
        pixels: uint8 [H, W, 3], or [H, W, 1] for a grey one.
        quality: 1 to 100, libjpeg's scale.
        library: `ijg` or `turbo`.
        version: of IJG's.

    Raises:
        UserError: the library is not installed.
    """
    check_choice("decoder", library, LIBRARIES)
    if library == "ijg":
        image = _jpeglib(version).from_spatial(np.ascontiguousarray(pixels))
        if pixels.shape[2] == 3:
            image.samp_factor = ((2, 2), (1, 1), (1, 1))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image.jpg"
            image.write_spatial(str(path), qt=quality)
            return path.read_bytes()
    buffer = io.BytesIO()
    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels)
    image.save(buffer, format="JPEG", quality=quality, **({} if grey else {"subsampling": "4:2:0"}))
    return buffer.getvalue()


def version(library: str) -> str:
    """The library's name and version, as a provenance keeps it."""
    check_choice("decoder", library, LIBRARIES)
    if library == "ijg":
        _jpeglib(IJG)
        return f"IJG libjpeg {IJG} (jpeglib {metadata.version('jpeglib')})"
    kind = "libjpeg-turbo" if features.check_feature("libjpeg_turbo") else "libjpeg"
    number = features.version_feature("libjpeg_turbo") or features.version_codec("jpg")
    return f"{kind} {number} (Pillow {PIL.__version__})"


def _jpeglib(version: str) -> Any:
    found = _import()
    if found.version.get() != version:  # it is one for the whole process, and others may have chosen another
        found.version.set(version)
    return found


@functools.cache
def _import() -> Any:
    try:
        import jpeglib
    except ImportError as error:
        raise UserError(
            f"IJG's libjpeg cannot be used here ({error})",
            expected="the package jpeglib",
            remedy="pip install 'odinlib[data]', or choose --decoder turbo",
        ) from error
    return jpeglib
