"""iSUN: isun.npz, 8,925 scenes resized to 32 x 32 (Section 4.2).

The publisher's page is gone. `--published` takes the archive that the paper's authors published (its images
are resized already); `--source` takes a folder of the original images, resized here. The paper does not name
the filter; any but the default writes isun-<filter>.npz.
"""

from pathlib import Path

from odinlib.datasets import prepare
from odinlib.datasets.prepared import RESIZE_FILTER
from odinlib.datasets.script import command


@command(filter=RESIZE_FILTER, published=True)
def main(source: Path | None, filter: str, published: bool) -> None:
    """Prepare iSUN from the authors' archive or a folder of images."""
    if published:
        prepare.published(["isun"], source)
        return
    files = prepare.raw_files("isun", source, prepare.is_image)
    prepare.resize_only("isun", "isun", files, filter)


if __name__ == "__main__":
    main()
