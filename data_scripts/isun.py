"""iSUN, 8,925 scenes resized to 32 x 32 (Section 4.2).

`--published` takes what the paper's authors released: isun.npz. The publisher's page is gone; who has the original
images names their folder with `--source` and makes isun-nearest.npz of them, or isun-<filter>.npz; what `--decoder`,
`--jpeg` and `--border` change is part of the name too.
"""

from pathlib import Path

from odinlib.datasets import imagefiles, prepare, released
from odinlib.datasets.prepared import RESIZE_FILTER, Variant
from odinlib.datasets.script import command


@command(filter=RESIZE_FILTER, released=True)
def main(source: Path | None, filter: str, published: bool, decoder: str | None, jpeg: int | None, border: int) -> None:
    """Prepare iSUN from the authors' archive or a folder of the original images."""
    if published:
        released.take(["isun"], source, decoder)
        return
    files = prepare.raw_files("isun", source, imagefiles.is_image)
    prepare.make("isun", files, {Variant("isun", filter, decoder, jpeg, border): prepare.resized(filter)})


if __name__ == "__main__":
    main()
