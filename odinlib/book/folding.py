"""An executed page as a reader first sees it: the results, the method's code, and all else one click away.

What is not recorded is told once, in a quiet line after the first result, and in full at the page's foot. Nothing is
taken away: folded code opens where it stands, and the notebook itself is offered for download.
"""

import re
from collections.abc import Iterable
from typing import Any

METHOD = "method"  # the tag of a cell whose code is what a reader came for
PARAMETERS, OPENING, CODE = "Parameters of this page", "What the page imports", "Code"
_NOTE = "> **Not to be had here ("
_SENTENCE = re.compile(r"(?<=[\w$%)*]\.)\s+(?=[A-Z*(])")
_COUNT = re.compile(r"\((\d+)\)")


def fold(page: dict[str, Any]) -> None:
    """Fold the code of every cell that is not tagged `method`; the line that opens it says what it is.

    A cell's own `{"odin": {"opens": ...}}` names what a folded output holds.
    """
    for cell in page["cells"]:
        if cell["cell_type"] != "code":
            continue
        metadata = cell["metadata"]
        tags, source = list(metadata.get("tags", [])), "".join(cell["source"])
        if "injected-parameters" in tags or source.startswith("page.provenance("):
            tags.append("remove-input")
        elif METHOD not in tags and "remove-input" not in tags:
            tags.append("hide-input")
        shut = PARAMETERS if "parameters" in tags else OPENING if "page.begin(" in source else CODE
        prompts = {"code_prompt_hide": shut, "code_prompt_show": metadata.get("odin", {}).get("opens", "Result")}
        metadata["tags"] = list(dict.fromkeys(tags))
        metadata["mystnb"] = {**metadata.get("mystnb", {}), **prompts}


def gather_missing(page: dict[str, Any], target: str, coverage: str) -> None:
    """Take the notes on what is missing from where they stand, and tell them once.

    Args:
        page: an executed notebook; its cells are changed.
        target: the name of the foot's list, a MyST target.
        coverage: a link to the page that shows what the record has.
    """
    told: dict[str, None] = {}
    first, result, count = None, None, 0
    for place, cell in enumerate(page["cells"]):
        captioned = "figure" in cell["metadata"].get("mystnb", {})
        kept = []
        for output in cell.get("outputs", []):
            text = _markdown(output)
            if not text.startswith(_NOTE):
                kept.append(output)
                continue
            first = place if first is None else first
            count = max(count, int(_COUNT.search(text)[1]))  # type: ignore[index]
            told.update(dict.fromkeys(line.removeprefix("> ") for line in text.splitlines()[1:]))
            if captioned:
                _say(output, f"*Not recorded: [what it needs](#{target}).*")
                cell["metadata"]["mystnb"]["figure"]["caption"] = "Not in this record."
                kept.append(output)
        captioned = captioned and len(kept) > 0 and not _markdown(kept[0]).startswith("*Not recorded")
        if result is None and first is not None and captioned:
            result = place
        if "outputs" in cell:
            cell["outputs"] = kept
    if first is None:
        return
    what = f"{count} of the results asked for here are" if count > 1 else "One of the results asked for here is"
    line = f"{what} not recorded: [which, and what makes them](#{target}); [what the record has]({coverage})."
    page["cells"].insert((first if result is None else result) + 1, markdown(f":::{{div}} quiet\n{line}\n:::\n"))
    listed = "\n".join(line for line in told if not line.endswith("(see above)"))
    page["cells"].insert(foot(page), markdown(f"({target})=\n## What is not recorded\n\n{listed}\n"))


def lift_finding(page: dict[str, Any], prefix: str = "") -> None:
    """Say at the page's top what it finds: the first two sentences of the cell that has `{"odin": {"finding": NAME}}`.

    They are computed where they stand; NAME is the figure or place that they are about, or nothing.

    Args:
        page: an executed notebook; a cell is added.
        prefix: of the names that the page gives.
    """
    for cell in page["cells"]:
        name = cell["metadata"].get("odin", {}).get("finding")
        told = next(filter(None, map(_markdown, cell.get("outputs", []))), "*")
        if name is None or told.startswith(("*", ">")):
            continue
        sentences = " ".join(_SENTENCE.split(told.strip())[:2])
        link = f" [Where it stands](#{prefix}{name})." if name else ""
        line = f":::{{div}} result\n**What this page finds.** {sentences}{link}\n:::\n"
        opening = next(place for place, one in enumerate(page["cells"]) if "page.begin(" in "".join(one["source"]))
        page["cells"].insert(opening + 1, markdown(line))
        return


def markdown(source: str) -> dict[str, Any]:
    """A Markdown cell."""
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def foot(page: dict[str, Any]) -> int:
    """Where the page's foot begins: at its last code cell, which says what made it."""
    return max(place for place, cell in enumerate(page["cells"]) if cell["cell_type"] == "code")


def texts(page: dict[str, Any], kind: str) -> Iterable[tuple[dict[str, Any], str]]:
    """Every output of a MIME type, with its cell."""
    for cell in page["cells"]:
        for output in cell.get("outputs", []):
            if output.get("data", {}).get(kind):
                yield cell, "".join(output["data"][kind])


def _markdown(output: dict[str, Any]) -> str:
    return "".join(output.get("data", {}).get("text/markdown", ""))


def _say(output: dict[str, Any], text: str) -> None:
    output["data"] = {"text/markdown": text, "text/plain": text}
