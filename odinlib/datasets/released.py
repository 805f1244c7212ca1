"""The image sets that the paper's authors released: taken as they are, or made again of Tiny ImageNet's test images.

Both sets made of Tiny ImageNet follow from its 10,000 test images alone. The resized `i.jpg` is `test_i.JPEG` decoded
by IJG's libjpeg, every second pixel of every second row ([1::2, 1::2]: nearest neighbour, as Pillow places it), and a
JPEG of that of quality 75: byte for byte, in all 10,000. The crop `i.png` is 32 x 32 pixels at a random place of an
image, every image once, in a border of two black pixels: pixel for pixel, in all 10,000; which image and what place is
kept here.

The decoder must be IJG's of version 9a or later, the encoder one of 7 to 9d; of these the authors' time had 9a and 9b.
How near other ways come is in `odinlib.reference.making`.
"""

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from odinlib.datasets import jpeg, prepare, prepared, raw
from odinlib.datasets.archives import RawFile, digests
from odinlib.datasets.catalogue import PUBLISHED, RELEASED, Released
from odinlib.datasets.imagefiles import is_image
from odinlib.errors import Missing, UserError

QUALITY = 75
TABLE = Path(__file__).with_name("released-crops.npz")
REMADE = ("tinyimagenet-crop", "tinyimagenet-resize")

# --- Taking them ------------------------------------------------------------------------------------------------------


def take(names: Sequence[str], source: Path | None, decoder: str | None = None) -> None:
    """Write released sets whole, in the authors' order, their names sorted as strings; nothing is cut or scaled.

    Of crops in a border `<name>-inner` is written beside them, where that is a set: the same without the border.

    Args:
        names: the sets.
        source: one of the authors' archives or folders, a folder that holds some of them, or `None` to look and
            fetch.
        decoder: which libjpeg decodes JPEGs; none: IJG's, as the authors' did. Another one is part of the name.

    Raises:
        UserError: the source holds none of them, or what it holds is not what was released.
    """
    found = [
        name
        for name in names
        if source is None or source.name in RELEASED[name].layouts or raw.present(RELEASED[name], source)
    ]
    if not found:
        expected = " or ".join(layout for name in names for layout in RELEASED[name].layouts)
        raise UserError(f"{source} is none of the authors' archives and holds none", expected=expected)
    for name in found:
        files = prepare.files_of(RELEASED[name], source, is_image)
        _write(name, files, decoder, files=files, source=RELEASED[name].page)


def remake(source: Path | None, decoder: str | None = None, names: Sequence[str] = REMADE) -> None:
    """Write the sets that :func:`remade` makes, checked as if they had been released just so.

    Args:
        source: Tiny ImageNet's folder or archive, a folder that holds it, or `None` to look and fetch.
        decoder: as in :func:`take`, for what is made; what it is made of, IJG's decodes in any case.
        names: the sets, of `REMADE`.

    Raises:
        Missing: one of the 10,000 test images is not there.
        UserError: they are not Tiny ImageNet's.
    """
    sources = prepare.raw_files("tinyimagenet", source, prepare.is_test_image)
    for name in names:
        made = remade(name, sources)
        how = {"made_again": jpeg.version("ijg")}
        _write(name, made, decoder, files=sources, source=PUBLISHED["tinyimagenet"].page, **how)


def _write(name: str, images: list[RawFile], decoder: str | None, **record: Any) -> None:
    entry, jpegs = RELEASED[name], prepared.ENTRIES[name].filter is not None
    made = prepared.Variant(name, decoder=decoder if jpegs else None)
    used = made.decoder or made.own_decoder
    whole = _checked(entry, images, used)
    record |= {"filter": prepared.RELEASED, **({"decoder": jpeg.version(used)} if jpegs else {})}
    prepare.write(made.name, whole, border=entry.border, **record)
    if f"{name}-inner" in prepared.ENTRIES:
        prepare.write(f"{name}-inner", np.ascontiguousarray(_inner(entry, whole)), border=0, **record)


def _inner(entry: Released, images: np.ndarray) -> np.ndarray:
    kept = slice(entry.border, entry.side - entry.border)
    return images[:, kept, kept]


def _checked(entry: Released, files: list[RawFile], decoder: str) -> np.ndarray:
    """The images [N, H, W, 3] of a released set, if they are that."""

    def wrong(what: str, expected: str) -> UserError:
        remedy = "they are damaged or other ones: fetch them again"
        return UserError(f"{entry.title}: {what}", expected=expected, remedy=remedy)

    shape = (entry.side, entry.side, 3)
    if len(files) != entry.count:
        raise wrong(f"there are {len(files)} images", f"{entry.count}")
    if entry.files and entry.files not in digests(files).values():
        raise wrong("the SHA-256 of the files differs", entry.files)
    as_it_is = [lambda pixels: pixels if pixels.shape == shape else None]
    (images,), kept = prepare.convert(files, "RGB", as_it_is, entry.title.partition(",")[0], decoder, say=False)
    if len(kept) < len(files):
        other = files[int(np.setdiff1d(np.arange(len(files)), kept)[0])].path
        raise wrong(f"{other} is no image of that size", f"{entry.side} x {entry.side}")
    outside = images.sum((1, 2, 3), np.int64) - _inner(entry, images).sum((1, 2, 3), np.int64)
    if outside.any():
        raise wrong(f"{files[int(outside.argmax())].path} is not black at its edges", f"{entry.border} black pixels")
    if entry.pixels and entry.pixels != prepared.digest(images, None):
        raise wrong("the SHA-256 of the images differs", entry.pixels)
    return images


# --- Making them again ------------------------------------------------------------------------------------------------


