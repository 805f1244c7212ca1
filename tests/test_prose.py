"""What the project says is written in words, and not in two of them run together."""

import ast
import collections
import json
import re
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parent.parent
#: Words of one's own that are made of two others.
COMPOUND = {
    "archiveprefix",
    "booktitle",
    "changelog",
    "fromkeys",
    "imagefiles",
    "overstatements",
    "overtakes",
    "scorecard",
    "torchrun",
}
_WORD = re.compile(r"(?<![\w`./-])[A-Za-z][a-z]+(?![\w/=(-])")  # but not CamelCase, paths and calls


def strings(source: str) -> str:
    """All that a module says in strings, literals that stand beside each other joined as Python joins them."""
    found = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return "\n".join(value for value in found if isinstance(value, str))


def prose() -> dict[str, str]:
    """What each file of the project says: Markdown, the pages' text, strings in code and in tables."""
    told = {str(path): path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("odinlib/**/*.csv")]}
    for path in [*ROOT.glob("odinlib/**/*.py"), *ROOT.glob("data_scripts/*.py")]:
        told[str(path)] = strings(path.read_text())
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = [("".join(cell["source"]), cell["cell_type"]) for cell in json.loads(path.read_text())["cells"]]
        told[str(path)] = "\n".join(text if kind == "markdown" else strings(text) for text, kind in cells)
    return told


def english() -> set[str]:
    """Words in use elsewhere: what the documentation of some installed packages is written in."""
    site, words = Path(numpy.__file__).parent.parent, set()
    for name in ("numpy", "pandas", "sklearn", "matplotlib", "torch/nn", "torch/optim"):
        for path in (site / name).rglob("*.py"):
            if "tests" not in path.parts:
                words.update(map(str.lower, _WORD.findall(path.read_text(errors="ignore"))))
    return words


def run_together(told: dict[str, str], known: set[str]) -> dict[str, str]:
    """Words that stand in one file alone, that nobody else uses, and that are two well-known words: word to file."""
    files = collections.defaultdict(set)
    for file, text in told.items():
        for word in _WORD.findall(text):
            files[word.lower()].add(file)
    usual = {word for word, places in files.items() if len(places) >= 3}
    rare = {word: min(places) for word, places in files.items() if len(places) == 1 and len(word) > 4}
    return {
        word: file
        for word, file in rare.items()
        if word not in known and any(word[:i] in usual and word[i:] in usual for i in range(2, len(word) - 1))
    }


def test_no_words_are_run_together():
    found = run_together(prose(), english() | COMPOUND)
    assert not found, f"two words without a space, or a word for COMPOUND: {found}"


def test_words_run_together_are_found():
    told, known = prose(), english()
    spoilt = strings('print(f"The perturbation adds nothing" f"here; its" "own rate is {rate}")')
    assert run_together({**told, "spoilt": spoilt}, known | COMPOUND) == {"nothinghere": "spoilt", "itsown": "spoilt"}
