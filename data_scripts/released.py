"""How the sets that the paper's authors released were made, measured: what odinlib/reference/released.json holds.

Needs Tiny ImageNet's test images and the released sets in one folder. Some 20 minutes on one core. Images are compared
as IJG's libjpeg decodes them, as the released sets are.
"""

import datetime
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from odinlib import artefacts
from odinlib.datasets import archives, imagefiles, jpeg, prepare, released, resample
from odinlib.datasets.archives import RawFile
from odinlib.datasets.catalogue import RELEASED
from odinlib.datasets.script import command

IJG = ("6b", "7", "8", "8d", "9", "9a", "9b", "9c", "9d", "9e", "9f")
WAYS = (("turbo", jpeg.IJG), *(("ijg", version) for version in IJG))  # libjpeg-turbo has no say in IJG's version
SETS = ("tinyimagenet-resize", "lsun-resize", "isun")


@command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The JSON file to write; else it is printed.")
@click.option("--table", type=click.Path(path_type=Path), help="Search the crops' places anew and write them here.")
def main(source: Path | None, output: Path | None, table: Path | None) -> None:
    """Measure how the released sets were made."""
    raw = prepare.raw_files("tinyimagenet", source, prepare.is_test_image)
    sources = released.numbered(raw)
    files = {
        name: prepare.files_of(RELEASED[name], source, imagefiles.is_image) for name in ("tinyimagenet-crop", *SETS)
    }
    theirs = sorted(files["tinyimagenet-resize"], key=lambda file: int(file.path.stem))
    kept = slice(RELEASED["tinyimagenet-crop"].border, -RELEASED["tinyimagenet-crop"].border)
    ordered = sorted(files["tinyimagenet-crop"], key=lambda file: int(file.path.stem))
    crops = np.stack([prepare.decode(file, "RGB") for file in ordered])[:, kept, kept]
    if table is not None:
        places = released.find(decoded(sources, "ijg"), crops)
        columns = {"image": np.uint16, "y": np.uint8, "x": np.uint8}
        arrays = {name: column.astype(kind) for (name, kind), column in zip(columns.items(), places.T, strict=True)}
        with artefacts.write_atomically(table) as file:
            np.savez_compressed(file, **arrays)
        click.echo(f"{table}: {int((places >= 0).all(1).sum())} of {len(crops)} found")
    found: dict[str, Any] = {
        "made": {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": artefacts.commit(),
            "libraries": [jpeg.version(library) for library in jpeg.LIBRARIES],
            "raw_sha256": {name: archives.digests(one) for name, one in {"tinyimagenet": raw, **files}.items()},
        },
        "resize": list(resizes(sources, theirs)),
        "filter": list(filters(sources, theirs)),
        "crop": list(windows(sources, crops)),
        "decoder": [
            {"set": name, **released.compared(decoded(files[name], "turbo"), decoded(files[name], "ijg"))}
            for name in SETS
        ],
    }
    text = json.dumps(found, indent=1) + "\n"
    if output is None:
        click.echo(text)
        return
    with artefacts.write_atomically(output) as file:
        file.write(text.encode())


def decoded(files: list[RawFile], *library: str, change: Callable[[np.ndarray], np.ndarray] = released.colour) -> Any:
    """The images of JPEGs [N, H, W, 3]."""
    images = (jpeg.decode(file.data, *library) for file in tqdm(files, desc=" ".join(library), disable=None))
    return np.stack([released.colour(change(image)) for image in images])


def resizes(sources: list[RawFile], theirs: list[RawFile]) -> Any:
    """The recipe by each decoder and encoder: files equal to the byte, images to the pixel."""
    images = decoded(theirs, "ijg")
    own = ("ijg", jpeg.IJG)
    pairs = {*itertools.product((WAYS[0], own), repeat=2), *((way, own) for way in WAYS), *((own, way) for way in WAYS)}
    for decoder, encoder in sorted(pairs, key=lambda pair: (WAYS.index(pair[0]), WAYS.index(pair[1]))):
        made = [released.resized(source.data, decoder, encoder) for source in tqdm(sources, disable=None)]
        same = sum(one == file.data for one, file in zip(made, theirs, strict=True))
        ours = np.stack([released.colour(jpeg.decode(one, "ijg")) for one in made])
        yield {"decoder": told(decoder), "encoder": told(encoder), "files": same} | released.compared(ours, images)
    yield {"decoder": told(own), "encoder": "none", "files": 0} | released.compared(
        decoded(sources, "ijg", change=lambda image: image[1::2, 1::2]), images
    )


def filters(sources: list[RawFile], theirs: list[RawFile]) -> Any:
    """The recipe by each filter, with IJG's decoder and encoder."""
    images = decoded(theirs, "ijg")
    for filter in resample.FILTERS:

        def change(image: np.ndarray, filter: str = filter) -> np.ndarray:
            small = resample.resize(image, prepare.SIZE, filter)
            return jpeg.decode(jpeg.encode(small, released.QUALITY, "ijg"), "ijg")

        yield {"filter": filter} | released.compared(decoded(sources, "ijg", change=change), images)


def windows(sources: list[RawFile], crops: np.ndarray) -> Any:
    """The crops against their windows, by each decoder."""
    places, side = released.windows(), prepare.SIZE
    for decoder in WAYS:
        images = decoded(sources, *decoder)
        ours = np.stack([images[image, y : y + side, x : x + side] for image, y, x in places])
        yield {"decoder": told(decoder)} | released.compared(ours, crops)


def told(library: tuple[str, str]) -> str:
    """`turbo`, or `ijg 9b`."""
    return library[0] if library[0] == "turbo" else " ".join(library)


if __name__ == "__main__":
    main()
