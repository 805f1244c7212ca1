"""What the data scripts share: images made of raw files, prepared sets written whole, contact sheets."""

import datetime
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from odinlib import artefacts
from odinlib.datasets import prepared, raw, resample
from odinlib.datasets.archives import RawFile, digests, read
from odinlib.datasets.catalogue import PUBLISHED
from odinlib.datasets.formats import decode
from odinlib.errors import UserError

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SIZE = 32  # side of CIFAR's images, and of the sets shown to networks trained on them
GREY_SIZE = 28  # side of MNIST's

Change = Callable[[np.ndarray], np.ndarray | None]


def is_image(path: Any) -> bool:
    """Whether a path looks like an image file."""
    return str(path.suffix).lower() in IMAGES


def raw_files(key: str, source: Path | None, match: Callable[[Any], bool]) -> list[RawFile]:
    """The raw files of a published set that match, found or fetched, checked against the sums known for them.

    Args:
        key: a key of `raw.PUBLISHED`.
        source: a folder or archive of the user's, or `None` to look in the data folder and then fetch.
        match: whether a path is wanted.

    Raises:
        UserError: they are not there, damaged, or not what was published.
    """
    entry = PUBLISHED[key]
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


def convert(
    files: Iterable[RawFile], mode: str, changes: Sequence[Change], what: str
) -> tuple[list[np.ndarray], np.ndarray]:
    """Decode every file once and apply each change to it.

    Args:
        files: image files, in the order wanted.
        mode: `RGB` or `L` (grey).
        changes: each turns pixels [H, W, C] into an image of a fixed size, or `None` where it cannot.
        what: the name shown beside the progress bar.

    Returns:
        for each change uint8 [N, H, W, C], and the indices [N] of the files that could be used.

    Raises:
        UserError: none could be used.
    """
    files = list(files)
    kept: list[int] = []
    # Whole arrays from the start: small ones kept between large ones that go would leave the memory in holes.
    sets: list[np.ndarray] = []
    for index, file in enumerate(tqdm(files, desc=what, unit="image", disable=None)):
        pixels = decode(file, mode)
        changed = [None] if pixels is None else [change(pixels) for change in changes]
        images = [image for image in changed if image is not None]
        if len(images) < len(changed):
            continue
        sets = sets or [np.empty((len(files), *image.shape), np.uint8) for image in images]
        for column, image in zip(sets, images, strict=True):
            column[len(kept)] = image
        kept.append(index)
    if not kept:
        raise UserError(
            f"{what}: none of {len(files)} files is a usable image",
            expected="images of at least the size made",
        )
    return [column[: len(kept)] for column in sets], np.array(kept)


def cropped(seed: int, size: int = SIZE) -> Change:
    """A change: the part of `size` x `size` at a random place, drawn image after image from `seed`."""
    generator = np.random.default_rng(seed)

    def change(pixels: np.ndarray) -> np.ndarray | None:
        return resample.random_crop(pixels, size, generator) if min(pixels.shape[:2]) >= size else None

    return change


def centred(size: int = SIZE) -> Change:
    """A change: the middle part of `size` x `size`."""

    def change(pixels: np.ndarray) -> np.ndarray | None:
        top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
        return pixels[top : top + size, left : left + size] if min(top, left) >= 0 else None

    return change


def resized(filter: str, size: int = SIZE) -> Change:
    """A change: the whole image at `size` x `size`, proportions not kept, by the named filter."""
    return lambda pixels: resample.resize(pixels, size, filter)


def crop_and_resize(
    stem: str, key: str, files: Sequence[RawFile], filter: str, seed: int, *, labelled: bool = False
) -> None:
    """Write `<stem>-crop` and `<stem>-resize`, or, for another filter, only `<stem>-resize-<filter>`.

    Args:
        stem: of the names.
        key: the raw set, a key of `raw.PUBLISHED`.
        files: its images, in the order wanted.
        filter: of the resized set.
        seed: of the crops.
        labelled: whether the folder that an image lies in is its class.
    """
    made: dict[str, tuple[Change, dict[str, Any]]] = {
        variant_name(f"{stem}-resize", filter): (resized(filter), {"filter": filter})
    }
    if len(made.keys() & prepared.ENTRIES):
        made = {f"{stem}-crop": (cropped(seed), {"seed": seed}), **made}
    sets, kept = convert(files, "RGB", [change for change, _ in made.values()], stem)
    classes, labels = folders([files[index] for index in kept]) if labelled else ([], None)
    for (name, (_, record)), images in zip(made.items(), sets, strict=True):
        write(
            name,
            images,
            labels,
            classes=classes,
            files=files,
            source=PUBLISHED[key].page,
            skipped=len(files) - len(kept),
            **record,
        )


def resize_only(name: str, key: str, files: Sequence[RawFile], filter: str) -> None:
    """Write a set of resized images, its name with the filter added where that is not the default one."""
    (images,), kept = convert(files, "RGB", [resized(filter)], name)
    write(
        variant_name(name, filter),
        images,
        files=files,
        source=PUBLISHED[key].page,
        filter=filter,
        skipped=len(files) - len(kept),
    )


def published(names: Sequence[str], source: Path | None) -> None:
    """Write sets from the paper authors' archives: the middle 32 x 32 pixels of each image, never resampled.

    Args:
        names: the sets.
        source: one of their archives or folders, a folder that holds some of them, or `None` to look and
            fetch.

    Raises:
        UserError: the source holds none of them.
    """
    made = 0
    for name in names:
        entry = PUBLISHED[f"{name}-published"]
        if source is not None and source.name not in entry.layouts and raw.present(entry, source) is None:
            continue
        files = raw_files(f"{name}-published", source, is_image)
        (images,), kept = convert(files, "RGB", [centred()], name)
        how, skipped = "as published by the paper's authors", len(files) - len(kept)
        write(name, images, files=files, source=entry.page, filter=how, skipped=skipped)
        made += 1
    if not made:
        expected = " or ".join(layout for name in names for layout in PUBLISHED[f"{name}-published"].layouts)
        raise UserError(f"{source} is none of the authors' archives and holds none", expected=expected)


def folders(files: Sequence[RawFile]) -> tuple[list[str], np.ndarray]:
    """The names of the folders that files lie in, sorted, and the number [N] of each file's."""
    classes, labels = np.unique([file.path.parent.name for file in files], return_inverse=True)
    return classes.tolist(), labels


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
    return name if filter == prepared.ENTRIES[name].filter else f"{name}-{filter}"
