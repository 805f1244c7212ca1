"""CIFAR-80 and CIFAR-20: the classes of CIFAR-100 split in two at random (Section 4.6), by a recorded seed.

Writes cifar80.npz, cifar80-train.npz, cifar20.npz and cifar20-train.npz. Classes keep their alphabetical
order and are numbered anew from 0; the provenance keeps their numbers in CIFAR-100. The paper does not say
which classes it drew.
"""

from pathlib import Path

import numpy as np

from odinlib.datasets import prepare
from odinlib.datasets.catalogue import PUBLISHED
from odinlib.datasets.formats import cifar_batch, cifar_names
from odinlib.datasets.script import command


def class_split(seed: int) -> dict[str, np.ndarray]:
    """The numbers in CIFAR-100 of the classes of each part, rising."""
    order = np.random.default_rng(seed).permutation(100)
    return {"cifar80": np.sort(order[:80]), "cifar20": np.sort(order[80:])}


@command(seed=True)
def main(source: Path | None, seed: int) -> None:
    """Prepare CIFAR-80 and CIFAR-20 from CIFAR-100's Python pickles (169 MB to fetch)."""
    files = prepare.raw_files("cifar100", source, lambda path: path.name in ("train", "test", "meta"))
    meta = prepare.named(files, "meta")
    classes = cifar_names(meta, "fine_label_names")
    for split, (used,) in prepare.splits(files, {"test": ["test"], "train": ["train"]}).items():
        images, labels = cifar_batch(used, "fine_labels")
        for name, members in class_split(seed).items():
            chosen = np.isin(labels, members)
            prepare.write(
                name,
                images[chosen],
                np.searchsorted(members, labels[chosen]),
                split=split,
                files=[used, meta],
                source=PUBLISHED["cifar100"].page,
                classes=[classes[member] for member in members],
                seed=seed,
                cifar100_classes=members.tolist(),
            )


if __name__ == "__main__":
    main()
