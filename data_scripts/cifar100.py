"""CIFAR-100, with its fine labels: cifar100.npz (10,000 test images) and cifar100-train.npz (50,000).

Both keep the order of the publisher's pickles.
"""

from pathlib import Path

from odinlib.datasets import prepare
from odinlib.datasets.catalogue import PUBLISHED
from odinlib.datasets.formats import cifar_batch, cifar_names
from odinlib.datasets.script import command


@command()
def main(source: Path | None) -> None:
    """Prepare CIFAR-100 from the publisher's Python pickles (169 MB to fetch)."""
    files = prepare.raw_files("cifar100", source, lambda path: path.name in ("train", "test", "meta"))
    meta = prepare.named(files, "meta")
    for split, (used,) in prepare.splits(files, {"test": ["test"], "train": ["train"]}).items():
        images, labels = cifar_batch(used, "fine_labels")
        prepare.write(
            "cifar100",
            images,
            labels,
            split=split,
            files=[used, meta],
            source=PUBLISHED["cifar100"].page,
            classes=cifar_names(meta, "fine_label_names"),
        )


if __name__ == "__main__":
    main()
