"""The page *Library*: what every public function takes, gives and raises, by wing, from the docstrings themselves."""

import ast
import functools
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
#: The house of CONTRIBUTING, from the method outwards; a package stands for its modules.
WINGS = {
    "The method, and what it is measured by": ("odin", "metrics", "moments", "detectors"),
    "A network and images of your own": ("own",),
    "Data sets": ("datasets",),
    "Networks": ("networks",),
    "The paper's own numbers": ("reference", "names"),
    "Profiles, weights and what is recorded": ("profiles", "trained", "store", "record"),
    "The protocol, and the comparison with the paper": ("experiments", "compare"),
    "What the sections and appendices measure": ("measure", "theory"),
    "Tables and figures": ("tables", "figures"),
    "Foundations": ("errors", "devices", "artefacts", "splits"),
}
HEAD = """# Library

What every public function and class of `odinlib` takes, gives and raises, with the paper's equation or section where
it has one: the docstrings of the code itself, wing by wing, the method first. `odinlib/odin.py` is written to be read
from top to bottom, beside [Section 3](../notebooks/03-odin.ipynb).
"""


def page() -> str:
    """The page in MyST: a directive of Sphinx's autodoc for each module, under the wing's heading."""
    blocks = [HEAD]
    for wing, names in WINGS.items():
        blocks.append(f"## {wing}\n")
        for module in (module for name in names for module in modules(name)):
            members = public(module)
            if members:
                blocks.append(f"### `{module}`\n\n{_directive(module, members)}\n")
    return "\n".join(blocks)


def modules(name: str) -> Iterator[str]:
    """A module of the package by its name, or all public ones of a wing."""
    path = _PACKAGE / name
    if path.with_suffix(".py").exists():
        yield f"odinlib.{name}"
        return
    for file in sorted(path.rglob("*.py")):
        parts = file.relative_to(_PACKAGE).with_suffix("").parts
        if not any(part.startswith("_") and part != "__init__" for part in parts):
            yield ".".join(["odinlib", *(part for part in parts if part != "__init__")])


@functools.cache
def public(module: str) -> list[str]:
    """The public functions and classes that a module defines itself and describes, in their order.

    >>> public("odinlib.compare")[0]
    'verdict'
    """
    path = _PACKAGE.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is not None
    ]


def maker(source: str, names: Mapping[str, str]) -> str | None:
    """The documented function that makes what a cell shows: of those that it calls, a table's or figure's first.

    Args:
        source: of the cell.
        names: of `imported`.

    Returns:
        Such as `odinlib.tables.detection_table`; None if the cell calls none.

    >>> maker("tables.plain(odin.perturb(x, g, 1))", imported("from odinlib import odin, tables"))
    'odinlib.odin.perturb'
    """
    called = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            found = getattr(importlib.import_module(names[node.value.id]), node.attr, None)
            module, name = getattr(found, "__module__", None) or "", getattr(found, "__name__", "")
            if module.startswith("odinlib.") and name in public(module) and name != "plain":
                called.append(f"{module}.{name}")
    shown = [name for name in called if name.startswith(("odinlib.tables.", "odinlib.figures."))]
    return next(iter([*shown, *called]), None)


def imported(source: str) -> dict[str, str]:
    """The modules of the package that a page's code imports, by the names that it has for them.

    >>> imported("from odinlib import odin\\nfrom odinlib.figures import theory as drawn")
    {'odin': 'odinlib.odin', 'drawn': 'odinlib.figures.theory'}
    """
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "odinlib"
        for alias in node.names
        if _is_module(f"{node.module}.{alias.name}") and ".book" not in str(node.module)
    }


def _is_module(name: str) -> bool:
    path = _PACKAGE.joinpath(*name.split(".")[1:])
    return path.with_suffix(".py").exists() or path.is_dir()


def _directive(module: str, members: list[str]) -> str:
    listed = ", ".join(members)
    inside = f"```{{eval-rst}}\n.. automodule:: {module}\n   :members: {listed}\n```"
    return re.sub(r"\n{3,}", "\n\n", inside)
