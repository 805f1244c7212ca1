"""What every page of the book does: check its parameters, say what made it, and how to make it again.

papermill runs a notebook after inserting a cell with the given parameters below the one tagged `parameters`. It only
warns when a name is not one of the notebook's; here that, and a value of the wrong type, ends the run in one line.
"""

import ast
import contextlib
import difflib
import json
import os
import re
import shlex
import tempfile
import time
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.getipython import get_ipython
from IPython.display import Markdown

from odinlib import artefacts
from odinlib.errors import UserError, check_choice, need

if TYPE_CHECKING:
    from odinlib.profiles import Profile

_ROOT = Path(__file__).resolve().parent.parent.parent
_NAMES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}
_started = time.perf_counter()
_told: dict[str, str] = {}  # what this page has said is needed, and the cell that said so


# --- Parameters -------------------------------------------------------------------------------------------------------


def check_parameters(**kinds: type) -> None:
    """Fail in one line if papermill was given a parameter that this notebook does not declare, or one of another type.

    Called by the cell after the one tagged `parameters`, before anything is computed. Outside of a notebook, and in
    one that was given no parameters, there is nothing to check.

    Args:
        kinds: the types of parameters whose default is None and whose name is no field of `profiles.Profile`.

    Raises:
        UserError: an unknown name (with the nearest known one), or a value of the wrong type.
    """
    declared, given = _parameters()
    check(declared, given, kinds)


def check(declared: Mapping[str, Any], given: Mapping[str, Any], kinds: Mapping[str, type] | None = None) -> None:
    """Fail if `given` has a name that is not in `declared`, or a value whose type is not that of its default.

    A whole number will do for a number. Where the default is None, so will None; the type is then that of the
    profile's field of this name, or of one item of it for a name in the singular, or the one in `kinds`.

    >>> check({"temperature": 1000.0}, {"temperature": 10})
    >>> check({"temperature": 1000.0}, {"temprature": 10})
    Traceback (most recent call last):
    odinlib.errors.UserError: parameter is 'temprature'; expected one of temperature; did you mean 'temperature'?
    >>> check({"networks": None}, {"networks": "wrn-16-2"})
    Traceback (most recent call last):
    odinlib.errors.UserError: networks is 'wrn-16-2'; expected a list; papermill takes it as -y '{networks: [wrn-16-2]}'
    """
    for name, value in given.items():
        check_choice("parameter", name, declared)
        default = declared[name]
        kind = type(default) if default is not None else (kinds or {}).get(name) or _field_kind(name)
        if kind not in _NAMES or (value is None and default is None) or _is_a(kind, value):
            continue
        remedy = None
        if kind in (list, dict) and not isinstance(value, list | dict):
            remedy = f"papermill takes it as -y '{{{name}: [{value}]}}'"
        raise UserError(f"{name} is {value!r}", expected=_NAMES[kind], remedy=remedy)


def declared(notebook: str | Path) -> dict[str, Any]:
    """The parameters of a notebook file and their defaults.

    Raises:
        UserError: it is not there, is no notebook, or its `parameters` cell holds more than literals.
    """
    path = Path(notebook)
    for cell in _code_cells(path):
        if "parameters" in cell["metadata"].get("tags", []):
            found = _literals("".join(cell["source"]))
            if found is None:
                raise UserError(f"the parameters of {path} are not plain literals")
            return found
    return {}


def _parameters() -> tuple[dict[str, Any], dict[str, Any]]:
    """Defaults and given values in the running notebook: papermill's own cell, and the declarations above it.

    What was given is in the order of the declarations, except for unknown names, which come last.
    """
    cells = _history()
    for index in reversed(range(len(cells))):
        if cells[index].startswith("# Parameters\n"):
            given = _literals(cells[index]) or {}
            for above in reversed(cells[:index]):
                if declared := _literals(above):
                    known = {name: given[name] for name in declared if name in given}
                    return declared, {**known, **given}
    return {}, {}


def _history() -> list[str]:
    """The sources of the cells that the running notebook has executed."""
    shell = get_ipython()
    manager = getattr(shell, "history_manager", None)
    return list(manager.input_hist_raw[1:]) if manager is not None else []


