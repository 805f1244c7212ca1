"""What every page of the book does: begin, show what there is or say what is missing, and tell what made it.

papermill runs a notebook after inserting a cell with the given parameters below the one tagged `parameters`. It only
warns when a name is not one of the notebook's; here that, and a value that cannot be, ends the run in one line. So it
does where the parameters are edited in Jupyter, without papermill.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.getipython import get_ipython
from IPython.display import Markdown, display

from odinlib import artefacts
from odinlib.book import parameters
from odinlib.book.parameters import Rule, number, one_of, text
from odinlib.errors import Missing, UserError, check_choice, need

if TYPE_CHECKING:
    from odinlib.profiles import Profile

__all__ = ["banner", "begin", "note_missing", "number", "one_of", "provenance", "show", "tell", "text"]

_ROOT = Path(__file__).resolve().parent.parent.parent
_started = time.perf_counter()
_changed: dict[str, Any] = {}  # the parameters that this page was given, other than its defaults
_told: dict[str, str] = {}  # what this page has said is needed, and the cell that said so


# --- The beginning ----------------------------------------------------------------------------------------------------


def begin(**rules: Rule) -> "Profile | None":
    """Check the page's parameters, set the look of its figures, and show what it is made with.

    Every parameter is a field of `profiles.Profile`, or the singular of one (`network` for `networks`), and changes the
    profile; or it is named here, and is the page's own: `begin(bins=page.number(at_least=2), example=str)`.

    Args:
        rules: the type of each parameter of the page's own, or a check of its value.

    Returns:
        The profile that the page is run with; None for a page that has no parameter `profile`.

    Raises:
        UserError: an unknown name (with the nearest known one), a value of another type or out of range, in one line.
    """
    from odinlib import figures, profiles

    declared, given = _parameters()
    values = parameters.check(declared, given, rules)
    _changed.clear()
    _changed.update({name: values[name] for name in given if values[name] != declared[name]})
    if (shell := get_ipython()) is not None:  # text that meant a list
        shell.user_ns.update({name: values[name] for name in given})
    figures.use_style()
    if (shown := getattr(shell, "display_formatter", None)) is not None:
        _offer_numbers(shown.formatters)
    if "profile" not in values:
        return None
    fields = {name: value for name, value in values.items() if name != "profile" and name not in rules}
    for name in fields:
        check_choice("parameter", name, (*profiles.FIELDS, *profiles.SINGULAR, *rules))
    run = profiles.configure(values["profile"], **profiles.of_page(fields))
    display(banner(run))
    return run


def _offer_numbers(formatters: dict[str, Any]) -> None:
    """Let every figure and table that a cell shows carry its numbers as CSV; the book offers them beside it."""
    from IPython.core.formatters import BaseFormatter
    from matplotlib.figure import Figure
    from pandas.io.formats.style import Styler

    from odinlib import figures, tables

    formatter = BaseFormatter(format_type="text/csv", print_method="_repr_csv_")
    formatter.for_type(Figure, lambda figure: figures.drawn(figure) or None)
    formatter.for_type(Styler, tables.numbers)
    formatters["text/csv"] = formatter


def banner(run: "Profile") -> Markdown:
    """The note at the top of a page: the profile it was made with, what is not the paper's, changed parameters."""
    from odinlib import tables

    lines = [f"> This page was made with the profile **{run.name}**: {run.title}."]
    shown = {*run.networks, *run.id_sets, run.grey_network, *(name for sets in run.ood_sets.values() for name in sets)}
    if shown & run.stands_for.keys():
        lines.append(
            "> Networks and sets that only stand for the paper's are shown under their own names, "
            "and their numbers are not the paper's."
        )
    if not run.compute:
        lines.append("> Its results are read from the record; what is not recorded is named where it would stand.")
    lines += [f"> {told}" for told in tables.differences(run)]
    changed = [f"`{name} = {value!r}`" for name, value in _changed.items() if name != "profile"]
    if changed:
        lines.append(f"> Changed here: {', '.join(changed)}.")
    return Markdown("\n".join(lines))


