"""The house that CONTRIBUTING draws: what may import what, and what the package shows of itself."""

import ast
import collections
import re
import subprocess
import sys
from pathlib import Path

import odinlib
from odinlib.book import library

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TABLE = TEXT.partition("## The house")[2].partition("\n\nMost functions")[0]
WINGS = [re.findall(r"`([a-z_]+)/?`", row.split("|")[1]) for row in TABLE.splitlines() if row.startswith("| `")]
PLACE = {name: place for place, names in enumerate(WINGS) for name in names}


def imported(path):
    """The top modules of the package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "odinlib":
            parts = node.module.split(".")
            yield from parts[1:2] or [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("odinlib."))


def test_a_wing_imports_only_from_those_above_it():
    package = Path(odinlib.__file__).parent
    files = {path: path.relative_to(package).parts[0].removesuffix(".py") for path in package.rglob("*.py")}
    assert {own for own in files.values() if own != "__init__"} == PLACE.keys()
    below = [
        f"{path.relative_to(package)} imports {name}"
        for path, own in files.items()
        for name in imported(path)
        if own in PLACE and PLACE.get(name, -1) > PLACE[own]
    ]
    assert not below


def test_the_package_shows_what_there_is_and_nothing_twice():
    assert sorted(odinlib.__all__) == odinlib.__all__ and {*odinlib.__all__, "__version__"} == set(dir(odinlib))
    wings = {name for names in library.WINGS.values() for name in names}
    assert set(odinlib.__all__) == {"ODIN", *wings}
    assert odinlib.ODIN is odinlib.odin.ODIN and odinlib.own.read_folder
    assert not hasattr(odinlib, "odim")


def test_the_package_itself_is_imported_without_pytorch():
    done = subprocess.run([sys.executable, "-c", "import odinlib, sys; sys.exit('torch' in sys.modules)"], timeout=60)
    assert done.returncode == 0


def test_nothing_is_there_for_its_tests_alone():
    """Every public function is used by the library, a page, a script or the book, not only where it is defined."""
    places = ("odinlib/**/*.py", "notebooks/*.ipynb", "data_scripts/*.py", "benchmarks/*.py", "book/_ext/*.py")
    files = [*(path for place in places for path in ROOT.glob(place)), ROOT / "Snakefile"]
    words = collections.Counter(re.findall(r"\w+", "\n".join(path.read_text(encoding="utf-8") for path in files)))
    defined = {
        node.name
        for path in ROOT.glob("odinlib/**/*.py")
        if path.name != "cli.py"  # its functions are commands
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    # Equation 3 by itself: what `limits.remainder`, which never subtracts it from the score, is tested against.
    assert {name for name in defined if words[name] == 1} <= {"truncated_score"}
