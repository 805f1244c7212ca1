"""What the data scripts share: images made of raw files, prepared sets written whole, contact sheets."""

import datetime
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from odinlib import artefacts
from odinlib.datasets import jpeg as codec
from odinlib.datasets import prepared, raw, resample
from odinlib.datasets.archives import RawFile, digests, read
from odinlib.datasets.catalogue import PUBLISHED, RELEASED, Raw
from odinlib.datasets.formats import decode
from odinlib.datasets.imagefiles import Unreadable, is_image, shown
from odinlib.datasets.prepared import Variant
from odinlib.errors import UserError

SIZE = 32  # side of CIFAR's images, and of the sets shown to networks trained on them
GREY_SIZE = 28  # side of MNIST's

Change = Callable[[np.ndarray], np.ndarray | None]


def is_test_image(path: Any) -> bool:
    """Whether a path looks like one of Tiny ImageNet's test images."""
    return is_image(path) and path.name.startswith("test_")


def raw_files(key: str, source: Path | None, match: Callable[[Any], bool]) -> list[RawFile]:
    """The raw files of a published set that match, found or fetched, checked against the sums known for them.

    Args:
        key: a key of `catalogue.PUBLISHED`.
        source: a folder or archive of the user's, or `None` to look in the data folder and then fetch.
        match: whether a path is wanted.

    Raises:
        UserError: they are not there, damaged, or not what was published.
    """
    return files_of(PUBLISHED[key], source, match)


def files_of(entry: Raw, source: Path | None, match: Callable[[Any], bool]) -> list[RawFile]:
    """:func:`raw_files` of an entry of the catalogue."""
    place = raw.locate(entry, source, prepared.data_dir() / "raw")
    files = read(place, match)
    if not files:
        raise UserError(f"{place} holds nothing of {entry.title}", expected=" or ".join(entry.layouts))
    raw.verify(entry, files)
    return files


def named(files: Sequence[RawFile], name: str) -> RawFile:
    """The one file of that name.

    Raises:
        UserError: it is not there.
    """
    for file in files:
        if file.path.name == name:
            return file
    raise UserError(f"{name} is not among the raw files", expected=f"it beside {files[0].path}" if files else None)


def splits(files: Sequence[RawFile], needs: Mapping[str, Sequence[str]]) -> dict[str, list[RawFile]]:
    """The raw files of each split, of those splits whose files are all there; a line says which is not.

    Args:
        files: the raw files found.
        needs: for each split, the names of its files.

    Raises:
        UserError: no split is whole.
    """
    found = {file.path.name: file for file in files}
    lacking = {split: [name for name in names if name not in found] for split, names in needs.items()}
    if all(lacking.values()):
        raise UserError(
            f"{', '.join(next(iter(lacking.values())))} is not among the raw files", expected="a whole split"
        )
    for split, names in lacking.items():
        if names:
            click.echo(f"without the {split} split: {', '.join(names)} is not among the raw files", err=True)
    return {split: [found[name] for name in names] for split, names in needs.items() if not lacking[split]}