def _parameters() -> tuple[dict[str, Any], dict[str, Any]]:
    """The defaults, and what was given or edited, in the running notebook.

    What was given is in the order of the declarations, except for unknown names, which come last.
    """
    cells = _history()
    for index in reversed(range(len(cells))):
        if cells[index].startswith("# Parameters\n"):  # papermill's own cell
            given = parameters.literals(cells[index]) or {}
            for above in reversed(cells[:index]):
                if declared := parameters.literals(above):
                    known = {name: given[name] for name in declared if name in given}
                    return declared, {**known, **given}
    source = _source()
    defaults = parameters.declared(source) if source else {}
    found = [literal for cell in cells if (literal := parameters.literals(cell))]
    if not found:
        return defaults, {}
    # In Jupyter other cells of literals may have run since; the variables have their present values.
    edited = max(reversed(found), key=lambda literal: (len(literal.keys() & defaults.keys()), len(literal)))
    space = getattr(get_ipython(), "user_ns", {})
    values = {name: space.get(name, value) for name, value in edited.items()}
    declared = {**values, **defaults} if defaults else values
    return declared, {name: value for name, value in values.items() if declared[name] != value}


def _history() -> list[str]:
    """The sources of the cells that the running notebook has executed."""
    manager = getattr(get_ipython(), "history_manager", None)
    return list(manager.input_hist_raw[1:]) if manager is not None else []


def _source() -> Path | None:
    """The running notebook's file: the one in `notebooks/` that begins as it does."""
    ran = {source.strip() for source in _history()}
    for path in sorted((_ROOT / "notebooks").glob("*.ipynb")):
        sources = (cell["source"].strip() for cell in parameters.code_cells(path))
        if next((source for source in sources if "page.begin(" in source), None) in ran:
            return path
    return None


# --- What there is, and what is missing -------------------------------------------------------------------------------


def show(make: Callable[[], Any], *found: Any) -> Any:
    """The figure or table that `make` gives; in its place, where it cannot be had here, what is missing.

    A captioned cell so always shows something: its caption, its number and the references to it stay.

    Args:
        make: called only if all of `found` is there.
        found: what it is made from, of `experiments.gather`; or any other thing that is empty or false where there is
            nothing to show.
    """
    return make() if all(map(_is_there, found)) else note_missing(*found) or Markdown("> **Not recorded.**")


def tell(make: Callable[[], str], *found: Any) -> Markdown:
    """The sentences that `make` gives, if all of `found` is there; see `show`."""
    return Markdown(make() if all(map(_is_there, found)) else "*Not recorded.*")


def note_missing(*found: Any) -> Markdown | None:
    """A note on what cannot be had here, and what each needs; None where nothing is missing.

    What needs the same stands in one line. A need that an earlier cell of the page has told of is not told again.

    Args:
        found: of `experiments.gather`, or the reasons in one line themselves, for each thing or tuple of names.
    """
    reasons: dict[tuple[tuple[str, ...], str], None] = {}
    for one in found:
        missing = getattr(one, "missing", one)
        for key, reason in missing.items() if isinstance(missing, Mapping) else ():
            names = (key,) if isinstance(key, str) else tuple(str(part) for part in key)
            if isinstance(reason, str):
                reasons[names, need(reason).replace(f"{_ROOT}{os.sep}", "")] = None
    if not reasons:
        return None
    cell = next(iter(_history()[-1:]), "")
    new = [(names, what) for names, what in reasons if _told.setdefault(what, cell) == cell]  # run again, told again
    old = [names for names, what in reasons if _told[what] != cell]
    keys = list(dict.fromkeys(names for names, _ in reasons))
    head = f"> **Not to be had here ({len(keys)}):**"
    lines = [f"> - {_named(by)}: {what}" for what, by in _by_need(new).items()]
    old = [names for names in dict.fromkeys(old) if names not in dict(new)]
    if old and lines:
        lines.append(f"> - {_named(old, most=1)} (see above)")
    elif old:
        head += f" {_named(old, most=1)} (see above)"
    return Markdown("\n".join([head, *lines]))


def _is_there(found: Any) -> bool:
    """Whether there is any of it; a frame has no truth of its own."""
    return len(found) > 0 if hasattr(found, "__len__") else bool(found)


def _by_need(reasons: Iterable[tuple[tuple[str, ...], str]]) -> dict[str, list[tuple[str, ...]]]:
    """What needs the same, together. Commands that differ in their set only are one, for all these sets.

    Where they are many, or the network's own set is among them, without which there is nothing, it is the command for
    everything that the network is asked.

    >>> _by_need([(("a",), "`odin x --set a` makes it"), (("b",), "`odin x --set b` makes it")])
    {'`odin x --set a --set b` makes it': [('a',), ('b',)]}
    """
    alike: dict[str, dict[str, list[tuple[str, ...]]]] = {}
    for names, what in reasons:
        images = re.search(r"`odin [^`]* --set ([^\s`]+)", what)
        place = what.replace(f" --set {images[1]}", "{sets}", 1) if images else what
        alike.setdefault(place, {}).setdefault(images[1] if images else "", []).append(names)
    found = {}
    for what, by_set in alike.items():
        own = re.search(r"--id-set ([^\s`]+)", what.replace("{sets}", ""))
        every = len(by_set) > 4 or (own is not None and own[1] in by_set)
        sets = "" if every else "".join(f" --set {images}" for images in by_set)
        found[what.replace("{sets}", sets)] = list(dict.fromkeys(names for one in by_set.values() for names in one))
    return found


