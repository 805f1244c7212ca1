"""LSUN, test set: lsun-crop.npz and lsun-resize.npz, 10,000 images of 32 x 32 (Section 4.2).

The publisher's test_lmdb.zip is read as it is, in the order of its keys; a folder of images exported from it
will do. The paper does not name the filter; `--filter` chooses one, and any but the default writes
lsun-resize-<filter>.npz beside the others. `--published` takes the archives that the paper's authors
published instead.
"""

from pathlib import Path, PurePosixPath

from odinlib.datasets import lmdb, prepare
from odinlib.datasets.archives import RawFile
from odinlib.datasets.prepared import RESIZE_FILTER
from odinlib.datasets.script import command


@command(filter=RESIZE_FILTER, seed=True, published=True)
def main(source: Path | None, filter: str, seed: int, published: bool) -> None:
    """Prepare both sets from test_lmdb.zip (172 MB to fetch)."""
    if published:
        prepare.published(["lsun-crop", "lsun-resize"], source)
        return
    files = prepare.raw_files("lsun", source, lambda path: prepare.is_image(path) or path.name == "data.mdb")
    images = [image for file in files for image in _images(file)]
    prepare.crop_and_resize("lsun", "lsun", images, filter, seed)


def _images(file: RawFile) -> list[RawFile]:
    if file.path.name != "data.mdb":
        return [file]
    entries = lmdb.items(file.data, str(file.path))
    return [RawFile(PurePosixPath(key.decode("ascii", "replace")), value) for key, value in entries]


if __name__ == "__main__":
    main()
