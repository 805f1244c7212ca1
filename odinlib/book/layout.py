"""The book's source: which executed pages stand where, and under which names.

The main pages lie in `book/notebooks/`. Where the book shows the record, the demo's pages stand beside them in
`book/live/`, a part of its own: the same notebooks, run on this machine. Names of figures, tables and equations are
unique in a book, so there they all begin with `live-`; `book/_ext/papernumbers.py` gives both the paper's number.
"""

import dataclasses
import json
import re
import sys
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from odinlib.book import citation, contents, explorer, folding, library
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
_MARKER = re.compile(r'<use [^>]*?style="([^"]*)"')
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


def lay_out(kind: str, root: Path, book: Path | None = None) -> Path:
    """Put the executed pages where Jupyter Book looks for them, with the pages that follow from them all.

    Under the book's folder: `notebooks/` and `live/` the pages, `pages/` those made here, `data/` every figure's
    numbers. What has not changed is not touched, so that only what changed is rendered again.

    Args:
        kind: one of :data:`KINDS`.
        root: the checkout.
        book: the book's folder; `book/` of the checkout if None.

    Returns:
        The table of contents.
    """
    main, live = KINDS[kind]
    book = book or root / "book"
    names = sorted(path.stem for path in (root / "notebooks").glob("*.ipynb"))
    shown = [name for name in names if has_profile(root / f"notebooks/{name}.ipynb")]
    main_pages = {name: _read(root / executed(name, main)) for name in names}
    live_pages = {name: _read(root / executed(name, live)) for name in shown} if live else {}
    own = set().union(*(labels(page) for page in live_pages.values()))
    tool = _explorers(root, main)
    address = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    found = {
        f"data/web/explorer-data/{p}": t for key, one in tool.items() for p, t in explorer.scripts(key, one).items()
    }
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    order = [Path(chapter["file"]).name for part in toc["parts"] for chapter in part["chapters"]]
    found |= _made_pages(kind, {name: main_pages[name] for name in order if name in main_pages}, tool)
    found |= _of_the_project(root)
    for folder, prefix, made in (("notebooks", "", main_pages), ("live", LIVE, live_pages)):
        for name, page in made.items():
            page = relabelled(page, own, set(shown)) if prefix else page
            found |= _numbers(page)
            finish(
                page,
                name,
                prefix,
                other=name in live_pages,
                tool=explorer.place(tool, "../", small=True),
                address=address,
            )
            found[f"{folder}/{name}.ipynb"] = json.dumps(page, indent=1) + "\n"
    for name in names:
        found[f"data/source/{name}.ipynb"] = (root / f"notebooks/{name}.ipynb").read_text(encoding="utf-8")
    if live:
        pages_live = [name for name in order if name in shown]
        found["live/index.md"] = LIVE_PAGE + "".join(
            f"* [{contents.title(live_pages[n])}]({n}.ipynb)\n" for n in pages_live
        )
        sections = [{"file": f"live/{name}"} for name in pages_live]
        toc["parts"].append(
            {"caption": "Live on this machine", "chapters": [{"file": "live/index", "sections": sections}]}
        )
    for folder in MADE:
        for path in (book / folder).rglob("*"):
            if path.is_file() and path.relative_to(book).as_posix() not in found:
                path.unlink()
    for place, text in found.items():
        _write(book / place, text)
    path = (root / "build" / f"toc-{kind}.yml").resolve()  # Sphinx takes a relative one from the book's folder
    _write(path, yaml.safe_dump(toc, sort_keys=False))
    return path


#: Folders of the book that hold nothing but what is laid out here.
MADE = ("notebooks", "live", "pages", "data")
LIVE_PAGE = """# Live on this machine

Every page of the book once more, with the *demo*: embedded images and small networks, all of it trained, perturbed,
tuned and tested where this book was made. Nothing here was recorded, and none of its numbers is the paper's.

"""


