"""What a reader's browser gets beside the theme: tables that can be scrolled by keyboard, folds that say what they
open, a search that finds figures.
"""

import html
import re
import zlib
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

#: What the theme does not tell a screen reader.
THEME = {
    '<div class="sidebar-primary-items__start sidebar-primary__section">': (
        '<div class="sidebar-primary-items__start sidebar-primary__section" role="navigation" aria-label="The book">'
    ),
    '<summary><span class="toctree-toggle" role="presentation">': (
        '<summary aria-label="Pages of this part"><span class="toctree-toggle">'
    ),
}
#: The name that a screen reader says has to hold what is to be read on the button.
SEARCH_BUTTON = re.compile(r'(<button class="btn search-button-field[^>]*?) aria-label="Search"')
_EMPTY_HEADER = re.compile(r'<th( class="(?:blank|index_name)[^"]*")\s*>(?:&nbsp;|\s)*</th>')
_IDENTITY = re.compile(r' id="T_[^"]*"')
_NUMBERED = re.compile(r"(figure|table)-(\d+[a-z]?|G)$", re.IGNORECASE)
_THEME_TABLE = re.compile(r'(<div class="pst-scrollable-table-container")>')
_EMPTY_HEAD = re.compile(r'<th( class="head[^"]*")>(?:\s|<p>\s*</p>)*</th>')
_FORMULA_HEAD = re.compile(r'<th( class="head[^"]*")>(<p><span class="math[^"]*">\\\(([^<"]*)\\\)</span></p>)')
_PICTURE = re.compile(r'(<figure class="align-default"[^>]*>\s*)(<img [^>]*>)')
_FORMULA = re.compile(r'(<div class="(?:amsmath )?math[^"]*")([^>]*>)')


class ScrollTables(SphinxPostTransform):
    """Put every table that a cell shows into a region of its own, which scrolls and which a keyboard reaches."""

    default_priority = 500
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        count = 0
        for node in list(self.document.findall(nodes.raw)):
            text = node.astext()
            if node.get("format") != "html" or "<table" not in text:
                continue
            count += 1
            if "#T_" not in text:  # no style of a cell refers to them
                text = _IDENTITY.sub("", text)
            text = _EMPTY_HEADER.sub(r"<td\1></td>", text)
            text = re.sub(r'<th (id="[^"]*" )?class="(col_heading)', r'<th scope="col" \1class="\2', text)
            text = re.sub(r'<th (id="[^"]*" )?class="(row_heading)', r'<th scope="row" \1class="\2', text)
            own = re.search(r"<caption[^>]*>(.*?)</caption>", text, re.DOTALL)
            label = html.escape(own[1] if own else f"{_caption(node) or 'Table'} ({count})")
            region = f'<div class="table-scroll" role="region" tabindex="0" aria-label="{label}">{text}</div>'
            node.parent.replace(node, nodes.raw("", region, format="html"))


def _caption(node: nodes.Node) -> str:
    """What a table's region is called: its caption's beginning, or the heading above it."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, nodes.figure):
            for caption in node.findall(nodes.caption):
                return caption.astext().partition(".")[0].partition(":")[0]
        if isinstance(node, nodes.section):
            return node.next_node(nodes.title).astext()
    return ""


class ListFigures(SphinxTransform):
    """An entry of the index for every figure and table of the paper: the search finds them by it."""

    default_priority = 880

    def apply(self, **kwargs: Any) -> None:
        if self.env.docname.startswith("live/"):
            return
        for node in list(self.document.findall(nodes.figure)):
            for name in node["names"]:
                found = _NUMBERED.match(name)
                if found and node["ids"]:
                    entry = f"{found[1].capitalize()} {found[2].upper() if found[2] == 'g' else found[2]}"
                    index = addnodes.index(entries=[("single", entry, node["ids"][0], "main", None)])
                    node.parent.insert(node.parent.index(node), index)


def leave_live_out(app: Sphinx, env: Any, docnames: Any = None) -> None:
    """The live twins of the record's pages are not searched: they would stand before the pages themselves."""
    for docname in env.found_docs:
        if docname.startswith("live/"):
            env.metadata[docname]["nosearch"] = True


def visit_fold(translator: Any, node: HideCodeCellNode) -> None:
    """A fold whose own text is its name. Code is called by one prompt, a result by the other."""
    prompt = node["prompt_hide"] if "above-input" in node["classes"] else node["prompt_show"]
    kind = "code" if "above-input" in node["classes"] else "result"
    translator.body.append(f'<details class="fold fold-{kind}">\n<summary>{html.escape(prompt)}</summary>\n')


def depart_fold(translator: Any, node: HideCodeCellNode) -> None:
    translator.body.append("</details>\n")


def finish_page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: Any) -> None:
    """Tables of text, figures and formulas can be scrolled by keyboard too, where a screen is too narrow for them."""
    if "body" not in context:
        return
    counts = dict.fromkeys(("Table of text", "Figure, scrollable", "Formula"), 0)

    def named(kind: str) -> str:
        counts[kind] += 1
        return f'tabindex="0" aria-label="{kind} {counts[kind]}"'

    body = context["body"]
    body = _THEME_TABLE.sub(lambda hit: f'{hit[1]} role="region" {named("Table of text")}>', body)
    body = _PICTURE.sub(
        lambda hit: f'{hit[1]}<div class="picture" role="region" {named("Figure, scrollable")}>{hit[2]}</div>', body
    )
    body = _EMPTY_HEAD.sub(r"<td\1></td>", body)
    body = _FORMULA_HEAD.sub(r'<th\1 aria-label="\3">\2', body)
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')  # which is what a list's entries may be
    context["body"] = _FORMULA.sub(lambda hit: f'{hit[1]} role="group" {named("Formula")}{hit[2]}', body)


def set_paths(app: Sphinx, config: Any) -> None:
    """Where MathJax lies, how the search ranks, and what else goes into the book's folder as it is."""
    config.mathjax_path = "mathjax/book.js"
    config.mathjax3_config = {"loader": {"load": []}, "options": {"enableAssistiveMml": True}}
    config.html_search_scorer = str(Path(__file__).with_name("scorer.js"))
    config.html_extra_path = [str(Path(app.srcdir) / folder) for folder in ("_explorer", "data/web")]


def tell_screen_readers(app: Sphinx, error: Exception | None) -> None:
    """Name what the theme's frame leaves unnamed, on every page."""
    if error is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        if "_static" not in path.parts:
            before = path.read_text(encoding="utf-8")
            text = SEARCH_BUTTON.sub(r"\1", before)
            for theirs, ours in THEME.items():
                text = text.replace(theirs, ours)
            if text != before:
                path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(HideCodeCellNode, override=True, html=(visit_fold, depart_fold))
    app.add_post_transform(ScrollTables)
    app.add_transform(ListFigures)
    app.connect("config-inited", set_paths)
    app.connect("env-before-read-docs", leave_live_out)
    app.connect("env-updated", leave_live_out)
    app.connect("html-page-context", finish_page)
    app.connect("build-finished", tell_screen_readers, priority=900)
    return {"env_version": zlib.crc32(Path(__file__).read_bytes()), "parallel_read_safe": True}
