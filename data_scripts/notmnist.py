"""notMNIST: notmnist.npz, the letters A to J in many fonts, 28 x 28 grey (Table 3).

The publisher's small archive holds two files that are no images; files that cannot be read are skipped and counted.
"""

from pathlib import Path

import numpy as np

from odinlib.datasets import prepare
from odinlib.datasets.raw import PUBLISHED

LETTERS = "ABCDEFGHIJ"


@prepare.command()
def main(source: Path | None) -> None:
    """Prepare notMNIST from notMNIST_small.tar.gz (8 MB to fetch)."""
    files = prepare.raw_files("notmnist", source, lambda path: prepare.is_image(path) and path.parent.name in LETTERS)
    size = (prepare.GREY_SIZE, prepare.GREY_SIZE, 1)
    (images,), kept = prepare.convert(files, "L", [lambda pixels: pixels if pixels.shape == size else None], "notmnist")
    prepare.write(
        "notmnist",
        images,
        np.array([LETTERS.index(files[index].path.parent.name) for index in kept]),
        files=files,
        source=PUBLISHED["notmnist"].page,
        classes=list(LETTERS),
        skipped=len(files) - len(kept),
    )


if __name__ == "__main__":
    main()
