"""What the book shows, as data: every captioned figure and table, where it stands, its numbers and what became of them.

From the executed pages come the page *Figures and tables*, the numbers of each artefact as a file, and the answer on
the first page. Nothing is measured here.
"""

import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from odinlib import reference
from odinlib.book import folding
from odinlib.tables import marked

#: From best to worst; what else a verdict may be called follows.
GRADES = ("holds", "reproduced", "near", "same direction", "in part", "fails", "differs", "other direction")
#: Tables whose numbers are compared one by one.
COMPARED = ("2", "3", "12")
_NUMBER = re.compile(r"(figure|table)-(\d+|[gG])$")
_UNCOUNTED = ("not in the paper", "not comparable")


@dataclass
class Artefact:
    """A captioned figure or table of the main pages."""

    name: str  # `figure-5`, or one of ours such as `audit-gains`
    page: str  # `05-discussions`
    heading: str  # of that page
    caption: str
    recorded: bool
    alt: str
    picture: str | None  # SVG
    table: str | None  # HTML
    numbers: str | None  # CSV

    @property
    def title(self) -> str | None:
        """The paper's name of it: "Figure 5"; None for one of ours."""
        found = _NUMBER.match(self.name)
        return f"{found[1].capitalize()} {found[2].upper()}" if found else None

    def verdicts(self) -> dict[str, int]:
        """How many of its numbers got which verdict; nothing where they are not compared one by one."""
        frame = self.frame()
        if frame is None or "verdict" not in frame:
            return {}
        if "method" in frame and "stated" in set(frame.method):  # a printed number counts once, at the paper's setting
            key = ["network", "id_set", "ood_set"]
            there = set(frame[frame.method == "stated"][key].itertuples(index=False, name=None))
            again = np.array([row in there for row in frame[key].itertuples(index=False, name=None)])
            frame = frame[~((frame.method == "odin") & again)]
        counted = frame[~frame.verdict.isin(_UNCOUNTED)].verdict.value_counts()
        return in_order({str(name): int(count) for name, count in counted.items()})

    def frame(self) -> pd.DataFrame | None:
        """Its numbers."""
        return pd.read_csv(io.StringIO(self.numbers)) if self.numbers else None


def in_order(counts: Mapping[str, int]) -> dict[str, int]:
    """Verdicts from best to worst.

    >>> in_order({"differs": 2, "near": 1})
    {'near': 1, 'differs': 2}
    """
    known = [name for name in GRADES if name in counts]
    return {name: counts[name] for name in (*known, *(name for name in counts if name not in known))}


def artefacts(pages: Mapping[str, dict[str, Any]]) -> list[Artefact]:
    """Every captioned figure and table of executed pages, in their order."""
    found = []
    for page, notebook in pages.items():
        heading = title(notebook)
        for cell in notebook["cells"]:
            figure = cell["metadata"].get("mystnb", {}).get("figure")
            if not figure:
                continue
            data = {kind: "".join(text) for out in cell["outputs"] for kind, text in out.get("data", {}).items()}
            found.append(
                Artefact(
                    name=figure["name"],
                    page=page,
                    heading=heading,
                    caption=figure["caption"],
                    recorded="image/svg+xml" in data or "text/html" in data,
                    alt=cell["metadata"]["mystnb"].get("image", {}).get("alt", ""),
                    picture=data.get("image/svg+xml"),
                    table=data.get("text/html"),
                    numbers=data.get("text/csv"),
                )
            )
    return found


def title(notebook: Mapping[str, Any]) -> str:
    """A page's heading."""
    for cell in notebook["cells"]:
        if found := re.match(r"# (.*)", "".join(cell["source"])):
            return found[1]
    return ""


def scorecard(pages: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """The paper's claims and their verdicts, as the executed page of Section 7 has them; empty where it has none."""
    for notebook in pages.values():
        for _, text in folding.texts(notebook, "text/csv"):
            frame = pd.read_csv(io.StringIO(text), keep_default_na=False)
            if {"claim", "verdict", "evidence"} <= set(frame.columns):
                return frame
    return pd.DataFrame(columns=["id", "section", "claim", "rule", "evidence", "verdict"])


# --- The page of figures and tables -----------------------------------------------------------------------------------


def index_page(found: Sequence[Artefact], claims: pd.DataFrame, source: str) -> str:
    """The page *Figures and tables*, in MyST: the paper's in its order, then ours by page.

    Args:
        found: of `artefacts`.
        claims: of `scorecard`.
        source: where the numbers come from, in words.
    """
    numbered = sorted((one for one in found if one.title), key=_rank)
    ours = [one for one in found if not one.title]
    blocks = [
        "# Figures and tables",
        "Every figure and table of the paper, as this book computes it: a picture that leads to it, where its numbers "
        f"come from, and what became of the paper's. {source}",
        coverage(found, claims),
        *(_entry(one, claims) for one in numbered),
        "## Beyond the paper",
        *(_entry_of_ours(page, list(group)) for page, group in _by_page(ours)),
    ]
    return "\n\n".join(blocks) + "\n"


def _rank(one: Artefact) -> tuple[str, int, str]:
    kind, number = str(one.title).split()
    return kind, int(number) if number.isdigit() else 99, number


def _entry(one: Artefact, claims: pd.DataFrame) -> str:
    made = f"[{one.heading}](../notebooks/{one.page}.ipynb)"
    data = f" · {{download}}`its numbers (CSV) <../data/{one.name}.csv>`" if one.numbers else ""
    lines = [f"## {one.title}", _thumbnail(one), f"{one.caption}", ""]
    lines += [f"* **[To {one.title}]({'#' + one.name})** in {made}{data}"]
    if not one.recorded:
        lines.append("* – not recorded")
    elif counts := one.verdicts():
        lines.append(f"* Verdicts on its numbers: {told(counts)}{_of_all(one, counts)}")
    for claim in claims[[one.name in str(e).lower().split(";") for e in claims.evidence]].to_dict("records"):
        lines.append(f"* {marked(claim['verdict'])}: “{claim['claim']}”")
    return "\n".join(lines)


def _entry_of_ours(page: str, group: list[Artefact]) -> str:
    lines = [f"### {group[0].heading}", ""]
    lines += [f"* [{_first_sentence(one.caption)}](#{one.name})" for one in group]
    return "\n".join(lines)


def _by_page(found: Iterable[Artefact]) -> list[tuple[str, list[Artefact]]]:
    groups: dict[str, list[Artefact]] = {}
    for one in found:
        groups.setdefault(one.page, []).append(one)
    return list(groups.items())


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.:;])\s", text)[0].rstrip(".:;")


