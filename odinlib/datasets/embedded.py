"""Sets that need no data: drawn by this package, or cut from what installed packages carry.

They stand for the paper's sets in the demo profile: a labelled colour set of 10 classes, one of 20 others and its
split into 16 and 4, real handwritten digits, and for each kind what is out of distribution. All are made from fixed
seeds, in about a second each, and are the same on every run.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from odinlib.datasets import glyphs, photos, resample, shapes
from odinlib.datasets.imageset import ImageSet
from odinlib.errors import UserError

TITLES = {
    "shapes10": "Shapes-10",
    "shapes20": "Shapes-20",
    "shapes16": "Shapes-16",
    "shapes4": "Shapes-4",
    "digits": "Digits 8x8 (scikit-learn)",
    "photos-crop": "Photographs (crop)",
    "photos-resize": "Photographs (resize)",
    "textures-crop": "Close-ups (crop)",
    "textures-resize": "Close-ups (resize)",
    "mixed-resize": "Mixed photographs (resize)",
    "strokes": "Pen strokes",
    "letters": "Letters A-J",
    "shapes10-bw": "Shapes-10bw",
}
TRAINED = ("shapes10", "shapes20", "shapes16", "shapes4", "digits")  #: the sets with a training split

TRAIN_IMAGES = 4000  # of the drawn sets; shapes16 and shapes4 have their part of it
TEST_IMAGES = {"shapes20": 3000}  # so that shapes4 has 600
DEFAULT_TEST_IMAGES = 1000
RESIZE_FILTER = "nearest"  # as for the prepared sets: antialiasing nearly undoes ODIN's gain

_CLASSES = {
    "shapes10": shapes.CLASSES_10,
    "shapes20": shapes.CLASSES_20,
    "shapes16": tuple(name for name in shapes.CLASSES_20 if name not in shapes.CLASSES_4),
    "shapes4": shapes.CLASSES_4,
}
_RESIZED = {name: RESIZE_FILTER for name in TITLES if name.endswith("-resize")}


def known(name: str) -> bool:
    """Whether `name` is a key of `TITLES`, or `<name>-<filter>` for a set that is resized."""
    return variant(name)[0] in TITLES


def title(name: str) -> str:
    """The name to show.

    >>> title("photos-resize-box")
    'Photographs (resize), box filter'
    """
    base, filter = variant(name)
    return TITLES[base] if base == name else f"{TITLES[base]}, {filter} filter"


def variant(name: str) -> tuple[str, str | None]:
    """The set and the filter that a name stands for: the same rectangles of the same pictures, resized otherwise.

    >>> variant("photos-resize-box"), variant("photos-crop")
    (('photos-resize', 'box'), ('photos-crop', None))
    """
    return resample.variant(name, _RESIZED)


def load(name: str, split: str = "test") -> ImageSet:
    """An embedded set. Made once in a process; do not write to its images.

    Args:
        name: a key of `TITLES`, or `<name>-<filter>`.
        split: `train` or `test`.

    Raises:
        UserError: the set has no such split.
    """
    if split == "train" and name not in TRAINED:
        raise UserError(f"{name} has no training split", expected="split test")
    return _load(name, split)


@functools.lru_cache
def _load(name: str, split: str) -> ImageSet:
    images, labels, classes, source = _makers()[variant(name)[0]](name, split)
    return ImageSet(name, title(name), images, labels, classes, {**source, "split": split})


_Made = tuple[np.ndarray, np.ndarray | None, tuple[str, ...], dict[str, Any]]


def _makers() -> dict[str, Callable[[str, str], _Made]]:
    cut = dict.fromkeys((name for name in TITLES if name.endswith(("-crop", "-resize"))), _cut)
    return {
        "shapes10": _drawn,
        "shapes20": _drawn,
        "shapes16": _part_of_shapes20,
        "shapes4": _part_of_shapes20,
        "digits": _digits,
        **cut,
        "strokes": _strokes,
        "letters": _letters,
        "shapes10-bw": _shapes10_bw,
    }


def _drawn(name: str, split: str) -> _Made:
    classes = _CLASSES[name]
    count = TRAIN_IMAGES if split == "train" else TEST_IMAGES.get(name, DEFAULT_TEST_IMAGES)
    seed = 2 * len(classes) + (split == "test")
    images, labels = shapes.draw(classes, count, seed)
    return images, labels, classes, {"source": "drawn", "seed": seed}


def _part_of_shapes20(name: str, split: str) -> _Made:
    whole, classes = _load("shapes20", split), _CLASSES[name]
    number = np.array([classes.index(each) if each in classes else -1 for each in whole.classes])
    labels = number[whole.labels]
    kept = labels >= 0
    return whole.images[kept], labels[kept], classes, {**whole.provenance, "part of": "shapes20"}


def _digits(name: str, split: str) -> _Made:
    """The UCI test digits of scikit-learn: 60 of each digit, drawn by a seed, are the test images; 1,197 are left."""
    from sklearn.datasets import load_digits

    found = load_digits()
    labels = found.target.astype(np.int64)
    rng = np.random.default_rng(0)
    test = np.concatenate([rng.permutation(np.flatnonzero(labels == digit))[:60] for digit in range(10)])
    chosen = np.isin(np.arange(len(labels)), test) == (split == "test")
    images = glyphs.brightness(found.images[chosen])[..., None]
    source = {"source": "scikit-learn's load_digits", "seed": 0}
    return images, labels[chosen], tuple(str(digit) for digit in range(10)), source


def _cut(name: str, split: str) -> _Made:
    base, filter = variant(name)
    source, _, kind = base.partition("-")
    seed = 100 + list(TITLES).index(base)
    images = photos.cut(source, kind, DEFAULT_TEST_IMAGES, shapes.SIZE, filter or RESIZE_FILTER, seed)
    how = {"filter": filter} if filter else {}
    return images, None, (), {"source": photos.SOURCES[source], "seed": seed, **how}


def _strokes(name: str, split: str) -> _Made:
    return glyphs.strokes(DEFAULT_TEST_IMAGES, seed=200), None, (), {"source": "drawn", "seed": 200}


def _letters(name: str, split: str) -> _Made:
    images, labels = glyphs.letters(DEFAULT_TEST_IMAGES, seed=201)
    return images, labels, tuple(glyphs.LETTERS), {"source": "Matplotlib's fonts", "fonts": glyphs.FONTS, "seed": 201}


def _shapes10_bw(name: str, split: str) -> _Made:
    """Shapes-10's test images in grey, by the luma weights of ITU-R 601, at the digits' size."""
    colour = _load("shapes10", "test")
    grey = np.rint(colour.images @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]
    images = resample.resize(grey, glyphs.SIZE, "box")
    return images, colour.labels, colour.classes, {"source": "shapes10", "filter": "box"}
