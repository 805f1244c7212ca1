"""One exception for a user's mistake: what is wrong, what was expected, what to do."""

import difflib
import math
from collections.abc import Iterable


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
        super().__init__("; ".join(parts).replace("\n", " "))

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: a notebook shows the one line and no frames."""
        return [f"{type(self).__name__}: {self}"]


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
    near = difflib.get_close_matches(str(value), known, n=1)
    raise UserError(
        f"{name} is {value!r}",
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
        raise UserError(f"{name} is {value!r}", expected=f"a number {wanted}".rstrip())
    return value


class Missing(UserError):
    """Something is not there (data, weights, a record): a page says so and goes on with what there is."""
