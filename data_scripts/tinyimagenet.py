"""Tiny ImageNet, test images: tinyimagenet-crop.npz and tinyimagenet-resize.npz, 10,000 images of 32 x 32
(Section 4.2).

Files are taken with their names sorted as strings (test_0, test_1, test_10, ...). The paper does not name the
filter; `--filter` chooses one, and any but the default writes tinyimagenet-resize-<filter>.npz beside the
others. `--published` takes the archives that the paper's authors published instead.
"""

from pathlib import Path

from odinlib.datasets import prepare
from odinlib.datasets.prepared import RESIZE_FILTER
from odinlib.datasets.script import command


@command(filter=RESIZE_FILTER, seed=True, published=True)
def main(source: Path | None, filter: str, seed: int, published: bool) -> None:
    """Prepare both sets from tiny-imagenet-200.zip (248 MB to fetch)."""
    if published:
        prepare.published(["tinyimagenet-crop", "tinyimagenet-resize"], source)
        return
    files = prepare.raw_files("tinyimagenet", source, _is_test_image)
    prepare.crop_and_resize("tinyimagenet", "tinyimagenet", files, filter, seed)


def _is_test_image(path: Path) -> bool:
    return prepare.is_image(path) and path.name.startswith("test_")


if __name__ == "__main__":
    main()