def finish(
    page: dict[str, Any], name: str, prefix: str = "", *, other: bool = False, tool: str = "", address: str = ""
) -> None:
    """Make an executed page one that reads well: folded, with its switch, its links, its explorer and its foot.

    Args:
        page: as read from JSON; it is changed.
        name: of the notebook.
        prefix: of the names that it gives, `live-` or nothing.
        other: whether there is a page of the other kind, to switch to.
        tool: the HTML of an explorer, for a cell whose metadata ask for one.
        address: of the repository, if it has one: then the page can be opened on Colab, where nothing is installed.
    """
    made = f"{prefix}made-{name.lower()}"
    folding.fold(page)
    folding.lift_finding(page, prefix)
    folding.gather_missing(page, f"{prefix}missing-{name.lower()}", "../notebooks/coverage.ipynb")
    cells = []
    known = library.imported("\n".join("".join(one["source"]) for one in page["cells"] if _is_code(one)))
    for cell in page["cells"]:
        figure = cell["metadata"].get("mystnb", {}).get("figure")
        if figure:
            code = library.maker("".join(cell["source"]), known)
            links = [f"{{py:obj}}`code <{code}>`"] * (code is not None)
            if any(output.get("data", {}).get("text/csv") for output in cell["outputs"]):
                links.append(f"{{download}}`numbers (CSV) <../data/{figure['name']}.csv>`")
            figure["caption"] += f" *{' · '.join([*links, f'[run](#{made})'])}*"
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop("text/csv", None)
            if "image/svg+xml" in data:
                data["image/svg+xml"] = shorter("".join(data["image/svg+xml"]))
        cells.append(cell)
        if tool and cell["metadata"].get("odin", {}).get("explorer"):
            cells.append(folding.markdown(f"```{{raw}} html\n{tool}\n```\n\n{EXPLORER_LINE}"))
    page["cells"] = cells
    source = "the notebook" if not prefix else "the notebook (the same as the record's)"
    foot = (
        f"({made})=\n## Run this page yourself\n\nDownload {{download}}`{source} <../data/source/{name}.ipynb>`; "
        "its first code cell lists the parameters.\n"
    )
    if address:
        foot += COLAB.format(address=address)
    page["cells"].insert(folding.foot(page), folding.markdown(foot))
    if other:
        here, there = ("record", "live") if not prefix else ("live", "notebooks")
        line = (
            f"**From the record** · [the same, live on this machine](../{there}/{name}.ipynb)"
            if here == "record"
            else f"[From the record](../{there}/{name}.ipynb) · **live on this machine**"
        )
        first = page["cells"][0]
        title, _, rest = "".join(first["source"]).partition("\n")
        first["source"] = f"{title}\n\n:::{{div}} switch\n{line}\n:::\n{rest}"
    for place, cell in enumerate(page["cells"]):
        cell.setdefault("id", f"cell-{place}-{zlib.crc32(str(cell['source']).encode()):08x}")


COLAB = """
The rocket at the page's top opens it on Binder, ready to run, or on Colab, where this comes first, in its own cell:

```ipython
!git clone --depth 1 {address} odin && pip install -q './odin[book]'
%cd odin
```
"""


def _is_code(cell: dict[str, Any]) -> bool:
    return bool(cell["cell_type"] == "code") and not "".join(cell["source"]).lstrip().startswith(("!", "%"))


EXPLORER_LINE = "The [explorer](../pages/explorer.md) has it larger, with the ROC curve and the counts of images.\n"


