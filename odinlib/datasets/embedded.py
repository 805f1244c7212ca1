"""Sets that need no data: drawn by this package, or cut from what installed packages carry."""

from odinlib.datasets.imageset import ImageSet

TITLES: dict[str, str] = {}


def load(name: str, split: str) -> ImageSet:
    raise NotImplementedError(name)
