"""The two synthetic sets of Section 4.2: every value of every pixel drawn by itself."""

from collections.abc import Callable

import numpy as np

from odinlib.datasets.imageset import ImageSet
from odinlib.errors import UserError, check_choice

COUNT = 10_000  # images of each set, as in the paper
SHAPE = (32, 32, 3)


def _gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """N(0.5, 1) clipped to [0, 1]: nearly a third of the values are exactly 0, and a third exactly 1."""
    return np.clip(rng.standard_normal(shape, dtype=np.float32) + np.float32(0.5), 0, 1)


def _uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.random(shape, dtype=np.float32)


_KINDS: dict[str, tuple[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]]] = {
    "gaussian": ("Gaussian", _gaussian),
    "uniform": ("Uniform", _uniform),
}
TITLES = {name: title for name, (title, _) in _KINDS.items()}


def load(name: str, count: int | None = None, seed: int = 0, shape: tuple[int, int, int] | None = None) -> ImageSet:
    """A set of noise images, in floats: rounding them to bytes would change them.

    Args:
        name: `gaussian`, of mean 0.5 and unit variance, clipped to [0, 1]; or `uniform` on [0, 1].
        count: images; none: 10,000. The first n of more are the same n.
        seed: of the draws.
        shape: (H, W, C); none: (32, 32, 3).

    >>> load("uniform", count=2, shape=(8, 8, 1)).images.shape
    (2, 8, 8, 1)
    """
    title, draw = _KINDS[check_choice("noise set", name, _KINDS)]
    count, shape = COUNT if count is None else count, SHAPE if shape is None else shape
    if count < 1:
        raise UserError(f"count is {count}", expected="at least 1")
    # The name is part of the seed, or the two sets would be built on the same bits.
    rng = np.random.default_rng([seed, *name.encode()])
    return ImageSet(name, title, draw(rng, (count, *shape)), provenance={"source": "generated", "seed": seed})
