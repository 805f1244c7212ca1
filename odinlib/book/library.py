"""The page *Library*: what every public function takes, gives and raises, by wing, from the docstrings themselves."""

import ast
import re
from collections.abc import Iterator
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


def public(module: str) -> list[str]:
    """The public functions and classes that a module defines itself and describes, in their order.

    >>> public("odinlib.compare")
    ['verdict', 'whole_interval', 'is_the_papers', 'comparison', 'by_another_recipe', 'printed_accuracy', 'causes']
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


def _directive(module: str, members: list[str]) -> str:
    listed = ", ".join(members)
    inside = f"```{{eval-rst}}\n.. automodule:: {module}\n   :members: {listed}\n```"
    return re.sub(r"\n{3,}", "\n\n", inside)