def convert(
    files: Iterable[RawFile],
    mode: str,
    changes: Sequence[Change],
    what: str,
    decoder: str = "turbo",
    upright: bool = False,
    skip: bool = True,
    say: bool = True,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Decode every file once and apply each change to it.

    Args:
        files: image files, in the order wanted.
        mode: `RGB` or `L` (grey).
        changes: each turns pixels [H, W, C] into an image of a fixed size, or `None` where it cannot.
        what: the name shown beside the progress bar.
        decoder: which libjpeg decodes JPEGs, one of `jpeg.LIBRARIES`.
        upright: turn photographs as their EXIF orientation says.
        skip: leave out files that cannot be read.
        say: tell on stderr what is left out, and why.

    Returns:
        for each change uint8 [N, H, W, C], and the indices [N] of the files that could be used.

    Raises:
        UserError: none could be used, or one cannot be read and is not to be left out.
    """
    files = list(files)
    kept: list[int] = []
    # Whole arrays from the start: small ones kept between large ones that go would leave the memory in holes.
    sets: list[np.ndarray] = []
    left_out: dict[str, list[str]] = {}
    for index, file in enumerate(tqdm(files, desc=what, unit="image", disable=None)):
        try:
            pixels = decode(file, mode, decoder, upright)
        except Unreadable as error:
            left_out.setdefault("cannot be read", []).append(f"{shown(file.path)} ({error.reason})")
            continue
        changed = [change(pixels) for change in changes]
        images = [image for image in changed if image is not None]
        if len(images) < len(changed):
            height, width = pixels.shape[:2]
            left_out.setdefault("are of another size", []).append(f"{shown(file.path)} ({width} x {height})")
            continue
        sets = sets or [np.empty((len(files), *image.shape), np.uint8) for image in images]
        for column, image in zip(sets, images, strict=True):
            column[len(kept)] = image
        kept.append(index)
    told = "; ".join(f"{len(names)} {reason}: {_some(names)}" for reason, names in left_out.items())
    if not kept:
        raise UserError(
            f"{what}: none of {len(files)} files is a usable image ({told})",
            expected="images of at least the size made",
        )
    if "cannot be read" in left_out and not skip:
        raise UserError(f"{what}: of {len(files)} files {told}", remedy="mend or remove them, or give --skip-damaged")
    if left_out and say:
        click.echo(f"{what}: of {len(files)} files {told}; left out", err=True)
    return [column[: len(kept)] for column in sets], np.array(kept)


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def cropped(seed: int, size: int = SIZE) -> Change:
    """A change: the part of `size` x `size` at a random place, drawn image after image from `seed`."""
    generator = np.random.default_rng(seed)

    def change(pixels: np.ndarray) -> np.ndarray | None:
        return resample.random_crop(pixels, size, generator) if min(pixels.shape[:2]) >= size else None

    return change


def resized(filter: str, size: int = SIZE) -> Change:
    """A change: the whole image at `size` x `size`, proportions not kept, by the named filter."""
    return lambda pixels: resample.resize(pixels, size, filter)


def finished(made: Variant) -> Change:
    """A change: what a variant's name says is done after cropping or resizing, a JPEG and then a border."""
    library = made.decoder or made.own_decoder

    def change(pixels: np.ndarray) -> np.ndarray:
        if made.jpeg:
            pixels = codec.decode(codec.encode(pixels, made.jpeg, library), library)
        return np.pad(pixels, ((made.border, made.border), (made.border, made.border), (0, 0)))

    return change


def crop_and_resize(
    stem: str, files: Sequence[RawFile], filter: str, seed: int, decoder: str | None, jpeg: int | None, border: int
) -> None:
    """Write a resize made here and, for the default filter, a crop drawn here: `<stem>-crop-drawn`,
    `<stem>-resize-<filter>`.

    Args:
        stem: of the names, and the raw set's key in `catalogue.PUBLISHED`.
        files: its images, in the order wanted.
        filter: of the resized set.
        seed: of the crops.
        decoder, jpeg, border: as in :class:`prepared.Variant`, of both.
    """
    made: dict[Variant, Change] = {Variant(f"{stem}-resize", filter, decoder, jpeg, border): resized(filter)}
    if filter == prepared.RESIZE_FILTER:
        made = {Variant(f"{stem}-crop-drawn", None, decoder, jpeg, border): cropped(seed), **made}
    make(stem, files, made, seed)


def make(key: str, files: Sequence[RawFile], made: Mapping[Variant, Change], seed: int | None = None) -> None:
    """Write sets made here, each by its change and what its name says besides.

    Args:
        key: the raw set, a key of `catalogue.PUBLISHED`.
        files: its images, in the order wanted.
        made: what to make, and the crop or resize that makes it; JPEGs are decoded for all by one library.
        seed: of the crops.

    Raises:
        UserError: none of the files is a usable image, or they are the authors' released ones, which are ready, or
            somebody else's, by their size.
    """
    if next(iter(digests(list(files)).values())) in (entry.files for entry in RELEASED.values()):
        raise UserError("the images are those that the paper's authors released", remedy="add --published")
    if all(pixels is not None and pixels.shape[:2] == (SIZE, SIZE) for pixels in _first(files)):
        what = f"the images are {SIZE} x {SIZE} already: somebody has resized them, by a filter that nobody tells"
        raise UserError(what, expected="the publisher's", remedy="`odin data prepare images_folder` takes any images")
    (decoder,) = {variant.decoder or variant.own_decoder for variant in made}
    changes = [_then(change, finished(variant)) for variant, change in made.items()]
    sets, kept = convert(files, "RGB", changes, key, decoder)
    for variant, images in zip(made, sets, strict=True):
        write(
            variant.name,
            images,
            files=files,
            source=PUBLISHED[key].page,
            filter=variant.filter,
            seed=None if variant.filter else seed,
            decoder=codec.version(decoder),
            jpeg=variant.jpeg,
            border=variant.border,
            skipped=len(files) - len(kept),
        )


def _first(files: Sequence[RawFile], count: int = 20) -> list[np.ndarray | None]:
    return [decode(file, "RGB") for file in files[:count]]


def _then(first: Change, second: Change) -> Change:
    def change(pixels: np.ndarray) -> np.ndarray | None:
        image = first(pixels)
        return None if image is None else second(image)

    return change


def write(
    name: str,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    files: Sequence[RawFile],
    source: str,
    classes: Sequence[str] = (),
    split: str = "test",
    **record: Any,
) -> Path:
    """Write a prepared set whole, say what was written, and return its path.

    Args:
        name: the set.
        images: uint8 [N, H, W, C].
        labels: int64 [N], or `None`.
        files: the raw files it was made of.
        source: where they come from.
        classes: the names of the classes.
        split: `train` or `test`.
        record: what else the provenance keeps (filter, seed, ...).
    """
    path = prepared.path(name, split)
    labels = None if labels is None else labels.astype(np.int64)
    provenance = {
        "name": name,
        "split": split,
        "source": source,
        "raw_sha256": digests(list(files)),
        "filter": None,
        "seed": None,
        "classes": list(classes),
        "images": len(images),
        "shape": list(images.shape[1:]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": artefacts.commit(),
        "sha256": prepared.digest(images, labels),
        **record,
    }
    arrays = {"provenance": np.array(json.dumps(provenance, sort_keys=True)), "images": images}
    if labels is not None:
        arrays["labels"] = labels
    with artefacts.write_atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
        for member, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{member}.npy", (1980, 1, 1, 0, 0, 0)), buffer.getbuffer())
    size = "x".join(map(str, images.shape[1:]))
    click.echo(f"{path}: {len(images)} images, {size}, SHA-256 {provenance['sha256'][:12]}")
    return path


def contact_sheet(
    images: np.ndarray, path: Path, columns: int = 20, rows: int = 10, scale: int = 2, seed: int = 0
) -> Path:
    """Write a PNG of images drawn at random, in the set's order.

    Args:
        images: uint8 [N, H, W, C], or float in [0, 1].
        path: the PNG.
        columns, rows: how many images, at most.
        scale: pixels for a pixel.
        seed: which images.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[: columns * rows])
    if images.dtype != np.uint8:
        images = np.rint(np.clip(images[chosen], 0, 1) * 255).astype(np.uint8)
        chosen = np.arange(len(chosen))
    tiles = np.pad(images[chosen], ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=128)
    lines = math.ceil(len(tiles) / columns)
    sheet = np.full((lines * columns, *tiles.shape[1:]), 128, np.uint8)
    sheet[: len(tiles)] = tiles
    _, height, width, channels = sheet.shape
    sheet = sheet.reshape(lines, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(lines * height, columns * width, channels).repeat(scale, 0).repeat(scale, 1)
    with artefacts.write_atomically(path) as file:
        Image.fromarray(sheet[..., 0] if channels == 1 else sheet).save(file, format="PNG")
    return path


def variant_name(name: str, filter: str) -> str:
    """The name of a set made with a filter: its own for the default one, else with the filter added."""
    return Variant(name, filter).name
