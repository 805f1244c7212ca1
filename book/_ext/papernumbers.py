"""The paper's own numbers: `figure-5` is Figure 5, `table-2` Table 2 and `eq-3` Equation 3, wherever they stand.

Sphinx numbers figures, tables and equations in the order in which it meets them. Here the number is in the name, and
what has no such name (a figure or an equation of our own) carries none. A captioned cell output named `table-...`
counts as a table. On the demo's pages beside the record's, each name has `live-` before it.
"""

import copy
import re
import zlib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

PAPER = {
    "figure": re.compile(r"(?:live-)?figure-(\d+[a-z]?)$"),
    "table": re.compile(r"(?:live-)?table-(\d+)$"),
    "displaymath": re.compile(r"equation-(?:live-)?eq-(\d+)$"),
}


class table_figure(nodes.figure):
    """A captioned cell output that is a table."""


class MarkTables(SphinxTransform):
    """Turn the figures named `table-...` into `table_figure`, before Sphinx looks for things to number (at 210)."""

    default_priority = 205

    def apply(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(nodes.figure)):
            names = [name.removeprefix("live-") for name in node["names"]]
            if type(node) is nodes.figure and any(name.startswith("table-") for name in names):
                node.__class__ = table_figure


class UnnumberEquations(SphinxPostTransform):
    """Take the empty brackets from the equations that are not the paper's; they can still be linked to."""

    default_priority = 400

    def run(self, **kwargs: Any) -> None:
        for node in self.document.findall(nodes.math_block):
            if node.get("label") and not PAPER["displaymath"].match(f"equation-{node['label']}"):
                node["number"] = None


def give_back(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Before Sphinx numbers anew, show it its own last numbers: it compares the two to see which pages changed."""
    env.toc_fignumbers = getattr(env, "sphinx_fignumbers", env.toc_fignumbers)
    return []


def renumber(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """After Sphinx has numbered, replace its numbers by the paper's, and take away those that are not the paper's."""
    env.sphinx_fignumbers = copy.deepcopy(env.toc_fignumbers)  # type: ignore[attr-defined]
    for kinds in env.toc_fignumbers.values():
        for kind in PAPER.keys() & kinds.keys():
            kinds[kind] = {key: (found[1],) for key in kinds[kind] if (found := PAPER[kind].match(key))}
    return []


def setup(app: Sphinx) -> dict[str, int]:
    def visit(translator: Any, node: nodes.Element) -> None:
        translator.visit_figure(node)

    def depart(translator: Any, node: nodes.Element) -> None:
        translator.depart_figure(node)

    app.add_enumerable_node(table_figure, "table", None, html=(visit, depart), latex=(visit, depart))
    app.add_transform(MarkTables)
    app.add_post_transform(UnnumberEquations)
    app.connect("env-get-updated", give_back, priority=100)
    app.connect("env-get-updated", renumber, priority=900)
    # Sphinx does not look at these files: with another version of the environment it makes all pages anew.
    here = Path(__file__).resolve()
    watched = [here, *(path for path in sorted(here.parent.parent.glob("_static/*")) if path.is_file())]
    version = zlib.crc32(b"".join(path.read_bytes() for path in watched))
    return {"env_version": version, "parallel_read_safe": True, "parallel_write_safe": True}
