"""CIFAR-10bw: cifar10-bw.npz, the 10,000 test images of CIFAR-10 in grey at 28 x 28 (Table 3).

Grey is luminance, 0.299 R + 0.587 G + 0.114 B, as Pillow's mode L. The paper names neither that nor the
filter.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from odinlib.datasets import prepare, resample
from odinlib.datasets.catalogue import PUBLISHED
from odinlib.datasets.formats import cifar_batch, cifar_names
from odinlib.datasets.prepared import GREY_FILTER
from odinlib.datasets.script import command


@command(filter=GREY_FILTER)
def main(source: Path | None, filter: str) -> None:
    """Prepare CIFAR-10bw from CIFAR-10's Python pickles (170 MB to fetch)."""
    files = prepare.raw_files("cifar10", source, lambda path: path.name in ("test_batch", "batches.meta"))
    meta, batch = prepare.named(files, "batches.meta"), prepare.named(files, "test_batch")
    images, labels = cifar_batch(batch, "labels")
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])[..., None]
    prepare.write(
        prepare.variant_name("cifar10-bw", filter),
        resample.resize(grey, prepare.GREY_SIZE, filter),
        labels,
        files=files,
        source=PUBLISHED["cifar10"].page,
        classes=cifar_names(meta, "label_names"),
        filter=filter,
    )


if __name__ == "__main__":
    main()
