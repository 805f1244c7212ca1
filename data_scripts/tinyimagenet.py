"""Tiny ImageNet, test images, 10,000 (Section 4.2).

`--published` takes what the paper's authors released: tinyimagenet-crop.npz (36 x 36: crops of 32 x 32 in a border of
two black pixels), tinyimagenet-crop-inner.npz (the same without the border) and tinyimagenet-resize.npz (32 x 32).
`--rebuild` makes the same three of the publisher's images: equal to the last pixel, and to the last byte of the resized
files.

Without it sets are made here of the publisher's images, whose names are sorted as strings (test_0, test_1, test_10,
...): tinyimagenet-crop-drawn.npz, crops drawn at random, and tinyimagenet-resize-nearest.npz. Another `--filter` makes
the one set tinyimagenet-resize-<filter>.npz; what `--decoder`, `--jpeg` and `--border` change is part of the name too.
"""

from pathlib import Path

import click

from odinlib.datasets import prepare, released
from odinlib.datasets.prepared import RESIZE_FILTER
from odinlib.datasets.script import command


@command(filter=RESIZE_FILTER, seed=True, released=True)
@click.option("--rebuild", is_flag=True, help="Make again what the authors released, of the publisher's images.")
def main(
    source: Path | None,
    filter: str,
    seed: int,
    published: bool,
    rebuild: bool,
    decoder: str | None,
    jpeg: int | None,
    border: int,
) -> None:
    """Prepare sets from tiny-imagenet-200.zip (248 MB to fetch) or the authors' archives."""
    if published:
        released.take(released.REMADE, source, decoder)
        return
    if rebuild:
        released.remake(source, decoder)
        return
    files = prepare.raw_files("tinyimagenet", source, prepare.is_test_image)
    prepare.crop_and_resize("tinyimagenet", files, filter, seed, decoder, jpeg, border)


if __name__ == "__main__":
    main()
