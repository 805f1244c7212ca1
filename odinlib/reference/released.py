"""How the paper's authors made the image sets that they released: measured by `data_scripts/released.py`, kept here."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from odinlib.errors import check_choice

PARTS = ("resize", "filter", "crop", "decoder")


def making(part: str) -> pd.DataFrame:
    """What was measured, one row for each way that was tried; `equal` images are so to the pixel.

    Args:
        part: `resize`: Tiny ImageNet (resize) against Tiny ImageNet's images reduced by nearest neighbour and made
            JPEGs of quality 75, by each decoder and encoder; `files` are equal to the byte. `filter`: the same by each
            filter, with the authors' decoder and encoder. `crop`: Tiny ImageNet (crop) against the windows of Tiny
            ImageNet's images, by each decoder. `decoder`: the released sets decoded by libjpeg-turbo against IJG's.

    Returns:
        the columns that tell the ways apart, and `images` (how many), `equal`, and the `largest` and `mean` difference
        of a pixel in levels of 255.

    >>> found = making("resize").set_index(["decoder", "encoder"])
    >>> found.loc[("ijg 9b", "ijg 9b"), ["images", "files", "equal", "largest"]].astype(int).tolist()
    [10000, 10000, 10000, 0]
    """
    return pd.DataFrame(_read()[check_choice("part", part, PARTS)])


def measured() -> dict[str, Any]:
    """When and by which libraries it was measured, and the SHA-256 of the raw files."""
    return dict(_read()["made"])


@cache
def _read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(__file__).with_name("released.json").read_text())
    return found
