"""The one reader of image files: every kind comes out right, or is refused in one line that names the file."""

import io
import os
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from odinlib.datasets import imagefiles
from odinlib.datasets.imagefiles import Unreadable, header, read

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
DEEP = np.array([[0, 16448], [32896, 65535]], dtype=np.uint16)


def encoded(image, format, **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **options)
    return buffer.getvalue()


def refused(data, name="a.png") -> str:
    """The one line with which a file is refused, by its pixels if not by its header."""
    with pytest.raises(Unreadable) as caught:
        header(data, name)
        read(data, name)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(f"{imagefiles.shown(name)} cannot be read as an image: ")
    return line


def tiff(pixels: np.ndarray, sample_format: int, white_is_zero: bool = False) -> bytes:
    """A grey TIFF of any type of number."""
    height, width = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    bits = 8 * pixels.dtype.itemsize
    grey = 0 if white_is_zero else 1
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, grey), (273, 0), (277, 1), (278, height)]
    tags += [(279, len(data)), (339, sample_format)]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = [struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags]
    return b"".join([b"II*\0", struct.pack("<IH", 8, len(tags)), *entries, bytes(4), data])


# --- Right ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_keep_their_scale(format):
    found = read(encoded(DEEP, format))
    assert found.dtype == np.float32 and np.allclose(found[..., 0], DEEP / 65535, atol=1e-7)
    assert np.array_equal(read(encoded(DEEP, format), channels=3)[..., 2], found[..., 0])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P5 2 1 1023\n" + np.array([0, 1023], ">u2").tobytes(), [0, 1]),
        (b"P2 3 1 15\n0 5 15\n", [0, 85 / 255, 1]),
        (b"Pf\n2 1\n-1.0\n" + np.array([0.25, 1], "<f4").tobytes(), [0.25, 1]),
        (tiff(np.array([[0.0, 0.125, 1.0]], np.float32), 3), [0, 0.125, 1]),
        (tiff(np.array([[0, 2**31, 2**32 - 1]], np.uint32), 1), [0, 0.5, 1]),
        (tiff(np.array([[0, 2**15 - 1]], np.int16), 2), [0, 1]),
        (tiff(np.array([[0, 65535]], np.uint16), 1, white_is_zero=True), [1, 0]),
        (tiff(np.array([[0, 255]], np.uint8), 1, white_is_zero=True), [1, 0]),
        (encoded(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"), "PNG"), [0, 1]),
    ],
)
def test_every_scale_of_grey_is_between_0_and_1(data, expected):
    found = read(data)
    found = found / 255 if found.dtype == np.uint8 else found
    assert found.shape == (1, len(expected), 1) and np.allclose(found.ravel(), expected, atol=1e-6)


def test_what_is_transparent_is_shown_on_white():
    seen = [[255, 255, 255], [10, 20, 30]]
    colours = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    colours.putpixel((1, 0), (10, 20, 30, 255))
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 0, 0, 10, 20, 30])
    palette.putpixel((1, 0), 1)
    assert read(encoded(colours, "PNG"))[0].tolist() == seen
    assert read(encoded(palette, "PNG", transparency=0))[0].tolist() == seen
    assert read(encoded(palette, "GIF", transparency=0))[0].tolist() == seen
    grey = Image.new("LA", (1, 1), (0, 0))
    assert read(encoded(grey, "PNG")).tolist() == [[[255]]]


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_photographs_are_turned_as_they_were_taken(format, orientation, turns):
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if format == "WEBP" else {}
    data = encoded(image, format, exif=exif.tobytes(), **lossless)
    expected = np.rot90(read(encoded(image, format, **lossless)), turns)
    assert np.array_equal(read(data), expected)
    assert (header(data).height, header(data).width) == expected.shape[:2]
    if format == "JPEG":
        assert np.array_equal(read(data, upright=False), read(encoded(image, format)))