def _literals(source: str) -> dict[str, Any] | None:
    """The names that a cell assigns, if it does nothing but assign literals.

    >>> _literals("seed = 0  # of the noise\\nsets: list = ['gaussian']")
    {'seed': 0, 'sets': ['gaussian']}
    >>> _literals("import os")
    """
    found = {}
    try:
        for statement in ast.parse(source).body:
            match statement:
                case (
                    ast.Assign(targets=[ast.Name(name)], value=value)
                    | ast.AnnAssign(target=ast.Name(name), value=ast.expr() as value)
                ):
                    found[name] = _value(value)
                case _:
                    return None
    except (SyntaxError, ValueError):
        return None
    return found


def _value(node: ast.expr) -> Any:
    """`ast.literal_eval`, and the float("nan") and float("inf") that papermill writes."""
    match node:
        case ast.Call(func=ast.Name("float"), args=[ast.Constant(str(text))]):
            return float(text)
    return ast.literal_eval(node)


def _is_a(kind: type, value: Any) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, int | float)
    if kind is dict:  # one list for all keys will do
        return isinstance(value, dict | list | tuple)
    return isinstance(value, list | tuple if kind is list else kind)


def _field_kind(name: str) -> type | None:
    """The type of the profile's field `name`, or of one item of its field `names`."""
    from odinlib.profiles import Profile

    fields = typing.get_type_hints(Profile)
    if name in fields:
        return _kind(fields[name])
    many = fields.get(f"{name}s")
    while many is not None and typing.get_args(many):
        many = [part for part in typing.get_args(many) if part is not Ellipsis][-1]
    return _kind(many)


def _kind(annotation: Any) -> type | None:
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not types.NoneType)
    origin = typing.get_origin(annotation) or annotation
    return {tuple: list, Mapping: dict}.get(origin, origin)


# --- Running one ------------------------------------------------------------------------------------------------------


def execute(
    notebook: str | Path, output: str | Path, parameters: Mapping[str, Any] | None = None, *, progress: bool = True
) -> None:
    """Run a notebook with papermill: parameters are checked first, and `output` appears only if all went well.

    Args:
        notebook: the source.
        output: where the executed notebook goes; a failed run leaves `<output>.failed.ipynb` there instead.
        parameters: by name.
        progress: show papermill's bar over the cells.

    Raises:
        UserError: no such notebook, a wrong parameter, or a user's mistake that the notebook itself found.
        papermill.PapermillExecutionError: a cell failed for another reason.
    """
    import papermill
    from traitlets.config import Config

    source, output = Path(notebook), Path(output)
    parameters = dict(parameters or {})
    check(declared(source), parameters)
    # With these set, Jupyter might start another environment's Python instead of this one.
    for variable in ("JUPYTER_PATH", "JUPYTER_PREFER_ENV_PATH"):
        os.environ.pop(variable, None)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem}.{os.getpid()}.partial.ipynb")
    # The kernel is spoken to through files: ports are open to others, and two kernels may be given the same one.
    with tempfile.TemporaryDirectory() as sockets:
        local = Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"})
        try:
            papermill.execute_notebook(source, partial, parameters, progress_bar=progress, config=local)
            partial.replace(output)
        except papermill.PapermillExecutionError as error:
            partial.replace(output.with_suffix(".failed.ipynb"))
            if len(error.traceback) == 1:  # a UserError has told it in one line, see its `_render_traceback_`
                raise UserError(f"{source.name}: {error.evalue}") from None
            raise
        finally:
            partial.unlink(missing_ok=True)


def parse(text: str) -> Any:
    """A value as typed on the command line: a number, True, False, None, a list or mapping in YAML, or else text.

    >>> [parse(text) for text in ("10", "1e-3", "None", "[wrn-16-2, 3]", "demo")]
    [10, 0.001, None, ['wrn-16-2', 3], 'demo']
    """
    import yaml

    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    if text == "None":
        return None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"cannot read the value {text!r}", expected="a literal, or a list as in '[a, b]'") from error


# --- What made a page -------------------------------------------------------------------------------------------------


def banner(run: "Profile") -> Markdown:
    """The note at the top of a page: the profile it was made with, what is not the paper's, changed parameters."""
    from odinlib import tables

    defaults, given = _parameters()
    changed = {name: value for name, value in given.items() if name != "profile" and defaults.get(name) != value}
    lines = [f"> This page was made with the profile **{run.name}**: {run.title}."]
    if run.stands_for:
        lines.append(
            "> Networks and sets that only stand for the paper's are shown under their own names, "
            "and their numbers are not the paper's."
        )
    if not run.compute:
        lines.append("> Its results are read from the record; what is not recorded is named where it would stand.")
    lines += [f"> {told}" for told in tables.differences(run)]
    if changed:
        lines.append("> Changed here: " + ", ".join(f"`{name} = {value!r}`" for name, value in changed.items()) + ".")
    return Markdown("\n".join(lines))


