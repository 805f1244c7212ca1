"""MNIST: mnist.npz (the 10,000 test images, 28 x 28 x 1) and mnist-train.npz (60,000)."""

from pathlib import Path

from odinlib.datasets import prepare
from odinlib.datasets.archives import gunzip
from odinlib.datasets.catalogue import PUBLISHED
from odinlib.datasets.formats import idx
from odinlib.datasets.raw import verify
from odinlib.datasets.script import command
from odinlib.errors import UserError

NEEDS = {
    split: [f"{stem}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    for split, stem in (("test", "t10k"), ("train", "train"))
}
NAMES = [name for names in NEEDS.values() for name in names]


@command()
def main(source: Path | None) -> None:
    """Prepare MNIST from the four IDX files, packed with gzip or not (11 MB to fetch)."""
    found = prepare.raw_files("mnist", source, lambda path: path.name.removesuffix(".gz") in NAMES)
    files = list({file.path.name: file for file in map(gunzip, found)}.values())
    verify(PUBLISHED["mnist"], files)
    for split, used in prepare.splits(files, NEEDS).items():
        images, labels = map(idx, used)
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise UserError(f"{used[0].path} and {used[1].path} do not belong together")
        prepare.write(
            "mnist",
            images[..., None],
            labels,
            split=split,
            files=used,
            source=PUBLISHED["mnist"].page,
            classes=[str(digit) for digit in range(10)],
        )


if __name__ == "__main__":
    main()