def test_colours_of_print_and_of_video_become_red_green_and_blue():
    inverse = Image.fromarray(np.concatenate([255 - RGB, np.zeros_like(RGB[..., :1])], 2), "CMYK")
    assert np.array_equal(read(encoded(inverse, "TIFF")), RGB)
    assert np.abs(read(encoded(inverse, "JPEG", quality=100)).astype(int) - RGB).mean() < 3


def test_channels_follow_what_is_asked_for():
    grey, colour = encoded(RGB[..., 0], "PNG"), encoded(RGB, "PNG")
    assert read(grey).shape == read(colour, channels=1).shape == (20, 30, 1)
    assert np.array_equal(read(grey, channels=3), RGB[..., :1].repeat(3, 2))
    assert np.array_equal(read(colour, channels=1)[..., 0], np.asarray(Image.fromarray(RGB).convert("L")))
    assert header(grey).grey and not header(colour).grey


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_picture_is_taken_and_told(format):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    lossless = {"lossless": True} if format == "WEBP" else {}
    moving = encoded(frames[0], format, save_all=True, append_images=frames[1:], **lossless)
    assert header(moving).frames and not header(encoded(frames[0], format)).frames
    assert np.abs(read(moving).astype(int) - RGB).mean() < 20


def test_a_photograph_with_a_preview_is_no_animation():
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[:5, :5])]
    assert not header(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])).frames


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP", "GIF", "BMP", "PPM", "JPEG2000"])
def test_a_truncated_image_is_never_half_an_image(format):
    whole = encoded(RGB, format)
    for share in (0.2, 0.5, 0.9):
        refused(whole[: int(share * len(whole))])
    assert "it is empty" in refused(b"")


@pytest.mark.parametrize(
    ("begin", "told"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6", "PostScript"),
        (b"<!DOCTYPE html><html>404", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"%PDF-1.7\n", "a PDF"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG"),
        (b"\0\0\0\x18ftypheic", "HEIF"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"hello", "none of PNG, JPEG"),
    ],
)
def test_a_file_that_is_no_image_is_told_by_what_it_is(begin, told):
    assert told in refused(begin + bytes(100))


def test_no_file_reaches_ghostscript(monkeypatch, tmp_path):
    """An EPS of any name, whole enough that Pillow would start the program."""
    eps = io.BytesIO()
    Image.fromarray(RGB).save(eps, "EPS")
    for module in (subprocess, os):
        for name in ("Popen", "run", "call", "check_call", "system"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "innocent.jpg").write_bytes(eps.getvalue())
    assert "PostScript" in refused(tmp_path / "innocent.jpg", tmp_path / "innocent.jpg")


def png(width, height) -> bytes:
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("data", [png(12_000, 12_000), png(10**5, 10**5), png(2**31 - 1, 1), b"P6 90000 90000 255\n"])
def test_a_size_that_would_fill_the_memory_is_refused_by_its_header(data, recwarn):
    assert "more than 100,000,000 are refused; make it smaller first" in refused(data)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (tiff(np.array([[0, 128, 255]], np.float32), 3), "from 0 to 255, not in [0, 1]; scale them"),
        (tiff(np.array([[0, np.nan]], np.float32), 3), "NaN or infinite"),
        (tiff(np.array([[-0.5, 0.5]], np.float32), 3), "from -0.5 to 0.5"),
        (tiff(np.array([[0, 65535]], np.uint32), 1), "so all of it would be black; save it as 8 or 16 bits"),
        (tiff(np.array([[-5, 100]], np.int16), 2), "from -5 to 100, some below 0"),
    ],
)
def test_numbers_without_a_known_scale_are_refused(data, told):
    assert told in refused(data)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "no regular file" in refused(tmp_path / "pipe.png", "pipe.png")
    assert "No such file" in refused(tmp_path / "gone.png", "gone.png")


def test_names_are_shown_without_what_a_terminal_would_obey():
    assert imagefiles.shown("a\udcff\x1b[2J\n\u202eb.png") == r"a\xff\x1b[2J\n\u202eb.png"
    assert imagefiles.shown(Path("Käse 是.png")) == "Käse 是.png"
    assert "\x1b" not in refused(b"", "\x1b[2J.png")