def _thumbnail(one: Artefact) -> str:
    target = f"../notebooks/{one.page}.html#{one.name}"
    if one.picture:
        alt = f"{one.title}, small: {one.alt}"
        return f"```{{image}} ../data/{one.name}.svg\n:target: {target}\n:alt: {_line(alt)}\n:class: thumbnail\n```\n"
    if one.table:
        rows = re.findall(r"<tr>.*?</tr>", one.table, re.DOTALL)[:7]
        small = re.sub(r' id="[^"]*"| rowspan="\d+"', "", "".join(rows)).replace("\n", " ")
        return (
            f'```{{raw}} html\n<a class="thumbnail" href="{target}" aria-label="{one.title}">'
            f'<span class="miniature" aria-hidden="true"><table class="dataframe">{small}</table></span></a>\n```\n'
        )
    return ""


def _line(text: str) -> str:
    return " ".join(text.split())


def told(counts: Mapping[str, int]) -> str:
    """Verdicts in words: "✓ 12 reproduced, ✗ 3 differ"."""
    return ", ".join(f"{marked(name).partition(' ')[0]} {count} {name}" for name, count in counts.items())


def _of_all(one: Artefact, counts: Mapping[str, int]) -> str:
    missing = printed(one) - sum(counts.values())
    return f", – {missing} not recorded" if missing > 0 else ""


def printed(one: Artefact) -> int:
    """How many numbers the paper prints in a table that is compared number by number; 0 for others."""
    number = one.name.removeprefix("table-")
    return len(reference.table(number)) if number in COMPARED else 0


# --- The answer in one picture ----------------------------------------------------------------------------------------


def coverage(found: Sequence[Artefact], claims: pd.DataFrame, base: str = "../") -> str:
    """The graded verdicts, and what is recorded at all, as one picture with its numbers in words: raw HTML in MyST.

    Args:
        found: of `artefacts`.
        claims: of `scorecard`.
        base: from the page to the book's folder.
    """
    rows = []
    if len(claims):
        counts = in_order({str(k): int(v) for k, v in claims.verdict.value_counts().items()})
        missing = counts.pop("not recorded", 0)
        rows.append(("The paper's claims", "notebooks/07-conclusions.html", counts, missing))
    for one in found:
        counts = one.verdicts()
        if one.name.removeprefix("table-") in COMPARED and (counts or one.table):
            left = max(0, printed(one) - sum(counts.values()))
            rows.append((f"Numbers of {one.title}", f"notebooks/{one.page}.html#{one.name}", counts, left))
    shown = [one for one in found if one.title]
    there = sum(one.recorded for one in shown)
    rows.append(("Figures and tables", "pages/figures.html", {"shown": there}, len(shown) - there))
    lines = "\n".join(_bar(base, *row) for row in rows)
    return f'```{{raw}} html\n<div class="verdicts result">\n{lines}\n</div>\n```'


def _bar(base: str, label: str, link: str, counts: Mapping[str, int], missing: int) -> str:
    everything = {**counts, "not recorded": missing} if missing else dict(counts)
    total = sum(everything.values()) or 1
    parts = "".join(
        f'<span class="part grade-{re.sub("[^a-z]+", "-", name)}" style="flex-grow:{count}">'
        f"<span>{marked(name).partition(' ')[0]} {count}</span></span>"
        for name, count in everything.items()
        if count
    )
    words = ", ".join(f"{marked(name).partition(' ')[0]} {count} {name}" for name, count in everything.items())
    return (
        f'<div class="verdict"><p><a href="{base}{link}">{html.escape(label)}</a>: {total} in all: {words}.</p>'
        f'<div class="bar" aria-hidden="true">{parts}</div></div>'
    )
