"""Omniglot: omniglot.npz, handwritten characters of the evaluation half, white on black at 28 x 28 (Table 3).

The drawings are 105 x 105, black on white; they are inverted so that the ink is bright, as MNIST's, then
resized. The labels number the 659 characters, in the order of alphabet and character.
"""

from pathlib import Path

import numpy as np

from odinlib.datasets import imagefiles, prepare
from odinlib.datasets.catalogue import PUBLISHED
from odinlib.datasets.prepared import GREY_FILTER
from odinlib.datasets.script import command


@command(filter=GREY_FILTER)
def main(source: Path | None, filter: str) -> None:
    """Prepare Omniglot from images_evaluation.zip (6 MB to fetch)."""
    files = prepare.raw_files("omniglot", source, imagefiles.is_image)
    resize = prepare.resized(filter, prepare.GREY_SIZE)
    (images,), kept = prepare.convert(files, "L", [lambda pixels: resize(255 - pixels)], "omniglot")
    characters = ["/".join(files[index].path.parts[-3:-1]) for index in kept]
    classes, labels = np.unique(characters, return_inverse=True)
    prepare.write(
        prepare.variant_name("omniglot", filter),
        images,
        labels,
        files=files,
        source=PUBLISHED["omniglot"].page,
        classes=classes.tolist(),
        filter=filter,
        skipped=len(files) - len(kept),
    )


if __name__ == "__main__":
    main()
