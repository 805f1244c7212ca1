"""Any folder of images: <name>-crop.npz and <name>-resize.npz, 32 x 32, and a contact sheet of each.

For out-of-distribution sets of your own. Images smaller than the crop, and files that are no images, are left out, and
it is said how many and why. The names of the published sets are refused: a thing is never called what it is not.
"""

import collections
import re
from pathlib import Path, PurePosixPath

import click

from odinlib.datasets import imagefiles, prepare
from odinlib.datasets.archives import read
from odinlib.datasets.prepared import ENTRIES, RESIZE_FILTER, data_dir
from odinlib.datasets.script import command
from odinlib.errors import UserError


@command(filter=RESIZE_FILTER, seed=True)
@click.option("--name", required=True, help="What to call the sets: <name>-crop and <name>-resize.")
@click.option("--size", type=click.IntRange(1, 1024), default=prepare.SIZE, show_default=True, help="Pixels a side.")
@click.option("--skip-damaged", is_flag=True, help="Leave out images that cannot be read.")
def main(source: Path | None, filter: str, seed: int, name: str, size: int, skip_damaged: bool) -> None:
    """Prepare crops and resizes of the images in the folder or archive --source."""
    if source is None:
        raise UserError("--source is missing", expected="a folder or archive of images")
    check_name(name)
    others: collections.Counter[str] = collections.Counter()

    def is_image(path: PurePosixPath) -> bool:
        if not imagefiles.is_image(path):
            others[imagefiles.shown(path.suffix.lower()) or "without an ending"] += 1
            return False
        return True

    files = read(source, is_image)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    if not files:
        endings = ", ".join(sorted(imagefiles.ENDINGS))
        raise UserError(
            f"{source} holds no images" + (f", but {told}" if told else ""), expected=f"files ending in {endings}"
        )
    if told:
        click.echo(f"{name}: files that are no images are left out: {told}", err=True)
    changes = [prepare.cropped(seed, size), prepare.resized(filter, size)]
    sets, kept = prepare.convert(files, "RGB", changes, name, upright=True, skip=skip_damaged)
    for kind, images in zip(("crop", "resize"), sets, strict=True):
        prepare.write(
            f"{name}-{kind}",
            images,
            files=files,
            source=f"a folder of images, {source.resolve().name}",
            title=f"{name} ({kind})",
            seed=seed if kind == "crop" else None,
            filter=filter if kind == "resize" else None,
            skipped=len(files) - len(kept),
        )
        click.echo(prepare.contact_sheet(images, data_dir() / "sheets" / f"{name}-{kind}.png"))


def check_name(name: str) -> str:
    """Return a name that files and tables can carry, and that no published set has.

    Raises:
        UserError: it is another.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise UserError(f"name is {name!r}", expected="small letters, digits and hyphens")
    if any(entry == name or entry.startswith(f"{name}-") for entry in ENTRIES):
        raise UserError(f"{name} is a published set", expected="a name of your own")
    return name


if __name__ == "__main__":
    main()
