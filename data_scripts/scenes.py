"""Scenes: stand-ins for LSUN and iSUN where those cannot be had, made of MiniPlaces photographs of 128 x 128.

scenes-crop.npz and scenes-resize.npz stand in for LSUN: ten categories, LSUN's own but for its tower, in
whose place is skyscraper. scenes-mixed.npz stands in for iSUN: scenes of every kind, resized. They are never
called LSUN or iSUN. Any filter but the default writes scenes-resize-<filter>.npz and
scenes-mixed-<filter>.npz.
"""

from pathlib import Path

import click

from odinlib.datasets import prepare
from odinlib.datasets.catalogue import PUBLISHED
from odinlib.datasets.prepared import RESIZE_FILTER, data_dir
from odinlib.datasets.raw import present
from odinlib.datasets.script import command
from odinlib.errors import Missing


@command(filter=RESIZE_FILTER, seed=True)
def main(source: Path | None, filter: str, seed: int) -> None:
    """Prepare the stand-ins from a folder that holds scenes-lsun-like/<category>/ and scenes-isun-like/."""
    place = source or data_dir() / "raw"
    keys = ("scenes-lsun", "scenes-isun")
    found = {key: where for key in keys if (where := present(PUBLISHED[key], place))}
    if not found:
        raise Missing(
            f"{place} holds neither scenes-lsun-like nor scenes-isun-like",
            remedy="fetch MiniPlaces (https://github.com/CSAILVision/miniplaces), "
            "put the categories you want in such folders and name the folder above them with --source",
        )
    for key, where in found.items():
        files = prepare.raw_files(key, where, prepare.is_image)
        if key == "scenes-lsun":
            prepare.crop_and_resize("scenes", key, files, filter, seed, labelled=True)
        else:
            prepare.resize_only("scenes-mixed", key, files, filter)
    if len(found) == 1:
        click.echo(f"only {next(iter(found))} was found", err=True)


if __name__ == "__main__":
    main()
