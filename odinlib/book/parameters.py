"""The parameters of a page: what it declares, what it was given, and whether that can be.

A parameter of a name that a page does not have, of another type or out of range ends the page in one line. Its type is
that of the field of this name in `profiles.Profile`, else that of its default; the page itself names the types and
ranges of those that are its own.
"""

import ast
import difflib
import json
import re
import shlex
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from odinlib.errors import UserError, check_choice, check_number

#: What a page says of a parameter of its own: its type, or a check of its value, as `number` and `one_of` make them.
Rule = type | Callable[[str, Any], Any]
_NAMES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}


def number(**bounds: float) -> Rule:
    """The rule of a number, or of each number of a list: `at_least`, `above`, `at_most`, `below`.

    >>> number(above=0, below=1)("prior", 2)
    Traceback (most recent call last):
    odinlib.errors.UserError: prior is 2; expected a number above 0 and below 1
    """

    def check_value(name: str, value: Any) -> Any:
        return check_number(name, value, **bounds)

    return check_value


def one_of(choices: Iterable[str]) -> Rule:
    """The rule of a name out of several."""
    known = list(choices)
    return lambda name, value: check_choice(name, value, known)


def check(
    declared: Mapping[str, Any], given: Mapping[str, Any], rules: Mapping[str, Rule] | None = None
) -> dict[str, Any]:
    """Every declared parameter with its value: the given one, or its default.

    A whole number will do for a number, and text that reads as a list for a list: papermill's `-p` gives text only.
    Where the default is None, so will None.

    Args:
        declared: names and defaults.
        given: what was changed.
        rules: of parameters that are no field of `profiles.Profile`, or are the page's own all the same.

    Raises:
        UserError: a name that is not declared (with the nearest that is), a value of another type, or out of range.

    >>> check({"temperature": 1000.0, "networks": None}, {"networks": "[wrn-16-2, mlp-8x1]"})
    {'temperature': 1000.0, 'networks': ['wrn-16-2', 'mlp-8x1']}
    >>> check({"temperature": 1000.0}, {"temprature": 10})
    Traceback (most recent call last):
    odinlib.errors.UserError: parameter is 'temprature'; expected one of temperature; did you mean 'temperature'?
    >>> check({"networks": None}, {"networks": "wrn-16-2"})
    Traceback (most recent call last):
    odinlib.errors.UserError: networks is 'wrn-16-2'; expected a list; papermill takes it as -y '{networks: [wrn-16-2]}'
    """
    for name in given:
        check_choice("parameter", name, declared)
    return {
        name: _checked(name, given.get(name, default), default, (rules or {}).get(name))
        for name, default in declared.items()
    }


def _checked(name: str, value: Any, default: Any, rule: Rule | None) -> Any:
    kind = rule if isinstance(rule, type) else _field_kind(name)
    if kind is None and default is not None:
        kind = type(default)
    if value is None and default is None:
        return None
    if isinstance(value, str) and kind in (list, dict) and _is_a(kind, found := _read(value)):
        value = found
    if kind in _NAMES and not _is_a(kind, value):
        remedy = None
        if kind in (list, dict) and not isinstance(value, list | dict):
            items = [_read(part.strip(" []'\"")) for part in value.split(",")] if isinstance(value, str) else [value]
            remedy = f"papermill takes it as {' '.join(options({name: items}))}"
        raise UserError(f"{name} is {value!r}", expected=_NAMES[kind], remedy=remedy)
    if rule is not None and not isinstance(rule, type):
        several = list(value) if isinstance(value, list | tuple) else [value]
        if not several:
            raise UserError(f"{name} is empty", expected="at least one")
        for one in several:
            rule(name, one)
    return value


def _read(text: str) -> Any:
    """The value that a text means, else the text itself."""
    try:
        return parse(text)
    except UserError:
        return text


# --- In the file ------------------------------------------------------------------------------------------------------


def declared(notebook: str | Path) -> dict[str, Any]:
    """The parameters of a notebook file and their defaults.

    Raises:
        UserError: it is not there, is no notebook, or its `parameters` cell holds more than literals.
    """
    path = Path(notebook)
    for cell in code_cells(path):
        if "parameters" in cell["metadata"].get("tags", []):
            found = literals("".join(cell["source"]))
            if found is None:
                raise UserError(f"the parameters of {path} are not plain literals")
            return found
    return {}


def code_cells(path: Path) -> Sequence[dict[str, Any]]:
    """The code cells of a notebook file.

    Raises:
        UserError: it is not there, or is no notebook.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [other.name for other in path.parent.glob("*.ipynb")], n=1)
        raise UserError(f"there is no notebook {path}", remedy=f"did you mean {near[0]}?" if near else None) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a notebook ({type(error).__name__})") from error
    return [cell for cell in cells if cell["cell_type"] == "code"]


def literals(source: str) -> dict[str, Any] | None:
    """The names that a cell assigns, if it does nothing but assign literals.

    >>> literals("seed = 0  # of the noise\\nsets: list = ['gaussian']")
    {'seed': 0, 'sets': ['gaussian']}
    >>> literals("import os")
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


# --- On a command line ------------------------------------------------------------------------------------------------


def parse(text: str) -> Any:
    """A value as typed on the command line: a number, True, False, None, a list or mapping in YAML, or else text.

    >>> [parse(text) for text in ("10", "1e-3", "None", "[wrn-16-2, 1e-3]", "demo")]
    [10, 0.001, None, ['wrn-16-2', 0.001], 'demo']
    """
    import yaml

    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    if text == "None":
        return None
    try:
        found = yaml.safe_load(text)
        # YAML takes 1e-3 for text.
        return [parse(one) if isinstance(one, str) else one for one in found] if isinstance(found, list) else found
    except yaml.YAMLError as error:
        raise UserError(f"cannot read the value {text!r}", expected="a literal, or a list as in '[a, b]'") from error


def options(given: Mapping[str, Any]) -> list[str]:
    """papermill's options for these parameters, quoted for a shell.

    >>> print(*options({"profile": "demo", "epsilons": [0, 1e-05], "seed": None}))
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


# --- Types ------------------------------------------------------------------------------------------------------------


def _is_a(kind: type, value: Any) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, int | float)
    if kind is dict:  # one list for all keys will do
        return isinstance(value, dict | list | tuple)
    return isinstance(value, list | tuple if kind is list else kind)


def _field_kind(name: str) -> type | None:
    """The type of the profile's field `name`, or of one entry of the field that it is the singular of."""
    from odinlib import profiles

    fields = typing.get_type_hints(profiles.Profile)
    if name in fields:
        return _kind(fields[name])
    many = fields.get(profiles.SINGULAR.get(name, ""))
    while many is not None and typing.get_args(many):
        many = [part for part in typing.get_args(many) if part is not Ellipsis][-1]
    return _kind(many)


def _kind(annotation: Any) -> type | None:
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not types.NoneType)
    origin = typing.get_origin(annotation) or annotation
    return {tuple: list, Mapping: dict}.get(origin, origin)
