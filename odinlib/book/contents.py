"""What the book shows, as data: every captioned figure and table, where it stands, its numbers and what became of them.

From the executed pages come the page *Figures and tables*, the numbers of each artefact as a file, and the answer on
the first page. Nothing is measured here.
"""

import ast
import html
import inspect
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from odinlib import datasets, names, odin, reference, tables
from odinlib.book import folding
from odinlib.measure import scorecard
from odinlib.profiles import Profile
from odinlib.tables import marked

#: From best to worst; what else a verdict may be called follows.
GRADES = (
    *("holds", "reproduced", scorecard.PARTLY, "near", "within spread", "same direction"),
    *("fails", "differs", "other direction"),
)
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


def claims_of(pages: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
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
            f'```{{raw}} html\n<a class="thumbnail" href="{target}"><span class="heard">{one.title}</span>'
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
        missing = counts.pop(scorecard.UNDECIDED, 0)
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


# --- The first page ---------------------------------------------------------------------------------------------------


def answer(found: Sequence[Artefact], claims: pd.DataFrame, profile: Profile) -> str:
    """What the paper claims, what is found, what differs and why: the beginning of the first page, in MyST."""
    blocks = [_headline(found, profile), coverage(found, claims, base=""), *_differences(found, claims, profile)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def method() -> str:
    """Both equations beside their lines in `odinlib/odin.py`, in MyST."""
    equations: dict[Callable[..., Any], tuple[str, str]] = {
        odin.softmax_score: (r"S(x; T) = \max_i \frac{\exp(f_i(x) / T)}{\sum_j \exp(f_j(x) / T)}", "eq-1"),
        odin.perturb: (r"\tilde{x} = x - \varepsilon \, \mathrm{sign}(-\nabla_x \log S(x; T))", "eq-2"),
    }
    blocks = []
    for function, (formula, label) in equations.items():
        blocks.append(
            f"{{eq}}`{label}` and its lines in `odinlib/odin.py`, `{function.__name__}`:\n\n"
            f"$$\n{formula}\n$$\n\n```python\n{_body(function)}\n```"
        )
    return "\n\n".join(blocks) + "\n"


def _body(function: Callable[..., Any]) -> str:
    """A function's lines without its docstring and its checks."""
    tree = ast.parse(inspect.getsource(function)).body[0]
    assert isinstance(tree, ast.FunctionDef)
    lines = [ast.unparse(line) for line in tree.body[1:]]
    return "\n".join(line for line in lines if not line.startswith("check_"))


def _headline(found: Sequence[Artefact], profile: Profile) -> str:
    """Both false positive rates of the paper's abstract, and ours of what has their role here."""
    table = next((one.frame() for one in found if one.name == "table-2" and one.numbers), None)
    if table is None or table.empty:
        return ""
    first = table.iloc[0]
    rows = table[(table.metric == "fpr") & (table[list(_PAIR)] == first[list(_PAIR)]).all(axis=1)].set_index("method")
    method = "stated" if "stated" in rows.index else "odin"
    base, ours = rows.loc["baseline"], rows.loc[method]
    setting = "the paper's setting" if method == "stated" else "a setting chosen here"
    told = (
        f"With **{names.network_title(first.network)}** trained on {datasets.title(first.id_set)}, "
        f"{base.value:.1f} % of the images of {datasets.title(first.ood_set)} pass the usual softmax score where 95 % "
        f"of the familiar ones do, and **{ours.value:.1f} %** pass ODIN at {setting}, T = {ours.temperature:g} and "
        f"ε = {ours.epsilon:g}"
    )
    if pd.isna(base.paper):
        return f"{told}."
    verdicts = dict.fromkeys([marked(base.verdict), marked(ours.verdict)])
    return f"{told}. The paper prints {base.paper:g} and {ours.paper:g} %: {', '.join(verdicts)}."


def _differences(found: Sequence[Artefact], claims: pd.DataFrame, profile: Profile) -> list[str]:
    """In three lines: what does not come out, whose networks and images these are, what is not recorded."""
    lines = []
    failing = list(claims[claims.verdict == scorecard.FAILS].claim)
    if failing:
        listed = "; ".join(f"“{claim}”" for claim in failing[:2])
        more = f", and {len(failing) - 2} more" if len(failing) > 2 else ""
        lines.append(f"* **What does not hold here:** {listed}{more} ([why](notebooks/07-conclusions.ipynb)).")
    table = next((one.frame() for one in found if one.name == "table-2" and one.numbers), None)
    if table is not None and (table.verdict == "differs").any():
        where = table[table.verdict == "differs"].groupby(["id_set", "ood_set"], sort=False).size()
        pairs = [f"{datasets.title(a)} against {datasets.title(b)} ({n})" for (a, b), n in where.nlargest(3).items()]
        lines.append(
            f"* **Where Table 2's numbers differ most:** {names.listed(pairs)}; "
            "[how the images were made](notebooks/released.ipynb) and "
            "[which setting was chosen](notebooks/H-additional-discussions.ipynb) explain what is explained."
        )
    whose = tables.differences(profile)
    stand_ins = "networks and images only stand for the paper's, and only directions are compared"
    own = "networks and images are those that the paper's authors released, wherever they did"
    told = " ".join(whose) or (stand_ins if profile.compute else own)
    lines.append(
        f"* **Whose they are:** {told.rstrip('.')}; [what is recorded, cell by cell](notebooks/coverage.ipynb)."
    )
    return ["\n".join(lines)]


_PAIR = ("network", "id_set", "ood_set")