def shorter(svg: str) -> str:
    """An SVG whose coordinates have two decimals and whose markers have their style by name; its text is not touched.

    >>> shorter('<path d="M 1.23456 2 L 3 4"/><text x="0.123456">0.12345</text>')
    '<path d="M1.23 2L3 4"/><text x="0.12">0.12345</text>'
    >>> shorter('<style>*{}</style>' + '<use style="fill: red"/>' * 2)
    '<style>*{} .s0{fill: red}</style><use class="s0"/><use class="s0"/>'
    """

    def rounded(found: re.Match[str]) -> str:
        return re.sub(r"(\.\d\d)\d+", r"\1", re.sub(r"\s*\b([MLQCz])\b\s*", r"\1", found[0]))

    svg = re.sub(r'\b(?:d|x|y|points|transform|width|height)="[^"]*"', rounded, svg)
    styles = {style: f"s{place}" for place, style in enumerate(dict.fromkeys(_MARKER.findall(svg)))}
    svg = _MARKER.sub(lambda found: found[0].replace(f'style="{found[1]}"', f'class="{styles[found[1]]}"'), svg)
    rules = "".join(f" .{name}{{{style}}}" for style, name in styles.items())
    return svg.replace("</style>", f"{rules}</style>", 1)


def _numbers(page: dict[str, Any]) -> dict[str, str]:
    """The files of a page's captioned figures and tables: their numbers, and a picture's SVG."""
    found = {}
    for one in contents.artefacts({"": page}):
        if one.numbers:
            found[f"data/{one.name}.csv"] = one.numbers
        if one.picture and not one.name.startswith(LIVE):
            found[f"data/{one.name}.svg"] = shorter(one.picture)
    return found


def _made_pages(kind: str, pages: Mapping[str, dict[str, Any]], tool: dict[str, Any]) -> dict[str, str]:
    """The pages that follow from all others: by their place in the book's folder."""
    from odinlib import profiles

    profile = profiles.get(KINDS[kind][0])
    artefacts, claims = contents.artefacts(pages), contents.claims_of(pages)
    source = f"Made with the profile *{profile.name}*: {profile.title}" + (
        "." if profile.compute else ", read from the record that comes with this book."
    )
    return {
        "pages/figures.md": contents.index_page(artefacts, claims, source),
        "pages/explorer.md": EXPLORER_PAGE + f"```{{raw}} html\n{explorer.place(tool, '../')}\n```\n",
        "pages/library.md": library.page(),
        "data/answer.md": contents.answer(artefacts, claims, profile),
        "data/method.md": contents.method(),
    }


def _of_the_project(root: Path) -> dict[str, str]:
    """How to cite, and what changed: from the files that a checkout has for it."""
    cff = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    return {
        "data/cite.md": citation.section(cff),
        "data/odin.bib": "\n".join(citation.entries(cff)),
        "pages/changelog.md": (root / "CHANGELOG.md").read_text(encoding="utf-8"),
    }


EXPLORER_PAGE = """# Explorer

Turn both of the detector's knobs, the temperature $T$ and the perturbation magnitude $\\varepsilon$, over the grid that
they are chosen from, and move the threshold $\\delta$. The images are the *held-out* ones of each set, those that $T$
and $\\varepsilon$ are chosen on; the numbers of [Table 2](#table-2) are of other images of the same sets. Turning a
knob takes the threshold along, to where 95 % of the familiar images are accepted.

"""


def _explorers(root: Path, profile: str) -> dict[str, Any]:
    """The explorer's data of a profile, kept while the record is as it was."""
    from odinlib import profiles

    chosen = dataclasses.replace(profiles.get(profile), compute=False)
    files = sorted(chosen.folder.glob("grids/*/*.npz"))
    state = f"{explorer.LEVELS} {zlib.crc32(Path(explorer.__file__).read_bytes())} " + " ".join(
        f"{path.parent.name}/{path.name}:{path.stat().st_size}" for path in files
    )
    kept = root / "build" / f"explorer-{profile}.json"
    if kept.exists() and (found := json.loads(kept.read_text(encoding="utf-8")))["state"] == state:
        return dict(found["networks"])
    networks = explorer.networks(chosen) if files else {}
    _write(kept, json.dumps({"state": state, "networks": networks}))
    return networks


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
