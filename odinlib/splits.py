"""Which images of a set are held out and which are tested, by a draw that is recorded with what it drew (Section 4.4).

The paper's text draws 1,000 images at random; the authors' code takes the first 1,000 of each set, in the order of
their loader. The draw stands in the header of whatever is recorded of its images, so that the images can be named for
ever after, whatever their set is called by then.
"""

import dataclasses
import hashlib
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from odinlib.errors import UserError, check_choice, check_number

#: `authors`: the first ones of the sets that the authors' code loads in an order of no meaning, else at random. The
#: first 1,000 images of notMNIST or Omniglot are one letter, or one alphabet.
SPLITS = ("random", "first", "authors")
_IN_ORDER = ("cifar10", "cifar100", "cifar80", "cifar20", "tinyimagenet", "lsun", "isun")


@dataclass(frozen=True)
class Draw:
    """An order of the images of a set: those to hold out come first, those to test after them.

    Args:
        rule: `first` keeps the set's own order; `random` permutes it.
        seed, name: of the permutation; the name is that of the set when it was drawn.
        limit: where not None, only so many images of the set are used at all: the first of a permutation of their
            own by `limit_seed`, or of the set where that is None; the order is that of these.
    """

    rule: str
    seed: int | None = None
    name: str | None = None
    limit: int | None = None
    limit_seed: int | None = None

    def order(self, total: int) -> np.ndarray:
        """Indices into the whole set of `total` images, in the order of the draw [`limit` or `total`] int64.

        >>> Draw("first").order(3).tolist(), len(Draw("random", 0, "isun", limit=2, limit_seed=0).order(3))
        ([0, 1, 2], 2)
        """
        used = np.arange(total)
        if self.limit is not None:
            if self.limit > total:
                raise UserError(f"{self.limit} images were asked for", expected=f"at most {total}, which there are")
            used = (
                np.arange(total)
                if self.limit_seed is None
                else np.random.default_rng(self.limit_seed).permutation(total)
            )
            used = used[: self.limit]
        if self.rule == "random":
            assert self.name is not None and self.seed is not None
            used = used[np.random.default_rng([self.seed, zlib.crc32(self.name.encode())]).permutation(len(used))]
        return used

    def without_permutation(self) -> "Draw":
        """The same draw of the first `limit` images of the set."""
        return dataclasses.replace(self, limit_seed=None)

    def without_limit(self) -> "Draw":
        """The same rule for all images of the set."""
        return dataclasses.replace(self, limit=None, limit_seed=None)

    def as_header(self) -> dict[str, Any]:
        """What of the draw there is to say, for an artefact's header; :meth:`from_header` reads it."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> "Draw":
        """The draw that a header tells of; other entries of it are passed over.

        Raises:
            UserError: it tells of none that can be.
        """
        found = cls(**{key: value for key, value in header.items() if key in cls.__dataclass_fields__})
        numbers = (found.seed, found.limit, found.limit_seed)
        named = found.rule == "first" or (isinstance(found.name, str) and found.seed is not None)
        if found.rule not in ("first", "random") or not named:
            raise UserError(f"a draw is by {found.rule!r}", expected="first, or random with a seed and a name")
        if not all(one is None or (type(one) is int and one >= 0) for one in numbers):
            raise UserError(f"a draw has the numbers {numbers}", expected="whole ones from 0")
        return found


def draw(split: str, name: str, seed: int, limit: int | None = None) -> Draw:
    """The draw of the set `name` by a rule of `SPLITS`.

    >>> draw("authors", "isun", seed=0), draw("authors", "notmnist", seed=0).rule
    (Draw(rule='first', seed=None, name=None, limit=None, limit_seed=None), 'random')
    """
    check_choice("split", split, SPLITS)
    limit_seed = None if limit is None else seed
    if split == "first" or (split == "authors" and name.split("-")[0] in _IN_ORDER):
        return Draw("first", limit=limit, limit_seed=limit_seed)
    return Draw("random", seed, name, limit, limit_seed)


def halves(names: Sequence[str], seed: int = 0, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """A user's images in two parts, at random, each subfolder in both by its share; whatever order they are given in.

    An image's place follows from the seed and its name alone, so that the same names are split in the same way, listed
    forwards or backwards.

    Args:
        names: of the images, unique, with their subfolders in front (`cats/a.png`).
        seed: to be recorded with what is found; another one splits otherwise.
        share: of the first part, in (0, 1).

    Returns:
        Indices into `names` [n] and [N - n] int64, ascending; n is `share` of N, rounded.

    Raises:
        UserError: a part would be empty, or a name comes twice.

    >>> first, second = halves(["dark/a", "dark/b", "light/a", "light/b"])
    >>> len(first), len(second), (first // 2).tolist()  # one of each subfolder
    (2, 2, [0, 1])
    """
    check_number("share", share, above=0, below=1)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"the name {twice[0]!r} comes twice", expected="a name for each image")

    def drawn(text: str) -> str:
        return hashlib.sha256(f"{seed} {text}".encode("utf-8", "surrogateescape")).hexdigest()

    # Subfolder by subfolder, at random within and among them: every so many in this order make up the share of each.
    folders = [str(PurePath(name).parent) for name in names]
    order = sorted(range(len(names)), key=lambda i: (drawn(folders[i] + "/"), drawn(str(names[i]))))
    reached = np.floor(np.arange(len(names) + 1) * share + 0.5)
    taken = np.zeros(len(names), bool)
    taken[order] = np.diff(reached) > 0
    if taken.all() or not taken.any():
        remedy = "give more images, or another share"
        raise UserError(f"{len(names)} images cannot be split with a share of {share:g} in both parts", remedy=remedy)
    return np.flatnonzero(taken), np.flatnonzero(~taken)
