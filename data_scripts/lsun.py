"""LSUN, test set, 10,000 scenes (Section 4.2).

`--published` takes what the paper's authors released: lsun-crop.npz (36 x 36: crops of 32 x 32 in a border of two black
pixels, which is inferred from what others state of it) and lsun-resize.npz (32 x 32).

Without it sets are made here of the publisher's test_lmdb.zip, which is read as it is, in the order of its keys, or of
a folder of images exported from it: lsun-crop-drawn.npz, crops drawn at random, and lsun-resize-nearest.npz. Another
`--filter` makes the one set lsun-resize-<filter>.npz; what `--decoder`, `--jpeg` and `--border` change is part of the
name too.
"""

from pathlib import Path, PurePosixPath

from odinlib.datasets import imagefiles, lmdb, prepare, released
from odinlib.datasets.archives import RawFile
from odinlib.datasets.prepared import RESIZE_FILTER
from odinlib.datasets.script import command


@command(filter=RESIZE_FILTER, seed=True, released=True)
def main(
    source: Path | None,
    filter: str,
    seed: int,
    published: bool,
    decoder: str | None,
    jpeg: int | None,
    border: int,
) -> None:
    """Prepare sets from test_lmdb.zip (172 MB to fetch) or the authors' archives."""
    if published:
        released.take(["lsun-crop", "lsun-resize"], source, decoder)
        return
    files = prepare.raw_files("lsun", source, lambda path: imagefiles.is_image(path) or path.name == "data.mdb")
    images = [image for file in files for image in _images(file)]
    prepare.crop_and_resize("lsun", images, filter, seed, decoder, jpeg, border)


def _images(file: RawFile) -> list[RawFile]:
    if file.path.name != "data.mdb":
        return [file]
    entries = lmdb.items(file.data, str(file.path))
    return [RawFile(PurePosixPath(key.decode("ascii", "replace")), value) for key, value in entries]


if __name__ == "__main__":
    main()
