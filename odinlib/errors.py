"""One exception for a user's mistake: what is wrong, what was expected, what to do.

What comes from outside (files, disks, other people's libraries) becomes one too: `reading` at the door of a file, and
`told` at the edge of the program, for what no door has named.
"""

import contextlib
import difflib
import errno
import math
import os
import re
import stat
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path


class UserError(Exception):
    """A mistake that the user can mend, told in one line.

    Args:
        what: the thing that is wrong, by name and value.
        expected: what would have been right.
        remedy: what to do about it.

    >>> print(UserError("temperature is -1", expected="a number above 0"))
    temperature is -1; expected a number above 0
    """

    def __init__(self, what: str, *, expected: str | None = None, remedy: str | None = None) -> None:
        parts = [what]
        if expected:
            parts.append(f"expected {expected}")
        if remedy:
            parts.append(remedy)
        super().__init__(one_line("; ".join(parts)))

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: a notebook shows the one line and no frames."""
        return [f"{type(self).__name__}: {self}"]


def one_line(text: str) -> str:
    r"""Text as one line that a terminal cannot take for commands: of a file's name or header anything may come.

    >>> one_line("a\x1b[2J\nb")
    'a\\x1b[2J b'
    """
    return "".join(one if one.isprintable() else " " if one.isspace() else ascii(one)[1:-1] for one in text)


def short(value: object) -> str:
    """A value as Python writes it, or its beginning."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]} ..."


def need(reason: str) -> str:
    """What is to be done, as the line of a :class:`UserError` tells it; the line itself where it tells nothing of that.

    >>> need("x.npz is not recorded; `odin respond --all` makes it"), need("there is no such set")
    ('`odin respond --all` makes it', 'there is no such set')
    """
    what, _, remedy = reason.partition("; ")
    return remedy or what


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`, else raise :class:`UserError` naming the nearest.

    >>> check_choice("profile", "dmeo", ["demo", "paper"])
    Traceback (most recent call last):
    odinlib.errors.UserError: profile is 'dmeo'; expected one of demo, paper; did you mean 'demo'?
    """
    known = list(choices)
    if value in known:
        return value
    near = difflib.get_close_matches(str(value)[:100], known, n=1)
    raise UserError(
        f"{name} is {short(value)}",
        expected=f"one of {', '.join(known)}",
        remedy=f"did you mean {near[0]!r}?" if near else None,
    )


def check_number(
    name: str,
    value: float,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` if it is a finite number within the bounds, else raise :class:`UserError`.

    >>> check_number("temperature", -1, above=0)
    Traceback (most recent call last):
    odinlib.errors.UserError: temperature is -1; expected a number above 0
    """
    bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    if type(value).__module__ in ("numpy", "torch") and getattr(value, "ndim", None) == 0:
        value = value.item()  # type: ignore[attr-defined]  # a scalar of NumPy's, a tensor of one number
    wanted = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if (
        not number
        or (at_least is not None and value < at_least)
        or (above is not None and value <= above)
        or (at_most is not None and value > at_most)
        or (below is not None and value >= below)
    ):
        raise UserError(f"{name} is {short(value)}", expected=f"a number {wanted}".rstrip())
    return value


class Missing(UserError):
    """Something is not there (data, weights, a record): a page says so and goes on with what there is."""


# --- What comes from outside ------------------------------------------------------------------------------------------

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|out of memory|Unable to allocate", re.IGNORECASE)


@contextlib.contextmanager
def reading(
    path: str | Path, remedy: str | None = None, refusal: type[UserError] = UserError
) -> Iterator[os.stat_result]:
    """What reading a damaged, foreign or hostile file raises, and that is nearly anything, told in one line.

    Args:
        path: of the file.
        remedy: what to do about it.
        refusal: the kind of `UserError`.

    Returns:
        For `with ... as`: what the system says of the file.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no regular file, so that nothing waits for a pipe; or whatever else is raised meanwhile.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            told = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
            raise refusal(f"{path} is {told}", expected="a file")
        yield found
    except (FileNotFoundError, UserError):
        raise
    except PermissionError as error:
        raise refusal(f"{path} cannot be read ({in_words(error)})") from error
    except Exception as error:
        raise refusal(f"{path} is damaged ({in_words(error)})", remedy=remedy) from error


def in_words(error: BaseException) -> str:
    """What an exception of others says, short, and without the path that the line has already."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = f"it lacks {error}" if isinstance(error, KeyError) else str(error).strip()
    text = one_line(text or type(error).__name__)
    return text if len(text) <= 200 else f"{text[:200]} ..."


def told(error: BaseException) -> UserError | None:
    """An exception of the outside world in one line with its path; None for one that this package does not know.

    >>> print(told(IsADirectoryError(errno.EISDIR, "Is a directory", "notes")))
    notes: Is a directory; expected another file or folder
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        place = f" to write {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""
        return UserError(f"no space left{place}", remedy="free some space and run again")
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        return UserError(f"{os.fsdecode(error.filename)}: {in_words(error)}", expected="another file or folder")
    if isinstance(error, OSError):
        return UserError(in_words(error))
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        return UserError(f"this takes more memory than there is ({in_words(error)})", remedy="ask for less at a time")
    return None


def logged(error: BaseException) -> UserError:
    """An exception that nobody foresaw, in one line; where it came from is written to a file that the line names."""
    what = f"{type(error).__name__}: {in_words(error)}"
    lines = traceback.format_exception(error)
    try:
        descriptor, name = tempfile.mkstemp(prefix="odin-", suffix=".log")
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(lines)
    except OSError as full:  # the one line is all that is left
        return UserError(what, remedy=f"where it came from could not be written ({in_words(full)})")
    return UserError(what, remedy=f"this is a mistake of the program: {name} tells where it came from")
