"""The book's source: which executed pages stand where, and under which names.

The main pages lie in `book/notebooks/`. Where the book shows the record, the demo's pages stand beside them in
`book/live/`, a part of its own: the same notebooks, run on this machine. Names of figures, tables and equations are
unique in a book, so there they all begin with `live-`; `book/_ext/papernumbers.py` gives both the paper's number.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from odinlib.book import folding
from odinlib.book.parameters import declared

#: For each kind of book, the profiles of its main pages and of its live pages.
KINDS: dict[str, tuple[str, str | None]] = {
    "both": ("paper", "demo"),
    "record": ("paper", None),
    "demo": ("demo", None),
}
LIVE = "live-"
_EQUATION = re.compile(r"^(\$\$ ?)\(([\w-]+)\)", re.MULTILINE)
_TARGET = re.compile(r"^\(([\w-]+)\)=", re.MULTILINE)
_ROLE = re.compile(r"(\{(?:numref|eq|ref)\}`)([\w-]+)(?=`)")
_ANCHOR = re.compile(r"(\]\(#)([\w-]+)(?=\))")
_PAGE = re.compile(r"(\]\()([\w-]+)(?=\.ipynb[)#])")


def has_profile(page: str | Path) -> bool:
    """Whether the notebook is run once for each profile."""
    return "profile" in declared(page)


def executed(page: str, profile: str) -> str:
    """Where the executed page of a profile lies; one without a profile is run once for all."""
    return f"build/pages/{profile if has_profile(f'notebooks/{page}.ipynb') else 'any'}/{page}.ipynb"


def pages(kind: str, names: Iterable[str]) -> list[str]:
    """The executed pages that a kind of book shows."""
    main, live = KINDS[kind]
    names = list(names)
    shown_live = [name for name in names if live and has_profile(f"notebooks/{name}.ipynb")]
    return [executed(name, main) for name in names] + [executed(name, str(live)) for name in shown_live]


def lay_out(kind: str, root: Path) -> Path:
    """Put the executed pages where Jupyter Book looks for them, and write the table of contents that lists them.

    A page that has not changed is not touched, so that only what changed is rendered again.

    Args:
        kind: one of :data:`KINDS`.
        root: the checkout.

    Returns:
        The table of contents.
    """
    main, live = KINDS[kind]
    book = root / "book"
    names = sorted(path.stem for path in (root / "notebooks").glob("*.ipynb"))
    shown = [name for name in names if has_profile(root / f"notebooks/{name}.ipynb")]
    main_pages = {name: _read(root / executed(name, main)) for name in names}
    live_pages = {name: _read(root / executed(name, live)) for name in shown} if live else {}
    own = set().union(*(labels(page) for page in live_pages.values()))
    found = {}
    for folder, prefix, made in (("notebooks", "", main_pages), ("live", LIVE, live_pages)):
        for name, page in made.items():
            page = relabelled(page, own, set(shown)) if prefix else page
            folding.fold(page)
            folding.gather_missing(page, f"{prefix}missing-{name.lower()}", "../notebooks/07-conclusions.ipynb")
            found[f"{folder}/{name}.ipynb"] = json.dumps(page, indent=1) + "\n"
    for folder in ("notebooks", "live"):
        for path in (book / folder).glob("*"):
            if f"{folder}/{path.name}" not in found:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    for place, text in found.items():
        _write(book / place, text)
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    if live:
        order = [Path(chapter["file"]) for part in toc["parts"] for chapter in part["chapters"]]
        chapters = [{"file": f"live/{path.name}"} for path in order if path.name in shown]
        toc["parts"].append({"caption": "Live on this machine", "chapters": chapters})
    path = (root / "build" / "toc.yml").resolve()  # Sphinx takes a relative one from the book's folder
    _write(path, yaml.safe_dump(toc, sort_keys=False))
    return path


def labels(page: Mapping[str, Any]) -> set[str]:
    """The names that a notebook gives: of captioned cells, equations and headings.

    >>> cell = {"cell_type": "markdown", "source": "(why)=\\n\\n$$\\nx\\n$$ (eq-1)\\n", "metadata": {}}
    >>> sorted(labels({"cells": [cell]}))
    ['eq-1', 'why']
    """
    found = set()
    for cell in page["cells"]:
        figure = cell["metadata"].get("mystnb", {}).get("figure")
        if figure:
            found.add(figure["name"])
        if cell["cell_type"] == "markdown":
            source = "".join(cell["source"])
            found |= {label for _, label in _EQUATION.findall(source)} | set(_TARGET.findall(source))
    return found


def relabelled(page: dict[str, Any], own: set[str], beside: set[str]) -> dict[str, Any]:
    """A copy of an executed notebook as a live page.

    Args:
        page: as read from JSON.
        own: the names that live pages give, which all begin with `live-` there.
        beside: the pages that have a live page; links to others lead to the main ones.
    """

    def label(name: str) -> str:
        return LIVE + name if name in own else name

    def text(source: str) -> str:
        source = _EQUATION.sub(lambda m: f"{m[1]}({label(m[2])})", source)
        source = _TARGET.sub(lambda m: f"({label(m[1])})=", source)
        source = _ROLE.sub(lambda m: m[1] + label(m[2]), source)
        source = _ANCHOR.sub(lambda m: m[1] + label(m[2]), source)
        return _PAGE.sub(lambda m: m[0] if m[2] in beside else f"{m[1]}../notebooks/{m[2]}", source)

    page = json.loads(json.dumps(page))
    titled = False
    for cell in page["cells"]:
        figure = cell["metadata"].get("mystnb", {}).get("figure")
        if figure:
            figure.update(name=label(figure["name"]), caption=text(figure["caption"]))
        if cell["cell_type"] == "markdown":
            cell["source"] = text("".join(cell["source"]))
            if not titled:
                cell["source"] = re.sub(r"\A(# .*)$", r"\1 (live)", cell["source"], count=1, flags=re.MULTILINE)
                titled = True
        for output in cell.get("outputs", []):
            markdown = output.get("data", {}).get("text/markdown")
            if markdown:
                output["data"]["text/markdown"] = text("".join(markdown))
    return page


def _read(path: Path) -> dict[str, Any]:
    page: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return page


def _write(path: Path, text: str) -> None:
    """Write a file only if that changes it: Sphinx goes by the time of the last change."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    print(lay_out(sys.argv[1], Path()))
