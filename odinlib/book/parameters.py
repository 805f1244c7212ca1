"""The parameters of a page: what it declares, what it was given, and whether that can be.

A parameter of a name that a page does not have, of another type or out of range ends the page in one line. Its type is
that of the field of this name in `profiles.Profile`, else that of its default; the page itself names the types and
ranges of those that are its own.
"""

import ast
import difflib
import functools
import json
import re
import shlex
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from odinlib.errors import UserError, check_choice, check_number, in_words, reading

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

    check_value.number = True  # type: ignore[attr-defined]
    return check_value


def text(name: str, value: Any) -> Any:
    """The rule of free text, such as the name of a folder. Of `2024` papermill's `-p` makes a number; it is taken back.

    >>> check({"folder": None}, {"folder": 2024}, {"folder": text})
    {'folder': '2024'}
    """
    if not isinstance(value, str):
        raise UserError(f"{name} is {value!r}", expected="text", remedy=f"papermill takes it as -r {name} TEXT")
    return value


def one_of(choices: Iterable[str]) -> Rule:
    """The rule of a name out of several."""
    known = list(choices)
    return lambda name, value: check_choice(name, value, known)


def check(
    declared: Mapping[str, Any], given: Mapping[str, Any], rules: Mapping[str, Rule] | None = None
) -> dict[str, Any]:
    """Every declared parameter with its value: the given one, or its default.

    A whole number will do for a number, and text that reads as a list for a list: papermill's `-p` gives text only. So
    will `1e-3`, which YAML takes for text, wherever a number is; and a whole number where a page of its own has text,
    as the name of a folder. Where the default is None, so will None.

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
    >>> check({"std": None}, {"std": "[0.2, 0.3, 0.2]"}, {"std": number(above=0)})
    {'std': [0.2, 0.3, 0.2]}
    >>> check({"std": None}, {"std": "0.2,0.3,0.2"}, {"std": number(above=0)})
    Traceback (most recent call last):
    odinlib.errors.UserError: std is '0.2,0.3,0.2'; expected a list; papermill takes it as -y '{std: [0.2, 0.3, 0.2]}'
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
    if kind is None and getattr(rule, "number", False) and isinstance(value, str) and re.search(r"[\[,]", value):
        kind = list  # a number or several of them will do, and this is meant as several
    if isinstance(value, str) and kind in (list, dict) and _is_a(kind, found := _read(value)):
        value = found
    if rule is text and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if _is_number(name, kind, default, rule):
        value = [_number(one) for one in value] if isinstance(value, list | tuple) else _number(value)
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
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


_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def _is_number(name: str, kind: Any, default: Any, rule: Rule | None) -> bool:
    """Whether a parameter is a number, or a list of numbers."""
    items = [default, *default] if isinstance(default, list | tuple) else [default]
    numbers = any(isinstance(one, int | float) and not isinstance(one, bool) for one in items)
    return kind in (int, float) or numbers or getattr(rule, "number", False) or _field_item(name) in (int, float)


def _number(value: Any) -> Any:
    """The number that text with an exponent means; anything else as it is."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


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
        if "parameters" in cell["tags"]:
            found = literals(cell["source"])
            if found is None:
                raise UserError(f"the parameters of {path} are not plain literals")
            return found
    return {}


def code_cells(path: Path) -> Sequence[dict[str, Any]]:
    """The code cells of a notebook file: `source` and `tags` of each.

    Raises:
        UserError: it is not there, or is no notebook.
    """
    try:
        with reading(path):
            held = path.read_bytes()
        cells = [cell for cell in json.loads(held)["cells"] if cell["cell_type"] == "code"]
        return [{"source": "".join(one["source"]), "tags": list(one["metadata"].get("tags", []))} for one in cells]
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [other.name for other in path.parent.glob("*.ipynb")], n=1)
        raise UserError(f"there is no notebook {path}", remedy=f"did you mean {near[0]}?" if near else None) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not a notebook ({in_words(error)})") from error


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

    Of YAML's own scalars only those are anything but text: no dates, no octal numbers, no `no` for False.

    >>> [parse(text) for text in ("10", "1e-3", "None", "[wrn-16-2, 1e-3]", "demo", "2024-05-01", "{a: [no, 010]}")]
    [10, 0.001, None, ['wrn-16-2', 0.001], 'demo', '2024-05-01', {'a': ['no', 10]}]
    """
    import yaml

    try:
        found = yaml.load(text, _loader())  # a SafeLoader, which makes no objects
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if text.lstrip()[:1] in ("[", "{", "!", "&", "*"):
            raise UserError(
                f"cannot read the value {text!r}", expected="a literal, or a list as in '[a, b]'"
            ) from error
        return text
    return found if not isinstance(found, str) and (text.strip() or found is not None) else text


@functools.cache
def _loader() -> Any:
    """A loader of YAML whose scalars are those of a command line."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers: typing.ClassVar[dict[str, Any]] = {}

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()  # with aliases of aliases a short line means more than any memory holds
            if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
                raise yaml.YAMLError("aliases and tags are not for a command line")
            return super().compose_node(parent, index)

    kinds: dict[str, tuple[str, Callable[[str], Any]]] = {
        "null": (r"None|null", lambda text: None),
        "bool": (r"True|False|true|false", lambda text: text.lower() == "true"),
        "int": (r"[-+]?\d+", int),
        "float": (rf"{_EXPONENT.pattern}|[-+]?(?:\d+\.\d*|\.\d+|inf|nan|\.inf|\.nan)", _float),
    }
    for name, (pattern, read) in kinds.items():
        tag = f"tag:yaml.org,2002:{name}"
        Loader.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), None)
        Loader.add_constructor(tag, lambda loader, node, read=read: read(node.value))
    return Loader


def _float(text: str) -> float:
    """A float of Python's or YAML's, which writes `.inf` and `.nan`."""
    return float(re.sub(r"\.(?=inf|nan)", "", text))


def of_command_line(notebook: str | Path, given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parameters as typed after `-p`, read by what the page declares: text stays text, `2024` and `1e3` too.

    Raises:
        UserError: there is no such notebook, or a value cannot be read.
    """
    texts = _texts(Path(notebook))
    is_text = {name: name in texts or _field_kind(name) is str for name, _ in given}
    return {name: value if is_text[name] and value != "None" else parse(value) for name, value in given}


def _texts(path: Path) -> set[str]:
    """The parameters that a page names as text, in its call of `page.begin`."""
    found = set()
    for cell in code_cells(path):
        if "begin(" not in cell["source"]:
            continue
        try:
            calls = [node for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, ast.Call)]
        except SyntaxError:
            continue
        for call in calls:
            match call.func:
                case ast.Attribute(attr="begin"):
                    found |= {word.arg for word in call.keywords if word.arg and _is_text(word.value)}
                case ast.Attribute(value=ast.Name("dict"), attr="fromkeys") if _is_text(call.args[-1]):
                    found |= set(ast.literal_eval(call.args[0]))
    return found


def _is_text(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
    return name in ("str", "text")


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


def _field_item(name: str) -> type | None:
    """The type of one entry of the profile's field `name`, where it is a list."""
    from odinlib import profiles

    hint = typing.get_type_hints(profiles.Profile).get(name)
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is not tuple:
        return None
    item = typing.get_args(hint)[0]
    return item if isinstance(item, type) else None


def _kind(annotation: Any) -> type | None:
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not types.NoneType)
    origin = typing.get_origin(annotation) or annotation
    return {tuple: list, Mapping: dict}.get(origin, origin)
