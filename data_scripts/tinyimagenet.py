"""Tiny ImageNet, test images, 10,000 (Section 4.2).

`--published` takes what the paper's authors released: tinyimagenet-crop.npz (36 x 36: crops of 32 x 32 in a border of
two black pixels), tinyimagenet-crop-inner.npz (the same without the border) and tinyimagenet-resize.npz (32 x 32).

Without it sets are made here of the publisher's images, whose names are sorted as strings (test_0, test_1, test_10,
...): tinyimagenet-crop-drawn.npz, crops drawn at random, and tinyimagenet-resize-nearest.npz. Another `--filter` makes
the one set tinyimagenet-resize-<filter>.npz; what `--decoder`, `--jpeg` and `--border` change is part of the name too.
"""

from pathlib import Path

from odinlib.datasets import prepare
from odinlib.datasets.prepared import RESIZE_FILTER
from odinlib.datasets.script import command


@command(filter=RESIZE_FILTER, seed=True, released=True)
def main(
    source: Path | None,
    filter: str,
    seed: int,
    published: bool,
    decoder: str | None,
    jpeg: int | None,
    border: int,
) -> None:
    """Prepare sets from tiny-imagenet-200.zip (248 MB to fetch) or the authors' archives."""
    if published:
        prepare.published(["tinyimagenet-crop", "tinyimagenet-resize"], source, decoder)
        return
    files = prepare.raw_files("tinyimagenet", source, _is_test_image)
    prepare.crop_and_resize("tinyimagenet", files, filter, seed, decoder, jpeg, border)


def _is_test_image(path: Path) -> bool:
    return prepare.is_image(path) and path.name.startswith("test_")


if __name__ == "__main__":
    main()
