"""CIFAR-10: cifar10.npz (the 10,000 test images, in the pickle's order) and cifar10-train.npz (50,000)."""

from pathlib import Path

import numpy as np

from odinlib.datasets import prepare
from odinlib.datasets.catalogue import PUBLISHED
from odinlib.datasets.formats import cifar_batch, cifar_names
from odinlib.datasets.script import command

TRAIN = [f"data_batch_{number}" for number in range(1, 6)]
TEST = ["test_batch"]


@command()
def main(source: Path | None) -> None:
    """Prepare CIFAR-10 from the publisher's Python pickles (170 MB to fetch)."""
    files = prepare.raw_files("cifar10", source, lambda path: path.name in (*TRAIN, *TEST, "batches.meta"))
    meta = prepare.named(files, "batches.meta")
    for split, used in prepare.splits(files, {"test": TEST, "train": TRAIN}).items():
        images, labels = zip(*(cifar_batch(file, "labels") for file in used), strict=True)
        prepare.write(
            "cifar10",
            np.concatenate(images),
            np.concatenate(labels),
            split=split,
            files=[*used, meta],
            source=PUBLISHED["cifar10"].page,
            classes=cifar_names(meta, "label_names"),
        )


if __name__ == "__main__":
    main()
