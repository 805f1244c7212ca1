"""The first use of each of the glossary's terms on a page leads to it, and tells what it means where it stands.

A term is found in running text as it is written in `book/glossary.md`; a letter also in a formula that is that letter
alone. The explanation is the definition's own text. `book/_static/terms.js` shows it to whoever points at the term or
reaches it by keyboard; a screen reader finds it as the link's description.
"""

import html
import re
import zlib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

PAGE = "glossary"
LETTERS = {"T": "T", "ε": r"\varepsilon", "δ": r"\delta"}
#: Where a word is not explained: in what is a link, a name or a heading already.
_ELSEWHERE = (nodes.reference, nodes.literal, nodes.caption, nodes.title, nodes.term, nodes.raw, nodes.citation)


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Keep the terms, with the place and the text of what they mean: name to (id, definition)."""
    if app.env.docname != PAGE:
        return
    found = {}
    for item in doctree.findall(nodes.definition_list_item):
        meaning = " ".join(one.astext() for one in item.findall(nodes.definition))
        for term in item.findall(nodes.term):
            found[term.astext()] = (term["ids"][0], " ".join(meaning.split()))
    app.env.odin_terms = found  # type: ignore[attr-defined]


class ExplainTerms(SphinxPostTransform):
    """Put a link with its explanation in the place of a term's first use."""

    default_priority = 600
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        if self.env.docname == PAGE or self.app.builder.name != "html":
            return
        left = dict(getattr(self.env, "odin_terms", {}))
        names = sorted((name for name in left if name != "T"), key=len, reverse=True)
        words = "|".join(f"[{name[0].upper()}{name[0]}]{re.escape(name[1:])}" for name in names)
        pattern = re.compile(rf"(?<![\w-])(?:{words or '(?!)'})(?![\w-])")
        for paragraph in list(self.document.findall(nodes.paragraph)):
            if "switch" not in getattr(paragraph.parent, "attributes", {}).get("classes", ()):
                self.explain(paragraph, pattern, left)

    def explain(self, element: nodes.Element, pattern: re.Pattern[str], left: dict[str, tuple[str, str]]) -> None:
        """Link the terms within an element that nothing before it on the page has used."""
        children: list[nodes.Node] = []
        for child in element.children:
            if isinstance(child, nodes.math):
                letter = next((one for one, tex in LETTERS.items() if tex == child.astext().strip()), None)
                children += self.link(left.pop(letter), child, letter) if letter in left else [child]
            elif isinstance(child, nodes.Text):
                end = 0
                for hit in pattern.finditer(child):
                    name = hit[0] if hit[0] in left else hit[0][0].lower() + hit[0][1:]  # at a sentence's beginning
                    if name in left:
                        children.append(nodes.Text(child[end : hit.start()]))
                        children += self.link(left.pop(name), nodes.Text(hit[0]))
                        end = hit.end()
                children.append(nodes.Text(child[end:]) if end else child)
            else:
                if isinstance(child, nodes.Element) and not isinstance(child, _ELSEWHERE):
                    self.explain(child, pattern, left)
                children.append(child)
        element[:] = children

    def link(self, term: tuple[str, str], shown: nodes.Node, name: str = "") -> list[nodes.Node]:
        """What is shown, as a link with its explanation; `name` is what a screen reader says for a formula."""
        place, meaning = term
        target = f"{self.app.builder.get_relative_uri(self.env.docname, PAGE)}#{place}"
        label = f' aria-label="{name}"' if name else ""
        start = f'<a class="term" href="{target}"{label} aria-describedby="means-{place}">'
        end = f'</a><span class="meaning" role="tooltip" id="means-{place}" hidden>{html.escape(meaning)}</span>'
        return [nodes.raw("", start, format="html"), shown, nodes.raw("", end, format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-read", collect)
    app.add_post_transform(ExplainTerms)
    # With other terms, or found otherwise, all pages are made anew.
    version = zlib.crc32(Path(__file__).read_bytes() + (Path(app.srcdir) / f"{PAGE}.md").read_bytes())
    return {"env_version": version, "parallel_read_safe": False, "parallel_write_safe": True}
