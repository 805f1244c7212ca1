"""notMNIST: notmnist.npz, the letters A to J in many fonts, 28 x 28 grey (Table 3).

The publisher's small archive holds two files that are no images; files that cannot be read are skipped and
counted.
"""

from pathlib import Path, PurePath

import numpy as np

from odinlib.datasets import prepare
from odinlib.datasets.catalogue import PUBLISHED
from odinlib.datasets.script import command

LETTERS = "ABCDEFGHIJ"


@command()
def main(source: Path | None) -> None:
    """Prepare notMNIST from notMNIST_small.tar.gz (8 MB to fetch)."""
    files = prepare.raw_files("notmnist", source, _is_letter)
    (images,), kept = prepare.convert(files, "L", [_as_it_is], "notmnist")
    prepare.write(
        "notmnist",
        images,
        np.array([LETTERS.index(files[index].path.parent.name) for index in kept]),
        files=files,
        source=PUBLISHED["notmnist"].page,
        classes=list(LETTERS),
        skipped=len(files) - len(kept),
    )


def _as_it_is(pixels: np.ndarray) -> np.ndarray | None:
    return pixels if pixels.shape == (prepare.GREY_SIZE, prepare.GREY_SIZE, 1) else None


def _is_letter(path: PurePath) -> bool:
    return path.suffix.lower() == ".png" and path.parent.name in LETTERS


if __name__ == "__main__":
    main()
