"""Every set of images by its name: embedded in this package, generated as noise, or prepared from real data.

`load("cifar10")` reads what `data_scripts` prepared; `load("shapes10")` needs nothing but this package.
"""

import numpy as np

from odinlib.datasets import embedded, noise, prepared
from odinlib.datasets.imageset import ImageSet
from odinlib.errors import UserError, check_choice

__all__ = ["NOISE", "SPLITS", "ImageSet", "load", "names", "title", "variant"]

SPLITS = ("train", "test")
NOISE = tuple(noise.TITLES)  #: these take the shape of the images they are compared with


def load(
    name: str,
    split: str = "test",
    count: int | None = None,
    seed: int = 0,
    shape: tuple[int, int, int] | None = None,
) -> ImageSet:
    """The set of images called `name`.

    Args:
        name: one of :func:`names`, or `<name>-<filter>` for one that is resampled.
        split: `train` or `test`; only sets that a network is trained on have the former.
        count: the first `count` images of a permutation by `seed`; none: all, in the set's own order. Noise is
            generated to this number.
        seed: of that permutation, or of the noise. The other sets are always the same.
        shape: (H, W, C) of noise; the other sets have their own.

    Raises:
        UserError: no such set or split, or fewer images than `count`.

    >>> load("digits", "train").shape
    (8, 8, 1)
    """
    _check(name)
    check_choice("split", split, SPLITS)
    if count is not None and (not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1):
        raise UserError(f"count is {count!r}", expected="a whole number, at least 1")
    if name in NOISE:
        return noise.load(name, count, seed, shape)
    found = embedded.load(name, split) if embedded.known(name) else prepared.load(name, split)
    if count is None:
        return found
    if count > len(found):
        raise UserError(f"{count} images of {name} were asked for", expected=f"at most {len(found)}, which it has")
    return found.take(np.random.default_rng(seed).permutation(len(found))[:count])


def names() -> tuple[str, ...]:
    """The names of all sets, whether or not their data are on this machine."""
    return (*embedded.TITLES, *prepared.names(), *NOISE)


def title(name: str) -> str:
    """The set's name as a table shows it; nothing is loaded."""
    _check(name)
    if name in NOISE:
        return noise.TITLES[name]
    return embedded.title(name) if embedded.known(name) else prepared.title(name)


def variant(name: str) -> tuple[str, str | None]:
    """The set and the resampling filter that a name stands for; None where nothing is resampled.

    >>> variant("photos-resize-box"), variant("isun"), variant("uniform")
    (('photos-resize', 'box'), ('isun', 'nearest'), ('uniform', None))
    """
    _check(name)
    return embedded.variant(name) if embedded.known(name) else prepared.variant(name)


def _check(name: str) -> None:
    if not (
        isinstance(name, str) and (embedded.known(name) or prepared.known(name))
    ):  # they know variants that `names` does not list
        check_choice("data set", name, names())