def _named(keys: Sequence[tuple[str, ...]], most: int = 4) -> str:
    """Names by their titles; those that differ in the last name only stand in one phrase, or are counted if many.

    >>> _named([("wrn-28-10", "cifar10", "isun"), ("wrn-28-10", "cifar10", "uniform"), ("mnist",)])
    'WRN-28-10, CIFAR-10: iSUN; Uniform / MNIST'
    >>> _named([("wrn-28-10", "cifar10", "isun"), ("wrn-28-10", "cifar10", "uniform"), ("mnist",)], most=1)
    'WRN-28-10, CIFAR-10 (2) / MNIST'
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        *head, last = map(_title, key)
        alike.setdefault(tuple(head), []).append(last)
    phrases = []
    for heads, tails in alike.items():
        if heads and len(tails) > most:
            phrases.append(f"{', '.join(heads)} ({len(tails)})")
        else:
            phrases.append(": ".join([", ".join(heads)] * bool(heads) + ["; ".join(tails)]))
    return " / ".join(phrases)


def _title(name: str) -> str:
    from odinlib import datasets, names

    for title in (datasets.title, names.network_title):
        with contextlib.suppress(UserError):
            return title(name)
    return name


# --- The foot ---------------------------------------------------------------------------------------------------------


def provenance(run: "Profile | None" = None) -> Markdown:
    """The foot of a page: profile, commit, hardware, versions, date and duration, and the line that makes it again.

    Where it used other images of the record than those asked for, it says which.
    """
    made = artefacts.provenance()
    facts = {
        "Profile": run.name if run else None,
        "Record": _record(run) if run and not run.compute else None,
        "Commit": made["commit"],
        "Hardware": made["hardware"],
        "Versions": ", ".join(f"{name} {version}" for name, version in _versions(made).items()),
        "Date": made["date"],
        "Seconds": f"{time.perf_counter() - _started:.0f}",
    }
    given = {"profile": run.name, **_changed} if run else _changed
    source = _source()
    page = source.name if source else "PAGE.ipynb"
    options = parameters.options(given)
    lines = [
        "make setup  # once, in a clone of the project: all that is needed, into .venv",
        " ".join([".venv/bin/odin run", f"notebooks/{page}", *options]),
        " ".join([".venv/bin/papermill", f"notebooks/{page}", "out.ipynb", *options]),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items() if value)
    used = "".join(f"* {told}\n" for told in _images_used()) if run else ""
    used = f"\n\nImages of the record that stand for those asked for:\n\n{used}" if used else ""
    again = "To make this page again, the same or with other parameters:\n\n```bash\n" + "\n".join(lines) + "\n```"
    return Markdown(f"{again}\n\n| Made by | |\n|---|---|\n{table}{used}\n")


def _record(run: "Profile") -> str:
    """The days of the recorded runs that the page reads, and the commits that made them."""
    made = [artefacts.load_provenance(path) for path in sorted(run.folder.glob("*/*/*.npz"))]
    days = sorted(str(one["date"])[:10] for one in made if "date" in one)
    commits = sorted({str(one["commit"]) for one in made if "commit" in one})
    when = days[0] if days[:1] == days[-1:] else f"{days[0]} to {days[-1]}"
    return f"{len(made)} files of {when}, commits {', '.join(commits)}" if days else "none"


def _images_used() -> list[str]:
    """A line for each network and what was used of its sets, where that is not what was asked for."""
    from odinlib import experiments

    alike: dict[str, list[tuple[str, ...]]] = {}
    for of, images in list(experiments.asked.values()):
        with contextlib.suppress(Missing):
            if told := experiments.images_used(of, images):
                alike.setdefault(told, []).append((of.network, of.id_set, images))
    return [f"{_named(keys, most=99)}: {told}" for told, keys in alike.items()]


def _versions(made: Mapping[str, Any]) -> dict[str, str]:
    import odinlib

    return {"odinlib": odinlib.__version__, "Python": made["python"], "PyTorch": made["torch"]}