def provenance(run: "Profile | None" = None) -> Markdown:
    """The foot of a page: profile, commit, hardware, versions, date and duration, and the line that makes it again."""
    made = artefacts.provenance()
    facts = {
        "Profile": run.name if run else None,
        "Commit": made["commit"],
        "Hardware": made["hardware"],
        "Versions": ", ".join(f"{name} {version}" for name, version in _versions(made).items()),
        "Date": made["date"],
        "Seconds": f"{time.perf_counter() - _started:.0f}",
    }
    _, given = _parameters()
    if run and "profile" not in given:
        given = {"profile": run.name, **given}
    page = _page()
    line = " ".join(["papermill", f"notebooks/{page or 'PAGE.ipynb'}", "out.ipynb", *_options(given)])
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items() if value)
    return Markdown(f"| Made by | |\n|---|---|\n{table}\n\nTo make this page again:\n\n```bash\n{line}\n```\n")


def note_missing(missing: Mapping[Any, str]) -> Markdown | None:
    """A note on what cannot be had here, and what each needs; None where nothing is missing.

    What needs the same stands in one line. A need that an earlier cell of the page has told of is not told again.

    Args:
        missing: for each thing, or tuple of names, the reason in one line.
    """
    if not missing:
        return None
    cell = next(iter(_history()[-1:]), "")
    by_need: dict[str, list[tuple[str, ...]]] = {}
    told: list[tuple[str, ...]] = []
    for key, reason in missing.items():
        names = (key,) if isinstance(key, str) else tuple(str(part) for part in key)
        what = need(str(reason)).replace(f"{_ROOT}{os.sep}", "")
        # The same cell, run again, tells it again.
        (by_need.setdefault(what, []) if _told.setdefault(what, cell) == cell else told).append(names)
    head = f"> **Not to be had here ({len(missing)}):**"
    lines = [f"> - {_named(keys)}: {what}" for what, keys in by_need.items()]
    if told and lines:
        lines.append(f"> - {_named(told, most=1)} (see above)")
    elif told:
        head += f" {_named(told, most=1)} (see above)"
    return Markdown("\n".join([head, *lines]))


def not_recorded(missing: Mapping[Any, str]) -> Markdown:
    """What stands in the place of a figure or table that cannot be had here: what is missing, and what it needs.

    A captioned cell shows this rather than nothing, so that its caption, its number and the references to it stay.
    """
    return note_missing(missing) or Markdown("> **Not recorded.**")


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


def _versions(made: Mapping[str, Any]) -> dict[str, str]:
    import odinlib

    return {"odinlib": odinlib.__version__, "Python": made["python"], "PyTorch": made["torch"]}


def _options(given: Mapping[str, Any]) -> list[str]:
    """papermill's options for these parameters, quoted for a shell.

    >>> print(*_options({"profile": "demo", "epsilons": [0, 1e-05], "seed": None}))
    -p profile demo -y '{epsilons: [0, 1.0e-05]}' -p seed None
    """
    import yaml

    words = []
    for name, value in given.items():
        plain = value is None or isinstance(value, bool | int | float)
        if plain or (isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w.-]*", value) and parse(value) == value):
            words += ["-p", name, shlex.quote(str(value))]
        else:
            text = yaml.safe_dump({name: value}, default_flow_style=True, width=10**6).strip()
            words += ["-y", shlex.quote(text)]
    return words


def _page() -> str | None:
    """The file name of the running notebook: the one in `notebooks/` whose cells are those that have run."""
    run = [source.strip() for source in _history() if not source.startswith("# Parameters\n")]
    for path in sorted((_ROOT / "notebooks").glob("*.ipynb")):
        sources = ["".join(cell["source"]).strip() for cell in _code_cells(path)]
        if run and sources[: len(run)] == run:
            return path.name
    return None


def _code_cells(path: Path) -> Sequence[dict[str, Any]]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [other.name for other in path.parent.glob("*.ipynb")], n=1)
        raise UserError(f"there is no notebook {path}", remedy=f"did you mean {near[0]}?" if near else None) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a notebook ({type(error).__name__})") from error
    return [cell for cell in cells if cell["cell_type"] == "code"]
