"""Colour images cut from the photographs that scikit-learn, scikit-image and Matplotlib carry."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from odinlib.datasets import resample
from odinlib.errors import UserError

#: The pictures of each source, as package and path. No picture is in two sources.
SOURCES: dict[str, tuple[str, ...]] = {
    "photos": (
        "sklearn/datasets/images/china.jpg",
        "sklearn/datasets/images/flower.jpg",
        "skimage/data/coffee.png",
        "skimage/data/chelsea.png",
        "skimage/data/astronaut.png",
    ),
    "textures": (
        "skimage/data/brick.png",
        "skimage/data/grass.png",
        "skimage/data/gravel.png",
        "skimage/data/ihc.png",
        "skimage/data/coins.png",
    ),
    "mixed": (
        "skimage/data/rocket.jpg",
        "skimage/data/motorcycle_left.png",
        "skimage/data/camera.png",
        "skimage/data/hubble_deep_field.jpg",
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    ),
}


def cut(source: str, kind: str, count: int, size: int, filter: str, seed: int) -> np.ndarray:
    """Images [count, size, size, 3], as many from each picture as can be, in random order.

    Args:
        source: a key of `SOURCES`.
        kind: `crop`, patches at the picture's own resolution; or `resize`, rectangles of at least 0.35 of
            the picture's height and width, resampled. Both are mirrored at random.
        count: images.
        size: their height and width.
        filter: of `resize`, one of `resample.FILTERS`.
        seed: of everything random.
    """
    rng = np.random.default_rng(seed)
    pictures = [_picture(path) for path in SOURCES[source]]
    images = np.empty((count, size, size, 3), np.uint8)
    for i, which in enumerate(rng.permutation(count) % len(pictures)):
        picture = pictures[which]
        if kind == "crop":
            image = resample.random_crop(picture, size, rng)
        else:
            height, width = (int(side * rng.uniform(0.35, 1)) for side in picture.shape[:2])
            image = resample.resize(resample.random_crop(picture, (height, width), rng), size, filter)
        image = _tinted(image, rng) if image.ndim == 2 else image
        images[i] = image[:, ::-1] if rng.random() < 0.5 else image
    return images


def _picture(path: str) -> np.ndarray:
    package, _, rest = path.partition("/")
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise UserError(f"the package {package} is not installed", remedy=f"it carries {rest}")
    return np.asarray(Image.open(Path(found.origin).parent / rest))


def _tinted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A grey image between two colours, a dark one and a light one: grey alone would give it away."""
    dark, light = rng.uniform(0, 0.35, 3), rng.uniform(0.65, 1, 3)
    return np.rint(255 * dark + image[..., None] * (light - dark)).astype(np.uint8)