def remade(name: str, sources: Sequence[RawFile]) -> list[RawFile]:
    """The authors' files once more, in the order of their names: of the resized set the bytes, of the crops the pixels.

    Args:
        name: one of `REMADE`.
        sources: Tiny ImageNet's test images.

    Raises:
        Missing: one of the 10,000 is not there.
    """
    entry, ordered = RELEASED[name], numbered(sources)
    if name == "tinyimagenet-resize":
        made = {f"{i}.jpg": resized(source.data) for i, source in enumerate(tqdm(ordered, desc=name, disable=None))}
    else:
        made = {}
        around = ((entry.border, entry.border), (entry.border, entry.border), (0, 0))
        for i, (number, y, x) in enumerate(tqdm(windows(), desc=name, disable=None)):
            pixels = colour(jpeg.decode(ordered[number].data, "ijg"))
            buffer = io.BytesIO()
            Image.fromarray(np.pad(pixels[y : y + prepare.SIZE, x : x + prepare.SIZE], around)).save(buffer, "PNG")
            made[f"{i}.png"] = buffer.getvalue()
    return [RawFile(PurePosixPath(path), made[path]) for path in sorted(made)]


def resized(source: bytes, decoder: tuple[str, ...] = ("ijg",), encoder: tuple[str, ...] = ("ijg",)) -> bytes:
    """The JPEG of a resized image, as the authors made it of one of Tiny ImageNet's.

    Args:
        source: the bytes of a JPEG, 64 x 64.
        decoder, encoder: which libjpeg and, of IJG's, which version, as in :mod:`odinlib.datasets.jpeg`.
    """
    return jpeg.encode(jpeg.decode(source, *decoder)[1::2, 1::2], QUALITY, *encoder)


def windows() -> np.ndarray:
    """Where the released crops were taken, int [10000, 3]: of `i.png` the number of the test image, y and x.

    >>> windows()[0].tolist(), len(set(windows()[:, 0]))
    ([4679, 1, 7], 10000)
    """
    with np.load(TABLE, allow_pickle=False) as found:
        return np.stack([found[column].astype(int) for column in ("image", "y", "x")], axis=1)


def numbered(files: Sequence[RawFile]) -> list[RawFile]:
    """Tiny ImageNet's test images in the order of their numbers: `test_0.JPEG`, `test_1.JPEG`, `test_2.JPEG`, ...

    Raises:
        Missing: one of the 10,000 is not there.
    """
    found = {file.path.name: file for file in files}
    names = [f"test_{number}.JPEG" for number in range(RELEASED["tinyimagenet-resize"].count)]
    if lacking := [name for name in names if name not in found]:
        what = f"{len(lacking)} of the {len(names)} test images of Tiny ImageNet are not there ({lacking[0]})"
        raise Missing(what, remedy="the released sets are made of all of them")
    return [found[name] for name in names]


def colour(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] of [H, W, 1 or 3]."""
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)


# --- Finding out how they were made -----------------------------------------------------------------------------------


def find(images: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Where crops were taken, to the pixel.

    Args:
        images: uint8 [M, H, W, C].
        crops: uint8 [N, S, S, C], S at most H and W.

    Returns:
        int [N, 3]: image, y and x, or -1 where no window is equal. Where several are, one of an image that no other
        crop was taken of comes first.
    """
    generator = np.random.default_rng(0)
    side = crops.shape[1]
    across = generator.integers(1, 2**63, (side, crops.shape[3]), dtype=np.uint64)
    down = generator.integers(1, 2**63, (side, 1), dtype=np.uint64)

    def hashed(pixels: np.ndarray) -> np.ndarray:
        """A number of 64 bits for each window, [N, H - S + 1, W - S + 1]: a sum whose overflow is dropped."""
        height, width = pixels.shape[1] - side + 1, pixels.shape[2] - side + 1
        rows = np.zeros((*pixels.shape[:2], width), np.uint64)
        for x, factors in enumerate(across):
            rows += (pixels[:, :, x : x + width] * factors).sum(-1, dtype=np.uint64)
        found = np.zeros((len(pixels), height, width), np.uint64)
        for y, factor in enumerate(down):
            found += rows[:, y : y + height] * factor
        return found

    parts = [hashed(images[start : start + 256].astype(np.uint64)) for start in range(0, len(images), 256)]
    hashes = np.concatenate(parts)
    order = np.argsort(hashes, axis=None, kind="stable")
    ordered = hashes.ravel()[order]
    wanted = hashed(crops.astype(np.uint64))[:, 0, 0]
    first, last = np.searchsorted(ordered, wanted), np.searchsorted(ordered, wanted, "right")
    places, taken = np.full((len(crops), 3), -1), set[int]()
    for index in np.argsort(last - first, kind="stable"):  # those without a choice first
        candidates = np.stack(np.unravel_index(order[first[index] : last[index]], hashes.shape), axis=1)
        for image, y, x in sorted(candidates.tolist(), key=lambda place: place[0] in taken):
            if np.array_equal(images[image, y : y + side, x : x + side], crops[index]):
                places[index] = image, y, x
                taken.add(image)
                break
    return places


def compared(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """How near images come to others, image by image.

    Args:
        ours, theirs: uint8 [N, H, W, C].

    Returns:
        `images`, their number; `equal`, how many are to the pixel; `largest` and `mean` difference, in levels of 255.
    """
    difference = np.abs(ours.astype(np.int16) - theirs)
    return {
        "images": len(ours),
        "equal": int((difference.max((1, 2, 3)) == 0).sum()),
        "largest": int(difference.max()),
        "mean": round(float(difference.mean()), 4),
    }
